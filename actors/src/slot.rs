//! An address that survives a restart: it holds the current `ActorRef` and swaps it inside.
//!
//! Floor 1. A call through a slot waits, up to its deadline, for the actor to be back, and repeats
//! the message if the actor died with it; so callers send only what may be repeated.

use ractor::{ActorRef, Message, RpcReplyPort};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// Why a call through a slot gave no reply.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum SlotError {
    /// No reply within the deadline.
    #[error("`{0}` did not reply within its deadline")]
    Deadline(&'static str),
    /// The actor is not run here, or its restart budget is spent.
    #[error("`{0}` is down: {1}")]
    Down(&'static str, String),
    /// The actor died with the message each time.
    #[error("`{0}` died with the request {1} times")]
    Died(&'static str, usize),
}

/// A request to another actor without knowing its module: made by the service, handed in `Args`.
pub type Request<A, T> = Arc<dyn Fn(A) -> Reply<T> + Send + Sync>;

/// The future of a [`Request`].
pub type Reply<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Address<M> {
    Starting,
    Up(ActorRef<M>),
    Down(String),
}

/// The address of one child. Clones are the same address.
pub struct Slot<M> {
    name: &'static str,
    attempts_max: usize,
    address: Arc<watch::Sender<Address<M>>>,
}

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            attempts_max: self.attempts_max,
            address: Arc::clone(&self.address),
        }
    }
}

impl<M: Message> Slot<M> {
    /// An address without an actor yet. A call is sent at most `attempts_max` times (≥ 1).
    pub fn new(name: &'static str, attempts_max: usize) -> Self {
        Self { name, attempts_max, address: Arc::new(watch::channel(Address::Starting).0) }
    }

    /// The name given at construction.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Puts a freshly started actor in.
    pub fn set_up(&self, actor: ActorRef<M>) {
        self.address.send_replace(Address::Up(actor));
    }

    /// Takes a dead actor out; calls wait for the next.
    pub fn set_starting(&self) {
        self.address.send_replace(Address::Starting);
    }

    /// Says that there will be no other actor; calls fail at once.
    pub fn set_down(&self, reason: impl Into<String>) {
        self.address.send_replace(Address::Down(reason.into()));
    }

    /// The current actor, if one is up.
    pub fn current(&self) -> Option<ActorRef<M>> {
        match &*self.address.borrow() {
            Address::Up(actor) => Some(actor.clone()),
            Address::Starting | Address::Down(_) => None,
        }
    }

    /// Sends without waiting; `false` if no actor is up.
    pub fn cast(&self, message: M) -> bool {
        self.current().is_some_and(|actor| actor.send_message(message).is_ok())
    }

    /// Sends the message that `build` makes and waits for its reply until `deadline`; repeats it
    /// when the actor dies with it.
    pub async fn call<T, F>(&self, build: F, deadline: Instant) -> Result<T, SlotError>
    where
        T: Send + 'static,
        F: Fn(RpcReplyPort<T>) -> M + Send + Sync,
    {
        let mut last = None;
        for _ in 0..self.attempts_max.max(1) {
            let actor = self.successor_of(last.as_ref(), deadline).await?;
            last = Some(actor.clone());
            let (reply, result) = oneshot::channel();
            if actor.send_message(build(RpcReplyPort::from(reply))).is_err() {
                continue;
            }
            match timeout_at(deadline, result).await {
                Err(_) => return Err(SlotError::Deadline(self.name)),
                Ok(Ok(value)) => return Ok(value),
                // The port was dropped: the actor died with the message.
                Ok(Err(_)) => {}
            }
        }
        Err(SlotError::Died(self.name, self.attempts_max.max(1)))
    }

    /// Waits for an actor other than `last`, which died.
    async fn successor_of(
        &self,
        last: Option<&ActorRef<M>>,
        deadline: Instant,
    ) -> Result<ActorRef<M>, SlotError> {
        let mut address = self.address.subscribe();
        let dead = last.map(|actor| actor.get_id());
        let found = address.wait_for(|address| match address {
            Address::Up(actor) => Some(actor.get_id()) != dead,
            Address::Starting => false,
            Address::Down(_) => true,
        });
        match timeout_at(deadline, found).await {
            Ok(Ok(address)) => match &*address {
                Address::Up(actor) => Ok(actor.clone()),
                Address::Down(reason) => Err(SlotError::Down(self.name, reason.clone())),
                Address::Starting => Err(SlotError::Deadline(self.name)),
            },
            Ok(Err(_)) => Err(SlotError::Down(self.name, "the service has stopped".to_owned())),
            Err(_) => Err(SlotError::Deadline(self.name)),
        }
    }
}
