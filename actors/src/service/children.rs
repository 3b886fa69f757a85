//! Which children a process runs, and the requests between them.
//!
//! The only place where one actor's request meets another's message.

use super::core::Core;
use super::supervisor::Child;
use super::{Overrides, ServiceError};
use crate::rollout::Issuer;
use crate::slot::{Request, SlotError};
use crate::types::{PolicyStamp, Query, Served};
use crate::{
    generator, intake, judge, learner, policy_follower, promoter, replay_buffer, reranker,
    retriever, shadow,
};
use std::sync::Arc;
use tokio::sync::watch;

/// The children of the roles, in start order.
pub(super) fn of(core: &Arc<Core>) -> Vec<Child> {
    let roles = core.config.roles;
    let mut children = Vec::new();
    if roles.serve {
        children.extend(serving(core));
    }
    if roles.judge {
        let args = judge::Args {
            log: Arc::clone(&core.ports.log),
            judge: Arc::clone(&core.ports.judge),
            clock: core.ports.clock,
            config: core.config.judge,
        };
        children.push(Child::new(|| judge::Judge, &core.judge, move |_| args.clone()));
    }
    if roles.learn {
        children.extend(learning(core));
    }
    if roles.serve && core.config.intake.enabled {
        let args = intake::Args {
            log: Arc::clone(&core.ports.log),
            door: door(core),
            clock: core.ports.clock,
            config: core.config.intake,
        };
        children.push(Child::new(|| intake::Intake, &core.intake, move |_| args.clone()));
    }
    children
}

fn serving(core: &Arc<Core>) -> [Child; 5] {
    let (ports, config, context) = (&core.ports, &core.config, &core.context);
    let retriever = retriever::Args { index: Arc::clone(&ports.index), config: config.retriever };
    let generator =
        generator::Args { generator: Arc::clone(&ports.generator), config: config.generator };
    let reranker = reranker::Args {
        factory: Arc::clone(&ports.policy),
        compute: config.compute,
        seed: core.seed,
        serving: core.serving.clone(),
        adopted: watch::channel(None).0,
        hosted: watch::channel(Vec::new()).0,
        config: config.reranker,
    };
    let follower = policy_follower::Args {
        log: Arc::clone(&ports.log),
        snapshots: Arc::clone(&ports.snapshots),
        swap: follower_swap(core),
        first: Arc::clone(&ports.first),
        host: host(core),
        routing: core.routing.clone(),
        seal: Arc::clone(&ports.seal),
        allow_uncertified: config.promotion.allow_uncertified,
        interleaved: config.promotion.canary.interleaved,
        aa_share: config.promotion.canary.aa_share,
        node: config.node.clone(),
        config: config.policy_follower,
    };
    let shadow = shadow::Args {
        factory: Arc::clone(&ports.policy),
        compute: config.compute,
        generator: Arc::clone(&ports.generator),
        judge: Arc::clone(&ports.judge),
        log: Arc::clone(&ports.log),
        clock: ports.clock,
        hosted: watch::channel(Vec::new()).0,
        config: config.promotion.shadow,
    };
    [
        Child::new(|| retriever::Retriever, &context.retriever, move |_| retriever.clone()),
        // Each life explores with dice of its own, or a restart would repeat its draws.
        Child::new(
            || reranker::Reranker,
            &context.reranker,
            move |generation| reranker::Args {
                seed: reranker.seed.wrapping_add(generation),
                ..reranker.clone()
            },
        ),
        Child::new(|| generator::Generator, &context.generator, move |_| generator.clone()),
        Child::new(|| shadow::Shadow, &context.experiments.shadow, move |_| shadow.clone()),
        Child::new(
            || policy_follower::PolicyFollower,
            &core.policy_follower,
            move |_| follower.clone(),
        ),
    ]
}

fn learning(core: &Arc<Core>) -> [Child; 3] {
    let (ports, config) = (&core.ports, &core.config);
    let buffer = replay_buffer::Args {
        log: Arc::clone(&ports.log),
        serving: core.serving.subscribe(),
        node: config.node.clone(),
        seed: Some(core.seed),
        config: config.replay_buffer.clone(),
    };
    let learner = learner::Args {
        factory: Arc::clone(&ports.learner),
        compute: config.compute,
        log: Arc::clone(&ports.log),
        snapshots: Arc::clone(&ports.snapshots),
        sample: sample(core),
        fresh: fresh(core),
        swap: config.roles.serve.then(|| learner_swap(core)),
        serving: core.serving.clone(),
        path: config.promotion.path,
        issuer: issuer(core),
        node: config.node.clone(),
        clock: ports.clock,
        config: config.learner,
    };
    let promoter = promoter::Args {
        factory: Arc::clone(&ports.examiner),
        compute: config.compute,
        log: Arc::clone(&ports.log),
        snapshots: Arc::clone(&ports.snapshots),
        first: Arc::clone(&ports.first),
        issuer: issuer(core),
        refresh: refresh(core),
        node: config.node.clone(),
        clock: ports.clock,
        config: config.promotion.clone(),
        drift: config.drift.clone(),
    };
    [
        Child::new(
            || replay_buffer::ReplayBufferActor,
            &core.replay_buffer,
            move |generation| {
                let seed = buffer.seed.map(|seed| seed.wrapping_add(generation));
                replay_buffer::Args { seed, ..buffer.clone() }
            },
        ),
        Child::new(|| learner::Learner, &core.learner, move |_| learner.clone()),
        Child::new(|| promoter::Promoter, &core.promoter, move |_| promoter.clone()),
    ]
}

/// Issues certificates under the rules in force.
fn issuer(core: &Arc<Core>) -> Issuer {
    Issuer {
        seal: Arc::clone(&core.ports.seal),
        config: core.config.rules(),
        node: core.config.node.clone(),
    }
}

/// Asks the learner for an update; where none is run here, the one that leads has its schedule.
fn refresh(core: &Arc<Core>) -> Request<(), ()> {
    let slot = core.learner.clone();
    Arc::new(move |()| {
        let slot = slot.clone();
        Box::pin(async move {
            slot.cast(learner::Message::Refresh);
        })
    })
}

/// Hosts canaries beside the champion and gives the shadows theirs.
fn host(core: &Arc<Core>) -> policy_follower::HostBoth {
    let (reranker, shadow) =
        (core.context.reranker.clone(), core.context.experiments.shadow.clone());
    Arc::new(move |(wanted, deadline)| {
        let (reranker, shadow) = (reranker.clone(), shadow.clone());
        Box::pin(async move {
            let mut is_lacking = false;
            let keep = wanted.canaries.iter().map(|snapshot| snapshot.version).collect();
            reranker.cast(reranker::Message::KeepOnly(keep));
            let mut hosted = std::collections::BTreeSet::new();
            for snapshot in &wanted.canaries {
                let build = |reply| reranker::Message::Host(Arc::clone(snapshot), reply);
                match reranker.call(build, deadline).await {
                    Ok(Ok(stamp)) => drop(hosted.insert(stamp.version)),
                    // It will not load at another try either.
                    Ok(Err(error)) => {
                        tracing::error!(version = %snapshot.version, %error, "cannot be hosted");
                    }
                    Err(error) => {
                        tracing::warn!(version = %snapshot.version, %error, "not hosted yet");
                        is_lacking = true;
                    }
                }
            }
            let build = |reply| shadow::Message::Host(wanted.shadows.clone(), reply);
            match shadow.call(build, deadline).await {
                Ok(refused) => {
                    for (version, reason) in refused {
                        tracing::error!(%version, reason, "shadow cannot be hosted");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "shadows not hosted yet");
                    is_lacking = true;
                }
            }
            (hosted, is_lacking)
        })
    })
}

fn sample(
    core: &Arc<Core>,
) -> Request<(usize, usize, tokio::time::Instant), Result<crate::ports::Batch, String>> {
    let slot = core.replay_buffer.clone();
    Arc::new(move |(train_max, holdout_max, deadline)| {
        let slot = slot.clone();
        Box::pin(async move {
            let build = |reply| replay_buffer::Message::Sample { train_max, holdout_max, reply };
            slot.call(build, deadline).await.map_err(|error| error.to_string())
        })
    })
}

fn fresh(core: &Arc<Core>) -> Request<tokio::time::Instant, Option<u64>> {
    let slot = core.replay_buffer.clone();
    Arc::new(move |deadline| {
        let slot = slot.clone();
        Box::pin(async move {
            let observed = slot.call(replay_buffer::Message::Observe, deadline).await.ok()?;
            Some(observed.inserted)
        })
    })
}

type Snapshot = Arc<crate::types::PolicySnapshot>;
type Swapped = Result<Result<PolicyStamp, reranker::Error>, SlotError>;

fn swap(core: &Arc<Core>) -> Request<(Snapshot, tokio::time::Instant), Swapped> {
    let slot = core.context.reranker.clone();
    Arc::new(move |(snapshot, deadline)| {
        let slot = slot.clone();
        Box::pin(async move {
            let build = |reply| reranker::Message::Swap(Arc::clone(&snapshot), reply);
            slot.call(build, deadline).await
        })
    })
}

fn learner_swap(
    core: &Arc<Core>,
) -> Request<(Snapshot, tokio::time::Instant), Result<(), learner::SwapFailure>> {
    let swap = swap(core);
    Arc::new(move |request| {
        let swapped = swap(request);
        Box::pin(async move {
            match swapped.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(learner::SwapFailure::Refused(error.to_string())),
                Err(error) => Err(learner::SwapFailure::Unavailable(error.to_string())),
            }
        })
    })
}

fn follower_swap(
    core: &Arc<Core>,
) -> Request<(Snapshot, tokio::time::Instant), Result<(), policy_follower::Failure>> {
    let swap = swap(core);
    Arc::new(move |request| {
        let swapped = swap(request);
        Box::pin(async move {
            match swapped.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(policy_follower::Failure::Lasting(error.to_string())),
                Err(error) => Err(policy_follower::Failure::Passing(error.to_string())),
            }
        })
    })
}

fn door(core: &Arc<Core>) -> Request<Query, Result<Served, intake::Failure>> {
    // The intake must not keep alive what stops it.
    let core = Arc::downgrade(core);
    Arc::new(move |query| {
        let core = core.upgrade();
        Box::pin(async move {
            let Some(core) = core else {
                return Err(intake::Failure::Passing("the service has stopped".to_owned()));
            };
            core.serve(query, Overrides::default(), false).await.map_err(|error| match error {
                ServiceError::Refused(reason) => intake::Failure::Lasting(reason),
                error => intake::Failure::Passing(error.to_string()),
            })
        })
    })
}
