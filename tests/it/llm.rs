//! Generator, judge and rewriter against a chat server that nobody here wrote, with a tiny random
//! model: what it says means nothing, how it speaks does.
//!
//! Runs against `REGRADE_TEST_LLM_URL`, or starts `deploy/llm-local/llm.sh` where that is installed;
//! says so and passes where there is neither. `REGRADE_TEST_LLM=require` makes that a failure.

mod away;

use crate::tiny::{Tiny, query, start, until};
use actors::clock::Clock;
use actors::ports::{Generator, Judge, JudgeTask, Judgement, Rewriter};
use actors::service::Overrides;
use actors::types::{Answer, Document, Query};
use regrade::adapters::contract::check_generator;
use regrade::adapters::generator_http::{HttpGenerator, HttpGeneratorConfig};
use regrade::adapters::judge_http::{LlmJudge, LlmJudgeConfig, Parts, VerdictFormat};
use regrade::adapters::rewriter_http::{HttpRewriter, HttpRewriterConfig, RewriteMethod};
use regrade::chat::{ChatClient, ChatRequest, EndpointConfig, Message, Role, TokenField};
use regrade::config::{GeneratorKind, JudgeKind, RewriteKind};
use regrade::rewards::Blend;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The server of one test; one that was started here is stopped when dropped.
struct Server {
    url: String,
    state: Option<tempfile::TempDir>,
}

fn script(state: &Path, command: &str) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/llm-local/llm.sh");
    let output = Command::new("bash")
        .arg(path)
        .arg(command)
        .env("REGRADE_LLM_STATE", state)
        .env("REGRADE_LLM_INSTALL", "no")
        .output()
        .map_err(|error| format!("cannot run llm.sh: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Server {
    fn found() -> Option<Self> {
        if let Ok(url) = std::env::var("REGRADE_TEST_LLM_URL") {
            return Some(Self { url, state: None });
        }
        let state = tempfile::tempdir().unwrap();
        match script(state.path(), "up") {
            Ok(url) => Some(Self { url, state: Some(state) }),
            Err(reason) => {
                let is_required = std::env::var("REGRADE_TEST_LLM").is_ok_and(|v| v == "require");
                assert!(!is_required, "no chat server: {reason}");
                println!("skipped: no chat server to test against ({reason})");
                None
            }
        }
    }

    /// This server knows `max_tokens` alone, and has no key.
    fn endpoint(&self, is_stream: bool) -> EndpointConfig {
        EndpointConfig {
            url: self.url.clone(),
            model: "babble".to_owned(),
            stream: is_stream,
            token_field: TokenField::MaxTokens,
            first_byte_ms: 60_000,
            deadline_ms: 120_000,
            concurrency: 4,
            ..EndpointConfig::default()
        }
    }

    fn client(&self, is_stream: bool) -> ChatClient {
        ChatClient::new("test", self.endpoint(is_stream), Clock::System, 1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            // A server that is gone already needs no stopping.
            let _ = script(state.path(), "down");
        }
    }
}

fn request(seed: u64) -> ChatRequest {
    let content = "Where does the Nile end?".to_owned();
    ChatRequest {
        messages: vec![Message { role: Role::User, content }],
        max_tokens: 24,
        seed: Some(seed),
        temperature: Some(1.0),
        ..ChatRequest::default()
    }
}

fn document(text: &str) -> Document {
    Document {
        id: "d1".into(),
        title: "Nile".to_owned(),
        text: text.to_owned(),
        ..Document::default()
    }
}

fn task(n: usize) -> JudgeTask {
    let query =
        Query { id: format!("q{n}").as_str().into(), text: "where?".into(), ..Query::default() };
    let answer = Answer { text: "in the sea".to_owned(), ..Answer::default() };
    JudgeTask::new(format!("q{n}"), query, Vec::new(), answer)
}

fn judge(server: &Server, format: VerdictFormat, votes: u32) -> LlmJudge {
    let mut config = LlmJudgeConfig {
        endpoint: server.endpoint(false),
        format,
        votes,
        temperature: 1.0,
        max_tokens: 1_000,
        ..LlmJudgeConfig::default()
    };
    config.budget.state = Some(PathBuf::new());
    config.budget.tokens_per_day = 10_000_000;
    let blend = Blend { judge: 1.0, ..Blend::default() };
    let parts = Parts {
        client: ChatClient::new("judge", config.endpoint.clone(), Clock::System, 1).unwrap(),
        blend,
        clock: Clock::System,
        seed: 1,
    };
    LlmJudge::new(config, parts).unwrap()
}

async fn replies_repeat_by_seed_streamed_or_not(server: &Server) {
    let mut texts = Vec::new();
    for is_stream in [false, true] {
        let client = server.client(is_stream);
        let first = client.complete(&request(5)).await.unwrap();
        let again = client.complete(&request(5)).await.unwrap();
        let other = client.complete(&request(6)).await.unwrap();
        assert_eq!(first.text, again.text, "a seed repeats");
        assert_ne!(first.text, other.text, "another seed does not");
        assert!(first.usage.prompt > 0 && first.usage.completion > 0, "{first:?}");
        if !is_stream {
            assert!(!first.usage.is_estimated && first.usage.completion <= 24, "{first:?}");
        }
        // In a stream this server drops characters that two tokens share.
        texts.push(first.text.chars().filter(char::is_ascii).collect::<String>());
    }
    assert_eq!(texts[0], texts[1], "streamed or not, it is the same text");
}

async fn the_generator_keeps_its_contract(server: &Server) {
    for is_stream in [false, true] {
        let config = HttpGeneratorConfig {
            endpoint: server.endpoint(is_stream),
            max_tokens: 24,
            ..HttpGeneratorConfig::default()
        };
        let make = || HttpGenerator::new(server.client(is_stream), config.clone()).unwrap();
        check_generator(async || Arc::new(make()) as Arc<dyn Generator>).await;
        let query = Query { text: "Where does the Nile end?".into(), ..Query::default() };
        let given = [document("The Nile ends in the Mediterranean Sea.")];
        let answer = make().answer(&query, &given).await.unwrap();
        assert!(answer.usage.context_tokens > 0, "{answer:?}");
        assert_eq!(answer.generator, "http/babble");
    }
}

async fn a_babbling_judge_abstains_and_never_rewards(server: &Server) {
    // With a schema this server forces the shape of a verdict; the task id it cannot know.
    for format in [VerdictFormat::JsonObject, VerdictFormat::None] {
        let verdict = judge(server, format, 1).judge(&task(1)).await.unwrap();
        let Judgement::Abstained { reason } = verdict else { panic!("{verdict:?}") };
        assert!(reason.starts_with("0 of 1 votes can be read"), "{reason}");
        println!("{format:?}: {reason}");
    }
    let verdict = judge(server, VerdictFormat::JsonObject, 3).judge(&task(2)).await.unwrap();
    assert!(matches!(verdict, Judgement::Abstained { .. }), "{verdict:?}");
}

async fn a_rewriter_proposes_what_the_server_says(server: &Server) {
    let config = HttpRewriterConfig {
        endpoint: server.endpoint(true),
        max_tokens: 16,
        ..HttpRewriterConfig::default()
    };
    let make = |method| HttpRewriter::new(method, server.client(true), config.clone()).unwrap();
    let query = Query { text: "Where does the Nile end?".into(), ..Query::default() };
    let proposed = make(RewriteMethod::Query2doc).propose(&query).await.unwrap();
    assert!(proposed[0].text.starts_with(&[query.text.as_str(); 5].join(" ")), "{proposed:?}");
    let rewriter = make(RewriteMethod::Hyde);
    assert_eq!(rewriter.propose(&query).await.unwrap(), rewriter.propose(&query).await.unwrap());
}

async fn a_whole_service_runs_on_it(server: &Server) {
    let tiny = Tiny::new();
    let mut config = tiny.config();
    config.service.episode.deadline_ms = 300_000;
    config.service.episode.rewrite_deadline_ms = 100_000;
    config.service.generator.deadline_ms = 130_000;
    config.service.judge.deadline_ms = 130_000;
    config.generator.kind = GeneratorKind::Http;
    config.generator.http = Some(HttpGeneratorConfig {
        endpoint: server.endpoint(true),
        max_tokens: 16,
        ..HttpGeneratorConfig::default()
    });
    config.judge.kind = JudgeKind::Llm;
    config.judge.weights.judge = 1.0;
    let mut llm = LlmJudgeConfig {
        endpoint: server.endpoint(false),
        format: VerdictFormat::JsonObject,
        max_tokens: 600,
        ..LlmJudgeConfig::default()
    };
    llm.budget.state = Some(tiny.at("judge-budget.json"));
    config.judge.llm = Some(llm);
    config.rewrite.kind = RewriteKind::Query2doc;
    config.rewrite.llm = Some(HttpRewriterConfig {
        endpoint: server.endpoint(true),
        max_tokens: 8,
        ..HttpRewriterConfig::default()
    });
    let service = start(&config).await;
    for n in 0..3 {
        let served = service.answer(query(n, &["ada"]), Overrides::default()).await.unwrap();
        assert_eq!(served.answer.unwrap().generator, "http/babble");
    }
    // Whether a babbler hits on an answer is left to chance; that nothing is lost is not.
    until("judged", async || {
        service.observe().await.judge.is_some_and(|judge| judge.episodes == 3 && judge.pending == 0)
    })
    .await;
    let judge = service.observe().await.judge.unwrap();
    assert!(judge.is_conserved(), "{judge:?}");
    assert_eq!((judge.abstained, judge.judged), (3, 0), "{judge:?}");
    let spent = std::fs::read_to_string(tiny.at("judge-budget.json")).unwrap();
    assert!(spent.contains("\"tokens\":"), "{spent}");
    println!("a service on a third party's server: {judge:?}, budget {spent}");
}

/// One server for all, for it takes a while to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_partys_server_serves_generator_judge_and_rewriter() {
    let Some(server) = Server::found() else { return };
    replies_repeat_by_seed_streamed_or_not(&server).await;
    the_generator_keeps_its_contract(&server).await;
    a_babbling_judge_abstains_and_never_rewards(&server).await;
    a_rewriter_proposes_what_the_server_says(&server).await;
    a_whole_service_runs_on_it(&server).await;
}
