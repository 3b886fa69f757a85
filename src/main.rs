//! The program: command line in, exit code out. Errors are printed here, once.

use clap::Parser as _;
use clap::error::ErrorKind;
use regrade::cli::{self, Cli};
use std::io::Write as _;
use std::process::ExitCode;

const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; clap picks the stream.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    if let Err(error) = actors::compute::settle_threads() {
        complain(&format!("cannot start the threads that compute: {error}"));
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn complain(message: &str) {
    // Where stderr is closed there is nobody to tell; the exit code remains.
    let _ = writeln!(std::io::stderr(), "error: {message}");
}
