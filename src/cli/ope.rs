//! `regrade ope`: what other policies would have earned on logged traffic, without serving them.
//!
//! Owns its flags, where the log is read from and what is said of each target. How a target is
//! named is in `ope/targets.rs`; what is estimated is `evaluate::off_policy`'s. A target that the
//! log says too little of is refused with the reason, which is an answer and no failure.

mod report;
mod targets;
mod window;

use super::settings::{ConfigArgs, FlagSetting};
use super::{CliError, say, write_report};
use crate::config::{Config, LogKind, Trainable};
use crate::evaluate::off_policy::traffic::{Judged, Traffic, Window};
use crate::evaluate::off_policy::{self, Estimator, Logged, OffPolicyConfig, Refusal, Unusable};
use crate::wiring::{OperatorLog, WiringError};
use actors::clock::Clock;
use actors::ports::LogError;
use actors::types::Exploration;
use report::{PolicyReport, Report};
use std::path::PathBuf;
use targets::Target;

/// Flags of `regrade ope`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log: its folder, or the configuration of the service that writes it; over --config.
    #[arg(long, value_name = "DIR|CONFIG")]
    log: Option<PathBuf>,
    /// A policy to score; may be repeated. A policy folder (`DIR`, `NAME=DIR`), a version in the
    /// store (`v7`), `k=3` (the first 3 as retrieved), `threshold=0.5` (documents whose logged
    /// score is at least that, best first), `greedy` (the policies that served, without chance),
    /// `uniform` (blind chance), `rewrite=on`, `rewrite=off`.
    #[arg(long, required = true, value_name = "POLICY")]
    policy: Vec<String>,
    /// Softmax temperature that weights would be served with; without it as each decision was.
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Share of uniform choice that weights would be served with; without it as each decision was.
    #[arg(long, value_name = "SHARE")]
    epsilon: Option<f64>,
    /// Share of the decisions in which weights would be served with one step left to chance;
    /// without it every step is, where a temperature or an epsilon is given.
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
    /// Weights would be served without chance.
    #[arg(long, conflicts_with_all = ["temperature", "epsilon", "share"])]
    without_exploration: bool,
    /// Read the texts anew by the encoder of the configuration instead of taking the logged
    /// features: always so for weights with an encoder of their own, and for all where
    /// `policy.trainable` is `full`.
    #[arg(long)]
    read_anew: bool,
    /// Only episodes that ended at or after this: `7d`, `12h`, `30m` ago, a date (`2026-01-31`), a
    /// time (`2026-01-31T12:00:00Z`) or milliseconds since 1970.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only episodes that ended before this.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only the newest so many of these.
    #[arg(long, value_name = "N")]
    newest: Option<usize>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Where the report goes, as one JSON document.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// What tames weights and when there is no interval; what is not given is as `[off_policy]` has it.
#[derive(Debug, clap::Args)]
struct LimitArgs {
    /// Fewest usable decisions.
    #[arg(long, value_name = "N")]
    rows_min: Option<usize>,
    /// Fewest distinct queries among them.
    #[arg(long, value_name = "N")]
    queries_min: Option<usize>,
    /// Smallest effective sample size.
    #[arg(long, value_name = "N")]
    ess_min: Option<f64>,
    /// Largest share of the weight that one decision may carry.
    #[arg(long, value_name = "SHARE")]
    weight_share_max: Option<f64>,
    /// What the verdict goes by; without it `sndr`, or `snips` where there is no reward model.
    #[arg(long, value_name = "NAME")]
    estimator: Option<String>,
    /// Where clipped IPS cuts weights.
    #[arg(long, value_name = "WEIGHT")]
    clip: Option<f64>,
    /// What an interval may miss.
    #[arg(long, value_name = "SHARE")]
    alpha: Option<f64>,
    /// Replicates of the bootstrap.
    #[arg(long, value_name = "N")]
    bootstrap: Option<usize>,
    /// Selections drawn from each target for each decision, for the reward model.
    #[arg(long, value_name = "N")]
    draws: Option<usize>,
    /// Smallest and largest reward, for the confidence sequence.
    #[arg(long, num_args = 2, allow_negative_numbers = true, value_names = ["LOW", "HIGH"])]
    reward_range: Option<Vec<f64>>,
    /// Seed of every draw.
    #[arg(long)]
    seed: Option<u64>,
}

impl LimitArgs {
    fn over(&self, base: &OffPolicyConfig) -> Result<OffPolicyConfig, CliError> {
        let mut config = base.clone();
        set(&mut config.rows_min, self.rows_min);
        set(&mut config.queries_min, self.queries_min);
        set(&mut config.ess_min, self.ess_min);
        set(&mut config.weight_share_max, self.weight_share_max);
        set(&mut config.clip, self.clip);
        set(&mut config.alpha, self.alpha);
        set(&mut config.bootstrap_draws, self.bootstrap);
        set(&mut config.reward_model.draws, self.draws);
        set(&mut config.seed, self.seed);
        if let Some(name) = &self.estimator {
            config.estimator = Some(estimator(name)?);
        }
        if let Some([low, high]) = self.reward_range.as_deref() {
            config.reward_range = [*low, *high];
        }
        config.validate().map_err(|(field, expected)| {
            let field = match field.as_str() {
                "bootstrap_draws" => "bootstrap".to_owned(),
                "reward_model.draws" => "draws".to_owned(),
                field => field.replace('_', "-"),
            };
            CliError::Usage(format!("--{field} is out of range, expected {expected}"))
        })?;
        Ok(config)
    }
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

/// The estimator of this name.
fn estimator(name: &str) -> Result<Estimator, CliError> {
    Estimator::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Estimator::ALL[1..].iter().map(|known| known.name()).collect();
        let names = names.join(", ");
        CliError::Usage(format!("--estimator `{name}` is none; there are {names}"))
    })
}

/// Scores every policy and prints a table.
///
/// # Errors
/// A log or weights that cannot be read, or flags that make no sense; a target without support is
/// none.
pub async fn run(args: Args) -> Result<(), CliError> {
    let exploration = exploration(&args)?;
    let window = window(&args)?;
    let config = settings(&args)?;
    let limits = args.limits.over(&config.off_policy)?;
    let judged = read(&config, window).await?;
    // Where trunks are trained, logged features are those of whichever trunk served.
    let read_anew = args.read_anew || config.policy.trainable == Trainable::Full;
    let targets = Target::all(&args.policy, &config, (read_anew, &judged.samples)).await?;
    let traffic = report::TrafficReport::new(&judged, window);
    let mut policies = Vec::with_capacity(targets.len());
    for target in &targets {
        policies.push(score(target, &judged, exploration, &limits)?);
    }
    let exploration = off_policy::exploration_cost(&judged.samples, &limits);
    let report = Report { schema: 1, traffic, exploration, settings: limits, policies };
    write_report(args.report.as_deref(), &report)?;
    say(report::table(&report).trim_end())
}

/// What the log says of one target.
fn score(
    target: &Target,
    judged: &Judged,
    exploration: Option<Exploration>,
    limits: &OffPolicyConfig,
) -> Result<PolicyReport, CliError> {
    let report = PolicyReport::new(target, exploration);
    if let Some(refusal) = target.refusal() {
        return Ok(report.refused(&refusal, None));
    }
    let mut conduct = |sample: &_| target.conduct(sample, exploration);
    let logged: Logged = off_policy::rows(&judged.samples, &mut conduct, limits)
        .map_err(|e| CliError::failed(format!("cannot score policy `{}`", target.name()), e))?;
    let greedy = logged.unusable.get(&Unusable::Greedy).copied().unwrap_or(0);
    let found = Refusal::unexplored(logged.rows.len() as u64, greedy, limits)
        .and_then(|()| off_policy::evaluate(&logged.rows, limits));
    Ok(match found {
        Ok(found) => report.estimated(found, &logged),
        Err(refusal) => report.refused(&refusal, Some((&logged, limits.clip))),
    })
}

fn exploration(args: &Args) -> Result<Option<Exploration>, CliError> {
    if args.without_exploration {
        return Ok(Some(Exploration::Greedy));
    }
    if args.temperature.is_none() && args.epsilon.is_none() && args.share.is_none() {
        return Ok(None);
    }
    let (temperature, epsilon) = (args.temperature.unwrap_or(1.0), args.epsilon.unwrap_or(0.0));
    let exploration = match args.share {
        Some(share) => Exploration::Explore { share, temperature, epsilon },
        None => Exploration::Sample { temperature, epsilon },
    };
    exploration
        .validate()
        .map_err(|reason| CliError::Usage(format!("--{}", reason.replacen(": ", " ", 1))))?;
    Ok(Some(exploration))
}

fn window(args: &Args) -> Result<Window, CliError> {
    let now = Clock::System.now_ms();
    let time = |flag: &str, text: &Option<String>, otherwise: u64| match text {
        None => Ok(otherwise),
        Some(text) => window::parse(text, now)
            .map_err(|reason| CliError::Usage(format!("{flag} `{text}` is no time: {reason}"))),
    };
    let all = Window::default();
    let window = Window {
        since_ms: time("--since", &args.since, all.since_ms)?,
        until_ms: time("--until", &args.until, all.until_ms)?,
        newest: args.newest.unwrap_or(all.newest),
    };
    if window.since_ms >= window.until_ms {
        return Err(CliError::Usage("--since is not before --until".to_owned()));
    }
    Ok(window)
}

fn settings(args: &Args) -> Result<Config, CliError> {
    let Some(place) = &args.log else { return args.settings.load(Vec::new()) };
    if place.is_file() {
        return args.settings.clone().with_file(place.clone()).load(Vec::new());
    }
    if !place.is_dir() {
        return Err(CliError::Usage(format!(
            "--log `{}` is neither a folder nor a configuration file",
            place.display()
        )));
    }
    let of = |key: &str, value: String| -> FlagSetting {
        ("--log".to_owned(), format!("log.{key}"), value)
    };
    let folder = place.display().to_string();
    args.settings.load(vec![of("kind", "embedded".to_owned()), of("folder", folder)])
}

/// The judged episodes of the log.
async fn read(config: &Config, window: Window) -> Result<Judged, CliError> {
    if config.log.kind == LogKind::Memory {
        return Err(CliError::Usage(
            "`log.kind = \"memory\"` keeps no episodes; give --log, or the --config of the service"
                .to_owned(),
        ));
    }
    let log = OperatorLog::open(config).await.map_err(|error| match error {
        WiringError::Log(LogError::InUse(reason)) => CliError::because(format!(
            "cannot read the event log while a service has it ({reason}): stop the service, or \
             give --log a copy of its folder"
        )),
        error => CliError::failed("cannot open the event log", error),
    })?;
    let mut traffic = Traffic::new(window);
    for stream in Traffic::STREAMS {
        let read = log.read(stream).await;
        for record in read.map_err(|e| CliError::failed("cannot read the event log", e))? {
            traffic.take(&record);
        }
    }
    Ok(traffic.judged())
}
