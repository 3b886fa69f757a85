//! The questions of a run with their candidates: retrieved once, read once, then asked again and
//! again.

use super::Plan;
use crate::bench::{BenchError, Watch, headroom};
use crate::config::Config;
use crate::datasets::{self, Half, Question, Selection, Split};
use crate::wiring::Lab;
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::{Candidate, Document, DocumentId};
use async_trait::async_trait;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Data sets of the figure, and the half that the bundled reader never saw where it was trained on
/// the other.
pub const DATASETS: [(&str, Half); 4] = [
    ("nq-gold", Half::Odd),
    ("triviaqa", Half::Odd),
    ("squad-du-test", Half::Odd),
    ("hotpotqa", Half::Both),
];
/// Fewest candidates for a question to be asked: with one there is nothing to choose.
const CANDIDATES_MIN: usize = 2;
/// Questions whose pairs are read together.
const READ_BATCH: usize = 8;

/// Everything that is asked.
pub struct Material {
    /// What the service is asked and learns from.
    pub train: Vec<Question>,
    /// What policies are measured on.
    pub test: Vec<Question>,
    /// The candidates of both.
    pub index: Arc<dyn SearchIndex>,
}

/// Candidates by the text of the question: an index that was asked beforehand.
struct Stored(HashMap<String, Vec<Candidate>>);

#[async_trait]
impl SearchIndex for Stored {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        let found = self.0.get(&search.text).map(Vec::as_slice).unwrap_or_default();
        Ok(found.iter().take(search.k).cloned().collect())
    }

    async fn upsert(&self, _: &[Document]) -> Result<(), SearchError> {
        Err(SearchError::Refused("stored candidates are not written to".to_owned()))
    }

    async fn delete(&self, _: &[DocumentId]) -> Result<(), SearchError> {
        Err(SearchError::Refused("stored candidates are not written to".to_owned()))
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(self.0.values().map(Vec::len).sum::<usize>() as u64)
    }
}

/// Retrieves for the training and the test part of each data set, and reads every pair.
///
/// # Errors
/// A file that is missing or broken, an index or a text that fails.
pub async fn load(
    data: &Path,
    plan: &Plan,
    (lab, config): (&Lab, &Config),
    watch: &mut dyn Watch,
) -> Result<Material, BenchError> {
    let mut stored = HashMap::new();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for name in &plan.datasets {
        let half = DATASETS.iter().find(|(known, _)| known == name).map_or(Half::Both, |(_, h)| *h);
        let (all, index) = headroom::load(data, name, config).await?;
        for (split, part) in [(Split::Train, &mut train), (Split::Test, &mut test)] {
            let selection = Selection { split, half, limit: Some(plan.limit) };
            let questions = datasets::select(all.clone(), &selection);
            let kept = retrieve(questions, &*index, plan.top_n, &mut stored).await?;
            read(name, &kept, &stored, (lab, watch))?;
            part.extend(kept.into_iter().map(|q| Question { dataset: name.clone(), ..q }));
        }
    }
    Ok(Material { train, test, index: Arc::new(Stored(stored)) })
}

/// The questions that have something to choose from, each text once.
async fn retrieve(
    questions: Vec<Question>,
    index: &dyn SearchIndex,
    top_n: usize,
    stored: &mut HashMap<String, Vec<Candidate>>,
) -> Result<Vec<Question>, BenchError> {
    let mut kept = Vec::with_capacity(questions.len());
    for question in questions {
        let search = Search::of(&question.to_query(), top_n);
        let candidates = index.search(&search).await.map_err(|error| {
            let entrant = format!("retrieval for {}", question.id);
            BenchError::Serve { entrant, reason: error.to_string() }
        })?;
        if candidates.len() >= CANDIDATES_MIN && !stored.contains_key(&question.question) {
            stored.insert(question.question.clone(), candidates);
            kept.push(question);
        }
    }
    Ok(kept)
}

fn read(
    name: &str,
    questions: &[Question],
    stored: &HashMap<String, Vec<Candidate>>,
    (lab, watch): (&Lab, &mut dyn Watch),
) -> Result<(), BenchError> {
    for (at, chunk) in questions.chunks(READ_BATCH).enumerate() {
        let of = |q: &'_ Question| stored.get(&q.question).map(Vec::as_slice).unwrap_or_default();
        let pairs: Vec<(&str, &Document)> = chunk
            .iter()
            .flat_map(|q| of(q).iter().map(|c| (q.question.as_str(), &c.document)))
            .collect();
        lab.reader.read(&pairs).map_err(|error| {
            let entrant = format!("the reader on {name}");
            BenchError::Serve { entrant, reason: error.to_string() }
        })?;
        let done = (at * READ_BATCH + chunk.len()).min(questions.len());
        watch.step("questions read", (done, questions.len()), name);
    }
    Ok(())
}
