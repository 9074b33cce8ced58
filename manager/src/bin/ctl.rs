//! ctl: the operator's program. See [`tyto_manager::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tyto_manager::cli::run(std::env::args_os())
}
