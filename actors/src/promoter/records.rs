//! How a change of a policy goes into the log and comes back from it: its key, its id, where its
//! evidence begins, and what it does to the board.

use super::State;
use crate::ports::{NewRecord, Stream};
use crate::rollout::Effect;
use crate::tail::record;
use crate::types::{LogPosition, PolicyRecord, PolicyState, StageEvidence};

impl State {
    /// Takes a change that is on record, whoever wrote it.
    pub(super) fn absorb(&mut self, policy: &PolicyRecord) {
        let before = self.board.champion();
        if self.board.fold(policy) == Effect::Outrun {
            self.counters.outrun += 1;
        }
        if self.board.champion() != before {
            self.monitor.served_by_others();
        }
        self.on_the_way.remove(&policy.version);
    }
}

/// A stage counts from where it began, which is where the one before it ended.
pub(super) fn standing_from(
    earlier: &[StageEvidence],
    evidence: &StageEvidence,
) -> Vec<LogPosition> {
    match evidence.stage {
        // These look at all that is newest.
        PolicyState::Parity | PolicyState::Offline | PolicyState::Candidate => Vec::new(),
        _ => earlier
            .iter()
            .rev()
            .find(|before| before.stage != evidence.stage || before.share != evidence.share)
            .map(|before| before.through.clone())
            .unwrap_or_default(),
    }
}

/// A record of the policies as it goes into the log.
pub(crate) fn policy_record(policy: &PolicyRecord) -> Result<NewRecord, String> {
    let key = policy.version.to_string();
    let step = match (policy.step, policy.alarm_until_ms) {
        (Some(step), _) => format!("step{step}"),
        (None, Some(until_ms)) => format!("{}-until{until_ms}", policy.time_ms),
        (None, None) => policy.time_ms.to_string(),
    };
    let id = format!("{key}-{}-{step}", policy.state.word());
    let source = Stream::Policies.topic();
    record(&key, (&id, source), policy).map_err(|error| error.to_string())
}
