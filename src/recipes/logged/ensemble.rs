//! Votes for exploration: one read-out of the score for each fold of the reward model, so that a step is
//! drawn where the folds disagree on what comes next.
//!
//! Member f scores candidate j as the head does, plus what the model of fold f thinks of j above the mean
//! of all folds: `s_j + c √(F − 1) (u_jf − ū_j)`. Models that each lack one fold of the rewards differ less
//! than models of independent samples; `√(F − 1)` brings them to the spread of the posterior (grouped
//! jackknife). c, points of score for one of worth, is how the head's own scores follow ū within lists.
//! The differences are read from the head's states by ridge regression, so that serving needs no reward
//! model. Knows a trained head and reward models; draws nothing.

use super::reward_model::{RewardModel, Values};
use super::rows::Row;
use crate::evaluate::off_policy::reward_model::solve;
use crate::policy::head::Head;
use crate::recipes::rollout::pad;
use actors::types::CandidateStates;
use candle_core::{D, Device, Result, Tensor};

/// Newest lists read: more sharpen the read-outs no further than the models differ.
const LISTS: usize = 1_000;
/// Lists in one forward pass.
const BATCH: usize = 32;
/// Ridge, in units of the mean square of a feature.
const RIDGE: f64 = 1e-3;

/// The head with its votes; as it is where scores do not follow the model, or there is one fold alone.
///
/// # Errors
/// A tensor operation fails.
pub(super) fn fit(head: Head, model: &RewardModel, rows: &[Row<'_>], on: &Device) -> Result<Head> {
    let folds = model.folds();
    let features = head.config().hidden + head.config().scalars;
    let mut sums = Sums::new(features, folds);
    for batch in rows[rows.len().saturating_sub(LISTS)..].chunks(BATCH) {
        let lists: Vec<&CandidateStates> = batch.iter().map(|row| row.states).collect();
        let (states, present, _) = pad(&lists, head.config().state_width(), on)?;
        let (output, hidden) = head.forward_with_hidden(&states, &present)?;
        let scalars = states.narrow(D::Minus1, head.config().embedding, head.config().scalars)?;
        let read = Tensor::cat(&[&hidden, &scalars.contiguous()?], D::Minus1)?;
        let (read, scores) = (read.to_vec3::<f32>()?, output.scores.to_vec2::<f32>()?);
        for ((row, read), scores) in batch.iter().zip(&read).zip(&scores) {
            sums.add(&model.all(row)?, read, scores);
        }
    }
    let Some(differences) = sums.solve() else { return Ok(head) };
    let (mut score, mut skip) = (Vec::new(), Vec::new());
    let own = |name: &str| -> Result<Vec<f32>> {
        let missing = || candle_core::Error::Msg(format!("head has no tensor `{name}`"));
        head.tensors().get(name).ok_or_else(missing)?.flatten_all()?.to_vec1()
    };
    let (own_score, own_skip) = (own("score.weight")?, own("skip.weight")?);
    for difference in &differences {
        let (hidden, scalars) = difference.split_at(head.config().hidden);
        let add = |(own, more): (&f32, &f64)| own + *more as f32;
        score.extend(own_score.iter().zip(hidden).map(add));
        skip.extend(own_skip.iter().zip(scalars).map(add));
    }
    let score = Tensor::from_vec(score, (folds, own_score.len()), on)?;
    let skip = Tensor::from_vec(skip, (folds, own_skip.len()), on)?;
    head.with_ensemble(score, skip).map_err(candle_core::Error::Msg)
}

/// Normal equations of the differences, and how scores follow the worth.
struct Sums {
    features: usize,
    /// (features, features), the lower triangle.
    gram: Vec<f64>,
    /// (folds)(features)
    moments: Vec<Vec<f64>>,
    rows: f64,
    /// Sums of score times worth and of worth squared, both about the mean of their list.
    covariance: f64,
    spread: f64,
}

impl Sums {
    fn new(features: usize, folds: usize) -> Self {
        Self {
            features,
            gram: vec![0.0; features * features],
            moments: vec![vec![0.0; features]; folds],
            rows: 0.0,
            covariance: 0.0,
            spread: 0.0,
        }
    }

    /// One list: values by each fold, (n)(features) what read-outs see, (n) scores; padding follows.
    fn add(&mut self, values: &[Values], read: &[Vec<f32>], scores: &[f32]) {
        let n = values.first().map_or(0, |v| v.worth.len());
        let centred = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let all: Vec<f64> = (0..n).map(of).collect();
            let mean = all.iter().sum::<f64>() / n.max(1) as f64;
            all.iter().map(|v| v - mean).collect()
        };
        let folds = values.len() as f64;
        let worth = centred(&|j| values.iter().map(|v| v.worth[j]).sum::<f64>() / folds);
        let scores = centred(&|j| f64::from(scores[j]));
        let own: Vec<Vec<f64>> = values.iter().map(|v| centred(&|j| v.worth[j])).collect();
        let features: Vec<Vec<f64>> =
            (0..self.features).map(|f| centred(&|j| f64::from(read[j][f]))).collect();
        for j in 0..n {
            self.rows += 1.0;
            self.covariance += scores[j] * worth[j];
            self.spread += worth[j] * worth[j];
            for f in 0..self.features {
                let x = features[f][j];
                let row = self.gram[f * self.features..].iter_mut();
                row.zip(&features[..=f]).for_each(|(sum, other)| *sum += x * other[j]);
                for (moments, own) in self.moments.iter_mut().zip(&own) {
                    moments[f] += x * (own[j] - worth[j]);
                }
            }
        }
    }

    /// (folds)(features) what each member adds to the head's read-out.
    fn solve(mut self) -> Option<Vec<Vec<f64>>> {
        let folds = self.moments.len();
        let scale = self.covariance / self.spread;
        if folds < 2 || !scale.is_finite() || scale <= 0.0 {
            return None;
        }
        let diagonal = (0..self.features).map(|f| self.gram[f * self.features + f]);
        let ridge = (RIDGE * diagonal.sum::<f64>() / self.features as f64).max(1e-9 * self.rows);
        (0..self.features).for_each(|f| self.gram[f * self.features + f] += ridge);
        let scale = scale * ((folds - 1) as f64).sqrt();
        let members = self.moments.into_iter().map(|moments| {
            let found = solve(self.gram.clone(), moments)?;
            Some(found.into_iter().map(|w| w * scale).collect())
        });
        members.collect()
    }
}
