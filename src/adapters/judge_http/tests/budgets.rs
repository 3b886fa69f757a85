//! The budget: what is spent never passes it, whatever happens.

use super::{config, honest, judge, reward, task};
use crate::chat::scripted::{Act, Scripted};
use crate::chat::{Budget, BudgetConfig, BudgetError, Spend};
use actors::clock::Clock;
use actors::ports::{Judge, JudgeTask, Judgement};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// 23:00 of a day.
const START_MS: u64 = 1_000 * 86_400_000 + 23 * 3_600_000;

fn budget_config(tokens: u64, state: PathBuf) -> BudgetConfig {
    BudgetConfig { tokens_per_day: tokens, state: Some(state), ..BudgetConfig::default() }
}

fn tokens(tokens: u64) -> Spend {
    Spend { calls: 1, tokens, micros: 0 }
}

/// Whether so much can be set aside.
async fn takes(budget: &Budget, amount: u64) -> bool {
    budget.reserve(tokens(amount)).await.unwrap().is_some()
}

fn numbered(n: usize) -> JudgeTask {
    let mut task = task("Paris");
    task.id = format!("decision-{n}");
    task
}

#[tokio::test]
async fn reservations_reach_the_limit_and_no_further() {
    let config = budget_config(100, PathBuf::new());
    let budget = Budget::open("judge", config, Clock::simulated(START_MS)).unwrap();
    let first = budget.reserve(tokens(60)).await.unwrap().unwrap();
    assert!(!takes(&budget, 41).await);
    budget.settle(first, tokens(10)).await;
    assert!(takes(&budget, 90).await, "what was not spent is given back");
    assert!(!takes(&budget, 1).await);
}

#[tokio::test]
async fn money_is_limited_like_tokens_and_rounded_up() {
    let config = BudgetConfig {
        money_per_day: Some(0.01),
        prompt_price: 2.5,
        completion_price: 10.0,
        ..budget_config(1_000_000, PathBuf::new())
    };
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(config.price(1, 0), Spend { calls: 1, tokens: 1, micros: 3 });
    assert_eq!(config.price(1_000, 500), Spend { calls: 1, tokens: 1_500, micros: 7_500 });
    let budget = Budget::open("judge", config.clone(), Clock::simulated(START_MS)).unwrap();
    let reserve = async |amount| budget.reserve(amount).await.unwrap().is_some();
    assert!(reserve(config.price(1_000, 500)).await);
    assert!(!reserve(config.price(1_000, 500)).await, "a cent is 10000 millionths");
    assert!(reserve(config.price(1_000, 0)).await);
}

#[tokio::test(start_paused = true)]
async fn a_new_utc_day_begins_at_nothing_and_the_old_one_is_not_refunded_into_it() {
    let config = budget_config(100, PathBuf::new());
    let budget = Budget::open("judge", config, Clock::simulated(START_MS)).unwrap();
    let yesterday = budget.reserve(tokens(100)).await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(59 * 60)).await;
    assert!(!takes(&budget, 1).await, "23:59");
    tokio::time::advance(Duration::from_secs(60)).await;
    let today = budget.reserve(tokens(70)).await.unwrap().unwrap();
    budget.settle(yesterday, tokens(0)).await;
    assert!(!takes(&budget, 31).await);
    budget.settle(today, tokens(0)).await;
    assert!(takes(&budget, 100).await);
}

#[tokio::test(start_paused = true)]
async fn an_hour_has_limits_of_its_own_and_calls_are_counted_like_tokens() {
    let config = BudgetConfig {
        tokens_per_hour: Some(60),
        calls_per_hour: Some(3),
        calls_per_day: Some(4),
        ..budget_config(100, PathBuf::new())
    };
    assert_eq!(config.validate(), Ok(()));
    let wrong = BudgetConfig { calls_per_hour: Some(0), ..config.clone() };
    assert_eq!(wrong.validate().unwrap_err().0, "calls_per_hour");
    let budget = Budget::open("judge", config, Clock::simulated(START_MS - 3_600_000)).unwrap();
    assert!(takes(&budget, 60).await);
    assert!(!takes(&budget, 1).await, "of this hour all is spent");
    assert_eq!((budget.left().await.tokens, budget.left().await.calls), (0, 2));
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!((budget.left().await.tokens, budget.left().await.calls), (40, 3));
    for _ in 0..3 {
        assert!(takes(&budget, 5).await);
    }
    assert!(!takes(&budget, 5).await, "four calls a day");
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(takes(&budget, 60).await, "another day");
}

#[tokio::test]
async fn an_account_from_before_there_were_hours_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("budget.json");
    let day = START_MS / 86_400_000;
    let text = format!("{{\"day\": {day}, \"tokens\": 70, \"money_micros\": 0}}");
    std::fs::write(&state, text).unwrap();
    let budget =
        Budget::open("judge", budget_config(100, state), Clock::simulated(START_MS)).unwrap();
    assert!(!takes(&budget, 31).await && takes(&budget, 30).await);
}

#[tokio::test]
async fn a_client_pays_for_each_request_or_does_not_make_it() {
    let server = Scripted::start([Act::Cut], |_| Act::Say("fine".to_owned())).await;
    let endpoint = crate::chat::EndpointConfig {
        stream: false,
        attempts_max: 2,
        backoff_ms: 1,
        ..server.endpoint()
    };
    let limits =
        BudgetConfig { calls_per_day: Some(5), ..budget_config(1_000_000, PathBuf::new()) };
    let budget = Arc::new(Budget::open("test", limits, Clock::System).unwrap());
    let client = server.client(endpoint).with_budget(Arc::clone(&budget));
    let messages = vec![crate::chat::Message {
        role: crate::chat::Role::User,
        content: "question".to_owned(),
    }];
    let request = crate::chat::ChatRequest { messages, max_tokens: 8, ..Default::default() };
    // The first is cut off once, then answered: two calls. Each sets two aside.
    assert!(client.complete(&request).await.is_ok());
    assert_eq!(budget.spent().calls, 2);
    assert!(client.complete(&request).await.is_ok());
    assert!(client.complete(&request).await.is_ok());
    assert_eq!((budget.spent().calls, server.seen().len()), (4, 4));
    let refused = client.complete(&request).await.unwrap_err();
    assert_eq!(refused.to_string(), "not asked: the budget is spent (attempts: 0)");
    assert_eq!(server.seen().len(), 4, "a fifth call might have become six");
}

#[tokio::test]
async fn a_restart_finds_what_was_spent_and_counts_the_unsettled_as_spent() {
    let folder = tempfile::tempdir().unwrap();
    let config = budget_config(100, folder.path().join("deep/budget.json"));
    let open = |start_ms| Budget::open("judge", config.clone(), Clock::simulated(start_ms));
    let budget = open(START_MS).unwrap();
    let kept = budget.reserve(tokens(30)).await.unwrap();
    let other = open(START_MS).unwrap_err();
    assert!(matches!(other, BudgetError::InUse { .. }), "{other}");
    // Killed in the middle of a call: nothing is settled.
    drop((budget, kept));
    let budget = open(START_MS).unwrap();
    assert!(!takes(&budget, 71).await);
    assert!(takes(&budget, 50).await);
    drop(budget);
    let earlier = open(START_MS - 2 * 86_400_000).unwrap();
    assert!(!takes(&earlier, 21).await, "a clock that goes back hands out no day twice");
    drop(earlier);
    let tomorrow = open(START_MS + 86_400_000).unwrap();
    assert!(takes(&tomorrow, 100).await);
}

#[tokio::test]
async fn an_account_that_cannot_be_read_or_kept_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("budget.json");
    std::fs::write(&state, "{\"day\": 1").unwrap();
    let config = budget_config(100, state.clone());
    let error = Budget::open("judge", config.clone(), Clock::System).unwrap_err();
    assert!(matches!(error, BudgetError::Damaged { .. }), "{error}");
    std::fs::remove_file(&state).unwrap();
    let budget = Budget::open("judge", config, Clock::System).unwrap();
    std::fs::create_dir(state.with_extension("draft")).unwrap();
    let error = budget.reserve(tokens(1)).await.unwrap_err();
    assert!(matches!(error, BudgetError::Unusable { .. }), "{error}");
    std::fs::remove_dir(state.with_extension("draft")).unwrap();
    assert!(takes(&budget, 100).await, "what could not be noted was not spent");
}

#[tokio::test]
async fn many_judgements_at_once_never_pass_the_budget_and_the_rest_abstain() {
    let server = Scripted::start([], honest).await;
    // Every reply is counted as 1001 tokens or so; a reservation is about 3 * 3500.
    let limit = 40_000;
    let judge = judge(&server, |config| {
        config.budget.tokens_per_day = limit;
        config.endpoint.attempts_max = 1;
    })
    .await;
    let tasks: Vec<_> = (0..60).map(numbered).collect();
    let verdicts = futures::future::join_all(tasks.iter().map(|task| judge.judge(task))).await;
    let verdicts: Vec<_> = verdicts.into_iter().map(Result::unwrap).collect();
    let scored = verdicts.iter().filter(|v| matches!(v, Judgement::Scored { .. })).count();
    let spent = |verdict: &&Judgement| matches!(verdict, Judgement::Abstained { reason } if reason == "budget is spent");
    assert_eq!(scored + verdicts.iter().filter(spent).count(), 60, "{verdicts:?}");
    assert_eq!(server.seen().len(), scored, "who abstained asked nothing");
    assert!(scored >= 3, "{scored}");
    assert!(scored as u64 * 1_100 <= limit, "{scored}");
}

#[tokio::test]
async fn replies_that_are_lost_are_charged_in_full() {
    let server = Scripted::start([Act::Cut, Act::Cut, Act::Cut], honest).await;
    let judge = judge(&server, |config| {
        config.budget.tokens_per_day = 20_000;
        config.endpoint.attempts_max = 1;
    })
    .await;
    let mut lost = 0;
    for n in 0..3 {
        lost += usize::from(judge.judge(&numbered(n)).await.is_err());
    }
    assert!(lost >= 2, "{lost}");
    let mut scored = 0;
    for n in 3..30 {
        let verdict = judge.judge(&numbered(n)).await.unwrap();
        scored += usize::from(matches!(verdict, Judgement::Scored { .. }));
    }
    assert!(scored < 15, "{scored}: the lost ones may have cost about 3500 each");
}

#[tokio::test]
async fn a_known_cost_is_given_back_before_the_next_judgement() {
    let server = Scripted::start([], honest).await;
    let judge = judge(&server, |config| config.budget.tokens_per_day = 30_000).await;
    for n in 0..15 {
        // Each reserves three attempts of about 3500 and costs about 1001.
        reward(&judge, &numbered(n)).await;
    }
    assert_eq!(config(&server).budget.validate(), Ok(()));
}
