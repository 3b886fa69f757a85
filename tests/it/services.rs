//! Servers that tests need beside them: started on loopback, or the test says why it is skipped.
//!
//! Owns the one rule: with `REGRADE_REQUIRE_SERVICES=1` a skip is a failure, so that a build server
//! cannot pass by lacking something. A server ends with the test process, however that ends: it
//! watches its standard input. Knows no port and no adapter.

mod s3;

pub(crate) use s3::s3;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says that a test is skipped for want of `name`; fails it where skipping is not allowed.
pub(crate) fn require_or_skip(name: &str, reason: &str) {
    let required = std::env::var("REGRADE_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{name} is required (REGRADE_REQUIRE_SERVICES=1) but cannot be had: {reason}"
    );
    println!("skipped: {name} cannot be had: {reason}");
}

/// The Python of a virtual environment that holds exactly the pinned `packages`; made once, kept
/// in `REGRADE_PY_DIR` (by default `~/.cache/regrade-py`), shared by all test processes.
pub(crate) fn python(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let cache = match (std::env::var_os("REGRADE_PY_DIR"), std::env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(&home).join(".cache/regrade-py"),
        (None, None) => return Err("neither REGRADE_PY_DIR nor HOME is set".to_owned()),
    };
    let told = |what: &str, error: std::io::Error| format!("cannot {what}: {error}");
    std::fs::create_dir_all(&cache).map_err(|e| told("make the cache folder", e))?;
    // Held while the environment is made; another test process waits here and then finds it.
    let lock = File::create(cache.join(format!("{name}.lock"))).map_err(|e| told("lock", e))?;
    lock.lock().map_err(|e| told("lock", e))?;
    let home = cache.join(name);
    let python = home.join("bin/python");
    let pins = packages.join("\n");
    let marker = home.join("pins.txt");
    if std::fs::read_to_string(&marker).is_ok_and(|made| made == pins) {
        return Ok(python);
    }
    let home_text = home.display().to_string();
    finish(Command::new("python3").args(["-m", "venv", "--clear", &home_text]))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    finish(Command::new(&python).args(install).args(packages))?;
    std::fs::write(&marker, pins).map_err(|e| told("mark the environment as complete", e))?;
    Ok(python)
}

/// Runs a command to its end; its error output is the reason of a failure.
fn finish(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{shown}: {said}")) }
}

/// Starts a server that prints one line when it listens and ends when its standard input closes;
/// gives that line. Both pipes stay open as long as this process lives.
pub(crate) fn start(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let mut line = String::new();
    let mut byte = [0];
    let mut output = child.stdout.take().ok_or("the server has no output")?;
    while output.read(&mut byte).is_ok_and(|read| read == 1) && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    if line.is_empty() {
        let status = child.wait().map_err(|error| error.to_string())?;
        return Err(format!("{shown} ended before it listened: {status}"));
    }
    // Never waited for: it ends when this process, and with it the pipe, is gone.
    std::mem::forget((child, output));
    Ok(line)
}
