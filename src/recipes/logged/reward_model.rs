//! What a selection is worth, learned from the logged rewards alone: the control variate of the doubly
//! robust objective, and what its gradient flows through where nothing was logged.
//!
//! It sees what the policy sees. Each candidate j has a value `u_j = σ(f(x_j))`, the chance that an
//! answer from it satisfies, and a weight `g_j` by which chosen documents share the answer among them:
//!
//! `q̂(x, a) = σ(logit(Σ_{j in a} softmax_a(g + p · place)_j · u_j) + l · ln |a|)`,
//!
//! so that one document's worth is learned from every list it was in, and `l` what the number of
//! documents does to an answer: above 0 where they complete each other. Where the answer cites documents
//! the reward is credited to these, and the weights learn which of a list are cited. Fitted by weighted
//! cross-entropy on rewards in [0, 1], with early stopping on the latest rows. Cross-fitted: the model
//! that speaks for a query has seen no reward of it. Knows rows; no policy and no loss of one.

mod fit;

use super::config::RewardModelConfig;
use super::rows::Row;
use crate::policy::features::SCALARS;
use actors::ports::LearnError;
use actors::types::CandidateStates;
use candle_core::{D, Device, Result, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// Candidates valued in one forward pass.
const CHUNK: usize = 4_096;

/// What `length` is a multiple of: one number that every list shares may move faster than a weight.
const LENGTH_STEP: f64 = 20.0;

/// Value and weight of every candidate of one list, by one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Values {
    /// (n) chance that an answer from the candidate satisfies, in [0, 1].
    pub worth: Vec<f64>,
    /// (n) logit of the candidate's share in an answer.
    pub share: Vec<f64>,
    /// What a later place adds to the logit of a share.
    pub place: f64,
    /// What ln(documents) adds to the logit of a list's worth.
    pub length: f64,
    /// Worth of the empty selection, in [0, 1].
    pub empty: f64,
    /// (n) what the candidate adds to the reward of a list by its price alone, ≤ 0.
    pub costs: Vec<f64>,
}

impl Values {
    /// q̂ of a selection, less its price, at most 1; indices out of range are passed over.
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
        let cost: f64 = order.iter().filter_map(|&j| self.costs.get(j as usize)).sum();
        if total <= 0.0 {
            return cost + self.empty;
        }
        let mixed = (sum / total).clamp(1e-5, 1.0 - 1e-5);
        let odds = mixed / (1.0 - mixed) * (chosen.len() as f64).powf(self.length);
        cost + odds / (1.0 + odds)
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
            folds.push(fit::fit(config, &train, embedding, seed, device).map_err(model)?);
        }
        let mut fitted = Self { folds, r_squared: None, bias: 0.0 };
        let mut pairs = Vec::with_capacity(answered.len());
        for row in &answered {
            let values = fitted.values(row).map_err(model)?;
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

    /// Number of its networks.
    pub(super) fn folds(&self) -> usize {
        self.folds.len()
    }

    /// The candidates of a row by the model that has seen no reward of its query.
    pub(super) fn values(&self, row: &Row<'_>) -> Result<Values> {
        let net = self.folds.get(row.fold(self.folds.len()));
        net.map_or_else(|| Ok(Values::default()), |net| valued(net, row))
    }

    /// The candidates of a later row, by the model of every fold.
    pub(super) fn all(&self, row: &Row<'_>) -> Result<Vec<Values>> {
        self.folds.iter().map(|net| valued(net, row)).collect()
    }
}

fn valued(net: &Net, row: &Row<'_>) -> Result<Values> {
    Ok(Values { costs: row.costs(), ..net.values(row.states)? })
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

const NAMES: [&str; 10] = [
    "input.weight",
    "input.bias",
    "worth.weight",
    "worth.skip",
    "worth.bias",
    "share.weight",
    "share.skip",
    "place",
    "length",
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
            length: number("length")? * LENGTH_STEP,
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

fn model(error: candle_core::Error) -> LearnError {
    LearnError::Model(format!("reward model: {error}"))
}

#[cfg(test)]
mod tests {
    use super::Values;

    #[test]
    fn a_list_is_worth_what_was_worked_by_hand() {
        let values = Values {
            worth: vec![0.2, 0.8],
            share: vec![0.0, 3f64.ln()],
            place: 0.0,
            length: 0.0,
            empty: 0.1,
            costs: vec![-0.05, -0.02],
        };
        let close = |order: &[u32], expected: f64| {
            let found = values.of(order);
            assert!((found - expected).abs() < 1e-9, "{order:?}: {found}, not {expected}");
        };
        close(&[], 0.1);
        close(&[0], 0.15);
        // Shares 1/4 and 3/4: 0.05 + 0.6 = 0.65, less 0.07.
        close(&[0, 1], 0.58);
        // Odds 0.65 / 0.35 double with ln(2) of length: 1.3 / 1.65.
        let longer = Values { length: 1.0, ..values.clone() };
        assert!((longer.of(&[0, 1]) - (1.3 / 1.65 - 0.07)).abs() < 1e-9);
        // One document's worth is that of the model, whatever the length says.
        assert!((longer.of(&[1]) - 0.78).abs() < 1e-9);
        // The second place weighs e^place: shares 1 and 1 where it takes back the ln 3.
        let placed = Values { place: -(3f64.ln()), ..values };
        assert!((placed.of(&[0, 1]) - (0.5 - 0.07)).abs() < 1e-9);
    }
}
