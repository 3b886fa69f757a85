//! Which of two answers is better: asked in both orders, for models like what they read first.

use super::verdict::{self, Winner};
use super::votes::{Ballots, Voter};
use super::{LlmJudge, PAIRS, rubric_context};
use crate::chat::{fenced, truncated};
use actors::ports::JudgeError;
use actors::types::Query;
use minijinja::context;

/// What comes of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preference {
    /// The first answer, in both orders.
    First,
    /// The second answer, in both orders.
    Second,
    /// Neither: a tie in one order at least.
    Tie,
    /// The judge cannot tell: unreadable, without budget, or of two minds.
    Abstained {
        /// Why.
        reason: String,
    },
}

impl LlmJudge {
    /// Compares two answers to one query; `id` names the comparison.
    ///
    /// # Errors
    /// The judge cannot be reached; another try may succeed.
    pub async fn pairwise(
        &self,
        id: &str,
        query: &Query,
        first: &str,
        second: &str,
    ) -> Result<Preference, JudgeError> {
        let as_given = self.ask_order(&format!("{id} as given"), query, first, second).await?;
        let swapped = self.ask_order(&format!("{id} swapped"), query, second, first).await?;
        let (as_given, swapped) = match (as_given, swapped) {
            (Ok(as_given), Ok(swapped)) => (as_given, swapped),
            (Err(reason), _) | (_, Err(reason)) => {
                counted("abstained");
                return Ok(Preference::Abstained { reason });
            }
        };
        let (fate, preference) = match (as_given, swapped) {
            (Winner::First, Winner::Second) => ("first", Preference::First),
            (Winner::Second, Winner::First) => ("second", Preference::Second),
            (Winner::Tie, _) | (_, Winner::Tie) => ("tie", Preference::Tie),
            (Winner::First, Winner::First) | (Winner::Second, Winner::Second) => {
                let reason = "the order of the answers decided".to_owned();
                ("disagreed", Preference::Abstained { reason })
            }
        };
        counted(fate);
        Ok(preference)
    }

    /// The winner in one order; `Err` where there is none to be had.
    async fn ask_order(
        &self,
        id: &str,
        query: &Query,
        first: &str,
        second: &str,
    ) -> Result<Result<Winner, String>, JudgeError> {
        let longest = self.config.document_tokens_max;
        let messages = |nonce: &str| {
            let fence = |label: &str, text: &str| fenced(label, truncated(text, longest), nonce);
            let references: Vec<String> =
                query.references.iter().map(|text| fence("reference", text)).collect();
            self.pair_prompt.render(&context! {
                question => fence("question", &query.text),
                first => fence("first answer", first),
                second => fence("second answer", second),
                references,
                ..rubric_context(&self.rubric, nonce)
            })
        };
        let format = verdict::winner_format(self.config.format);
        let voter = Voter { judge: self, client: &self.parts.client, id, format };
        Ok(match voter.ask(1, messages, verdict::winner).await? {
            Ballots::Counted(winners) => {
                winners.first().copied().ok_or_else(|| "no vote was counted".to_owned())
            }
            Ballots::NoBudget => Err("budget is spent".to_owned()),
            Ballots::Unreadable(reason) | Ballots::Refused(reason) => Err(reason),
        })
    }
}

fn counted(outcome: &'static str) {
    metrics::counter!(PAIRS, "outcome" => outcome).increment(1);
}
