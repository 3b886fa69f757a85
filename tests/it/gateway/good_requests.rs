//! What comes back when all is well.

use super::{ScriptedDoor, Server, json};
use serde_json::json as body;

#[tokio::test]
async fn an_answer_carries_its_decision_and_its_documents() {
    let server = Server::start(ScriptedDoor::default()).await;
    let request = body!({ "query": "capital of France?", "id": "q-9" });
    let reply = server.post("/v1/answer", request.to_string()).await;
    assert_eq!(reply.status(), 200);
    let reply = json(reply).await;
    assert_eq!(reply["id"], "q-9");
    assert_eq!(reply["answer"], "Paris");
    assert_eq!(reply["citations"][0], "indexed");
    assert_eq!(reply["decision_id"], "d-1");
    assert_eq!(reply["policy"], body!({ "version": 3, "digest": "abc" }));
    assert_eq!(reply["k"], 1);
    assert_eq!(reply["usage"]["context_tokens"], 11);
    assert_eq!(reply["propensity"], 0.25);
    let timings =
        body!({ "retrieve_ms": 0.5, "decide_ms": 1.5, "generate_ms": 1.0, "total_ms": 3 });
    assert_eq!(reply["timings"], timings);
}

#[tokio::test]
async fn candidates_bring_their_metadata_and_get_it_back() {
    let server = Server::start(ScriptedDoor::default()).await;
    let metadata = body!({ "lang": "fr" });
    let candidate = body!({ "text": "Paris", "metadata": metadata });
    let request = body!({ "query": "capital?", "candidates": [candidate, "plain"] });
    let reply = json(server.post("/v1/answer", request.to_string()).await).await;
    assert_eq!(reply["documents"][1]["metadata"], metadata);
    assert_eq!(reply["documents"][0]["metadata"], body!({}));
    assert_eq!(reply["degraded"], body!(null));
}

#[tokio::test]
async fn every_rerank_route_takes_text_and_objects_and_keeps_their_positions() {
    let server = Server::start(ScriptedDoor::default()).await;
    let request = body!({
        "model": "any",
        "query": "q",
        "documents": ["first", { "id": "b", "title": "t", "text": "second" }, "third"],
        "top_n": 2,
        "return_documents": true,
    });
    for route in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let reply = server.post(route, request.to_string()).await;
        assert_eq!(reply.status(), 200, "{route}");
        let reply = json(reply).await;
        let indices: Vec<_> =
            reply["results"].as_array().unwrap().iter().map(|r| r["index"].clone()).collect();
        assert_eq!(indices, [body!(2), body!(1)], "{route}");
        assert_eq!(reply["results"][1]["document"]["id"], "b");
        assert_eq!(reply["results"][1]["document"]["text"], "second");
        let score = reply["results"][0]["relevance_score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score));
        assert_eq!(reply["regrade"]["decision_id"], "d-1");
        assert_eq!(reply["regrade"]["policy_version"], 3);
        assert_eq!(reply["regrade"]["k"], 2);
        assert_eq!(reply["regrade"]["propensity"], 0.25);
        assert_eq!(reply["regrade"]["timings"]["decide_ms"], 1.5);
    }
}

#[tokio::test]
async fn feedback_is_told_where_it_stands() {
    let server = Server::start(ScriptedDoor::default()).await;
    for (id, status) in [("d-1", "joined"), ("d-2", "revised"), ("d-3", "pending")] {
        let request = body!({ "decision_id": id, "value": 1.0 });
        let reply = server.post("/v1/feedback", request.to_string()).await;
        assert_eq!(reply.status(), 202);
        let reply = json(reply).await;
        assert_eq!((&reply["id"], &reply["status"]), (&body!("f-1"), &body!(status)));
    }
    let repeat = body!({ "decision_id": "d-2", "id": "again", "value": 1.0 });
    let reply = server.post("/v1/feedback", repeat.to_string()).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(json(reply).await["is_repeat"], true);
    for said in [
        body!({ "kind": "correction", "correction": "Lyon" }),
        body!({ "kind": "citation", "documents": ["p1"] }),
        body!({ "kind": "references", "references": ["Paris"] }),
        body!({ "kind": "value", "value": 0 }),
    ] {
        let mut request = said;
        request["decision_id"] = body!("d-1");
        assert_eq!(server.post("/v1/feedback", request.to_string()).await.status(), 202);
    }
}

#[tokio::test]
async fn health_metrics_info_and_models_answer() {
    let server = Server::start(ScriptedDoor::default()).await;
    for route in ["/health/live", "/health/ready", "/health", "/ping"] {
        assert_eq!(server.get(route).await.status(), 200, "{route}");
    }
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("regrade_http_requests_total"), "{metrics}");
    assert!(metrics.contains("route=\"/health/live\""), "{metrics}");
    let info = json(server.get("/info").await).await;
    assert_eq!(info["policy"]["version"], 3);
    assert_eq!(info["config_digest"].as_str().unwrap().len(), 64);
    assert_eq!(json(server.get("/v1/models").await).await["data"][0]["id"], "regrade");
}

#[tokio::test]
async fn a_request_id_is_echoed_or_drawn() {
    let server = Server::start(ScriptedDoor::default()).await;
    let request = server.client.get(format!("{}/ping", server.url));
    let reply = request.header("x-request-id", "mine").send().await.unwrap();
    assert_eq!(reply.headers()["x-request-id"], "mine");
    let drawn = server.get("/no/such").await;
    assert!(drawn.headers()["x-request-id"].to_str().unwrap().starts_with("req-"));
}
