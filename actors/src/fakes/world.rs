//! The index, the generator, the judge and the snapshot store in memory, and all fakes as one.

use super::{FakeExaminer, FakeLearner, FakePolicy, FakeSeal, Findings, Knob, Lesson, MemoryLog};
use crate::clock::Clock;
use crate::ports::{
    GenerateError, Generator, Judge, JudgeError, JudgeTask, Judgement, RewriteError, Rewriter,
    Search, SearchError, SearchIndex, SnapshotError, SnapshotStore,
};
use crate::service::Ports;
use crate::types::{
    Answer, Candidate, Document, DocumentId, PolicySnapshot, PolicyVersion, Query, Reward,
    RewardPart, Rewrite, Usage,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Finds documents by words in common, title included.
#[derive(Default)]
pub struct FakeIndex {
    documents: Mutex<BTreeMap<DocumentId, Document>>,
    /// Faults of searches.
    pub knob: Arc<Knob>,
}

#[async_trait]
impl SearchIndex for FakeIndex {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        self.knob.pass().await.map_err(SearchError::Unavailable)?;
        let asked = words(&search.text);
        let score = |document: &Document| {
            let shared = words(&document.title)
                .union(&words(&document.text))
                .filter(|word| asked.contains(*word))
                .count();
            f32::from(u16::try_from(shared).unwrap_or(u16::MAX))
        };
        let mut found: Vec<(f32, Document)> =
            lock(&self.documents).values().map(|d| (score(d), d.clone())).collect();
        found.retain(|(score, document)| *score > 0.0 && search.admits(document));
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
        let ranked = (0..).zip(found.into_iter().take(search.k));
        Ok(ranked.map(|(rank, (score, document))| Candidate { document, score, rank }).collect())
    }

    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError> {
        lock(&self.documents).extend(documents.iter().map(|d| (d.id.clone(), d.clone())));
        Ok(())
    }

    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError> {
        lock(&self.documents).retain(|id, _| !ids.contains(id));
        Ok(())
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(lock(&self.documents).len() as u64)
    }
}

/// Answers with the text of the first document.
#[derive(Default)]
pub struct FakeGenerator {
    /// Answers from one document alone: how long each takes more, and whether it fails.
    alone: Mutex<(Duration, bool)>,
    /// Faults of answers.
    pub knob: Arc<Knob>,
}

impl FakeGenerator {
    /// Makes answers that rest on a single document this much slower, or fail.
    pub fn when_alone(&self, slower: Duration, fails: bool) {
        *lock(&self.alone) = (slower, fails);
    }
}

#[async_trait]
impl Generator for FakeGenerator {
    async fn answer(
        &self,
        _query: &Query,
        documents: &[Document],
    ) -> Result<Answer, GenerateError> {
        self.knob.pass().await.map_err(GenerateError::Unavailable)?;
        let (slower, fails) = *lock(&self.alone);
        if documents.len() == 1 {
            tokio::time::sleep(slower).await;
        }
        if documents.len() == 1 && fails {
            return Err(GenerateError::Refused("one document is not enough".to_owned()));
        }
        let first = documents.first();
        Ok(Answer {
            text: first.map(|document| document.text.clone()).unwrap_or_default(),
            citations: first.map(|document| document.id.clone()).into_iter().collect(),
            confidence: None,
            usage: Usage::default(),
            generator: String::new(),
        })
    }
}

/// Proposes the query's words in reverse.
#[derive(Default)]
pub struct FakeRewriter {
    /// Faults of proposals.
    pub knob: Arc<Knob>,
}

#[async_trait]
impl Rewriter for FakeRewriter {
    async fn propose(&self, query: &Query) -> Result<Vec<Rewrite>, RewriteError> {
        self.knob.pass().await.map_err(RewriteError::Unavailable)?;
        let words: Vec<&str> = query.text.split_whitespace().rev().collect();
        Ok(vec![Rewrite { kind: "reversed".to_owned(), text: words.join(" ") }])
    }
}

/// Judges by the newest value in the feedback, else by references, the query's own before those
/// of feedback; without any it waits.
#[derive(Default)]
pub struct FakeJudge {
    /// Faults of verdicts.
    pub knob: Arc<Knob>,
    /// Whether it abstains where the context was a single document.
    pub abstains_alone: AtomicBool,
    /// Its name, where it has another.
    pub renamed: AtomicBool,
}

#[async_trait]
impl Judge for FakeJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError> {
        self.knob.pass().await.map_err(JudgeError::Unavailable)?;
        if task.documents.len() == 1 && self.abstains_alone.load(SeqCst) {
            return Ok(Judgement::Abstained { reason: "one document".to_owned() });
        }
        let mut references = task.query.references.clone();
        if references.is_empty() {
            references = task.feedback.iter().flat_map(|f| f.references.clone()).collect();
        }
        let said = task.feedback.iter().rev().find_map(|f| f.value);
        let matched = task
            .answer
            .as_ref()
            .filter(|_| !references.is_empty())
            .map(|answer| f64::from(u8::from(references.contains(&answer.text))));
        let value = match (said, matched) {
            (Some(said), Some(matched)) => f64::midpoint(said, matched),
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => return Ok(Judgement::NotYet),
        };
        let parts = vec![RewardPart::new("fake", value, 1.0)];
        let abstained = Judgement::Abstained { reason: "not a number".to_owned() };
        Ok(Reward::from_parts(parts).map_or(abstained, |reward| Judgement::Scored { reward }))
    }

    fn name(&self) -> String {
        if self.renamed.load(SeqCst) { "other" } else { "fake" }.to_owned()
    }
}

/// Snapshots by version.
#[derive(Default)]
pub struct MemorySnapshots {
    kept: Mutex<BTreeMap<PolicyVersion, PolicySnapshot>>,
    /// Faults of uploads and downloads.
    pub knob: Arc<Knob>,
}

#[async_trait]
impl SnapshotStore for MemorySnapshots {
    async fn put(&self, snapshot: &PolicySnapshot) -> Result<String, SnapshotError> {
        self.knob.pass().await.map_err(SnapshotError::Unavailable)?;
        if !snapshot.is_intact() {
            let reason = "its weights do not have its digest".to_owned();
            return Err(SnapshotError::Damaged { version: snapshot.version, reason });
        }
        let mut kept = lock(&self.kept);
        let found = kept.entry(snapshot.version).or_insert_with(|| snapshot.clone());
        if found.digest == snapshot.digest {
            Ok(format!("memory:{}", snapshot.version))
        } else {
            Err(SnapshotError::Conflict(snapshot.version))
        }
    }

    async fn get(&self, version: PolicyVersion) -> Result<PolicySnapshot, SnapshotError> {
        self.knob.pass().await.map_err(SnapshotError::Unavailable)?;
        lock(&self.kept).get(&version).cloned().ok_or(SnapshotError::Missing(version))
    }

    async fn list(&self) -> Result<Vec<PolicyVersion>, SnapshotError> {
        Ok(lock(&self.kept).keys().copied().collect())
    }

    async fn delete(&self, version: PolicyVersion) -> Result<(), SnapshotError> {
        lock(&self.kept).remove(&version);
        Ok(())
    }
}

/// All fakes of one service. Clones share everything, so a service can be started again on it.
#[derive(Clone, Default)]
pub struct World {
    /// The index.
    pub index: Arc<FakeIndex>,
    /// The generator.
    pub generator: Arc<FakeGenerator>,
    /// The judge.
    pub judge: Arc<FakeJudge>,
    /// The rewriter; none unless a test sets one.
    pub rewriter: Option<Arc<FakeRewriter>>,
    /// The log.
    pub log: MemoryLog,
    /// The snapshots.
    pub snapshots: Arc<MemorySnapshots>,
    /// Faults of the policy.
    pub policy: Arc<Knob>,
    /// What the learner's next updates come to.
    pub lessons: Arc<Mutex<VecDeque<Lesson>>>,
    /// What examinations find.
    pub examiner: Arc<Mutex<Findings>>,
}

impl World {
    /// Adds what the next update comes to.
    pub fn teach(&self, lesson: Lesson) {
        lock(&self.lessons).push_back(lesson);
    }

    /// The ports of a service in this world.
    pub fn ports(&self, clock: Clock) -> Ports {
        let (policy, lessons) = (Arc::clone(&self.policy), Arc::clone(&self.lessons));
        let examiner = Arc::clone(&self.examiner);
        Ports {
            index: self.index.clone(),
            generator: self.generator.clone(),
            judge: self.judge.clone(),
            rewriter: self.rewriter.clone().map(|rewriter| rewriter as Arc<dyn Rewriter>),
            log: Arc::new(self.log.clone()),
            snapshots: self.snapshots.clone(),
            policy: Arc::new(move || Ok(Box::new(FakePolicy::new(Arc::clone(&policy))))),
            learner: Arc::new(move |_| Ok(Box::new(FakeLearner::new(Arc::clone(&lessons))))),
            examiner: Arc::new(move || Ok(Box::new(FakeExaminer::new(Arc::clone(&examiner))))),
            seal: Arc::new(FakeSeal),
            first: Arc::new(super::snapshot(0, true)),
            clock,
        }
    }
}
