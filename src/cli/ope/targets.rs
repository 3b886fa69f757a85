//! Names become targets: weights, rules, and what a log can never tell of.

use super::super::CliError;
use super::super::policy;
use crate::config::Config;
use crate::evaluate::off_policy::{Conduct, Refusal, Unusable};
use crate::policy::policy_folder;
use crate::policy::selection::SelectionLogits;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::off_policy;
use crate::recipes::online::{Contender, StateSource};
use crate::wiring;
use actors::ports::LearnError;
use actors::types::{
    Decision, Exploration, PolicySnapshot, PolicyStamp, PolicyVersion, Sample, SelectionLimits,
};
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::Path;

/// Weights with where their states come from.
struct Weights {
    stamp: PolicyStamp,
    weights: PolicyWeights,
    source: StateSource,
}

impl Weights {
    fn contender(&self) -> Contender<'_> {
        Contender { head: &self.weights.head, source: &self.source }
    }
}

/// What is scored.
pub(super) struct Target {
    name: String,
    kind: Kind,
}

enum Kind {
    /// Weights, served as the flags say.
    Policy(Box<Weights>),
    /// The first so many as retrieved.
    FixedK(usize),
    /// Documents whose logged score is at least this, best first.
    Threshold(f64),
    /// The policies that served, by the digest of their weights, without chance.
    Served(BTreeMap<String, Weights>),
    /// Every open action alike.
    Uniform,
    /// Another text to search with, always or never.
    Rewrite,
}

impl Target {
    /// Every target that was asked for, in that order.
    ///
    /// # Errors
    /// A name that is none, weights that cannot be read, or two of one name.
    pub(super) async fn all(
        asked: &[String],
        config: &Config,
        (read_anew, samples): (bool, &[Sample]),
    ) -> Result<Vec<Self>, CliError> {
        let mut targets: Vec<Self> = Vec::with_capacity(asked.len());
        for text in asked {
            let target = Self::of(text, config, (read_anew, samples)).await?;
            if targets.iter().any(|known| known.name == target.name) {
                let name = target.name;
                return Err(CliError::Usage(format!(
                    "two policies are called `{name}`; name them with --policy NAME=DIR"
                )));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    async fn of(
        text: &str,
        config: &Config,
        (read_anew, samples): (bool, &[Sample]),
    ) -> Result<Self, CliError> {
        let wrong = |expected: &str| {
            Err(CliError::Usage(format!("--policy `{text}`: expected {expected}")))
        };
        let kind = match text.split_once('=') {
            Some(("k", k)) => match k.parse() {
                Ok(k) if k > 0 => Kind::FixedK(k),
                _ => return wrong("a whole number from 1 after `k=`"),
            },
            Some(("threshold", score)) => match score.parse::<f64>() {
                Ok(score) if score.is_finite() => Kind::Threshold(score),
                _ => return wrong("a number after `threshold=`"),
            },
            Some(("rewrite", "on" | "off")) => Kind::Rewrite,
            Some(("rewrite", _)) => return wrong("`rewrite=on` or `rewrite=off`"),
            _ if text == "uniform" => Kind::Uniform,
            _ if text == "greedy" => Kind::Served(served(config, read_anew, samples).await?),
            _ => return Self::weights(text, config, read_anew).await,
        };
        Ok(Self { name: text.to_owned(), kind })
    }

    async fn weights(text: &str, config: &Config, read_anew: bool) -> Result<Self, CliError> {
        let (name, place) = match text.split_once('=') {
            // A path may hold `=`; a name holds no separator.
            Some((name, place)) if !name.is_empty() && !name.contains(['/', '\\']) => (name, place),
            _ => (text, text),
        };
        let is_version = place.strip_prefix('v').unwrap_or(place).parse::<u64>().is_ok();
        if !is_version && !policy_folder::is_policy_folder(Path::new(place)) {
            return Err(CliError::Usage(format!(
                "--policy `{text}` is no policy folder and no version (`v7`); rules are `k=3`, \
                 `threshold=0.5`, `greedy`, `uniform`, `rewrite=on` and `rewrite=off`"
            )));
        }
        let snapshot = policy::policy(config, place).await?;
        let weights = load(&snapshot, config, read_anew, name)?;
        Ok(Self { name: name.to_owned(), kind: Kind::Policy(Box::new(weights)) })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Which weights, where it has any of its own.
    pub(super) fn stamp(&self) -> Option<&PolicyStamp> {
        match &self.kind {
            Kind::Policy(weights) => Some(&weights.stamp),
            _ => None,
        }
    }

    /// Whether the flags on exploration are about it.
    pub(super) fn explores(&self) -> bool {
        matches!(self.kind, Kind::Policy(_))
    }

    /// Why no log of this kind says anything of it, where that is so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        matches!(self.kind, Kind::Rewrite).then_some(Refusal::NeverRandom { what: "rewrite" })
    }

    /// What it does with one sample.
    pub(super) fn conduct(
        &self,
        sample: &Sample,
        exploration: Option<Exploration>,
    ) -> Result<Result<Conduct, Unusable>, LearnError> {
        let Some(decision) = &sample.episode.decision else { return Ok(Err(Unusable::Undecided)) };
        Ok(Ok(match &self.kind {
            Kind::Policy(weights) => {
                return off_policy::conduct(sample, weights.contender(), exploration, &Device::Cpu);
            }
            Kind::Served(known) => {
                let Some(weights) = known.get(decision.policy.digest.as_str()) else {
                    return Ok(Err(Unusable::UnknownPolicy));
                };
                let greedy = Some(Exploration::Greedy);
                return off_policy::conduct(sample, weights.contender(), greedy, &Device::Cpu);
            }
            Kind::FixedK(k) => Conduct::Always { order: first(decision, *k) },
            Kind::Threshold(score) => Conduct::Always { order: above(decision, *score) },
            Kind::Uniform => {
                let n = decision.candidate_tokens.len();
                let logits = SelectionLogits::from_scores(vec![0.0; n], 0.0);
                let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };
                Conduct::Draws { logits, exploration }
            }
            Kind::Rewrite => return Ok(Err(Unusable::Inconsistent)),
        }))
    }
}

/// The policies that made the decisions, as far as the store has them.
async fn served(
    config: &Config,
    read_anew: bool,
    samples: &[Sample],
) -> Result<BTreeMap<String, Weights>, CliError> {
    let stamps: BTreeMap<String, PolicyVersion> = samples
        .iter()
        .filter_map(|sample| sample.episode.decision.as_ref())
        .map(|decision| (decision.policy.digest.0.clone(), decision.policy.version))
        .collect();
    let mut known = BTreeMap::new();
    for (digest, version) in stamps {
        let snapshot = if version == PolicyVersion(0) {
            wiring::first_policy(config).ok()
        } else {
            policy::policy(config, &version.to_string()).await.ok()
        };
        // Another policy of the same number, or one that is gone: its decisions are counted.
        let Some(snapshot) = snapshot.filter(|s| s.digest.as_str() == digest) else { continue };
        known.insert(digest, load(&snapshot, config, read_anew, "greedy")?);
    }
    Ok(known)
}

fn load(
    snapshot: &PolicySnapshot,
    config: &Config,
    read_anew: bool,
    name: &str,
) -> Result<Weights, CliError> {
    let failed = || format!("cannot score policy `{name}`");
    let weights = serving::from_snapshot(snapshot, &Device::Cpu)
        .map_err(|e| CliError::failed(failed(), e))?;
    let stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
    let base = if read_anew || weights.trunk.is_some() {
        Some(wiring::policy_reader(config).map_err(|e| CliError::failed(failed(), e))?)
    } else {
        None
    };
    let source = StateSource::new(base.as_ref(), &weights, &stamp)
        .map_err(|e| CliError::failed(failed(), e))?;
    Ok(Weights { stamp, weights, source })
}

/// The candidates of `ranked` that fit one after the other, as the masks have it.
fn fitting(decision: &Decision, ranked: impl Iterator<Item = usize>, k: usize) -> Vec<u32> {
    let SelectionLimits { k_max, token_budget, .. } = decision.limits;
    let mut left = token_budget;
    let mut order = Vec::new();
    for j in ranked {
        if order.len() >= k.min(k_max as usize) {
            break;
        }
        let Some(rest) = decision.candidate_tokens.get(j).and_then(|t| left.checked_sub(*t)) else {
            continue;
        };
        left = rest;
        order.push(j as u32);
    }
    order
}

/// The first k as retrieved, at least `k_min`.
fn first(decision: &Decision, k: usize) -> Vec<u32> {
    let k = k.max(decision.limits.k_min as usize);
    fitting(decision, 0..decision.candidate_tokens.len(), k)
}

/// Documents whose logged score is at least `score`, best first, at least `k_min`.
fn above(decision: &Decision, score: f64) -> Vec<u32> {
    let mut ranked: Vec<usize> = (0..decision.scores.len()).collect();
    // Stable: ties stay in retrieval order.
    ranked.sort_by(|&a, &b| decision.scores[b].total_cmp(&decision.scores[a]));
    let good = ranked.iter().filter(|&&j| f64::from(decision.scores[j]) >= score).count();
    fitting(decision, ranked.into_iter(), good.max(decision.limits.k_min as usize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use actors::types::{CandidateStates, Gate};

    fn decision(tokens: &[u32], scores: &[f32], limits: (u32, u32, u32)) -> Decision {
        let (k_min, k_max, token_budget) = limits;
        Decision {
            id: "d".into(),
            gate: Gate::Retrieve,
            rewrite: 0,
            order: Vec::new(),
            step_log_probs: Vec::new(),
            scores: scores.to_vec(),
            exploration: Exploration::Greedy,
            limits: SelectionLimits { k_min, k_max, token_budget },
            deviates: None,
            candidate_tokens: tokens.to_vec(),
            states: CandidateStates::default(),
            policy: PolicyStamp::default(),
        }
    }

    #[test]
    fn rules_keep_to_the_masks() {
        let decision = decision(&[10, 50, 10, 10], &[0.1, 0.9, 0.9, -1.0], (1, 3, 40));
        assert_eq!(first(&decision, 2), [0, 2], "what does not fit is passed over");
        assert_eq!(first(&decision, 9), [0, 2, 3]);
        assert_eq!(above(&decision, 0.5), [2, 0], "two of these scores, the first not fitting");
        assert_eq!(above(&decision, 5.0), [2], "at least k_min");
    }

    #[tokio::test]
    async fn names_that_are_none_are_told_what_there_is() {
        let config = Config::default();
        let told = async |text: &str| {
            let asked = [text.to_owned()];
            match Target::all(&asked, &config, (false, &[])).await {
                Err(CliError::Usage(told)) => told,
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("`{text}` is none"),
            }
        };
        assert!(told("k=0").await.contains("from 1"));
        assert!(told("threshold=high").await.contains("a number"));
        assert!(told("rewrite=maybe").await.contains("rewrite=on"));
        assert!(told("nowhere").await.contains("no policy folder and no version"));
        let asked = ["k=3".to_owned(), "k=3".to_owned()];
        let twice = Target::all(&asked, &config, (false, &[])).await;
        assert!(matches!(twice, Err(CliError::Usage(told)) if told.contains("two policies")));
    }
}
