//! `ctl completions`: a script that teaches a shell the verbs and options of ctl.

use clap::{Arg, ArgMatches, value_parser};
use clap_complete::Shell;

use super::{Command, Run};
use crate::cli;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "completions",
    summary: "Prints a script of completions for a shell",
    details: "For bash: `ctl completions bash > /etc/bash_completion.d/ctl`. Needs no configuration.",
    args: || {
        vec![
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("The shell"),
        ]
    },
    run: Run::Alone(run),
};

fn run(args: &ArgMatches) -> anyhow::Result<Report> {
    let shell = args.get_one::<Shell>("shell").copied().unwrap_or(Shell::Bash);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::parser(), "ctl", &mut script);
    let script = String::from_utf8(script)?;
    let mut report = Report::new();
    report.json(&script);
    report.raw(script);
    Ok(report)
}
