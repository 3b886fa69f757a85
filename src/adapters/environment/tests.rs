//! The environment on threads and runtimes of every kind, and with a judge.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::chat::{Budget, BudgetConfig, Spend};
use actors::clock::Clock;
use actors::ports::{CancelOnDrop, GenerateError, JudgeError};
use actors::types::Query;
use async_trait::async_trait;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// Answers with the text of the first document; fails for the question `down`.
#[derive(Default)]
struct FirstText {
    calls: AtomicU64,
    is_inline: bool,
}

#[async_trait]
impl Generator for FirstText {
    async fn answer(&self, query: &Query, docs: &[Document]) -> Result<Answer, GenerateError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if !self.is_inline {
            tokio::task::yield_now().await;
        }
        if query.text == "down" {
            return Err(GenerateError::Unavailable("no line".to_owned()));
        }
        let text = docs.first().map(|d| d.text.clone()).unwrap_or_default();
        Ok(Answer { text, ..Answer::default() })
    }
}

fn trial(question: &str, reference: &str, texts: &[&str]) -> Trial {
    let references = if reference.is_empty() { vec![] } else { vec![reference.to_owned()] };
    let query = Query { text: question.to_owned(), references, ..Query::default() };
    let document = |text: &&str| Document {
        id: "same id".into(),
        text: (*text).to_owned(),
        ..Document::default()
    };
    Trial { query, documents: texts.iter().map(document).collect() }
}

fn environment(generator: &Arc<FirstText>, runtime: Handle) -> GeneratorEnvironment {
    let generator: Arc<dyn Generator> = generator.clone();
    let config = EnvironmentConfig::default();
    GeneratorEnvironment::new(generator, Blend::default(), config, runtime).unwrap()
}

fn check(runtime: Handle, is_inline: bool) {
    let generator = Arc::new(FirstText { is_inline, ..FirstText::default() });
    let environment = environment(&generator, runtime);
    let trials = [
        trial("q", "Paris", &["Paris", "Rome"]),
        trial("q", "Paris", &["Rome", "Paris"]),
        trial("q", "Rome", &["Paris", "Rome"]),
        trial("down", "x", &["x"]),
        trial("q", "", &["Paris", "Rome"]),
        trial("q", "Paris", &[]),
    ];
    let rewards = environment.rewards(&trials);
    let totals: Vec<Option<f64>> =
        rewards.iter().map(|r| r.as_ref().ok().map(|r| r.total)).collect();
    assert_eq!(totals, [Some(1.0), Some(0.0), Some(0.0), None, None, Some(0.0)]);
    assert_eq!(generator.calls.load(Ordering::SeqCst), 4, "repeats are free");
    let counts = environment.cache_counts();
    assert_eq!((counts.hits, counts.misses), (1, 4), "what has no reference is not asked");
    assert!(environment.rewards(&trials[..3]).iter().all(Result::is_ok));
    assert_eq!(generator.calls.load(Ordering::SeqCst), 4);
    assert!(environment.rewards(&trials[3..4])[0].is_err(), "failures are not kept");
    assert_eq!(generator.calls.load(Ordering::SeqCst), 5);
}

/// Answers as the query's metadata asks, for whom it is asked.
struct AsAsked;

#[async_trait]
impl Generator for AsAsked {
    async fn answer(&self, query: &Query, _: &[Document]) -> Result<Answer, GenerateError> {
        let kind = query.metadata.get("answer_type").cloned().unwrap_or_default();
        let text = format!("{kind} {}", query.tenant.as_deref().unwrap_or_default());
        Ok(Answer { text, ..Answer::default() })
    }
}

#[tokio::test]
async fn one_text_asked_in_two_ways_has_two_answers() {
    let (blend, config) = (Blend::default(), EnvironmentConfig::default());
    let environment =
        GeneratorEnvironment::new(Arc::new(AsAsked), blend, config, Handle::current()).unwrap();
    let asked = |kind: &str, tenant: Option<&str>| {
        let mut trial = trial("q", "label one", &["x"]);
        trial.query.metadata.insert("answer_type".to_owned(), kind.to_owned());
        trial.query.tenant = tenant.map(str::to_owned);
        environment.rewards(&[trial])[0].as_ref().unwrap().total
    };
    assert_eq!(asked("label", Some("one")), 1.0);
    assert_eq!(asked("long", None), 0.0, "the kind of answer decides");
    assert!(asked("label", None) < 1.0, "so may the tenant");
    assert_eq!(asked("label", Some("one")), 1.0);
}

#[test]
fn rewards_come_from_a_thread_outside_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    check(runtime.handle().clone(), false);
}

#[tokio::test]
async fn an_inline_generator_scores_on_a_single_threaded_runtime() {
    check(Handle::current(), true);
}

/// Scores the number of documents; abstains on none.
#[derive(Default)]
struct Counts(AtomicU64);

#[async_trait]
impl Judge for Counts {
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if task.documents.is_empty() {
            return Ok(Judgement::Abstained { reason: "nothing".to_owned() });
        }
        let reward = Reward { total: task.documents.len() as f64, parts: Vec::new() };
        Ok(Judgement::Scored { reward })
    }

    fn name(&self) -> String {
        "counts".to_owned()
    }
}

#[test]
fn a_judge_scores_trials_without_references_and_is_asked_once_about_each() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (generator, judge) = (Arc::<FirstText>::default(), Arc::<Counts>::default());
    let environment = environment(&generator, runtime.handle().clone());
    let environment = environment.with_judge(judge.clone());
    let trials = [trial("q", "", &["a"]), trial("q", "", &["a", "b"]), trial("q", "", &[])];
    for _ in 0..2 {
        let rewards = environment.rewards(&trials);
        let totals: Vec<_> = rewards.iter().map(|r| r.as_ref().ok().map(|r| r.total)).collect();
        assert_eq!(totals, [Some(1.0), Some(2.0), None]);
    }
    assert_eq!(judge.0.load(Ordering::SeqCst), 2 + 2, "an abstention is not kept");
}

#[tokio::test]
async fn a_generator_that_waits_is_an_error_there_and_no_standstill() {
    let generator = Arc::new(FirstText::default());
    let environment = environment(&generator, Handle::current());
    let rewards = environment.rewards(&[trial("q", "Paris", &["Paris"])]);
    let error = rewards[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("must run inline"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rewards_come_inline_on_a_runtime_of_many_threads() {
    check(Handle::current(), false);
}

/// An endpoint that takes its time, or never answers; says of each call that it began.
struct Late {
    takes: Option<Duration>,
    began: mpsc::UnboundedSender<()>,
    calls: AtomicU64,
    under_way: Arc<AtomicU64>,
}

struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Generator for Late {
    async fn answer(&self, _: &Query, _: &[Document]) -> Result<Answer, GenerateError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(Arc::clone(&self.under_way));
        let _ = self.began.send(());
        match self.takes {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        Ok(Answer::default())
    }
}

#[test]
fn nothing_is_bought_for_a_learner_that_nobody_waits_for() {
    for takes in [None, Some(Duration::from_millis(2))] {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.enable_all().worker_threads(1).build().unwrap();
        let (began, mut begins) = mpsc::unbounded_channel();
        let (calls, under_way) = (AtomicU64::new(0), Arc::default());
        let late = Arc::new(Late { takes, began, calls, under_way });
        let config = EnvironmentConfig { parallel_answers_max: 3, ..EnvironmentConfig::default() };
        let (generator, handle) = (Arc::clone(&late), runtime.handle().clone());
        let environment =
            GeneratorEnvironment::new(generator, Blend::default(), config, handle).unwrap();
        let (guard, cancellation) = CancelOnDrop::new();
        let environment = Arc::new(environment).until(cancellation);
        let trials: Vec<Trial> =
            (0..10_000).map(|n| trial(&format!("question {n}"), "x", &["x"])).collect();
        let learner = std::thread::Builder::new().spawn(move || {
            let all_failed = |rewards: Vec<Result<Reward, EnvironmentError>>| {
                rewards.len() == 10_000 && rewards.last().unwrap().is_err()
            };
            // A recipe that goes on after it was cancelled gets nothing either.
            let first = all_failed(environment.rewards(&trials));
            let calls = late.calls.load(Ordering::SeqCst);
            let then = all_failed(environment.rewards(&trials));
            (first && then, calls, late)
        });
        let learner = learner.unwrap();
        for _ in 0..3 {
            begins.blocking_recv().unwrap();
        }
        drop(guard);
        let (is_cancelled, calls, late) = learner.join().unwrap();
        assert!(is_cancelled && calls < 10_000, "{calls} calls");
        assert_eq!(late.under_way.load(Ordering::SeqCst), 0, "orphans");
        assert_eq!(late.calls.load(Ordering::SeqCst), calls, "calls after the end");
    }
}

#[test]
fn trials_that_may_pass_the_budget_are_refused_with_the_figures() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let account = |calls_per_hour, tokens_per_day| {
        let state = Some(PathBuf::new());
        let config =
            BudgetConfig { calls_per_hour, tokens_per_day, state, ..BudgetConfig::default() };
        let budget = Arc::new(Budget::open("test", config, Clock::System).unwrap());
        Account { budget, per_trial: Spend { calls: 3, tokens: 1_000, micros: 0 } }
    };
    let asked = Arc::<FirstText>::default();
    let with = |generator: Option<Account>, judge: Option<Account>| {
        let runtime = runtime.handle().clone();
        let accounts = Accounts::new(generator, judge);
        environment(&asked, runtime).with_accounts(accounts)
    };
    assert!(with(None, None).afford(u64::MAX).is_ok(), "models at home cost nothing");
    let by_tokens = with(Some(account(None, 50_000)), None);
    assert!(by_tokens.afford(50).is_ok());
    let said = by_tokens.afford(51).unwrap_err().to_string();
    let expected = "51 trials would cost about 153 generator calls and 51000 tokens, left are \
                    without limit calls and 50000 tokens: raise `learner.budget.generator`";
    assert!(said.starts_with(expected), "{said}");
    let by_calls = with(None, Some(account(Some(30), 1_000_000)));
    assert!(by_calls.afford(10).is_ok() && by_calls.afford(11).is_err());
    let budget = &by_calls.accounts.judge.as_ref().unwrap().budget;
    let spend = Spend { calls: 20, tokens: 10, micros: 0 };
    let aside = runtime.block_on(budget.reserve(spend)).unwrap().unwrap();
    assert!(by_calls.afford(4).is_err(), "what is set aside is not left");
    runtime.block_on(budget.settle(aside, Spend { calls: 2, tokens: 10, micros: 0 }));
    assert!(by_calls.afford(9).is_ok());
    let bought = by_calls.bought();
    assert_eq!((bought.judge_calls, bought.judge_tokens, bought.generator_calls), (2, 10, 0));
    assert_eq!(asked.calls.load(Ordering::SeqCst), 0, "asking the price asks nobody");
}
