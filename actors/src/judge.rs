//! The judge: joins feedback to episodes, asks the judge port, appends rewards.
//!
//! Floor 2. Its memory is derived state of the log by partition, committed in one step with its
//! positions and rewards, so that a restart loses and repeats nothing; a partition that comes from
//! another process is rebuilt from the log. It never slows an answer: it only reads.

mod config;
mod ending;
mod join;
mod late;
mod observed;
mod waiting;

use crate::bounds::guarded;
use crate::clock::Clock;
use crate::ports::{self, EventLog, JudgeTask, Judgement, LogError, NewRecord, Record, Stream};
use crate::tail::{self, Change, Next, Share, Source, Task, Turn, deadletter};
use crate::telemetry;
use crate::types::{DecisionId, Episode, Feedback};
pub use config::Config;
use join::Joiner;
use late::{Recalled, recall};
pub use observed::Observed;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// What the judge understands.
pub enum Message {
    /// A turn on the log (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
    /// The judge port said something of a decision in a partition (sent by itself).
    Judged(u32, DecisionId, Result<Judgement, String>),
    /// The log said something of a decision in a partition (sent by itself).
    #[doc(hidden)]
    Recalled(RecalledBox),
    /// Replies once everything in the log is read, nothing is due and all is durable.
    Flush(RpcReplyPort<()>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);
#[doc(hidden)]
pub struct RecalledBox(u32, DecisionId, Result<Recalled, String>);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where episodes and feedback are read and rewards written.
    pub log: Arc<dyn EventLog>,
    /// What judges.
    pub judge: Arc<dyn ports::Judge>,
    /// Stamps.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
}

/// The actor.
pub struct Judge;

#[doc(hidden)]
pub struct State {
    args: Args,
    _reading: Task,
    joiners: BTreeMap<u32, Joiner>,
    judging: usize,
    recalling: usize,
    flushes: Vec<RpcReplyPort<()>>,
    /// What was in the log when it was asked for is read; it is judged before more is.
    is_flushing: bool,
}

impl Actor for Judge {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let source = Source {
            actor: "judge",
            log: Arc::clone(&args.log),
            name: "judge".to_owned(),
            streams: &[Stream::Episodes, Stream::Feedback],
            share: Share::Group { rebuild: Some((Stream::Rewards, args.config.done_max as u64)) },
            backoff_ms: (args.config.backoff_ms, args.config.backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        let (joiners, flushes) = (BTreeMap::new(), Vec::new());
        Ok(State {
            args,
            _reading: reading,
            joiners,
            judging: 0,
            recalling: 0,
            flushes,
            is_flushing: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Turn(turn) => state.turn(&myself, turn.0)?,
            Message::Judged(partition, id, said) => state.judged(&myself, partition, &id, said)?,
            Message::Recalled(said) => state.recalled(&myself, said)?,
            Message::Flush(reply) => state.flushes.push(reply),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, myself: &ActorRef<Message>, mut turn: Turn) -> Result<(), LogError> {
        let (changes, records) = turn.take();
        // Others may write without end: what is there when somebody asks is enough.
        let is_read = turn.is_current && records.len() < self.args.config.poll_max;
        self.is_flushing |= is_read && !self.flushes.is_empty();
        let mut next = Next::default();
        // A turn comes once the commits of the one before are durable.
        self.joiners.values_mut().for_each(Joiner::committed);
        for change in changes {
            self.change(change, &mut next)?;
        }
        let now_ms = self.args.clock.now_ms();
        for record in &records {
            if let Some(joiner) = self.joiners.get_mut(&record.partition) {
                absorb(&self.args, joiner, record, now_ms)?;
            }
        }
        for joiner in self.joiners.values_mut() {
            joiner.expire(now_ms)?;
        }
        self.dispatch(myself);
        for joiner in self.joiners.values_mut() {
            next.commits.extend(joiner.take_commit()?);
        }
        let backlog: usize = self.joiners.values().map(Joiner::backlog).sum();
        if self.is_flushing && next.commits.is_empty() && backlog == 0 {
            self.is_flushing = false;
            for reply in self.flushes.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "bounded by pending_max")]
        telemetry::level(telemetry::JUDGE_PENDING, self.observed().pending as f64);
        let oldest = self.joiners.values().map(|joiner| joiner.oldest_age(now_ms)).max();
        telemetry::level(telemetry::JUDGE_OLDEST, oldest.unwrap_or_default().as_secs_f64());
        let config = &self.args.config;
        if !self.is_flushing {
            next.poll_max = config.poll_max.min(config.backlog_max.saturating_sub(backlog));
        }
        next.wait = Duration::from_millis(config.poll_wait_ms);
        turn.go_on(next);
        Ok(())
    }

    /// Takes over a partition, or hands it back: what is pending there its next owner judges.
    fn change(&mut self, change: Change, next: &mut Next) -> Result<(), LogError> {
        let (config, judge) = (self.args.config, self.args.judge.name());
        match change {
            Change::Gained(partition, Ok(state)) => {
                let joiner = Joiner::restored(partition, config, judge, state)?;
                self.joiners.insert(partition, joiner);
            }
            Change::Gained(partition, Err(rewards)) => {
                let joiner = Joiner::taken_over(partition, config, judge, &rewards);
                self.joiners.insert(partition, joiner);
            }
            Change::Leaving(partition) => {
                if let Some(mut joiner) = self.joiners.remove(&partition) {
                    next.commits.extend(joiner.take_commit()?);
                }
                next.release.push(partition);
            }
            Change::Lost(partition) => drop(self.joiners.remove(&partition)),
        }
        Ok(())
    }

    /// Hands due episodes to the judge and looks up due decisions, as many as may be at once.
    fn dispatch(&mut self, myself: &ActorRef<Message>) {
        let now_ms = self.args.clock.now_ms();
        for (partition, joiner) in &mut self.joiners {
            while self.recalling < self.args.config.concurrency {
                let Some(id) = joiner.next_lookup(now_ms) else { break };
                self.recalling += 1;
                look_up(&self.args, myself, *partition, id);
            }
            while self.judging < self.args.config.concurrency {
                let Some((id, task)) = joiner.next_due(now_ms) else { break };
                self.judging += 1;
                ask(&self.args, myself, *partition, (id, task));
            }
        }
    }

    fn judged(
        &mut self,
        myself: &ActorRef<Message>,
        partition: u32,
        id: &DecisionId,
        said: Result<Judgement, String>,
    ) -> Result<(), LogError> {
        self.judging = self.judging.saturating_sub(1);
        if let Some(joiner) = self.joiners.get_mut(&partition) {
            joiner.judged(id, said, self.args.clock.now_ms())?;
        }
        self.dispatch(myself);
        Ok(())
    }

    fn recalled(&mut self, myself: &ActorRef<Message>, said: RecalledBox) -> Result<(), LogError> {
        let RecalledBox(partition, id, said) = said;
        self.recalling = self.recalling.saturating_sub(1);
        if let Some(joiner) = self.joiners.get_mut(&partition) {
            joiner.recalled(&id, said, self.args.clock.now_ms())?;
        }
        self.dispatch(myself);
        Ok(())
    }

    fn observed(&self) -> Observed {
        let mut all = Observed { partitions: self.joiners.len() as u64, ..Observed::default() };
        for joiner in self.joiners.values() {
            all += joiner.observed();
        }
        all
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let _ = reply.send(self.observed());
    }
}

fn ask(
    args: &Args,
    myself: &ActorRef<Message>,
    partition: u32,
    (id, task): (DecisionId, JudgeTask),
) {
    let (judge, myself) = (Arc::clone(&args.judge), myself.clone());
    let deadline = Duration::from_millis(args.config.deadline_ms);
    let span = tracing::info_span!("judge.judge", decision_id = %id);
    let asked = async move {
        let said = match guarded(deadline, async move { judge.judge(&task).await }).await {
            Ok(Ok(judgement)) => Ok(judgement),
            Ok(Err(error)) => Err(error.to_string()),
            Err(broken) => Err(format!("judge gave no verdict: {broken}")),
        };
        let _ = myself.send_message(Message::Judged(partition, id, said));
    };
    ractor::concurrency::spawn(asked.instrument(span));
}

fn look_up(args: &Args, myself: &ActorRef<Message>, partition: u32, id: DecisionId) {
    let (log, myself) = (Arc::clone(&args.log), myself.clone());
    let deadline = Duration::from_millis(args.config.deadline_ms);
    let asked = async move {
        let name = id.clone();
        let said = match guarded(deadline, async move { recall(&log, &name).await }).await {
            Ok(Ok(recalled)) => Ok(recalled),
            Ok(Err(error)) => Err(error.to_string()),
            Err(broken) => Err(format!("the log gave nothing: {broken}")),
        };
        let _ = myself.send_message(Message::Recalled(RecalledBox(partition, id, said)));
    };
    ractor::concurrency::spawn(asked);
}

/// Header of feedback that was sent on to the partition of its decision.
const FORWARDED: &str = "regrade_forwarded";

/// Takes in one record; one that cannot be read goes to the dead letters in the same commit.
fn absorb(args: &Args, joiner: &mut Joiner, record: &Record, now_ms: u64) -> Result<(), LogError> {
    let origin = joiner.read(record);
    let taken = match record.stream {
        Stream::Feedback => match tail::parse_from_outside::<Feedback>(record) {
            Ok(feedback) if is_astray(args, record, &feedback) => {
                joiner.counters.forwarded += 1;
                telemetry::count(telemetry::FEEDBACK, "fate", "forwarded");
                joiner.append(Stream::Feedback, forwarded(record, &feedback));
                Ok(())
            }
            Ok(mut feedback) => match feedback.check() {
                Ok(()) => {
                    if feedback.stamp(now_ms) {
                        joiner.counters.ahead += 1;
                        telemetry::feedback_ahead();
                    }
                    Ok(joiner.feedback(feedback, origin, now_ms)?)
                }
                Err(fault) => Err(fault.to_string()),
            },
            Err(reason) => Err(reason),
        },
        _ => match tail::parse::<Episode>(record) {
            Ok(episode) => Ok(joiner.episode(episode, origin, now_ms)?),
            Err(reason) => Err(reason),
        },
    };
    if let Err(reason) = taken {
        joiner.counters.broken += 1;
        joiner.append(Stream::Deadletter, deadletter("judge", record, &reason));
    }
    Ok(())
}

/// Whether an application's partitioner put feedback elsewhere than its decision's episode.
fn is_astray(args: &Args, record: &Record, feedback: &Feedback) -> bool {
    let home = args.log.partition_of(Stream::Episodes, feedback.decision_id.as_str());
    home != record.partition && !record.headers.contains_key(FORWARDED)
}

fn forwarded(record: &Record, feedback: &Feedback) -> NewRecord {
    let mut headers = record.headers.clone();
    headers.insert(FORWARDED.to_owned(), format!("{}/{}", record.partition, record.offset));
    let key = feedback.decision_id.as_str().to_owned();
    NewRecord { key, headers, payload: record.payload.clone() }
}
