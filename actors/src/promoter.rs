//! The promoter: leads candidates from stage to stage by what the log shows, and takes back what an
//! alarm speaks against.
//!
//! Floor 2. Of several processes one leads: the one that the log gives the policies to. It keeps no
//! state of its own: every step is a record of `regrade.policies` that names the step before it, so
//! a promoter that dies anywhere is followed by one that goes on, and of two that think they lead
//! one has no effect. Rules are in `rollout`, detectors in `drift`; models run on a thread of its
//! own.

mod alarms;
mod records;
mod stages;

use crate::clock::Clock;
use crate::compute::{Compute, ComputeMode};
use crate::drift::{self, Alarm, Monitor};
use crate::ports::{EventLog, ExamineError, Examiner, SnapshotStore, Stream};
use crate::rollout::{AA, AaFigures, Board, Config, Issuer, Ledger, Path, Recent, Shadows};
use crate::slot::Request;
use crate::tail::{self, Change, Next, Share, Source, Task, Turn};
use crate::telemetry;
use crate::types::{
    Episode, LogPosition, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, RewardRecord,
    ShadowRecord, StageEvidence,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
pub(crate) use records::policy_record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Makes an examiner; called at each start and after a panic, on the compute thread.
pub type ExaminerFactory = Arc<dyn Fn() -> Result<Box<dyn Examiner>, ExamineError> + Send + Sync>;

/// What the promoter understands.
pub enum Message {
    /// A turn on the policies (sent by itself).
    #[doc(hidden)]
    Policies(TurnBox),
    /// A turn on the traffic (sent by itself).
    #[doc(hidden)]
    Traffic(TurnBox),
    /// Looks at every stage (sent by itself).
    Tick,
    /// An examination is over (sent by itself).
    #[doc(hidden)]
    Examined(PolicyVersion, u64, Result<StageEvidence, ExamineError>),
    /// The canary questions were asked (sent by itself).
    #[doc(hidden)]
    Probed(alarms::ProbeBox),
    /// An append is over: the version it was about, or why it failed (sent by itself).
    #[doc(hidden)]
    Appended(Vec<PolicyVersion>, Result<(), String>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Makes the examiner.
    pub factory: ExaminerFactory,
    /// Where it runs.
    pub compute: ComputeMode,
    /// Records and traffic.
    pub log: Arc<dyn EventLog>,
    /// Where weights are.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The weights before anything was learned.
    pub first: Arc<PolicySnapshot>,
    /// Issues certificates.
    pub issuer: Issuer,
    /// Asks the learner for an update.
    pub refresh: Request<(), ()>,
    /// Name of this process.
    pub node: String,
    /// Stamps.
    pub clock: Clock,
    /// Rules.
    pub config: Config,
    /// Detectors.
    pub drift: drift::Config,
}

/// Counters since the last start, and levels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether this process promotes; the others stand by.
    pub is_leading: bool,
    /// Whether policies and traffic were read to their ends.
    pub is_caught_up: bool,
    /// Candidates under way, by version, with their state.
    pub under_way: BTreeMap<PolicyVersion, PolicyState>,
    /// Why each of them is where it is.
    pub waiting_for: BTreeMap<PolicyVersion, String>,
    /// Steps made here.
    pub steps: u64,
    /// Champions made here.
    pub promoted: u64,
    /// Candidates retired here.
    pub retired: u64,
    /// Champions taken back here.
    pub rolled_back: u64,
    /// Alarms since the start.
    pub alarms: u64,
    /// The last alarm.
    pub last_alarm: Option<Alarm>,
    /// Until when nothing is promoted, milliseconds since the Unix epoch.
    pub frozen_until_ms: u64,
    /// What the champion's experiment against itself shows, where one runs.
    #[serde(default)]
    pub aa: Option<AaFigures>,
    /// Judged less gold reward of the champion on the canary questions, at the last look.
    pub hacking_gap: Option<f64>,
    /// Steps or examinations that failed and are repeated.
    pub failures: u64,
    /// Records of other processes that had no effect.
    pub outrun: u64,
    /// Records that could not be read.
    pub broken: u64,
}

/// The actor.
pub struct Promoter;

type Model = Option<Box<dyn Examiner>>;

#[doc(hidden)]
pub struct State {
    args: Args,
    _policies: Task,
    _traffic: Task,
    compute: Compute<Model>,
    board: Board,
    ledger: Ledger,
    shadows: Shadows,
    recent: Recent,
    monitor: Monitor,
    is_current: [bool; 2],
    /// Steps on their way into the log, by version.
    on_the_way: BTreeMap<PolicyVersion, u64>,
    /// The candidate that is examined.
    examined: Option<PolicyVersion>,
    is_probing: bool,
    probed_ms: u64,
    probe_looks: BTreeMap<PolicyVersion, u64>,
    /// What an alarm calls for and is not on record yet.
    owed: Option<alarms::Owed>,
    /// Whether a detector alarmed while nobody listened.
    is_latched: bool,
    counters: Observed,
}

impl Actor for Promoter {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let backoff_ms = (args.config.backoff_ms, args.config.backoff_max_ms);
        let policies = Source {
            actor: "promoter",
            log: Arc::clone(&args.log),
            name: "promoter".to_owned(),
            streams: &[Stream::Policies],
            share: Share::Group { rebuild: None },
            backoff_ms,
        };
        let traffic = Source {
            name: format!("promoter-{}", args.node),
            streams: &[Stream::Episodes, Stream::Rewards, Stream::Shadows],
            share: Share::Alone { newest: Some(args.config.records_max) },
            ..policies.clone()
        };
        let compute = Compute::start("promoter", args.compute, 2, None)?;
        let policies = tail::read(policies, &myself, |turn| Message::Policies(TurnBox(turn)));
        let traffic = tail::read(traffic, &myself, |turn| Message::Traffic(TurnBox(turn)));
        myself.send_interval(Duration::from_millis(args.config.tick_ms), || Message::Tick);
        Ok(State {
            _policies: policies,
            _traffic: traffic,
            compute,
            board: Board::default(),
            ledger: Ledger::default(),
            shadows: Shadows::default(),
            recent: Recent::new(args.config.offline.samples_max),
            monitor: Monitor::new(&args.drift),
            is_current: [false; 2],
            on_the_way: BTreeMap::new(),
            examined: None,
            is_probing: false,
            probed_ms: args.clock.now_ms(),
            probe_looks: BTreeMap::new(),
            owed: None,
            is_latched: false,
            counters: Observed::default(),
            args,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Policies(turn) => state.policies(turn.0),
            Message::Traffic(turn) => state.traffic(&myself, turn.0),
            Message::Tick => state.tick(&myself),
            Message::Examined(version, step, result) => {
                state.examined(&myself, (version, step), result);
            }
            Message::Probed(probed) => state.probed(&myself, probed),
            Message::Appended(versions, result) => state.appended(&versions, result),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    /// Leads while the policies are this process's.
    fn policies(&mut self, mut turn: Turn) {
        let (changes, records) = turn.take();
        let config = &self.args.config;
        let mut next = Next { poll_max: config.poll_max, ..Next::default() };
        next.wait = Duration::from_millis(config.tick_ms);
        for change in changes {
            match change {
                Change::Gained(..) => {
                    self.board = Board::default();
                    self.counters.is_leading = true;
                }
                Change::Leaving(partition) => {
                    self.stand_by();
                    next.release.push(partition);
                }
                Change::Lost(_) => self.stand_by(),
            }
        }
        for record in &records {
            match tail::parse::<PolicyRecord>(record) {
                Ok(policy) => self.absorb(&policy),
                Err(_) => self.counters.broken += 1,
            }
        }
        self.is_current[0] |= turn.is_current && records.len() < self.args.config.poll_max;
        turn.go_on(next);
    }

    fn stand_by(&mut self) {
        self.counters.is_leading = false;
        self.is_current[0] = false;
        self.on_the_way.clear();
    }

    fn traffic(&mut self, myself: &ActorRef<Message>, mut turn: Turn) {
        let (_, records) = turn.take();
        let mut found = Vec::new();
        let is_staged = self.args.config.path == Path::Staged;
        for record in &records {
            let is_read = match record.stream {
                Stream::Episodes => tail::parse::<Episode>(record).map(|episode| {
                    if is_staged {
                        let place = (record.partition, record.offset);
                        self.ledger.episode(place, &episode);
                        self.recent.episode(&episode);
                    }
                    found.extend(self.monitor.absorb(&alarms::seen_query(&episode)));
                }),
                Stream::Rewards => tail::parse::<RewardRecord>(record).map(|reward| {
                    if is_staged {
                        self.ledger.reward(&reward);
                        self.shadows.reward(&reward);
                        self.recent.reward(&reward);
                    }
                    if let Some(seen) = alarms::seen_reward(&reward) {
                        found.extend(self.monitor.absorb(&seen));
                    }
                }),
                _ => tail::parse::<ShadowRecord>(record).map(|shadow| {
                    self.shadows.decision(&shadow);
                }),
            };
            self.counters.broken += u64::from(is_read.is_err());
            let next = record.offset + 1;
            self.ledger.read_to(record.stream.topic(), record.partition, next);
        }
        // Under steady traffic no turn is ever empty; a short one had no more to read.
        self.is_current[1] |= turn.is_current && records.len() < self.args.config.poll_max;
        for alarm in found {
            self.alarm(myself, alarm);
        }
        let config = &self.args.config;
        turn.go_on(Next {
            poll_max: config.poll_max,
            wait: Duration::from_millis(config.tick_ms),
            ..Next::default()
        });
    }

    fn tick(&mut self, myself: &ActorRef<Message>) {
        self.levels();
        if self.args.config.path != Path::Staged || !self.counters.is_leading {
            return;
        }
        if !self.is_current.iter().all(|is| *is) {
            return;
        }
        self.thaw();
        self.pay(myself);
        self.look(myself);
        self.probe(myself);
        self.look_at_aa(myself);
        let mut open: Vec<PolicyVersion> =
            self.board.under_way().map(|standing| standing.record.version).collect();
        self.shadows.keep_only(&open);
        open.push(AA);
        self.ledger.keep_only(&open);
    }

    fn levels(&mut self) {
        let states = [
            PolicyState::Candidate,
            PolicyState::Parity,
            PolicyState::Offline,
            PolicyState::Shadow,
            PolicyState::Canary,
        ];
        for state in states {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let count = self.board.in_state(state).count() as f64;
            metrics::gauge!(telemetry::PROMOTION_STATE, "state" => state.word()).set(count);
        }
        for (detector, level) in self.monitor.levels() {
            metrics::gauge!(telemetry::DRIFT_LEVEL, "detector" => detector).set(level);
        }
        let is_frozen = self.is_frozen();
        telemetry::level(telemetry::PROMOTION_FROZEN, f64::from(u8::from(is_frozen)));
    }

    fn observe(&mut self, reply: RpcReplyPort<Observed>) {
        let of =
            |standing: &crate::rollout::Standing| (standing.record.version, standing.record.state);
        let under_way: BTreeMap<_, _> = self.board.under_way().map(of).collect();
        self.counters.waiting_for.retain(|version, _| under_way.contains_key(version));
        let is_caught_up = self.is_current.iter().all(|is| *is);
        let _ = reply.send(Observed { is_caught_up, under_way, ..self.counters.clone() });
    }

    fn positions(&self) -> Vec<LogPosition> {
        self.ledger.positions()
    }
}
