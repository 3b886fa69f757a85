//! What worlds of ordered selections share: puzzles as instances of the recipes, the environment that
//! pays for a list, policies that learn nothing, and the measure of one that did.
//!
//! A world says what the documents of a puzzle are and what a list of them is worth; everything else
//! is here. The states tell each document's kind in a column of its own, under noise, so a policy can
//! know everything that the best one needs. Knows no world and no recipe.

use actors::ports::{Environment, EnvironmentError, Trial};
use actors::types::{
    Candidate, CandidateStates, Document, Query, Reward, RewardPart, SelectionLimits, StatesError,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use regrade::policy::features;
use regrade::recipes::instance::Instance;
use serde::Serialize;

/// Leading columns of a state that stand for an encoder's.
pub const EMBEDDING: usize = 8;
/// Documents of a puzzle.
pub const DOCUMENTS: usize = 6;
/// Any number of them may be chosen, but one at least.
pub const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 6, token_budget: 1_000 };
/// Context tokens of every document.
pub const TOKENS: u32 = 10;
/// Puzzles of this number and above are never trained on.
pub const HELD_OUT: u64 = 1 << 32;

/// A world of puzzles, each a list of documents of known kinds.
pub trait ListWorld: Send + Sync {
    /// Its name: the start of every query, and the kind of its documents.
    fn name(&self) -> &'static str;

    /// Decides every puzzle.
    fn seed(&self) -> u64;

    /// The kinds of the documents of one puzzle, below [`EMBEDDING`] each; they are shuffled after.
    fn kinds(&self, rng: &mut StdRng) -> [usize; DOCUMENTS];

    /// What a list of documents of these kinds is worth, out of a puzzle with `all`.
    fn worth(&self, all: &[usize; DOCUMENTS], chosen: &[usize]) -> f64;
}

/// One puzzle.
#[derive(Debug, Clone)]
pub struct Puzzle {
    /// Its question; the environment knows the puzzle by it.
    pub query: Query,
    /// In retrieval order, which says nothing.
    pub candidates: Vec<Candidate>,
    /// One row a document.
    pub states: CandidateStates,
    /// The kind of each document.
    pub kinds: [usize; DOCUMENTS],
}

/// The puzzle of a number; the same for the same world.
///
/// # Errors
/// Never: every value is finite.
pub fn puzzle(world: &dyn ListWorld, number: u64) -> Result<Puzzle, StatesError> {
    let mut rng =
        StdRng::seed_from_u64(world.seed() ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut kinds = world.kinds(&mut rng);
    kinds.shuffle(&mut rng);
    let width = EMBEDDING + features::SCALARS.len();
    let mut values = vec![0.0_f32; DOCUMENTS * width];
    for (row, kind) in values.chunks_mut(width).zip(kinds) {
        row[..EMBEDDING].fill_with(|| rng.random_range(-0.5..0.5));
        row[kind] += 3.0;
    }
    let name = world.name();
    let candidate = |rank: usize| {
        let id = format!("{name}-{number}-{rank}");
        let document = Document { id: id.as_str().into(), text: id, ..Document::default() };
        Candidate { document, score: (DOCUMENTS - rank) as f32, rank: rank as u32 }
    };
    let text = format!("{name} {number}");
    Ok(Puzzle {
        query: Query { id: text.as_str().into(), text, ..Query::default() },
        candidates: (0..DOCUMENTS).map(candidate).collect(),
        states: CandidateStates::new(width, values)?,
        kinds,
    })
}

/// Puzzles of consecutive numbers.
///
/// # Errors
/// As [`puzzle`].
pub fn puzzles(world: &dyn ListWorld, from: u64, count: u64) -> Result<Vec<Puzzle>, StatesError> {
    (from..from + count).map(|number| puzzle(world, number)).collect()
}

impl Puzzle {
    /// What a selection is worth; positions out of range are left out.
    pub fn worth(&self, world: &dyn ListWorld, order: &[u32]) -> f64 {
        let chosen: Vec<usize> =
            order.iter().filter_map(|at| self.kinds.get(*at as usize).copied()).collect();
        world.worth(&self.kinds, &chosen)
    }

    /// The best selection there is, by trying all of them (1,956 lists), and its worth.
    pub fn best(&self, world: &dyn ListWorld) -> (Vec<u32>, f64) {
        let mut best = (Vec::new(), f64::NEG_INFINITY);
        self.extend(world, &mut Vec::new(), &mut best);
        best
    }

    fn extend(&self, world: &dyn ListWorld, order: &mut Vec<u32>, best: &mut (Vec<u32>, f64)) {
        if order.len() >= LIMITS.k_min as usize {
            let worth = self.worth(world, order);
            if worth > best.1 {
                *best = (order.clone(), worth);
            }
        }
        for next in 0..DOCUMENTS as u32 {
            if !order.contains(&next) {
                order.push(next);
                self.extend(world, order, best);
                order.pop();
            }
        }
    }
}

/// What a recipe is given; the kinds of the documents are only in the states.
impl From<Puzzle> for Instance {
    fn from(puzzle: Puzzle) -> Self {
        Self {
            query: puzzle.query,
            dataset: "planted".to_owned(),
            answer_type: "short".to_owned(),
            positives: Vec::new(),
            tokens: vec![TOKENS; puzzle.candidates.len()],
            candidates: puzzle.candidates,
            states: puzzle.states,
        }
    }
}

/// A world as the environment of a recipe: it pays for every list of its documents.
pub struct Paid<W>(pub W);

impl<W: ListWorld> Environment for Paid<W> {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let score = |trial: &Trial| {
            let unscored = || EnvironmentError::Unscored(trial.query.text.clone());
            let number = trial.query.text.strip_prefix(self.0.name()).map(str::trim);
            let number = number.and_then(|number| number.parse().ok()).ok_or_else(unscored)?;
            let puzzle = puzzle(&self.0, number).map_err(|_| unscored())?;
            let place = |document: &Document| {
                document.id.as_str().rsplit('-').next().and_then(|rank| rank.parse::<u32>().ok())
            };
            let order: Option<Vec<u32>> = trial.documents.iter().map(place).collect();
            let value = puzzle.worth(&self.0, &order.ok_or_else(unscored)?);
            let name = self.0.name().to_owned();
            Reward::from_parts(vec![RewardPart::new(name, value, 1.0)]).ok_or_else(unscored)
        };
        trials.iter().map(score).collect()
    }
}

/// Mean worth over puzzles of policies that learn nothing, and of the best there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bounds {
    /// The first k documents in retrieval order, for k from 1.
    pub fixed_k: Vec<f64>,
    /// Documents and their number drawn at random.
    pub random: f64,
    /// The best selection of every puzzle.
    pub oracle: f64,
}

impl Bounds {
    /// Measures them.
    pub fn of(world: &dyn ListWorld, puzzles: &[Puzzle]) -> Self {
        let mut rng = StdRng::seed_from_u64(world.seed());
        let mean = |sum: f64| sum / puzzles.len().max(1) as f64;
        let fixed = |k: u32| {
            let order: Vec<u32> = (0..k).collect();
            mean(puzzles.iter().map(|puzzle| puzzle.worth(world, &order)).sum())
        };
        let mut drawn = 0.0;
        for puzzle in puzzles {
            let mut order: Vec<u32> = (0..DOCUMENTS as u32).collect();
            order.shuffle(&mut rng);
            order.truncate(rng.random_range(1..=DOCUMENTS));
            drawn += puzzle.worth(world, &order);
        }
        Self {
            fixed_k: (1..=DOCUMENTS as u32).map(fixed).collect(),
            random: mean(drawn),
            oracle: mean(puzzles.iter().map(|puzzle| puzzle.best(world).1).sum()),
        }
    }

    /// The best of the policies that learn nothing.
    pub fn best_baseline(&self) -> f64 {
        self.fixed_k.iter().copied().fold(self.random, f64::max)
    }

    /// Share of the gap between the best baseline and the oracle that a mean worth closes.
    pub fn closed(&self, worth: f64) -> f64 {
        (worth - self.best_baseline()) / (self.oracle - self.best_baseline())
    }
}

/// Mean worth of one selection a puzzle.
pub fn mean_worth(world: &dyn ListWorld, puzzles: &[Puzzle], orders: &[Vec<u32>]) -> f64 {
    let each = puzzles.iter().zip(orders).map(|(puzzle, order)| puzzle.worth(world, order));
    each.sum::<f64>() / puzzles.len().max(1) as f64
}
