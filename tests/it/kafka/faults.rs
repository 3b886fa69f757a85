//! Faults of the broker and of what is written on it: after each the conservation laws balance.

use super::{audit, config, namespace, open, until};
use crate::services::{Broker, kafka, require_or_skip};
use actors::clock::Clock;
use actors::fakes::World;
use actors::ports::{EventLog, NewRecord, SearchIndex as _, Stream};
use actors::service::{Ports, Service, ServiceConfig, ServiceHandle};
use actors::types::{Document, Feedback, Query};
use regrade::adapters::log_kafka::KafkaLog;
use std::sync::Arc;
use std::time::Duration;

/// A service on the log with scripted models; its queries come by the log.
async fn serve(log: &KafkaLog, world: &World) -> ServiceHandle {
    let passage =
        Document { id: "p".into(), text: "paris is in france".to_owned(), ..Document::default() };
    world.index.upsert(&[passage]).await.unwrap();
    let mut config = ServiceConfig::default();
    config.promotion.path = actors::rollout::Path::HeldOut;
    config.intake.enabled = true;
    config.intake.concurrency = 8;
    config.learner.min_new_rewards = 0;
    config.learner.interval_ms = 0;
    let ports = Ports { log: Arc::new(log.clone()), ..world.ports(Clock::System) };
    let service = Service::start(ports, config).await.unwrap();
    until("ready", async || service.ready().await.ready).await;
    service
}

fn query(n: u32) -> NewRecord {
    let query = Query {
        id: format!("q{n}").as_str().into(),
        text: "is paris in france".to_owned(),
        references: vec!["paris is in france".to_owned()],
        ..Query::default()
    };
    let payload = serde_json::to_vec(&query).unwrap();
    NewRecord { key: format!("q{n}"), payload, ..NewRecord::default() }
}

/// Writes queries as an application would, each again until it is acknowledged.
async fn ask(log: &KafkaLog, numbers: std::ops::Range<u32>) {
    for n in numbers {
        while log.append(Stream::Queries, vec![query(n)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn settled(log: &KafkaLog, queries: u64) -> regrade::evaluate::audit::Audit {
    let is_done = |audit: &regrade::evaluate::audit::Audit| {
        audit.is_settled() && audit.queries_answered + audit.queries_failed == queries
    };
    until("settled", async || is_done(&audit(log).await)).await;
    let audit = audit(log).await;
    println!("{}", serde_json::to_string(&audit).unwrap());
    assert_eq!(audit.breaches(), Vec::<String>::new());
    audit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_under_load_costs_no_query() {
    let broker = match Broker::start("restart") {
        Ok(broker) => broker,
        Err(reason) => return require_or_skip("an Apache Kafka broker", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), config(&broker.bootstrap, &namespace("restart"), 3)).await;
    let world = World::default();
    let service = serve(&log, &world).await;
    let asking = tokio::spawn({
        let log = log.clone();
        async move { ask(&log, 0..120).await }
    });
    for at_once in [false, true] {
        let before = service.observe().await.intake.unwrap().answered;
        until("some answered", async || {
            service.observe().await.intake.unwrap().answered > before + 5
        })
        .await;
        let stopped = tokio::time::Instant::now();
        let broker = tokio::task::block_in_place(|| {
            broker.stop(at_once);
            broker.start_again();
            &broker
        });
        let answered = service.observe().await.intake.unwrap().answered;
        until("answering again", async || {
            let now = service.observe().await.intake.unwrap();
            now.answered > answered || (asking.is_finished() && now.in_flight == 0)
        })
        .await;
        println!(
            "broker {} away, at once: {at_once}: answering again {:.1} s after it was \
                  stopped",
            broker.bootstrap,
            stopped.elapsed().as_secs_f64()
        );
    }
    asking.await.unwrap();
    let audit = settled(&log, 120).await;
    assert_eq!((audit.queries, audit.queries_answered), (120, 120));
    let observed = service.observe().await;
    assert!(observed.door.is_conserved() && observed.judge.unwrap().is_conserved());
    assert!(service.drain(super::PATIENCE).await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_poison_and_feedback_gone_astray_do_no_harm() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), config(bootstrap, &namespace("poison"), 4)).await;
    let world = World::default();
    let service = serve(&log, &world).await;
    ask(&log, 0..10).await;
    ask(&log, 5..15).await;
    let poison = ["{", "null", r#"{"query": 7}"#, r#"{"schema": 99, "query": "from the future"}"#];
    for (n, text) in poison.iter().enumerate() {
        let payload = text.as_bytes().to_vec();
        let record = NewRecord { key: format!("poison{n}"), payload, ..NewRecord::default() };
        log.append(Stream::Queries, vec![record]).await.unwrap();
    }
    let plain = Query { text: "is paris in france".to_owned(), ..Query::default() };
    let mut late = service.answer(plain, Default::default()).await.unwrap().decision_id;
    // Feedback under a key of its own lies wherever that key goes: three copies, one feedback.
    for key in ["here", "there", "elsewhere"] {
        let feedback = Feedback {
            id: "f1".to_owned(),
            decision_id: late.clone(),
            value: Some(1.0),
            source: "user".to_owned(),
            ..Feedback::default()
        };
        let payload = serde_json::to_vec(&feedback).unwrap();
        let record = NewRecord { key: key.to_owned(), payload, ..NewRecord::default() };
        log.append(Stream::Feedback, vec![record]).await.unwrap();
    }
    late = "nobody's".into();
    let orphan = format!(r#"{{"schema":1,"id":"f2","decision_id":"{late}","value":0.5}}"#);
    let record = NewRecord { payload: orphan.into_bytes(), ..NewRecord::default() };
    log.append(Stream::Feedback, vec![record]).await.unwrap();
    let audit = settled(&log, 15).await;
    assert_eq!((audit.queries, audit.repeats.queries, audit.repeats.answers), (15, 5, 0));
    assert_eq!(audit.deadletters.get("regrade.queries"), Some(&4), "{:?}", audit.deadletters);
    assert_eq!((audit.episodes, audit.episodes_judged), (16, 16));
    assert_eq!((audit.feedback, audit.feedback_known, audit.feedback_orphaned), (2, 1, 1));
    until("feedback read", async || {
        let judge = service.observe().await.judge.unwrap();
        judge.joined + judge.revised == 1 && judge.early == 1 && judge.forwarded > 0
    })
    .await;
    let judge = service.observe().await.judge.unwrap();
    assert!(judge.is_conserved(), "{judge:?}");
    assert!(service.drain(super::PATIENCE).await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_shares_the_work_and_takes_it_over_when_the_first_is_gone() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = config(bootstrap, &namespace("two"), 4);
    let one = open(&folder.path().join("one"), settings.clone()).await;
    let two = open(&folder.path().join("two"), settings).await;
    let world = World::default();
    let first = serve(&one, &world).await;
    ask(&one, 0..40).await;
    let second = serve(&two, &world).await;
    until("shared", async || {
        let both = [first.observe().await, second.observe().await];
        both.iter()
            .all(|seen| seen.intake.unwrap().partitions == 2 && seen.judge.unwrap().partitions == 2)
    })
    .await;
    let leading = async |service: &ServiceHandle| {
        service.observe().await.learner.is_some_and(|learner| learner.is_leading)
    };
    assert!(leading(&first).await && !leading(&second).await, "one leads, the other stands by");
    ask(&one, 40..80).await;
    assert!(first.drain(super::PATIENCE).await.clean);
    drop(first);
    ask(&two, 80..120).await;
    let audit = settled(&two, 120).await;
    assert_eq!((audit.queries_answered, audit.repeats.answers), (120, 0), "answered once each");
    until("led by the second", async || leading(&second).await).await;
    let judge = second.observe().await.judge.unwrap();
    assert!(judge.partitions == 4 && judge.is_conserved(), "{judge:?}");
    assert!(second.drain(super::PATIENCE).await.clean);
}
