//! The seven benchmarks: which files, which questions, and each laid out once.

use super::{BenchError, Plan, Watch};
use crate::config::Config;
use crate::datasets::{self, Half, Question, Selection, Split};
use crate::recipes::instance::{Instance, lay_out, split_validation};
use crate::wiring::{self, Lab};
use actors::ports::SearchIndex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Benchmark {
    /// Its name in the report.
    pub name: &'static str,
    /// Question files, without `.questions.jsonl.gz`.
    pub questions: &'static [&'static str],
    /// Passage file, without `.passages.jsonl.gz`.
    pub pool: &'static str,
    /// The half that the bundled reader never saw, where it was trained on the other.
    pub half: Half,
}

/// The seven benchmarks of DynamicRAG (§4.1), each by a set of its kind with a pool of its own.
pub const BENCHMARKS: [Benchmark; 7] = [
    bench("NQ", &["nq", "nq-gold"], "wiki", Half::Odd),
    bench("TriviaQA", &["triviaqa"], "wiki", Half::Odd),
    bench("HotpotQA", &["hotpotqa", "hotpotqa-open"], "multihop", Half::Both),
    bench("2WikiMQA", &["2wikimqa-open"], "multihop", Half::Both),
    bench("FEVER-style", &["fm2"], "fever", Half::Both),
    bench("ELI5", &["eli5-lfqa"], "long", Half::Both),
    bench("ASQA", &["asqa-qafeedback"], "long", Half::Both),
];

const fn bench(
    name: &'static str,
    questions: &'static [&'static str],
    pool: &'static str,
    half: Half,
) -> Benchmark {
    Benchmark { name, questions, pool, half }
}

/// One benchmark, ready.
pub struct Loaded {
    /// Its name.
    pub name: &'static str,
    /// Its pool.
    pub index: Arc<dyn SearchIndex>,
    /// What recipes train on.
    pub train: Vec<Instance>,
    /// What chooses between epochs.
    pub validation: Vec<Instance>,
    /// What is measured on; in the data set of the benchmark's name.
    pub test: Vec<Question>,
    /// Candidates a question.
    pub top_n: usize,
}

/// Loads and lays out every benchmark.
///
/// # Errors
/// A file that is missing or broken, an index or a text that fails.
pub async fn load(
    data: &Path,
    plan: &Plan,
    (lab, config): (&Lab, &Config),
    watch: &mut dyn Watch,
) -> Result<Vec<Loaded>, BenchError> {
    let mut pools: BTreeMap<&str, Arc<dyn SearchIndex>> = BTreeMap::new();
    let mut loaded = Vec::with_capacity(BENCHMARKS.len());
    for benchmark in &BENCHMARKS {
        let index = match pools.get(benchmark.pool) {
            Some(index) => Arc::clone(index),
            None => {
                let file = data.join(format!("{}.passages.jsonl.gz", benchmark.pool));
                let index = wiring::pool(config, &datasets::load_passages(&[file])?).await?;
                pools.insert(benchmark.pool, Arc::clone(&index));
                index
            }
        };
        let files: Vec<_> = benchmark
            .questions
            .iter()
            .map(|name| data.join(format!("{name}.questions.jsonl.gz")))
            .collect();
        let mut all = datasets::load_questions(&files)?;
        all.retain(|q| !q.answers.is_empty());
        for question in &mut all {
            question.dataset = benchmark.name.to_owned();
        }
        let part = |split| {
            let selection = Selection { split, half: benchmark.half, limit: plan.limit };
            datasets::select(all.clone(), &selection)
        };
        let (train, test) = (part(Split::Train), part(Split::Test));
        let mut told =
            |done, total| watch.step("train questions read", (done, total), benchmark.name);
        let train = lay_out(&*index, &lab.reader, &train, plan.top_n, &mut told).await?;
        let mut told =
            |done, total| watch.step("test questions read", (done, total), benchmark.name);
        // Measured questions are read now too, so that times and progress are those of deciding.
        lay_out(&*index, &lab.reader, &test, plan.top_n, &mut told).await?;
        let train = train.into_iter().filter(|instance| !instance.is_empty()).collect();
        let (train, validation) = split_validation(train);
        let (name, top_n) = (benchmark.name, plan.top_n);
        loaded.push(Loaded { name, index, train, validation, test, top_n });
    }
    Ok(loaded)
}
