//! Bad input: each kind has its status, its code, the field at fault, and a remedy.

use super::{ScriptedDoor, Server, json};
use actors::service::ServiceError;
use regrade::config::ServerConfig;

/// Posts a body and checks `(status, code, param)`; gives the message.
async fn refused(
    server: &Server,
    path: &str,
    body: impl Into<reqwest::Body>,
    expect: (u16, &str, Option<&str>),
) -> String {
    let reply = server.post(path, body).await;
    let status = reply.status().as_u16();
    let error = json(reply).await["error"].clone();
    let found = (status, error["code"].as_str().unwrap(), error["param"].as_str());
    assert_eq!(found, expect, "{error}");
    assert!(error["type"].is_string());
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_a_400_that_says_where() {
    let server = Server::start(ScriptedDoor::default()).await;
    let malformed = (400, "malformed_json", None);
    let message = refused(&server, "/v1/answer", "{\"query\": \n oops}", malformed).await;
    assert!(message.contains("line 2 column 2"), "{message}");
    refused(&server, "/v1/answer", "", malformed).await;
    refused(&server, "/v1/answer", "{\"query\": \"q\"} more", malformed).await;
    let utf8 = refused(&server, "/v1/answer", vec![b'"', 0xff], (400, "invalid_utf8", None)).await;
    assert!(utf8.contains("UTF-8") && utf8.contains("byte 1"), "{utf8}");
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let server = Server::start(ScriptedDoor::default()).await;
    for (path, body, param) in [
        ("/v1/answer", r#"{}"#, "query"),
        ("/v1/answer", r#"{"query": 3}"#, "query"),
        ("/v1/answer", r#"{"query": "  "}"#, "query"),
        ("/v1/answer", r#"{"query": "q", "qwery": 1}"#, "qwery"),
        ("/v1/answer", r#"{"query": "q", "candidates": []}"#, "candidates"),
        (
            "/v1/answer",
            r#"{"query": "q", "candidates": ["a", {"id": "0", "text": "b"}]}"#,
            "candidates[1].id",
        ),
        ("/v1/answer", r#"{"query": "q", "top_n": 0}"#, "top_n"),
        ("/v1/answer", r#"{"query": "q", "filter": ["en"]}"#, "filter"),
        ("/v1/answer", r#"{"query": "q", "filter": {"lang": "en"}}"#, "filter.lang"),
        ("/v1/answer", r#"{"query": "q", "filter": {"lang": [1]}}"#, "filter.lang[0]"),
        ("/v1/answer", r#"{"query": "q", "filter": {"lang": []}}"#, "filter.lang"),
        ("/v1/answer", r#"{"query": "q", "filter": {"": ["en"]}}"#, "filter"),
        (
            "/v1/answer",
            r#"{"query": "q", "candidates": ["a"], "filter": {"lang": ["en"]}}"#,
            "filter",
        ),
        ("/v1/rerank", r#"{"query": "q"}"#, "documents"),
        ("/v1/rerank", r#"{"query": "q", "documents": ["a", 2]}"#, "documents[1]"),
        ("/v1/rerank", r#"{"query": "q", "documents": ["a"], "top_n": 0}"#, "top_n"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": 2}"#, "value"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": -0.5}"#, "value"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": true}"#, "value"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": 1, "kind": "applause"}"#, "kind"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": 1, "kind": "citation"}"#, "kind"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "correction": ""}"#, "correction"),
        ("/v1/feedback", r#"{"decision_id": "d-1", "value": 1, "time_ms": -5}"#, "time_ms"),
        ("/v1/feedback", r#"{"value": 1}"#, "decision_id"),
    ] {
        refused(&server, path, body, (400, "invalid_field", Some(param))).await;
    }
}

#[tokio::test]
async fn too_much_is_a_413_that_names_the_limit_and_its_setting() {
    let limits = ServerConfig { max_documents: 2, ..ServerConfig::default() };
    let server = Server::start_with(ScriptedDoor::default(), limits).await;
    let long = format!("{{\"query\": \"{}\"}}", "é".repeat(100_000));
    let message =
        refused(&server, "/v1/answer", long, (413, "query_too_long", Some("query"))).await;
    assert!(message.contains("100000") && message.contains("server.max_query_chars"), "{message}");
    let many = r#"{"query": "q", "documents": ["a", "b", "c"]}"#;
    refused(&server, "/rerank", many, (413, "too_many_documents", Some("documents"))).await;
    let huge = vec![b' '; 5 << 20];
    let message = refused(&server, "/v1/answer", huge, (413, "body_too_large", None)).await;
    assert!(message.contains("server.max_body_bytes"), "{message}");
}

#[tokio::test]
async fn another_media_type_is_a_415() {
    let server = Server::start(ScriptedDoor::default()).await;
    let request = server.client.post(format!("{}/v1/answer", server.url)).body("query=q");
    let reply = request.header("content-type", "text/plain").send().await.unwrap();
    assert_eq!(reply.status(), 415);
    assert_eq!(json(reply).await["error"]["code"], "unsupported_media_type");
}

#[tokio::test]
async fn unknown_routes_methods_and_decisions_are_told_apart() {
    let server = Server::start(ScriptedDoor::default()).await;
    let route = server.get("/v1/anwser").await;
    assert_eq!(route.status(), 404);
    assert_eq!(json(route).await["error"]["code"], "unknown_route");
    let method = server.get("/v1/answer").await;
    assert_eq!(method.status(), 405);
    assert_eq!(method.headers()["allow"], "POST");
    assert_eq!(json(method).await["error"]["code"], "method_not_allowed");
    let orphan = r#"{"decision_id": "d-404", "value": 1}"#;
    let expect = (404, "unknown_decision", Some("decision_id"));
    refused(&server, "/v1/feedback", orphan, expect).await;
    let full = r#"{"decision_id": "d-full", "value": 1}"#;
    let message = refused(&server, "/v1/feedback", full, (409, "too_much_feedback", None)).await;
    assert!(message.contains("service.judge.feedback_max"), "{message}");
    let not_a_number = r#"{"decision_id": "d-1", "value": NaN}"#;
    refused(&server, "/v1/feedback", not_a_number, (400, "malformed_json", None)).await;
    let missing = server.get("/v1/decisions/d-404").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(json(missing).await["error"]["code"], "unknown_decision");
    let empty = r#"{"decision_id": "d-1"}"#;
    refused(&server, "/v1/feedback", empty, (422, "empty_feedback", None)).await;
}

#[tokio::test]
async fn what_the_service_says_becomes_a_status() {
    let failed =
        |stage, timed_out| ServiceError::Failed { stage, reason: "it broke".to_owned(), timed_out };
    for (error, status, code) in [
        (ServiceError::Overloaded, 429, "overloaded"),
        (ServiceError::NotServing("draining".to_owned()), 503, "not_serving"),
        (ServiceError::Refused("no candidates".to_owned()), 422, "refused"),
        (
            ServiceError::Unavailable { stage: "retrieve", reason: "it is away".to_owned() },
            503,
            "unavailable",
        ),
        (failed("retrieve", false), 502, "failed"),
        (failed("generate", true), 504, "deadline"),
        (failed("decide", false), 500, "failed"),
        (failed("log", false), 503, "failed"),
    ] {
        let door = ScriptedDoor { fails: Some(error), ..ScriptedDoor::default() };
        let server = Server::start(door).await;
        let reply = server.post("/v1/answer", r#"{"query": "q"}"#).await;
        assert_eq!(reply.status(), status);
        assert_eq!(reply.headers().contains_key("retry-after"), status == 429 || status == 503);
        assert_eq!(json(reply).await["error"]["code"], code);
    }
}
