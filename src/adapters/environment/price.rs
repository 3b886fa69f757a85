//! What trials cost: the accounts of the generator and the judge, and the estimate before an update.
//!
//! Knows no trial. The clients behind generator and judge pay each request out of the budget
//! themselves; here it is only read.

use crate::chat::{Budget, Spend};
use actors::ports::Purchases;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Trials after which what they did cost says more than what they may.
const KNOWN_AFTER: u64 = 32;

/// What one of the two is paid out of.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its budget.
    pub budget: Arc<Budget>,
    /// What a trial costs before any is known.
    pub per_trial: Spend,
}

/// The accounts of an environment; absent where a model is at home and costs nothing.
#[derive(Debug, Default)]
pub struct Accounts {
    pub(super) generator: Option<Account>,
    pub(super) judge: Option<Account>,
    /// Trials that were paid for.
    pub(super) trials: AtomicU64,
}

impl Accounts {
    /// Accounts out of which nothing has been paid.
    pub fn new(generator: Option<Account>, judge: Option<Account>) -> Self {
        Self { generator, judge, trials: AtomicU64::new(0) }
    }

    /// All that was bought.
    pub(super) fn bought(&self) -> Purchases {
        let of = |account: &Option<Account>| {
            account.as_ref().map(|account| account.budget.spent()).unwrap_or_default()
        };
        let (generator, judge) = (of(&self.generator), of(&self.judge));
        Purchases {
            generator_calls: generator.calls,
            generator_tokens: generator.tokens,
            judge_calls: judge.calls,
            judge_tokens: judge.tokens,
        }
    }

    /// Whether so many trials can be paid for; `Err` with the figures.
    pub(super) async fn afford(&self, trials: u64) -> Result<(), String> {
        for (name, account) in [("generator", &self.generator), ("judge", &self.judge)] {
            let Some(account) = account else { continue };
            let (known, spent) = (self.trials.load(Relaxed), account.budget.spent());
            let mean = |sum: u64| sum.saturating_mul(trials).div_ceil(known.max(1));
            let cost = if known >= KNOWN_AFTER {
                Spend { calls: mean(spent.calls), tokens: mean(spent.tokens), micros: 0 }
            } else {
                account.per_trial.times(trials)
            };
            let left = account.budget.left().await;
            if cost.calls > left.calls || cost.tokens > left.tokens {
                let at_most = |left: u64| match left {
                    u64::MAX => "without limit".to_owned(),
                    left => left.to_string(),
                };
                return Err(format!(
                    "{trials} trials would cost about {} {name} calls and {} tokens, left are {} \
                     calls and {} tokens: raise `learner.budget.{name}`, lower `learner.rollouts`, \
                     `learner.singles` or `service.learner.train_max`, or learn from the log alone",
                    cost.calls,
                    cost.tokens,
                    at_most(left.calls),
                    at_most(left.tokens)
                ));
            }
        }
        Ok(())
    }
}
