//! A query that makes the policy panic each time, among others that do not.

use crate::bench::{assert_laws, config, query, start, until, world};
use actors::compute::ComputeMode;
use actors::service::{ChildState, Overrides, ServiceConfig, ServiceError};
use actors::types::{Document, PolicyVersion, Query};
use std::time::Duration;

const POISON: &str = "what breaks the policy";

async fn costs_only_itself(config: ServiceConfig) {
    let rounds = config.supervision.restarts_max + 2;
    let world = world().await;
    let service = start(&world, config).await;
    world.policy.panic_on(POISON);
    for _ in 0..rounds {
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let bad = Query { text: POISON.to_owned(), ..Query::default() };
                let asked = if n == 5 {
                    Query { candidates: Some(candidates()), ..bad }
                } else {
                    Query { candidates: Some(candidates()), ..query(n) }
                };
                let service = service.clone();
                tokio::spawn(async move { service.answer(asked, Overrides::default()).await })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            let result = task.await.unwrap();
            if n == 5 {
                let Err(ServiceError::Failed { stage: "decide", reason, .. }) = result else {
                    panic!("poison was served: {result:?}");
                };
                assert!(reason.contains("policy panicked on this request"), "{reason}");
            } else {
                result.unwrap();
            }
        }
    }
    let observed = assert_laws(&world, &service).await;
    assert_eq!(observed.door.failed, rounds as u64);
    assert_eq!(observed.door.answered, 11 * rounds as u64);
    let child = observed.children.iter().find(|child| child.name == "reranker").unwrap();
    assert_eq!((&child.state, child.restarts), (&ChildState::Up, 0));
    let reranker = observed.reranker.unwrap();
    assert_eq!(reranker.panics, 2 * rounds as u64, "once in company, once alone");
    assert!(reranker.batch_largest > 1, "nobody was in company");
    until(&service, "ready", |s| async move { s.ready().await.ready }).await;
}

fn candidates() -> Vec<actors::types::Document> {
    ["x", "y"].map(|id| Document { id: id.into(), text: id.into(), ..Document::default() }).to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_poison_query_is_refused_alone_and_costs_the_reranker_no_restart() {
    costs_only_itself(config()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_query_on_the_model_thread_costs_only_itself() {
    costs_only_itself(ServiceConfig { compute: ComputeMode::Thread, ..config() }).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_the_policy_has_the_weights_that_swapped_last() {
    let world = world().await;
    let service = start(&world, config()).await;
    crate::bench::ask(&service, 0).await;
    crate::bench::until_kept(&service, 1).await;
    service.trigger_update(Duration::from_secs(60)).await.unwrap();
    world.policy.panic_next(1);
    let served = crate::bench::ask(&service, 1).await;
    assert_eq!(served.policy.version, PolicyVersion(1));
    assert_eq!(service.policy().version, PolicyVersion(1));
    let reranker = service.observe().await.reranker.unwrap();
    assert_eq!((reranker.panics, reranker.is_loaded), (1, true));
    assert_laws(&world, &service).await;
}
