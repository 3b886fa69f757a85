//! Canaries and shadows on this node: fetched, hosted, and only then routed to.
//!
//! A canary that ends leaves the routing at once, before anything else is done; one that begins gets
//! its units when its weights are hosted.

use super::{Message, State};
use crate::bounds::guarded;
use crate::ports::SnapshotStore;
use crate::rollout::{Grant, Routing};
use crate::slot::Reply;
use crate::tail::backoff;
use crate::types::{Digest, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use ractor::ActorRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The weights to be hosted: canaries beside the champion, shadows apart.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Candidates in their canary.
    pub canaries: Vec<Arc<PolicySnapshot>>,
    /// Candidates in their shadow.
    pub shadows: Vec<Arc<PolicySnapshot>>,
}

/// Hosts all of these and nothing else; gives those that are hosted, and whether another try may
/// do better.
pub type HostBoth =
    Arc<dyn Fn((Wanted, Instant)) -> Reply<(BTreeSet<PolicyVersion>, bool)> + Send + Sync>;

/// What came of a try.
#[derive(Debug)]
pub struct Hosted {
    asked: BTreeSet<(PolicyVersion, Digest, bool)>,
    kept: BTreeMap<PolicyVersion, Arc<PolicySnapshot>>,
    hosted: BTreeSet<PolicyVersion>,
    is_again: bool,
}

/// Where hosting stands.
#[derive(Debug, Default)]
pub(super) struct Arms {
    /// What was hosted last: version, digest, whether it is a canary.
    asked: BTreeSet<(PolicyVersion, Digest, bool)>,
    /// Weights at hand, so that a shadow that becomes a canary is not fetched twice.
    kept: BTreeMap<PolicyVersion, Arc<PolicySnapshot>>,
    hosted: BTreeSet<PolicyVersion>,
    is_busy: bool,
    /// After a failure, until `Retry`.
    is_paused: bool,
    failures: u32,
}

impl Arms {
    pub(super) fn kept(&self) -> impl Iterator<Item = &Arc<PolicySnapshot>> {
        self.kept.values()
    }
}

impl State {
    /// The pause after a failure is over.
    pub(super) fn rested(&mut self) {
        self.arms.is_paused = false;
    }

    /// Routes by the board, and hosts what that still lacks.
    pub(super) fn reconcile(&mut self, myself: &ActorRef<Message>) {
        if !self.is_at_end {
            return;
        }
        let wanted = self.wanted();
        self.route();
        let asked: BTreeSet<_> = wanted
            .iter()
            .map(|r| (r.version, r.digest.clone(), r.state == PolicyState::Canary))
            .collect();
        if self.arms.is_busy || self.arms.is_paused || asked == self.arms.asked {
            return;
        }
        self.arms.is_busy = true;
        let (args, kept) = (self.args.clone(), self.arms.kept.clone());
        let myself = myself.clone();
        ractor::concurrency::spawn(async move {
            let limit = Duration::from_millis(args.config.deadline_ms);
            let deadline = Instant::now() + limit;
            let (store, host) = (Arc::clone(&args.snapshots), Arc::clone(&args.host));
            let work = fetch_and_host(store, host, (wanted, kept), deadline);
            let over: Result<Fetched, _> = guarded(limit, work).await;
            let (kept, hosted, is_again) = over.unwrap_or_else(|broken| {
                tracing::warn!(%broken, "candidates cannot be hosted");
                (BTreeMap::new(), BTreeSet::new(), true)
            });
            // A dead actor needs no message.
            let _ = myself.send_message(Message::Hosted(Hosted { asked, kept, hosted, is_again }));
        });
    }

    pub(super) fn hosted(&mut self, myself: &ActorRef<Message>, over: Hosted) {
        let arms = &mut self.arms;
        arms.is_busy = false;
        arms.kept = over.kept;
        arms.hosted = over.hosted;
        if over.is_again {
            arms.failures = arms.failures.saturating_add(1);
            arms.is_paused = true;
            let config = &self.args.config;
            let base = Duration::from_millis(config.backoff_ms);
            let max = Duration::from_millis(config.backoff_max_ms);
            myself.send_after(backoff(arms.failures, base, max), || Message::Retry);
        } else {
            arms.failures = 0;
            arms.asked = over.asked;
        }
        self.route();
        if !over.is_again {
            self.reconcile(myself);
        }
    }

    /// The canaries and shadows that may be hosted here.
    fn wanted(&mut self) -> Vec<PolicyRecord> {
        let canaries: Vec<PolicyRecord> =
            self.board.in_state(PolicyState::Canary).map(|s| s.record.clone()).collect();
        let mut wanted = Vec::new();
        for record in canaries {
            let known = (record.version, record.digest.clone(), true);
            let share = record.share.unwrap_or(1.0);
            // What was checked and hosted before is not checked at every turn.
            if self.arms.asked.contains(&known) || self.may_serve(&record, Grant::Canary(share)) {
                wanted.push(record);
            }
        }
        wanted.extend(self.board.in_state(PolicyState::Shadow).map(|s| s.record.clone()));
        wanted
    }

    /// Tells everyone who serves which units: only what is hosted, and only as far as its
    /// certificate goes.
    fn route(&mut self) {
        let mut routing = Routing::of(&self.board, self.args.interleaved);
        // Beside a canary it would only take units from it.
        routing.aa = if routing.canaries.is_empty() { self.args.aa_share } else { 0.0 };
        routing.canaries.retain(|(version, _)| self.arms.hosted.contains(version));
        let shares = std::mem::take(&mut routing.canaries);
        for (version, share) in shares {
            let record = self.board.standing(version).map(|s| s.record.clone());
            if record.is_some_and(|record| self.may_serve(&record, Grant::Canary(share))) {
                routing.canaries.push((version, share));
            }
        }
        self.counters.canaries = routing.canaries.len() as u64;
        self.args.routing.send_if_modified(|now| {
            let is_new = **now != routing;
            if is_new {
                tracing::info!(canaries = ?routing.canaries, shadows = ?routing.shadows, "routing");
                *now = Arc::new(routing);
            }
            is_new
        });
    }
}

type Fetched = (BTreeMap<PolicyVersion, Arc<PolicySnapshot>>, BTreeSet<PolicyVersion>, bool);

async fn fetch_and_host(
    store: Arc<dyn SnapshotStore>,
    host: HostBoth,
    (records, kept): (Vec<PolicyRecord>, BTreeMap<PolicyVersion, Arc<PolicySnapshot>>),
    deadline: Instant,
) -> Fetched {
    let (mut wanted, mut now, mut is_again) = (Wanted::default(), BTreeMap::new(), false);
    for record in records {
        let snapshot = match kept.get(&record.version).filter(|s| s.digest == record.digest) {
            Some(snapshot) => Arc::clone(snapshot),
            None => match store.get(record.version).await {
                Ok(snapshot) if snapshot.digest == record.digest => Arc::new(snapshot),
                Ok(_) => {
                    tracing::error!(version = %record.version, "candidate has another digest");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(version = %record.version, %error, "candidate cannot be read");
                    is_again = true;
                    continue;
                }
            },
        };
        now.insert(record.version, Arc::clone(&snapshot));
        if record.state == PolicyState::Canary {
            wanted.canaries.push(snapshot);
        } else {
            wanted.shadows.push(snapshot);
        }
    }
    let (hosted, is_lacking) = host((wanted, deadline)).await;
    (now, hosted, is_again || is_lacking)
}
