//! From a question over HTTP to a verdict, on embedded adapters.

use crate::gateway::{Server, json};
use crate::tiny::{Tiny, start, until};
use regrade::config::ServerConfig;
use serde_json::json as body;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names every service shows after one question with feedback.
const SHOWN: [&str; 9] = [
    "regrade_episode_requests_total",
    "regrade_episode_duration_seconds",
    "regrade_reranker_batch_queries",
    "regrade_judge_episodes_total",
    "regrade_feedback_total",
    "regrade_reward_value",
    "regrade_replay_samples",
    "regrade_http_requests_total",
    "regrade_http_request_duration_seconds",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_fed_back_judged_and_measured() {
    let tiny = Tiny::new();
    let service = start(&tiny.config()).await;
    let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
    assert_eq!(server.get("/health/ready").await.status(), 200);

    let question = body!({ "query": "who has the key of room 3?" });
    let reply = server.post("/v1/answer", question.to_string()).await;
    assert_eq!(reply.status(), 200);
    let reply = json(reply).await;
    let k = reply["k"].as_u64().unwrap();
    assert!((1..=10).contains(&k), "{reply}");
    let propensity = reply["propensity"].as_f64().unwrap();
    assert!(propensity > 0.0 && propensity <= 1.0, "{reply}");
    let timings = &reply["timings"];
    let stages = ["retrieve_ms", "decide_ms", "generate_ms"];
    let spent: f64 = stages.iter().map(|stage| timings[stage].as_f64().unwrap()).sum();
    assert!(spent > 0.0 && spent <= timings["total_ms"].as_f64().unwrap() + 1.0, "{timings}");
    assert_eq!(reply["policy"]["version"], 0);

    let verdict = body!({ "decision_id": reply["decision_id"], "references": ["dan"] });
    assert_eq!(server.post("/v1/feedback", verdict.to_string()).await.status(), 202);
    until("judged", async || service.observe().await.judge.is_some_and(|j| j.judged == 1)).await;
    until("kept", async || {
        service.observe().await.replay_buffer.is_some_and(|buffer| buffer.samples == 1)
    })
    .await;
    // Second thoughts: a value beside the references revises the reward.
    // Its clock is a thousand years ahead.
    let year_3000 = 32_503_680_000_000_u64;
    let id = &reply["decision_id"];
    let thumb = body!({ "decision_id": id, "id": "t", "value": 0.0, "time_ms": year_3000 });
    let revised = server.post("/v1/feedback", thumb.to_string()).await;
    assert_eq!(revised.status(), 202);
    assert_eq!(json(revised).await["status"], "revised");
    until("revised", async || service.observe().await.judge.is_some_and(|j| j.revisions == 1))
        .await;
    until("replaced", async || {
        service.observe().await.replay_buffer.is_some_and(|b| b.revised == 1 && b.samples == 1)
    })
    .await;
    // The buffer has it from the log, so the door finds it there too.
    let repeat = server.post("/v1/feedback", thumb.to_string()).await;
    assert_eq!(repeat.status(), 200, "known already");
    let id = reply["decision_id"].as_str().unwrap();
    let known = json(server.get(&format!("/v1/decisions/{id}")).await).await;
    assert_eq!(known["episode"]["query"]["query"], question["query"]);
    let revisions = known["revisions"].as_array().unwrap();
    assert_eq!(revisions.len(), 2, "{known}");
    assert_eq!(known["reward"]["revision"], 1);
    assert_eq!(known["reward"]["replaces"], revisions[0]["reward"]["total"]);
    let said_ms = known["reward"]["feedback"][1]["time_ms"].as_u64().unwrap();
    assert!(said_ms <= known["reward"]["judged_ms"].as_u64().unwrap(), "the time of its coming");
    let parts = known["reward"]["reward"]["parts"].as_array().unwrap();
    let sources: BTreeSet<&str> =
        parts.iter().map(|part| part["source"].as_str().unwrap()).collect();
    assert!(sources.contains("human") && sources.contains("reference"), "{known}");
    let observed = service.observe().await;
    assert!(observed.door.is_conserved() && observed.judge.unwrap().is_conserved());

    let text = server.get("/metrics").await.text().await.unwrap();
    for name in SHOWN {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
    let known: BTreeSet<&str> = crate::tidy::metrics().collect();
    for line in text.lines().filter(|line| line.starts_with("# TYPE regrade_")) {
        let name = line.split_whitespace().nth(2).unwrap();
        assert!(known.contains(name), "{name} is shown and not documented");
    }
    server.stop().await;
    assert!(service.drain(crate::tiny::PATIENCE).await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerank_of_the_real_service_tells_its_propensity_and_time() {
    let tiny = Tiny::new();
    let service = start(&tiny.config()).await;
    let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
    let documents = ["room 1 is with bob", "nothing of note", "room 2 is with cyd"];
    let request = body!({ "query": "who is in room 2?", "documents": documents, "top_n": 2 });
    let reply = json(server.post("/rerank", request.to_string()).await).await;
    let results = reply["results"].as_array().unwrap();
    assert!((1..=2).contains(&results.len()), "{reply}");
    assert!(reply["regrade"]["propensity"].as_f64().unwrap() > 0.0);
    assert!(reply["regrade"]["timings"]["decide_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(reply["regrade"]["timings"]["retrieve_ms"], 0.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_before_the_service_and_the_service_goes_on() {
    let tiny = Tiny::new();
    let service = start(&tiny.config()).await;
    let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
    let long = body!({ "query": "a".repeat(100_000) }).to_string();
    let reply = server.post("/v1/answer", long).await;
    assert_eq!(reply.status(), 413);
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("server.max_query_chars"), "{message}");
    let reply = server.post("/v1/answer", b"{\"query\": \"\xff\"}".to_vec()).await;
    assert_eq!(reply.status(), 400);
    assert_eq!(json(reply).await["error"]["code"], "invalid_utf8");
    let orphan = body!({ "decision_id": "d-unknown", "value": 1.0 }).to_string();
    let reply = server.post("/v1/feedback", orphan).await;
    assert_eq!(reply.status(), 404);
    assert_eq!(json(reply).await["error"]["code"], "unknown_decision");
    assert_eq!(service.observe().await.door.accepted, 0);
    let good = server.post("/v1/answer", body!({ "query": "room 1" }).to_string()).await;
    assert_eq!(good.status(), 200);
    server.stop().await;
}
