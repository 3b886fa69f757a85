//! Who decides a query: the champion, a candidate in its canary, or both together; what an episode
//! says of that; and what it offers to the shadows afterwards.
//!
//! Knows the assignment of the request and the reranker's address. Whatever goes wrong with a
//! candidate, the champion answers, and the unit counts for neither.

use super::{Context, Failure, Request, Trace};
use crate::interleaving::{Credit, Merged, Team, drawn_length, team_draft};
use crate::rollout::{AA, Routing, ShadowConfig};
use crate::shadow;
use crate::slot::Slot;
use crate::telemetry;
use crate::types::{
    Answer, Arm, CandidateStates, Decision, DecisionId, Degraded, DraftedBy, Episode, Exploration,
    Gate, Interleaved, PolicyVersion,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// What an episode needs of the experiments under way.
pub struct Experiments {
    /// Address of the shadows.
    pub shadow: Slot<shadow::Message>,
    /// Who is under way.
    pub routing: watch::Receiver<Arc<Routing>>,
    /// Places in the shadows' queue.
    pub places: Arc<Semaphore>,
    /// Share of the door's places that are taken, in [0, 1].
    pub load: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// Rules of the shadows.
    pub config: ShadowConfig,
}

/// Has the query decided by whom it is assigned to.
pub(super) async fn decided(
    context: &Context,
    request: &Request,
    trace: &mut Trace,
    deadline: Instant,
) -> Result<Decision, Failure> {
    if trace.candidates.is_empty() {
        return Ok(nothing_to_choose(context, request));
    }
    let candidates = &trace.candidates;
    let arm = trace.assignment.as_ref().map_or(Arm::Champion, |assignment| assignment.arm);
    let greedy;
    let request = match arm {
        // A merged context is drawn from neither, so chance in it would cost and teach nothing.
        Arm::Interleaved { .. } => {
            greedy = Request { exploration: Exploration::Greedy, ..request.clone() };
            &greedy
        }
        _ => request,
    };
    let champion = context.decide(request, (candidates, None), deadline);
    let (outcome, version) = match arm {
        Arm::Champion | Arm::Candidate { version: AA } => return champion.await,
        Arm::Candidate { version } => {
            (context.decide(request, (candidates, Some(version)), deadline).await, version)
        }
        Arm::Interleaved { version } => {
            let candidate = context.decide(request, (candidates, Some(version)), deadline);
            let (champion, candidate) = tokio::join!(champion, candidate);
            match candidate {
                Ok(candidate) => {
                    let (decision, interleaved) = interleave(champion?, &candidate, version);
                    trace.interleaved = Some(interleaved);
                    return Ok(decision);
                }
                failed @ Err(_) => (failed, version),
            }
        }
    };
    match outcome {
        Ok(decision) => Ok(decision),
        // A request that is refused is so by every policy.
        Err(failure) if failure.is_refused || failure.is_overloaded => Err(failure),
        Err(failure) => {
            telemetry::count(telemetry::CANARY_FALLBACKS, "stage", "decide");
            tracing::warn!(%version, %failure, "candidate cannot decide, the champion does");
            if let Some(assignment) = &mut trace.assignment {
                assignment.fell_back = Some(failure.reason);
            }
            context.decide(request, (&trace.candidates, None), deadline).await
        }
    }
}

/// One context of two selections. It is drawn from neither policy, so it supports no estimate.
fn interleave(
    champion: Decision,
    candidate: &Decision,
    version: PolicyVersion,
) -> (Decision, Interleaved) {
    let mut rng = StdRng::seed_from_u64(seed(&champion.id));
    let length = drawn_length(&champion.order, &candidate.order, &mut rng);
    let merged = team_draft(&champion.order, &candidate.order, length, &mut rng);
    let mut left = u64::from(champion.limits.token_budget);
    let (mut order, mut drafted_by) = (Vec::new(), Vec::new());
    for (index, team) in merged.order.into_iter().zip(merged.team) {
        let tokens = champion.candidate_tokens.get(index as usize).copied().unwrap_or(u32::MAX);
        if u64::from(tokens) <= left && order.len() < champion.limits.k_max as usize {
            left -= u64::from(tokens);
            order.push(index);
            drafted_by.push(match team {
                Team::A => DraftedBy::Champion,
                Team::B => DraftedBy::Candidate,
                Team::Neither => DraftedBy::Both,
            });
        }
    }
    let step_log_probs = vec![0.0; order.len()];
    let exploration = Exploration::Greedy;
    let deviates = Some(false);
    let decision = Decision { order, step_log_probs, exploration, deviates, ..champion };
    (decision, Interleaved { version, drafted_by, credit: None })
}

/// The draft's dice: by the decision's id, so that a replay throws them again.
fn seed(id: &DecisionId) -> u64 {
    id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Credits the drafters by the documents that the answer cites.
pub(super) fn credit(trace: &mut Trace, answer: Option<&Answer>) {
    let (Some(interleaved), Some(decision), Some(answer)) =
        (&mut trace.interleaved, &trace.decision, answer)
    else {
        return;
    };
    let is_cited = |index: &u32| {
        let candidate = trace.candidates.get(*index as usize);
        candidate.is_some_and(|c| answer.citations.contains(&c.document.id))
    };
    let cited: Vec<usize> =
        (0..).zip(&decision.order).filter(|(_, index)| is_cited(index)).map(|(at, _)| at).collect();
    let team = |drafted_by: &DraftedBy| match drafted_by {
        DraftedBy::Champion => Team::A,
        DraftedBy::Candidate => Team::B,
        DraftedBy::Both => Team::Neither,
    };
    let team = interleaved.drafted_by.iter().map(team).collect();
    let Credit { a, b } = Merged { order: decision.order.clone(), team }.by_citation(&cited);
    interleaved.credit = Some((a, b));
}

/// The decision when nothing was found: answer directly, with certainty.
fn nothing_to_choose(context: &Context, request: &Request) -> Decision {
    Decision {
        id: request.decision_id.clone(),
        gate: Gate::Direct,
        rewrite: 0,
        order: Vec::new(),
        step_log_probs: Vec::new(),
        scores: Vec::new(),
        exploration: Exploration::Greedy,
        limits: request.limits,
        deviates: Some(false),
        candidate_tokens: Vec::new(),
        states: CandidateStates::default(),
        policy: context.serving.borrow().clone(),
    }
}

/// Why off-policy estimates may not rest on an episode; `None` where they may.
pub(super) fn unusable_for_ope(
    decision: Option<&Decision>,
    (degraded, interleaved): (Option<&Degraded>, Option<&Interleaved>),
    is_budget_spent: bool,
) -> Option<&'static str> {
    let Some(decision) = decision else { return Some("no_decision") };
    if degraded.is_some() {
        Some("degraded")
    } else if interleaved.is_some() {
        Some("interleaved")
    } else if decision.gate == Gate::Direct {
        Some("direct")
    } else if is_budget_spent {
        Some("budget_spent")
    } else if !decision.is_explored() {
        Some("greedy")
    } else if decision.states.rows() != decision.candidate_tokens.len() {
        Some("no_states")
    } else if decision.step_log_probs.is_empty() {
        Some("forced")
    } else {
        None
    }
}

/// Offers a served query to the shadows: never waits, and is dropped first under load.
pub(super) fn offer(experiments: &Experiments, episode: &Episode) {
    if experiments.routing.borrow().shadows.is_empty() {
        return;
    }
    let Some(decision) = episode.decision.as_ref().filter(|d| d.gate == Gate::Retrieve) else {
        return;
    };
    #[expect(clippy::cast_precision_loss, reason = "a place in [0, 1)")]
    let place = (seed(&decision.id) >> 11) as f64 / (1_u64 << 53) as f64;
    if place >= experiments.config.share {
        return;
    }
    if (experiments.load)() > experiments.config.load_max {
        return telemetry::count(telemetry::SHADOWS, "outcome", "shed");
    }
    let Ok(place) = Arc::clone(&experiments.places).try_acquire_owned() else {
        return telemetry::count(telemetry::SHADOWS, "outcome", "shed");
    };
    let offer = shadow::Offer {
        query: episode.query.clone(),
        candidates: episode.candidates.clone(),
        decision: decision.clone(),
        _place: place,
    };
    // A shadow that is restarting misses this one.
    experiments.shadow.cast(shadow::Message::Offer(Box::new(offer)));
}
