//! A real Apache Kafka broker, started by the script that people use too.

use super::require_or_skip;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// One broker with a folder of its own; it ends with this process at the latest.
pub(crate) struct Broker {
    state: PathBuf,
    /// `127.0.0.1:PORT`; the same after a restart.
    pub(crate) bootstrap: String,
}

impl Broker {
    /// Starts a broker that this test alone uses, and may stop.
    pub(crate) fn start(name: &str) -> Result<Self, String> {
        let id = std::process::id();
        let state = std::env::temp_dir().join(format!("regrade-kafka-{name}-{id}"));
        let bootstrap = script(&["up", "--with", &id.to_string()], &state)?;
        Ok(Self { state, bootstrap })
    }

    /// Stops the broker politely, or at once; the data stays.
    pub(crate) fn stop(&self, at_once: bool) {
        let command: &[&str] = if at_once { &["kill"] } else { &["down", "--keep"] };
        script(command, &self.state).unwrap();
    }

    /// Starts it again with its data, at its old address.
    pub(crate) fn start_again(&self) {
        let id = std::process::id().to_string();
        let port = self.bootstrap.rsplit(':').next().unwrap().to_owned();
        let bootstrap = script(&["up", "--with", &id, "--port", &port], &self.state).unwrap();
        assert_eq!(bootstrap, self.bootstrap);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // What cannot be stopped ends with this process.
        let _ = script(&["down"], &self.state);
    }
}

/// Address of the broker that tests share, each under a namespace of its own: the one named by
/// `REGRADE_TEST_KAFKA_BOOTSTRAP` (that of `deploy/compose.yaml`, say), else one started here; `None`
/// after saying why where it cannot be had. Tests that stop a broker start their own.
pub(crate) fn kafka() -> Option<&'static str> {
    static GIVEN: OnceLock<Option<String>> = OnceLock::new();
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    let given = GIVEN.get_or_init(|| std::env::var("REGRADE_TEST_KAFKA_BOOTSTRAP").ok());
    if let Some(bootstrap) = given.as_deref().filter(|address| !address.is_empty()) {
        return Some(bootstrap);
    }
    match BROKER.get_or_init(|| Broker::start("shared")) {
        Ok(broker) => Some(&broker.bootstrap),
        Err(reason) => {
            require_or_skip("an Apache Kafka broker", reason);
            None
        }
    }
}

fn script(command: &[&str], state: &Path) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kafka-local/kafka.sh");
    let output = Command::new("bash")
        .arg(script)
        .args(command)
        .arg("--state")
        .arg(state)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run kafka.sh: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(told.lines().last().unwrap_or_default().trim().to_owned())
}
