//! A trained policy, or a fixed gate over its selection head, as a contestant of an evaluation.
//!
//! Answers by its own world, which caches; the world is made of the same index, generator and
//! reader as every other contestant's.

use super::config::Rules;
use super::policy::{SmartPolicy, Trajectory, play};
use super::world::World;
use crate::evaluate::contender::elapsed_ms;
use crate::evaluate::{Asked, Attempt, AttemptError, Contestant, Setting};
use actors::types::DocumentId;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::time::Instant;

/// See the module.
pub struct SmartRag {
    world: Arc<World>,
    policy: SmartPolicy,
    rules: Rules,
}

impl SmartRag {
    /// Plays by `rules`; greedy ones repeat.
    pub fn new(world: Arc<World>, policy: SmartPolicy, rules: Rules) -> Self {
        Self { world, policy, rules }
    }
}

#[async_trait]
impl Contestant for SmartRag {
    async fn attempt(
        &mut self,
        asked: &Asked<'_>,
        _setting: &Setting<'_>,
    ) -> Result<Attempt, AttemptError> {
        let started = Instant::now();
        let mut rng = asked.rng();
        let played = play(&self.world, &self.policy, asked.query, &self.rules, &mut rng).await;
        let played = played.map_err(|error| AttemptError::Other(error.to_string()))?;
        let ranking = self.ranking(&played)?;
        let list = played.list.as_ref();
        let documents: Vec<DocumentId> = list
            .map_or_else(Vec::new, |list| list.documents(&played.order))
            .into_iter()
            .map(|document| document.id)
            .collect();
        Ok(Attempt {
            ranking,
            retrievals: played.retrievals() as u32,
            reader_calls: documents.len() as u32,
            context_tokens: u64::from(played.answer.usage.context_tokens),
            documents,
            answer: played.answer,
            decide_ms: elapsed_ms(started),
            answer_ms: 0.0,
        })
    }
}

impl SmartRag {
    /// Everything found, by the selection head's score.
    fn ranking(&self, played: &Trajectory) -> Result<Vec<DocumentId>, AttemptError> {
        let Some(list) = &played.list else { return Ok(Vec::new()) };
        let logits = self.policy.list_logits(list);
        let logits = logits.map_err(|error| AttemptError::Other(error.to_string()))?;
        let scores: Vec<f32> = logits.scores.iter().map(|score| *score as f32).collect();
        Ok(crate::evaluate::contender::ranked(&list.candidates, &scores))
    }
}
