//! Fitting one network of the reward model: weighted cross-entropy with credit by citation, stopped
//! early by the latest rows.

use super::super::config::RewardModelConfig;
use super::super::rows::Row;
use super::{LENGTH_STEP, Net};
use crate::policy::optimizer::{Optimizer, OptimizerArgs};
use actors::types::{CandidateStates, Outcome};
use candle_core::{D, Device, Result, Tensor};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Latest rows that choose between epochs: one in so many.
const VALIDATION: usize = 6;

/// One example: a list's chosen documents.
struct Example<'a> {
    states: &'a CandidateStates,
    order: &'a [u32],
    /// Places in `order` of the documents that the answer cites; all where it cites none.
    credited: Vec<usize>,
    reward: f32,
    weight: f32,
}

/// Trains one network on `rows`, oldest first; the latest choose between passes.
pub(super) fn fit(
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
    let reward = row.quality()? as f32;
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
    let mixed = ((weights * worth)? * &credited)?.sum(D::Minus1)?.clamp(1e-5, 1.0 - 1e-5)?;
    let lengths: Vec<f32> = batch.iter().map(|e| (e.order.len().max(1) as f32).ln()).collect();
    let length = (net.tensor("length")? * LENGTH_STEP)?;
    let longer = Tensor::from_vec(lengths, b, &device)?.broadcast_mul(&length)?;
    let logit = (mixed.log()? - (1.0 - mixed)?.log()?)?;
    let value = candle_nn::ops::sigmoid(&(logit + longer)?)?;
    let empty = Tensor::from_vec(empty, b, &device)?;
    let none = candle_nn::ops::sigmoid(net.tensor("empty")?)?;
    let value =
        ((value * (1.0 - &empty)?)? + empty.broadcast_mul(&none)?)?.clamp(1e-5, 1.0 - 1e-5)?;
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
