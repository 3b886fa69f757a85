//! What is to be had where one document answers: the contestant that looks the right answer up.

use super::contender::{Asked, Attempt, AttemptError, Contestant, answer};
use super::{Setting, answer_scores};
use async_trait::async_trait;

/// Of the candidates the one whose answer alone is best, the first of equals: an oracle. With a
/// generator that answers from one document no selection does better.
#[derive(Debug, Clone, Copy, Default)]
pub struct BestDocument;

#[async_trait]
impl Contestant for BestDocument {
    async fn attempt(
        &mut self,
        asked: &Asked<'_>,
        setting: &Setting<'_>,
    ) -> Result<Attempt, AttemptError> {
        let mut best: Option<(f64, Attempt)> = None;
        for candidate in asked.candidates {
            let attempt =
                answer(setting, asked.query, std::slice::from_ref(&candidate.document)).await?;
            let (f1, _) = answer_scores(&attempt.answer.text, &asked.question.answers);
            if best.as_ref().is_none_or(|(most, _)| f1 > *most) {
                best = Some((f1, attempt));
            }
        }
        Ok(best.map(|(_, attempt)| attempt).unwrap_or_default())
    }
}
