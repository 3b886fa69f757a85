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
    if let Err(error) = settle_threads() {
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

/// Lets encoders compute on all cores, and each operation of candle on one, unless the environment says
/// otherwise by `RAYON_NUM_THREADS`. Heads and what trains them are small: candle 0.11 reads
/// `/proc/cpuinfo` at each of their operations to learn how many threads it may use, and its threads wait
/// for each other by spinning, which serving then lacks (an update takes a third of the time with one).
fn settle_threads() -> Result<(), rayon::ThreadPoolBuildError> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    #[expect(
        unsafe_code,
        clippy::disallowed_methods,
        reason = "candle takes this from nowhere else, and no other thread runs yet"
    )]
    // SAFETY: first thing that the only thread of the process does.
    unsafe {
        std::env::set_var(VARIABLE, "1");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    rayon::ThreadPoolBuilder::new().num_threads(cores).build_global()
}

fn complain(message: &str) {
    // Where stderr is closed there is nobody to tell; the exit code remains.
    let _ = writeln!(std::io::stderr(), "error: {message}");
}
