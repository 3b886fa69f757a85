//! What the reranker does on the compute thread: make the policy, decide, swap weights.
//!
//! Knows no actor. A policy that panicked may be half-way through anything, so it is thrown away at
//! once; nothing is decided until another is made.

use super::{Args, Error, Results};
use crate::bounds::caught;
use crate::ports::{DecideRequest, Policy};
use crate::telemetry;
use crate::types::{PolicySnapshot, PolicyStamp};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The policy, once it is made, and the dice it explores with.
pub(super) struct Model {
    policy: Option<Box<dyn Policy>>,
    rng: StdRng,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self { policy: None, rng: StdRng::seed_from_u64(seed) }
    }

    /// Makes the policy with the last weights that swapped well; `Err` says why there is none.
    pub(super) fn load(&mut self, args: &Args) -> Result<PolicyStamp, String> {
        let mut policy = (args.factory)().map_err(|error| error.to_string())?;
        let adopted = args.adopted.borrow().clone();
        if let Some(snapshot) = adopted
            && let Err(error) = policy.swap(&snapshot)
        {
            telemetry::policy_refused(snapshot.version.0, &error);
        }
        let stamp = policy.stamp();
        self.policy = Some(policy);
        Ok(stamp)
    }

    /// One result a request, in order; `Err` if the policy broke on them and is gone.
    pub(super) fn decide(&mut self, requests: &[DecideRequest]) -> Result<Results, String> {
        let results = self.step(|policy, rng| policy.decide(requests, rng))?;
        if results.len() != requests.len() {
            self.policy = None;
            return Err(format!("policy decided {} of {} requests", results.len(), requests.len()));
        }
        Ok(results.into_iter().map(|result| result.map_err(Error::from)).collect())
    }

    /// Takes other weights, or says why not; the outer `Err` if the policy broke on them.
    pub(super) fn swap(
        &mut self,
        weights: &PolicySnapshot,
    ) -> Result<Result<PolicyStamp, Error>, String> {
        self.step(|policy, _| policy.swap(weights).map(|()| policy.stamp()).map_err(Error::from))
    }

    fn step<T>(
        &mut self,
        step: impl FnOnce(&mut dyn Policy, &mut StdRng) -> T,
    ) -> Result<T, String> {
        let Some(policy) = self.policy.as_mut() else {
            return Err("policy is not made yet".to_owned());
        };
        let result = caught(|| step(policy.as_mut(), &mut self.rng));
        if result.is_err() {
            self.policy = None;
        }
        result
    }
}
