//! What one use of endpoints may spend in a UTC hour and day, in calls, tokens and money: never
//! passed.
//!
//! The most that a call can cost is reserved before it is made and durable before it goes out;
//! afterwards the reservation shrinks to what it did cost. What is not known to have cost less stays
//! charged: after a crash the day begins where the last reservation stood. One file a process.

mod file;

use super::{ChatFailure, ChatReply, ChatRequest, most_tokens};
use actors::clock::Clock;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::Mutex;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

/// Name of the gauge.
pub(super) const USED: &str = "regrade_chat_budget_used_ratio";

/// Limits of an hour and a day, and prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Most tokens in a UTC day, read and written, ≥ 1. A call is made only while the most it may
    /// cost fits: every attempt, at a token for each byte of its prompt.
    pub tokens_per_day: u64,
    /// The same for a UTC hour; absent: no limit but the day's.
    pub tokens_per_hour: Option<u64>,
    /// Most calls in a UTC day, each attempt one, ≥ 1; absent: no limit.
    pub calls_per_day: Option<u64>,
    /// The same for a UTC hour.
    pub calls_per_hour: Option<u64>,
    /// Most money in a UTC day, in the currency of the prices; absent: no limit.
    pub money_per_day: Option<f64>,
    /// Price of a million tokens read, ≥ 0.
    pub prompt_price: f64,
    /// Price of a million tokens written, ≥ 0.
    pub completion_price: f64,
    /// File that keeps what was spent, for this process alone; absent: one in `.regrade`, named by
    /// the use; empty: kept in memory, and forgotten at a restart.
    pub state: Option<PathBuf>,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            tokens_per_day: 1_000_000,
            tokens_per_hour: None,
            calls_per_day: None,
            calls_per_hour: None,
            money_per_day: None,
            prompt_price: 0.0,
            completion_price: 0.0,
            state: None,
        }
    }
}

impl BudgetConfig {
    /// Names the first field that is out of its range, and the range.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let is_price = |price: f64| price.is_finite() && (0.0..=1e9).contains(&price);
        if self.tokens_per_day == 0 {
            return Err(("tokens_per_day", "a number above 0".to_owned()));
        }
        let limits = [
            ("tokens_per_hour", self.tokens_per_hour),
            ("calls_per_day", self.calls_per_day),
            ("calls_per_hour", self.calls_per_hour),
        ];
        for (field, limit) in limits {
            if limit == Some(0) {
                return Err((field, "a number above 0, or to be left out".to_owned()));
            }
        }
        if self.money_per_day.is_some_and(|money| !(money > 0.0 && money <= 1e9)) {
            return Err(("money_per_day", "an amount above 0, at most 1e9".to_owned()));
        }
        for (field, price) in
            [("prompt_price", self.prompt_price), ("completion_price", self.completion_price)]
        {
            if !is_price(price) {
                return Err((field, "the price of a million tokens, from 0 to 1e9".to_owned()));
            }
        }
        if self.money_per_day.is_some() && self.prompt_price + self.completion_price == 0.0 {
            let expected = "to be left out, or prices above 0 beside it: nothing costs anything";
            return Err(("money_per_day", expected.to_owned()));
        }
        Ok(())
    }

    /// What a call of so many tokens costs; money in millionths, rounded up.
    pub fn price(&self, prompt: u64, completion: u64) -> Spend {
        #[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^52")]
        let micros = prompt as f64 * self.prompt_price + completion as f64 * self.completion_price;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, ≥ 0"
        )]
        let micros = micros.ceil() as u64;
        Spend { calls: 1, tokens: prompt.saturating_add(completion), micros }
    }
}

/// Why the budget cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The file cannot be read, written or locked.
    #[error("cannot keep what endpoints were paid in `{path}`: {source}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process keeps its spending there.
    #[error(
        "`{path}` belongs to another running process: give each a file as its budget's `state`"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// The file does not hold what it should; what was spent is not known.
    #[error(
        "`{path}` cannot be read ({reason}): what was spent today is not known. Set the figures \
         right, or remove the file if nothing was spent today"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    /// Calls, each attempt one.
    pub calls: u64,
    /// Tokens read and written.
    pub tokens: u64,
    /// Millionths of the currency.
    pub micros: u64,
}

impl Spend {
    /// So many of these.
    pub fn times(self, n: u64) -> Self {
        Self {
            calls: self.calls.saturating_mul(n),
            tokens: self.tokens.saturating_mul(n),
            micros: self.micros.saturating_mul(n),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            tokens: self.tokens.saturating_add(other.tokens),
            micros: self.micros.saturating_add(other.micros),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            tokens: self.tokens.saturating_sub(other.tokens),
            micros: self.micros.saturating_sub(other.micros),
        }
    }
}

/// An amount set aside. Dropped without [`Budget::settle`] it stays spent.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    day: u64,
    hour: u64,
    amount: Spend,
}

/// The account of a day and of its newest hour, as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    /// Days since the Unix epoch.
    day: u64,
    tokens: u64,
    money_micros: u64,
    #[serde(default)]
    calls: u64,
    /// Hours since the Unix epoch.
    #[serde(default)]
    hour: u64,
    #[serde(default)]
    hour_tokens: u64,
    #[serde(default)]
    hour_calls: u64,
}

impl Account {
    /// The account at this time. A clock that goes back must not hand out an hour or a day twice.
    fn at(self, now_ms: u64) -> Self {
        let (day, hour) = (now_ms / DAY_MS, now_ms / HOUR_MS);
        let of_day = if day > self.day { Self { day, ..Self::default() } } else { self };
        if hour > self.hour {
            return Self { hour, hour_tokens: 0, hour_calls: 0, ..of_day };
        }
        let (hour_tokens, hour_calls) = (self.hour_tokens, self.hour_calls);
        Self { hour: self.hour, hour_tokens, hour_calls, ..of_day }
    }

    fn of_day(&self) -> Spend {
        Spend { calls: self.calls, tokens: self.tokens, micros: self.money_micros }
    }

    fn of_hour(&self) -> Spend {
        Spend { calls: self.hour_calls, tokens: self.hour_tokens, micros: 0 }
    }

    fn set(&mut self, day: Option<Spend>, hour: Option<Spend>) {
        if let Some(day) = day {
            (self.calls, self.tokens, self.money_micros) = (day.calls, day.tokens, day.micros);
        }
        if let Some(hour) = hour {
            (self.hour_calls, self.hour_tokens) = (hour.calls, hour.tokens);
        }
    }
}

/// The account of this process.
#[derive(Debug)]
pub struct Budget {
    user: &'static str,
    config: BudgetConfig,
    clock: Clock,
    account: Mutex<Account>,
    calls: AtomicU64,
    tokens: AtomicU64,
    state: PathBuf,
    /// Held as long as this lives.
    _lock: Option<File>,
}

impl Budget {
    /// Takes the file, and the account in it. `user`: what is paid for (`judge`, …); the label of
    /// its metrics, and the name of its file where the configuration gives none.
    ///
    /// # Errors
    /// The file cannot be used, is in use, or is damaged.
    pub fn open(
        user: &'static str,
        config: BudgetConfig,
        clock: Clock,
    ) -> Result<Self, BudgetError> {
        let otherwise = || format!(".regrade/{user}-budget.json").into();
        let state = config.state.clone().unwrap_or_else(otherwise);
        let (mut lock, mut account) = (None, Account::default());
        if !state.as_os_str().is_empty() {
            let shown = state.display().to_string();
            let (held, bytes) = file::take(&state)?;
            lock = Some(held);
            if let Some(bytes) = bytes {
                account = serde_json::from_slice(&bytes)
                    .map_err(|e| BudgetError::Damaged { path: shown, reason: e.to_string() })?;
            }
        }
        let (account, (calls, tokens)) = (Mutex::new(account), Default::default());
        Ok(Self { user, config, clock, account, calls, tokens, state, _lock: lock })
    }

    /// Sets an amount aside, durably; `None` where it would pass a limit of this hour or day.
    ///
    /// # Errors
    /// It cannot be made durable; nothing is set aside then.
    pub async fn reserve(&self, amount: Spend) -> Result<Option<Reservation>, BudgetError> {
        let mut account = self.account.lock().await;
        let mut after = account.at(self.clock.now_ms());
        let (day, hour) = (after.of_day().plus(amount), after.of_hour().plus(amount));
        if !self.allows(day, hour) {
            return Ok(None);
        }
        after.set(Some(day), Some(hour));
        self.keep(after).await?;
        *account = after;
        self.show(&account);
        Ok(Some(Reservation { day: after.day, hour: after.hour, amount }))
    }

    fn allows(&self, day: Spend, hour: Spend) -> bool {
        let within = |amount: u64, limit: Option<u64>| limit.is_none_or(|limit| amount <= limit);
        day.tokens <= self.config.tokens_per_day
            && day.micros <= self.micros_max()
            && within(day.calls, self.config.calls_per_day)
            && within(hour.tokens, self.config.tokens_per_hour)
            && within(hour.calls, self.config.calls_per_hour)
    }

    /// What this hour and this day leave together: calls and tokens.
    pub async fn left(&self) -> Spend {
        let account = self.account.lock().await.at(self.clock.now_ms());
        let left =
            |limit: Option<u64>, spent: u64| limit.map_or(u64::MAX, |l| l.saturating_sub(spent));
        let (config, day, hour) = (&self.config, account.of_day(), account.of_hour());
        Spend {
            calls: left(config.calls_per_day, day.calls)
                .min(left(config.calls_per_hour, hour.calls)),
            tokens: left(Some(config.tokens_per_day), day.tokens)
                .min(left(config.tokens_per_hour, hour.tokens)),
            micros: self.micros_max().saturating_sub(day.micros),
        }
    }

    /// Calls and tokens since this was opened, as far as they are known; money is not told.
    pub fn spent(&self) -> Spend {
        Spend { calls: self.calls.load(Relaxed), tokens: self.tokens.load(Relaxed), micros: 0 }
    }

    /// The most that one attempt at a request can cost.
    pub fn most(&self, request: &ChatRequest) -> Spend {
        let prompt = most_tokens(request.messages.iter().map(|m| m.content.as_str()));
        self.config.price(prompt, u64::from(request.max_tokens))
    }

    /// What a request did cost, as far as that is known; the most it can, as far as it is not.
    pub fn cost(&self, reply: &Result<ChatReply, ChatFailure>, most: Spend) -> Spend {
        match reply {
            Err(failure) => most.times(u64::from(failure.lost)),
            Ok(reply) => {
                let usage = reply.usage;
                let known = if usage.is_estimated {
                    most
                } else {
                    let (prompt, written) = (u64::from(usage.prompt), u64::from(usage.completion));
                    self.config.price(prompt, written)
                };
                known.plus(most.times(u64::from(reply.lost)))
            }
        }
    }

    /// Gives back what a reservation did not cost, or charges what it cost beyond. Becomes durable
    /// with the next reservation; until then a restart counts it as not given back.
    pub async fn settle(&self, reservation: Reservation, cost: Spend) {
        self.calls.fetch_add(cost.calls, Relaxed);
        self.tokens.fetch_add(cost.tokens, Relaxed);
        let mut account = self.account.lock().await;
        let amended = |spent: Spend| spent.minus(reservation.amount).plus(cost);
        let day = (account.day == reservation.day).then(|| amended(account.of_day()));
        let hour = (account.hour == reservation.hour).then(|| amended(account.of_hour()));
        account.set(day, hour);
        if cost.tokens > reservation.amount.tokens {
            tracing::warn!(
                reserved = reservation.amount.tokens,
                cost = cost.tokens,
                user = self.user,
                "an endpoint used more tokens than it was allowed"
            );
        }
        self.show(&account);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "≤ 1e15, > 0")]
    fn micros_max(&self) -> u64 {
        self.config.money_per_day.map_or(u64::MAX, |money| (money * 1e6).floor() as u64)
    }

    async fn keep(&self, account: Account) -> Result<(), BudgetError> {
        if self.state.as_os_str().is_empty() {
            return Ok(());
        }
        let path = self.state.clone();
        let unusable =
            |source| BudgetError::Unusable { path: self.state.display().to_string(), source };
        let bytes = serde_json::to_vec(&account).map_err(|e| unusable(e.into()))?;
        let written = tokio::task::spawn_blocking(move || file::replace(&path, &bytes)).await;
        written.map_err(|e| unusable(std::io::Error::other(e)))?.map_err(unusable)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
    fn show(&self, account: &Account) {
        let tokens = account.tokens as f64 / self.config.tokens_per_day as f64;
        metrics::gauge!(USED, "use" => self.user, "kind" => "tokens").set(tokens);
        if self.config.money_per_day.is_some() {
            let money = account.money_micros as f64 / self.micros_max() as f64;
            metrics::gauge!(USED, "use" => self.user, "kind" => "money").set(money);
        }
    }
}
