//! A whole service on a tiny random model and a few passages, in a folder of its own.

use actors::rollout;
use actors::service::ServiceHandle;
use actors::types::{Document, Exploration, PolicyRecord, Query};
use regrade::config::Config;
use regrade::policy::fixture::write_tiny_model;
use regrade::wiring;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for anything here; what needs longer is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The folder.
pub(crate) struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(&folder.path().join("model"), 11).unwrap();
        Self { folder }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.at(name), text).unwrap();
        self.text(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Embedded adapters, everything in this folder; no update starts by itself.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.index.folder = self.at("index");
        config.log.folder = self.at("log");
        config.snapshots.url = self.text("policies");
        config.generator.model = self.at("model");
        config.policy.model = self.at("model");
        config.service.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.1 };
        config.service.learner.min_new_rewards = 0;
        config.service.learner.interval_ms = 0;
        config.service.promotion.path = rollout::Path::HeldOut;
        config.certificates.key_file = self.at("certificates.key");
        config.learner.budget.generator.state = Some(self.at("learner-generator-budget.json"));
        config.learner.budget.judge.state = Some(self.at("learner-judge-budget.json"));
        config
    }

    /// The record with a certificate that every process in this folder takes.
    pub(crate) fn certified(&self, mut record: PolicyRecord) -> PolicyRecord {
        let config = self.config();
        let seal = wiring::seal(&config).unwrap();
        let issuer =
            rollout::Issuer { seal, config: config.service.rules(), node: "test".to_owned() };
        let grant = (record.state, record.share);
        let certificate = issuer.certificate(&record, grant, record.replaces, 0).unwrap();
        record.certificate = Some(Box::new(certificate));
        record
    }

    /// The same as `--set` flags of a command.
    pub(crate) fn flags(&self) -> Vec<String> {
        let settings = [
            format!("index.folder={}", self.text("index")),
            format!("log.folder={}", self.text("log")),
            format!("snapshots.url={}", self.text("policies")),
            format!("generator.model={}", self.text("model")),
            format!("policy.model={}", self.text("model")),
            format!("certificates.key_file={}", self.text("certificates.key")),
            "service.promotion.path=held_out".to_owned(),
        ];
        settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
    }
}

/// Starts the service with its passages and waits until it is ready.
pub(crate) async fn start(config: &Config) -> ServiceHandle {
    let parts = wiring::parts(config).await.unwrap();
    parts.ports.index.upsert(&passages()).await.unwrap();
    let handle =
        actors::service::Service::start(parts.ports, config.service.clone()).await.unwrap();
    until("ready", async || handle.ready().await.ready).await;
    handle
}

pub(crate) fn passages() -> Vec<Document> {
    let rooms = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal"];
    let passage = |(n, name): (usize, &&str)| Document {
        id: format!("p{n}").as_str().into(),
        title: format!("room {n}"),
        text: format!("the key of room {n} is with {name}"),
        ..Document::default()
    };
    rooms.iter().enumerate().map(passage).collect()
}

pub(crate) fn query(n: usize, references: &[&str]) -> Query {
    Query {
        id: format!("q{n}").as_str().into(),
        text: format!("who has the key of room {n}?"),
        references: references.iter().map(|r| (*r).to_owned()).collect(),
        ..Query::default()
    }
}

/// Asks again until it is so; fails after [`PATIENCE`].
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never {what}");
        // The pace of asking, no synchronisation: what is waited for is asked for.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An error with its causes, as a command prints it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Runs a command line as `main` would; gives the exit code and what it complains of.
pub(crate) async fn command<S: AsRef<str>>(words: &[S]) -> Result<(), (u8, String)> {
    use clap::Parser as _;
    let words = std::iter::once("regrade").chain(words.iter().map(AsRef::as_ref));
    let cli = regrade::cli::Cli::try_parse_from(words).unwrap();
    regrade::cli::run(cli).await.map_err(|e| (e.exit_code(), e.to_string()))
}

/// Whether a folder holds nothing (or is not there).
pub(crate) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
