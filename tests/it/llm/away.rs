//! A whole service whose endpoints are all away: what is left of it, and that it says so.

use crate::tiny::{PATIENCE, Tiny, chain, query, start, until};
use actors::ports::Stream;
use actors::service::Overrides;
use actors::types::{Episode, RewardRecord, Verdict};
use regrade::adapters::generator_http::HttpGeneratorConfig;
use regrade::adapters::judge_http::LlmJudgeConfig;
use regrade::adapters::rewriter_http::HttpRewriterConfig;
use regrade::chat::EndpointConfig;
use regrade::config::{Config, FallbackConfig, GeneratorKind, JudgeKind, RewriteKind};
use regrade::wiring;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A port that somebody had a moment ago and nobody has now.
fn nobody() -> EndpointConfig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    EndpointConfig { url, backoff_ms: 1, backoff_max_ms: 1, ..EndpointConfig::default() }
}

fn config(tiny: &Tiny) -> Config {
    let mut config = tiny.config();
    let endpoint = nobody();
    config.generator.kind = GeneratorKind::Http;
    config.generator.http =
        Some(HttpGeneratorConfig { endpoint: endpoint.clone(), ..HttpGeneratorConfig::default() });
    config.generator.fallback = Some(FallbackConfig::default());
    config.judge.kind = JudgeKind::Llm;
    config.judge.weights.judge = 1.0;
    let mut llm = LlmJudgeConfig { endpoint: endpoint.clone(), ..LlmJudgeConfig::default() };
    llm.budget.state = Some(tiny.at("judge-budget.json"));
    config.judge.llm = Some(llm);
    config.service.judge.attempts_max = 2;
    config.service.judge.backoff_ms = 10;
    config.rewrite.kind = RewriteKind::Hyde;
    config.rewrite.llm = Some(HttpRewriterConfig { endpoint, ..HttpRewriterConfig::default() });
    config
}

/// Three answers, and the end of their judgements.
async fn life(config: &Config) {
    let service = start(config).await;
    for n in 0..3 {
        let served = service.answer(query(n, &["ada"]), Overrides::default()).await.unwrap();
        assert_eq!(served.answer.unwrap().generator, "reader");
        assert!(!served.documents.is_empty(), "it was searched with the query as asked");
    }
    until("judged", async || {
        service.observe().await.judge.is_some_and(|judge| judge.given_up == 3)
    })
    .await;
    let judge = service.observe().await.judge.unwrap();
    assert!(judge.is_conserved() && judge.pending == 0, "{judge:?}");
    assert!(service.drain(PATIENCE).await.clean);
}

async fn check_the_log(config: &Config) {
    let log = wiring::log(config).await.unwrap();
    let mut read = log.consumer("test", &[Stream::Episodes, Stream::Rewards]).await.unwrap();
    let records = read.poll(100, Duration::ZERO).await.unwrap();
    let (episodes, rewards): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.stream == Stream::Episodes);
    assert_eq!((episodes.len(), rewards.len()), (3, 3));
    for record in episodes {
        let episode: Episode = serde_json::from_slice(&record.payload).unwrap();
        assert_eq!((episode.rewrites.len(), episode.decision.unwrap().rewrite), (0, 0));
    }
    for record in rewards {
        let reward: RewardRecord = serde_json::from_slice(&record.payload).unwrap();
        assert!(matches!(reward.verdict, Verdict::Failed { .. }), "{reward:?}");
        assert!(reward.judge.starts_with("llm/default/answer-1/"), "{}", reward.judge);
    }
}

#[test]
fn a_service_whose_endpoints_are_away_answers_by_its_reader_and_ends_every_judgement() {
    let tiny = Tiny::new();
    let config = config(&tiny);
    // A runtime each: with the first goes all that holds the log.
    let first = Runtime::new().unwrap();
    first.block_on(life(&config));
    drop(first);
    Runtime::new().unwrap().block_on(check_the_log(&config));
}

#[tokio::test]
async fn what_an_endpoint_lacks_is_told_before_the_service_starts() {
    let tiny = Tiny::new();
    let told = async |change: &dyn Fn(&mut Config)| {
        let mut config = config(&tiny);
        change(&mut config);
        chain(&wiring::parts(&config).await.map(drop).unwrap_err())
    };
    let prompt = tiny.file("own.jinja", "{# system #}\n{# user #}\n{{ questoin }}\n");
    let error = told(&|config| {
        config.generator.http.as_mut().unwrap().prompt = Some(prompt.clone().into());
    })
    .await;
    assert!(error.starts_with("cannot use the prompt of `[generator.http]`"), "{error}");
    assert!(error.contains("own.jinja:3: `questoin` is not defined"), "{error}");
    let error = told(&|config| {
        config.judge.llm.as_mut().unwrap().endpoint.api_key_env = Some("REGRADE_NO_KEY".into());
    })
    .await;
    assert!(error.starts_with("cannot use the endpoint of `[judge.llm]`"), "{error}");
    assert!(error.contains("`REGRADE_NO_KEY`"), "{error}");
    let rubric = tiny.file("rubric.toml", "name = \"x\"\n");
    let error = told(&|config| {
        config.judge.llm.as_mut().unwrap().rubric = Some(rubric.clone().into());
    })
    .await;
    assert!(error.starts_with("cannot judge by `[judge.llm]`"), "{error}");
    assert!(error.contains("rubric.toml"), "{error}");
}
