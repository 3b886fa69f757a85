//! Deadlines, readiness and the way down.

use super::{ScriptedDoor, Server, json};
use regrade::config::ServerConfig;
use regrade::gateway::GatewayError;
use std::sync::Arc;
use tokio::sync::Semaphore;

fn stuck() -> ScriptedDoor {
    ScriptedDoor { permits: Arc::new(Semaphore::new(0)), ..ScriptedDoor::default() }
}

#[tokio::test]
async fn a_request_past_its_deadline_is_a_504() {
    let limits = ServerConfig { request_deadline_ms: 20, ..ServerConfig::default() };
    let server = Server::start_with(stuck(), limits).await;
    let reply = server.post("/v1/answer", r#"{"query": "q"}"#).await;
    assert_eq!(reply.status(), 504);
    assert_eq!(json(reply).await["error"]["code"], "deadline");
}

#[tokio::test]
async fn a_service_that_cannot_answer_is_alive_and_not_ready() {
    let server = Server::start(ScriptedDoor { is_ready: false, ..ScriptedDoor::default() }).await;
    assert_eq!(server.get("/health/live").await.status(), 200);
    let reply = server.get("/health/ready").await;
    assert_eq!(reply.status(), 503);
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("reranker is down"), "{message}");
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_finish() {
    let door = stuck();
    let (permits, arrived) = (Arc::clone(&door.permits), Arc::clone(&door.arrived));
    let server = Server::start(door).await;
    let request = server.client.post(format!("{}/v1/answer", server.url));
    let request = request.header("content-type", "application/json").body(r#"{"query": "q"}"#);
    let reply = tokio::spawn(request.send());
    arrived.acquire().await.unwrap().forget();
    server.stop.send(()).unwrap();
    permits.add_permits(1);
    assert_eq!(reply.await.unwrap().unwrap().status(), 200);
    server.ended.await.unwrap().unwrap();
    let refused = server.client.get(format!("{}/ping", server.url)).send().await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_drain_past_its_deadline_is_an_error() {
    let door = stuck();
    let arrived = Arc::clone(&door.arrived);
    let limits = ServerConfig { drain_deadline_ms: 20, ..ServerConfig::default() };
    let server = Server::start_with(door, limits).await;
    let request = server.client.post(format!("{}/v1/answer", server.url));
    let request = request.header("content-type", "application/json").body(r#"{"query": "q"}"#);
    let reply = tokio::spawn(request.send());
    arrived.acquire().await.unwrap().forget();
    server.stop.send(()).unwrap();
    let ended = server.ended.await.unwrap();
    assert!(matches!(ended, Err(GatewayError::DrainDeadline { ms: 20 })), "{ended:?}");
    reply.abort();
}
