//! The client against a server that misbehaves, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::scripted::{Act, Scripted, prompt_of};
use super::{
    ChatClient, ChatError, ChatFailure, ChatReply, ChatRequest, EndpointConfig, Finish, Message,
    Role, TokenField, TokenUsage,
};
use actors::clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

fn request(text: &str) -> ChatRequest {
    let messages = vec![Message { role: Role::User, content: text.to_owned() }];
    ChatRequest { messages, max_tokens: 16, ..ChatRequest::default() }
}

async fn ask(client: &ChatClient) -> Result<ChatReply, ChatFailure> {
    client.complete(&request("hello there")).await
}

/// The reply (or failure) after a script, with the number of requests it took.
async fn played(
    script: Vec<Act>,
    change: impl Fn(&mut EndpointConfig),
) -> (Result<ChatReply, ChatFailure>, usize) {
    let server = Scripted::start(script, |_| Act::Say("fine at last".to_owned())).await;
    let mut config = server.endpoint();
    change(&mut config);
    let result = ask(&server.client(config)).await;
    (result, server.seen().len())
}

fn plain(config: &mut EndpointConfig) {
    config.stream = false;
}

#[tokio::test]
async fn streamed_and_plain_replies_are_the_same() {
    for is_stream in [true, false] {
        let server = Scripted::saying("the White Nile [1]").await;
        let config = EndpointConfig { stream: is_stream, ..server.endpoint() };
        let reply = ask(&server.client(config)).await.unwrap();
        assert_eq!(reply.text, "the White Nile [1]");
        assert_eq!((reply.finish, reply.model.as_str()), (Finish::Stop, "scripted-1"));
        let usage = TokenUsage { prompt: 1_000, completion: 4, is_estimated: false };
        assert_eq!((reply.usage, reply.lost), (usage, 0));
    }
}

#[tokio::test]
async fn the_request_has_the_fields_of_the_api_and_no_others() {
    let server = Scripted::saying("x").await;
    let full = ChatRequest {
        seed: Some(5),
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["\n".to_owned()],
        response_format: Some(json!({"type": "json_object"})),
        ..request("hi")
    };
    server.client(server.endpoint()).complete(&full).await.unwrap();
    let older =
        EndpointConfig { stream: false, token_field: TokenField::MaxTokens, ..server.endpoint() };
    server.client(older).complete(&request("hi")).await.unwrap();
    let seen = server.seen();
    assert_eq!(
        seen[0],
        json!({
            "model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": true,
            "stream_options": {"include_usage": true}, "max_completion_tokens": 16, "seed": 5,
            "temperature": 0.5, "top_p": 0.9, "stop": ["\n"],
            "response_format": {"type": "json_object"}
        })
    );
    assert_eq!(
        seen[1],
        json!({"model": "scripted", "messages": [{"role": "user", "content": "hi"}],
            "stream": false, "max_tokens": 16})
    );
    assert_eq!(prompt_of(&seen[1]), "hi");
    assert_eq!(server.header(0, "authorization"), None);
}

#[tokio::test]
async fn the_key_comes_from_the_variable_that_is_named() {
    let server = Scripted::saying("x").await;
    let bearer = format!("Bearer {}", std::env::var("PATH").unwrap());
    // Set everywhere; its value stands in for a key.
    let config = EndpointConfig { api_key_env: Some("PATH".into()), ..server.endpoint() };
    ask(&server.client(config)).await.unwrap();
    assert_eq!(server.header(0, "authorization").as_deref(), Some(bearer.as_str()));
    let config =
        EndpointConfig { api_key_env: Some("REGRADE_NO_SUCH_KEY".into()), ..server.endpoint() };
    let error = ChatClient::new("test", config, Clock::System, 0).unwrap_err().to_string();
    assert!(error.contains("`REGRADE_NO_SUCH_KEY`") && error.contains("is not set"), "{error}");
}

#[tokio::test]
async fn busy_and_broken_servers_are_asked_again() {
    let error = |status| Act::Status(status, None, String::new());
    for script in [vec![error(429)], vec![error(500), error(503)], vec![Act::Cut], vec![error(408)]]
    {
        let failures = script.len();
        for change in [plain, |_: &mut EndpointConfig| {}] {
            let (reply, requests) = played(script.clone(), change).await;
            assert_eq!(reply.unwrap().text, "fine at last");
            assert_eq!(requests, failures + 1);
        }
    }
}

#[tokio::test]
async fn attempts_are_counted_and_what_they_may_have_cost_too() {
    let script = vec![Act::Cut, Act::Status(429, None, String::new()), Act::Cut, Act::Cut];
    let (failed, requests) = played(script.clone(), |_| {}).await;
    let failed = failed.unwrap_err();
    assert!(matches!(failed.error, ChatError::Lost(_)), "{failed}");
    assert_eq!((requests, failed.attempts, failed.lost), (3, 3, 2));
    let (reply, _) = played(script, |config| config.attempts_max = 9).await;
    assert_eq!(reply.unwrap().lost, 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_told_in_the_servers_words() {
    let body = json!({"error": {"message": "context is too long", "type": "invalid_request_error",
        "param": null, "code": "context_length_exceeded"}});
    for (status, body, told) in [
        (400, body.to_string(), "400: context is too long (context_length_exceeded)"),
        (401, json!({"error": "bad key"}).to_string(), "401: bad key"),
        (404, json!({"detail": "Not Found"}).to_string(), "404: Not Found"),
        (422, "<html>no</html>".to_owned(), "422: <html>no</html>"),
        (301, String::new(), "301: no reason given"),
    ] {
        let (failed, requests) = played(vec![Act::Status(status, None, body)], |_| {}).await;
        let failed = failed.unwrap_err();
        assert!(failed.to_string().contains(told), "{failed}");
        assert_eq!((requests, failed.lost), (1, 0));
        assert_eq!(failed.error.is_refusal(), matches!(status, 400 | 422));
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_but_never_past_the_deadline() {
    let busy = |after: &str| vec![Act::Status(429, Some(after.to_owned()), String::new())];
    let began = Instant::now();
    let (reply, _) = played(busy("1"), |_| {}).await;
    assert_eq!(reply.unwrap().text, "fine at last");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    for after in ["60", "Tue, 31 Dec 2999 23:59:59 GMT"] {
        let began = Instant::now();
        let (failed, requests) = played(busy(after), |_| {}).await;
        assert!(matches!(failed.unwrap_err().error, ChatError::Status { status: 429, .. }));
        assert_eq!(requests, 1);
        assert!(began.elapsed() < Duration::from_secs(4), "it waited for nothing");
    }
    let (reply, _) = played(busy("Sun, 06 Nov 1994 08:49:37 GMT"), |_| {}).await;
    assert!(reply.is_ok(), "a date gone by asks for no wait");
}

#[tokio::test]
async fn silence_is_noticed_before_during_and_behind_comments() {
    let impatient = |config: &mut EndpointConfig| {
        config.first_byte_ms = 500;
        config.gap_ms = 500;
        config.attempts_max = 1;
    };
    for act in [Act::Hang, Act::Drip] {
        let (failed, _) = played(vec![act.clone()], impatient).await;
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, ChatError::Stalled(_)), "{failed}");
        assert_eq!(failed.lost, 1, "it may have cost something");
        let (reply, _) = played(vec![act], |config| {
            impatient(config);
            config.attempts_max = 4;
        })
        .await;
        assert_eq!(reply.unwrap().text, "fine at last");
    }
}

#[tokio::test]
async fn the_deadline_holds_over_all_attempts() {
    let began = Instant::now();
    let (failed, _) = played(vec![Act::Hang, Act::Hang], |config| {
        config.first_byte_ms = 60_000;
        config.deadline_ms = 300;
    })
    .await;
    assert_eq!(failed.unwrap_err().error, ChatError::Deadline(Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_no_chat_completion_is_said_to_be_none() {
    let json = "application/json";
    let events = "text/event-stream";
    let cases = [
        (json, "{\"choices\": []}", "holds no choice"),
        (json, "{\"choices\": [{\"mess", "ends too early"),
        (json, "{\"choices\": {}}", "another shape"),
        (json, "<html>", "no JSON"),
        (json, "{\"choices\": [{\"message\": {\"content\": 7}}]}", "another shape"),
        (events, "data: {\"choices\": [{\"del\n\n", "ends too early"),
        (events, "data: NaN\n\n", "no JSON"),
    ];
    for (kind, body, told) in cases {
        let (failed, requests) = played(vec![Act::Raw(kind, body.to_owned())], |_| {}).await;
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, ChatError::Malformed(_)), "{failed}");
        assert!(failed.to_string().contains(told), "{failed}");
        assert_eq!(requests, 1, "asking again would cost again");
    }
}

#[tokio::test]
async fn a_stream_that_just_ends_is_lost_and_an_error_within_it_is_told() {
    let events = "text/event-stream";
    let half = "data: {\"choices\": [{\"delta\": {\"content\": \"half\"}}]}\n\n".to_owned();
    let once = |config: &mut EndpointConfig| config.attempts_max = 1;
    let (failed, _) = played(vec![Act::Raw(events, half.clone())], once).await;
    assert!(matches!(failed.unwrap_err().error, ChatError::Lost(_)));
    let failing = format!("{half}data: {{\"error\": {{\"message\": \"out of memory\"}}}}\n\n");
    let (failed, _) = played(vec![Act::Raw(events, failing)], once).await;
    assert!(failed.unwrap_err().to_string().contains("500: out of memory"));
    let undone = format!(
        "{half}data: {{\"choices\": [{{\"delta\": {{}}, \"finish_reason\": \"length\"}}]}}\n\n"
    );
    let (reply, _) = played(vec![Act::Raw(events, undone)], once).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish),
        ("half", Finish::Length),
        "no [DONE] is no harm"
    );
}

#[tokio::test]
async fn a_reply_that_is_over_needs_no_end_of_the_stream() {
    let (reply, requests) = played(vec![Act::Linger("all of it".to_owned())], |_| {}).await;
    assert_eq!((reply.unwrap().text.as_str(), requests), ("all of it", 1));
}

#[tokio::test]
async fn a_giant_reply_is_cut_off() {
    let (failed, requests) = played(vec![Act::Flood], |_| {}).await;
    assert_eq!(failed.unwrap_err().error, ChatError::TooLarge { limit: 64 << 10 });
    assert_eq!(requests, 1);
    let giant =
        format!("{{\"choices\": [{{\"message\": {{\"content\": \"{}\"}}}}]}}", "x".repeat(100_000));
    let (failed, _) = played(vec![Act::Raw("application/json", giant)], plain).await;
    assert_eq!(failed.unwrap_err().error, ChatError::TooLarge { limit: 64 << 10 });
}

#[tokio::test]
async fn usage_that_no_server_tells_is_estimated_and_marked() {
    for change in [plain, |_: &mut EndpointConfig| {}] {
        let (reply, _) = played(vec![Act::SayUncounted("one two three".to_owned())], change).await;
        let usage = TokenUsage { prompt: 3, completion: 4, is_estimated: true };
        assert_eq!(reply.unwrap().usage, usage);
    }
}

#[tokio::test]
async fn so_many_at_once_so_many_waiting_and_the_next_refused() {
    let server = Scripted::saying("x").await;
    let config = EndpointConfig { concurrency: 2, waiting_max: 3, ..server.endpoint() };
    let client = server.client(config);
    let asked = (0..6).map(|_| ask(&client));
    let replies = futures::future::join_all(asked).await;
    let refused: Vec<_> = replies.iter().filter_map(|reply| reply.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{replies:?}");
    assert_eq!(refused[0].error, ChatError::Overloaded { waiting: 3 });
    assert_eq!(server.running_max(), 2);
    assert!(ask(&client).await.is_ok(), "places are given back");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let url = Scripted::saying("x").await.url.clone();
    let config =
        EndpointConfig { url, backoff_ms: 1, backoff_max_ms: 1, ..EndpointConfig::default() };
    let client = ChatClient::new("test", config, Clock::System, 0).unwrap();
    let failed = ask(&client).await.unwrap_err();
    assert!(matches!(failed.error, ChatError::Unreachable(_)), "{failed}");
    assert_eq!((failed.attempts, failed.lost), (3, 0), "nothing was sent, nothing was spent");
}

#[test]
fn settings_out_of_bounds_are_named() {
    let default = EndpointConfig::default;
    for (config, field) in [
        (EndpointConfig { url: "ftp://x/v1".into(), ..default() }, "url"),
        (EndpointConfig { url: "localhost:8000".into(), ..default() }, "url"),
        (EndpointConfig { url: "http://h/v1?key=1".into(), ..default() }, "url"),
        (EndpointConfig { model: " ".into(), ..default() }, "model"),
        (EndpointConfig { api_key_env: Some(String::new()), ..default() }, "api_key_env"),
        (EndpointConfig { attempts_max: 0, ..default() }, "attempts_max"),
        (EndpointConfig { gap_ms: 0, ..default() }, "gap_ms"),
    ] {
        assert_eq!(config.validate().unwrap_err().0, field);
    }
    assert_eq!(default().validate(), Ok(()));
    let _: Value = serde_json::to_value(default()).unwrap();
    assert!(toml::from_str::<EndpointConfig>("modle = \"x\"").is_err());
}
