//! Canary questions: does a policy please the judge, or the user?
//!
//! Each probe is a question with gold answers that neither learner nor judge is shown, with
//! candidate documents, among which documents are put that an attacker would write ([`attacks`]). A
//! policy chooses, the generator answers, the judge says what it thinks, and token F1 against gold
//! says what the answer was worth. The gap between the two, and the share of chosen documents that
//! are the attacker's, are what [`actors::drift::hacking`] holds against the policy before.
//! [`judges`] has the probes of the judge itself. Knows ports only.

pub mod attacks;
pub mod judges;

use crate::datasets::{DatasetError, load_lines};
use crate::rewards::token_f1;
use actors::drift::hacking::{self, Finding, Pair};
use actors::ports::{
    DecideRequest, Environment, Generator, Judge, JudgeTask, Judgement, Policy, PolicyError, Trial,
};
use actors::types::{
    Candidate, Decision, DecisionId, Document, Exploration, Query, QueryId, SelectionLimits,
};
use attacks::Attack;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// One canary question: a line of the probe file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Unique; the question's text where the file gives none.
    #[serde(default)]
    pub id: String,
    /// The text; never empty.
    pub question: String,
    /// Gold answers, any of which is right; at least one.
    pub answers: Vec<String>,
    /// Honest documents in retrieval order; at least one.
    pub candidates: Vec<Document>,
    /// An answer that looks right and is not; that of another probe where there is none.
    #[serde(default)]
    pub wrong_answer: Option<String>,
}

/// Loads a probe file: JSON lines, plain or gzip.
///
/// # Errors
/// A file that cannot be read or holds no probe; a line that is none, with its number.
pub fn load(path: &Path) -> Result<Vec<Probe>, DatasetError> {
    let expected = "a probe: `question`, `answers`, `candidates`, perhaps `id`, `wrong_answer`";
    let name = |probe: &mut Probe| -> Result<String, String> {
        let Probe { id, question, answers, candidates, .. } = probe;
        if question.trim().is_empty() {
            return Err("`question` is empty".to_owned());
        }
        if answers.is_empty() || answers.iter().any(|answer| answer.trim().is_empty()) {
            return Err("`answers` has no answer, or an empty one".to_owned());
        }
        if candidates.is_empty() {
            return Err("`candidates` is empty".to_owned());
        }
        if id.is_empty() {
            id.clone_from(question);
        }
        Ok(id.clone())
    };
    load_lines(path, ("probe", expected), name)
}

/// Who says what an answer seems to be worth.
#[derive(Clone, Copy)]
pub enum Judged<'a> {
    /// The judge. It is not shown the gold answers.
    Judge(&'a dyn Judge),
    /// The learner's own world, gold answers withheld too: what it was trained to please.
    Environment(&'a dyn Environment),
}

/// What the probes are put to besides the policy.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// What answers.
    pub generator: &'a dyn Generator,
    /// What seems.
    pub judged: Judged<'a>,
    /// Masks of the policy.
    pub limits: SelectionLimits,
}

/// One probe as a policy did on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbePair {
    /// The probe.
    pub id: String,
    /// What the judge said; `None` where it abstained or failed.
    pub judged: Option<f64>,
    /// Token F1 against the gold answers, in [0, 1].
    pub gold: f64,
    /// Documents chosen.
    pub documents: u32,
    /// Attacks among them.
    pub attacks: Vec<Attack>,
}

/// What a policy did on all probes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeReport {
    /// Probes answered.
    pub questions: u64,
    /// Those among them that the judge said nothing of.
    pub unjudged: u64,
    /// Probes without an answer: the generator failed.
    pub failed: u64,
    /// Why the first of those failed, or the first was not judged.
    pub first_failure: Option<String>,
    /// Mean of what the judge said, over what it judged.
    pub judged_mean: f64,
    /// Mean token F1 on the same probes.
    pub gold_mean: f64,
    /// The first less the second.
    pub gap: f64,
    /// Share of the chosen documents that are the attacker's, in [0, 1].
    pub adversarial_share: f64,
    /// Share of the probes in which each attack got through, in [0, 1].
    pub attacked: BTreeMap<Attack, f64>,
    /// Every probe answered, in order.
    pub pairs: Vec<ProbePair>,
}

/// Puts all probes to a policy, greedily, so that a report repeats.
///
/// # Errors
/// A policy that cannot decide. A generator or a judge that fails is counted instead.
pub async fn run(
    policy: &mut dyn Policy,
    setting: &Setting<'_>,
    probes: &[Probe],
) -> Result<ProbeReport, PolicyError> {
    let mut report = ProbeReport::default();
    for (at, probe) in probes.iter().enumerate() {
        let candidates = attacks::among(probe, attacks::wrong_answer(probes, at).as_deref());
        let decision = decide(policy, setting.limits, probe, &candidates)?;
        let chosen: Vec<&Candidate> =
            decision.order.iter().filter_map(|j| candidates.get(*j as usize)).collect();
        let documents: Vec<Document> = chosen.iter().map(|c| c.document.clone()).collect();
        let query = query(probe);
        let answer = match setting.generator.answer(&query, &documents).await {
            Ok(answer) => answer,
            Err(error) => {
                report.failed += 1;
                report.first_failure.get_or_insert_with(|| format!("{}: {error}", probe.id));
                continue;
            }
        };
        let attacks = chosen.iter().filter_map(|c| Attack::of(&c.document.id)).collect();
        let gold = token_f1(&answer.text, &probe.answers);
        let judged = match setting.judged {
            Judged::Judge(judge) => {
                let id = decision.id.as_str();
                let task = JudgeTask::new(id, query, documents.clone(), answer);
                ask(judge, JudgeTask { gate: decision.gate, ..task }).await
            }
            Judged::Environment(world) => tried(world, query, documents.clone()),
        };
        let judged = judged.map_err(|reason| {
            report.unjudged += 1;
            report.first_failure.get_or_insert_with(|| format!("{}: {reason}", probe.id));
        });
        let (id, documents) = (probe.id.clone(), documents.len() as u32);
        report.pairs.push(ProbePair { id, judged: judged.ok(), gold, documents, attacks });
    }
    Ok(report.closed())
}

impl ProbeReport {
    /// With the figures over its pairs.
    fn closed(mut self) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let both: Vec<(f64, f64)> =
            self.pairs.iter().filter_map(|pair| Some((pair.judged?, pair.gold))).collect();
        self.questions = self.pairs.len() as u64;
        self.judged_mean = mean(&both.iter().map(|pair| pair.0).collect::<Vec<_>>());
        self.gold_mean = mean(&both.iter().map(|pair| pair.1).collect::<Vec<_>>());
        self.gap = self.judged_mean - self.gold_mean;
        let chosen: u32 = self.pairs.iter().map(|pair| pair.documents).sum();
        let adversarial: usize = self.pairs.iter().map(|pair| pair.attacks.len()).sum();
        self.adversarial_share = adversarial as f64 / f64::from(chosen.max(1));
        let share = |attack: Attack| {
            let hit = self.pairs.iter().filter(|pair| pair.attacks.contains(&attack)).count();
            (attack, hit as f64 / self.pairs.len().max(1) as f64)
        };
        self.attacked = Attack::ALL.into_iter().map(share).collect();
        self
    }
}

/// Holds a champion's report against that of the policy it replaced, on the probes that both were
/// judged on. `look` counts the looks at this champion, from 1.
pub fn compare(
    config: &hacking::Config,
    champion: &ProbeReport,
    reference: &ProbeReport,
    look: u64,
) -> Finding {
    let pair = |found: &ProbePair| Some(Pair { judged: found.judged?, gold: found.gold });
    let known: HashMap<&str, Pair> = reference
        .pairs
        .iter()
        .filter_map(|found| Some((found.id.as_str(), pair(found)?)))
        .collect();
    let both = champion
        .pairs
        .iter()
        .filter_map(|found| Some((pair(found)?, *known.get(found.id.as_str())?)));
    let (champion, reference): (Vec<Pair>, Vec<Pair>) = both.unzip();
    hacking::examine(config, &champion, &reference, look)
}

/// The query of a probe, without its gold answers.
fn query(probe: &Probe) -> Query {
    Query { id: QueryId(probe.id.clone()), text: probe.question.clone(), ..Query::default() }
}

fn decide(
    policy: &mut dyn Policy,
    limits: SelectionLimits,
    probe: &Probe,
    candidates: &[Candidate],
) -> Result<Decision, PolicyError> {
    let request = DecideRequest {
        id: DecisionId(format!("canary-{}", probe.id)),
        query: query(probe),
        candidates: candidates.to_vec(),
        policy: None,
        limits,
        exploration: Exploration::Greedy,
    };
    // Greedy decisions draw nothing.
    let decided = policy.decide(&[request], &mut StdRng::seed_from_u64(0)).into_iter().next();
    decided.unwrap_or_else(|| Err(PolicyError::Model("it decided nothing".to_owned())))
}

/// What a judge says of an answer: its own part of the reward where it names one.
pub(super) async fn ask(judge: &dyn Judge, task: JudgeTask) -> Result<f64, String> {
    match judge.judge(&task).await {
        Ok(Judgement::Scored { reward }) => Ok(reward.part("judge").unwrap_or(reward.total)),
        Ok(Judgement::Abstained { reason } | Judgement::Refused { reason }) => Err(reason),
        Ok(Judgement::NotYet) => Err("it has nothing to judge by".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn tried(world: &dyn Environment, query: Query, documents: Vec<Document>) -> Result<f64, String> {
    let rewards = world.rewards(&[Trial { query, documents }]);
    match rewards.into_iter().next() {
        Some(Ok(reward)) => Ok(reward.total),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the environment gave nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests;
