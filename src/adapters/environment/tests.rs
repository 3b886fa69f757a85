//! The environment on threads and runtimes of every kind, and with a judge.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use actors::ports::{GenerateError, JudgeError};
use actors::types::Query;
use async_trait::async_trait;

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
    assert_eq!((counts.hits, counts.misses), (2, 4));
    assert!(environment.rewards(&trials[..3]).iter().all(Result::is_ok));
    assert_eq!(generator.calls.load(Ordering::SeqCst), 4);
    assert!(environment.rewards(&trials[3..4])[0].is_err(), "failures are not kept");
    assert_eq!(generator.calls.load(Ordering::SeqCst), 5);
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
