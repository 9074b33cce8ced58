//! The command line of `supervisor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tyto_core::layout::Layout;
use tyto_daemon::telemetry;

use crate::{boot, cert, connect, csr, daemon, exec_node, hold_lock, launch, read_logs};

/// Starts and watches the nodes of one host.
#[derive(Debug, Parser)]
#[command(name = "supervisor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the supervisor in the background; returns when it answers
    Start(At),
    /// Be the supervisor
    Run(At),
    /// Be the supervisor's guard, which starts it again when it dies
    Guard(At),
    /// Relay stdin and stdout to a socket of this host
    Connect {
        /// Whose socket
        service: Service,
        #[command(flatten)]
        at: At,
    },
    /// Make keys for nodes of this host, print a signing request for each
    Csr(csr::NodesArgs),
    /// Put certificates from stdin into place, for the keys that csr made
    Cert(csr::NodesArgs),
    /// Hold the lock on changes of the cluster until stdin ends
    HoldLock(At),
    /// Print rows of a log stream from all loggers of this host, for ctl
    ReadLogs(read_logs::ReadArgs),
    /// Arrange what starts the supervisor when this host boots
    Boot {
        /// What to do
        action: boot::Action,
        #[command(flatten)]
        at: At,
    },
    /// Wait until no supervisor lives and be it then, by the program in use (for systemd)
    StandBy(At),
    /// Become a node's program
    #[command(hide = true)]
    ExecNode(exec_node::Order),
}

#[derive(Debug, clap::Args)]
struct At {
    /// Prefix of the installation
    #[arg(long)]
    prefix: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Service {
    Supervisor,
    Manager,
}

impl At {
    fn layout(&self) -> anyhow::Result<Layout> {
        let prefix = self.prefix.canonicalize();
        Ok(Layout::new(prefix.with_context(|| format!("no `{}`", self.prefix.display()))?))
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Start(at) => {
            let pid = launch::start(&at.layout()?)?;
            writeln!(io::stdout(), "supervisor runs as process {pid}")?;
        }
        Command::Run(at) => daemon::run(&at.layout()?)?,
        Command::Guard(at) => daemon::guard(&at.layout()?)?,
        Command::Connect { service, at } => {
            let layout = at.layout()?;
            let socket = match service {
                Service::Supervisor => layout.supervisor_sock(),
                Service::Manager => layout.manager_sock(),
            };
            connect::relay(&socket)
                .with_context(|| format!("cannot relay to `{}`", socket.display()))?;
        }
        Command::HoldLock(at) => hold_lock::run(&at.layout()?)?,
        Command::Csr(args) => csr::run(&args, &mut io::stdout().lock())?,
        Command::Cert(args) => cert::run(&args, io::stdin().lock())?,
        Command::ReadLogs(args) => read_logs::run(&args)?,
        Command::Boot { action, at } => {
            // Told in JSON either way: ctl reads it.
            let (boot, code) = match boot::run(&at.layout()?, action) {
                Ok(boot) => (boot, ExitCode::SUCCESS),
                Err(error) => {
                    let error = telemetry::chain(&error);
                    (boot::Boot { error, ..boot::Boot::default() }, ExitCode::FAILURE)
                }
            };
            writeln!(io::stdout(), "{}", serde_json::to_string(&boot)?)?;
            return Ok(code);
        }
        Command::StandBy(at) => {
            let Err(error) = boot::stand_by(&at.layout()?);
            return Err(error);
        }
        Command::ExecNode(order) => {
            let Err(error) = exec_node::run(order);
            tracing::error!(error = telemetry::chain(&error), "cannot become the node");
            return Ok(ExitCode::from(error.exit_code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
