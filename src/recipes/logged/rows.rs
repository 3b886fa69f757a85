//! Logged decisions as the learner sees them: what was chosen, with which probability, what it earned,
//! and how much each speaks for.
//!
//! Owns which decisions support what. A decision by chance supports estimates of other policies; a
//! greedy one has told what it earned and nothing of its alternatives, so it is used for the reward
//! model alone; a decision nobody answered is used for who answers and for the part of the objective
//! that the reward model carries. Knows no model.

use super::answering::Answering;
use super::config::LoggedConfig;
use crate::policy::selection::Masks;
use crate::rewards::Prices;
use actors::types::{CandidateStates, Decision, Episode, Gate, Outcome, Sample};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// One logged decision.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    pub episode: &'a Episode,
    pub decision: &'a Decision,
    pub states: &'a CandidateStates,
    /// Chosen candidates in order.
    pub order: &'a [u32],
    /// Natural logarithm of the probability of the whole decision when it was logged; `None` where
    /// chance had no part in it.
    pub behaviour: Option<f64>,
    /// What it earned, in [0, 1]; `None` where nobody has said.
    pub reward: Option<f64>,
    /// 1 / (chance of being answered) times the weight of its age, with mean about 1 over the
    /// answered; 0 where unanswered.
    pub weight: f64,
    /// Of the newest reward: what any list of these candidates would cost.
    prices: Prices,
    key: u64,
}

/// Why a decision is not used at all, or not for estimates: for the report.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    /// Rows by what they are: `answered`, `unanswered`, `supported`, `no_support`, and reasons why a
    /// decision is no row (`direct`, `degraded`, `no_states`, `foreign_width`, `inconsistent`,
    /// `reward_out_of_range`).
    pub by: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn add(&mut self, what: &'static str) {
        *self.by.entry(what).or_default() += 1;
    }

    /// Decisions that are no row.
    pub(super) fn refused(&self) -> u64 {
        let rows = ["answered", "unanswered", "supported", "no_support"];
        self.by.iter().filter(|(what, _)| !rows.contains(what)).map(|(_, n)| n).sum()
    }

    /// `12 answered, 3 direct`, for messages.
    pub(super) fn list(&self) -> String {
        let parts: Vec<String> = self.by.iter().map(|(what, n)| format!("{n} {what}")).collect();
        if parts.is_empty() { "no decision".to_owned() } else { parts.join(", ") }
    }
}

impl Row<'_> {
    /// The part, of `folds`, that the query belongs to: by a hash of its text, so that no reward of
    /// a query speaks for another time it was asked.
    pub(super) fn fold(&self, folds: usize) -> usize {
        (self.key % folds.max(1) as u64) as usize
    }

    /// (n) what each candidate adds to the reward of a list by its price alone, ≤ 0.
    pub(super) fn costs(&self) -> Vec<f64> {
        self.prices.each(&self.decision.candidate_tokens)
    }

    /// The reward less the price of the list: what remains to be learned, in [0, 1].
    pub(super) fn quality(&self) -> Option<f64> {
        let costs = self.costs();
        let cost: f64 = self.order.iter().filter_map(|&j| costs.get(j as usize)).sum();
        self.reward.map(|reward| (reward - cost).clamp(0.0, 1.0))
    }

    pub(super) fn masks(&self) -> Masks<'_> {
        Masks { tokens: &self.decision.candidate_tokens, limits: self.decision.limits }
    }
}

/// Rows of judged and unanswered decisions, oldest first, without weights yet ([`weigh`]).
///
/// width: of the head's states; decisions of another width are counted and left out.
pub(super) fn collect<'a>(
    samples: &'a [Sample],
    unanswered: &'a [Episode],
    width: usize,
) -> (Vec<Row<'a>>, Counts) {
    let mut counts = Counts::default();
    let mut rows = Vec::with_capacity(samples.len() + unanswered.len());
    let newest = samples.iter().max_by_key(|sample| sample.episode.finished_ms);
    let prices = newest.map_or_else(Prices::default, |sample| Prices::of(&sample.reward));
    let judged = samples.iter().map(|s| (&s.episode, Some(s.reward.total)));
    for (episode, reward) in judged.chain(unanswered.iter().map(|e| (e, None))) {
        match row(episode, reward, (prices, width)) {
            Ok(row) => {
                counts.add(if row.reward.is_some() { "answered" } else { "unanswered" });
                counts.add(if row.behaviour.is_some() { "supported" } else { "no_support" });
                rows.push(row);
            }
            Err(reason) => counts.add(reason),
        }
    }
    rows.sort_by(|a, b| {
        let of = |row: &Row<'_>| row.episode.finished_ms;
        of(a).cmp(&of(b)).then_with(|| a.decision.id.cmp(&b.decision.id))
    });
    (rows, counts)
}

/// Fits who answers, to answered and unanswered rows alike.
pub(super) fn answering(config: &LoggedConfig, rows: &[Row<'_>]) -> Answering {
    let examples: Vec<(Vec<f64>, bool)> =
        rows.iter().map(|row| (features(row), row.reward.is_some())).collect();
    Answering::fit(&examples, config.answer_chance_min)
}

fn row<'a>(
    episode: &'a Episode,
    reward: Option<f64>,
    (prices, width): (Prices, usize),
) -> Result<Row<'a>, &'static str> {
    let decision = episode.decision.as_ref().ok_or("undecided")?;
    if episode.degraded.is_some() {
        return Err("degraded");
    }
    if decision.gate == Gate::Direct {
        return Err("direct");
    }
    let (n, tokens) = (decision.states.rows(), decision.candidate_tokens.len());
    if n == 0 {
        return Err("no_states");
    }
    if decision.states.width() != width {
        return Err("foreign_width");
    }
    if tokens != n || decision.order.iter().any(|&j| j as usize >= n) {
        return Err("inconsistent");
    }
    if reward.is_some_and(|r| !(0.0..=1.0).contains(&r)) {
        return Err("reward_out_of_range");
    }
    Ok(Row {
        episode,
        decision,
        states: &decision.states,
        order: &decision.order,
        behaviour: behaviour(episode, decision)?,
        reward,
        weight: 0.0,
        prices,
        key: key(&episode.query.text),
    })
}

/// ln π0(a | x), or `None` where chance had no part or a part that estimates may not rest on.
fn behaviour(episode: &Episode, decision: &Decision) -> Result<Option<f64>, &'static str> {
    let steps = &decision.step_log_probs;
    if steps.iter().any(|p| !p.is_finite() || *p > 1e-9) {
        return Err("inconsistent");
    }
    let is_free = decision.is_explored() && episode.unusable_for_ope.is_none();
    Ok((is_free && steps.iter().any(|p| *p != 0.0)).then(|| decision.log_prob()))
}

/// Gives each answered row its weight: the inverse of its chance to be answered, times an
/// exponential in its age, scaled to a mean of 1.
pub(super) fn weigh(config: &LoggedConfig, rows: &mut [Row<'_>], answering: &Answering) {
    let newest = rows.iter().map(|row| row.episode.finished_ms).max().unwrap_or(0);
    let (mut total, mut answered) = (0.0, 0.0);
    for row in rows.iter_mut().filter(|row| row.reward.is_some()) {
        let age_ms = newest.saturating_sub(row.episode.finished_ms) as f64;
        let half_lives = age_ms / (config.half_life_hours * 3_600_000.0);
        let chance = if config.weigh_by_answering { answering.chance(&features(row)) } else { 1.0 };
        row.weight = (-half_lives * std::f64::consts::LN_2).exp() / chance;
        total += row.weight;
        answered += 1.0;
    }
    if total > 0.0 {
        rows.iter_mut().for_each(|row| row.weight *= answered / total);
    }
}

/// Share answered of the lists served greedily, of those explored, and of those of other arms than the
/// champion's, and the mean reward as it was answered, each counted once: beside the report's mean,
/// what weighing by the chance of an answer does. Only what occurs has a figure.
pub(super) fn answered_figures(rows: &[Row<'_>]) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    let mut share = |name: &str, is_of: &dyn Fn(&Row<'_>) -> bool| {
        let of: Vec<bool> = rows.iter().filter(|r| is_of(r)).map(|r| r.reward.is_some()).collect();
        if !of.is_empty() {
            let answered = of.iter().filter(|answered| **answered).count() as f64;
            figures.push((format!("answered_share_{name}"), answered / of.len() as f64));
        }
    };
    let is_explored = |row: &Row<'_>| row.decision.deviates != Some(false);
    share("greedy", &|row| !is_explored(row));
    share("explored", &is_explored);
    share("other_arms", &is_other_arm);
    let rewards: Vec<f64> = rows.iter().filter_map(|row| row.reward).collect();
    if !rewards.is_empty() {
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        figures.push(("reward_mean_as_answered".to_owned(), mean));
    }
    figures
}

fn is_other_arm(row: &Row<'_>) -> bool {
    row.episode.assignment.as_ref().is_some_and(|a| a.arm != actors::types::Arm::Champion)
}

/// What the chance of an answer may depend on and the log shows: the arm, exploration, the length of
/// the list and of the answer, and whether there was one at all.
fn features(row: &Row<'_>) -> Vec<f64> {
    let (decision, episode) = (row.decision, row.episode);
    let words = match &episode.outcome {
        Outcome::Answered { answer } => answer.text.split_whitespace().count(),
        Outcome::Reranked | Outcome::Failed { .. } => 0,
    };
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    vec![
        flag(is_other_arm(row)),
        flag(decision.deviates == Some(true)),
        decision.order.len() as f64,
        (decision.context_tokens() as f64).ln_1p(),
        (words as f64).ln_1p(),
        flag(words == 0),
    ]
}

fn key(text: &str) -> u64 {
    let digest = Sha256::digest(text.trim().to_lowercase().as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
