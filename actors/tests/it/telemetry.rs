//! What a service says about itself while it works: metrics and spans.

use crate::bench::{
    MINUTE, ask, assert_laws, config, query, start, until_judged, until_kept, world,
};
use crate::staged::{Load, propose, staged, start_at, until_state};
use actors::clock::Clock;
use actors::episode::OnRetrievalFailure;
use actors::fakes::{Lesson, snapshot};
use actors::ports::{EventLog, NewRecord, Stream};
use actors::service::{Overrides, ServiceConfig};
use actors::telemetry::{Kind, METRICS};
use actors::types::{Exploration, Feedback, PolicyRecord, PolicyState, PolicyVersion, Query};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

/// Notes the name and kind of every metric written.
#[derive(Default)]
struct Names(Mutex<BTreeMap<String, &'static str>>);

impl Names {
    fn note(&self, key: &Key, kind: &'static str) {
        self.0.lock().unwrap().insert(key.name().to_owned(), kind);
    }
}

impl Recorder for Names {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key, "counter");
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key, "gauge");
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key, "histogram");
        Histogram::noop()
    }
}

#[test]
fn every_metric_has_a_name_of_its_own_that_says_its_unit_and_a_help_text() {
    let names: BTreeSet<_> = METRICS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), METRICS.len(), "two metrics share a name");
    for (name, kind, help) in METRICS {
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.starts_with("regrade_") && name.chars().all(is_word), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(help.ends_with('.'), "{name}: {help}");
    }
}

/// A life with something of everything: answers, faults, feedback, updates, the log.
async fn eventful_life() {
    let mut world = world().await;
    world.rewriter = Some(Arc::default());
    let mut config = ServiceConfig { seed: Some(3), ..config() };
    config.intake.enabled = true;
    config.supervision.restarts_max = 1;
    (config.learner.keep_versions, config.learner.keep_ms) = (1, 0);
    config.episode.on_retrieval_failure = OnRetrievalFailure::Answer;
    let service = start(&world, config).await;
    world.log.commits.fail_next(1);
    world.judge.knob.fail_next(1);
    world.generator.knob.fail_next(1);
    for n in 0..6 {
        ask(&service, n).await;
    }
    world.index.knob.fail_next(1);
    ask(&service, 6).await;
    service.answer(Query::default(), Overrides::default()).await.unwrap_err();
    let payload = serde_json::to_vec(&query(7)).unwrap();
    let records = [payload, b"{".to_vec()]
        .map(|payload| NewRecord { payload, ..NewRecord::default() })
        .to_vec();
    world.log.append(Stream::Queries, records.clone()).await.unwrap();
    world.log.append(Stream::Feedback, records).await.unwrap();
    let said = Feedback {
        id: "f".to_owned(),
        decision_id: ask(&service, 9).await.decision_id,
        value: Some(0.5),
        source: "user".to_owned(),
        // A clock that is ahead.
        time_ms: u64::MAX,
        ..Feedback::default()
    };
    service.feedback(said).await.unwrap();
    until_judged(&service, 9).await;
    until_kept(&service, 8).await;
    for lesson in [Lesson::Better, Lesson::Misshapen] {
        world.teach(lesson);
        service.trigger_update(MINUTE).await.unwrap();
    }
    for _ in 0..12 {
        service.trigger_update(MINUTE).await.unwrap();
    }
    world.policy.panic_next(1);
    ask(&service, 8).await;
    for _ in 0..2 {
        service.kill_child("judge");
        tokio::time::sleep(MINUTE / 30).await;
    }
    assert_laws(&world, &service).await;
}

/// A life with a canary that falls back, a champion that is taken back, and what watches over them.
async fn staged_life() {
    let world = world().await;
    let mut config = staged();
    config.promotion.shadow.failures_max = 1.0;
    config.promotion.canary.aa_share = 0.5;
    config.promotion.watch.probe_ms = 500;
    config.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.1 };
    config.exploration_budget.per_hour = Some(2.0);
    config.drift.enabled = true;
    let questions = vec![(0.5, 0.5); 20];
    world.examiner.lock().unwrap().probes.insert(PolicyVersion(0), questions);
    // Without a certificate it serves nobody.
    let weights = snapshot(90, true);
    let bare = PolicyRecord::of(&weights, PolicyState::Champion, "", 0);
    let payload = serde_json::to_vec(&bare).unwrap();
    let new = NewRecord { payload, ..NewRecord::default() };
    world.log.append(Stream::Policies, vec![new]).await.unwrap();
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    service.rollback(None, "by hand", MINUTE).await.unwrap();
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "failing").await;
    until_state(&world, &service, version, (PolicyState::Canary, Some(0.05))).await;
    until_state(&world, &service, version, (PolicyState::Retired, None)).await;
    tokio::time::sleep(MINUTE / 60).await;
    world.judge.renamed.store(true, SeqCst);
    tokio::time::sleep(MINUTE / 60).await;
    load.stop().await;
}

#[test]
fn every_metric_written_is_in_the_table_under_its_kind_and_every_one_of_the_table_is_written() {
    let names = Names::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&names, || {
        runtime.block_on(eventful_life());
        runtime.block_on(staged_life());
    });
    let table: BTreeMap<String, &str> = METRICS
        .iter()
        .map(|(name, kind, _)| {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            ((*name).to_owned(), kind)
        })
        .collect();
    assert_eq!(*names.0.lock().unwrap(), table);
}

/// Notes each span as `parent > name{fields}`, and every event's fields.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<SpanNotes>>);

#[derive(Default)]
struct SpanNotes {
    names: Vec<String>,
    entered: Vec<usize>,
    seen: BTreeSet<String>,
    text: String,
}

struct Words<'a>(&'a mut String);

impl tracing::field::Visit for Words<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("actors")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut notes = self.0.lock().unwrap();
        let notes = &mut *notes;
        let mut words = String::new();
        span.record(&mut Words(&mut words));
        notes.text.push_str(&words);
        let fields: Vec<_> = span.metadata().fields().iter().map(|field| field.name()).collect();
        let parent = notes.entered.last().map(|id| notes.names[*id].clone());
        let parent = parent.map(|name| format!("{name} > ")).unwrap_or_default();
        let name = span.metadata().name();
        notes.seen.insert(format!("{parent}{name}{{{}}}", fields.join(",")));
        notes.names.push(name.to_owned());
        tracing::span::Id::from_u64(notes.names.len() as u64)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut notes = self.0.lock().unwrap();
        event.record(&mut Words(&mut notes.text));
    }

    fn enter(&self, span: &tracing::span::Id) {
        self.0.lock().unwrap().entered.push(span.into_u64() as usize - 1);
    }

    fn exit(&self, _: &tracing::span::Id) {
        self.0.lock().unwrap().entered.pop();
    }
}

#[test]
fn a_query_is_one_span_with_a_child_for_each_stage_and_no_text_of_it_is_written() {
    let spans = Spans::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // With a single subscriber, a span that another test's thread opens first is switched off for
    // all: its thread has none to ask. With two everyone asks the list.
    let _second = tracing::Dispatch::new(Spans::default());
    tracing::subscriber::with_default(spans.clone(), || runtime.block_on(eventful_life()));
    let notes = spans.0.lock().unwrap();
    for expected in [
        "episode{query_id}",
        "episode > retriever.search{k}",
        "episode > reranker.decide{decision_id,candidates}",
        "episode > generator.answer{documents}",
        "judge.judge{decision_id}",
        "learner.update{version}",
        "learner.update > snapshot.publish{version,bytes}",
    ] {
        assert!(notes.seen.contains(expected), "no span `{expected}` in {:#?}", notes.seen);
    }
    for text in ["is paris in france", "paris is in france"] {
        assert!(!notes.text.contains(text), "a query's or document's text was written");
    }
}
