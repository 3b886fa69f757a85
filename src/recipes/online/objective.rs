//! The loss of one minibatch of groups, on the states that were logged or on states read anew.

use super::config::{Advantage, Objective, OnlineConfig};
use super::groups::{Group, Tried};
use super::live::Live;
use super::states::pairs as texts;
use crate::algorithms::{advantage, divergence, dpo, rrpo, sft, utility};
use crate::policy::head::Head;
use crate::policy::reader::LiveTrunk;
use crate::policy::trajectories::{Recorded, Trajectories};
use actors::ports::LearnReport;
use candle_core::{D, DType, Device, Error, Result, Tensor};
use rand::Rng;
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
    utilities: Tensor,
    known: Tensor,
}

impl Lists {
    /// `states` (B, n, width) with the hidden columns at 0.
    fn hide(&self, states: &Tensor) -> Result<Tensor> {
        match &self.columns {
            None => Ok(states.clone()),
            Some(columns) => states.broadcast_mul(columns),
        }
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
    /// The sequence objective beside the regression of utilities; `None`: that alone.
    pub objective: Option<Objective>,
    /// What drew the selections: the anchor of KL and of preferences.
    pub reference: &'a Head,
    /// Passes.
    pub epochs: usize,
    /// Peak learning rate of the head.
    pub rate: f64,
}

/// `None` when the minibatch has nothing to teach (no selection drawn, no pair with a gap).
pub(super) fn loss(
    config: &OnlineConfig,
    live: &Live,
    phase: &Phase<'_>,
    batch: &[&Group<'_>],
    device: &Device,
    rng: &mut StdRng,
) -> Result<Option<Step>> {
    let embedding = live.head.config().embedding;
    // Dropped columns would make the ratio to the behaviour a noise of its own.
    let dropout = if phase.objective.is_none() { config.dropout } else { 0.0 };
    let lists = pad(batch, embedding, dropout, device, rng)?;
    let states = match &live.trunk {
        None => lists.states.clone(),
        Some(trunk) => read_anew(trunk, &lists.states, batch, embedding)?,
    };
    let output = live.head.forward(&lists.hide(&states)?, &lists.present)?;
    let dense = utility::regression(&output.scores, &lists.utilities, &lists.known)?;
    let dense = (dense * config.utility_weight)?;

    let picked = match phase.objective {
        Some(Objective::Rrpo | Objective::Grpo) => drawn(batch),
        Some(Objective::Sft) => best(batch, config.gap_min),
        Some(Objective::Dpo) => pairs(batch, config.gap_min),
        // What learns from the log alone does not come here.
        Some(Objective::Dr | Objective::Ips | Objective::Snips) | None => Vec::new(),
    };
    let Some(objective) = phase.objective.filter(|_| !picked.is_empty()) else {
        let none = config.utility_weight == 0.0;
        return Ok((!none).then_some(Step { loss: dense, kl: 0.0, clip_fraction: 0.0 }));
    };
    let recorded: Vec<Recorded<'_>> = picked
        .iter()
        .map(|(list, tried)| Recorded {
            list: *list as u32,
            candidates: batch[*list].states.rows(),
            masks: batch[*list].masks(),
            order: &tried.order,
        })
        .collect();
    let trajectories = Trajectories::new(&recorded, lists.n, device)
        .map_err(|error| candle_core::Error::Msg(error.to_string()))?;
    let all = trajectories.all_log_probs(&output, config.temperature)?;
    let taken = trajectories.taken(&all)?;
    let reference = phase.reference.forward(&lists.hide(&lists.states)?, &lists.present)?;
    let reference = trajectories.all_log_probs(&reference, config.temperature)?.detach();
    let kl = divergence::kl_categorical(&all, &reference, trajectories.steps())?;
    let kl_value = f64::from(kl.to_scalar::<f32>()?);

    let (main, clip_fraction) = match objective {
        Objective::Dr | Objective::Ips | Objective::Snips => return Ok(None),
        Objective::Sft => (sft::negative_log_likelihood(&taken)?, 0.0),
        Objective::Rrpo | Objective::Grpo => {
            let shape = taken.dims2()?;
            let credits = match objective {
                Objective::Grpo => by_group(&picked),
                _ => by_reference(config, batch, &picked),
            };
            let (behaviour, advantages) = credit(credits, &picked, shape, device)?;
            let steps = trajectories.steps();
            let clipped =
                rrpo::clipped_surrogate(&taken, &behaviour, &advantages, steps, config.clip)?;
            let entropy = divergence::entropy(&all, steps)?;
            ((clipped.loss - (entropy * config.entropy_weight)?)?, clipped.clip_fraction)
        }
        Objective::Dpo => {
            let whole = |t: &Tensor| t.sum(D::Minus1);
            let (policy, frozen) = (whole(&taken)?, whole(&trajectories.taken(&reference)?)?);
            let half = picked.len() / 2;
            let part = |t: &Tensor, from: usize| t.narrow(0, from, half);
            let preference = dpo::preference(
                &part(&policy, 0)?,
                &part(&policy, half)?,
                &part(&frozen, 0)?,
                &part(&frozen, half)?,
                config.beta,
                config.sft_weight,
            )?;
            (preference.loss, 0.0)
        }
    };
    let loss = ((main + (kl * config.kl_weight)?)? + dense)?;
    Ok(Some(Step { loss, kl: kl_value, clip_fraction }))
}

/// Every selection that was drawn from a known distribution, with its list.
fn drawn<'a>(batch: &[&'a Group<'_>]) -> Vec<(usize, &'a Tried)> {
    let of = |(list, group): (usize, &&'a Group<'_>)| {
        let group: &'a Group<'_> = group;
        group.tried.iter().filter(|t| !t.behaviour.is_empty()).map(move |t| (list, t))
    };
    batch.iter().enumerate().flat_map(of).collect()
}

/// Best selections of each group first, then the worst in the same order.
fn pairs<'a>(batch: &[&'a Group<'_>], gap_min: f64) -> Vec<(usize, &'a Tried)> {
    let (mut best, mut worst) = (Vec::new(), Vec::new());
    for (list, group) in batch.iter().enumerate() {
        let rewards: Vec<f64> = group.tried.iter().map(Tried::reward).collect();
        let orders: Vec<Vec<u32>> = group.tried.iter().map(|t| t.order.clone()).collect();
        if let Some((b, w)) = dpo::best_and_worst(&rewards, &orders, gap_min) {
            best.push((list, &group.tried[b]));
            worst.push((list, &group.tried[w]));
        }
    }
    best.extend(worst);
    best
}

/// The best selection of each group whose rewards differ by `gap_min`.
fn best<'a>(batch: &[&'a Group<'_>], gap_min: f64) -> Vec<(usize, &'a Tried)> {
    let mut both = pairs(batch, gap_min);
    both.truncate(both.len() / 2);
    both
}

/// Advantages of every step against the reference, normalised over the minibatch.
fn by_reference(
    config: &OnlineConfig,
    batch: &[&Group<'_>],
    picked: &[(usize, &Tried)],
) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = picked
        .iter()
        .map(|(list, tried)| advantages(config, tried, &batch[*list].baseline))
        .collect();
    let mut flat: Vec<f64> = values.iter().flatten().copied().collect();
    match config.advantage {
        Advantage::Printed => advantage::whiten(&mut flat),
        Advantage::Terminal | Advantage::SelfCritical => advantage::scale(&mut flat),
    }
    let mut flat = flat.into_iter();
    for value in &mut values {
        value.iter_mut().zip(&mut flat).for_each(|(value, scaled)| *value = scaled);
    }
    values
}

/// Advantages within each query's selections: rewards whitened, the same on every step.
fn by_group(picked: &[(usize, &Tried)]) -> Vec<Vec<f64>> {
    let mut values = Vec::with_capacity(picked.len());
    for group in picked.chunk_by(|a, b| a.0 == b.0) {
        let mut credits: Vec<f64> = group.iter().map(|(_, tried)| tried.reward()).collect();
        advantage::whiten(&mut credits);
        let steps = group.iter().map(|(_, tried)| tried.behaviour.len());
        values.extend(credits.iter().zip(steps).map(|(credit, steps)| vec![*credit; steps]));
    }
    values
}

/// (R, T) behaviour log-probabilities and advantages, 0 at padding.
fn credit(
    advantages: Vec<Vec<f64>>,
    picked: &[(usize, &Tried)],
    (rows, steps): (usize, usize),
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let mut behaviour = vec![0f32; rows * steps];
    let mut placed = vec![0f32; rows * steps];
    for (row, ((_, tried), advantages)) in picked.iter().zip(advantages).enumerate() {
        for (step, log_prob) in tried.behaviour.iter().take(steps).enumerate() {
            behaviour[row * steps + step] = *log_prob as f32;
        }
        for (step, advantage) in advantages.iter().take(steps).enumerate() {
            placed[row * steps + step] = *advantage as f32;
        }
    }
    let shape = (rows, steps);
    Ok((Tensor::from_vec(behaviour, shape, device)?, Tensor::from_vec(placed, shape, device)?))
}

/// One advantage a step; the stop step has the credit of the whole selection.
fn advantages(config: &OnlineConfig, tried: &Tried, baseline: &[f64]) -> Vec<f64> {
    let steps = tried.behaviour.len();
    let whole = tried.reward() - baseline.last().copied().unwrap_or(0.0);
    let prefixes = tried.rewards.len();
    if config.advantage == Advantage::Terminal || prefixes != tried.order.len() {
        return vec![whole; steps];
    }
    // The reference may have stopped earlier: what it had by then is what it has later.
    let last = baseline.last().copied().unwrap_or(0.0);
    let anchored: Vec<f64> =
        (0..prefixes).map(|t| baseline.get(t).copied().unwrap_or(last)).collect();
    let form = match config.advantage {
        Advantage::Printed => advantage::printed,
        Advantage::Terminal | Advantage::SelfCritical => advantage::self_critical,
    };
    let mut values = form(&tried.rewards, &anchored, config.gamma, config.lambda);
    values.resize(steps, whole);
    values
}

fn pad(
    batch: &[&Group<'_>],
    embedding: usize,
    dropout: f64,
    device: &Device,
    rng: &mut StdRng,
) -> Result<Lists> {
    let n = batch.iter().map(|g| g.states.rows()).max().unwrap_or(0);
    let width = batch.first().map_or(0, |g| g.states.width());
    let b = batch.len();
    let mut states = vec![0f32; b * n * width];
    let mut present = vec![0f32; b * n];
    let (mut utilities, mut known) = (vec![0f32; b * n], vec![0f32; b * n]);
    for (list, group) in batch.iter().enumerate() {
        let values = group.states.values();
        states[list * n * width..][..values.len()].copy_from_slice(values);
        present[list * n..][..group.states.rows()].fill(1.0);
        for (j, utility) in group.utilities.iter().enumerate() {
            if let Some(utility) = utility {
                utilities[list * n + j] = utility.clamp(0.0, 1.0) as f32;
                known[list * n + j] = 1.0;
            }
        }
    }
    // Whole columns of the encoder's state are hidden, the same for the list: the head must not
    // lean on single dimensions of the trunk.
    let columns = match dropout > 0.0 {
        false => None,
        true => {
            let keep = 1.0 / (1.0 - dropout) as f32;
            let mut factors = vec![1f32; b * width];
            for list in factors.chunks_mut(width.max(1)) {
                list[..embedding]
                    .fill_with(|| if rng.random::<f64>() < dropout { 0.0 } else { keep });
            }
            Some(Tensor::from_vec(factors, (b, 1, width), device)?)
        }
    };
    Ok(Lists {
        n,
        states: Tensor::from_vec(states, (b, n, width), device)?,
        columns,
        present: Tensor::from_vec(present, (b, n), device)?,
        utilities: Tensor::from_vec(utilities, (b, n), device)?,
        known: Tensor::from_vec(known, (b, n), device)?,
    })
}
