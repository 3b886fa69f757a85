//! Asking the model so many times, within the budget, and counting what can be read.

use super::verdict::VerdictError;
use super::{LlmJudge, VOTES};
use crate::chat::{
    ChatClient, ChatError, ChatFailure, ChatReply, ChatRequest, Message, PromptError, Spend,
    seed_of,
};
use actors::ports::JudgeError;
use futures::future::join_all;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// One question to the model, to be asked several times.
pub(super) struct Voter<'a> {
    pub(super) judge: &'a LlmJudge,
    /// Whom the votes are asked of.
    pub(super) client: &'a ChatClient,
    /// Names what is judged: equal names are asked with equal seeds and tasks.
    pub(super) id: &'a str,
    pub(super) format: Option<Value>,
}

/// What came of the votes.
#[derive(Debug)]
pub(super) enum Ballots<T> {
    /// More than half could be read; here they are.
    Counted(Vec<T>),
    /// Too few could be read.
    Unreadable(String),
    /// The server will have none of it, now or later.
    Refused(String),
    /// Today's budget does not reach that far; nothing was asked.
    NoBudget,
}

impl Voter<'_> {
    /// Asks `votes` times, each with a task id of its own, which `messages` fences with and `read`
    /// checks.
    ///
    /// # Errors
    /// The judge is unavailable: the server is, or what is spent cannot be noted.
    pub(super) async fn ask<T>(
        &self,
        votes: u32,
        messages: impl Fn(&str) -> Result<Vec<Message>, PromptError>,
        read: impl Fn(&str, &str) -> Result<T, VerdictError>,
    ) -> Result<Ballots<T>, JudgeError> {
        let asked = (0..votes).map(|vote| {
            let nonce = self.nonce(vote);
            messages(&nonce).map(|messages| (nonce, self.request(vote, messages)))
        });
        let asked = match asked.collect::<Result<Vec<_>, _>>() {
            Ok(asked) => asked,
            Err(error) => return Ok(Ballots::Refused(error.to_string())),
        };
        let budget = &self.judge.budget;
        let worst: Vec<Spend> = asked.iter().map(|(_, request)| budget.most(request)).collect();
        // Each attempt may be charged for, and one whose reply is lost does not say how much.
        let attempts = u64::from(self.client.config().attempts_max);
        let most = worst.iter().fold(Spend::default(), |sum, one| sum.plus(one.times(attempts)));
        let reserved = budget.reserve(most).await;
        let reserved = reserved.map_err(|error| JudgeError::Unavailable(error.to_string()))?;
        let Some(reservation) = reserved else { return Ok(Ballots::NoBudget) };

        let replies = asked.iter().map(|(_, request)| self.client.complete(request));
        let replies = join_all(replies).await;
        let costs = replies.iter().zip(&worst).map(|(reply, worst)| budget.cost(reply, *worst));
        budget.settle(reservation, costs.fold(Spend::default(), Spend::plus)).await;
        let said = asked.iter().zip(replies).map(|((nonce, _), reply)| (nonce.as_str(), reply));
        count(said.collect(), read)
    }

    fn request(&self, vote: u32, messages: Vec<Message>) -> ChatRequest {
        let config = &self.judge.config;
        let seed = self.judge.parts.seed.to_string();
        ChatRequest {
            messages,
            max_tokens: config.max_tokens,
            seed: Some(seed_of(&["vote", &seed, self.id, &vote.to_string()])),
            temperature: Some(config.temperature),
            response_format: self.format.clone(),
            ..ChatRequest::default()
        }
    }

    /// An id that nobody can guess who does not know the judge's seed, 64 bits in hexadecimal.
    fn nonce(&self, vote: u32) -> String {
        let digest = Sha256::new()
            .chain_update(b"judge task ")
            .chain_update(self.judge.parts.seed.to_le_bytes())
            .chain_update(vote.to_le_bytes())
            .chain_update(self.id)
            .finalize();
        digest.iter().take(8).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn count<T>(
    replies: Vec<(&str, Result<ChatReply, ChatFailure>)>,
    read: impl Fn(&str, &str) -> Result<T, VerdictError>,
) -> Result<Ballots<T>, JudgeError> {
    let votes = replies.len();
    let (mut counted, mut unreadable) = (Vec::new(), None);
    let (mut refused, mut unavailable) = (None, None);
    for (nonce, reply) in replies {
        let fate = match reply.map(|reply| read(&reply.text, nonce)) {
            Ok(Ok(vote)) => {
                counted.push(vote);
                "counted"
            }
            Ok(Err(error)) => {
                let is_copied = error == VerdictError::WrongTask;
                tracing::warn!(%error, "a vote of the judge does not count");
                unreadable = Some(error.to_string());
                if is_copied { "wrong_task" } else { "unparsable" }
            }
            Err(failure) if !is_final(&failure.error) => {
                unavailable = Some(failure.to_string());
                "failed"
            }
            Err(failure) => {
                refused = Some(failure.to_string());
                "failed"
            }
        };
        metrics::counter!(VOTES, "fate" => fate).increment(1);
    }
    let found = counted.len();
    if found * 2 > votes {
        return Ok(Ballots::Counted(counted));
    }
    if let Some(reason) = unavailable {
        return Err(JudgeError::Unavailable(reason));
    }
    Ok(match (refused, unreadable) {
        (Some(reason), _) => Ballots::Refused(reason),
        (None, reason) => Ballots::Unreadable(format!(
            "{found} of {votes} votes can be read: {}",
            reason.unwrap_or_default()
        )),
    })
}

/// Whether asking again would only be refused again: the server read the request and will not.
fn is_final(error: &ChatError) -> bool {
    matches!(error, ChatError::Status { .. }) && !error.is_passing()
}
