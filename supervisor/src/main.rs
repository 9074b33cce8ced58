//! The program `supervisor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tyto_supervisor::cli::main()
}
