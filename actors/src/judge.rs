//! The judge: joins feedback to episodes, asks the judge port, appends rewards.
//!
//! Floor 2. Its memory is derived state of the log, committed in one step with its positions and
//! rewards, so that a restart loses and repeats nothing. It never slows an answer: it only reads.

mod config;
mod join;

use crate::bounds::guarded;
use crate::clock::Clock;
use crate::invariants::{
    EpisodeEnds, FeedbackFates, episodes_are_conserved, feedback_is_conserved,
};
use crate::ports::{self, Commit, EventLog, JudgeTask, LogError, Record, Stream};
use crate::tail::{self, Consumer, Opened, Step, Stepped, Task, backoff, deadletter};
use crate::telemetry;
use crate::types::{DecisionId, Verdict};
pub use config::Config;
use join::Joiner;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// Counters; part of the derived state, so they count over restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Episodes read, repeats left out.
    pub episodes: u64,
    /// Repeats of an episode.
    pub episode_duplicates: u64,
    /// Episodes with a reward.
    pub judged: u64,
    /// Episodes the judge abstained on.
    pub abstained: u64,
    /// Episodes given up after the judge had failed as often as it may.
    #[serde(default)]
    pub given_up: u64,
    /// Episodes that waited in vain, those evicted included.
    pub expired: u64,
    /// Of these, the ones that had to go early.
    pub evicted: u64,
    /// Episodes that failed and are not judged.
    pub failed: u64,
    /// Episodes without a verdict so far.
    pub pending: u64,
    /// Feedback read.
    pub feedback: u64,
    /// Feedback joined to its episode.
    pub joined: u64,
    /// Feedback whose episode had its verdict already.
    pub late: u64,
    /// Feedback whose episode never came.
    pub orphan: u64,
    /// Feedback seen before.
    pub duplicate: u64,
    /// Feedback that waits for its episode.
    pub early: u64,
    /// Judge calls that failed.
    pub retries: u64,
    /// Records that could not be read.
    pub broken: u64,
}

impl Observed {
    /// Whether both conservation laws hold.
    pub fn is_conserved(&self) -> bool {
        let ends = EpisodeEnds {
            judged: self.judged,
            abstained: self.abstained,
            given_up: self.given_up,
            expired: self.expired,
            failed: self.failed,
            pending: self.pending,
        };
        let fates = FeedbackFates {
            joined: self.joined,
            late: self.late,
            orphan: self.orphan,
            duplicate: self.duplicate,
            early: self.early,
        };
        episodes_are_conserved(self.episodes, &ends) && feedback_is_conserved(self.feedback, &fates)
    }
}

/// What the judge understands.
pub enum Message {
    /// The log is open, or not (sent by itself).
    #[doc(hidden)]
    Opened(OpenedBox),
    /// A step on the log is over (sent by itself).
    #[doc(hidden)]
    Stepped(SteppedBox),
    /// The judge port said something (sent by itself).
    Judged(DecisionId, Result<Option<Verdict>, String>),
    /// Replies once everything in the log is read, nothing is due and all is durable.
    Flush(RpcReplyPort<()>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct OpenedBox(Opened);
#[doc(hidden)]
pub struct SteppedBox(Stepped);

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
    joiner: Option<Joiner>,
    task: Option<Task>,
    judging: usize,
    log_failures: u32,
    flushes: Vec<RpcReplyPort<()>>,
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
        let mut state = State {
            args,
            joiner: None,
            task: None,
            judging: 0,
            log_failures: 0,
            flushes: Vec::new(),
        };
        state.open(&myself, Duration::ZERO);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Opened(opened) => state.opened(&myself, opened.0)?,
            Message::Stepped(stepped) => state.stepped(&myself, stepped.0)?,
            Message::Judged(id, said) => state.judged(&myself, &id, said)?,
            Message::Flush(reply) => state.flushes.push(reply),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn open(&mut self, myself: &ActorRef<Message>, delay: Duration) {
        const STREAMS: &[Stream] = &[Stream::Episodes, Stream::Feedback];
        let what = ("judge".to_owned(), STREAMS);
        self.task = Some(tail::open(myself, &self.args.log, what, delay, |opened| {
            Message::Opened(OpenedBox(opened))
        }));
    }

    fn opened(
        &mut self,
        myself: &ActorRef<Message>,
        opened: Opened,
    ) -> Result<(), ActorProcessingErr> {
        match opened {
            Ok((consumer, state)) => {
                self.log_failures = 0;
                let name = self.args.judge.name();
                self.joiner = Some(Joiner::restored(self.args.config, name, state)?);
                self.dispatch(myself);
                self.step(myself, consumer, None, Duration::ZERO);
            }
            Err(error) => {
                let delay = self.log_failed(&error);
                self.open(myself, delay);
            }
        }
        Ok(())
    }

    fn stepped(
        &mut self,
        myself: &ActorRef<Message>,
        stepped: Stepped,
    ) -> Result<(), ActorProcessingErr> {
        let Stepped { consumer, uncommitted, polled } = stepped;
        if let Some((commit, error)) = uncommitted {
            let delay = self.log_failed(&error);
            self.step(myself, consumer, Some(commit), delay);
            return Ok(());
        }
        let (records, delay) = match polled {
            Ok(records) => {
                self.log_failures = 0;
                (records, Duration::ZERO)
            }
            Err(error) => (Vec::new(), self.log_failed(&error)),
        };
        let is_idle = records.is_empty() && delay.is_zero();
        let now_ms = self.args.clock.now_ms();
        let Some(joiner) = &mut self.joiner else { return Err("judge has no state".into()) };
        for record in &records {
            absorb(joiner, record, now_ms)?;
        }
        joiner.expire(now_ms)?;
        self.dispatch(myself);
        let Some(joiner) = &mut self.joiner else { return Err("judge has no state".into()) };
        let commit = joiner.take_commit()?;
        if is_idle && commit.is_none() && joiner.backlog() == 0 {
            for reply in self.flushes.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "bounded by pending_max")]
        telemetry::level(telemetry::JUDGE_PENDING, joiner.observed().pending as f64);
        telemetry::level(telemetry::JUDGE_OLDEST, joiner.oldest_age(now_ms).as_secs_f64());
        self.step(myself, consumer, commit, delay);
        Ok(())
    }

    fn step(
        &mut self,
        myself: &ActorRef<Message>,
        consumer: Consumer,
        commit: Option<Commit>,
        delay: Duration,
    ) {
        let config = &self.args.config;
        let backlog = self.joiner.as_ref().map_or(0, Joiner::backlog);
        let poll_max = config.poll_max.min(config.backlog_max.saturating_sub(backlog));
        let wait = Duration::from_millis(config.poll_wait_ms);
        let step = Step { consumer, commit, poll_max, wait, delay };
        self.task = Some(tail::step(myself, step, |s| Message::Stepped(SteppedBox(s))));
    }

    /// Hands due episodes to the judge, as many as may be there at once.
    fn dispatch(&mut self, myself: &ActorRef<Message>) {
        let now_ms = self.args.clock.now_ms();
        let Some(joiner) = &mut self.joiner else { return };
        while self.judging < self.args.config.concurrency {
            let Some((id, task)) = joiner.next_due(now_ms) else { break };
            self.judging += 1;
            ask(&self.args, myself, id, task);
        }
    }

    fn judged(
        &mut self,
        myself: &ActorRef<Message>,
        id: &DecisionId,
        said: Result<Option<Verdict>, String>,
    ) -> Result<(), LogError> {
        self.judging = self.judging.saturating_sub(1);
        if let Some(joiner) = &mut self.joiner {
            joiner.judged(id, said, self.args.clock.now_ms())?;
        }
        self.dispatch(myself);
        Ok(())
    }

    fn log_failed(&mut self, error: &LogError) -> Duration {
        self.log_failures = self.log_failures.saturating_add(1);
        let config = &self.args.config;
        let delay = backoff(
            self.log_failures,
            Duration::from_millis(config.backoff_ms),
            Duration::from_millis(config.backoff_max_ms),
        );
        telemetry::log_failed("judge", error, delay);
        delay
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let _ = reply.send(self.joiner.as_ref().map(Joiner::observed).unwrap_or_default());
    }
}

fn ask(args: &Args, myself: &ActorRef<Message>, id: DecisionId, task: JudgeTask) {
    let (judge, myself) = (Arc::clone(&args.judge), myself.clone());
    let deadline = Duration::from_millis(args.config.deadline_ms);
    let span = tracing::info_span!("judge.judge", decision_id = %id);
    let asked = async move {
        let said = match guarded(deadline, async move { judge.judge(&task).await }).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(error)) => Err(error.to_string()),
            Err(broken) => Err(format!("judge gave no verdict: {broken}")),
        };
        let _ = myself.send_message(Message::Judged(id, said));
    };
    ractor::concurrency::spawn(asked.instrument(span));
}

/// Takes in one record; one that cannot be read goes to the dead letters in the same commit.
fn absorb(joiner: &mut Joiner, record: &Record, now_ms: u64) -> Result<(), LogError> {
    let parsed = match record.stream {
        Stream::Feedback => match serde_json::from_slice(&record.payload) {
            Ok(feedback) => Ok(joiner.feedback(feedback, now_ms)?),
            Err(error) => Err(error),
        },
        _ => match serde_json::from_slice(&record.payload) {
            Ok(episode) => Ok(joiner.episode(episode, now_ms)?),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = parsed {
        joiner.counters.broken += 1;
        let letter = deadletter("judge", record, &error.to_string());
        joiner.commit_mut().appends.push((Stream::Deadletter, letter));
    }
    let place = (record.stream, record.partition, record.offset + 1);
    let positions = &mut joiner.commit_mut().positions;
    positions.retain(|(stream, partition, _)| (*stream, *partition) != (place.0, place.1));
    positions.push(place);
    Ok(())
}
