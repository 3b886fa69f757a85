//! What is asked, in which order: two streams in blocks, and longer ones for the detectors.

use super::{BenchError, Plan, Watch};
use crate::config::Config;
use crate::datasets::{self, Half, Question, Selection, Split, bucket};
use crate::wiring::{self, Lab};
use actors::ports::{Search, SearchIndex};
use actors::types::{Candidate, Document, Query};
use std::path::Path;

/// The domains in the order they are asked about: question and passage file, and the half that the
/// bundled reader never saw where it was trained on the other.
const DOMAINS: [(&str, Half); 3] = [
    ("squad-du-test", Half::Odd),
    ("squadshifts-newwiki", Half::Both),
    ("squadshifts-amazon", Half::Both),
];
/// Blocks of each of those.
const DOMAIN_BLOCKS: usize = 3;
/// Files of RealTimeQA below `raw/realtimeqa`.
const NEWS: [&str; 3] =
    ["realtimeqa_2022.jsonl.gz", "realtimeqa_2023.jsonl.gz", "realtimeqa_2024.jsonl.gz"];
/// Fewest candidates for a question to be asked: with one there is nothing to choose.
const CANDIDATES_MIN: usize = 2;
/// Questions whose pairs are read together.
const READ_BATCH: usize = 8;

/// One question with its candidates.
#[derive(Debug, Clone)]
pub struct Item {
    /// The query, with its references.
    pub query: Query,
    /// In retrieval order.
    pub candidates: Vec<Candidate>,
}

/// Questions that are served by the same weights.
#[derive(Debug, Clone)]
pub struct Block {
    /// The domain, or the first day.
    pub name: String,
    /// In the order they are asked.
    pub items: Vec<Item>,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name in the report.
    pub name: String,
    /// What everybody has learned from before.
    pub warm_up: Vec<Item>,
    /// Of the first domain, never learned from.
    pub held_out: Vec<Item>,
    /// In order.
    pub blocks: Vec<Block>,
}

/// One query as the detectors see it: text, top score, margin.
pub(super) type Glance = (String, Option<f64>, Option<f64>);

/// A longer stream for the detectors.
#[derive(Debug, Clone)]
pub(super) struct Glances {
    pub name: String,
    /// Whether each stretch is one domain, so that its order means nothing and is shuffled.
    pub is_stationary: bool,
    /// Domain by domain.
    pub stretches: Vec<(String, Vec<Glance>)>,
}

/// Everything a run asks.
pub(super) struct Material {
    pub streams: Vec<Stream>,
    pub watched: Vec<Glances>,
}

/// Loads both streams.
pub(super) async fn load(
    data: &Path,
    plan: &Plan,
    config: &Config,
) -> Result<Material, BenchError> {
    let (squad, squad_glances) = domains(data, plan, config).await?;
    let (news, news_glances) = news(data, plan)?;
    Ok(Material { streams: vec![squad, news], watched: vec![squad_glances, news_glances] })
}

/// SQuAD and the domains after it, each searched in its own pool.
async fn domains(
    data: &Path,
    plan: &Plan,
    config: &Config,
) -> Result<(Stream, Glances), BenchError> {
    let mut stream = Stream {
        name: "squadshifts".to_owned(),
        warm_up: Vec::new(),
        held_out: Vec::new(),
        blocks: Vec::new(),
    };
    let mut stretches = Vec::new();
    for (at, (name, half)) in DOMAINS.into_iter().enumerate() {
        let file = |kind: &str| data.join(format!("{name}.{kind}.jsonl.gz"));
        let passages = datasets::load_passages(&[file("passages")])?;
        let pool = wiring::pool(config, &passages).await?;
        let selection = Selection { split: Split::All, half, limit: None };
        let questions =
            datasets::select(datasets::load_questions(&[file("questions")])?, &selection);
        // The first domain also gives the warm-up and what is held out.
        let before = if at == 0 { 3 * plan.limit } else { 0 };
        let asked = before + DOMAIN_BLOCKS * plan.limit;
        let items = searched(&*pool, questions.iter().take(asked), plan.top_n).await?;
        let mut items = items.into_iter();
        if at == 0 {
            stream.warm_up = items.by_ref().take(2 * plan.limit).collect();
            stream.held_out = items.by_ref().take(plan.limit).collect();
        }
        for _ in 0..DOMAIN_BLOCKS {
            let items: Vec<Item> = items.by_ref().take(plan.limit).collect();
            stream.blocks.push(Block { name: name.to_owned(), items });
        }
        let glanced = searched(&*pool, questions.iter().take(plan.watched), 2).await?;
        stretches.push((name.to_owned(), glanced.iter().map(glance).collect()));
    }
    let name = stream.name.clone();
    Ok((stream, Glances { name, is_stationary: true, stretches }))
}

async fn searched(
    pool: &dyn SearchIndex,
    questions: impl Iterator<Item = &Question>,
    top_n: usize,
) -> Result<Vec<Item>, BenchError> {
    let mut items = Vec::new();
    for question in questions {
        let query = question.to_query();
        let candidates = pool.search(&Search::of(&query, top_n)).await.map_err(|error| {
            let entrant = format!("retrieval for {}", question.id);
            BenchError::Serve { entrant, reason: error.to_string() }
        })?;
        if candidates.len() >= CANDIDATES_MIN {
            items.push(Item { query, candidates });
        }
    }
    Ok(items)
}

fn glance(item: &Item) -> Glance {
    let score = |at: usize| item.candidates.get(at).map(|c| f64::from(c.score));
    let margin = score(0).zip(score(1)).map(|(first, second)| first - second);
    (item.query.text.clone(), score(0), margin)
}

/// RealTimeQA by date, cut into periods of as many questions each; of each period those that come
/// first by hash, in their order. Of the first period more: warm-up and what is held out.
fn news(data: &Path, plan: &Plan) -> Result<(Stream, Glances), BenchError> {
    let files = NEWS.map(|file| data.join("raw").join("realtimeqa").join(file));
    let all = datasets::load_realtimeqa(&files)?;
    let glances = all.iter().map(|dated| (dated.question.question.clone(), None, None)).collect();
    let askable: Vec<datasets::Dated> =
        all.into_iter().filter(|dated| dated.documents.len() >= CANDIDATES_MIN).collect();
    let mut stream = Stream {
        name: "realtimeqa".to_owned(),
        warm_up: Vec::new(),
        held_out: Vec::new(),
        blocks: Vec::new(),
    };
    let period = askable.len().div_ceil(plan.blocks + 1).max(1);
    for (at, period) in askable.chunks(period).enumerate() {
        let mut order: Vec<usize> = (0..period.len()).collect();
        order.sort_by_key(|i| bucket(&period[*i].question.id, "drift", u32::MAX));
        let take = |count: usize, from: usize| -> Vec<Item> {
            let mut taken: Vec<usize> = order.iter().skip(from).take(count).copied().collect();
            taken.sort_unstable();
            taken.into_iter().map(|i| dated_item(&period[i], plan.top_n)).collect()
        };
        if at == 0 {
            stream.warm_up = take(2 * plan.limit, 0);
            stream.held_out = take(plan.limit, 2 * plan.limit);
        } else {
            let name = period.first().map(|dated| dated.date.clone()).unwrap_or_default();
            stream.blocks.push(Block { name, items: take(plan.limit, 0) });
        }
    }
    let name = stream.name.clone();
    let stretches = vec![("by date".to_owned(), glances)];
    Ok((stream, Glances { name, is_stationary: false, stretches }))
}

fn dated_item(dated: &datasets::Dated, top_n: usize) -> Item {
    let candidate = |(rank, document): (u32, &Document)| Candidate {
        document: document.clone(),
        // A web search gives an order and no scores.
        score: 1.0 / (1.0 + rank as f32),
        rank,
    };
    let candidates = (0..).zip(dated.documents.iter().take(top_n)).map(candidate).collect();
    Item { query: dated.question.to_query(), candidates }
}

/// Reads every pair of a stream once, so that courses find them known.
pub(super) fn read(stream: &Stream, lab: &Lab, watch: &mut dyn Watch) -> Result<(), BenchError> {
    let blocks = stream.blocks.iter().flat_map(|block| &block.items);
    let items: Vec<&Item> = stream.warm_up.iter().chain(&stream.held_out).chain(blocks).collect();
    for (at, chunk) in items.chunks(READ_BATCH).enumerate() {
        watch.step("questions read", (at * READ_BATCH, items.len()), &stream.name);
        let pairs: Vec<(&str, &Document)> = chunk
            .iter()
            .flat_map(|item| {
                item.candidates.iter().map(|c| (item.query.text.as_str(), &c.document))
            })
            .collect();
        lab.reader.read(&pairs).map_err(|error| {
            let entrant = format!("the reader on {}", stream.name);
            BenchError::Serve { entrant, reason: error.to_string() }
        })?;
    }
    watch.step("questions read", (items.len(), items.len()), &stream.name);
    Ok(())
}
