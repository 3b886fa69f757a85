//! What an operator asks of a running service: the board, and to take weights back at once.
//!
//! Every change is a record in the log, as the promoter's are, so that all nodes follow; this node
//! answers once it does itself.

use super::{OBSERVE_DEADLINE, OperatorError, ServiceHandle};
use crate::bounds::guarded;
use crate::ports::Stream;
use crate::promoter::policy_record;
use crate::rollout::Board;
use crate::telemetry;
use crate::types::{PolicyRecord, PolicyState, PolicyVersion};
use crate::{policy_follower, reranker};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a rollback came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The version that was taken back, and its state before.
    pub version: PolicyVersion,
    /// Its state before.
    pub from: PolicyState,
    /// Who is champion now.
    pub champion: PolicyVersion,
    /// From the call until this node did so, milliseconds.
    pub took_ms: f64,
}

/// Pause between two looks at whether the change has arrived.
const LOOK: Duration = Duration::from_millis(2);

impl ServiceHandle {
    /// What the records of the policies come to on this node.
    ///
    /// # Errors
    /// The stream is still being read, or this process does not serve.
    pub async fn board(&self) -> Result<Board, OperatorError> {
        let slot = &self.0.core.policy_follower;
        let deadline = Instant::now() + OBSERVE_DEADLINE;
        match slot.call(policy_follower::Message::Board, deadline).await {
            Ok(Some(board)) => Ok(board),
            Ok(None) => Err(OperatorError::Unavailable("the policies are still being read".into())),
            Err(error) => Err(OperatorError::Unavailable(error.to_string())),
        }
    }

    /// Takes a version back from whatever state it is in: the champion (or `None`) to the one before
    /// it, a candidate out of its stage. Done when this node serves nobody with it any more.
    ///
    /// # Errors
    /// A version that is not under way, nothing before the champion, or a log that takes no records.
    pub async fn rollback(
        &self,
        version: Option<PolicyVersion>,
        reason: &str,
        wait: Duration,
    ) -> Result<RolledBack, OperatorError> {
        let began = Instant::now();
        let core = &self.0.core;
        let board = self.board().await?;
        let now_ms = core.ports.clock.now_ms();
        let champion = board.champion();
        let version = match version.or(champion) {
            Some(version) => version,
            None => {
                return Err(OperatorError::Refused(
                    "no version was ever made champion: there is nothing to roll back".into(),
                ));
            }
        };
        let standing = board.standing(version).map(|standing| standing.record.clone());
        let Some(record) = standing.filter(|r| r.state != PolicyState::Retired) else {
            return Err(OperatorError::Refused(format!("{version} is not under way")));
        };
        let from = record.state;
        let records = if Some(version) == champion {
            let records = board.rollback(&core.ports.first, reason, now_ms);
            records.map(Vec::from).ok_or_else(|| {
                OperatorError::Refused(format!("there is nothing before {version}"))
            })?
        } else {
            let (state, reason) = (PolicyState::Retired, reason.to_owned());
            vec![PolicyRecord { state, reason, step: None, time_ms: now_ms, ..record }]
        };
        let is_first = records.iter().any(|record| record.digest == core.ports.first.digest);
        let first = core.ports.snapshots.put(&core.ports.first);
        if is_first && let Err(error) = first.await {
            // Whoever has them at hand needs no store; a store that is away delays nobody.
            tracing::warn!(%error, "the first weights are not in the store");
        }
        telemetry::count(telemetry::ROLLBACKS, "why", "operator");
        tracing::warn!(%version, from = from.word(), reason, "rolled back by an operator");
        let target = records.iter().find(|r| r.state == PolicyState::Champion).map(|r| r.version);
        self.append(records, wait).await?;
        let champion = self.followed(version, target, began + wait).await?;
        let took_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(RolledBack { version, from, champion, took_ms })
    }

    async fn append(
        &self,
        records: Vec<PolicyRecord>,
        wait: Duration,
    ) -> Result<(), OperatorError> {
        let new: Result<Vec<_>, String> = records.iter().map(policy_record).collect();
        let new = new.map_err(OperatorError::Refused)?;
        let log = Arc::clone(&self.0.core.ports.log);
        match guarded(wait, async move { log.append(Stream::Policies, new).await }).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(OperatorError::Unavailable(error.to_string())),
            Err(broken) => Err(OperatorError::Unavailable(broken.to_string())),
        }
    }

    /// Waits until this node serves nobody with the version; gives the champion then.
    async fn followed(
        &self,
        version: PolicyVersion,
        target: Option<PolicyVersion>,
        deadline: Instant,
    ) -> Result<PolicyVersion, OperatorError> {
        let core = &self.0.core;
        loop {
            let board = self.board().await?;
            let is_retired =
                board.standing(version).is_none_or(|s| s.record.state == PolicyState::Retired);
            let is_routed = core.routing.borrow().canaries.iter().any(|(v, _)| *v == version);
            let serving = self.policy().version;
            let is_served = serving == version && target.is_some_and(|t| t != version);
            if is_retired && !is_routed && !is_served {
                // Who was let in before may still ask for it: nothing is decided by it from here on.
                let build = |reply| reranker::Message::Forget(version, reply);
                let forgotten = core.context.reranker.call(build, deadline).await;
                return forgotten.map(|()| serving).map_err(|error| {
                    OperatorError::Unavailable(format!("{version} is retired, but {error}"))
                });
            }
            if Instant::now() >= deadline {
                return Err(OperatorError::Unavailable(format!(
                    "{version} is retired on record, but this node has not followed yet"
                )));
            }
            sleep(LOOK).await;
        }
    }
}
