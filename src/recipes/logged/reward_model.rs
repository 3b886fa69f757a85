//! What a selection is worth, learned from the logged rewards alone: the control variate of the doubly
//! robust objective, and what its gradient flows through where nothing was logged.
//!
//! It sees what the policy sees. Each candidate j has a value `u_j = σ(f(x_j))`, the chance that an
//! answer from it satisfies, and a weight `g_j` by which chosen documents share the answer among them:
//!
//! `q̂(x, a) = Σ_{j in a} softmax_a(g + p · place)_j · u_j`,
//!
//! so that one document's worth is learned from every list it was in. Where the answer cites documents
//! the reward is credited to these, and the weights learn which of a list are cited. Fitted by weighted
//! cross-entropy on rewards in [0, 1], with early stopping on the latest rows. Cross-fitted: the model
//! that speaks for a query has seen no reward of it. Knows rows; no policy and no loss of one.

use super::config::RewardModelConfig;
use super::rows::Row;
use crate::policy::features::SCALARS;
use crate::policy::optimizer::{Optimizer, OptimizerArgs};
use actors::ports::LearnError;
use actors::types::{CandidateStates, Outcome};
use candle_core::{D, Device, Result, Tensor, Var};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// Latest rows that choose between epochs: one in so many.
const VALIDATION: usize = 6;
/// Candidates valued in one forward pass.
const CHUNK: usize = 4_096;

/// Value and weight of every candidate of one list, by one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Values {
    /// (n) chance that an answer from the candidate satisfies, in [0, 1].
    pub worth: Vec<f64>,
    /// (n) logit of the candidate's share in an answer.
    pub share: Vec<f64>,
    /// What a later place adds to the logit of a share.
    pub place: f64,
    /// Worth of the empty selection, in [0, 1].
    pub empty: f64,
}

impl Values {
    /// q̂ of a selection, in [0, 1]; indices out of range are passed over.
    pub(super) fn of(&self, order: &[u32]) -> f64 {
        let chosen: Vec<(f64, f64)> = order
            .iter()
            .enumerate()
            .filter_map(|(place, &j)| {
                let (worth, share) = (self.worth.get(j as usize)?, self.share.get(j as usize)?);
                Some((*worth, share + self.place * place as f64))
            })
            .collect();
        let top = chosen.iter().map(|(_, g)| *g).fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut total) = (0.0, 0.0);
        for (worth, share) in &chosen {
            let weight = (share - top).exp();
            sum += weight * worth;
            total += weight;
        }
        if total > 0.0 { sum / total } else { self.empty }
    }
}

/// The models of all folds: what a query's selections are worth by a model that has not seen it.
pub(super) struct RewardModel {
    folds: Vec<Net>,
    /// Share of the rewards' variance explained out of fold; `None` where rewards do not vary.
    pub r_squared: Option<f64>,
    /// Mean prediction less mean reward, out of fold.
    pub bias: f64,
}

/// One example: a list's chosen documents.
struct Example<'a> {
    states: &'a CandidateStates,
    order: &'a [u32],
    /// Places in `order` of the documents that the answer cites; all where it cites none.
    credited: Vec<usize>,
    reward: f32,
    weight: f32,
}

impl RewardModel {
    /// Fits one model a fold on the answered rows of the others. `None` where fewer than
    /// `config.rows_min` rows are answered.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub(super) fn fit(
        config: &RewardModelConfig,
        rows: &[Row<'_>],
        embedding: usize,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Option<Self>, LearnError> {
        let answered: Vec<&Row<'_>> = rows.iter().filter(|row| row.reward.is_some()).collect();
        if answered.len() < config.rows_min {
            return Ok(None);
        }
        let mut folds = Vec::with_capacity(config.folds);
        for fold in 0..config.folds {
            let train: Vec<&Row<'_>> =
                answered.iter().copied().filter(|row| row.fold(config.folds) != fold).collect();
            let seed = seed.wrapping_add(fold as u64);
            folds.push(fit(config, &train, embedding, seed, device).map_err(model)?);
        }
        let mut fitted = Self { folds, r_squared: None, bias: 0.0 };
        let mut pairs = Vec::with_capacity(answered.len());
        for row in &answered {
            let values = fitted.values(row.fold(config.folds), row.states).map_err(model)?;
            pairs.push((values.of(row.order), row.reward.unwrap_or_default()));
        }
        fitted.r_squared = crate::evaluate::off_policy::r_squared(pairs.iter().copied());
        fitted.bias = pairs.iter().map(|(q, r)| q - r).sum::<f64>() / pairs.len().max(1) as f64;
        Ok(Some(fitted))
    }

    /// Whether it explains anything of rewards that it has not seen.
    pub(super) fn explains(&self) -> bool {
        self.r_squared.is_some_and(|r| r > 0.0)
    }

    /// The candidates of a list by the model that has seen no reward of this fold.
    pub(super) fn values(&self, fold: usize, states: &CandidateStates) -> Result<Values> {
        match self.folds.get(fold % self.folds.len().max(1)) {
            Some(net) => net.values(states),
            None => Ok(Values::default()),
        }
    }

    /// The candidates of a later list, by the model of every fold.
    pub(super) fn all(&self, states: &CandidateStates) -> Result<Vec<Values>> {
        self.folds.iter().map(|net| net.values(states)).collect()
    }
}

/// q̂ of a selection: the mean over several models; 0 of none.
pub(super) fn mean(models: &[Values], order: &[u32]) -> f64 {
    models.iter().map(|values| values.of(order)).sum::<f64>() / models.len().max(1) as f64
}

/// A small network over one candidate.
struct Net {
    embedding: usize,
    tensors: BTreeMap<String, Tensor>,
}

const NAMES: [&str; 9] = [
    "input.weight",
    "input.bias",
    "worth.weight",
    "worth.skip",
    "worth.bias",
    "share.weight",
    "share.skip",
    "place",
    "empty",
];

impl Net {
    fn init(
        embedding: usize,
        hidden: usize,
        base: f64,
        seed: u64,
        device: &Device,
    ) -> Result<BTreeMap<String, Var>> {
        let mut rng = StdRng::seed_from_u64(seed);
        let width = embedding + SCALARS.len();
        let bound = (3.0 / width as f32).sqrt();
        let mut variables = BTreeMap::new();
        for name in NAMES {
            let (shape, start): (Vec<usize>, f32) = match name {
                "input.weight" => (vec![width, hidden], bound),
                "input.bias" => (vec![hidden], 0.0),
                "worth.weight" | "share.weight" => (vec![hidden], 0.01),
                "worth.skip" | "share.skip" => (vec![SCALARS.len()], 0.0),
                _ => (vec![1], 0.0),
            };
            let count = shape.iter().product();
            let mut values: Vec<f32> = (0..count)
                .map(|_| if start > 0.0 { rng.random_range(-start..start) } else { 0.0 })
                .collect();
            if matches!(name, "worth.bias" | "empty") {
                values.fill((base / (1.0 - base)).ln() as f32);
            }
            let tensor = Tensor::from_vec(values, shape, device)?;
            variables.insert(name.to_owned(), Var::from_tensor(&tensor)?);
        }
        Ok(variables)
    }

    /// A view of variables: sees every step.
    fn of(embedding: usize, variables: &BTreeMap<String, Var>) -> Self {
        let tensors = variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        Self { embedding, tensors }
    }

    fn snapshot(&self) -> Result<Self> {
        let copies = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.detach().copy()?)));
        Ok(Self { embedding: self.embedding, tensors: copies.collect::<Result<_>>()? })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let missing = || candle_core::Error::Msg(format!("reward model has no tensor `{name}`"));
        self.tensors.get(name).ok_or_else(missing)
    }

    /// rows: (m, embedding + scalars) f32. Returns the logits of worth and of share, (m) each.
    fn forward(&self, rows: &Tensor, hide: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let scalars = rows.narrow(D::Minus1, self.embedding, SCALARS.len())?.contiguous()?;
        let embedding = rows.narrow(D::Minus1, 0, self.embedding)?.contiguous()?;
        let mean = embedding.mean_keepdim(D::Minus1)?;
        let centred = embedding.broadcast_sub(&mean)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
        let mut normed = centred.broadcast_div(&deviation)?;
        if let Some(hide) = hide {
            normed = normed.mul(hide)?;
        }
        let input = Tensor::cat(&[&normed, &scalars], D::Minus1)?;
        let hidden = input.matmul(self.tensor("input.weight")?)?;
        let hidden = hidden.broadcast_add(self.tensor("input.bias")?)?.gelu_erf()?;
        let read = |weight: &str, skip: &str| -> Result<Tensor> {
            let deep = hidden.broadcast_mul(self.tensor(weight)?)?.sum(D::Minus1)?;
            deep + scalars.broadcast_mul(self.tensor(skip)?)?.sum(D::Minus1)?
        };
        let worth = read("worth.weight", "worth.skip")?;
        let worth = worth.broadcast_add(self.tensor("worth.bias")?)?;
        Ok((worth, read("share.weight", "share.skip")?))
    }

    fn values(&self, states: &CandidateStates) -> Result<Values> {
        let number = |name: &str| -> Result<f64> {
            Ok(f64::from(
                self.tensor(name)?.flatten_all()?.to_vec1::<f32>()?.first().copied().unwrap_or(0.0),
            ))
        };
        let (n, width) = (states.rows(), states.width());
        let mut values = Values {
            place: number("place")?,
            empty: 1.0 / (1.0 + (-number("empty")?).exp()),
            ..Values::default()
        };
        let device = self.tensor("place")?.device();
        for chunk in states.values().chunks(CHUNK * width.max(1)) {
            let rows = Tensor::from_slice(chunk, (chunk.len() / width, width), device)?;
            let (worth, share) = self.forward(&rows, None)?;
            let worth = worth.to_vec1::<f32>()?.into_iter();
            values.worth.extend(worth.map(|l| 1.0 / (1.0 + (-f64::from(l)).exp())));
            values.share.extend(share.to_vec1::<f32>()?.into_iter().map(f64::from));
        }
        debug_assert_eq!(values.worth.len(), n);
        Ok(values)
    }
}

/// Trains one network on `rows`, oldest first; the latest choose between passes.
fn fit(
    config: &RewardModelConfig,
    rows: &[&Row<'_>],
    embedding: usize,
    seed: u64,
    device: &Device,
) -> Result<Net> {
    let mut rng = StdRng::seed_from_u64(seed);
    let examples: Vec<Example<'_>> = rows.iter().filter_map(|row| example(row)).collect();
    let (train, latest) = examples.split_at(examples.len() - examples.len() / VALIDATION);
    let total: f32 = train.iter().map(|e| e.weight).sum();
    let base: f32 = train.iter().map(|e| e.weight * e.reward).sum::<f32>() / total.max(1e-6);
    let base = f64::from(base).clamp(0.02, 0.98);
    let variables = Net::init(embedding, config.hidden, base, seed, device)?;
    let net = Net::of(embedding, &variables);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let steps = (order.len().div_ceil(config.batch) * config.epochs) as u64;
    let mut optimizer = Optimizer::new(
        OptimizerArgs {
            rate: config.learning_rate as f32,
            weight_decay: config.weight_decay as f32,
            warmup_steps: steps / 20,
            total_steps: steps,
            ..OptimizerArgs::default()
        },
        &variables,
    );
    let mut best = (validate(&net, latest)?, net.snapshot()?);
    for _ in 0..config.epochs {
        order.shuffle(&mut rng);
        for chunk in order.chunks(config.batch) {
            let batch: Vec<&Example<'_>> = chunk.iter().map(|&i| &train[i]).collect();
            let loss = loss(&net, &batch, config, Some(&mut rng))?;
            let gradients = loss.backward()?;
            let stepped = optimizer.step(&variables, &gradients);
            stepped.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        }
        let found = validate(&net, latest)?;
        if found < best.0 {
            best = (found, net.snapshot()?);
        }
    }
    Ok(best.1)
}

fn example<'a>(row: &Row<'a>) -> Option<Example<'a>> {
    let reward = row.reward? as f32;
    let cited: Vec<usize> = match &row.episode.outcome {
        Outcome::Answered { answer } => (0..row.order.len())
            .filter(|&place| {
                let chosen = row.episode.candidates.get(row.order[place] as usize);
                chosen.is_some_and(|c| answer.citations.contains(&c.document.id))
            })
            .collect(),
        Outcome::Reranked | Outcome::Failed { .. } => Vec::new(),
    };
    // An answer that cites all it was given tells nothing of their shares.
    let all = (0..row.order.len()).collect();
    let credited = if cited.is_empty() { all } else { cited };
    let (states, order, weight) = (row.states, row.order, row.weight as f32);
    Some(Example { states, order, credited, reward, weight })
}

/// Mean loss of the latest rows without dropout; 0 of none, and then the first pass is as good as any.
fn validate(net: &Net, latest: &[Example<'_>]) -> Result<f32> {
    let (mut sum, mut total) = (0.0, 0.0);
    for chunk in latest.chunks(256) {
        let batch: Vec<&Example<'_>> = chunk.iter().collect();
        let weight: f32 = batch.iter().map(|e| e.weight).sum();
        let plain = RewardModelConfig { citation_weight: 0.0, ..RewardModelConfig::default() };
        sum += weight * loss(net, &batch, &plain, None)?.to_scalar::<f32>()?;
        total += weight;
    }
    Ok(if total > 0.0 { sum / total } else { f32::NEG_INFINITY })
}

/// Weighted cross-entropy of q̂ against the rewards, and of the shares against the citations.
fn loss(
    net: &Net,
    batch: &[&Example<'_>],
    config: &RewardModelConfig,
    dropout: Option<&mut StdRng>,
) -> Result<Tensor> {
    let device = net.tensor("place")?.device().clone();
    let width = batch.first().map_or(0, |e| e.states.width());
    let k = batch.iter().map(|e| e.order.len()).max().unwrap_or(0).max(1);
    let b = batch.len();
    let mut rows = vec![0f32; b * k * width];
    let (mut chosen, mut credited) = (vec![0f32; b * k], vec![0f32; b * k]);
    let mut empty = vec![0f32; b];
    for (i, example) in batch.iter().enumerate() {
        for (place, &j) in example.order.iter().enumerate() {
            let from = j as usize * width;
            rows[(i * k + place) * width..][..width]
                .copy_from_slice(&example.states.values()[from..from + width]);
            chosen[i * k + place] = 1.0;
        }
        example.credited.iter().for_each(|&place| credited[i * k + place] = 1.0);
        empty[i] = f32::from(u8::from(example.order.is_empty()));
    }
    let hide = match dropout {
        Some(rng) if config.dropout > 0.0 => {
            let keep = 1.0 / (1.0 - config.dropout) as f32;
            // One mask a list, so that its documents stay comparable.
            let mut mask = Vec::with_capacity(b * k * net.embedding);
            for _ in 0..b {
                let list: Vec<f32> = (0..net.embedding)
                    .map(|_| if rng.random::<f64>() < config.dropout { 0.0 } else { keep })
                    .collect();
                (0..k).for_each(|_| mask.extend_from_slice(&list));
            }
            Some(Tensor::from_vec(mask, (b * k, net.embedding), &device)?)
        }
        _ => None,
    };
    let rows = Tensor::from_vec(rows, (b * k, width), &device)?;
    let (worth, share) = net.forward(&rows, hide.as_ref())?;
    let worth = candle_nn::ops::sigmoid(&worth.reshape((b, k))?)?;
    let places: Vec<f32> = (0..b * k).map(|at| (at % k) as f32).collect();
    let places = Tensor::from_vec(places, (b, k), &device)?;
    let share = (share.reshape((b, k))? + places.broadcast_mul(net.tensor("place")?)?)?;
    let chosen = Tensor::from_vec(chosen, (b, k), &device)?;
    let credited = Tensor::from_vec(credited, (b, k), &device)?;
    let closed = |open: &Tensor| -> Result<Tensor> { &share + ((open - 1.0)? * 1e9)? };
    // The reward is credited to what the answer cites; the shares learn what that is.
    let weights = candle_nn::ops::softmax(&closed(&credited)?, D::Minus1)?;
    let value = ((weights * worth)? * &credited)?.sum(D::Minus1)?;
    let empty = Tensor::from_vec(empty, b, &device)?;
    let none = candle_nn::ops::sigmoid(net.tensor("empty")?)?;
    let value = (value + empty.broadcast_mul(&none)?)?.clamp(1e-5, 1.0 - 1e-5)?;
    let column = |of: fn(&Example<'_>) -> f32| {
        Tensor::from_vec(batch.iter().map(|e| of(e)).collect::<Vec<_>>(), b, &device)
    };
    let (reward, weight) = (column(|e| e.reward)?, column(|e| e.weight)?);
    let rest = (1.0 - &reward)?;
    let likelihood = ((reward * value.log()?)? + (rest * (1.0 - value)?.log()?)?)?;
    let total = f64::from(weight.sum_all()?.to_scalar::<f32>()?).max(1e-6);
    let mut loss = ((likelihood * &weight)?.sum_all()? / -total)?;
    if config.citation_weight > 0.0 {
        let all = closed(&chosen)?.log_sum_exp(D::Minus1)?;
        let cited = closed(&credited)?.log_sum_exp(D::Minus1)?;
        // Nothing where all or none is cited: both sums are then the same.
        let unlikelihood = ((all - cited)? * weight)?.sum_all()?;
        loss = (loss + (unlikelihood * (config.citation_weight / total))?)?;
    }
    Ok(loss)
}

fn model(error: candle_core::Error) -> LearnError {
    LearnError::Model(format!("reward model: {error}"))
}
