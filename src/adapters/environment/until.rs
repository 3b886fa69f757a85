//! The environment of one learner: nothing is bought for one that nobody waits for.

use super::{GeneratorEnvironment, MUST_BE_INLINE, unscored};
use actors::ports::{Cancellation, Environment, EnvironmentError, Purchases, Trial};
use actors::types::Reward;
use std::sync::Arc;

/// An environment for one learner; see [`GeneratorEnvironment::until`].
pub struct UntilCancelled {
    pub(super) environment: Arc<GeneratorEnvironment>,
    pub(super) cancellation: Cancellation,
}

impl Environment for UntilCancelled {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let cancelled =
            || trials.iter().map(|_| unscored("nobody waits for it any more")).collect();
        if self.cancellation.is_cancelled() {
            return cancelled();
        }
        let scored = self.environment.scored(trials);
        let ended = self.cancellation.clone().cancelled();
        // Dropping what is under way breaks its connections off.
        let either = async {
            tokio::select! {
                biased;
                () = ended => None,
                scored = scored => Some(scored),
            }
        };
        match self.environment.wait(either) {
            Some(Some(scored)) => scored,
            Some(None) => cancelled(),
            None => trials.iter().map(|_| unscored(MUST_BE_INLINE)).collect(),
        }
    }

    fn needs_references(&self) -> bool {
        self.environment.needs_references()
    }

    fn bought(&self) -> Purchases {
        self.environment.bought()
    }

    fn afford(&self, trials: u64) -> Result<(), EnvironmentError> {
        self.environment.afford(trials)
    }
}
