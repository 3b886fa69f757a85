//! The learner's world: `ports::Environment` from any generator and a blend of rewards.
//!
//! Answers are cached by question and documents, so a selection that comes up again is free;
//! rewards are computed afresh, because references may have become known since. Knows no policy.

use super::bounded_cache::BoundedCache;
use crate::rewards::{Blend, BlendError, Subject};
use actors::ports::{Environment, EnvironmentError, Generator, Trial};
use actors::types::{Answer, Document, Gate, Reward};
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Limits of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Answers kept; 0 for a generator whose answers to one question differ from call to call.
    pub cached_answers_max: usize,
    /// Answers asked for at the same time.
    pub parallel_answers_max: usize,
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        Self { cached_answers_max: 50_000, parallel_answers_max: 4 }
    }
}

/// How often the cache helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheCounts {
    /// Trials whose answer was known, repeats within one call counted.
    pub hits: u64,
    /// Trials that the generator answered (or failed to).
    pub misses: u64,
}

/// What decides an answer: the question, and the documents in order by id and content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    question: String,
    documents: Vec<(String, u64)>,
}

impl Key {
    fn of(trial: &Trial) -> Self {
        let entry = |document: &Document| {
            let mut hasher = DefaultHasher::new();
            (&document.title, &document.text).hash(&mut hasher);
            (document.id.0.clone(), hasher.finish())
        };
        let documents = trial.documents.iter().map(entry).collect();
        Self { question: trial.query.text.clone(), documents }
    }
}

/// A generator and a blend as an environment.
pub struct GeneratorEnvironment {
    generator: Arc<dyn Generator>,
    blend: Blend,
    config: EnvironmentConfig,
    runtime: Handle,
    cache: Mutex<BoundedCache<Key, Answer>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl GeneratorEnvironment {
    /// Builds an environment whose generator runs on `runtime`, which must outlive it.
    pub fn new(
        generator: Arc<dyn Generator>,
        blend: Blend,
        config: EnvironmentConfig,
        runtime: Handle,
    ) -> Result<Self, BlendError> {
        blend.check()?;
        Ok(Self {
            generator,
            blend,
            config,
            runtime,
            cache: Mutex::new(BoundedCache::new(config.cached_answers_max)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Hits and misses since it was built.
    pub fn cache_counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// An answer for each distinct key, from the cache or the generator.
    async fn answers(
        &self,
        trials: &[Trial],
        keys: &[Key],
    ) -> HashMap<Key, Result<Answer, String>> {
        let mut answers = HashMap::new();
        let mut missing: Vec<(&Trial, &Key)> = Vec::new();
        let mut asked = std::collections::HashSet::new();
        for (trial, key) in trials.iter().zip(keys) {
            let cacheable = self.config.cached_answers_max > 0;
            if cacheable && (answers.contains_key(key) || asked.contains(key)) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let known = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key);
            if let Some(answer) = known {
                self.hits.fetch_add(1, Ordering::Relaxed);
                answers.insert(key.clone(), Ok(answer));
            } else {
                self.misses.fetch_add(1, Ordering::Relaxed);
                asked.insert(key);
                missing.push((trial, key));
            }
        }
        let ask = |(trial, key): (&Trial, &Key)| {
            let (generator, trial, key) = (&self.generator, trial.clone(), key.clone());
            async move {
                let answer = generator.answer(&trial.query, &trial.documents).await;
                (key, answer.map_err(|error| error.to_string()))
            }
        };
        let asked: Vec<_> = missing.into_iter().map(ask).collect();
        let mut results =
            futures::stream::iter(asked).buffered(self.config.parallel_answers_max.max(1));
        while let Some((key, answer)) = results.next().await {
            if let Ok(answer) = &answer {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.insert(key.clone(), answer.clone());
            }
            answers.insert(key, answer);
        }
        answers
    }

    fn score(&self, trial: &Trial, answer: &Answer) -> Result<Reward, EnvironmentError> {
        let documents = trial.documents.len();
        let gate = if documents == 0 { Gate::Direct } else { Gate::Retrieve };
        let subject = Subject { query: &trial.query, answer, gate, documents };
        self.blend.score(subject, &trial.query.references).ok_or_else(|| {
            EnvironmentError::Unscored(format!("query `{}` has no references", trial.query.id))
        })
    }

    /// Waits for `work` from whatever thread the learner runs on; `None` where that cannot be done.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match Handle::try_current().map(|current| current.runtime_flavor()) {
            // The usual case: a compute thread, outside any runtime.
            Err(_) => Some(self.runtime.block_on(work)),
            Ok(RuntimeFlavor::MultiThread) => {
                Some(tokio::task::block_in_place(|| self.runtime.block_on(work)))
            }
            // Inline in a simulation: the one thread cannot wait for its own runtime, so the
            // generator must be inline too and answer at once. Unconstrained, because the
            // surrounding task's budget is not renewed in here.
            Ok(_) => tokio::task::unconstrained(work).now_or_never(),
        }
    }
}

impl Environment for GeneratorEnvironment {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let keys: Vec<Key> = trials.iter().map(Key::of).collect();
        let Some(answers) = self.wait(self.answers(trials, &keys)) else {
            let reason = "on a single-threaded runtime the generator must run inline";
            let unscored = |_| Err(EnvironmentError::Unscored(reason.to_owned()));
            return trials.iter().map(unscored).collect();
        };
        let reward = |(trial, key): (&Trial, &Key)| match answers.get(key) {
            Some(Ok(answer)) => self.score(trial, answer),
            Some(Err(reason)) => Err(EnvironmentError::Unscored(reason.clone())),
            None => Err(EnvironmentError::Unscored("the generator gave nothing".to_owned())),
        };
        trials.iter().zip(&keys).map(reward).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use actors::ports::GenerateError;
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
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        check(runtime.handle().clone(), false);
    }

    #[tokio::test]
    async fn an_inline_generator_scores_on_a_single_threaded_runtime() {
        check(Handle::current(), true);
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
}
