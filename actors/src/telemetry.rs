//! Every metric of the service by name, and the functions that write a metric and its log line
//! together.
//!
//! Floor 0. Labels are closed sets; never an id, never text of a query or document.

use std::time::Duration;

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// A level.
    Gauge,
    /// A distribution.
    Histogram,
}

macro_rules! metrics_table {
    ($(#[$doc:meta])* $table:ident: $($name:ident = $text:literal, $kind:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*
        $(#[$doc])*
        pub const $table: &[(&str, Kind, &str)] = &[$(($text, Kind::$kind, $help),)*];
    };
}

metrics_table! {
    /// What the actors write: name, kind, help.
    METRICS:
    EPISODES = "regrade_episode_requests_total", Counter, "Queries over, by outcome (answered, reranked, failed, overloaded, refused).";
    DEGRADED = "regrade_episodes_degraded_total", Counter, "Queries answered without documents, by why there were none (unavailable, deadline).";
    EPISODE_SECONDS = "regrade_episode_duration_seconds", Histogram, "Time spent, by stage (rewrite, retrieve, decide, generate, log, total).";
    IN_FLIGHT = "regrade_episodes_in_flight", Gauge, "Queries being worked on.";
    ACTOR_RESTARTS = "regrade_actor_restarts_total", Counter, "Restarts, by actor.";
    ACTOR_DOWN = "regrade_actor_given_up", Gauge, "1 for an actor whose restart budget is spent.";
    SWAPS = "regrade_policy_swaps_total", Counter, "Weight swaps, by outcome (ok, failed).";
    SWAP_SECONDS = "regrade_policy_swap_duration_seconds", Histogram, "Time between the last decision of the old weights and readiness of the new.";
    POLICY_VERSION = "regrade_policy_version", Gauge, "Version of the serving weights.";
    POLICY_PANICS = "regrade_policy_panics_total", Counter, "Panics of the policy that were caught, by what it was doing (decide, swap, canary).";
    DECIDE_BATCH = "regrade_reranker_batch_queries", Histogram, "Queries decided in one pass.";
    GENERATOR_RETRIES = "regrade_generator_retries_total", Counter, "Generation attempts after the first.";
    JUDGED = "regrade_judge_episodes_total", Counter, "Episodes at their end, by verdict (scored, abstained, failed, expired), or unanswered.";
    JUDGE_RETRIES = "regrade_judge_retries_total", Counter, "Judge calls that failed and were repeated.";
    FEEDBACK = "regrade_feedback_total", Counter, "Feedback seen, by fate (joined, late, orphan, duplicate, forwarded).";
    REWARD_VALUE = "regrade_reward_value", Histogram, "Total reward of scored episodes.";
    JUDGE_PENDING = "regrade_judge_pending_episodes", Gauge, "Episodes waiting for a verdict.";
    JUDGE_OLDEST = "regrade_judge_oldest_pending_seconds", Gauge, "Age of the episode that has waited longest for its verdict.";
    REWRITES = "regrade_rewrite_queries_total", Counter, "Queries put to the rewriter, by outcome (applied, none, failed).";
    REPLAY_SAMPLES = "regrade_replay_samples", Gauge, "Judged episodes kept.";
    REPLAY_DROPPED = "regrade_replay_dropped_total", Counter, "Judged episodes dropped, by reason.";
    UPDATES = "regrade_learner_updates_total", Counter, "Updates, by outcome.";
    LEARNER_LOSS = "regrade_learner_loss", Gauge, "Mean loss of the last update.";
    LEARNER_KL = "regrade_learner_kl_nats", Gauge, "k3 estimate of KL to the reference, last update.";
    LEARNER_CLIP = "regrade_learner_clip_fraction", Gauge, "Share of clipped ratios, last update.";
    UPDATE_SECONDS = "regrade_learner_update_duration_seconds", Histogram, "Duration of one update with its examination.";
    LEARNER_LEADS = "regrade_learner_leading", Gauge, "1 on the process that learns, 0 on one that stands by.";
    SNAPSHOTS_REMOVED = "regrade_snapshots_removed_total", Counter, "Old snapshots by what came of removing them (removed, failed).";
    LOG_FAILURES = "regrade_log_failures_total", Counter, "Log operations that failed, by actor.";
    DEADLETTERS = "regrade_deadletter_records_total", Counter, "Records that could not be read, by actor.";
    OPE_USABLE = "regrade_episodes_usable_for_ope_total", Counter, "Episodes by whether off-policy estimates may rest on them (usable, or why not: greedy, budget_spent, direct, degraded, interleaved, no_decision, no_states, forced).";
    BUDGET_LEFT = "regrade_exploration_budget_left", Gauge, "Regret that exploration may still cost this hour, in units of reward; the least of any segment.";
    BUDGET_SPENT = "regrade_exploration_greedy_total", Counter, "Queries decided greedily, by reason (budget).";
    DECISIONS = "regrade_decisions_total", Counter, "Decisions, by whether chance led to another list than the greedy one (greedy, explored) and outcome (answered, reranked, failed).";
    CANARY_FALLBACKS = "regrade_canary_fallbacks_total", Counter, "Queries of a candidate that the champion decided, by stage (decide).";
    CERTIFICATES_REFUSED = "regrade_certificates_refused_total", Counter, "Weights that may not serve, by what became of them (refused, allowed).";
    SHADOWS = "regrade_shadow_queries_total", Counter, "Live queries offered to shadows, by outcome (decided, answered, failed, shed).";
    PROMOTION_STATE = "regrade_promotion_candidates", Gauge, "Candidates under way, by state.";
    PROMOTION_STEPS = "regrade_promotion_steps_total", Counter, "Changes of state made here, by the state that began.";
    ROLLBACKS = "regrade_promotion_rollbacks_total", Counter, "Champions taken back, by why (alarm, operator, hacking).";
    DRIFT_LEVEL = "regrade_drift_statistic", Gauge, "Statistic of each detector relative to its alarm threshold, by detector.";
    DRIFT_ALARMS = "regrade_drift_alarms_total", Counter, "Alarms, by detector.";
    HACKING_GAP = "regrade_judged_gold_gap", Gauge, "Judged less gold reward of the champion on the canary questions.";
    AA_DIFFERENCE = "regrade_aa_reward_difference", Gauge, "Reward of the champion less that of itself, between the arms of its experiment against itself.";
    PROMOTION_FROZEN = "regrade_promotion_frozen", Gauge, "1 while an alarm keeps everything from being promoted.";
    INTAKE = "regrade_intake_queries_total", Counter, "Queries from the log, by fate (answered, failed, duplicate, broken, handed_over).";
}

metrics_table! {
    /// What adapters of the ports write, each in the way of its backend: name, kind, help.
    ADAPTER_METRICS:
    LOG_LAG = "regrade_log_lag_records", Gauge, "Records not read yet, by consumer and stream (Kafka).";
    LOG_PARTITIONS = "regrade_log_partitions", Gauge, "Partitions read here, by consumer (Kafka).";
    LOG_OWNERSHIP = "regrade_log_ownership_changes_total", Counter, "Partitions that came and went, by change (gained, leaving, lost, overdue) (Kafka).";
    LOG_PAUSES = "regrade_log_pauses_total", Counter, "Times that reading paused because too much waited, by consumer (Kafka).";
}

/// Counts one event of a closed set: `count(EPISODES, "outcome", "answered")`.
pub fn count(metric: &'static str, label: &'static str, value: &'static str) {
    metrics::counter!(metric, label => value).increment(1);
}

/// Counts several events of a closed set at once.
pub fn count_many(metric: &'static str, (label, value): (&'static str, &'static str), n: u64) {
    metrics::counter!(metric, label => value).increment(n);
}

/// Counts a decision with what became of it.
pub fn decided(has_deviated: bool, outcome: &'static str) {
    let list = if has_deviated { "explored" } else { "greedy" };
    metrics::counter!(DECISIONS, "list" => list, "outcome" => outcome).increment(1);
}

/// Sets a level.
pub fn level(metric: &'static str, value: f64) {
    metrics::gauge!(metric).set(value);
}

/// Records a duration under a stage.
pub fn stage_took(stage: &'static str, took: Duration) {
    metrics::histogram!(EPISODE_SECONDS, "stage" => stage).record(took.as_secs_f64());
}

/// Records a value of a distribution without labels.
pub fn observe(metric: &'static str, value: f64) {
    metrics::histogram!(metric).record(value);
}

/// A query goes on without documents, for this `reason`.
pub fn degraded(reason: &'static str, error: &dyn std::error::Error) {
    count(DEGRADED, "reason", reason);
    tracing::warn!(reason, %error, "no documents, answering without");
}

/// An actor died and will be started again after `delay`.
pub fn actor_restarts(actor: &'static str, reason: &str, restarts: usize, delay: Duration) {
    count(ACTOR_RESTARTS, "actor", actor);
    tracing::warn!(actor, reason, restarts, ?delay, "actor died, restarting");
}

/// An actor died once too often and stays down.
pub fn actor_given_up(actor: &'static str, reason: &str) {
    metrics::gauge!(ACTOR_DOWN, "actor" => actor).set(1.0);
    tracing::error!(actor, reason, "actor stays down, restart budget is spent");
}

/// A log operation failed and will be repeated after `delay`.
pub fn log_failed(actor: &'static str, error: &dyn std::error::Error, delay: Duration) {
    count(LOG_FAILURES, "actor", actor);
    tracing::warn!(actor, %error, ?delay, "event log failed, trying again");
}

/// A record could not be read and went to the dead letters.
pub fn record_broken(actor: &'static str, origin: &str, reason: &str) {
    count(DEADLETTERS, "actor", actor);
    tracing::warn!(actor, origin, reason, "record is broken, moved to the dead letters");
}

/// New weights serve.
pub fn policy_swapped(version: u64, took: Duration) {
    count(SWAPS, "outcome", "ok");
    observe(SWAP_SECONDS, took.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "versions stay far below 2^52")]
    level(POLICY_VERSION, version as f64);
    tracing::info!(version, ?took, "policy swapped");
}

/// The policy panicked while it was `doing` something and is made anew.
pub fn policy_panicked(doing: &'static str, reason: &str) {
    count(POLICY_PANICS, "during", doing);
    tracing::error!(doing, reason, "policy panicked, making it anew");
}

/// A candidate beside the champion panicked and is hosted no more.
pub fn candidate_panicked(version: u64, reason: &str) {
    count(POLICY_PANICS, "during", "canary");
    tracing::error!(version, reason, "candidate panicked, its units fall back on the champion");
}

/// Weights have no valid certificate; they serve only where the operator allows that.
pub fn uncertified(version: u64, fault: &dyn std::error::Error, is_allowed: bool) {
    count(CERTIFICATES_REFUSED, "outcome", if is_allowed { "allowed" } else { "refused" });
    if is_allowed {
        tracing::warn!(version, %fault, "weights WITHOUT a valid certificate serve, as configured");
    } else {
        tracing::error!(version, %fault, "weights may not serve");
    }
}

/// New weights were refused; the old ones serve on.
pub fn policy_refused(version: u64, error: &dyn std::error::Error) {
    count(SWAPS, "outcome", "failed");
    tracing::warn!(version, %error, "policy swap refused, old weights serve on");
}
