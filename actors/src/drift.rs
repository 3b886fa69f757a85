//! Has the world changed? Detectors on queries, retrieval, rewards and the judge, each with a bound
//! on its false alarms.
//!
//! Owns the statistics and what they remember; knows no actor, no log, no clock. The same sequence
//! of observations gives the same alarms, chance included, so a replay repeats them.
//!
//! | detector | watches | bet |
//! |---|---|---|
//! | `query_mix` | hashed n-grams of the text, or the caller's vectors | new query against one of some time ago, by a learned direction (`mix`) |
//! | `retrieval_scores` | top score, and its margin over the next | level of the ranks and odds of a good one, both ways (`level`) |
//! | `reward` | judged reward | the same |
//! | `abstention` | share of judgements without a verdict | more ones |
//! | `judge_name` | name and version on record | a name not seen before: at once |
//! | `judge_probe` | verdict minus baseline on a fixed set of probes | level of the ranks, both ways, and their spread |
//! | `hacking` | canary questions (`hacking`) | paired permutation test |
//!
//! The bound: while observations are exchangeable every bet is fair, so by optional stopping the mean
//! run length to a false alarm of each detector is at least [`Config::mean_between_false_alarms`]
//! observations of its own, and the probability of one within n observations is at most n divided by
//! it. Traffic that is not exchangeable (nights, weekends) is a change, and may be told as one.

mod detector;
mod embedding;
pub mod hacking;
mod level;
mod mix;
mod ranks;

use detector::EDetector;
use level::{Shift, Watch};
use mix::MixWatch;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Settings of all detectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether anything is watched at all.
    pub enabled: bool,
    /// Seed of embedding, coins and ties.
    pub seed: u64,
    /// Least mean number of observations to a false alarm, of each detector that tests; ≥ 10.
    pub mean_between_false_alarms: u64,
    /// Numbers (scores, rewards, judgements) that are taken before bets begin, ≥ 10.
    pub reference: usize,
    /// Differences on probes that are taken before bets begin, ≥ 10.
    pub probe_reference: usize,
    /// Numbers that each detector ranks a new one among, at least twice the references; when there
    /// are so many the older half is forgotten and the statistic starts over. 16 bytes each.
    pub history_max: usize,
    /// Queries that wait to be compared with; a shift of the mix must show within twice as many. At
    /// least 10.
    pub query_bank: usize,
    /// Length of the vector of a query where the caller gives none, 8 to 1024.
    pub embedding_dims: usize,
    /// Names of judges that are no news; the first name on record is none either.
    pub judges: Vec<String>,
    /// The tripwire on canary questions.
    pub hacking: hacking::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            seed: 0,
            mean_between_false_alarms: 100_000,
            reference: 200,
            probe_reference: 100,
            history_max: 20_000,
            query_bank: 300,
            embedding_dims: 64,
            judges: Vec::new(),
            hacking: hacking::Config::default(),
        }
    }
}

impl Config {
    /// Names the first field that is out of its range, and the range.
    ///
    /// # Errors
    /// That sentence.
    pub fn validate(&self) -> Result<(), String> {
        let range = |field: &str, is_right: bool, expected: &str| {
            if is_right { Ok(()) } else { Err(format!("{field}: must be {expected}")) }
        };
        range("mean_between_false_alarms", self.mean_between_false_alarms >= 10, "at least 10")?;
        range("reference", self.reference >= 10, "at least 10")?;
        range("probe_reference", self.probe_reference >= 10, "at least 10")?;
        let least = 2 * self.reference.max(self.probe_reference);
        let history_ok = (least..=10_000_000).contains(&self.history_max);
        range("history_max", history_ok, "twice the longer reference to 10,000,000")?;
        range("query_bank", (10..=1_000_000).contains(&self.query_bank), "10 to 1,000,000")?;
        range("embedding_dims", (8..=1024).contains(&self.embedding_dims), "8 to 1024")?;
        range("judges", self.judges.len() <= JUDGES_MAX, "at most 64 names")?;
        self.hacking.validate().map_err(|reason| format!("hacking.{reason}"))
    }
}

/// Names of judges that are remembered; the oldest goes first.
const JUDGES_MAX: usize = 64;

/// One judged episode, or what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen<'a> {
    /// The query's text; empty where it is not known.
    pub query: &'a str,
    /// Retrieval score of the first candidate, on any scale.
    pub top_score: Option<f64>,
    /// That score minus the second candidate's.
    pub margin: Option<f64>,
    /// Judged reward; `None` where there is none.
    pub reward: Option<f64>,
    /// Name and version of the judge; `None` where nothing was put to it.
    pub judge: Option<&'a str>,
    /// Whether the judge abstained or failed; counted where `judge` is known.
    pub is_abstention: bool,
    /// When, milliseconds since the Unix epoch; said in alarms.
    pub time_ms: u64,
}

/// Which detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Other questions than before.
    QueryMix,
    /// Other retrieval scores.
    RetrievalScores,
    /// Another level of judged reward.
    Reward,
    /// The judge has more often no verdict.
    Abstention,
    /// Another judge by name.
    JudgeName,
    /// Other verdicts on the probes.
    JudgeProbe,
    /// Judged reward and gold part.
    Hacking,
    /// The champion differs from itself.
    Instrumentation,
}

impl Detector {
    /// Its name, as in configuration, metrics and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryMix => "query_mix",
            Self::RetrievalScores => "retrieval_scores",
            Self::Reward => "reward",
            Self::Abstention => "abstention",
            Self::JudgeName => "judge_name",
            Self::JudgeProbe => "judge_probe",
            Self::Hacking => "hacking",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// A change that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Who found it.
    pub detector: Detector,
    /// Observations of that detector since its reference began.
    pub after: u64,
    /// Its statistic.
    pub statistic: f64,
    /// What the statistic passed.
    pub threshold: f64,
    /// In one sentence.
    pub reason: String,
}

/// All detectors over one stream.
#[derive(Debug, Clone)]
pub struct Monitor {
    config: Config,
    rng: StdRng,
    query_mix: MixWatch,
    top_score: Watch,
    margin: Watch,
    reward: Watch,
    abstention: Watch,
    probe: Watch,
    judges: VecDeque<String>,
    judged: u64,
}

impl Monitor {
    /// Nothing seen yet; what comes first is the reference.
    pub fn new(config: &Config) -> Self {
        let threshold = config.mean_between_false_alarms.max(1) as f64;
        let watch = |shift, reference, share: f64| {
            Watch::new(shift, (reference, config.history_max), threshold * share)
        };
        Self {
            rng: StdRng::seed_from_u64(config.seed),
            query_mix: MixWatch::new(config.query_bank, threshold),
            // Two share one budget of false alarms.
            top_score: watch(Shift::Level, config.reference, 2.0),
            margin: watch(Shift::Level, config.reference, 2.0),
            reward: watch(Shift::Level, config.reference, 1.0),
            abstention: watch(Shift::Share, config.reference, 1.0),
            probe: watch(Shift::LevelOrSpread, config.probe_reference, 1.0),
            judges: config.judges.iter().cloned().collect(),
            judged: 0,
            config: config.clone(),
        }
    }

    /// Takes one judged episode; the alarms it raised, none as a rule. Each detector alarms once
    /// until [`Self::rebase`].
    pub fn absorb(&mut self, seen: &Seen<'_>) -> Vec<Alarm> {
        if !self.config.enabled {
            return Vec::new();
        }
        let vector = if seen.query.is_empty() {
            Vec::new()
        } else {
            embedding::embed(self.config.seed, seen.query, self.config.embedding_dims)
        };
        self.absorb_with(seen, vector)
    }

    /// The same with the caller's own vector of the query, of one length throughout; an empty one
    /// says nothing of the mix.
    pub fn absorb_with(&mut self, seen: &Seen<'_>, vector: Vec<f32>) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if !self.config.enabled {
            return alarms;
        }
        let rng = &mut self.rng;
        if !vector.is_empty() && self.query_mix.absorb(vector, rng) {
            let what = "newest queries are told apart from earlier ones";
            let watch = &self.query_mix;
            alarms.push(alarm(Detector::QueryMix, watch.detector(), watch.seen(), what));
        }
        let is_abstention = f64::from(u8::from(seen.is_abstention));
        let numbers = [
            (Detector::RetrievalScores, &mut self.top_score, seen.top_score, "the top score"),
            (
                Detector::RetrievalScores,
                &mut self.margin,
                seen.margin,
                "the margin of the top score",
            ),
            (Detector::Reward, &mut self.reward, seen.reward, "judged reward"),
            (
                Detector::Abstention,
                &mut self.abstention,
                seen.judge.map(|_| is_abstention),
                "the share of judgements without a verdict",
            ),
        ];
        for (detector, watch, value, what) in numbers {
            if value.is_some_and(|value| watch.absorb(value, rng)) {
                let what = format!("{what} has shifted");
                alarms.push(alarm(detector, watch.detector(), watch.seen(), &what));
            }
        }
        alarms.extend(seen.judge.and_then(|judge| self.named(judge)));
        alarms
    }

    /// An alarm where this name is news.
    fn named(&mut self, judge: &str) -> Option<Alarm> {
        self.judged += 1;
        if self.judges.iter().any(|known| known == judge) {
            return None;
        }
        let is_first = self.judges.is_empty();
        let known = self.judges.iter().map(String::as_str).collect::<Vec<_>>().join("`, `");
        self.judges.push_back(judge.to_owned());
        if self.judges.len() > JUDGES_MAX {
            self.judges.pop_front();
        }
        (!is_first).then(|| Alarm {
            detector: Detector::JudgeName,
            after: self.judged,
            statistic: 1.0,
            threshold: 1.0,
            reason: format!("the judge is `{judge}`, known are `{known}`"),
        })
    }

    /// Takes the verdict on one probe and its baseline, both in [0, 1]. Only their difference
    /// counts, and only against earlier ones, so an error of a baseline does no harm while probes
    /// take turns. The votes that made the baselines may be fed first: they are the best reference.
    pub fn probed(&mut self, baseline: f64, verdict: f64) -> Vec<Alarm> {
        if !self.config.enabled || !self.probe.absorb(verdict - baseline, &mut self.rng) {
            return Vec::new();
        }
        let what = "verdicts on the probes have shifted from their baselines, or spread wider";
        let watch = &self.probe;
        vec![alarm(Detector::JudgeProbe, watch.detector(), watch.seen(), what)]
    }

    /// The new normal, after an alarm was acknowledged: every reference begins anew with what comes
    /// next. Names of judges stay known.
    pub fn rebase(&mut self) {
        self.query_mix.rebase();
        for watch in [
            &mut self.top_score,
            &mut self.margin,
            &mut self.reward,
            &mut self.abstention,
            &mut self.probe,
        ] {
            watch.rebase();
        }
    }

    /// Other weights serve: rewards and abstentions begin anew, for what moved them is known, and
    /// was measured before. What users ask and how the judge judges goes on.
    pub fn served_by_others(&mut self) {
        self.reward.rebase();
        self.abstention.rebase();
    }

    /// Statistic of each detector that tests relative to its threshold; ≥ 1 from an alarm on until
    /// the next [`Self::rebase`].
    pub fn levels(&self) -> Vec<(&'static str, f64)> {
        let scores = self.top_score.detector().level().max(self.margin.detector().level());
        vec![
            (Detector::QueryMix.name(), self.query_mix.detector().level()),
            (Detector::RetrievalScores.name(), scores),
            (Detector::Reward.name(), self.reward.detector().level()),
            (Detector::Abstention.name(), self.abstention.detector().level()),
            (Detector::JudgeProbe.name(), self.probe.detector().level()),
        ]
    }
}

fn alarm(detector: Detector, found_by: &EDetector, after: u64, what: &str) -> Alarm {
    let (statistic, threshold) = (found_by.statistic(), found_by.threshold());
    let reason = format!(
        "{what}: statistic {statistic:.3e} passed {threshold:.3e} after {after} observations"
    );
    Alarm { detector, after, statistic, threshold, reason }
}

#[cfg(test)]
mod tests;
