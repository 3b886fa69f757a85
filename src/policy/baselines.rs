//! Policies that nothing was learned for: what every trained one has to beat.
//!
//! A baseline ranks the candidates (by retrieval, by the untrained cross-encoder, by lot, by what is
//! known to be right), cuts the ranking, and fills what it may within the limits. Its decisions are
//! greedy and carry no states: they support no off-policy estimate and nothing is learned from them.
//!
//! - `retrieval_k<K>`: [`FixedK`], which takes K whatever the limits say; all others obey them.
//! - `cross_encoder_k<K>`: the K documents of the highest relevance logit.
//! - `threshold[:P]`, `threshold_logit:L`: by falling logit, all with a probability of P (0.5 where
//!   none is given) or a logit of L at least. DynamicRAG labels with P = 0.8.
//! - `threshold_retrieval:S`: by retrieval, all with a score of S at least, on the index's scale.
//! - `knee`, `knee_retrieval`, `largest_drop`: see [`Cut`].
//! - `windows_k<K>`: list-wise sliding windows on the same backbone ([`EncoderWindows`]).
//! - `random_k<K>`: K documents by a lot that depends on the seed and the question alone.
//! - `oracle`: the known positives among the candidates, in retrieval order; nothing else, also
//!   where `k_min` asks for more.
//!
//! Thresholds are fitted on training questions, by [`fit_threshold`]. Knows no question file and no
//! metric.

mod cuts;
mod fill;
mod names;
mod threshold;

pub use cuts::{Cut, knee, largest_drop};
pub use fill::{Share, fill, stamp, unlearned};
pub use names::{K_MAX, NAMES, Named, UnknownBaseline};
pub use threshold::{FitThresholdError, FittedThreshold, fit_threshold};

use super::fixed::FixedK;
use super::listwise::{EncoderWindows, ListwiseArgs, ListwisePolicy};
use super::pointwise::ranking;
use super::reader::{PairReader, ReaderError};
use super::serving::PolicyWeights;
use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{Decision, Document, DocumentId, PolicySnapshot, PolicyStamp, QueryId};
use candle_core::Device;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which documents are known to hold the answer, by question; a question without one has an empty
/// list.
pub type Positives = BTreeMap<QueryId, Vec<DocumentId>>;

/// What baselines are made of.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The cross-encoder; its tokenizer counts context tokens.
    pub reader: Arc<PairReader>,
    /// For the oracle alone.
    pub positives: Arc<Positives>,
    /// Of the lot, and of the untrained head behind the windows.
    pub seed: u64,
    /// Where the untrained head runs.
    pub device: Device,
}

/// Why a baseline cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// No such name.
    #[error(transparent)]
    Unknown(#[from] UnknownBaseline),
    /// The untrained head cannot be made.
    #[error("cannot make the untrained head of baseline `{name}`: {source}")]
    Head {
        /// The baseline.
        name: String,
        /// Why.
        source: candle_core::Error,
    },
    /// It looks at what is not there.
    #[error("baseline `oracle` needs the known positives of the questions, and there are none")]
    NoPositives,
}

/// The baseline of this name; [`NAMES`] has the forms.
///
/// # Errors
/// A name that stands for nothing (all forms are told), or tools that do not suffice.
pub fn by_name(name: &str, tools: &Tools) -> Result<Box<dyn Policy>, BaselineError> {
    let (ranker, cut) = match name.parse::<Named>()? {
        Named::Retrieval(Cut::First(k)) => return Ok(Box::new(FixedK::new(k))),
        Named::Windows(k) => return windows(name, k, tools),
        Named::Retrieval(cut) => (Ranker::Retrieval, cut),
        Named::CrossEncoder(cut) => (Ranker::CrossEncoder, cut),
        Named::Random(k) => (Ranker::Random { seed: tools.seed }, Cut::First(k)),
        Named::Oracle if tools.positives.is_empty() => return Err(BaselineError::NoPositives),
        Named::Oracle => (Ranker::Oracle(Arc::clone(&tools.positives)), Cut::First(usize::MAX)),
    };
    let reader = Arc::clone(&tools.reader);
    Ok(Box::new(Baseline { name: name.to_owned(), ranker, cut, reader }))
}

fn windows(name: &str, k: usize, tools: &Tools) -> Result<Box<dyn Policy>, BaselineError> {
    let weights = PolicyWeights::untrained(tools.reader.width(), tools.seed, &tools.device);
    let weights =
        weights.map_err(|source| BaselineError::Head { name: name.to_owned(), source })?;
    let reader = Arc::clone(&tools.reader);
    let ranker = EncoderWindows::new(Arc::clone(&reader), weights.head, tools.device.clone());
    let args = ListwiseArgs::default();
    Ok(Box::new(ListwisePolicy::new(name, (Arc::new(ranker), reader), args, k)))
}

/// What orders the candidates.
#[derive(Debug, Clone)]
enum Ranker {
    Retrieval,
    CrossEncoder,
    Random { seed: u64 },
    Oracle(Arc<Positives>),
}

/// A ranking with a cut.
#[derive(Debug)]
struct Baseline {
    name: String,
    ranker: Ranker,
    cut: Cut,
    reader: Arc<PairReader>,
}

/// What a ranker says of one list.
struct Ranked {
    /// Places, best first; what is missing is never taken.
    places: Vec<usize>,
    /// (n) larger is better, in agreement with `places`.
    scores: Vec<f32>,
    /// (n) context tokens.
    tokens: Vec<u32>,
}

impl Baseline {
    fn decide_one(&self, request: &DecideRequest) -> Result<Decision, PolicyError> {
        if request.candidates.is_empty() {
            return Err(PolicyError::Refused("there is no candidate to choose from".to_owned()));
        }
        let Ranked { places, scores, tokens } = self.ranked(request)?;
        let falling: Vec<f32> = match self.ranker {
            // The index's own scores, which need not fall where lists were fused.
            Ranker::Retrieval => falling(request.candidates.iter().map(|c| c.score)),
            _ => places.iter().map(|place| scores[*place]).collect(),
        };
        let kept = self.cut.kept(&falling);
        let share = match self.cut {
            Cut::First(count) => Share { eligible: places.len(), count },
            _ => Share { eligible: kept, count: kept },
        };
        let order = fill(&places, share, &tokens, request.limits);
        Ok(unlearned(request, &self.name, (order, scores, tokens)))
    }

    fn ranked(&self, request: &DecideRequest) -> Result<Ranked, PolicyError> {
        let query = request.query.text.as_str();
        let pairs: Vec<(&str, &Document)> =
            request.candidates.iter().map(|c| (query, &c.document)).collect();
        if matches!(self.ranker, Ranker::CrossEncoder) {
            let readings = self.reader.read(&pairs).map_err(refused)?;
            let scores: Vec<f32> = readings.iter().map(|reading| reading.rel).collect();
            let tokens = readings.iter().map(|reading| reading.tokens).collect();
            return Ok(Ranked { places: ranking(&scores), scores, tokens });
        }
        let tokens = self.reader.passage_tokens(&pairs).map_err(refused)?;
        let n = pairs.len();
        let mut places: Vec<usize> = (0..n).collect();
        match &self.ranker {
            Ranker::Retrieval | Ranker::CrossEncoder => {}
            Ranker::Random { seed } => places.shuffle(&mut lot(*seed, request)),
            Ranker::Oracle(positives) => {
                let known = positives.get(&request.query.id).ok_or_else(|| {
                    let id = &request.query.id;
                    PolicyError::Refused(format!("the oracle knows nothing of question `{id}`"))
                })?;
                places.retain(|place| known.contains(&request.candidates[*place].document.id));
            }
        }
        Ok(Ranked { scores: by_place(&places, n), places, tokens })
    }
}

/// Each score, or the lowest before it.
fn falling(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let lowest = |lowest: &mut f32, score: f32| {
        *lowest = lowest.min(score);
        Some(*lowest)
    };
    scores.scan(f32::INFINITY, lowest).collect()
}

/// (n) scores that rank the list as `places` does; what is not in it comes last, in list order.
pub(in crate::policy) fn by_place(places: &[usize], n: usize) -> Vec<f32> {
    let mut scores: Vec<f32> = (0..n).map(|place| -((n + place) as f32)).collect();
    for (rank, place) in places.iter().enumerate() {
        scores[*place] = -(rank as f32);
    }
    scores
}

/// The same for the same question, whenever it comes and whoever asks.
fn lot(seed: u64, request: &DecideRequest) -> StdRng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(request.query.id.as_str().as_bytes());
    if request.query.id.as_str().is_empty() {
        hash.update(request.query.text.as_bytes());
    }
    StdRng::from_seed(hash.finalize().into())
}

/// The texts are at fault, or the model.
pub(in crate::policy) fn refused(error: ReaderError) -> PolicyError {
    match error {
        ReaderError::QuestionTooLong { .. } | ReaderError::EmptyQuestion => {
            PolicyError::Refused(error.to_string())
        }
        _ => PolicyError::Model(error.to_string()),
    }
}

/// What every policy without weights says to a swap.
pub(in crate::policy) fn no_weights(name: &str, snapshot: &PolicySnapshot) -> PolicyError {
    PolicyError::Snapshot {
        version: snapshot.version.to_string(),
        reason: format!("the baseline `{name}` has no weights"),
    }
}

impl Policy for Baseline {
    /// Draws nothing from the generator: the lot is the question's.
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        _rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        requests.iter().map(|request| self.decide_one(request)).collect()
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        Err(no_weights(&self.name, snapshot))
    }

    fn stamp(&self) -> PolicyStamp {
        stamp(&self.name)
    }
}

#[cfg(test)]
mod tests;
