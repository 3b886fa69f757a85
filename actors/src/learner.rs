//! The learner: asks for a batch on a schedule, trains on its own thread, publishes what passes.
//!
//! Of several processes one leads: the one that the log gives the policies to. The others stand by
//! with full buffers, and the next loads the champion when the leader goes.
//!
//! Floor 2. Knows no buffer and no reranker, only the requests handed in `Args`. The actor stays
//! responsive while it trains; whatever goes wrong there is an outcome, and old weights serve on.

mod config;
mod outcome;
mod retention;
mod update;

use crate::clock::Clock;
use crate::compute::ComputeMode;
use crate::ports::{
    self, Batch, Cancellation, EventLog, LearnError, LearnReport, SnapshotStore, Stream,
};
use crate::rollout::{Issuer, Path};
use crate::slot::Request;
use crate::tail::{self, Change, Next, Share, Source, Task, Turn, backoff};
use crate::telemetry;
use crate::types::{PolicyRecord, PolicySnapshot, PolicyStamp, PolicyState, PolicyVersion};
pub use config::Config;
pub use outcome::{Observed, SwapFailure, UpdateOutcome};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use update::Trainer;

/// Makes a learner; called at each start and after a panic, on the compute thread. What it buys
/// must end with the cancellation: then nobody waits for it any more.
pub type LearnerFactory =
    Arc<dyn Fn(&Cancellation) -> Result<Box<dyn ports::Learner>, LearnError> + Send + Sync>;

/// What the learner understands.
pub enum Message {
    /// A turn on the log: who leads (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
    /// Looks at the schedule (sent by itself).
    Tick,
    /// The learner is ready with its champion, or why not (sent by itself).
    #[doc(hidden)]
    Loaded(LoadedBox),
    /// How many rewards the buffer took in so far (sent by itself).
    Fresh(Option<u64>),
    /// An update is over (sent by itself).
    #[doc(hidden)]
    Updated(UpdatedBox),
    /// Starts an update, if there is anything to learn from: drift was seen.
    Refresh,
    /// Forces an update; replies with its outcome.
    Trigger(RpcReplyPort<UpdateOutcome>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);
#[doc(hidden)]
pub struct LoadedBox(Result<Trainer, String>);
#[doc(hidden)]
pub struct UpdatedBox(Box<(Trainer, UpdateOutcome)>);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Makes the learner.
    pub factory: LearnerFactory,
    /// Where training runs.
    pub compute: ComputeMode,
    /// Where decisions about policies are recorded.
    pub log: Arc<dyn EventLog>,
    /// Where weights go.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Draws a batch: `(train_max, holdout_max, deadline)`.
    pub sample: Request<(usize, usize, Instant), Result<Batch, String>>,
    /// Asks how many rewards the buffer has taken in.
    pub fresh: Request<Instant, Option<u64>>,
    /// Asks serving to swap; absent where nothing is served.
    pub swap: Option<Request<(Arc<PolicySnapshot>, Instant), Result<(), SwapFailure>>>,
    /// Told of a promotion where nothing is served.
    pub serving: watch::Sender<PolicyStamp>,
    /// Whether a candidate goes through the stages, or its examination makes it champion.
    pub path: Path,
    /// Issues the certificate of a champion.
    pub issuer: Issuer,
    /// Name of this process.
    pub node: String,
    /// Stamps.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
}

/// Policy records read and left aside in one turn.
const POLL_MAX: usize = 1_024;
/// Most callers that may wait for one forced update.
const TRIGGERS_MAX: usize = 64;

/// The actor.
pub struct Learner;

#[doc(hidden)]
pub struct State {
    args: Args,
    _reading: Task,
    /// The champion by the records read so far.
    on_record: Option<PolicyVersion>,
    /// Whether one came that has not been compared with the champion trained from.
    is_news: bool,
    trainer: Option<Trainer>,
    task: Option<Task>,
    load_failures: u32,
    rewards_seen: u64,
    last_update: Instant,
    triggers: Vec<RpcReplyPort<UpdateOutcome>>,
    counters: Observed,
}

impl Actor for Learner {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let (tick_ms, backoff_max_ms) = (args.config.tick_ms, args.config.backoff_max_ms);
        let source = Source {
            actor: "learner",
            log: Arc::clone(&args.log),
            name: "learner".to_owned(),
            streams: &[Stream::Policies],
            share: Share::Group { rebuild: None },
            backoff_ms: (args.config.backoff_ms, backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        myself.send_interval(Duration::from_millis(tick_ms), || Message::Tick);
        Ok(State {
            args,
            _reading: reading,
            on_record: None,
            is_news: false,
            trainer: None,
            task: None,
            load_failures: 0,
            rewards_seen: 0,
            last_update: Instant::now(),
            triggers: Vec::new(),
            counters: Observed::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Turn(turn) => state.turn(&myself, turn.0),
            Message::Tick => state.tick(&myself),
            Message::Loaded(loaded) => state.loaded(&myself, loaded.0),
            Message::Fresh(inserted) => state.fresh(&myself, inserted),
            Message::Updated(over) => state.updated(&myself, *over.0),
            Message::Refresh => state.update(&myself),
            Message::Trigger(reply) => state.trigger(&myself, reply),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    /// Leads while the policies are this process's, and goes on from the champion on record: an
    /// operator, or another leader before, may have made another one so.
    fn turn(&mut self, myself: &ActorRef<Message>, mut turn: Turn) {
        let (changes, records) = turn.take();
        let mut next = Next { poll_max: POLL_MAX, ..Next::default() };
        next.wait = Duration::from_millis(self.args.config.tick_ms);
        for change in changes {
            match change {
                Change::Gained(..) => {
                    tracing::info!(node = self.args.node, "leads the learning");
                    self.counters.is_leading = true;
                    self.load(myself, Duration::ZERO);
                }
                Change::Leaving(partition) => {
                    self.stand_by();
                    next.release.push(partition);
                }
                Change::Lost(_) => self.stand_by(),
            }
        }
        let on_record: Vec<PolicyRecord> =
            records.iter().filter_map(|record| tail::parse(record).ok()).collect();
        for record in on_record.iter().filter(|record| record.state == PolicyState::Champion) {
            if record.follows(self.on_record) {
                self.on_record = Some(record.version);
                self.is_news = true;
            }
        }
        let own = self.trainer.as_ref().map(Trainer::champion_version);
        if let (Some(own), Some(on_record), true) = (own, self.on_record, turn.is_current)
            && std::mem::take(&mut self.is_news)
            && own != on_record
        {
            tracing::info!(%own, %on_record, "another version was made champion: starts from it");
            self.trainer = None;
            self.load(myself, Duration::ZERO);
        }
        telemetry::level(telemetry::LEARNER_LEADS, f64::from(u8::from(self.counters.is_leading)));
        turn.go_on(next);
    }

    /// Ends whatever is under way: another process learns from here on.
    fn stand_by(&mut self) {
        tracing::info!(node = self.args.node, "stands by: another process leads the learning");
        self.counters.is_leading = false;
        self.counters.is_loaded = false;
        self.counters.is_updating = false;
        self.trainer = None;
        self.on_record = None;
        self.task = None;
    }

    fn load(&mut self, myself: &ActorRef<Message>, delay: Duration) {
        let (args, myself) = (self.args.clone(), myself.clone());
        self.task = Some(Task::spawn(async move {
            tokio::time::sleep(delay).await;
            let loaded = Trainer::load(args).await;
            let _ = myself.send_message(Message::Loaded(LoadedBox(loaded)));
        }));
    }

    fn loaded(&mut self, myself: &ActorRef<Message>, loaded: Result<Trainer, String>) {
        if !self.counters.is_leading {
            return;
        }
        match loaded {
            Ok(trainer) => {
                self.load_failures = 0;
                self.counters.is_loaded = true;
                self.counters.champion = trainer.champion_version();
                self.trainer = Some(trainer);
                if !self.triggers.is_empty() {
                    self.update(myself);
                }
            }
            Err(reason) => {
                self.load_failures = self.load_failures.saturating_add(1);
                let (base, max) = (self.args.config.backoff_ms, self.args.config.backoff_max_ms);
                let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
                let delay = backoff(self.load_failures, base, max);
                tracing::warn!(reason, ?delay, "learner cannot start, trying again");
                self.load(myself, delay);
            }
        }
    }

    fn tick(&mut self, myself: &ActorRef<Message>) {
        if self.trainer.is_none() {
            return;
        }
        let (fresh, myself) = (Arc::clone(&self.args.fresh), myself.clone());
        let deadline = Instant::now() + Duration::from_millis(self.args.config.tick_ms);
        ractor::concurrency::spawn(async move {
            let _ = myself.send_message(Message::Fresh(fresh(deadline).await));
        });
    }

    fn fresh(&mut self, myself: &ActorRef<Message>, inserted: Option<u64>) {
        let Some(inserted) = inserted else { return };
        // A rebuilt buffer counts from the start again.
        self.rewards_seen = self.rewards_seen.min(inserted);
        let new = inserted - self.rewards_seen;
        let config = self.args.config;
        let learned_from = self.rewards_seen.min((config.train_max + config.holdout_max) as u64);
        if new * 100 < learned_from * config.min_new_percent {
            return;
        }
        let by_count = config.min_new_rewards > 0 && new >= config.min_new_rewards;
        let interval = Duration::from_millis(config.interval_ms);
        let by_time = config.interval_ms > 0 && new > 0 && self.last_update.elapsed() >= interval;
        if self.trainer.is_some() && (by_count || by_time) {
            self.rewards_seen = inserted;
            self.update(myself);
        }
    }

    fn trigger(&mut self, myself: &ActorRef<Message>, reply: RpcReplyPort<UpdateOutcome>) {
        if self.triggers.len() >= TRIGGERS_MAX {
            let (stage, reason) = ("sample".to_owned(), "too many callers wait".to_owned());
            let _ = reply.send(UpdateOutcome::Failed { stage, reason });
            return;
        }
        self.triggers.push(reply);
        self.update(myself);
    }

    /// Starts an update unless one runs (or the learner is not ready): then its end decides.
    fn update(&mut self, myself: &ActorRef<Message>) {
        let Some(mut trainer) = self.trainer.take() else { return };
        self.counters.is_updating = true;
        let (args, myself) = (self.args.clone(), myself.clone());
        self.task = Some(Task::spawn(async move {
            let outcome = trainer.update(&args).await;
            let over = UpdatedBox(Box::new((trainer, outcome)));
            let _ = myself.send_message(Message::Updated(over));
        }));
    }

    fn updated(&mut self, myself: &ActorRef<Message>, over: (Trainer, UpdateOutcome)) {
        let (trainer, outcome) = over;
        if !self.counters.is_leading {
            return;
        }
        self.last_update = Instant::now();
        self.counters.is_updating = false;
        self.counters.updates += 1;
        self.counters.champion = trainer.champion_version();
        telemetry::count(telemetry::UPDATES, "outcome", outcome.word());
        match &outcome {
            UpdateOutcome::Promoted { version, report, examination } => {
                self.counters.promoted += 1;
                self.trained(report);
                tracing::info!(%version, reason = examination.reason, "candidate promoted");
            }
            UpdateOutcome::Proposed { version, report, examination } => {
                self.counters.proposed += 1;
                self.trained(report);
                tracing::info!(%version, reason = examination.reason, "candidate proposed");
            }
            UpdateOutcome::Rejected { version, reason, report, .. } => {
                self.counters.rejected += 1;
                self.trained(report);
                tracing::info!(%version, reason, "candidate rejected");
            }
            other => {
                self.counters.failed += 1;
                tracing::warn!(outcome = ?other, "update gave no candidate");
            }
        }
        for reply in self.triggers.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(outcome.clone());
        }
        let is_lost =
            matches!(outcome, UpdateOutcome::Panicked { .. } | UpdateOutcome::TimedOut { .. });
        self.counters.last_outcome = Some(outcome);
        if is_lost {
            // Cancels what the thread that is left behind still buys.
            drop(trainer);
            self.counters.is_loaded = false;
            self.load(myself, Duration::from_millis(self.args.config.backoff_ms));
        } else {
            self.trainer = Some(trainer);
        }
    }

    fn trained(&mut self, report: &LearnReport) {
        self.counters.trained_samples += report.samples;
        telemetry::level(telemetry::LEARNER_LOSS, report.loss);
        telemetry::level(telemetry::LEARNER_KL, report.kl);
        telemetry::level(telemetry::LEARNER_CLIP, report.clip_fraction);
        let LearnReport { samples, refused, steps, .. } = *report;
        let (answers, verdicts) = (report.generator_calls, report.judge_calls);
        tracing::info!(samples, refused, steps, answers, verdicts, "update trained a candidate");
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let _ = reply.send(self.counters.clone());
    }
}
