//! What a rewriter does to a query, and what it cannot do.

use crate::bench::{ask, assert_laws, config, query, start, world};
use actors::fakes::{FakeRewriter, World};
use actors::ports::Stream;
use actors::service::Overrides;
use actors::types::{Document, Episode, Query};
use std::sync::Arc;
use std::time::Duration;

async fn rewriting() -> (World, Arc<FakeRewriter>) {
    let mut world = world().await;
    let rewriter = Arc::<FakeRewriter>::default();
    world.rewriter = Some(Arc::clone(&rewriter));
    (world, rewriter)
}

fn last(world: &World) -> Episode {
    world.log.read(Stream::Episodes).pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_proposal_is_searched_with_and_logged_and_the_query_stays_as_asked() {
    let (world, _) = rewriting().await;
    let service = start(&world, config()).await;
    ask(&service, 1).await;
    let episode: Episode = last(&world);
    assert_eq!(episode.query.text, "is paris in france 1");
    assert_eq!(episode.rewrites[0].text, "1 france in paris is");
    assert_eq!(episode.decision.unwrap().rewrite, 1);
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn a_rewriter_that_fails_hangs_or_panics_costs_the_query_nothing_but_time() {
    let (world, rewriter) = rewriting().await;
    let service = start(&world, config()).await;
    rewriter.knob.fail_next(1);
    ask(&service, 1).await;
    assert_eq!((last(&world).rewrites.len(), last(&world).decision.unwrap().rewrite), (0, 0));
    rewriter.knob.panic_next(1);
    ask(&service, 2).await;
    assert!(last(&world).rewrites.is_empty());
    rewriter.knob.delay(Duration::from_secs(3_600));
    let began = tokio::time::Instant::now();
    ask(&service, 3).await;
    assert!(last(&world).rewrites.is_empty());
    let waited = Duration::from_millis(config().episode.rewrite_deadline_ms);
    assert!(began.elapsed() >= waited && began.elapsed() < waited * 2, "{:?}", began.elapsed());
    assert_eq!(assert_laws(&world, &service).await.door.answered, 3);
}

#[tokio::test(start_paused = true)]
async fn a_query_with_its_own_candidates_is_not_rewritten() {
    let (world, rewriter) = rewriting().await;
    let service = start(&world, config()).await;
    let given = vec![Document { id: "x".into(), text: "y".to_owned(), ..Document::default() }];
    let own = Query { candidates: Some(given), ..query(0) };
    service.answer(own, Overrides::default()).await.unwrap();
    assert_eq!(rewriter.knob.calls(), 0);
    assert_eq!(last(&world).decision.unwrap().rewrite, 0);
}
