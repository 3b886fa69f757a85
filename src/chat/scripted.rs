//! A chat server on loopback that does as a script says: well-behaved, or wrong in one of the ways
//! that servers are wrong. For tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::{ChatClient, EndpointConfig};
use actors::clock::Clock;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Says this as it should, streamed if asked to, with usage.
    Say(String),
    /// The same without usage.
    SayUncounted(String),
    /// Answers with this status, `Retry-After` and body.
    Status(u16, Option<String>, String),
    /// Answers 200 with this type and body.
    Raw(&'static str, String),
    /// Never answers.
    Hang,
    /// Streams one event, and then comments for ever.
    Drip,
    /// Streams the whole reply, and then comments for ever instead of an end.
    Linger(String),
    /// Breaks the connection in the middle of the reply.
    Cut,
    /// Sends a reply without end.
    Flood,
}

type Otherwise = dyn Fn(&Value) -> Act + Send + Sync;

/// The server; gone when dropped.
pub(crate) struct Scripted {
    pub(crate) url: String,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

struct Inner {
    script: Mutex<VecDeque<Act>>,
    otherwise: Box<Otherwise>,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
    running: AtomicUsize,
    running_max: AtomicUsize,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Plays the script, then does as `otherwise` says.
    pub(crate) async fn start(
        script: impl IntoIterator<Item = Act>,
        otherwise: impl Fn(&Value) -> Act + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(Inner {
            script: Mutex::new(script.into_iter().collect()),
            otherwise: Box::new(otherwise),
            seen: Mutex::default(),
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
        });
        let app =
            Router::new().route("/v1/chat/completions", post(serve)).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner, task }
    }

    /// Says the same to everybody.
    pub(crate) async fn saying(text: &str) -> Self {
        let text = text.to_owned();
        Self::start([], move |_| Act::Say(text.clone())).await
    }

    /// The bodies of the requests so far.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.inner.seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    /// The headers of a request.
    pub(crate) fn header(&self, request: usize, name: &str) -> Option<String> {
        let seen = self.inner.seen.lock().unwrap();
        seen[request].0.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    /// Most requests that were under way at once.
    pub(crate) fn running_max(&self) -> usize {
        self.inner.running_max.load(Ordering::SeqCst)
    }

    /// An endpoint with short pauses and short patience.
    pub(crate) fn endpoint(&self) -> EndpointConfig {
        EndpointConfig {
            url: self.url.clone(),
            model: "scripted".to_owned(),
            connect_ms: 1_000,
            first_byte_ms: 2_000,
            gap_ms: 300,
            deadline_ms: 5_000,
            backoff_ms: 5,
            backoff_max_ms: 20,
            reply_bytes_max: 64 << 10,
            ..EndpointConfig::default()
        }
    }

    pub(crate) fn client(&self, config: EndpointConfig) -> ChatClient {
        ChatClient::new("test", config, Clock::System, 7).unwrap()
    }
}

/// The text of all messages of a request, as a model would read it.
pub(crate) fn prompt_of(body: &Value) -> String {
    let messages = body["messages"].as_array().unwrap();
    let texts = messages.iter().map(|m| m["content"].as_str().unwrap());
    texts.collect::<Vec<_>>().join("\n\n")
}

async fn serve(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
    inner.running_max.fetch_max(running, Ordering::SeqCst);
    inner.seen.lock().unwrap().push((headers, body.clone()));
    let next = inner.script.lock().unwrap().pop_front();
    let act = next.unwrap_or_else(|| (inner.otherwise)(&body));
    let is_stream = body["stream"] == true;
    if matches!(act, Act::Say(_)) {
        // Long enough for requests to overlap where they may.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let response = perform(act, is_stream).await;
    inner.running.fetch_sub(1, Ordering::SeqCst);
    response
}

async fn perform(act: Act, is_stream: bool) -> Response {
    match act {
        Act::Say(text) if is_stream => sse(Body::from(events(&text, true))),
        Act::SayUncounted(text) if is_stream => sse(Body::from(events(&text, false))),
        Act::Say(text) => json_body(Body::from(whole(&text, true))),
        Act::SayUncounted(text) => json_body(Body::from(whole(&text, false))),
        Act::Status(status, retry_after, body) => {
            let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            let response = match retry_after {
                Some(text) => response.header("retry-after", text),
                None => response,
            };
            response.body(Body::from(body)).unwrap()
        }
        Act::Raw(kind, body) => typed(kind, Body::from(body)),
        Act::Hang => std::future::pending().await,
        Act::Drip => sse(endless(delta("drip"))),
        Act::Linger(text) => {
            let events = events(&text, false);
            sse(endless(events.trim_end_matches("data: [DONE]\n\n").to_owned()))
        }
        Act::Cut => {
            let first = if is_stream { delta("half an ans") } else { "{\"choices\": [".to_owned() };
            let cut = std::io::Error::other("cut");
            let pieces = futures::stream::iter([Ok(first), Err(cut)]);
            let body = Body::from_stream(pieces);
            if is_stream { sse(body) } else { json_body(body) }
        }
        Act::Flood => {
            let pieces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(delta("more ")));
            sse(Body::from_stream(pieces))
        }
    }
}

/// Something, and then comments that keep the connection alive.
fn endless(first: String) -> Body {
    let comments = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, std::io::Error>(": still here\n\n".to_owned()), ()))
    });
    Body::from_stream(futures::stream::once(async { Ok(first) }).chain(comments))
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn usage(text: &str) -> Value {
    let completion = text.split_whitespace().count();
    json!({"prompt_tokens": 1_000, "completion_tokens": completion, "total_tokens": 1_000 + completion})
}

fn events(text: &str, is_counted: bool) -> String {
    let mut out = format!(
        "data: {}\n\n",
        json!({"model": "scripted-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    );
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    out.extend(words.iter().map(|word| delta(word)));
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    out.push_str(&format!("data: {end}\n\n"));
    if is_counted {
        let last = json!({"choices": [], "usage": usage(text)});
        out.push_str(&format!("data: {last}\n\n"));
    }
    out + "data: [DONE]\n\n"
}

fn whole(text: &str, is_counted: bool) -> String {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    let choices =
        json!([{"index": 0, "message": message, "finish_reason": "stop", "logprobs": null}]);
    let usage = if is_counted { usage(text) } else { Value::Null };
    json!({"id": "c", "object": "chat.completion", "model": "scripted-1", "choices": choices, "usage": usage})
        .to_string()
}

fn sse(body: Body) -> Response {
    typed("text/event-stream; charset=utf-8", body)
}

fn json_body(body: Body) -> Response {
    typed("application/json", body)
}

fn typed(kind: &'static str, body: Body) -> Response {
    Response::builder().header("content-type", kind).body(body).unwrap()
}
