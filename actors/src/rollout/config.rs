//! The rules of promotion, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Which way a candidate goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Every stage: held-out examination, parity, offline, shadow, canary.
    #[default]
    Staged,
    /// The held-out examination alone makes a champion: for demonstrations and tests, and where
    /// there is no traffic to be careful with.
    HeldOut,
}

/// What is randomised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// `metadata.user` of the query, else its text.
    #[default]
    User,
    /// `metadata.session` of the query, else its text.
    Session,
    /// The text of the query.
    Query,
}

impl Unit {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Query => "query",
        }
    }
}

/// What becomes of a candidate that logged traffic says nothing about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNoSupport {
    /// It goes on: shadow and canary will tell, and the evidence says that nothing was estimated.
    #[default]
    GoOn,
    /// It is retired.
    Refuse,
}

/// Serving's scores against the trainer's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParityConfig {
    /// Logged queries that are scored again, ≥ 1.
    pub queries: usize,
    /// Largest absolute difference of a score.
    pub difference_max: f64,
    /// Least Kendall's tau of a list.
    pub kendall_min: f64,
}

impl Default for ParityConfig {
    fn default() -> Self {
        Self { queries: 16, difference_max: 0.05, kendall_min: 0.99 }
    }
}

/// The estimate on logged traffic. The estimators' own bounds are in `off_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineConfig {
    /// Judged decisions that there must be, ≥ 1.
    pub samples_min: usize,
    /// Newest judged decisions that are used, ≥ `samples_min`.
    pub samples_max: usize,
    /// Longest wait for enough judged decisions, here and for parity, milliseconds, ≥ 1; then the
    /// candidate is retired.
    pub timeout_ms: u64,
    /// How far below 0 the interval of candidate − logged may reach, in units of reward.
    pub tolerance: f64,
    /// What becomes of a candidate without support.
    pub on_no_support: OnNoSupport,
}

impl Default for OfflineConfig {
    fn default() -> Self {
        Self {
            samples_min: 100,
            samples_max: 1_024,
            timeout_ms: 86_400_000,
            tolerance: 0.05,
            on_no_support: OnNoSupport::GoOn,
        }
    }
}

/// Deciding live queries without effect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowConfig {
    /// Share of the live queries that shadows decide too, in [0, 1].
    pub share: f64,
    /// Share of these that are also answered and judged, in [0, 1].
    pub answered: f64,
    /// Queries that may wait for the shadows, ≥ 1; one more is left out.
    pub queue_max: usize,
    /// Shadows decide nothing while more than this share of the door's places is taken, in (0, 1].
    pub load_max: f64,
    /// Decisions it takes, ≥ 1.
    pub decisions_min: u64,
    /// Longest stay, milliseconds; then the candidate is retired.
    pub timeout_ms: u64,
    /// Largest share of failed decisions, in [0, 1].
    pub failures_max: f64,
    /// Least mean overlap with what was served, in [0, 1].
    pub overlap_min: f64,
    /// Largest mean context tokens, relative to what was served.
    pub tokens_ratio_max: f64,
    /// How far below 0 the interval of the paired difference may reach, in units of reward, where
    /// shadows are judged.
    pub tolerance: f64,
    /// Longest decision and answer of a shadow, milliseconds, ≥ 1.
    pub deadline_ms: u64,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self {
            share: 0.25,
            answered: 0.0,
            queue_max: 32,
            load_max: 0.5,
            decisions_min: 100,
            timeout_ms: 86_400_000,
            failures_max: 0.01,
            overlap_min: 0.0,
            tokens_ratio_max: 2.0,
            tolerance: 0.05,
            deadline_ms: 30_000,
        }
    }
}

/// What must not get worse in a canary, whatever the reward says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Largest rise of the share of failed queries.
    pub errors: f64,
    /// Largest rise of the share of answers that the judge abstains on.
    pub abstentions: f64,
    /// Largest ratio of the 95th percentile of the latency.
    pub latency_ratio: f64,
    /// Largest ratio of the mean context tokens.
    pub tokens_ratio: f64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { errors: 0.01, abstentions: 0.05, latency_ratio: 1.5, tokens_ratio: 1.5 }
    }
}

/// Serving a share of the units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// Shares of the units, each larger than the one before, in (0, 0.5].
    pub shares: Vec<f64>,
    /// Units with a reward that the candidate must have at each share, ≥ 2.
    pub units_min: u64,
    /// Queries after which an undecided canary is retired, ≥ 1.
    pub queries_max: u64,
    /// Longest stay at one share, milliseconds; then it is retired.
    pub timeout_ms: u64,
    /// Error of the test for the win, over all its looks.
    pub alpha_win: f64,
    /// Error of the tests for harm together, over all their looks.
    pub alpha_harm: f64,
    /// Non-inferiority margin, in units of reward: the candidate wins once it is surely not worse
    /// by more; 0 asks for superiority.
    pub margin: f64,
    /// Units that the confidence sequence is narrowest for, > 1.
    pub tuned_for: f64,
    /// False discovery rate over the canaries that run beside each other.
    pub discovery_rate: f64,
    /// Share of the units of an experiment that get an interleaved context, in [0, 1].
    pub interleaved: f64,
    /// Share of the units that, while there is no canary, the champion's experiment against itself
    /// treats, in [0, 0.5]: what it finds is wrong with the instrumentation. 0: none.
    pub aa_share: f64,
    /// Guard-rails.
    pub guards: GuardConfig,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self {
            shares: vec![0.01, 0.05, 0.25, 0.5],
            units_min: 50,
            queries_max: 200_000,
            timeout_ms: 7 * 86_400_000,
            alpha_win: 0.05,
            alpha_harm: 0.05,
            margin: 0.01,
            tuned_for: 1_000.0,
            discovery_rate: 0.05,
            interleaved: 0.0,
            aa_share: 0.0,
            guards: GuardConfig::default(),
        }
    }
}

/// After a promotion, and while an alarm holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// An alarm within this time after a promotion takes it back, milliseconds.
    pub period_ms: u64,
    /// Nothing is promoted so long after an alarm, milliseconds; then the detectors take what they
    /// see as the new normal.
    pub hold_ms: u64,
    /// How often the canary questions are asked, milliseconds; 0: never.
    pub probe_ms: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { period_ms: 86_400_000, hold_ms: 3_600_000, probe_ms: 3_600_000 }
    }
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which way a candidate goes.
    pub path: Path,
    /// Serve weights without a valid certificate too; each is logged. Never in production.
    pub allow_uncertified: bool,
    /// What is randomised.
    pub unit: Unit,
    /// Candidates under way at once, ≥ 1; the youngest before its shadow gives way.
    pub candidates_max: usize,
    /// Canaries at once, ≥ 1; the next waits in its shadow.
    pub canaries_max: usize,
    /// Serving's scores against the trainer's.
    pub parity: ParityConfig,
    /// The estimate on logged traffic.
    pub offline: OfflineConfig,
    /// Deciding without effect.
    pub shadow: ShadowConfig,
    /// Serving a share.
    pub canary: CanaryConfig,
    /// After a promotion.
    pub watch: WatchConfig,
    /// How often the stages are looked at, milliseconds, ≥ 1.
    pub tick_ms: u64,
    /// Longest parity test, estimate or probe, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Newest records of each partition that are read at the start, ≥ 1.
    pub records_max: u64,
    /// Records read in one turn, ≥ 1.
    pub poll_max: usize,
    /// Pause after a failure, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: Path::Staged,
            allow_uncertified: false,
            unit: Unit::User,
            candidates_max: 4,
            canaries_max: 2,
            parity: ParityConfig::default(),
            offline: OfflineConfig::default(),
            shadow: ShadowConfig::default(),
            canary: CanaryConfig::default(),
            watch: WatchConfig::default(),
            tick_ms: 1_000,
            deadline_ms: 600_000,
            records_max: 400_000,
            poll_max: 1_024,
            backoff_ms: 200,
            backoff_max_ms: 30_000,
        }
    }
}

fn within(field: &str, value: f64, (low, high): (f64, f64)) -> Result<(), String> {
    if value.is_finite() && (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{field}: {value} must lie in [{low}, {high}]"))
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("candidates_max", self.candidates_max as u64),
            ("canaries_max", self.canaries_max as u64),
            ("parity.queries", self.parity.queries as u64),
            ("offline.samples_min", self.offline.samples_min as u64),
            ("offline.samples_max", self.offline.samples_max as u64),
            ("offline.timeout_ms", self.offline.timeout_ms),
            ("shadow.queue_max", self.shadow.queue_max as u64),
            ("shadow.decisions_min", self.shadow.decisions_min),
            ("shadow.timeout_ms", self.shadow.timeout_ms),
            ("shadow.deadline_ms", self.shadow.deadline_ms),
            ("canary.queries_max", self.canary.queries_max),
            ("canary.timeout_ms", self.canary.timeout_ms),
            ("tick_ms", self.tick_ms),
            ("deadline_ms", self.deadline_ms),
            ("records_max", self.records_max),
            ("poll_max", self.poll_max as u64),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])?;
        let (shadow, canary) = (&self.shadow, &self.canary);
        within("parity.difference_max", self.parity.difference_max, (0.0, f64::MAX))?;
        within("parity.kendall_min", self.parity.kendall_min, (-1.0, 1.0))?;
        within("offline.tolerance", self.offline.tolerance, (0.0, f64::MAX))?;
        within("shadow.share", shadow.share, (0.0, 1.0))?;
        within("shadow.answered", shadow.answered, (0.0, 1.0))?;
        within("shadow.load_max", shadow.load_max, (f64::MIN_POSITIVE, 1.0))?;
        within("shadow.failures_max", shadow.failures_max, (0.0, 1.0))?;
        within("shadow.overlap_min", shadow.overlap_min, (0.0, 1.0))?;
        within("shadow.tokens_ratio_max", shadow.tokens_ratio_max, (0.0, f64::MAX))?;
        within("shadow.tolerance", shadow.tolerance, (0.0, f64::MAX))?;
        let kept = self.offline.samples_max;
        if self.offline.samples_min.max(self.parity.queries) > kept {
            return Err(format!(
                "offline.samples_max: {kept} must be at least offline.samples_min and parity.queries"
            ));
        }
        let is_path = self.path == Path::Staged;
        if is_path && shadow.share == 0.0 {
            return Err("shadow.share: 0 would keep every candidate in its shadow for ever; say \
                        more, or `path = \"held_out\"`"
                .to_owned());
        }
        within("canary.interleaved", canary.interleaved, (0.0, 1.0))?;
        within("canary.aa_share", canary.aa_share, (0.0, super::assignment::CONTROL_FROM))?;
        let level = (f64::MIN_POSITIVE, 0.5);
        within("canary.alpha_win", canary.alpha_win, level)?;
        within("canary.alpha_harm", canary.alpha_harm, level)?;
        within("canary.discovery_rate", canary.discovery_rate, level)?;
        within("canary.margin", canary.margin, (0.0, f64::MAX))?;
        within("canary.tuned_for", canary.tuned_for, (2.0, f64::MAX))?;
        within("canary.guards.errors", canary.guards.errors, (0.0, 1.0))?;
        within("canary.guards.abstentions", canary.guards.abstentions, (0.0, 1.0))?;
        within("canary.guards.latency_ratio", canary.guards.latency_ratio, (1.0, f64::MAX))?;
        within("canary.guards.tokens_ratio", canary.guards.tokens_ratio, (1.0, f64::MAX))?;
        if canary.units_min < 2 {
            return Err("canary.units_min: must be at least 2".to_owned());
        }
        let rising = canary.shares.windows(2).all(|pair| pair[0] < pair[1]);
        if canary.shares.is_empty() || !rising {
            return Err("canary.shares: must rise, and at least one must be given".to_owned());
        }
        let share = (f64::MIN_POSITIVE, super::assignment::CONTROL_FROM);
        canary.shares.iter().try_for_each(|value| within("canary.shares", *value, share))
    }
}
