//! What becomes of queries while the index is away, too slow, or asked too much.

use crate::bench::{MINUTE, assert_laws, config, query, start, until, until_judged, world};
use actors::episode::OnRetrievalFailure;
use actors::fakes::World;
use actors::ports::{SearchIndex as _, Stream};
use actors::service::{Overrides, ServiceConfig, ServiceError, ServiceHandle};
use actors::types::{Document, Episode, Filter, Gate, Outcome, Query, Served};
use std::time::Duration;

fn answering() -> ServiceConfig {
    let mut config = config();
    config.episode.on_retrieval_failure = OnRetrievalFailure::Answer;
    config
}

async fn ask(service: &ServiceHandle, n: usize) -> Result<Served, ServiceError> {
    service.answer(query(n), Overrides::default()).await
}

fn episodes(world: &World) -> Vec<Episode> {
    world.log.read(Stream::Episodes)
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_away_fails_a_query_as_something_to_try_again() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.index.knob.fail_next(1);
    let reason = "search index is unavailable: scripted failure".to_owned();
    let expected = ServiceError::Unavailable { stage: "retrieve", reason: reason.clone() };
    assert_eq!(ask(&service, 0).await, Err(expected));
    let episode = episodes(&world).remove(0);
    assert_eq!(episode.outcome, Outcome::Failed { stage: "retrieve".to_owned(), reason });
    assert_eq!(episode.degraded, None, "nothing was answered");
    ask(&service, 1).await.unwrap();
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn by_configuration_it_is_answered_without_documents_and_never_learnt_from() {
    let world = world().await;
    let service = start(&world, answering()).await;
    world.index.knob.fail_next(1);
    let served = ask(&service, 0).await.unwrap();
    let degraded = served.degraded.unwrap();
    assert_eq!(degraded.stage, "retrieve");
    assert_eq!(degraded.reason, "search index is unavailable: scripted failure");
    assert_eq!((served.gate, served.documents.len()), (Gate::Direct, 0));
    let whole = ask(&service, 1).await.unwrap();
    assert_eq!((whole.degraded, whole.gate), (None, Gate::Retrieve));
    let logged = episodes(&world);
    assert!(logged[0].degraded.is_some() && logged[1].degraded.is_none());
    // Both have references, so both are judged; only one may be learnt from.
    until_judged(&service, 2).await;
    let is_sorted = |service: ServiceHandle| async move {
        let buffer = service.observe().await.replay_buffer;
        buffer.is_some_and(|b| (b.samples, b.dropped.degraded) == (1, 1))
    };
    until(&service, "sorted", is_sorted).await;
    assert_laws(&world, &service).await;
    // Nor after a restart, when the buffer is filled from the log again.
    assert!(service.drain(MINUTE).await.clean);
    let again = start(&world, answering()).await;
    until(&again, "filled again", |service| async move {
        let buffer = service.observe().await.replay_buffer;
        buffer.is_some_and(|b| b.is_caught_up && b.samples == 1)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_index_that_hangs_costs_the_deadline_of_the_stage_and_no_more() {
    let world = world().await;
    world.index.knob.delay(60 * MINUTE);
    let service = start(&world, answering()).await;
    let served = ask(&service, 0).await.unwrap();
    assert_eq!(served.timings.retrieve_ms, 2_000.0);
    let reason = served.degraded.unwrap().reason;
    assert_eq!(reason, "search gave no result within its deadline");
    assert!(service.drain(MINUTE).await.clean);

    let failing = start(&world, config()).await;
    let failed = ask(&failing, 1).await.unwrap_err();
    assert_eq!(failed.code(), "timed_out");
    assert_laws(&world, &failing).await;
}

#[tokio::test(start_paused = true)]
async fn a_retriever_that_stays_down_is_an_index_that_is_away() {
    let world = world().await;
    let mut config = answering();
    config.supervision.restarts_max = 0;
    let service = start(&world, config).await;
    service.kill_child("retriever");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let degraded = ask(&service, 0).await.unwrap().degraded.unwrap();
    assert!(degraded.reason.contains("restart budget is spent"), "{degraded:?}");
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_retriever_is_no_reason_to_answer_without() {
    let world = world().await;
    let mut config = answering();
    config.retriever.concurrency = 1;
    config.retriever.queue_max = 0;
    let service = start(&world, config).await;
    world.index.knob.delay(Duration::from_secs(1));
    let (first, second) = tokio::join!(ask(&service, 0), ask(&service, 1));
    let overloaded = [&first, &second].into_iter().filter(|r| r.is_err()).count();
    assert_eq!(overloaded, 1);
    assert_eq!(first.or(second).unwrap().degraded, None);
}

#[tokio::test(start_paused = true)]
async fn a_filter_reaches_the_index_and_has_a_bound() {
    let world = world().await;
    let metadata = [("lang".to_owned(), "fr".to_owned())].into();
    let text = "paris est en france".to_owned();
    let tagged = Document { id: "c".into(), text, metadata, ..Document::default() };
    world.index.upsert(&[tagged]).await.unwrap();
    let mut config = config();
    config.episode.filter_values_max = 3;
    let service = start(&world, config).await;
    let of = |values: &[&str]| Query {
        filter: Filter::from([(
            "lang".to_owned(),
            values.iter().map(|value| (*value).to_owned()).collect(),
        )]),
        ..query(0)
    };
    let served = service.answer(of(&["de", "fr"]), Overrides::default()).await.unwrap();
    let found: Vec<&str> = served.documents.iter().map(|d| d.document.id.as_str()).collect();
    assert_eq!(found, ["c"]);
    assert_eq!(episodes(&world)[0].query.filter, of(&["de", "fr"]).filter, "it is logged");
    let refused = service.answer(of(&["a", "b", "c", "d"]), Overrides::default()).await;
    let sentence = "filter: 4 values, at most 3 are allowed".to_owned();
    assert_eq!(refused, Err(ServiceError::Refused(sentence)));
}
