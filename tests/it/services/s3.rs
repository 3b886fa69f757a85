//! A real S3-compatible server: moto, from PyPI.

use super::{python, require_or_skip, start};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The pinned server.
const PACKAGES: [&str; 1] = ["moto[server]==5.1.18"];

/// Endpoint of the server (`http://127.0.0.1:PORT`), started by the first test that asks; `None`
/// after saying why where it cannot be had.
pub(crate) fn s3() -> Option<&'static str> {
    static SERVER: OnceLock<Result<String, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let python = python("moto-5.1.18", &PACKAGES)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/services/s3.py");
        start(Command::new(python).arg(script))
    });
    match started {
        Ok(endpoint) => Some(endpoint),
        Err(reason) => {
            require_or_skip("an S3 server (moto)", reason);
            None
        }
    }
}
