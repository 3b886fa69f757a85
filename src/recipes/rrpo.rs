//! RRPO: reranking as a sequence of picks, credited by what the reader answers from each prefix.
//!
//! Source: "Optimizing RAG Rerankers with LLM Feedback via Reinforcement Learning" (arXiv
//! 2604.02091), §2. State: what is not picked yet. Action: pick one. Policy: Plackett–Luce. Reward
//! r_t: quality of the answer from the first t documents. Baseline V_t: the same for the first t
//! documents of the reference's greedy order, asked for once a question.
//!
//! `J = E[(1/k) Σ_t min(ρ_t A_t, clip(ρ_t, 1−ε, 1+ε) A_t) − β KL(π ‖ π_ref)]`,
//! `A_t = Σ_{j≥t} (γλ)^{j−t} δ_j`, `δ_t = r_t + γ V_{t+1} − V_t` as printed, or `r_t − V_t`
//! (self-critical).
//!
//! | constant | value | source |
//! |---|---|---|
//! | k | 3 | §2.5: k_train = 3 was the best of {1, 3, 5} |
//! | ε | 0.2 | PPO; the paper's is not found |
//! | β | 0.01 | ours; not found |
//! | γ, λ | 1, 1 | ours; not found |
//! | trajectories | 8 | ours; not found |
//! | window of the normalisation | one round | ours; not found |
//!
//! Changed, and why. *Self-critical* is the default: the printed form is not zero where the policy
//! does as the reference does, because V is the reward of a prefix and no return to go. The ratio is
//! to the *behaviour* policy by default: against the reference a clipped step can never be taken
//! again, and rounds beyond the first draw from another policy than the reference. KL is the exact
//! one of the categorical and not the estimate from the taken action. The head sees what is picked
//! already (the paper's scores do not). A warm-up on single documents comes first
//! (`utilities.rs`). Weights are chosen between epochs by greedy reward on validation questions.

use super::fit::{RecipeError, rng_of};
use super::instance::Instance;
use super::lists::{
    Lists, RecipeReport, Schedule, Tools, in_range, over_steps, rows, trajectories,
};
use super::optimise::{Course, better, optimise, taken};
use super::rollout::{Credit, Rollout, draw, greedy, logits, rewards};
use super::utilities;
use crate::algorithms::{advantage, divergence, rrpo};
use crate::policy::head::Head;
use actors::types::{Exploration, SelectionLimits};
use serde::{Deserialize, Serialize};

/// How prefix rewards become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `Σ (γλ)^{j−t} (r_j − V_j)`: zero at the reference. Scaled by its root mean square.
    #[default]
    SelfCritical,
    /// As the paper prints it. Whitened over a round.
    Printed,
    /// Every step has `r_T − V_T`, what the whole selection earned more than the reference's: for
    /// policies that may stop, which a sum over prefixes would teach long lists. Scaled as the first.
    Whole,
}

/// What the ratio is taken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioTo {
    /// The policy that drew the selection.
    #[default]
    Behaviour,
    /// The frozen reference, as in the paper.
    Reference,
}

/// Settings of RRPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RrpoConfig {
    /// Seed of batches and draws.
    pub seed: u64,
    /// Documents of a selection: fixed where `k_min` = `k_max`, as in the paper.
    pub limits: SelectionLimits,
    /// Warm-up on single documents; 0 epochs: none, as in the paper.
    pub utilities: Schedule,
    /// Passes over the drawn selections in each round.
    pub optimise: Schedule,
    /// Times that selections are drawn anew from the policy as it is then.
    pub rounds: u64,
    /// Selections drawn a question and round.
    pub trajectories: usize,
    /// Softmax temperature of draws and of the trained policy.
    pub temperature: f64,
    /// Form of the advantage.
    pub form: Form,
    /// What the ratio is taken to.
    pub ratio_to: RatioTo,
    /// γ.
    pub gamma: f64,
    /// λ.
    pub lambda: f64,
    /// ε: half-width of the ratio's free range.
    pub clip: f64,
    /// β: weight of the exact KL to the reference.
    pub kl_weight: f64,
}

impl Default for RrpoConfig {
    fn default() -> Self {
        let utilities =
            Schedule { epochs: 12, learning_rate: 3e-3, dropout: 0.5, ..Schedule::default() };
        Self {
            seed: 0,
            limits: SelectionLimits { k_min: 3, k_max: 3, token_budget: 4096 },
            utilities,
            optimise: Schedule { epochs: 2, learning_rate: 5e-4, ..Schedule::default() },
            rounds: 3,
            trajectories: 8,
            temperature: 1.0,
            form: Form::SelfCritical,
            ratio_to: RatioTo::Behaviour,
            gamma: 1.0,
            lambda: 1.0,
            clip: 0.2,
            kl_weight: 0.01,
        }
    }
}

impl RrpoConfig {
    /// Names the first setting out of its range.
    ///
    /// # Errors
    /// [`RecipeError::Setting`].
    pub fn validate(&self) -> Result<(), RecipeError> {
        let range = |field: &str, ok: bool, expected: &str| in_range("", field, ok, expected);
        let unit = |v: f64| (0.0..=1.0).contains(&v);
        self.utilities.validate("utilities")?;
        self.optimise.validate("optimise")?;
        let k = self.limits.k_min <= self.limits.k_max && self.limits.k_max >= 1;
        range("limits", k, "k_min ≤ k_max, k_max at least 1")?;
        range("rounds", (1..=100).contains(&self.rounds), "1 to 100")?;
        range("trajectories", (1..=256).contains(&self.trajectories), "1 to 256")?;
        let temperature = self.temperature > 0.0 && self.temperature <= 100.0;
        range("temperature", temperature, "above 0, to 100")?;
        range("gamma", unit(self.gamma), "0 to 1")?;
        range("lambda", unit(self.lambda), "0 to 1")?;
        range("clip", self.clip > 0.0 && self.clip < 1.0, "above 0 and below 1")?;
        range("kl_weight", self.kl_weight >= 0.0, "at least 0")
    }
}

/// Trains a head; returns it with the report. The reference is the head after the warm-up.
///
/// # Errors
/// A setting out of range, nothing to learn from, a loss that is no number, or a checkpoint of
/// another run.
pub fn train(
    config: &RrpoConfig,
    start: &Head,
    instances: &[&Instance],
    validation: &[&Instance],
    tools: &mut Tools<'_>,
) -> Result<(Head, RecipeReport), RecipeError> {
    config.validate()?;
    let mut report = RecipeReport { recipe: "rrpo".to_owned(), phases: Vec::new(), trials: 0 };
    let mut head = start.snapshot()?;
    if config.utilities.epochs > 0 {
        let how = (config.seed, &config.utilities);
        let on = (validation, config.limits, &mut report.trials);
        let (warmed, phases) = utilities::warm_up(how, &head, instances, on, tools)?;
        head = warmed;
        report.phases.extend(phases);
    }
    let reference = head.snapshot()?;
    let baselines = baselines(config, &reference, instances, &mut report.trials, tools)?;
    let mut chosen = None;
    for round in 1..=config.rounds {
        let drawn = rollouts(config, &head, instances, (round, &mut report.trials), tools)?;
        let groups = credited(config, instances, &baselines, &drawn);
        let phase = format!("round-{round}");
        if groups.is_empty() {
            let reason = "no selection could be scored".to_owned();
            return Err(RecipeError::Nothing { phase, reason });
        }
        let course = course(config, &phase, groups.len(), (round, validation));
        let (next, phase) = optimise(&course, &head, tools, &mut |head, (chosen, _), tools| {
            let picked: Vec<&Group<'_>> = chosen.iter().map(|&i| &groups[i]).collect();
            loss(config, (head, &reference), &picked, tools)
        })?;
        head = next.last;
        report.phases.push(phase);
        chosen = better(chosen, next.best);
    }
    Ok((taken(chosen, head)?, report))
}

/// The phase of a round over the selections drawn in it.
pub(super) fn course<'a>(
    config: &'a RrpoConfig,
    phase: &'a str,
    count: usize,
    (round, validation): (u64, &'a [&'a Instance]),
) -> Course<'a> {
    Course {
        phase,
        seed: config.seed,
        schedule: &config.optimise,
        count,
        validation: (validation, config.limits),
        may_keep_start: round == 1,
    }
}

/// Prefix rewards of the reference's greedy selection, once a question; `None` where it could not be
/// scored.
pub fn baselines(
    config: &RrpoConfig,
    reference: &Head,
    instances: &[&Instance],
    trials: &mut u64,
    tools: &Tools<'_>,
) -> Result<Vec<Option<Vec<f64>>>, RecipeError> {
    let orders = greedy(reference, instances, config.limits, tools.device)?;
    let asked: Vec<_> = instances.iter().zip(orders).map(|(i, order)| (*i, vec![order])).collect();
    *trials += asked.iter().map(|(_, o)| o[0].len().max(1) as u64).sum::<u64>();
    let scored = rewards(tools.environment, &asked, Credit::Prefixes);
    Ok(scored.into_iter().map(|mut one| one.pop().flatten()).collect())
}

/// Selections drawn from `head` with their prefix rewards: `(position of the instance, rollout)`.
/// A function of (seed, round).
pub fn rollouts(
    config: &RrpoConfig,
    head: &Head,
    instances: &[&Instance],
    (round, trials): (u64, &mut u64),
    tools: &Tools<'_>,
) -> Result<Vec<(usize, Rollout)>, RecipeError> {
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
    *trials += asked.iter().flat_map(|(_, o)| o).map(|o| o.len().max(1) as u64).sum::<u64>();
    let scored = rewards(tools.environment, &asked, Credit::Prefixes);
    let mut rollouts = Vec::new();
    for (at, (selections, scores)) in drawn.into_iter().zip(scored).enumerate() {
        for (selection, rewards) in selections.into_iter().zip(scores) {
            if let Some(rewards) = rewards {
                let (order, step_log_probs) = (selection.order, selection.step_log_probs);
                rollouts.push((at, Rollout { order, step_log_probs, rewards }));
            }
        }
    }
    Ok(rollouts)
}

/// One drawn selection with the advantage of each of its steps.
#[derive(Debug, Clone)]
pub struct Credited {
    /// The selection.
    pub rollout: Rollout,
    /// One a step, the stop included where it was a choice.
    pub advantages: Vec<f64>,
}

/// The credited selections of one question.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// The question.
    pub instance: &'a Instance,
    /// Its selections; at least one.
    pub selections: Vec<Credited>,
}

/// Advantages of a round's selections, normalised over the round.
fn credited<'a>(
    config: &RrpoConfig,
    instances: &[&'a Instance],
    baselines: &[Option<Vec<f64>>],
    drawn: &[(usize, Rollout)],
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for group in drawn.chunk_by(|a, b| a.0 == b.0) {
        let at = group[0].0;
        let Some(baseline) = &baselines[at] else { continue };
        let credit = |(_, rollout): &(usize, Rollout)| {
            let advantages = prefix_advantages(config, &rollout.rewards, baseline);
            let steps = rollout.step_log_probs.len();
            let advantages = over_steps(&advantages, rollout.order.len(), steps);
            Credited { rollout: rollout.clone(), advantages }
        };
        let selections = group.iter().map(credit).collect();
        groups.push(Group { instance: instances[at], selections });
    }
    let steps = |groups: &[Group<'_>]| -> Vec<f64> {
        groups.iter().flat_map(|g| &g.selections).flat_map(|c| c.advantages.clone()).collect()
    };
    let mut all = steps(&groups);
    match config.form {
        Form::SelfCritical | Form::Whole => advantage::scale(&mut all),
        Form::Printed => advantage::whiten(&mut all),
    }
    let mut all = all.into_iter();
    for credited in groups.iter_mut().flat_map(|g| &mut g.selections) {
        credited.advantages.iter_mut().zip(&mut all).for_each(|(a, value)| *a = value);
    }
    groups
}

/// Advantages over prefixes. Where the reference's selection is shorter its last reward goes on
/// counting: it would answer from the same documents.
fn prefix_advantages(config: &RrpoConfig, rewards: &[f64], baseline: &[f64]) -> Vec<f64> {
    let last = baseline.last().copied().unwrap_or(0.0);
    let values: Vec<f64> =
        (0..rewards.len()).map(|t| baseline.get(t).copied().unwrap_or(last)).collect();
    match config.form {
        Form::SelfCritical => {
            advantage::self_critical(rewards, &values, config.gamma, config.lambda)
        }
        Form::Printed => advantage::printed(rewards, &values, config.gamma, config.lambda),
        Form::Whole => {
            let whole = rewards.last().copied().unwrap_or(last) - last;
            vec![whole; rewards.len()]
        }
    }
}

/// The clipped objective with the exact KL to the reference, over the selections of some questions.
pub fn loss(
    config: &RrpoConfig,
    (head, reference): (&Head, &Head),
    picked: &[&Group<'_>],
    tools: &Tools<'_>,
) -> Result<candle_core::Tensor, RecipeError> {
    let instances: Vec<&Instance> = picked.iter().map(|g| g.instance).collect();
    let credited: Vec<(usize, &Credited)> = picked
        .iter()
        .enumerate()
        .flat_map(|(b, g)| g.selections.iter().map(move |c| (b, c)))
        .collect();
    let selections: Vec<(usize, &[u32])> =
        credited.iter().map(|(b, c)| (*b, c.rollout.order.as_slice())).collect();
    let width = head.config().state_width();
    // Dropped columns would make the ratio to the behaviour a noise of its own.
    let lists = Lists::new(&instances, width, (0.0, (0, "", 0)), tools.device)?;
    let steps = trajectories(&instances, &selections, (lists.n, config.limits), tools.device)?;
    let all = steps.all_log_probs(&lists.forward(head)?, config.temperature)?;
    let by_reference =
        steps.all_log_probs(&lists.forward(reference)?, config.temperature)?.detach();
    let log_probs = steps.taken(&all)?;
    let t = log_probs.dims2()?.1;
    let of = |values: fn(&Credited) -> &Vec<f64>| -> Vec<Vec<f64>> {
        credited.iter().map(|(_, c)| values(c).clone()).collect()
    };
    let behaviour = match config.ratio_to {
        RatioTo::Behaviour => rows(&of(|c| &c.rollout.step_log_probs), t, tools.device)?,
        RatioTo::Reference => steps.taken(&by_reference)?,
    };
    let advantages = rows(&of(|c| &c.advantages), t, tools.device)?;
    let clipped =
        rrpo::clipped_surrogate(&log_probs, &behaviour, &advantages, steps.steps(), config.clip)?;
    let kl = divergence::kl_categorical(&all, &by_reference, steps.steps())?;
    Ok((clipped.loss + (kl * config.kl_weight)?)?)
}

#[cfg(test)]
mod tests;
