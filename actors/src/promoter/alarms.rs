//! What an alarm sets off: nothing is promoted for a while, canaries and shadows retire, a champion
//! still under watch is taken back, exploration widens, and the learner is asked for a refresh; and
//! the canary questions that look for a policy that pleases the judge alone.

use super::stages::on;
use super::{Message, Model, State};
use crate::bounds::guarded;
use crate::drift::{Alarm, Detector, hacking};
use crate::ports::{ExamineError, Probed, SnapshotStore};
use crate::rollout::Path;
use crate::telemetry;
use crate::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
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

#[doc(hidden)]
pub struct ProbeBox(Result<Probes, ExamineError>);

impl State {
    /// Whether an alarm keeps everything from being promoted.
    pub(super) fn is_frozen(&self) -> bool {
        let until = self.counters.frozen_until_ms.max(self.board.alarm_until_ms());
        self.args.clock.now_ms() < until
    }

    /// Ends the hold of an alarm: what is seen from here on is the new normal.
    pub(super) fn thaw(&mut self) {
        if self.counters.frozen_until_ms > 0 && !self.is_frozen() {
            tracing::info!("the alarm's hold is over");
            self.counters.frozen_until_ms = 0;
            self.monitor.rebase();
        }
    }

    /// Takes an alarm. While the log is read again after a start only the last hold counts: what
    /// was done about it then is on record.
    pub(super) fn alarm(&mut self, myself: &ActorRef<Message>, alarm: Alarm) {
        self.counters.alarms += 1;
        telemetry::count(telemetry::DRIFT_ALARMS, "detector", alarm.detector.name());
        let reason = format!("alarm of {}: {}", alarm.detector.name(), alarm.reason);
        self.counters.last_alarm = Some(alarm);
        let is_live = self.is_current.iter().all(|is| *is) && self.counters.is_leading;
        if self.args.config.path != Path::Staged || !is_live || self.is_frozen() {
            tracing::warn!(reason, "drift");
            return;
        }
        tracing::error!(reason, "drift: promotions are held");
        let now_ms = self.args.clock.now_ms();
        let until_ms = now_ms + self.args.config.watch.hold_ms;
        self.counters.frozen_until_ms = until_ms;
        let under_way: Vec<_> = self.board.under_way().cloned().collect();
        for standing in under_way {
            let state = standing.record.state;
            let version = standing.record.version;
            if state >= PolicyState::Shadow && !self.on_the_way.contains_key(&version) {
                self.retire(myself, standing, None, reason.clone());
            }
        }
        if !self.take_back(myself, &reason, "alarm") {
            self.restate(myself, &reason, until_ms);
        }
        let asked = (self.args.refresh)(());
        ractor::concurrency::spawn(asked);
    }

    /// Takes back a champion that is still under watch; whether there was one.
    fn take_back(&mut self, myself: &ActorRef<Message>, reason: &str, why: &'static str) -> bool {
        let now_ms = self.args.clock.now_ms();
        let champion = self.board.champion().and_then(|version| self.board.standing(version));
        let Some(champion) = champion.map(|standing| &standing.record) else { return false };
        let age_ms = now_ms.saturating_sub(champion.time_ms);
        let is_watched = age_ms < self.args.config.watch.period_ms
            && !champion.reason.starts_with("rolled back");
        if !is_watched || self.on_the_way.contains_key(&champion.version) {
            return false;
        }
        let Some(mut records) = self.board.rollback(&self.args.first, reason, now_ms) else {
            return false;
        };
        if let Some(restored) = records.last_mut() {
            restored.alarm_until_ms = Some(self.counters.frozen_until_ms);
        }
        telemetry::count(telemetry::ROLLBACKS, "why", why);
        self.counters.rolled_back += 1;
        let (store, first) = (Arc::clone(&self.args.snapshots), Arc::clone(&self.args.first));
        ractor::concurrency::spawn(async move {
            // It is there already unless nothing was ever rolled back so far.
            if let Err(error) = store.put(&first).await {
                tracing::warn!(%error, "the first weights are not in the store");
            }
        });
        self.append(myself, records.to_vec());
        true
    }

    /// Puts the hold on record, so that every node widens its exploration.
    fn restate(&mut self, myself: &ActorRef<Message>, reason: &str, until_ms: u64) {
        let champion = self.board.champion().and_then(|version| self.board.standing(version));
        let Some(champion) = champion.map(|standing| standing.record.clone()) else { return };
        if self.on_the_way.contains_key(&champion.version) {
            return;
        }
        let restated = PolicyRecord {
            alarm_until_ms: Some(until_ms),
            replaces: Some(champion.version),
            step: None,
            reason: format!("{}; {reason}", champion.reason),
            ..champion
        };
        self.append(myself, vec![restated]);
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
                let before = match before {
                    Some(version) => Some(fetch(&store, &first, version).await?),
                    None => None,
                };
                let mut asked = Vec::new();
                for version in canaries {
                    asked.push(fetch(&store, &first, version).await?);
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
