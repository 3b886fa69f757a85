//! The root of the supervision tree: starts the children, restarts the dead, gives up the hopeless.
//!
//! Knows no child but its name. Each has a restart budget of its own; one that spent it stays down,
//! says why, and the others go on.

use super::SupervisionConfig;
use crate::bounds::jittered;
use crate::slot::{Reply, Slot};
use crate::tail::backoff;
use crate::telemetry;
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, Message as Mail, RpcReplyPort, SupervisionEvent,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where a child stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChildState {
    /// It runs.
    Up,
    /// It died and comes back after a pause.
    Restarting,
    /// Its restart budget is spent.
    GivenUp {
        /// What it died of last.
        reason: String,
    },
    /// It was stopped on purpose.
    Stopped,
}

/// One child as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    /// Which.
    pub name: String,
    /// Where it stands.
    #[serde(flatten)]
    pub state: ChildState,
    /// Restarts since the service started.
    pub restarts: u64,
}

type Spawn = Arc<dyn Fn(ActorCell, u64) -> Reply<Result<ActorCell, String>> + Send + Sync>;
type Address = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// How a child is made and where its address stands.
pub(super) struct Child {
    name: &'static str,
    spawn: Spawn,
    address: Address,
}

impl Child {
    /// A child whose arguments may depend on its generation (0 for the first life).
    pub(super) fn new<A>(
        make: fn() -> A,
        slot: &Slot<A::Msg>,
        args: impl Fn(u64) -> A::Arguments + Send + Sync + 'static,
    ) -> Self
    where
        A: Actor,
        A::Msg: Mail,
    {
        let name = slot.name();
        let (up, down) = (slot.clone(), slot.clone());
        let spawn: Spawn = Arc::new(move |supervisor, generation| {
            let (slot, args) = (up.clone(), args(generation));
            Box::pin(async move {
                let spawned = A::spawn_linked(None, make(), args, supervisor).await;
                let (actor, _) = spawned.map_err(|error| error.to_string())?;
                slot.set_up(actor.clone());
                Ok(actor.get_cell())
            })
        });
        let address: Address = Arc::new(move |reason| match reason {
            None => down.set_starting(),
            Some(reason) => down.set_down(reason),
        });
        Self { name, spawn, address }
    }
}

/// What the supervisor understands.
pub(super) enum Message {
    /// Starts a dead child again (sent by itself).
    Restart(usize),
    /// Asks where the children stand.
    Status(RpcReplyPort<Vec<ChildStatus>>),
    /// Stops a child for good; replies when it is gone.
    Stop(&'static str, RpcReplyPort<()>),
    /// Kills a child, as a fault would.
    #[cfg(feature = "fakes")]
    Kill(String),
}

pub(super) struct Args {
    pub(super) children: Vec<Child>,
    pub(super) seed: u64,
    pub(super) config: SupervisionConfig,
}

pub(super) struct Supervisor;

pub(super) struct State {
    config: SupervisionConfig,
    rng: StdRng,
    entries: Vec<Entry>,
}

struct Entry {
    child: Child,
    cell: Option<ActorCell>,
    state: ChildState,
    restarts: u64,
    deaths: VecDeque<Instant>,
    stopping: Option<RpcReplyPort<()>>,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let mut entries = Vec::with_capacity(args.children.len());
        for child in args.children {
            let cell = (child.spawn)(myself.get_cell(), 0).await?;
            entries.push(Entry {
                child,
                cell: Some(cell),
                state: ChildState::Up,
                restarts: 0,
                deaths: VecDeque::new(),
                stopping: None,
            });
        }
        Ok(State { config: args.config, rng: StdRng::seed_from_u64(args.seed), entries })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Restart(index) => state.restart(&myself, index).await,
            Message::Status(reply) => state.status(reply),
            Message::Stop(name, reply) => state.stop(name, reply),
            #[cfg(feature = "fakes")]
            Message::Kill(name) => state.kill(&name),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                state.died(&myself, &cell, &error.to_string());
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                state.died(&myself, &cell, &reason.unwrap_or_else(|| "it ended".to_owned()));
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl State {
    fn died(&mut self, myself: &ActorRef<Message>, cell: &ActorCell, reason: &str) {
        let is_it = |entry: &Entry| entry.cell.as_ref().is_some_and(|c| c.get_id() == cell.get_id());
        let Some(index) = self.entries.iter().position(is_it) else { return };
        if let Some(entry) = self.entries.get_mut(index) {
            entry.cell = None;
        }
        self.bury(myself, index, reason);
    }

    /// Decides what becomes of a dead child.
    fn bury(&mut self, myself: &ActorRef<Message>, index: usize, reason: &str) {
        let config = self.config;
        let Some(entry) = self.entries.get_mut(index) else { return };
        if let Some(reply) = entry.stopping.take() {
            entry.state = ChildState::Stopped;
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
            return;
        }
        if entry.state == ChildState::Stopped {
            return;
        }
        let now = Instant::now();
        let window = Duration::from_millis(config.window_ms);
        entry.deaths.retain(|death| now.duration_since(*death) < window);
        entry.deaths.push_back(now);
        if entry.deaths.len() > config.restarts_max {
            telemetry::actor_given_up(entry.child.name, reason);
            (entry.child.address)(Some(&format!("restart budget is spent: {reason}")));
            entry.state = ChildState::GivenUp { reason: reason.to_owned() };
            return;
        }
        (entry.child.address)(None);
        entry.state = ChildState::Restarting;
        let deaths = u32::try_from(entry.deaths.len()).unwrap_or(u32::MAX);
        let pause = backoff(
            deaths,
            Duration::from_millis(config.backoff_ms),
            Duration::from_millis(config.backoff_max_ms),
        );
        let pause = jittered(pause, &mut self.rng);
        telemetry::actor_restarts(entry.child.name, reason, entry.deaths.len(), pause);
        myself.send_after(pause, move || Message::Restart(index));
    }

    async fn restart(&mut self, myself: &ActorRef<Message>, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        if entry.state != ChildState::Restarting {
            return;
        }
        entry.restarts += 1;
        match (entry.child.spawn)(myself.get_cell(), entry.restarts).await {
            Ok(cell) => {
                entry.cell = Some(cell);
                entry.state = ChildState::Up;
            }
            Err(reason) => self.bury(myself, index, &reason),
        }
    }

    fn status(&self, reply: RpcReplyPort<Vec<ChildStatus>>) {
        let status = |entry: &Entry| ChildStatus {
            name: entry.child.name.to_owned(),
            state: entry.state.clone(),
            restarts: entry.restarts,
        };
        let _ = reply.send(self.entries.iter().map(status).collect());
    }

    fn stop(&mut self, name: &str, reply: RpcReplyPort<()>) {
        let entry = self.entries.iter_mut().find(|entry| entry.child.name == name);
        let Some(entry) = entry else {
            let _ = reply.send(());
            return;
        };
        (entry.child.address)(Some("it is stopped"));
        match &entry.cell {
            Some(cell) => {
                entry.stopping = Some(reply);
                cell.stop(None);
            }
            None => {
                entry.state = ChildState::Stopped;
                let _ = reply.send(());
            }
        }
    }

    #[cfg(feature = "fakes")]
    fn kill(&self, name: &str) {
        let entry = self.entries.iter().find(|entry| entry.child.name == name);
        if let Some(cell) = entry.and_then(|entry| entry.cell.as_ref()) {
            cell.kill();
        }
    }
}
