//! The warm-up: what is best for each question is found by trying, and cloned.
//!
//! Owns the three kinds of samples (answer directly, retrieve with the best rewrite, answer from
//! what was found), which come from one search over the moves of each question, and the loss on
//! them. Gold answers enter through the reward alone; which passages are positive is never looked
//! at.

use super::batch::{SelectionBatch, TurnBatch};
use super::config::{Rules, SmartRagConfig};
use super::episode::{Episode, Step};
use super::policy::SmartPolicy;
use super::world::World;
use crate::algorithms::sft::negative_log_likelihood;
use crate::policy::selection::open_actions;
use crate::policy::turn_head::moves::{MOVES, Move, Open, RewriteKind};
use crate::recipes::fit::RecipeError;
use crate::recipes::instance::Instance;
use crate::rewards::{exact_match, token_f1};
use actors::types::{Query, SelectionLimits};
use candle_core::Tensor;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Best reward of one answer: EM + F1.
const BEST_ANSWER: f64 = 2.0;
/// Rewards that differ by less are the same.
const SAME: f64 = 1e-9;

/// The best move at a state that was visited.
#[derive(Debug, Clone)]
pub struct TurnSample {
    /// What the turn head sees.
    pub state: Vec<f32>,
    /// What is open.
    pub open: Open,
    /// The best move.
    pub best: Move,
    /// What it earns from here on, costs of retrievals taken off.
    pub worth: f64,
    /// Retrievals made before.
    pub retrievals: usize,
}

/// Everything a question teaches.
#[derive(Debug, Clone, Default)]
pub struct Lesson {
    /// A best move for each state visited, the first one first.
    pub turns: Vec<TurnSample>,
    /// Lists with a best selection, where any selection earned something.
    pub selections: Vec<(Arc<Instance>, Vec<u32>)>,
}

/// How many samples there are of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Kinds {
    /// Answer without retrieving.
    pub answer_directly: usize,
    /// Retrieve, by whichever rewrite.
    pub retrieve: usize,
    /// Answer from what was found.
    pub answer_from_observation: usize,
    /// Selections cloned.
    pub selections: usize,
}

impl Kinds {
    /// Counts the samples of some lessons.
    pub fn of(lessons: &[Lesson]) -> Self {
        let mut kinds = Self::default();
        for lesson in lessons {
            kinds.selections += lesson.selections.len();
            for turn in &lesson.turns {
                match turn.best {
                    Move::Retrieve(_) => kinds.retrieve += 1,
                    Move::Answer if turn.retrievals == 0 => kinds.answer_directly += 1,
                    Move::Answer => kinds.answer_from_observation += 1,
                }
            }
        }
        kinds
    }
}

/// A state that was visited, with what answering there earns.
struct Visited {
    state: Vec<f32>,
    open: Open,
    answer: f64,
    list: Option<(Arc<Instance>, Vec<u32>)>,
}

type Visits = BTreeMap<Vec<RewriteKind>, Visited>;

/// Tries the branches of a question and keeps the best of each state.
///
/// The state before any search and the one after a search with the question as asked are always
/// visited; a further one only where it could still earn more than what is known to be had, after
/// the cost of its retrievals: from its own predecessor if that is one of these two, else from the
/// start. Ties go to fewer retrievals, then to the order of the rewrites. A state gives a sample
/// only if no move that was left untried could be better.
///
/// # Errors
/// A port that failed.
pub async fn lesson(
    world: &World,
    query: &Query,
    rules: &Rules,
    config: &SmartRagConfig,
) -> Result<Lesson, RecipeError> {
    let mut visits = Visits::new();
    // Breadth first: cheap plans set the bar that dear ones must be able to pass.
    let mut level: Vec<Vec<RewriteKind>> = vec![Vec::new()];
    for _ in 0..=rules.quota as usize {
        let mut next = Vec::new();
        for path in std::mem::take(&mut level) {
            if !is_base(&path) && !could_gain(&visits, &path, config.retrieval_cost) {
                continue;
            }
            let Some(visited) = visit(world, query, &path, (rules, config)).await? else {
                continue;
            };
            next.extend(visited.after(&path));
            visits.insert(path, visited);
        }
        level = next;
    }
    Ok(learned(visits, config))
}

/// States that every question gives, so that the second turn is learned from failures, too.
fn is_base(path: &[RewriteKind]) -> bool {
    path.is_empty() || path == [RewriteKind::Original]
}

/// Whether a state could earn more than what is known to be had from where it is compared.
fn could_gain(visits: &Visits, path: &[RewriteKind], cost: f64) -> bool {
    let parent = &path[..path.len().saturating_sub(1)];
    let from: &[RewriteKind] = if is_base(parent) { parent } else { &[] };
    let reached = visits
        .iter()
        .filter(|(known, _)| known.starts_with(from))
        .map(|(known, visited)| visited.answer - cost * (known.len() - from.len()) as f64);
    let most = BEST_ANSWER - cost * (path.len() - from.len()) as f64;
    most > reached.fold(f64::NEG_INFINITY, f64::max) + SAME
}

impl Visited {
    /// The states that one more retrieval leads to.
    fn after(&self, path: &[RewriteKind]) -> Vec<Vec<RewriteKind>> {
        let is_open = |kind: &RewriteKind| self.open[Move::Retrieve(*kind).column()];
        let kinds = RewriteKind::ALL.into_iter().filter(is_open);
        kinds.map(|kind| [path, &[kind]].concat()).collect()
    }
}

/// Goes to a state by its rewrites; `None` where one of them is not open there.
async fn visit(
    world: &World,
    query: &Query,
    path: &[RewriteKind],
    (rules, config): (&Rules, &SmartRagConfig),
) -> Result<Option<Visited>, RecipeError> {
    let mut episode = Episode::start(world, query, rules.quota).await?;
    for &kind in path {
        if episode.take(Move::Retrieve(kind)).await? != Step::Observed {
            return Ok(None);
        }
    }
    let (state, open) = (episode.state(), episode.open());
    let Some(list) = episode.list()? else {
        let answer = worth(world, &episode, &[]).await?;
        return Ok(Some(Visited { state, open, answer, list: None }));
    };
    let mut best: Option<(f64, Vec<u32>)> = None;
    for order in tries(&list, rules.limits, config.tries) {
        let earned = worth(world, &episode, &list.documents(&order)).await?;
        if best.as_ref().is_none_or(|(so_far, _)| earned > so_far + SAME) {
            best = Some((earned, order));
        }
        if best.as_ref().is_some_and(|(so_far, _)| *so_far >= BEST_ANSWER - SAME) {
            break;
        }
    }
    let (answer, order) = best.unwrap_or_default();
    // Where nothing earns anything there is nothing to choose by.
    let list = (answer > SAME).then_some((list, order));
    Ok(Some(Visited { state, open, answer, list }))
}

/// EM + F1 of the answer from some documents.
async fn worth(
    world: &World,
    episode: &Episode<'_>,
    documents: &[actors::types::Document],
) -> Result<f64, RecipeError> {
    let answer = world.answer(episode.asked(), documents).await?;
    let references = &episode.asked().query.references;
    Ok(exact_match(&answer.text, references) + token_f1(&answer.text, references))
}

/// Selections worth trying, the cheapest first: the most relevant documents one by one, then
/// together. Relevance is the second half's `relevance` column, so no label is needed.
fn tries(list: &Instance, limits: SelectionLimits, singles: usize) -> Vec<Vec<u32>> {
    let by_relevance = by_relevance(list);
    let single = by_relevance.iter().take(singles).map(|&j| vec![j]);
    let prefixes = [2, 3, 5].into_iter().filter(|k| *k <= by_relevance.len());
    let prefixes = prefixes.map(|k| by_relevance[..k].to_vec());
    let is_legal = |order: &Vec<u32>| open_actions(list.len(), list.masks(limits), order).is_ok();
    single.chain(prefixes).filter(is_legal).collect()
}

/// Candidates by the reader's relevance, best first, ties in order of arrival.
fn by_relevance(list: &Instance) -> Vec<u32> {
    let (width, rows) = (list.states.width(), list.states.values());
    let column = crate::policy::features::position("relevance")
        .map_or(0, |at| width - crate::policy::features::SCALARS.len() + at);
    let mut order: Vec<u32> = (0..list.len() as u32).collect();
    let relevance = |j: u32| rows.get(j as usize * width + column).copied().unwrap_or(f32::MIN);
    order.sort_by(|&a, &b| relevance(b).total_cmp(&relevance(a)));
    order
}

/// Best move and worth of every state, from the last ones back.
fn learned(visits: Visits, config: &SmartRagConfig) -> Lesson {
    let mut worths: BTreeMap<Vec<RewriteKind>, f64> = BTreeMap::new();
    let mut lesson = Lesson::default();
    let mut paths: Vec<Vec<RewriteKind>> = visits.keys().cloned().collect();
    paths.sort_by_key(|path| (std::cmp::Reverse(path.len()), path.clone()));
    for path in paths {
        let Some(visited) = visits.get(&path) else { continue };
        let (mut best, mut worth) = (Move::Answer, visited.answer);
        for kind in RewriteKind::ALL {
            let after = [path.as_slice(), &[kind]].concat();
            let Some(later) = worths.get(&after).map(|w| w - config.retrieval_cost) else {
                continue;
            };
            if later > worth + SAME {
                (best, worth) = (Move::Retrieve(kind), later);
            }
        }
        let untried = visited.after(&path).iter().any(|after| !worths.contains_key(after));
        if !untried || worth >= BEST_ANSWER - config.retrieval_cost - SAME {
            let (state, open) = (visited.state.clone(), visited.open);
            lesson.turns.push(TurnSample { state, open, best, worth, retrievals: path.len() });
        }
        lesson.selections.extend(visited.list.clone());
        worths.insert(path, worth);
    }
    lesson.turns.reverse();
    lesson
}

/// Weight of each turn of a lesson: the first turn counts as much as all later ones together, or a
/// question that nothing helps would teach the second turn ten times over and the gate once.
fn weights(lesson: &Lesson) -> Vec<f32> {
    let later = lesson.turns.iter().filter(|turn| turn.retrievals > 0).count();
    let of = |turn: &TurnSample| if turn.retrievals > 0 { 1.0 / later as f32 } else { 1.0 };
    lesson.turns.iter().map(of).collect()
}

/// The loss of the warm-up on some lessons: likelihood of best moves and of best selections, and
/// the squared error of the value. `None` where they hold no choice at all.
pub(super) fn loss(
    policy: &SmartPolicy,
    lessons: &[&Lesson],
    limits: SelectionLimits,
    value_coefficient: f64,
) -> Result<Option<Tensor>, RecipeError> {
    let samples: Vec<&TurnSample> = lessons.iter().flat_map(|lesson| &lesson.turns).collect();
    if samples.is_empty() {
        return Ok(None);
    }
    let device = policy.device();
    let turns: Vec<_> =
        samples.iter().map(|s| (s.state.as_slice(), &s.open as &[bool; MOVES], s.best)).collect();
    let figures = TurnBatch::new(&turns, device)?.figures(&policy.turn)?;
    let worth: Vec<f32> = samples.iter().map(|s| s.worth as f32).collect();
    let error = (figures.values - Tensor::new(worth, device)?)?.sqr()?;
    let weights: Vec<f32> = lessons.iter().flat_map(|lesson| weights(lesson)).collect();
    let total = f64::from(weights.iter().sum::<f32>());
    let weights = Tensor::new(weights, device)?;
    let mean = |terms: &Tensor| (terms * &weights)?.sum_all()? / total;
    let mut loss = (mean(&figures.taken.neg()?)? + (mean(&error)? * value_coefficient)?)?;
    let chosen: Vec<_> = lessons.iter().flat_map(|lesson| lesson.selections.clone()).collect();
    if let Some(batch) = SelectionBatch::new(&chosen, limits, &policy.head, device)? {
        loss = (loss + negative_log_likelihood(&batch.log_probs(&policy.head)?)?)?;
    }
    Ok(Some(loss))
}
