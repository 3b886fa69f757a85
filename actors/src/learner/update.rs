//! One update from batch to champion, and the state it goes on from.
//!
//! Runs in a task of the learner actor. Order of a promotion: upload, read back, swap, record,
//! adopt; so that nothing is recorded as champion that serving refused or the store lost.

use super::{Args, SwapFailure, UpdateOutcome, retention};
use crate::bounds::{caught, guarded};
use crate::compute::Compute;
use crate::ports::{self, EventLog, Examination, LearnError, LearnReport, Stream};
use crate::rollout::Path;
use crate::tail::{read_all, record};
use crate::telemetry;
use crate::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type Model = Option<Box<dyn ports::Learner>>;

/// The learner's model with its champion and the next free version.
pub(super) struct Trainer {
    compute: Compute<Model>,
    champion: Option<Arc<PolicySnapshot>>,
    next: PolicyVersion,
}

/// Why a step on the compute thread gave nothing.
enum Lost {
    Panicked(String),
    Learn(LearnError),
}

impl Trainer {
    /// Makes the model and brings it to the newest champion that the store still holds.
    pub(super) async fn load(args: Args) -> Result<Self, String> {
        let name = format!("learner-{}", args.node);
        let records = read_all(&args.log, &name, Stream::Policies, args.config.policies_max)
            .await
            .map_err(|error| format!("cannot read the policies: {error}"))?;
        let records: Vec<PolicyRecord> =
            records.iter().filter_map(|record| crate::tail::parse(record).ok()).collect();
        let stored = args.snapshots.list().await.map_err(|error| error.to_string())?;
        let taken = records.iter().map(|r| r.version).chain(stored.iter().copied()).max();
        let next = PolicyVersion(taken.map_or(0, |version| version.0) + 1);

        let compute = Compute::start("learner", args.compute, 2, None::<Box<dyn ports::Learner>>)
            .map_err(|error| error.to_string())?;
        let factory = Arc::clone(&args.factory);
        let mut trainer = Self { compute, champion: None, next };
        let make = move |model: &mut Model| {
            *model = Some(factory()?);
            Ok(())
        };
        trainer.run(&args, make).await.map_err(|lost| lost.to_string())?;
        for record in PolicyRecord::champions_of(&records).into_iter().rev() {
            match args.snapshots.get(record.version).await {
                Ok(snapshot) => match trainer.adopt(&args, Arc::new(snapshot)).await {
                    Ok(()) => break,
                    Err(lost) => tracing::warn!(%lost, "champion refused, trying an older one"),
                },
                Err(error @ ports::SnapshotError::Unavailable(_)) => return Err(error.to_string()),
                Err(error) => tracing::warn!(%error, "champion is lost, trying an older one"),
            }
        }
        Ok(trainer)
    }

    pub(super) fn champion_version(&self) -> PolicyVersion {
        self.champion.as_ref().map_or(PolicyVersion(0), |champion| champion.version)
    }

    /// Samples, trains, examines, and publishes what was accepted.
    #[tracing::instrument(name = "learner.update", skip_all, fields(version = %self.next))]
    pub(super) async fn update(&mut self, args: &Args) -> UpdateOutcome {
        let began = Instant::now();
        let outcome = match self.candidate(args).await {
            Ok((snapshot, report, examination)) => {
                self.decide(args, snapshot, report, examination).await
            }
            Err(outcome) => outcome,
        };
        telemetry::observe(telemetry::UPDATE_SECONDS, began.elapsed().as_secs_f64());
        outcome
    }

    async fn candidate(
        &mut self,
        args: &Args,
    ) -> Result<(PolicySnapshot, LearnReport, Examination), UpdateOutcome> {
        let config = args.config;
        let deadline = Instant::now() + Duration::from_millis(config.publish_deadline_ms);
        let batch = (args.sample)((config.train_max, config.holdout_max, deadline))
            .await
            .map_err(|reason| failed("sample", &reason))?;
        if batch.train.is_empty() {
            return Err(UpdateOutcome::TooLittle { reason: "no judged episode yet".to_owned() });
        }
        let version = self.next;
        let holdout = batch.holdout.clone();
        let train = move |model: &mut Model| learner(model)?.update(&batch, version);
        let (snapshot, report) =
            self.run(args, train).await.map_err(|lost| lost.into_outcome("train"))?;
        if !report.loss.is_finite() {
            return Err(failed("train", &"loss is not finite"));
        }
        let examined = snapshot.clone();
        let examine = move |model: &mut Model| learner(model)?.examine(&examined, &holdout);
        let examination =
            self.run(args, examine).await.map_err(|lost| lost.into_outcome("examine"))?;
        self.next = PolicyVersion(version.0 + 1);
        Ok((snapshot, report, examination))
    }

    async fn decide(
        &mut self,
        args: &Args,
        snapshot: PolicySnapshot,
        report: LearnReport,
        examination: Examination,
    ) -> UpdateOutcome {
        let version = snapshot.version;
        let rejected = |reason: String, report, examination| UpdateOutcome::Rejected {
            version,
            reason,
            report,
            examination,
        };
        if !examination.accepted {
            let reason = examination.reason.clone();
            retire(args, &snapshot, &reason).await;
            return rejected(reason, report, examination);
        }
        let snapshot = Arc::new(snapshot);
        if args.path == Path::Staged {
            return match propose(args, &snapshot, &examination).await {
                Ok(()) => UpdateOutcome::Proposed { version, report, examination },
                Err(reason) => failed("publish", &reason),
            };
        }
        match self.publish(args, &snapshot, &examination).await {
            Ok(()) => UpdateOutcome::Promoted { version, report, examination },
            Err(Unpublished::Refused(reason)) => {
                retire(args, &snapshot, &reason).await;
                rejected(reason, report, examination)
            }
            Err(Unpublished::Failed(reason)) => failed("publish", &reason),
            Err(Unpublished::Lost(lost)) => lost.into_outcome("publish"),
        }
    }

    #[tracing::instrument(
        name = "snapshot.publish",
        skip_all,
        fields(version = %snapshot.version, bytes = snapshot.weights.len())
    )]
    async fn publish(
        &mut self,
        args: &Args,
        snapshot: &Arc<PolicySnapshot>,
        examination: &Examination,
    ) -> Result<(), Unpublished> {
        let limit = Duration::from_millis(args.config.publish_deadline_ms);
        let uri = guarded(limit, upload(args.clone(), Arc::clone(snapshot)))
            .await
            .map_err(|broken| Unpublished::Failed(format!("upload: {broken}")))?
            .map_err(Unpublished::Failed)?;
        if let Some(swap) = &args.swap {
            match swap((Arc::clone(snapshot), Instant::now() + limit)).await {
                Ok(()) => {}
                Err(SwapFailure::Refused(reason)) => return Err(Unpublished::Refused(reason)),
                Err(SwapFailure::Unavailable(reason)) => {
                    tracing::warn!(reason, "swap is left to the policy follower");
                }
            }
        }
        let before = self.champion.as_ref().map(|old| old.version);
        let champion = self.crowned(args, (snapshot, uri), examination, before)?;
        let mut records = vec![champion];
        if let Some(old) = &self.champion {
            let reason = format!("replaced by {}", snapshot.version);
            let now_ms = args.clock.now_ms();
            records.push(PolicyRecord::of(old, PolicyState::Retired, &reason, now_ms));
        }
        if let Err(error) = append(args, records, limit).await {
            self.swap_back(args, limit).await;
            return Err(Unpublished::Failed(error));
        }
        if args.swap.is_none() {
            args.serving.send_modify(|stamp| {
                stamp.version = snapshot.version;
                stamp.digest = snapshot.digest.clone();
            });
        }
        self.adopt(args, Arc::clone(snapshot)).await.map_err(Unpublished::Lost)?;
        retention::sweep(args).await;
        Ok(())
    }

    /// The record of a champion that its held-out examination made one, with its certificate.
    fn crowned(
        &self,
        args: &Args,
        (snapshot, uri): (&PolicySnapshot, String),
        examination: &Examination,
        before: Option<PolicyVersion>,
    ) -> Result<PolicyRecord, Unpublished> {
        let (state, now_ms) = (PolicyState::Champion, args.clock.now_ms());
        let mut record = PolicyRecord::of(snapshot, state, &examination.reason, now_ms);
        record.uri = uri;
        // Whoever was put to sleep and wakes up behind another leader is outrun by this.
        record.replaces = before;
        record.evidence = vec![examination.evidence()];
        let certificate = args.issuer.certificate(&record, (state, None), before, now_ms);
        record.certificate = Some(Box::new(certificate.map_err(Unpublished::Failed)?));
        Ok(record)
    }

    /// What is not on record must not serve.
    async fn swap_back(&self, args: &Args, limit: Duration) {
        if let (Some(swap), Some(old)) = (&args.swap, &self.champion)
            && let Err(error) = swap((Arc::clone(old), Instant::now() + limit)).await
        {
            tracing::error!(%error, version = %old.version, "cannot swap back to the champion");
        }
    }

    async fn adopt(&mut self, args: &Args, champion: Arc<PolicySnapshot>) -> Result<(), Lost> {
        let snapshot = Arc::clone(&champion);
        self.run(args, move |model| learner(model)?.adopt(&snapshot)).await?;
        self.champion = Some(champion);
        Ok(())
    }

    /// Runs a step on the compute thread; a panic there is caught and told.
    async fn run<T, F>(&self, args: &Args, step: F) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: FnOnce(&mut Model) -> Result<T, LearnError> + Send + 'static,
    {
        let compute = self.compute.clone();
        let limit = Duration::from_millis(args.config.deadline_ms);
        let work = async move { compute.run(|model| caught(|| step(model))).await };
        match guarded(limit, work).await {
            Ok(Ok(Ok(result))) => result.map_err(Lost::Learn),
            Ok(Ok(Err(reason))) => Err(Lost::Panicked(reason)),
            Ok(Err(error)) => Err(Lost::Panicked(error.to_string())),
            Err(broken) => Err(Lost::Panicked(broken.to_string())),
        }
    }
}

enum Unpublished {
    Refused(String),
    Failed(String),
    Lost(Lost),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panicked(reason) => write!(f, "learner panicked: {reason}"),
            Self::Learn(error) => error.fmt(f),
        }
    }
}

impl Lost {
    fn into_outcome(self, stage: &str) -> UpdateOutcome {
        match self {
            Self::Panicked(reason) => UpdateOutcome::Panicked { reason },
            Self::Learn(LearnError::TooLittle(reason)) => UpdateOutcome::TooLittle { reason },
            Self::Learn(error) => failed(stage, &error),
        }
    }
}

fn failed(stage: &str, reason: &dyn std::fmt::Display) -> UpdateOutcome {
    UpdateOutcome::Failed { stage: stage.to_owned(), reason: reason.to_string() }
}

fn learner(model: &mut Model) -> Result<&mut Box<dyn ports::Learner>, LearnError> {
    model.as_mut().ok_or_else(|| LearnError::Model("learner is not made yet".to_owned()))
}

/// Uploads and reads back what arrived.
async fn upload(args: Args, snapshot: Arc<PolicySnapshot>) -> Result<String, String> {
    let uri = args.snapshots.put(&snapshot).await.map_err(|error| error.to_string())?;
    let stored = args.snapshots.get(snapshot.version).await.map_err(|error| error.to_string())?;
    if stored.digest == snapshot.digest && stored.is_intact() {
        Ok(uri)
    } else {
        Err(format!("snapshot {} came back with other weights", snapshot.version))
    }
}

/// Stores a candidate and puts it on record; whether it ever serves is not the learner's to say.
async fn propose(
    args: &Args,
    snapshot: &Arc<PolicySnapshot>,
    examination: &Examination,
) -> Result<(), String> {
    let limit = Duration::from_millis(args.config.publish_deadline_ms);
    let uri = guarded(limit, upload(args.clone(), Arc::clone(snapshot)))
        .await
        .map_err(|broken| format!("upload: {broken}"))??;
    let evidence = vec![examination.evidence()];
    let now_ms = args.clock.now_ms();
    let state = PolicyState::Candidate;
    let record = PolicyRecord::of(snapshot, state, &examination.reason, now_ms);
    let record = PolicyRecord { uri, evidence, step: Some(1), ..record };
    append(args, vec![record], limit).await?;
    retention::sweep(args).await;
    Ok(())
}

async fn retire(args: &Args, snapshot: &PolicySnapshot, reason: &str) {
    let record = PolicyRecord::of(snapshot, PolicyState::Retired, reason, args.clock.now_ms());
    let limit = Duration::from_millis(args.config.publish_deadline_ms);
    if let Err(error) = append(args, vec![record], limit).await {
        tracing::warn!(error, version = %snapshot.version, "rejected candidate is not on record");
    }
}

async fn append(args: &Args, records: Vec<PolicyRecord>, limit: Duration) -> Result<(), String> {
    let mut new = Vec::with_capacity(records.len());
    for policy in &records {
        let key = policy.version.to_string();
        let id = format!("{key}-{:?}-{}", policy.state, policy.time_ms).to_lowercase();
        let source = Stream::Policies.topic();
        new.push(record(&key, (&id, source), policy).map_err(|error| error.to_string())?);
    }
    let log: Arc<dyn EventLog> = Arc::clone(&args.log);
    match guarded(limit, async move { log.append(Stream::Policies, new).await }).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(broken) => Err(format!("append to the policies: {broken}")),
    }
}
