//! Whole `regrade serve` processes on one broker: killed, joined, put to sleep, short of disk.

use super::{audit, config, namespace, open, until};
use crate::services::kafka;
use crate::tiny::{Tiny, passages};
use actors::ports::{EventLog, NewRecord, Stream};
use actors::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use candle_core::Device;
use regrade::adapters::log_kafka::KafkaLog;
use regrade::policy::serving::first_snapshot;
use regrade::wiring;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use tokio::time::Instant;

/// A tiny model, an index a process, and one log and one snapshot store for all.
struct Cluster {
    tiny: Tiny,
    namespace: String,
    bootstrap: String,
}

/// One process.
struct Node {
    child: Child,
    address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn get(&self, path: &str) -> Option<String> {
        let reply = reqwest::get(format!("http://{}{path}", self.address)).await.ok()?;
        reply.error_for_status().ok()?.text().await.ok()
    }

    async fn version(&self) -> Option<u64> {
        let info: Value = serde_json::from_str(&self.get("/info").await?).ok()?;
        info["policy"]["version"].as_u64()
    }

    async fn leads(&self) -> bool {
        let metrics = self.get("/metrics").await.unwrap_or_default();
        metrics.lines().any(|line| line == "regrade_learner_leading 1")
    }
}

impl Cluster {
    fn new(bootstrap: &str, name: &str) -> Self {
        let (tiny, bootstrap) = (Tiny::new(), bootstrap.to_owned());
        Self { tiny, namespace: namespace(name), bootstrap }
    }

    async fn log(&self, partitions: u32) -> KafkaLog {
        let settings = config(&self.bootstrap, &self.namespace, partitions);
        open(&self.tiny.at("test-log"), settings).await
    }

    /// The command that starts one process; its folder outlives it.
    fn command(&self, name: &str, roles: &str) -> Command {
        let settings = [
            ("index.folder", self.tiny.text(&format!("{name}-index"))),
            ("log.kind", "kafka".to_owned()),
            ("log.folder", self.tiny.text(&format!("{name}-log"))),
            ("log.kafka.bootstrap", self.bootstrap.clone()),
            ("log.kafka.namespace", self.namespace.clone()),
            ("log.kafka.session_timeout_ms", "6000".to_owned()),
            ("log.kafka.leave_wait_ms", "3000".to_owned()),
            ("snapshots.url", self.tiny.text("policies")),
            ("generator.model", self.tiny.text("model")),
            ("policy.model", self.tiny.text("model")),
            ("certificates.key_file", self.tiny.text("certificates.key")),
            ("service.promotion.path", "held_out".to_owned()),
            ("service.intake.enabled", "true".to_owned()),
            ("service.intake.concurrency", "4".to_owned()),
            ("service.node", name.to_owned()),
            ("telemetry.filter", "warn".to_owned()),
        ];
        // A file that must not grow is an error to be told of, and no reason to die.
        let mut command = Command::new("bash");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "regrade"]);
        command.args([
            env!("CARGO_BIN_EXE_regrade"),
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--role",
            roles,
        ]);
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command
    }

    /// Starts a process and waits until it is ready.
    async fn start(&self, name: &str, roles: &str) -> Node {
        self.run(name, self.command(name, roles)).await
    }

    async fn run(&self, name: &str, mut command: Command) -> Node {
        let mut index = self.tiny.config();
        index.index.folder = self.tiny.at(&format!("{name}-index"));
        wiring::index(&index).await.unwrap().upsert(&passages()).await.unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        tokio::task::block_in_place(|| BufReader::new(output).read_line(&mut line)).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let node = Node { child, address: said["listening"].as_str().unwrap().to_owned() };
        until("ready", async || node.get("/health/ready").await.is_some()).await;
        node
    }
}

fn query(n: u32) -> NewRecord {
    let payload = json!({
        "schema": 1,
        "id": format!("q{n}"),
        "query": format!("who has the key of room {}?", n % 8),
        "references": ["dan"],
    });
    let (key, payload) = (format!("q{n}"), payload.to_string().into_bytes());
    NewRecord { key, payload, ..NewRecord::default() }
}

async fn ask(log: &KafkaLog, numbers: std::ops::Range<u32>) {
    for n in numbers {
        log.append(Stream::Queries, vec![query(n)]).await.unwrap();
    }
}

async fn answered(log: &KafkaLog) -> u64 {
    audit(log).await.queries_answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_killed_and_joined_under_load_lose_no_query_and_no_reward() {
    let Some(bootstrap) = kafka() else { return };
    let cluster = Cluster::new(bootstrap, "killed");
    let log = cluster.log(6).await;
    let mut first = cluster.start("first", "serve,judge").await;
    let second = cluster.start("second", "serve,judge").await;
    let asking = tokio::spawn({
        let log = log.clone();
        async move { ask(&log, 0..300).await }
    });
    until("under way", async || answered(&log).await > 30).await;
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let killed = Instant::now();
    asking.await.unwrap();
    // These lie on every partition, those of the dead process too.
    ask(&log, 300..330).await;
    until("taken over", async || audit(&log).await.queries_pending == 0).await;
    println!("taken over {:.1} s after kill -9", killed.elapsed().as_secs_f64());
    // The same process again with its folder, and a third: two more rebalances under load.
    let asking = tokio::spawn({
        let log = log.clone();
        async move { ask(&log, 330..600).await }
    });
    let again = Instant::now();
    let first = cluster.start("first", "serve,judge").await;
    println!("ready again {:.1} s after its start", again.elapsed().as_secs_f64());
    let third = cluster.start("third", "serve,judge").await;
    second.signal("-TERM");
    asking.await.unwrap();
    until("settled", async || {
        let audit = audit(&log).await;
        audit.is_settled() && audit.queries == 600
    })
    .await;
    let audit = audit(&log).await;
    println!("{}", serde_json::to_string(&audit).unwrap());
    assert_eq!(audit.breaches(), Vec::<String>::new());
    assert_eq!((audit.queries_answered, audit.queries_failed), (600, 0));
    assert_eq!(audit.episodes_judged, audit.episodes, "every episode has its reward");
    // Only the unclean end may answer twice, and then under the same name.
    assert!(audit.repeats.answers <= 8, "{:?}", audit.repeats);
    drop((first, third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_its_session_writes_nothing_more_on_what_it_lost() {
    let Some(bootstrap) = kafka() else { return };
    let cluster = Cluster::new(bootstrap, "zombie");
    let log = cluster.log(2).await;
    let sleeper = cluster.start("sleeper", "serve").await;
    let waking = cluster.start("waking", "serve").await;
    ask(&log, 0..20).await;
    until("answered", async || answered(&log).await == 20).await;
    sleeper.signal("-STOP");
    ask(&log, 20..60).await;
    until("taken over", async || answered(&log).await == 60).await;
    sleeper.signal("-CONT");
    ask(&log, 60..80).await;
    until("answered together", async || answered(&log).await == 80).await;
    let audit = audit(&log).await;
    println!("{}", serde_json::to_string(&audit).unwrap());
    // What it had in hand when it fell asleep it may have finished, under the same name.
    assert!(audit.repeats.answers <= 4, "{:?}", audit.repeats);
    assert_eq!(audit.queries_pending, 0);
    drop((sleeper, waking));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_a_process_softly_and_room_lets_it_go_on() {
    let Some(bootstrap) = kafka() else { return };
    let cluster = Cluster::new(bootstrap, "disk");
    let log = cluster.log(2).await;
    let node = cluster.start("node", "serve,judge").await;
    let limit = |bytes: &str| {
        let (pid, limit) = (node.child.id().to_string(), format!("--fsize={bytes}:unlimited"));
        Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success()
    };
    ask(&log, 0..10).await;
    until("answered", async || answered(&log).await == 10).await;
    // No file of this process may grow any more: what a full disk is to it.
    assert!(limit("4096"), "prlimit (util-linux) sets a limit");
    ask(&log, 10..60).await;
    until("short of room", async || {
        let metrics = node.get("/metrics").await.unwrap_or_default();
        metrics.lines().any(|line| line.starts_with("regrade_log_failures_total"))
    })
    .await;
    assert!(node.get("/health/live").await.is_some(), "it lives on");
    assert!(limit("unlimited"));
    until("settled", async || {
        let audit = audit(&log).await;
        audit.is_settled() && audit.queries_answered == 60
    })
    .await;
    let audit = audit(&log).await;
    println!("{}", serde_json::to_string(&audit).unwrap());
    assert_eq!((audit.breaches().len(), audit.repeats.answers), (0, 0), "nothing written twice");
}

fn champion(tiny: &Tiny, snapshot: &PolicySnapshot, uri: &str, replaces: Option<u64>) -> NewRecord {
    let record = tiny.certified(PolicyRecord {
        uri: uri.to_owned(),
        replaces: replaces.map(PolicyVersion),
        ..PolicyRecord::of(snapshot, PolicyState::Champion, "", 0)
    });
    let payload = serde_json::to_vec(&record).unwrap();
    NewRecord { key: snapshot.version.to_string(), payload, ..NewRecord::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_serving_process_follows_the_champion_and_a_standby_leads_when_the_leader_is_gone() {
    let Some(bootstrap) = kafka() else { return };
    let cluster = Cluster::new(bootstrap, "follow");
    let log = cluster.log(2).await;
    let nodes = [
        cluster.start("one", "serve").await,
        cluster.start("two", "serve").await,
        cluster.start("learn-a", "learn").await,
        cluster.start("learn-b", "learn").await,
    ];
    let snapshots = wiring::snapshots(&cluster.tiny.config()).unwrap();
    let parts = wiring::parts(&cluster.tiny.config()).await.unwrap();
    let width = parts.reader.width();
    let weights = |version: u64, parent: u64| {
        let first = first_snapshot(width, version, &Device::Cpu).unwrap();
        let parent = Some(PolicyVersion(parent));
        PolicySnapshot::new(PolicyVersion(version), parent, "test", first.weights.to_vec())
    };
    let both_serve = async |version: u64| {
        nodes[0].version().await == Some(version) && nodes[1].version().await == Some(version)
    };
    for version in [1, 2] {
        let snapshot = weights(version, version - 1);
        let uri = snapshots.put(&snapshot).await.unwrap();
        let replaces = (version > 1).then_some(version - 1);
        let published = Instant::now();
        log.append(Stream::Policies, vec![champion(&cluster.tiny, &snapshot, &uri, replaces)])
            .await
            .unwrap();
        until("swapped", async || both_serve(version).await).await;
        println!(
            "both serve {version} {:.0} ms after it was published",
            published.elapsed().as_secs_f64() * 1e3
        );
    }
    // Outrun by 2, of other bytes than on record, and at last a good one.
    let outrun = weights(3, 1);
    let other = PolicySnapshot { digest: outrun.digest.clone(), ..weights(4, 2) };
    let good = weights(5, 2);
    for (snapshot, stored, replaces) in
        [(&outrun, &outrun, Some(1)), (&other, &weights(4, 2), Some(2)), (&good, &good, None)]
    {
        let uri = snapshots.put(stored).await.unwrap();
        log.append(Stream::Policies, vec![champion(&cluster.tiny, snapshot, &uri, replaces)])
            .await
            .unwrap();
    }
    until("swapped", async || both_serve(5).await).await;

    let leaders = async || (nodes[2].leads().await, nodes[3].leads().await);
    until("one leads", async || matches!(leaders().await, (true, false) | (false, true))).await;
    let leader = if leaders().await.0 { 2 } else { 3 };
    nodes[leader].signal("-KILL");
    let killed = Instant::now();
    until("the standby leads", async || nodes[5 - leader].leads().await).await;
    println!("the standby leads {:.1} s after kill -9", killed.elapsed().as_secs_f64());
}
