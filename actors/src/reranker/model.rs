//! What the reranker does on the compute thread: make the policy, decide, swap weights, and host
//! candidates beside the champion.
//!
//! Knows no actor. A policy that panicked may be half-way through anything, so it is thrown away at
//! once; nothing is decided until another is made. A candidate that panicked is gone: it is for the
//! episode to fall back on the champion.

use super::{Args, Error, Results};
use crate::bounds::caught;
use crate::ports::{DecideRequest, Policy};
use crate::telemetry;
use crate::types::{PolicySnapshot, PolicyStamp, PolicyVersion};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// The policy, once it is made, and the dice it explores with.
pub(super) struct Model {
    policy: Option<Box<dyn Policy>>,
    hosted: BTreeMap<PolicyVersion, Box<dyn Policy>>,
    rng: StdRng,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self { policy: None, hosted: BTreeMap::new(), rng: StdRng::seed_from_u64(seed) }
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
        let hosted = args.hosted.borrow().clone();
        for candidate in &hosted {
            if self.hosted.contains_key(&candidate.version) {
                continue;
            }
            // One that no longer loads is missing; its units fall back.
            if let Ok(Err(error)) = self.host(args, candidate) {
                telemetry::policy_refused(candidate.version.0, &error);
            }
        }
        Ok(stamp)
    }

    /// Takes a candidate beside the champion, or says why not; the outer `Err` if it panicked.
    pub(super) fn host(
        &mut self,
        args: &Args,
        weights: &PolicySnapshot,
    ) -> Result<Result<PolicyStamp, Error>, String> {
        let made = caught(|| {
            let mut policy = (args.factory)()?;
            policy.swap(weights)?;
            Ok(policy)
        })?;
        Ok(made.map_err(|error: crate::ports::PolicyError| Error::from(error)).map(|policy| {
            let stamp = policy.stamp();
            self.hosted.insert(weights.version, policy);
            stamp
        }))
    }

    /// Drops all candidates but these.
    pub(super) fn keep_only(&mut self, versions: &[PolicyVersion]) {
        self.hosted.retain(|version, _| versions.contains(version));
    }

    /// Candidates hosted.
    pub(super) fn hosted(&self) -> Vec<PolicyVersion> {
        self.hosted.keys().copied().collect()
    }

    /// One result a request, in order; all ask for the same weights. `Err` if the policy broke on
    /// them and is gone.
    pub(super) fn decide(&mut self, requests: &[DecideRequest]) -> Result<Results, String> {
        if let Some(version) = requests.first().and_then(|request| request.policy) {
            return self.decide_by(version, requests);
        }
        let results = self.step(|policy, rng| policy.decide(requests, rng))?;
        if results.len() != requests.len() {
            self.policy = None;
            return Err(format!("policy decided {} of {} requests", results.len(), requests.len()));
        }
        Ok(results.into_iter().map(|result| result.map_err(Error::from)).collect())
    }

    fn decide_by(
        &mut self,
        version: PolicyVersion,
        requests: &[DecideRequest],
    ) -> Result<Results, String> {
        let rng = &mut self.rng;
        let Some(policy) = self.hosted.get_mut(&version) else {
            return Ok(requests.iter().map(|_| Err(Error::NotHosted(version))).collect());
        };
        let results = caught(|| policy.decide(requests, rng));
        if !results.as_ref().is_ok_and(|results| results.len() == requests.len()) {
            // Its units fall back on the champion, which is told by the error of each.
            self.hosted.remove(&version);
            let reason = results.map_or_else(|reason| reason, |_| "a reply is missing".to_owned());
            telemetry::candidate_panicked(version.0, &reason);
            return Ok(requests.iter().map(|_| Err(Error::Panicked(reason.clone()))).collect());
        }
        let results = results.unwrap_or_default().into_iter();
        Ok(results.map(|result| result.map_err(Error::from)).collect())
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
