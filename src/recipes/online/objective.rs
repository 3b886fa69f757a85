//! The loss of one minibatch of groups, on the states that were logged or on states read anew.

use super::config::{Objective, OnlineConfig};
use super::credit;
use super::groups::Group;
use super::live::Live;
use super::states::pairs as texts;
use crate::algorithms::{divergence, dpo, listwise, rrpo, sft, utility};
use crate::policy::head::{Head, HeadOutput};
use crate::policy::reader::LiveTrunk;
use crate::policy::trajectories::{Recorded, Trajectories};
use crate::recipes::lists::hidden_columns;
use crate::recipes::rollout::{self, Rollout};
use crate::recipes::stop::{Choices, Shown};
use actors::ports::LearnReport;
use actors::types::CandidateStates;
use candle_core::{D, DType, Device, Error, Result, Tensor};
use rand::rngs::StdRng;

/// One step's loss and what to report of it.
pub(super) struct Step {
    pub loss: Tensor,
    pub kl: f64,
    pub clip_fraction: f64,
}

/// Sums over one pass.
#[derive(Default)]
pub(super) struct Totals {
    steps: f64,
    loss: f64,
    kl: f64,
    clip_fraction: f64,
}

impl Totals {
    pub(super) fn add(&mut self, loss: f64, step: &Step) {
        self.steps += 1.0;
        self.loss += loss;
        self.kl += step.kl;
        self.clip_fraction += step.clip_fraction;
    }

    pub(super) fn write(&self, report: &mut LearnReport) {
        let steps = self.steps.max(1.0);
        report.loss = self.loss / steps;
        report.kl = self.kl / steps;
        report.clip_fraction = self.clip_fraction / steps;
    }
}

/// The padded inputs of a minibatch.
struct Lists {
    n: usize,
    /// (B, n, width): the champion's states.
    states: Tensor,
    /// (B, 1, width) factors of the state columns.
    columns: Option<Tensor>,
    present: Tensor,
    device: Device,
}

impl Lists {
    fn new(
        batch: &[&Group<'_>],
        width: usize,
        dropout: f64,
        (device, rng): (&Device, &mut StdRng),
    ) -> Result<Self> {
        let lists: Vec<_> = batch.iter().map(|group| &group.states).collect();
        let (states, present, n) = rollout::pad(&lists, width, device)?;
        let hidden = |rng| hidden_columns((batch.len(), width), dropout, rng, device);
        let columns = if dropout > 0.0 { Some(hidden(rng)?) } else { None };
        Ok(Self { n, states, columns, present, device: device.clone() })
    }

    /// Outputs of `head` on `states` (B, n, width) with the hidden columns at 0.
    fn forward(&self, head: &Head, states: &Tensor) -> Result<HeadOutput> {
        match &self.columns {
            None => head.forward(states, &self.present),
            Some(columns) => head.forward(&states.broadcast_mul(columns)?, &self.present),
        }
    }

    /// (B, n) from one value a candidate, 0 at padding.
    fn laid_out(&self, rows: impl Iterator<Item = Vec<f32>>) -> Result<Tensor> {
        let mut values = Vec::new();
        let mut count = 0;
        for mut row in rows {
            row.resize(self.n, 0.0);
            values.extend(row);
            count += 1;
        }
        Tensor::from_vec(values, (count, self.n), &self.device)
    }

    fn trajectories<'a>(
        &self,
        batch: &[&Group<'_>],
        orders: impl Iterator<Item = (usize, &'a [u32])>,
    ) -> Result<Trajectories> {
        let record = |(list, order): (usize, _)| Recorded {
            list: list as u32,
            candidates: batch[list].states.rows(),
            masks: batch[list].masks(),
            order,
        };
        let recorded: Vec<Recorded<'_>> = orders.map(record).collect();
        Trajectories::new(&recorded, self.n, &self.device).map_err(|e| Error::Msg(e.to_string()))
    }
}

/// (B, n, width) states: the encoder's part by the trunk as it is now, with a gradient to it, the
/// scalar features as they were logged. `logged` (B, n, width) gives the padding too.
pub(super) fn read_anew(
    trunk: &LiveTrunk,
    logged: &Tensor,
    batch: &[&Group<'_>],
    embedding: usize,
) -> Result<Tensor> {
    let (b, n, width) = logged.dims3()?;
    let asked: Vec<_> = batch.iter().flat_map(|group| texts(group.sample)).collect();
    let cls = trunk.cls(&asked).map_err(|error| Error::Msg(error.to_string()))?;
    // Serving rounds states to what is logged. The forward pass does too, so that what is trained
    // is what will be served; the gradient goes straight through.
    let rounded = cls.to_dtype(DType::F16)?.to_dtype(DType::F32)?;
    let cls = (&cls + (rounded - &cls)?.detach())?.to_device(logged.device())?;
    // One row of zeros after the last pair, for the padding.
    let padding = Tensor::zeros((1, embedding), DType::F32, logged.device())?;
    let rows = Tensor::cat(&[&cls, &padding], 0)?;
    let mut places = vec![asked.len() as u32; b * n];
    let mut next = 0;
    for (list, group) in batch.iter().enumerate() {
        for place in &mut places[list * n..][..group.states.rows()] {
            *place = next;
            next += 1;
        }
    }
    let places = Tensor::from_vec(places, b * n, logged.device())?;
    let states = rows.index_select(&places, 0)?.reshape((b, n, embedding))?;
    let scalars = logged.narrow(D::Minus1, embedding, width - embedding)?.contiguous()?;
    Tensor::cat(&[&states, &scalars], D::Minus1)
}

/// One part of an update.
pub(super) struct Phase<'a> {
    /// Its name: optimisers keep their moments by it from one update to the next.
    pub name: &'static str,
    /// The sequence objective beside the regressions; `None`: those alone.
    pub objective: Option<Objective>,
    /// The anchor of KL, in every phase.
    pub champion: &'a Head,
    /// What drew the selections: the reference of preferences.
    pub drawing: &'a Head,
    /// Passes.
    pub epochs: usize,
    /// Peak learning rate of the head.
    pub rate: f64,
}

impl Phase<'_> {
    /// Weight of the regressions when a share `progress` of the phase is done: with a sequence
    /// objective it falls to 0, for what single documents earn is a start and not the aim.
    pub(super) fn utility_weight(&self, config: &OnlineConfig, progress: f64) -> f64 {
        match self.objective {
            None => config.utility_weight,
            Some(_) => config.utility_weight * (1.0 - progress).clamp(0.0, 1.0),
        }
    }

    /// The selections that the sequence objective is about, with their lists.
    fn picked<'a>(
        &self,
        config: &OnlineConfig,
        batch: &[&'a Group<'_>],
    ) -> Vec<(usize, &'a Rollout)> {
        match self.objective {
            Some(Objective::Rrpo | Objective::Grpo) => credit::drawn(batch),
            Some(Objective::Dpo) => pairs(batch, config.gap_min),
            Some(Objective::Sft) => {
                let mut both = pairs(batch, config.gap_min);
                both.truncate(both.len() / 2);
                both
            }
            // What learns from the log alone does not come here.
            Some(Objective::Dr | Objective::Ips | Objective::Snips) | None => Vec::new(),
        }
    }
}

/// `None` when the minibatch has nothing to teach (no selection drawn, no pair with a gap).
///
/// progress: share of the phase that is done, in [0, 1].
pub(super) fn loss(
    config: &OnlineConfig,
    live: &Live,
    (phase, progress): (&Phase<'_>, f64),
    batch: &[&Group<'_>],
    device: &Device,
    rng: &mut StdRng,
) -> Result<Option<Step>> {
    let sizes = live.head.config();
    // Dropped columns would make the ratio to the behaviour a noise of its own.
    let dropout = if phase.objective.is_none() { config.dropout } else { 0.0 };
    let lists = Lists::new(batch, sizes.state_width(), dropout, (device, rng))?;
    let states = match &live.trunk {
        None => lists.states.clone(),
        Some(trunk) => read_anew(trunk, &lists.states, batch, sizes.embedding)?,
    };
    let output = lists.forward(&live.head, &states)?;
    let weight = phase.utility_weight(config, progress);
    let picked = phase.picked(config, batch);
    if picked.is_empty() && weight == 0.0 {
        return Ok(None);
    }
    // Where nothing was drawn yet, the champion is near or far on what was served.
    let served = batch.iter().enumerate().map(|(list, group)| (list, group.served_order()));
    let trajectories = match picked.is_empty() {
        true => lists.trajectories(batch, served)?,
        false => lists.trajectories(batch, picked.iter().map(|(l, r)| (*l, r.order.as_slice())))?,
    };
    let all = trajectories.all_log_probs(&output, config.temperature)?;
    let champion = lists.forward(phase.champion, &lists.states)?;
    let champion = trajectories.all_log_probs(&champion, config.temperature)?.detach();
    let kl = divergence::kl_categorical(&all, &champion, trajectories.steps())?;
    let mut step = Step {
        kl: f64::from(kl.to_scalar::<f32>()?),
        loss: (kl * config.kl_weight)?,
        clip_fraction: 0.0,
    };
    if weight > 0.0 {
        step.loss = (step.loss + (utilities(config, &output, &lists, batch)? * weight)?)?;
    }
    if let Some(objective) = phase.objective.filter(|_| !picked.is_empty()) {
        let on = Sequence { lists: &lists, batch, picked: &picked, trajectories: &trajectories };
        let (main, clip_fraction) = on.loss(config, (objective, phase.drawing), &all)?;
        step.loss = (step.loss + main)?;
        step.clip_fraction = clip_fraction;
    }
    Ok(Some(step))
}

/// What single documents and longer lists teach: scores and stop on one scale.
fn utilities(
    config: &OnlineConfig,
    output: &HeadOutput,
    lists: &Lists,
    batch: &[&Group<'_>],
) -> Result<Tensor> {
    let of = |value: fn(&Option<f64>) -> f32| {
        lists.laid_out(batch.iter().map(|g| g.utilities.iter().map(value).collect()))
    };
    let utilities = of(|u| u.unwrap_or(0.0) as f32)?;
    let known = of(|u| f32::from(u8::from(u.is_some())))?;
    let mut loss = utility::regression(&output.scores, &utilities, &known)?;
    if config.listwise_weight > 0.0 {
        let tau = config.listwise_temperature;
        let listwise = listwise::divergence(&output.scores, &utilities, &known, tau)?;
        loss = (loss + (listwise * config.listwise_weight)?)?;
    }
    match choices(output, batch, (lists.n, &lists.device))? {
        None => Ok(loss),
        Some(choices) => loss + choices.loss()?,
    }
}

/// Where the lists of a minibatch could stop or go on.
pub(super) fn choices(
    output: &HeadOutput,
    batch: &[&Group<'_>],
    (n, device): (usize, &Device),
) -> Result<Option<Choices>> {
    let each = batch.iter().enumerate().map(|(list, group)| Shown {
        list,
        candidates: group.states.rows(),
        masks: group.masks(),
        continuation: &group.continuation,
    });
    Choices::new(output, &each.collect::<Vec<_>>(), (n, device))
}

/// The selections that a sequence objective is about.
struct Sequence<'a> {
    lists: &'a Lists,
    batch: &'a [&'a Group<'a>],
    picked: &'a [(usize, &'a Rollout)],
    trajectories: &'a Trajectories,
}

impl Sequence<'_> {
    /// The objective under log-probabilities `all` (R, T, A), with the share of clipped ratios.
    fn loss(
        &self,
        config: &OnlineConfig,
        (objective, drawing): (Objective, &Head),
        all: &Tensor,
    ) -> Result<(Tensor, f64)> {
        let taken = self.trajectories.taken(all)?;
        match objective {
            Objective::Dr | Objective::Ips | Objective::Snips => {
                Ok((taken.zeros_like()?.sum_all()?, 0.0))
            }
            Objective::Sft => Ok((sft::negative_log_likelihood(&taken)?, 0.0)),
            Objective::Rrpo | Objective::Grpo => {
                let steps = self.trajectories.steps();
                let logged = |(_, r): &(usize, &Rollout)| r.step_log_probs.clone();
                let behaviour = self.over_steps(self.picked.iter().map(logged), &taken)?;
                let credits = credit::advantages(config, objective, self.batch).into_iter();
                let advantages = self.over_steps(credits, &taken)?;
                let clipped =
                    rrpo::clipped_surrogate(&taken, &behaviour, &advantages, steps, config.clip)?;
                let entropy = divergence::entropy(all, steps)?;
                let loss = (clipped.loss - (entropy * config.entropy_weight)?)?;
                Ok((loss, clipped.clip_fraction))
            }
            Objective::Dpo => {
                let states: Vec<_> = self.batch.iter().map(|g| g.drawing_states()).collect();
                let width = states.first().map_or(0, |s: &&CandidateStates| s.width());
                let states = rollout::pad(&states, width, &self.lists.device)?.0;
                let frozen = self.lists.forward(drawing, &states)?;
                let frozen = self.trajectories.all_log_probs(&frozen, config.temperature)?;
                let frozen = self.trajectories.taken(&frozen)?.sum(D::Minus1)?.detach();
                let (policy, half) = (taken.sum(D::Minus1)?, self.picked.len() / 2);
                let part = |t: &Tensor, from: usize| t.narrow(0, from, half);
                let preference = dpo::preference(
                    &part(&policy, 0)?,
                    &part(&policy, half)?,
                    &part(&frozen, 0)?,
                    &part(&frozen, half)?,
                    config.beta,
                    config.sft_weight,
                )?;
                Ok((preference.loss, 0.0))
            }
        }
    }

    /// (R, T) like `taken`, 0 at padding.
    fn over_steps(&self, rows: impl Iterator<Item = Vec<f64>>, taken: &Tensor) -> Result<Tensor> {
        let (count, steps) = taken.dims2()?;
        let mut values = Vec::with_capacity(count * steps);
        for row in rows {
            let end = values.len() + steps;
            values.extend(row.into_iter().take(steps).map(|v| v as f32));
            values.resize(end, 0.0);
        }
        Tensor::from_vec(values, (count, steps), &self.lists.device)
    }
}

/// Best selections of each group first, then the worst in the same order.
fn pairs<'a>(batch: &[&'a Group<'_>], gap_min: f64) -> Vec<(usize, &'a Rollout)> {
    let (mut best, mut worst) = (Vec::new(), Vec::new());
    for (list, group) in batch.iter().enumerate() {
        let group: &'a Group<'_> = group;
        let tried: Vec<&'a Rollout> = group.tried().collect();
        let rewards: Vec<f64> = tried.iter().map(|r| r.reward()).collect();
        let orders: Vec<Vec<u32>> = tried.iter().map(|r| r.order.clone()).collect();
        if let Some((b, w)) = dpo::best_and_worst(&rewards, &orders, gap_min) {
            best.push((list, tried[b]));
            worst.push((list, tried[w]));
        }
    }
    best.extend(worst);
    best
}
