//! Two generators as one: the second answers where the first is away or takes too long.
//!
//! Knows neither of them. A question that the first refuses is refused: it is the question's fault.

use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const FALLBACKS: &str = "regrade_generator_fallbacks_total";
/// The metrics of this adapter.
pub const METRICS: [&str; 1] = [FALLBACKS];

/// See the module.
pub struct FallbackGenerator {
    first: Arc<dyn Generator>,
    second: Arc<dyn Generator>,
    name: String,
    patience: Duration,
}

impl FallbackGenerator {
    /// `patience` is what the first may take: its share of the deadline that waits above. `name`
    /// stamps the second's answers, where they carry no name of their own.
    pub fn new(
        first: Arc<dyn Generator>,
        second: Arc<dyn Generator>,
        name: &str,
        patience: Duration,
    ) -> Self {
        Self { first, second, name: name.to_owned(), patience }
    }
}

#[async_trait]
impl Generator for FallbackGenerator {
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        let (cause, reason) =
            match timeout(self.patience, self.first.answer(query, documents)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused @ GenerateError::Refused(_))) => return Err(refused),
                Ok(Err(GenerateError::Unavailable(reason))) => ("unavailable", reason),
                Err(_) => ("deadline", format!("no answer within {:?}", self.patience)),
            };
        metrics::counter!(FALLBACKS, "cause" => cause).increment(1);
        tracing::warn!(cause, reason, second = self.name, "first generator gave no answer");
        match self.second.answer(query, documents).await {
            Ok(mut answer) => {
                if answer.generator.is_empty() {
                    answer.generator.clone_from(&self.name);
                }
                Ok(answer)
            }
            Err(GenerateError::Unavailable(also)) => Err(GenerateError::Unavailable(format!(
                "{reason}; and the fall-back {}: {also}",
                self.name
            ))),
            Err(refused) => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_generator;
    use actors::fakes::FakeGenerator;

    struct Refuses;

    #[async_trait]
    impl Generator for Refuses {
        async fn answer(&self, _: &Query, _: &[Document]) -> Result<Answer, GenerateError> {
            Err(GenerateError::Refused("too long".to_owned()))
        }
    }

    fn pair() -> (Arc<FakeGenerator>, Arc<FakeGenerator>, FallbackGenerator) {
        let (first, second) = (Arc::<FakeGenerator>::default(), Arc::<FakeGenerator>::default());
        let patience = Duration::from_secs(5);
        let both = FallbackGenerator::new(first.clone(), second.clone(), "reader", patience);
        (first, second, both)
    }

    #[tokio::test]
    async fn two_generators_keep_the_contract() {
        check_generator(async || Arc::new(pair().2) as Arc<dyn Generator>).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_answers_when_the_first_is_away_or_too_slow_and_says_so() {
        let (first, second, both) = pair();
        let answer = both.answer(&Query::default(), &[]).await.unwrap();
        assert_eq!((answer.generator.as_str(), second.knob.calls()), ("", 0));
        first.knob.fail_next(1);
        let answer = both.answer(&Query::default(), &[]).await.unwrap();
        assert_eq!((answer.generator.as_str(), second.knob.calls()), ("reader", 1));
        first.knob.delay(Duration::from_secs(3_600));
        let answer = both.answer(&Query::default(), &[]).await.unwrap();
        assert_eq!((answer.generator.as_str(), second.knob.calls()), ("reader", 2));
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_two_failures_are_both_told() {
        let (first, second, both) = pair();
        first.knob.fail_next(1);
        second.knob.fail_next(1);
        let error = both.answer(&Query::default(), &[]).await.unwrap_err().to_string();
        assert!(error.contains("and the fall-back reader"), "{error}");
        let patience = Duration::from_secs(5);
        let both = FallbackGenerator::new(Arc::new(Refuses), second.clone(), "x", patience);
        let error = both.answer(&Query::default(), &[]).await.unwrap_err();
        assert!(matches!(error, GenerateError::Refused(_)), "{error}");
        assert_eq!(second.knob.calls(), 1);
    }
}
