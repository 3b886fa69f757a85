//! What an alarm sets off: nothing is promoted for a while, canaries and shadows retire, a champion
//! still under watch is taken back, exploration widens, and the learner is asked for a refresh; and
//! the canary questions that look for a policy that pleases the judge alone.

use super::stages::on;
use super::{Message, Model, State};
use crate::bounds::guarded;
use crate::drift::{Alarm, Detector, Seen, hacking};
use crate::ports::{ExamineError, Probed, SnapshotStore};
use crate::rollout::{self, AA, Comparison, Path};
use crate::telemetry;
use crate::types::{
    Episode, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, RewardRecord, Verdict,
};
use ractor::ActorRef;
use std::sync::Arc;
use std::time::Duration;

/// What the canary questions and the judge's own probes gave.
#[derive(Debug, Default)]
pub(super) struct Probes {
    champion: Option<Probed>,
    /// The champion before, while the present one is watched.
    before: Option<Probed>,
    canaries: Vec<(PolicyVersion, Probed)>,
    judge: Vec<(f64, f64)>,
}

/// What an alarm calls for, until it is on record.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    reason: String,
    until_ms: u64,
    is_hacking: bool,
    is_told: bool,
}

#[doc(hidden)]
pub struct ProbeBox(Result<Probes, ExamineError>);

impl State {
    /// Whether an alarm keeps everything from being promoted.
    pub(super) fn is_frozen(&self) -> bool {
        let until = self.counters.frozen_until_ms.max(self.board.alarm_until_ms());
        self.args.clock.now_ms() < until
    }

    /// Takes up a hold that is on record, and ends one that is over: what is seen from here on is
    /// the new normal.
    pub(super) fn thaw(&mut self) {
        if self.is_frozen() {
            let on_record_ms = self.board.alarm_until_ms();
            self.counters.frozen_until_ms = self.counters.frozen_until_ms.max(on_record_ms);
        } else if self.counters.frozen_until_ms > 0 || self.is_latched {
            tracing::info!("no alarm holds any more");
            self.counters.frozen_until_ms = 0;
            self.is_latched = false;
            self.monitor.rebase();
            self.ledger.forget(AA);
        }
    }

    /// Takes an alarm. While the log is read again after a start only the last hold counts: what
    /// was done about it then is on record.
    pub(super) fn alarm(&mut self, myself: &ActorRef<Message>, alarm: Alarm) {
        self.counters.alarms += 1;
        telemetry::count(telemetry::DRIFT_ALARMS, "detector", alarm.detector.name());
        let is_hacking = alarm.detector == Detector::Hacking;
        let reason = format!("alarm of {}: {}", alarm.detector.name(), alarm.reason);
        self.counters.last_alarm = Some(alarm);
        let is_live = self.is_current.iter().all(|is| *is) && self.counters.is_leading;
        let is_held = self.is_frozen() && !is_hacking;
        if self.args.config.path != Path::Staged || !is_live || is_held {
            // A detector alarms once: one that did so for nobody has to begin anew.
            self.is_latched |= !is_live;
            tracing::warn!(reason, "drift");
            return;
        }
        tracing::error!(reason, "drift: promotions are held");
        let until_ms = self.args.clock.now_ms() + self.args.config.watch.hold_ms;
        self.counters.frozen_until_ms = until_ms;
        self.owed = Some(Owed { reason: reason.clone(), until_ms, is_hacking, is_told: false });
        // First what holds on every node; what is under way retires by it, whoever leads then.
        self.pay(myself);
        let under_way: Vec<_> = self.board.under_way().cloned().collect();
        for standing in under_way.into_iter().filter(|s| s.record.state >= PolicyState::Shadow) {
            self.retire(myself, standing, None, reason.clone());
        }
        let asked = (self.args.refresh)(());
        ractor::concurrency::spawn(asked);
    }

    /// Puts the hold on record, and with it takes back a champion under watch; again until it is
    /// there.
    pub(super) fn pay(&mut self, myself: &ActorRef<Message>) {
        let Some(owed) = self.owed.clone() else { return };
        let champion = self.board.champion().and_then(|version| self.board.standing(version));
        let Some(champion) = champion.map(|standing| standing.record.clone()) else {
            // The first promotion of all may be on its way.
            self.owed = self.owed.take().filter(|_| !self.on_the_way.is_empty());
            return;
        };
        if self.board.alarm_until_ms() >= owed.until_ms {
            self.owed = None;
            return;
        }
        if self.on_the_way.contains_key(&champion.version) {
            return;
        }
        let now_ms = self.args.clock.now_ms();
        let is_young = now_ms.saturating_sub(champion.time_ms) < self.args.config.watch.period_ms;
        // Canary questions speak against the champion itself, whatever its age.
        let is_watched =
            (is_young || owed.is_hacking) && !champion.reason.starts_with("rolled back");
        let back = self.board.rollback(&self.args.first, &owed.reason, now_ms);
        match back.filter(|_| is_watched) {
            Some([mut restored, retired]) => {
                restored.alarm_until_ms = Some(owed.until_ms);
                if !owed.is_told {
                    let why = if owed.is_hacking { "hacking" } else { "alarm" };
                    telemetry::count(telemetry::ROLLBACKS, "why", why);
                    self.counters.rolled_back += 1;
                }
                self.append(myself, vec![restored, retired]);
            }
            None => {
                // Every node widens its exploration by this.
                let restated = PolicyRecord {
                    alarm_until_ms: Some(owed.until_ms),
                    replaces: Some(champion.version),
                    step: None,
                    reason: format!("{}; {}", champion.reason, owed.reason),
                    ..champion
                };
                self.append(myself, vec![restated]);
            }
        }
        if let Some(owed) = &mut self.owed {
            owed.is_told = true;
        }
    }

    /// Looks at the champion's experiment against itself.
    pub(super) fn look_at_aa(&mut self, myself: &ActorRef<Message>) {
        let config = &self.args.config.canary;
        if config.aa_share <= 0.0 || self.is_frozen() {
            return;
        }
        let seen = Comparison::of(&self.ledger, AA, &[]);
        let figures = rollout::aa_figures(config, &seen);
        telemetry::level(telemetry::AA_DIFFERENCE, figures.difference);
        // It never ends, so it begins anew, as a canary would have ended.
        let is_over = seen.treatment.queries >= config.queries_max;
        if is_over || figures.bias.is_some() {
            self.ledger.forget(AA);
        }
        let bias = figures.bias.clone();
        self.counters.aa = Some(figures);
        if let Some(reason) = bias {
            let after = seen.treatment.reward.count + seen.control.reward.count;
            let detector = Detector::Instrumentation;
            self.alarm(myself, Alarm { detector, after, statistic: 1.0, threshold: 1.0, reason });
        }
    }

    /// Asks the canary questions when it is time.
    pub(super) fn probe(&mut self, myself: &ActorRef<Message>) {
        let (now_ms, every_ms) = (self.args.clock.now_ms(), self.args.config.watch.probe_ms);
        if every_ms == 0 || self.is_probing || now_ms < self.probed_ms + every_ms {
            return;
        }
        (self.is_probing, self.probed_ms) = (true, now_ms);
        let champion = self.board.champion();
        let before = champion.and_then(|_| self.board.previous());
        let canaries: Vec<PolicyVersion> =
            self.board.in_state(PolicyState::Canary).map(|s| s.record.version).collect();
        let (args, compute, myself) = (self.args.clone(), self.compute.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let limit = Duration::from_millis(args.config.deadline_ms);
            let (store, first) = (Arc::clone(&args.snapshots), Arc::clone(&args.first));
            let work = async move {
                let champion = fetch(&store, &first, champion.unwrap_or(first.version)).await?;
                // One that is gone from the store must not keep the others from being asked.
                let before = match before {
                    Some(version) => fetch(&store, &first, version).await.ok(),
                    None => None,
                };
                let mut asked = Vec::new();
                for version in canaries {
                    asked.extend(fetch(&store, &first, version).await.ok());
                }
                let factory = Arc::clone(&args.factory);
                let ask = move |model: &mut Model| {
                    on(model, &factory, |examiner| {
                        let mut probes = Probes {
                            champion: examiner.probe(&champion)?,
                            judge: examiner.probe_judge()?,
                            ..Probes::default()
                        };
                        if probes.champion.is_none() {
                            return Ok(probes);
                        }
                        probes.before = match &before {
                            Some(before) => examiner.probe(before)?,
                            None => None,
                        };
                        for canary in &asked {
                            let probed = examiner.probe(canary)?;
                            probes.canaries.extend(probed.map(|p| (canary.version, p)));
                        }
                        Ok(probes)
                    })
                };
                let over = compute.run(ask).await;
                over.unwrap_or_else(|error| Err(ExamineError::Passing(error.to_string())))
            };
            let over = guarded(limit, work).await;
            let over = over.unwrap_or_else(|b| Err(ExamineError::Passing(b.to_string())));
            // A dead actor needs no message.
            let _ = myself.send_message(Message::Probed(ProbeBox(over)));
        });
    }

    pub(super) fn probed(&mut self, myself: &ActorRef<Message>, over: ProbeBox) {
        self.is_probing = false;
        let probes = match over.0 {
            Ok(probes) => probes,
            Err(error) => {
                self.counters.failures += 1;
                tracing::warn!(%error, "canary questions were not asked");
                return;
            }
        };
        for (baseline, verdict) in &probes.judge {
            for alarm in self.monitor.probed(*baseline, *verdict) {
                self.alarm(myself, alarm);
            }
        }
        let Some(champion) = &probes.champion else { return };
        let config = self.args.drift.hacking.clone();
        for (version, canary) in &probes.canaries {
            let look = self.next_look(*version);
            let found = hacking::examine(&config, &pairs(canary), &pairs(champion), look);
            if let Some(alarm) = found.alarm {
                self.counters.alarms += 1;
                telemetry::count(telemetry::DRIFT_ALARMS, "detector", Detector::Hacking.name());
                let reason = format!("canary questions: {}", alarm.reason);
                self.counters.last_alarm = Some(alarm);
                let standing = self.board.standing(*version).cloned();
                let standing = standing.filter(|s| s.record.state == PolicyState::Canary);
                if let Some(standing) = standing {
                    self.retire(myself, standing, None, reason);
                }
            }
        }
        let (judged, gold) = means(champion);
        self.counters.hacking_gap = Some(judged - gold);
        telemetry::level(telemetry::HACKING_GAP, judged - gold);
        if let (Some(before), Some(version)) = (&probes.before, self.board.champion()) {
            let look = self.next_look(version);
            let found = hacking::examine(&config, &pairs(champion), &pairs(before), look);
            if let Some(alarm) = found.alarm {
                self.alarm(myself, alarm);
            }
        }
    }

    fn next_look(&mut self, version: PolicyVersion) -> u64 {
        let look = self.probe_looks.entry(version).or_default();
        *look += 1;
        *look
    }
}

fn pairs(probed: &Probed) -> Vec<hacking::Pair> {
    probed
        .pairs
        .iter()
        .map(|(judged, gold)| hacking::Pair { judged: *judged, gold: *gold })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "questions of a probe set")]
fn means(probed: &Probed) -> (f64, f64) {
    let n = probed.pairs.len().max(1) as f64;
    let sum = |of: fn(&(f64, f64)) -> f64| probed.pairs.iter().map(of).sum::<f64>();
    (sum(|pair| pair.0) / n, sum(|pair| pair.1) / n)
}

async fn fetch(
    store: &Arc<dyn SnapshotStore>,
    first: &Arc<PolicySnapshot>,
    version: PolicyVersion,
) -> Result<Arc<PolicySnapshot>, ExamineError> {
    if version == first.version {
        return Ok(Arc::clone(first));
    }
    let snapshot = store.get(version).await;
    snapshot.map(Arc::new).map_err(|error| ExamineError::Passing(error.to_string()))
}

/// What an episode says to the detectors.
pub(super) fn seen_query(episode: &Episode) -> Seen<'_> {
    let top = episode.candidates.first().map(|candidate| f64::from(candidate.score));
    let second = episode.candidates.get(1).map(|candidate| f64::from(candidate.score));
    Seen {
        query: &episode.query.text,
        top_score: top,
        margin: top.zip(second).map(|(top, second)| top - second),
        reward: None,
        judge: None,
        is_abstention: false,
        time_ms: episode.finished_ms,
    }
}

/// What a verdict says to the detectors. They look at a decision once, at its first reward: a
/// sequential test cannot take back what it has seen, and a revision beside it would count twice.
pub(super) fn seen_reward(record: &RewardRecord) -> Option<Seen<'_>> {
    let is_another =
        record.replaces.is_some() || (record.revision > 0 && record.reward().is_none());
    if is_another {
        return None;
    }
    let (reward, is_abstention) = match &record.verdict {
        Verdict::Scored { reward } => (Some(reward.total), false),
        Verdict::Abstained { .. } | Verdict::Failed { .. } => (None, true),
        Verdict::Expired => (None, false),
    };
    // What expired was never judged.
    let is_judged = record.verdict != Verdict::Expired;
    Some(Seen {
        query: "",
        top_score: None,
        margin: None,
        reward,
        judge: is_judged.then_some(record.judge.as_str()),
        is_abstention,
        time_ms: record.judged_ms,
    })
}
