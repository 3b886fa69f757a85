//! A full door and a full disk, over the wire, on fakes that can be told to fail.

use crate::gateway::{Server, json};
use crate::tiny::{passages, until};
use actors::clock::Clock;
use actors::fakes::{MemoryLog, World};
use actors::ports::{EventConsumer, EventLog, Found, LogError, NewRecord, Record, Stream};
use actors::service::{Ports, Service, ServiceConfig, ServiceHandle};
use async_trait::async_trait;
use regrade::config::ServerConfig;
use serde_json::json as body;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

async fn start(ports: Ports, config: ServiceConfig) -> (ServiceHandle, Server) {
    ports.index.upsert(&passages()).await.unwrap();
    let service = Service::start(ports, config).await.unwrap();
    until("ready", async || service.ready().await.ready).await;
    let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
    (service, server)
}

fn question() -> String {
    body!({ "query": "the key of room 1" }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_door_answers_429_while_the_others_are_still_being_answered() {
    let world = World::default();
    let mut config = ServiceConfig::default();
    config.promotion.path = actors::rollout::Path::HeldOut;
    config.admission.in_flight_max = 1;
    config.admission.queue_max = 0;
    let (service, server) = start(world.ports(Clock::System), config).await;
    // Far beyond the length of this test: whoever waits for it never ends.
    world.generator.knob.delay(Duration::from_secs(3_600));
    let server = Arc::new(server);
    let waiting = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.post("/v1/answer", question()).await.status() }
    });
    until("in flight", async || service.observe().await.door.in_flight == 1).await;
    let reply = server.post("/v1/answer", question()).await;
    assert_eq!(reply.status(), 429);
    assert_eq!(reply.headers()["retry-after"], "1");
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("service.admission.queue_max"), "{message}");
    assert!(!waiting.is_finished(), "the first question still waits for its answer");
    let door = service.observe().await.door;
    assert_eq!((door.overloaded, door.accepted, door.in_flight), (1, 1, 1));
    waiting.abort();
}

/// A log on a disk that fills up.
#[derive(Clone, Default)]
struct Disk {
    log: MemoryLog,
    is_full: Arc<AtomicBool>,
}

#[async_trait]
impl EventLog for Disk {
    async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(LogError::Full("no space left on device".to_owned()));
        }
        self.log.append(stream, records).await
    }

    async fn consumer(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        self.log.consumer(name, streams).await
    }

    async fn tail(
        &self,
        stream: Stream,
        partition: u32,
        newest: u64,
    ) -> Result<Vec<Record>, LogError> {
        self.log.tail(stream, partition, newest).await
    }

    async fn find(&self, stream: Stream, key: &str, newest: usize) -> Result<Found, LogError> {
        self.log.find(stream, key, newest).await
    }

    async fn ends(&self, stream: Stream) -> Result<Vec<u64>, LogError> {
        self.log.ends(stream).await
    }

    fn partition_of(&self, stream: Stream, key: &str) -> u32 {
        self.log.partition_of(stream, key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_a_503_that_says_so_and_ends_with_the_shortage() {
    let (world, disk) = (World::default(), Disk::default());
    let mut config = ServiceConfig::default();
    config.promotion.path = actors::rollout::Path::HeldOut;
    config.episode.log_deadline_ms = 300;
    let ports = Ports { log: Arc::new(disk.clone()), ..world.ports(Clock::System) };
    let (service, server) = start(ports, config).await;
    let answered = json(server.post("/v1/answer", question()).await).await;
    disk.is_full.store(true, Ordering::SeqCst);
    let reply = server.post("/v1/answer", question()).await;
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("stage `log`"), "{message}");
    let verdict = body!({ "decision_id": answered["decision_id"], "value": 1.0 }).to_string();
    let reply = server.post("/v1/feedback", verdict.clone()).await;
    assert_eq!(reply.status(), 503);
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("out of space"), "{message}");

    disk.is_full.store(false, Ordering::SeqCst);
    assert_eq!(server.post("/v1/answer", question()).await.status(), 200);
    assert_eq!(server.post("/v1/feedback", verdict).await.status(), 202);
    let door = service.observe().await.door;
    assert!(door.is_conserved() && door.failed == 1 && door.answered == 2, "{door:?}");
    until("judged", async || service.observe().await.judge.is_some_and(|j| j.judged == 1)).await;
    server.stop().await;
}
