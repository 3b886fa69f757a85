//! The learner's world: `ports::Environment` from any generator and a blend of rewards, or a judge.
//!
//! Answers are cached by question and documents, so a selection that comes up again is free; rewards
//! of the blend are computed afresh, because references may have become known since, and those of a
//! judge are kept with the references they rest on. Knows no policy.

mod price;
mod until;

use super::bounded_cache::BoundedCache;
use crate::rewards::{Blend, BlendError, Subject, is_unanswerable};
use actors::ports::{
    Cancellation, Environment, EnvironmentError, Generator, Judge, JudgeTask, Judgement, Purchases,
    Trial,
};
use actors::types::{Answer, Document, Gate, Reward};
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
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

pub use price::{Account, Accounts};
pub use until::UntilCancelled;

/// How often the cache helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheCounts {
    /// Trials whose answer was known, repeats within one call counted.
    pub hits: u64,
    /// Trials that the generator answered (or failed to).
    pub misses: u64,
}

/// What decides an answer: the question with its tenant and metadata, which say what kind of answer
/// is wanted, and the documents in order by id and content. The id of a query and the time at which
/// it was asked decide nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    question: String,
    tenant: Option<String>,
    metadata: BTreeMap<String, String>,
    documents: Vec<(String, u64)>,
}

impl Key {
    fn of(trial: &Trial) -> Self {
        let entry = |document: &Document| {
            let mut hasher = DefaultHasher::new();
            (&document.title, &document.text, &document.metadata).hash(&mut hasher);
            (document.id.0.clone(), hasher.finish())
        };
        let query = &trial.query;
        Self {
            question: query.text.clone(),
            tenant: query.tenant.clone(),
            metadata: query.metadata.clone(),
            documents: trial.documents.iter().map(entry).collect(),
        }
    }

    /// A name for the trial: equal trials have equal names, so a judge gives them equal seeds.
    fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("trial-{:016x}", hasher.finish())
    }
}

/// A generator and a blend as an environment.
pub struct GeneratorEnvironment {
    generator: Arc<dyn Generator>,
    blend: Blend,
    config: EnvironmentConfig,
    runtime: Handle,
    judge: Option<Arc<dyn Judge>>,
    cache: Mutex<BoundedCache<Key, Answer>>,
    judged: Mutex<BoundedCache<(Key, Vec<String>), Reward>>,
    hits: AtomicU64,
    misses: AtomicU64,
    accounts: Accounts,
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
            judge: None,
            cache: Mutex::new(BoundedCache::new(config.cached_answers_max)),
            judged: Mutex::new(BoundedCache::new(config.cached_answers_max)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            accounts: Accounts::default(),
        })
    }

    /// The same, with what generator and judge are paid out of.
    #[must_use]
    pub fn with_accounts(self, accounts: Accounts) -> Self {
        Self { accounts, ..self }
    }

    /// The same environment for one learner: once that is cancelled, no further call is made, and
    /// those under way are broken off.
    pub fn until(self: Arc<Self>, cancellation: Cancellation) -> UntilCancelled {
        UntilCancelled { environment: self, cancellation }
    }

    /// The same, with every trial put to a judge: what it scores needs no reference.
    pub fn with_judge(self, judge: Arc<dyn Judge>) -> Self {
        Self { judge: Some(judge), ..self }
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
        for (trial, key) in trials.iter().zip(keys).filter(|(trial, _)| self.can_score(trial)) {
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
                self.accounts.trials.fetch_add(1, Ordering::Relaxed);
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

    /// Whether an answer to the trial could be worth anything: none is bought where it cannot.
    fn can_score(&self, trial: &Trial) -> bool {
        let query = &trial.query;
        self.judge.is_some() || !query.references.is_empty() || is_unanswerable(query)
    }

    fn score(&self, trial: &Trial, answer: &Answer) -> Result<Reward, EnvironmentError> {
        let documents = trial.documents.len();
        let gate = if documents == 0 { Gate::Direct } else { Gate::Retrieve };
        let subject = Subject { query: &trial.query, answer, gate, documents };
        let score = self.blend.score(subject, &trial.query.references);
        score.ok_or_else(|| without_references(trial))
    }

    async fn scored(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let keys: Vec<Key> = trials.iter().map(Key::of).collect();
        let answers = self.answers(trials, &keys).await;
        let scored = trials.iter().zip(&keys).map(|(trial, key)| {
            let answer = answers.get(key);
            async move {
                match (answer, &self.judge) {
                    (Some(Ok(answer)), None) => self.score(trial, answer),
                    (Some(Ok(answer)), Some(judge)) => self.ask(judge, trial, key, answer).await,
                    (Some(Err(reason)), _) => Err(EnvironmentError::Unscored(reason.clone())),
                    (None, _) => Err(without_references(trial)),
                }
            }
        });
        let scored: Vec<_> = scored.collect();
        futures::stream::iter(scored)
            .buffered(self.config.parallel_answers_max.max(1))
            .collect()
            .await
    }

    /// The judge's reward of a trial, from the cache or the judge.
    async fn ask(
        &self,
        judge: &Arc<dyn Judge>,
        trial: &Trial,
        key: &Key,
        answer: &Answer,
    ) -> Result<Reward, EnvironmentError> {
        let key = (key.clone(), trial.query.references.clone());
        if let Some(reward) = self.judged.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(reward);
        }
        let (query, documents) = (trial.query.clone(), trial.documents.clone());
        let task = JudgeTask::new(key.0.name(), query, documents, answer.clone());
        match judge.judge(&task).await {
            Ok(Judgement::Scored { reward }) => {
                let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
                judged.insert(key, reward.clone());
                Ok(reward)
            }
            Ok(Judgement::Abstained { reason } | Judgement::Refused { reason }) => {
                unscored(&reason)
            }
            Ok(Judgement::NotYet) => unscored("there is nothing to judge by"),
            Err(error) => unscored(&error.to_string()),
        }
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
        let scored = self.wait(self.scored(trials));
        scored.unwrap_or_else(|| trials.iter().map(|_| unscored(MUST_BE_INLINE)).collect())
    }

    fn needs_references(&self) -> bool {
        self.judge.is_none()
    }

    fn bought(&self) -> Purchases {
        self.accounts.bought()
    }

    fn afford(&self, trials: u64) -> Result<(), EnvironmentError> {
        let afforded = self.wait(self.accounts.afford(trials));
        afforded.unwrap_or(Ok(())).map_err(EnvironmentError::Unaffordable)
    }
}

const MUST_BE_INLINE: &str = "on a single-threaded runtime the generator must run inline";

fn without_references(trial: &Trial) -> EnvironmentError {
    EnvironmentError::Unscored(format!("query `{}` has no references", trial.query.id))
}

fn unscored(reason: &str) -> Result<Reward, EnvironmentError> {
    Err(EnvironmentError::Unscored(reason.to_owned()))
}

#[cfg(test)]
mod tests;
