//! The shadows: candidates that decide live queries after the user has the answer, without effect.
//!
//! Floor 2. Has a model thread of its own and a bounded queue that is left out first under load, so
//! that the user's path waits for nothing here. What it finds goes to `regrade.shadows` by best
//! effort: the evidence counts decisions, so a lost one costs time and biases nothing that depends
//! on the candidate.

use crate::bounds::{caught, guarded};
use crate::clock::Clock;
use crate::compute::{Compute, ComputeMode};
use crate::ports::{
    DecideRequest, EventLog, Generator, Judge, JudgeTask, Judgement, Policy, PolicyError, Stream,
};
use crate::rollout::{ShadowConfig, agreement};
use crate::tail::record;
use crate::telemetry;
use crate::types::{
    Candidate, Decision, Document, Exploration, PolicySnapshot, PolicyVersion, Query, Reward,
    ShadowRecord,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// Makes a serving policy, as the reranker's factory does.
pub type PolicyFactory = Arc<dyn Fn() -> Result<Box<dyn Policy>, PolicyError> + Send + Sync>;

/// A served query, for the shadows.
#[derive(Debug)]
pub struct Offer {
    /// The query.
    pub query: Query,
    /// What could be chosen.
    pub candidates: Vec<Candidate>,
    /// What was chosen.
    pub decision: Decision,
    /// Its place in the queue.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What the shadows understand.
pub enum Message {
    /// A served query.
    Offer(Box<Offer>),
    /// The candidates that decide from now on; replies which of them do not load, and why.
    Host(Vec<Arc<PolicySnapshot>>, RpcReplyPort<Vec<(PolicyVersion, String)>>),
    /// One offer is over (sent by itself).
    #[doc(hidden)]
    Over(OverBox),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct OverBox(Result<Outcomes, String>);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Makes a policy.
    pub factory: PolicyFactory,
    /// Where the models run.
    pub compute: ComputeMode,
    /// Answers for a shadow, where it is answered.
    pub generator: Arc<dyn Generator>,
    /// Judges these answers.
    pub judge: Arc<dyn Judge>,
    /// Where the records go.
    pub log: Arc<dyn EventLog>,
    /// Stamps.
    pub clock: Clock,
    /// The candidates that decide; outlives the actor.
    pub hosted: watch::Sender<Vec<Arc<PolicySnapshot>>>,
    /// Rules.
    pub config: ShadowConfig,
}

/// Counters since the last start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Candidates that decide.
    pub hosted: Vec<PolicyVersion>,
    /// Shadow decisions made.
    pub decided: u64,
    /// Of these answered and judged.
    pub answered: u64,
    /// Shadow decisions that failed.
    pub failed: u64,
    /// Records that the log did not take.
    pub unlogged: u64,
    /// Queries waiting.
    pub waiting: usize,
}

/// What one offer came to.
#[derive(Debug, Default)]
struct Outcomes {
    decided: u64,
    answered: u64,
    failed: u64,
    unlogged: u64,
}

type Hosted = BTreeMap<PolicyVersion, Box<dyn Policy>>;

/// The actor.
pub struct Shadow;

#[doc(hidden)]
pub struct State {
    args: Args,
    compute: Compute<Hosted>,
    is_busy: bool,
    /// Bounded by the places that offers hold.
    waiting: VecDeque<Offer>,
    counters: Observed,
}

impl Actor for Shadow {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let compute = Compute::start("shadow", args.compute, 2, Hosted::new())?;
        let (waiting, counters) = (VecDeque::new(), Observed::default());
        // What the life before it hosted: nobody asks again.
        let hosted = args.hosted.borrow().clone();
        if !hosted.is_empty() {
            let (reply, _) = tokio::sync::oneshot::channel();
            let _ = myself.send_message(Message::Host(hosted, RpcReplyPort::from(reply)));
        }
        Ok(State { args, compute, is_busy: false, waiting, counters })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Offer(offer) => state.waiting.push_back(*offer),
            Message::Host(snapshots, reply) => state.host(snapshots, reply).await?,
            Message::Over(over) => state.over(over.0?),
            Message::Observe(reply) => {
                let waiting = state.waiting.len();
                // Whoever asked may have stopped waiting.
                let _ = reply.send(Observed { waiting, ..state.counters.clone() });
            }
        }
        state.next(&myself);
        Ok(())
    }
}

impl State {
    /// Takes the candidates that are new and drops the others. It waits for the model: nobody waits
    /// for the shadows.
    async fn host(
        &mut self,
        snapshots: Vec<Arc<PolicySnapshot>>,
        reply: RpcReplyPort<Vec<(PolicyVersion, String)>>,
    ) -> Result<(), String> {
        let factory = Arc::clone(&self.args.factory);
        self.args.hosted.send_replace(snapshots.clone());
        let take = move |hosted: &mut Hosted| {
            hosted.retain(|version, _| snapshots.iter().any(|s| s.version == *version));
            let mut refused = Vec::new();
            for snapshot in &snapshots {
                if hosted.contains_key(&snapshot.version) {
                    continue;
                }
                let made = caught(|| {
                    let mut policy = factory()?;
                    policy.swap(snapshot).map(|()| policy)
                });
                match made {
                    Ok(Ok(policy)) => drop(hosted.insert(snapshot.version, policy)),
                    Ok(Err(error)) => refused.push((snapshot.version, error.to_string())),
                    Err(panic) => refused.push((snapshot.version, panic)),
                }
            }
            (hosted.keys().copied().collect::<Vec<_>>(), refused)
        };
        let compute = self.compute.clone();
        let limit = Duration::from_millis(self.args.config.deadline_ms);
        let taken = guarded(limit, async move { compute.run(take).await }).await;
        let (hosted, refused) = taken
            .map_err(|broken| format!("shadow models are lost: {broken}"))?
            .map_err(|error| format!("shadow models are lost: {error}"))?;
        self.counters.hosted = hosted;
        let _ = reply.send(refused);
        Ok(())
    }

    fn next(&mut self, myself: &ActorRef<Message>) {
        if self.is_busy || self.counters.hosted.is_empty() {
            self.waiting.truncate(if self.is_busy { usize::MAX } else { 0 });
            return;
        }
        let Some(offer) = self.waiting.pop_front() else { return };
        self.is_busy = true;
        let (args, compute, myself) = (self.args.clone(), self.compute.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let over = work(&args, compute, offer).await;
            // A dead actor needs no message.
            let _ = myself.send_message(Message::Over(OverBox(over)));
        });
    }

    fn over(&mut self, outcomes: Outcomes) {
        self.is_busy = false;
        self.counters.decided += outcomes.decided;
        self.counters.answered += outcomes.answered;
        self.counters.failed += outcomes.failed;
        self.counters.unlogged += outcomes.unlogged;
        telemetry::count_many(telemetry::SHADOWS, ("outcome", "decided"), outcomes.decided);
        telemetry::count_many(telemetry::SHADOWS, ("outcome", "answered"), outcomes.answered);
        telemetry::count_many(telemetry::SHADOWS, ("outcome", "failed"), outcomes.failed);
    }
}

type Decided = Vec<(PolicyVersion, f64, Result<Decision, String>)>;

/// Has every candidate decide the query, answers some, and logs what came of it; `Err` if the
/// models cannot be trusted any more.
async fn work(args: &Args, compute: Compute<Hosted>, offer: Offer) -> Result<Outcomes, String> {
    let limit = Duration::from_millis(args.config.deadline_ms);
    let request = DecideRequest {
        id: offer.decision.id.clone(),
        query: offer.query.clone(),
        candidates: offer.candidates.clone(),
        policy: None,
        limits: offer.decision.limits,
        // What it would serve at its best: chance would only blur the agreement.
        exploration: Exploration::Greedy,
    };
    let decide = move |hosted: &mut Hosted| decide(hosted, &request);
    let decided = guarded(limit, async move { compute.run(decide).await }).await;
    let decided = decided
        .map_err(|broken| format!("shadow models are lost: {broken}"))?
        .map_err(|error| format!("shadow models are lost: {error}"))?;
    let mut outcomes = Outcomes::default();
    let mut records = Vec::new();
    for (version, decide_ms, result) in decided {
        let mut shadow = of(&offer, version, decide_ms, args.clock.now_ms());
        match result {
            Ok(decision) => {
                outcomes.decided += 1;
                shadow.agreement = Some(agreement(&offer.decision, &decision));
                shadow.context_tokens = decision.context_tokens();
                shadow.policy = decision.policy.clone();
                if is_answered(&offer.decision, args.config.answered) {
                    let answered = answered(args, &offer, &decision);
                    shadow.reward = tokio::time::timeout(limit, answered).await.ok().flatten();
                    outcomes.answered += u64::from(shadow.reward.is_some());
                }
                shadow.order = decision.order;
            }
            Err(reason) => {
                outcomes.failed += 1;
                shadow.error = Some(reason);
            }
        }
        let id = format!("{}-{version}", shadow.decision_id);
        let key = shadow.decision_id.to_string();
        records.extend(record(&key, (&id, Stream::Shadows.topic()), &shadow));
    }
    let (log, count) = (Arc::clone(&args.log), records.len() as u64);
    let logged = guarded(limit, async move { log.append(Stream::Shadows, records).await }).await;
    if !matches!(logged, Ok(Ok(_))) {
        outcomes.unlogged += count;
        tracing::warn!(count, "shadow decisions are not in the log");
    }
    Ok(outcomes)
}

/// One decision a candidate, with its time in milliseconds.
fn decide(hosted: &mut Hosted, request: &DecideRequest) -> Decided {
    let mut decided = Vec::with_capacity(hosted.len());
    // Greedy decisions throw no dice.
    let mut rng = StdRng::seed_from_u64(0);
    for (version, policy) in hosted.iter_mut() {
        let began = Instant::now();
        let result = caught(|| policy.decide(std::slice::from_ref(request), &mut rng));
        let result = match result {
            Ok(mut decisions) if decisions.len() == 1 => {
                decisions.remove(0).map_err(|error| error.to_string())
            }
            Ok(decisions) => Err(format!("policy made {} decisions of one", decisions.len())),
            Err(panic) => Err(format!("policy panicked: {panic}")),
        };
        decided.push((*version, began.elapsed().as_secs_f64() * 1e3, result));
    }
    decided
}

fn of(offer: &Offer, version: PolicyVersion, decide_ms: f64, time_ms: u64) -> ShadowRecord {
    ShadowRecord {
        schema: ShadowRecord::SCHEMA,
        decision_id: offer.decision.id.clone(),
        policy: crate::types::PolicyStamp { version, ..Default::default() },
        served: offer.decision.policy.clone(),
        order: Vec::new(),
        context_tokens: 0,
        served_tokens: offer.decision.context_tokens(),
        agreement: None,
        decide_ms,
        error: None,
        reward: None,
        time_ms,
    }
}

/// Whether this decision is among the share that is answered: by its id, so that all candidates
/// answer the same queries.
fn is_answered(decision: &Decision, share: f64) -> bool {
    crate::rollout::bucket(decision.id.as_str(), PolicyVersion(0)) < share
}

/// Answers and judges what a shadow chose; `None` where either cannot.
async fn answered(args: &Args, offer: &Offer, decision: &Decision) -> Option<Reward> {
    let document = |index: &u32| offer.candidates.get(*index as usize).map(|c| c.document.clone());
    let documents: Vec<Document> = decision.order.iter().filter_map(document).collect();
    let answer = args.generator.answer(&offer.query, &documents).await.ok()?;
    let id = decision.id.as_str();
    let mut task = JudgeTask::new(id, offer.query.clone(), documents, answer);
    task.gate = decision.gate;
    match args.judge.judge(&task).await {
        Ok(Judgement::Scored { reward }) => Some(reward),
        _ => None,
    }
}
