//! DynamicRAG: how many documents and in which order, by imitation and then by preference.
//!
//! Source: "DynamicRAG: Leveraging Outputs of Large Language Model as Feedback for Dynamic Reranking
//! in Retrieval-Augmented Generation" (arXiv 2505.07233).
//!
//! 1. *Behaviour cloning* (§2.2.1): `L_BC = −E[Σ_t ln π(a_t | s_t)]` over the expert's selections:
//!    candidates that a pointwise scorer gives more than τ, best first, at most `k_max`, then stop.
//! 2. *Trajectories*: N selections a question are drawn from the clone, equal ones dropped; each is
//!    rewarded by what the generator answers from it (eq. 7, `rewards::Blend`).
//! 3. *Preference* (eq. 4–6): τ⁺ = argmax r, τ⁻ = argmin r of the drawn;
//!    `L_DPO = −ln σ(β[ln π(τ⁺)/π_ref(τ⁺) − ln π(τ⁻)/π_ref(τ⁻)])` with the clone as π_ref.
//!
//! | constant | value | source |
//! |---|---|---|
//! | τ | 0.8 | App. D.1 (the released code has 0.5 by decoding "true") |
//! | k_max | 15 | App. D.1 |
//! | temperature | 1.0 | App. D.1 (the code: 0.4) |
//! | N | 8 | released code; the paper states none |
//! | β | 0.1 | default of the trainer used; the paper states none |
//! | gap_min | 0.1 | ours: the paper takes any difference |
//! | sft_weight | 0.05 | ours: the known remedy against both likelihoods falling |
//! | rounds | 1 | released code; Algorithm 1 iterates |
//!
//! Changed, and why. The expert's order is kept: the released set shuffles it and fills lists up with
//! random documents, which teaches how many and never which first. Pairs need a gap, equal lists are
//! dropped, and ties go to the shorter list. The policy is a Plackett–Luce head with a stop in the
//! place of a language model's token string, so no output can be malformed. Weights are chosen
//! between epochs by the greedy reward on validation questions.

use super::fit::{RecipeError, rng_of};
use super::instance::Instance;
use super::lists::{Lists, PhaseReport, RecipeReport, Schedule, Tools, in_range, trajectories};
use super::optimise::{Course, optimise, taken};
use super::rollout::{Credit, Rollout, draw, logits, rewards};
use crate::algorithms::{dpo, sft};
use crate::policy::head::Head;
use actors::types::{Exploration, SelectionLimits};
use candle_core::D;
use serde::{Deserialize, Serialize};

const CLONE: &str = "clone";
/// Names of the phases in checkpoints; the preference phase of round r > 1 adds `-r`.
pub const PHASES: [&str; 2] = [CLONE, "prefer"];

/// Settings of DynamicRAG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicRagConfig {
    /// Seed of batches and draws.
    pub seed: u64,
    /// How many documents may be chosen; from 0, which answers without any.
    pub limits: SelectionLimits,
    /// τ: least expert score of a document that the expert takes, in [0, 1].
    pub expert_threshold: f32,
    /// Behaviour cloning.
    pub clone: Schedule,
    /// Preference optimisation; 0 epochs: behaviour cloning alone.
    pub prefer: Schedule,
    /// N: selections drawn a question.
    pub trajectories: usize,
    /// Softmax temperature of the draws.
    pub temperature: f64,
    /// Least difference of rewards of a pair.
    pub gap_min: f64,
    /// β of DPO.
    pub beta: f64,
    /// Weight of the chosen selection's likelihood.
    pub sft_weight: f64,
    /// Times that trajectories are drawn from the policy as it is then and preferred among.
    pub rounds: u64,
}

impl Default for DynamicRagConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            limits: SelectionLimits { k_min: 0, k_max: 15, token_budget: 4096 },
            expert_threshold: 0.8,
            clone: Schedule { epochs: 8, learning_rate: 1e-3, ..Schedule::default() },
            prefer: Schedule { epochs: 8, learning_rate: 5e-4, ..Schedule::default() },
            trajectories: 8,
            temperature: 1.0,
            gap_min: 0.1,
            beta: 0.1,
            sft_weight: 0.05,
            rounds: 1,
        }
    }
}

impl DynamicRagConfig {
    /// Names the first setting out of its range.
    ///
    /// # Errors
    /// [`RecipeError::Setting`].
    pub fn validate(&self) -> Result<(), RecipeError> {
        let range = |field: &str, ok: bool, expected: &str| in_range("", field, ok, expected);
        self.clone.validate("clone")?;
        self.prefer.validate("prefer")?;
        let tau = (0.0..=1.0).contains(&self.expert_threshold);
        range("expert_threshold", tau, "0 to 1")?;
        let k = self.limits.k_min <= self.limits.k_max && self.limits.k_max >= 1;
        range("limits", k, "k_min ≤ k_max, k_max at least 1")?;
        range("trajectories", (2..=256).contains(&self.trajectories), "2 to 256")?;
        let temperature = self.temperature > 0.0 && self.temperature <= 100.0;
        range("temperature", temperature, "above 0, to 100")?;
        range("gap_min", self.gap_min >= 0.0, "at least 0")?;
        range("beta", self.beta > 0.0, "above 0")?;
        range("sft_weight", self.sft_weight >= 0.0, "at least 0")?;
        range("rounds", (1..=100).contains(&self.rounds), "1 to 100")
    }
}

/// A question for this recipe: laid out, with the expert's score of each candidate in [0, 1].
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// The question.
    pub instance: &'a Instance,
    /// One score a candidate: monoT5's probability of "true", or another pointwise scorer's.
    pub expert: &'a [f32],
}

/// What the expert would select: candidates above τ, best first, ties by retrieval rank, as far as
/// the limits allow; filled up to `k_min` with the best of the others.
pub fn expert_selection(
    scores: &[f32],
    tokens: &[u32],
    threshold: f32,
    limits: SelectionLimits,
) -> Vec<u32> {
    let mut ranked: Vec<usize> = (0..scores.len().min(tokens.len())).collect();
    ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut budget = u64::from(limits.token_budget);
    let mut order = Vec::new();
    for j in ranked {
        let is_wanted = scores[j] > threshold || order.len() < limits.k_min as usize;
        let cost = u64::from(tokens[j]);
        if order.len() == limits.k_max as usize || !is_wanted {
            break;
        }
        if cost <= budget {
            budget -= cost;
            order.push(j as u32);
        }
    }
    order
}

/// Trains a head; returns it with the report.
///
/// lessons: the training questions; validation: questions that choose between epochs (none: the last
/// epoch is taken).
///
/// # Errors
/// A setting out of range, nothing to learn from, a loss that is no number, or a checkpoint of
/// another run.
pub fn train(
    config: &DynamicRagConfig,
    start: &Head,
    lessons: &[Lesson<'_>],
    validation: &[&Instance],
    tools: &mut Tools<'_>,
) -> Result<(Head, RecipeReport), RecipeError> {
    config.validate()?;
    let mut report =
        RecipeReport { recipe: "dynamic_rag".to_owned(), phases: Vec::new(), trials: 0 };
    let mut head = start.snapshot()?;
    if config.clone.epochs > 0 {
        let (cloned, phase) = clone(config, &head, lessons, tools)?;
        head = cloned;
        report.phases.push(phase);
    }
    if config.prefer.epochs > 0 {
        for round in 1..=config.rounds {
            let instances: Vec<&Instance> = lessons.iter().map(|l| l.instance).collect();
            let found = pairs(config, &head, &instances, (round, &mut report.trials), tools);
            let pairs = match found {
                // The policy has made up its mind: there is nothing left to prefer.
                Err(RecipeError::Nothing { .. }) if round > 1 => break,
                found => found?,
            };
            let (preferred, phase) = prefer(config, &head, &pairs, (round, validation), tools)?;
            head = preferred;
            report.phases.push(phase);
        }
    }
    Ok((head, report))
}

fn clone(
    config: &DynamicRagConfig,
    start: &Head,
    lessons: &[Lesson<'_>],
    tools: &mut Tools<'_>,
) -> Result<(Head, PhaseReport), RecipeError> {
    let limits = config.limits;
    let of = |l: &Lesson<'_>| {
        expert_selection(l.expert, &l.instance.tokens, config.expert_threshold, limits)
    };
    let shown: Vec<(&Instance, Vec<u32>)> =
        lessons.iter().filter(|l| !l.instance.is_empty()).map(|l| (l.instance, of(l))).collect();
    if shown.is_empty() {
        let reason = "no question has a candidate".to_owned();
        return Err(RecipeError::Nothing { phase: CLONE.to_owned(), reason });
    }
    let schedule = &config.clone;
    let course = Course {
        phase: CLONE,
        seed: config.seed,
        schedule,
        count: shown.len(),
        validation: (&[], limits),
        may_keep_start: false,
    };
    let width = start.config().state_width();
    let (round, report) = optimise(&course, start, tools, &mut |head, (chosen, step), tools| {
        let instances: Vec<&Instance> = chosen.iter().map(|&i| shown[i].0).collect();
        let selections: Vec<(usize, &[u32])> =
            chosen.iter().enumerate().map(|(b, &i)| (b, shown[i].1.as_slice())).collect();
        let hide = (schedule.dropout, (config.seed, CLONE, step));
        let lists = Lists::new(&instances, width, hide, tools.device)?;
        let steps = trajectories(&instances, &selections, (lists.n, limits), tools.device)?;
        let taken = steps.taken(&steps.all_log_probs(&lists.forward(head)?, 1.0)?)?;
        Ok(sft::negative_log_likelihood(&taken)?)
    })?;
    Ok((round.last, report))
}

/// One preference: a question with its best and its worst drawn selection.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    /// The question.
    pub instance: &'a Instance,
    /// The selection with the highest reward.
    pub chosen: Rollout,
    /// The selection with the lowest.
    pub rejected: Rollout,
}

/// Draws N selections of each question from `head`, rewards them and takes best and worst.
///
/// The draws are a function of (seed, round), so a resumed run prefers among the same. Adds the
/// trials made to the counter.
///
/// # Errors
/// No question has two selections whose rewards differ enough.
pub fn pairs<'a>(
    config: &DynamicRagConfig,
    head: &Head,
    instances: &[&'a Instance],
    (round, trials): (u64, &mut u64),
    tools: &Tools<'_>,
) -> Result<Vec<Pair<'a>>, RecipeError> {
    let exploration = Exploration::Sample { temperature: config.temperature, epsilon: 0.0 };
    let mut drawn = Vec::with_capacity(instances.len());
    for (at, (instance, logits)) in
        instances.iter().zip(logits(head, instances, tools.device)?).enumerate()
    {
        let mut rng = rng_of(config.seed ^ (round << 32), "draw", at as u64);
        let how = (exploration, config.trajectories);
        drawn.push(draw(&logits, instance, config.limits, how, &mut rng)?);
    }
    let asked: Vec<(&Instance, Vec<Vec<u32>>)> = instances
        .iter()
        .zip(&drawn)
        .map(|(i, drawn)| (*i, drawn.iter().map(|s| s.order.clone()).collect()))
        .collect();
    *trials += asked.iter().map(|(_, orders)| orders.len() as u64).sum::<u64>();
    let scored = rewards(tools.environment, &asked, Credit::Whole);
    let mut pairs = Vec::new();
    for (at, scores) in scored.into_iter().enumerate() {
        let values: Vec<f64> = scores
            .iter()
            .map(|r| r.as_ref().and_then(|r| r.last().copied()).unwrap_or(f64::NAN))
            .collect();
        let Some((best, worst)) = dpo::best_and_worst(&values, &asked[at].1, config.gap_min) else {
            continue;
        };
        let rollout = |i: usize| Rollout {
            order: drawn[at][i].order.clone(),
            step_log_probs: drawn[at][i].step_log_probs.clone(),
            rewards: vec![values[i]],
        };
        let (chosen, rejected) = (rollout(best), rollout(worst));
        pairs.push(Pair { instance: instances[at], chosen, rejected });
    }
    if pairs.is_empty() {
        let reason = format!(
            "of {} questions none has two selections whose rewards differ by {}; raise \
             `trajectories` or `temperature`",
            instances.len(),
            config.gap_min
        );
        return Err(RecipeError::Nothing { phase: "prefer".to_owned(), reason });
    }
    Ok(pairs)
}

fn prefer(
    config: &DynamicRagConfig,
    reference: &Head,
    pairs: &[Pair<'_>],
    (round, validation): (u64, &[&Instance]),
    tools: &mut Tools<'_>,
) -> Result<(Head, PhaseReport), RecipeError> {
    let name = if round == 1 { "prefer".to_owned() } else { format!("prefer-{round}") };
    let (schedule, limits) = (&config.prefer, config.limits);
    let course = Course {
        phase: &name,
        seed: config.seed,
        schedule,
        count: pairs.len(),
        validation: (validation, limits),
        may_keep_start: true,
    };
    let width = reference.config().state_width();
    let (round, report) =
        optimise(&course, reference, tools, &mut |head, (chosen, step), tools| {
            let instances: Vec<&Instance> = chosen.iter().map(|&i| pairs[i].instance).collect();
            let better = chosen.iter().enumerate().map(|(b, &i)| (b, &pairs[i].chosen.order[..]));
            let worse = chosen.iter().enumerate().map(|(b, &i)| (b, &pairs[i].rejected.order[..]));
            let selections: Vec<(usize, &[u32])> = better.chain(worse).collect();
            let hide = (schedule.dropout, (config.seed, name.as_str(), step));
            let lists = Lists::new(&instances, width, hide, tools.device)?;
            let steps = trajectories(&instances, &selections, (lists.n, limits), tools.device)?;
            let whole = |head: &Head| -> Result<_, RecipeError> {
                let all = steps.all_log_probs(&lists.forward(head)?, 1.0)?;
                let sums = steps.taken(&all)?.sum(D::Minus1)?;
                let half = instances.len();
                Ok((sums.narrow(0, 0, half)?, sums.narrow(0, half, half)?))
            };
            let (chosen, rejected) = whole(head)?;
            let (by_reference, by_reference_rejected) = whole(reference)?;
            let loss = dpo::preference(
                &chosen,
                &rejected,
                &by_reference.detach(),
                &by_reference_rejected.detach(),
                config.beta,
                config.sft_weight,
            )?;
            Ok(loss.loss)
        })?;
    Ok((taken(round.best, round.last)?, report))
}

#[cfg(test)]
mod tests;
