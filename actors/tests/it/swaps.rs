//! Weights that change while everybody asks.

use crate::bench::{MINUTE, ask, assert_laws, config, query, start, until, until_kept, world};
use actors::compute::ComputeMode;
use actors::fakes::{World, snapshot};
use actors::ports::Stream;
use actors::service::{Overrides, ServiceConfig, ServiceHandle, UpdateOutcome};
use actors::types::{Episode, PolicyStamp, PolicyVersion, Served};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const CALLERS: usize = 8;
const SWAPS: u64 = 50;

/// Asks until told to stop; every query must be served.
async fn keep_asking(
    service: ServiceHandle,
    caller: usize,
    is_over: Arc<AtomicBool>,
) -> Vec<Served> {
    let mut all = Vec::new();
    while !is_over.load(SeqCst) {
        let asked = query(caller * 1_000_000 + all.len());
        all.push(service.answer(asked, Overrides::default()).await.unwrap());
    }
    all
}

async fn fifty_swaps(world: &World, mut config: ServiceConfig) {
    config.replay_buffer.staleness_max = SWAPS;
    let service = start(world, config).await;
    world.generator.knob.delay(Duration::from_millis(1));
    ask(&service, 0).await;
    until_kept(&service, 1).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(keep_asking(service.clone(), caller, Arc::clone(&is_over))))
        .collect();
    for n in 1..=SWAPS {
        let outcome = service.trigger_update(MINUTE).await.unwrap();
        let UpdateOutcome::Promoted { version, .. } = outcome else { panic!("{n}: {outcome:?}") };
        assert_eq!(version, PolicyVersion(n));
        assert_eq!(service.policy().version, version);
        // One decision of each caller may be older than the swap; the next is not.
        let answered = service.observe().await.door.answered + 2 * CALLERS as u64;
        until(&service, "served by the new weights", |s| async move {
            s.observe().await.door.answered >= answered
        })
        .await;
    }
    is_over.store(true, SeqCst);

    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    let logged: BTreeMap<_, PolicyStamp> = episodes
        .into_iter()
        .filter_map(|episode| episode.decision)
        .map(|decision| (decision.id, decision.policy))
        .collect();
    let mut served_by = BTreeMap::<PolicyVersion, usize>::new();
    for caller in callers {
        let all = caller.await.unwrap();
        // The last of each caller may be in the log only after it was read above.
        for served in all.iter().filter(|served| logged.contains_key(&served.decision_id)) {
            assert_eq!(logged[&served.decision_id], served.policy);
        }
        for served in &all {
            let weights = snapshot(served.policy.version.0, true).digest;
            assert_eq!(served.policy.digest, weights, "not the weights of its version");
            *served_by.entry(served.policy.version).or_default() += 1;
        }
        let versions: Vec<_> = all.iter().map(|served| served.policy.version).collect();
        assert!(versions.is_sorted(), "a version came back: {versions:?}");
    }
    assert!(served_by.len() as u64 >= SWAPS, "traffic missed versions: {served_by:?}");
    let observed = assert_laws(world, &service).await;
    assert_eq!((observed.door.failed, observed.door.overloaded, observed.door.refused), (0, 0, 0));
    let reranker = observed.reranker.unwrap();
    assert_eq!((reranker.swaps, reranker.swaps_refused), (SWAPS, 0));
    assert!(observed.children.iter().all(|child| child.restarts == 0));
}

#[tokio::test(start_paused = true)]
async fn fifty_swaps_under_load_fail_no_request_and_every_answer_names_one_version() {
    fifty_swaps(&world().await, config()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_on_the_model_thread_fail_no_request() {
    let config = ServiceConfig { compute: ComputeMode::Thread, ..config() };
    fifty_swaps(&world().await, config).await;
}
