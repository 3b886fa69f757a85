//! One look at every candidate under way: examinations are started, stages looked at, steps written.
//!
//! Every step is one append, numbered; what became of it comes back by the log.

use super::records::{policy_record, standing_from};
use super::{Message, Model, State};
use crate::bounds::{caught, guarded};
use crate::ports::{ExamineError, Examiner, NewRecord, SnapshotError, Stream};
use crate::rollout::{self, Comparison, Standing, Step};
use crate::sequential::discovery::e_benjamini_hochberg;
use crate::telemetry;
use crate::types::{PolicyRecord, PolicyState, PolicyVersion, StageEvidence};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a candidate goes from here.
struct Move {
    standing: Standing,
    to: PolicyState,
    share: Option<f64>,
    evidence: Option<StageEvidence>,
    reason: String,
}

impl State {
    /// Looks at every candidate once.
    pub(super) fn look(&mut self, myself: &ActorRef<Message>) {
        let under_way: Vec<Standing> = self.board.under_way().cloned().collect();
        self.crowd_out(myself, &under_way);
        let figures = self.comparisons(&under_way);
        for standing in under_way {
            let version = standing.record.version;
            if self.on_the_way.contains_key(&version) {
                continue;
            }
            match standing.record.state {
                PolicyState::Candidate => {
                    let (to, reason) = (PolicyState::Parity, "registered".to_owned());
                    let step = Move { standing, to, share: None, evidence: None, reason };
                    self.step(myself, step);
                }
                PolicyState::Parity | PolicyState::Offline => self.examine(myself, &standing),
                PolicyState::Shadow => self.shadow(myself, standing),
                PolicyState::Canary => self.canary(myself, standing, &figures),
                PolicyState::Champion | PolicyState::Retired => {}
            }
        }
    }

    /// Too many under way: those that came last and have not come far give way to the others.
    fn crowd_out(&mut self, myself: &ActorRef<Message>, under_way: &[Standing]) {
        let over = under_way.len().saturating_sub(self.args.config.candidates_max);
        let is_early = |s: &&Standing| s.record.state < PolicyState::Shadow;
        // The youngest of all is the newest learned: the one before it gives way.
        let early: Vec<&Standing> = under_way.iter().filter(is_early).collect();
        for standing in early.iter().rev().skip(1).take(over) {
            let most = self.args.config.candidates_max;
            let reason = format!("more than {most} candidates are under way");
            self.retire(myself, (*standing).clone(), None, reason);
        }
    }

    /// The figures of every canary, and which of them are discoveries among those beside them.
    fn comparisons(&self, under_way: &[Standing]) -> BTreeMap<PolicyVersion, (Comparison, bool)> {
        let config = &self.args.config.canary;
        let canaries = under_way.iter().filter(|s| s.record.state == PolicyState::Canary);
        let mut figures: Vec<(PolicyVersion, Comparison, f64)> = Vec::new();
        for standing in canaries {
            let version = standing.record.version;
            let seen = Comparison::of(&self.ledger, version, &standing.record.from);
            let evidence = rollout::win_evidence(config, &seen);
            figures.push((version, seen, evidence));
        }
        let evidence: Vec<f64> = figures.iter().map(|(.., evidence)| *evidence).collect();
        // Alone, the test's own error bounds it.
        let found = match evidence.len() {
            0 | 1 => vec![true; evidence.len()],
            _ => e_benjamini_hochberg(&evidence, config.discovery_rate),
        };
        figures
            .into_iter()
            .zip(found)
            .map(|((version, seen, _), is)| (version, (seen, is)))
            .collect()
    }

    fn shadow(&mut self, myself: &ActorRef<Message>, standing: Standing) {
        let config = self.args.config.shadow;
        let waited_ms = self.args.clock.now_ms().saturating_sub(standing.record.time_ms);
        let seen = self.shadows.of(standing.record.version);
        match rollout::shadow_step(&config, &seen, waited_ms) {
            Step::Stay(reason) => self.wait(&standing, reason),
            Step::Retire(evidence) => {
                let reason = evidence.reason.clone();
                self.retire(myself, standing, Some(evidence), reason);
            }
            Step::Pass(evidence) => {
                let canaries = self.board.in_state(PolicyState::Canary).count();
                let on_the_way = self.on_the_way.len();
                if self.is_frozen() {
                    self.wait(&standing, "an alarm holds".to_owned());
                } else if canaries + on_the_way >= self.args.config.canaries_max {
                    self.wait(&standing, "other canaries are under way".to_owned());
                } else {
                    let share = self.args.config.canary.shares.first().copied();
                    let (to, reason) = (PolicyState::Canary, evidence.reason.clone());
                    let evidence = Some(evidence);
                    self.step(myself, Move { standing, to, share, evidence, reason });
                }
            }
        }
    }

    fn canary(
        &mut self,
        myself: &ActorRef<Message>,
        standing: Standing,
        figures: &BTreeMap<PolicyVersion, (Comparison, bool)>,
    ) {
        let Some((seen, is_discovered)) = figures.get(&standing.record.version) else { return };
        let certificate = standing.record.certificate.as_ref();
        let compared = certificate.and_then(|certificate| certificate.claims.champion);
        if self.is_frozen() {
            let reason = "an alarm holds: nothing that is seen now can be trusted".to_owned();
            return self.retire(myself, standing, None, reason);
        }
        if compared != self.board.champion() {
            let name = |version: Option<PolicyVersion>| {
                version.map_or("the first weights".to_owned(), |version| version.to_string())
            };
            let (was, is) = (name(compared), name(self.board.champion()));
            let reason = format!("it was compared with {was}, and the champion is {is}");
            return self.retire(myself, standing, None, reason);
        }
        let (config, share) = (&self.args.config.canary, standing.record.share.unwrap_or(0.0));
        let waited_ms = self.args.clock.now_ms().saturating_sub(standing.record.time_ms);
        match rollout::canary_step(config, (share, *is_discovered), seen, waited_ms) {
            Step::Stay(reason) => self.wait(&standing, reason),
            Step::Retire(evidence) => {
                let reason = evidence.reason.clone();
                self.retire(myself, standing, Some(evidence), reason);
            }
            Step::Pass(evidence) => {
                let next = config.shares.iter().copied().find(|next| *next > share);
                let reason = evidence.reason.clone();
                let to = if next.is_some() { PolicyState::Canary } else { PolicyState::Champion };
                let evidence = Some(evidence);
                self.step(myself, Move { standing, to, share: next, evidence, reason });
            }
        }
    }

    fn wait(&mut self, standing: &Standing, reason: String) {
        self.counters.waiting_for.insert(standing.record.version, reason);
    }

    /// Starts parity or the off-policy estimate, one at a time.
    fn examine(&mut self, myself: &ActorRef<Message>, standing: &Standing) {
        if self.examined.is_some() {
            return self.wait(standing, "another is being examined".to_owned());
        }
        let is_parity = standing.record.state == PolicyState::Parity;
        let config = &self.args.config;
        let needed = if is_parity { config.parity.queries } else { config.offline.samples_min };
        let waited_ms = self.args.clock.now_ms().saturating_sub(standing.record.time_ms);
        let found = self.recent.len();
        if found < needed.max(1) {
            let reason = format!("{found} of {needed} judged decisions");
            if waited_ms < config.offline.timeout_ms {
                return self.wait(standing, reason);
            }
            let reason = format!("{reason} within its time");
            return self.retire(myself, standing.clone(), None, reason);
        }
        let (version, step) = (standing.record.version, standing.step);
        self.examined = Some(version);
        self.wait(standing, "it is being examined".to_owned());
        // What is read while it is being examined is not what was examined.
        let through = self.positions();
        let mut samples = self.recent.samples();
        if is_parity {
            let most = self.args.config.parity.queries;
            samples.drain(..samples.len().saturating_sub(most));
        }
        let (args, compute) = (self.args.clone(), self.compute.clone());
        let (digest, myself) = (standing.record.digest.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let limit = Duration::from_millis(args.config.deadline_ms);
            let work = async move {
                let snapshot = args.snapshots.get(version).await.map_err(unread)?;
                if snapshot.digest != digest {
                    let reason =
                        format!("{version} has digest {}, on record is {digest}", snapshot.digest);
                    return Err(ExamineError::Weights(reason));
                }
                let factory = Arc::clone(&args.factory);
                let examine = move |model: &mut Model| {
                    on(model, &factory, |examiner| {
                        if is_parity {
                            examiner.parity(&snapshot, &samples)
                        } else {
                            examiner.off_policy(&snapshot, &samples)
                        }
                    })
                };
                let over = compute.run(examine).await;
                over.unwrap_or_else(|error| Err(ExamineError::Passing(error.to_string())))
            };
            let over = guarded(limit, work).await;
            let over = over.unwrap_or_else(|b| Err(ExamineError::Passing(b.to_string())));
            let over = over.map(|evidence| StageEvidence { through, ..evidence });
            // A dead actor needs no message.
            let _ = myself.send_message(Message::Examined(version, step, over));
        });
    }

    pub(super) fn examined(
        &mut self,
        myself: &ActorRef<Message>,
        (version, step): (PolicyVersion, u64),
        result: Result<StageEvidence, ExamineError>,
    ) {
        self.examined = None;
        let standing = self.board.standing(version).filter(|s| s.step == step).cloned();
        let (Some(standing), true) = (standing, self.counters.is_leading) else { return };
        match result {
            Ok(evidence) => {
                let reason = evidence.reason.clone();
                if !evidence.passed {
                    return self.retire(myself, standing, Some(evidence), reason);
                }
                let to = match standing.record.state {
                    PolicyState::Parity => PolicyState::Offline,
                    _ => PolicyState::Shadow,
                };
                let evidence = Some(evidence);
                self.step(myself, Move { standing, to, share: None, evidence, reason });
            }
            Err(ExamineError::Weights(reason)) => self.retire(myself, standing, None, reason),
            Err(ExamineError::Passing(reason)) => {
                self.counters.failures += 1;
                tracing::warn!(%version, reason, "examination failed, trying again");
                self.wait(&standing, reason);
            }
        }
    }

    pub(super) fn retire(
        &mut self,
        myself: &ActorRef<Message>,
        standing: Standing,
        evidence: Option<StageEvidence>,
        reason: String,
    ) {
        let to = PolicyState::Retired;
        self.step(myself, Move { standing, to, share: None, evidence, reason });
    }

    /// Writes one step.
    fn step(&mut self, myself: &ActorRef<Message>, step: Move) {
        let Move { standing, to, share, evidence, reason } = step;
        if self.on_the_way.contains_key(&standing.record.version) {
            return;
        }
        let now_ms = self.args.clock.now_ms();
        let mut new = PolicyRecord {
            state: to,
            share,
            step: Some(standing.step + 1),
            reason,
            from: self.positions(),
            time_ms: now_ms,
            replaces: None,
            ..standing.record
        };
        if let Some(mut evidence) = evidence {
            if evidence.through.is_empty() {
                evidence.through = self.positions();
            }
            if evidence.from.is_empty() {
                evidence.from = standing_from(&new.evidence, &evidence);
            }
            new.evidence.push(evidence);
        }
        let champion = self.board.champion();
        let mut records = Vec::new();
        self.counters.retired += u64::from(to == PolicyState::Retired);
        if to.serves_users() {
            let issued = self.args.issuer.certificate(&new, (to, share), champion, now_ms);
            match issued {
                Ok(certificate) => new.certificate = Some(Box::new(certificate)),
                Err(reason) => {
                    self.counters.failures += 1;
                    tracing::error!(version = %new.version, reason, "cannot certify");
                    return;
                }
            }
        }
        if to == PolicyState::Champion {
            new.replaces = champion;
            self.counters.promoted += 1;
            let old = champion.and_then(|version| self.board.standing(version));
            if let Some(old) = old {
                let reason = format!("replaced by {}", new.version);
                let state = PolicyState::Retired;
                let step = Some(old.step + 1);
                let retired = PolicyRecord { state, reason, step, ..old.record.clone() };
                records.push(PolicyRecord { time_ms: now_ms, ..retired });
            }
        }
        tracing::info!(
            version = %new.version, from = standing.record.state.word(), to = to.word(),
            share = ?new.share, reason = new.reason, "candidate moves"
        );
        // First the one that begins: half of this on the log still leaves a champion.
        records.insert(0, new);
        self.append(myself, records);
    }

    /// Appends records in one go; what becomes of them comes back as a message.
    pub(super) fn append(&mut self, myself: &ActorRef<Message>, records: Vec<PolicyRecord>) {
        let versions: Vec<PolicyVersion> = records.iter().map(|record| record.version).collect();
        for record in &records {
            self.on_the_way.insert(record.version, record.step.unwrap_or(0));
            self.counters.steps += 1;
            telemetry::count(telemetry::PROMOTION_STEPS, "state", record.state.word());
        }
        let (log, myself) = (Arc::clone(&self.args.log), myself.clone());
        let (store, first) = (Arc::clone(&self.args.snapshots), Arc::clone(&self.args.first));
        let limit = Duration::from_millis(self.args.config.deadline_ms);
        ractor::concurrency::spawn(async move {
            // Other processes may have other first weights at hand than those on record.
            if records.iter().any(|record| record.digest == first.digest)
                && let Err(error) = store.put(&first).await
            {
                tracing::warn!(%error, "the first weights are not in the store");
            }
            let new: Result<Vec<NewRecord>, _> = records.iter().map(policy_record).collect();
            let result = match new {
                Ok(new) => {
                    let append = async move { log.append(Stream::Policies, new).await };
                    match guarded(limit, append).await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(broken) => Err(broken.to_string()),
                    }
                }
                Err(error) => Err(error),
            };
            // A dead actor needs no message.
            let _ = myself.send_message(Message::Appended(versions, result));
        });
    }

    pub(super) fn appended(&mut self, versions: &[PolicyVersion], result: Result<(), String>) {
        if let Err(reason) = result {
            // The next look writes it again; if it is in the log after all, that has no effect.
            self.counters.failures += 1;
            tracing::warn!(reason, ?versions, "step is not on record, trying again");
            for version in versions {
                self.on_the_way.remove(version);
            }
        }
    }
}

fn unread(error: SnapshotError) -> ExamineError {
    match &error {
        SnapshotError::Unavailable(_) => ExamineError::Passing(error.to_string()),
        _ => ExamineError::Weights(error.to_string()),
    }
}

/// Runs work on the examiner, which is made where it is missing and thrown away if it panics.
pub(super) fn on<T>(
    model: &mut Model,
    factory: &super::ExaminerFactory,
    work: impl FnOnce(&mut dyn Examiner) -> Result<T, ExamineError>,
) -> Result<T, ExamineError> {
    let made = match model.take() {
        Some(examiner) => Ok(examiner),
        None => caught(|| factory()).unwrap_or_else(|panic| Err(ExamineError::Passing(panic))),
    };
    let mut examiner = made?;
    let over = caught(|| work(examiner.as_mut()));
    match over {
        Ok(result) => {
            *model = Some(examiner);
            result
        }
        Err(panic) => Err(ExamineError::Passing(format!("examiner panicked: {panic}"))),
    }
}
