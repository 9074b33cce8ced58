//! The command line of ctl: words in, exit code out. The parser is made from [`COMMANDS`].

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use tyto_core::config::settings::SshMode;

use crate::command::{COMMANDS, Command, Run};
use crate::context::{Context, Options};
use crate::report::{self, Report};

/// What follows the list of verbs.
const AFTER_HELP: &str = "\
Configuration: node.cfg, networks.cfg and tyto.yaml in one folder: --etc DIR, else TYTO_ETC,
else the working folder, else etc below the prefix of this ctl, else /opt/tyto/etc.

Exit codes:
  0  the command did what it is for, on every node (status: all nodes are running)
  1  a node failed, the command line or the configuration is wrong, or it was interrupted";

/// Threads of the runtime: the work is waiting for hosts.
const RUNTIME_THREADS: usize = 2;

/// Time that tasks have to let go of what they hold when the command is over.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(300);

/// Runs one command line, `ctl` itself first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match parser().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            report::print_usage(&error);
            // clap would say 2; ZeekControl's code for all that went wrong is 1.
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let Some((name, args)) = matches.subcommand() else { return ExitCode::FAILURE };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return ExitCode::FAILURE;
    };
    let options = options(&matches);
    let done = execute(command, &options, args);
    let good = match &done {
        Ok(report) => {
            report.print(name, options.json);
            report.is_good()
        }
        Err(error) => {
            report::print_failure(name, error, options.json);
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The parser, with a subcommand for each verb.
pub fn parser() -> clap::Command {
    let verbs = COMMANDS.iter().map(|command| {
        clap::Command::new(command.name)
            .about(command.summary)
            .long_about(format!("{}\n\n{}", command.summary, command.details))
            .args((command.args)())
    });
    clap::Command::new("ctl")
        .about("Installs, runs and watches a Tyto cluster")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("etc")
                .long("etc")
                .value_name("DIR")
                .env("TYTO_ETC")
                .hide_env_values(true)
                .global(true)
                .value_parser(value_parser!(std::path::PathBuf))
                .help("Folder of node.cfg, networks.cfg and tyto.yaml"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("Answer with one JSON object on standard output"),
        )
        .arg(
            Arg::new("ssh-mode")
                .long("ssh-mode")
                .value_name("MODE")
                .global(true)
                .value_parser(["native", "process"])
                .help("Overrides ssh.mode of tyto.yaml"),
        )
        .subcommands(verbs)
}

fn options(matches: &ArgMatches) -> Options {
    Options {
        etc: matches.get_one::<std::path::PathBuf>("etc").cloned(),
        json: matches.get_flag("json"),
        ssh_mode: matches.get_one::<String>("ssh-mode").map(|mode| match mode.as_str() {
            "process" => SshMode::Process,
            _ => SshMode::Native,
        }),
    }
}

fn execute(command: &Command, options: &Options, args: &ArgMatches) -> anyhow::Result<Report> {
    let run = match command.run {
        Run::Alone(run) => return run(args),
        Run::Cluster(run) => run,
    };
    let ctx = Context::load(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = run(&ctx, args) => done,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // What an interrupt cut off lets go of its connections and commands; name look-ups cannot
    // be cancelled, and are not waited for longer than that.
    runtime.shutdown_timeout(SHUTDOWN_WAIT);
    let mut report = done?;
    report.warn_faults(&ctx.cluster.warnings);
    Ok(report)
}
