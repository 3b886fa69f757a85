//! What a judge may spend in a UTC day, in tokens and in money: never passed.
//!
//! The most that a call can cost is reserved before it is made and durable before it goes out;
//! afterwards the reservation shrinks to what it did cost. What is not known to have cost less stays
//! charged: after a crash the day begins where the last reservation stood. One file a process.

use actors::clock::Clock;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

const DAY_MS: u64 = 86_400_000;

/// Limits of a day, and prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Most tokens in a UTC day, read and written, ≥ 1. A judgement is begun only while the most it
    /// may cost fits: every vote, and every attempt of each, at a token for each byte of its prompt.
    pub tokens_per_day: u64,
    /// Most money in a UTC day, in the currency of the prices; absent: no limit.
    pub money_per_day: Option<f64>,
    /// Price of a million tokens read, ≥ 0.
    pub prompt_price: f64,
    /// Price of a million tokens written, ≥ 0.
    pub completion_price: f64,
    /// File that keeps what was spent, for this process alone; empty: kept in memory, and forgotten
    /// at a restart.
    pub state: PathBuf,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            tokens_per_day: 1_000_000,
            money_per_day: None,
            prompt_price: 0.0,
            completion_price: 0.0,
            state: ".regrade/judge-budget.json".into(),
        }
    }
}

impl BudgetConfig {
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let is_price = |price: f64| price.is_finite() && (0.0..=1e9).contains(&price);
        if self.tokens_per_day == 0 {
            return Err(("tokens_per_day", "a number above 0".to_owned()));
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

    /// What so many tokens cost; money in millionths, rounded up.
    pub(super) fn price(&self, prompt: u64, completion: u64) -> Spend {
        #[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^52")]
        let micros = prompt as f64 * self.prompt_price + completion as f64 * self.completion_price;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, ≥ 0"
        )]
        let micros = micros.ceil() as u64;
        Spend { tokens: prompt.saturating_add(completion), micros }
    }
}

/// Why the budget cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The file cannot be read, written or locked.
    #[error("cannot keep the judge's spending in `{path}`: {source}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process keeps its spending there.
    #[error("`{path}` belongs to another running judge: give each `judge.llm.budget.state` a file")]
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
    /// Tokens read and written.
    pub(super) tokens: u64,
    /// Millionths of the currency.
    pub(super) micros: u64,
}

impl Spend {
    pub(super) fn times(self, n: u64) -> Self {
        let (tokens, micros) = (self.tokens.saturating_mul(n), self.micros.saturating_mul(n));
        Self { tokens, micros }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            micros: self.micros.saturating_add(other.micros),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
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
    amount: Spend,
}

/// A day's account, as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    /// Days since the Unix epoch.
    day: u64,
    tokens: u64,
    money_micros: u64,
}

/// The account of this process.
#[derive(Debug)]
pub struct Budget {
    config: BudgetConfig,
    clock: Clock,
    account: Mutex<Account>,
    /// Held as long as this lives.
    _lock: Option<File>,
}

impl Budget {
    /// Takes the file, and the account in it.
    ///
    /// # Errors
    /// The file cannot be used, is in use, or is damaged.
    pub fn open(config: BudgetConfig, clock: Clock) -> Result<Self, BudgetError> {
        if config.state.as_os_str().is_empty() {
            return Ok(Self { config, clock, account: Mutex::default(), _lock: None });
        }
        let shown = config.state.display().to_string();
        let (lock, bytes) = take(&config.state)?;
        let account = match bytes {
            None => Account::default(),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| BudgetError::Damaged { path: shown, reason: e.to_string() })?,
        };
        Ok(Self { config, clock, account: Mutex::new(account), _lock: Some(lock) })
    }

    /// Sets an amount aside, durably; `None` where it would pass a limit of today.
    ///
    /// # Errors
    /// It cannot be made durable; nothing is set aside then.
    pub async fn reserve(&self, amount: Spend) -> Result<Option<Reservation>, BudgetError> {
        let mut account = self.account.lock().await;
        let before = *account;
        let today = self.clock.now_ms() / DAY_MS;
        // A clock that goes back must not hand out a day twice.
        let mut after =
            if today > before.day { Account { day: today, ..Account::default() } } else { before };
        after.tokens = after.tokens.saturating_add(amount.tokens);
        after.money_micros = after.money_micros.saturating_add(amount.micros);
        if after.tokens > self.config.tokens_per_day || after.money_micros > self.micros_max() {
            return Ok(None);
        }
        self.keep(after).await?;
        *account = after;
        self.show(&account);
        Ok(Some(Reservation { day: after.day, amount }))
    }

    /// Gives back what a reservation did not cost, or charges what it cost beyond. Becomes durable
    /// with the next reservation; until then a restart counts it as not given back.
    pub async fn settle(&self, reservation: Reservation, cost: Spend) {
        let mut account = self.account.lock().await;
        if account.day != reservation.day {
            return;
        }
        let spent = Spend { tokens: account.tokens, micros: account.money_micros };
        let spent = spent.minus(reservation.amount).plus(cost);
        (account.tokens, account.money_micros) = (spent.tokens, spent.micros);
        if cost.tokens > reservation.amount.tokens {
            tracing::warn!(
                reserved = reservation.amount.tokens,
                cost = cost.tokens,
                "the judge's endpoint used more tokens than it was allowed"
            );
        }
        self.show(&account);
    }

    /// The settings.
    pub(super) fn config(&self) -> &BudgetConfig {
        &self.config
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "≤ 1e15, > 0")]
    fn micros_max(&self) -> u64 {
        self.config.money_per_day.map_or(u64::MAX, |money| (money * 1e6).floor() as u64)
    }

    async fn keep(&self, account: Account) -> Result<(), BudgetError> {
        if self.config.state.as_os_str().is_empty() {
            return Ok(());
        }
        let path = self.config.state.clone();
        let unusable = |source| BudgetError::Unusable {
            path: self.config.state.display().to_string(),
            source,
        };
        let bytes = serde_json::to_vec(&account).map_err(|e| unusable(e.into()))?;
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        written.map_err(|e| unusable(std::io::Error::other(e)))?.map_err(unusable)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
    fn show(&self, account: &Account) {
        let tokens = account.tokens as f64 / self.config.tokens_per_day as f64;
        metrics::gauge!(super::BUDGET_USED, "kind" => "tokens").set(tokens);
        if self.config.money_per_day.is_some() {
            let money = account.money_micros as f64 / self.micros_max() as f64;
            metrics::gauge!(super::BUDGET_USED, "kind" => "money").set(money);
        }
    }
}

/// Locks the file's neighbour (the file itself is replaced at each write) and reads the file.
fn take(path: &Path) -> Result<(File, Option<Vec<u8>>), BudgetError> {
    let shown = || path.display().to_string();
    let unusable = |source| BudgetError::Unusable { path: shown(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(unusable)?;
    }
    let lock = File::create(path.with_extension("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BudgetError::InUse { path: shown() }),
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok((lock, Some(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((lock, None)),
        Err(error) => Err(unusable(error)),
    }
}

/// Replaces the file whole or not at all, and durably.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
