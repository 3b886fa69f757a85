//! `regrade export`: training data for other trainers, and inputs to compare weights by.
//!
//! Owns its flags and where the records come from: the log of a configuration, or a file of a
//! recipe's rollouts. What becomes of them is `interchange`'s.

use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::LogKind;
use crate::interchange::examples::{Rules, Task};
use crate::interchange::export::{self, Settings};
use crate::interchange::limits::{Limits, Tokens};
use crate::interchange::log::{Episodes, Joined, demonstrations, preferences};
use crate::interchange::parity::{self, Quantity};
use crate::interchange::records::{self, TrainingRecord};
use crate::interchange::shape::Shape;
use crate::interchange::wording::Role;
use crate::wiring::OperatorLog;
use actors::clock::Clock;
use actors::types::Sample;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Flags of `regrade export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Prompts and completions: what to imitate.
    Sft(DataArgs),
    /// Prompts with a better and a worse completion.
    Preferences(DataArgs),
    /// Questions and documents for the other side to compute logits of (`import --parity`).
    ParityInputs(ParityArgs),
}

/// Where records come from.
#[derive(Debug, clap::Args)]
struct SourceArgs {
    /// File of records that a recipe wrote; without it the judged episodes of the log.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    #[command(flatten)]
    settings: ConfigArgs,
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    /// Which model is to be trained.
    #[arg(long, value_enum, default_value = "reranker")]
    role: RoleArg,
    /// Whose shape the lines have.
    #[arg(long, value_enum)]
    format: Format,
    /// Where the data goes: a folder that does not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Smallest reward of what is imitated.
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true, value_name = "REWARD")]
    min_reward: f64,
    /// Smallest difference between the rewards of a pair.
    #[arg(long, default_value_t = 0.05, value_name = "REWARD")]
    min_gap: f64,
    /// Share of questions held out; over `service.replay_buffer.holdout_fraction`.
    #[arg(long, value_name = "SHARE")]
    holdout_fraction: Option<f64>,
    /// The `tokenizer.json` of the model to be trained, or its folder; without it words are counted.
    #[arg(long, value_name = "FILE|DIR")]
    tokenizer: Option<PathBuf>,
    /// Longest prompt; passages are cut to fit, the instruction never is.
    #[arg(long, default_value_t = Limits::default().max_prompt_tokens, value_name = "TOKENS")]
    max_prompt_tokens: usize,
    /// Longest completion; the rest of it is cut.
    #[arg(long, default_value_t = Limits::default().max_completion_tokens, value_name = "TOKENS")]
    max_completion_tokens: usize,
    /// Most examples.
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    max_examples: u64,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, clap::Args)]
struct ParityArgs {
    /// Where the cases go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which logits are to be compared; `scores` needs the states of a log.
    #[arg(long, value_enum, default_value = "relevance")]
    quantity: QuantityArg,
    /// Most cases.
    #[arg(long, default_value_t = 50, value_name = "N")]
    count: usize,
    #[command(flatten)]
    source: SourceArgs,
}

/// The models of a RAG system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RoleArg {
    /// Writes positions: `[3], [17]`.
    Reranker,
    /// Writes answers.
    Generator,
}

/// The shapes of trainers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Format {
    /// TRL, conversational.
    Trl,
    /// TRL, plain texts.
    TrlStandard,
    /// LLaMA-Factory, alpaca.
    LlamaFactory,
    /// LLaMA-Factory, sharegpt.
    LlamaFactorySharegpt,
}

/// What a parity case compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum QuantityArg {
    /// A cross-encoder's logit.
    Relevance,
    /// An extractive reader's score of no answer.
    NoAnswer,
    /// A selection head's scores.
    Scores,
}

impl From<Format> for Shape {
    fn from(format: Format) -> Self {
        match format {
            Format::Trl => Self::Trl,
            Format::TrlStandard => Self::TrlStandard,
            Format::LlamaFactory => Self::LlamaFactory,
            Format::LlamaFactorySharegpt => Self::LlamaFactorySharegpt,
        }
    }
}

/// Exports.
///
/// # Errors
/// A log or a file that cannot be read, settings out of range, nothing that gives an example, or a
/// place that is taken.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.what {
        What::Sft(args) => data(Task::Sft, args).await,
        What::Preferences(args) => data(Task::Preferences, args).await,
        What::ParityInputs(args) => parity_inputs(args).await,
    }
}

async fn data(task: Task, args: DataArgs) -> Result<(), CliError> {
    let config = args.source.settings.load(Vec::new())?;
    let buffer = &config.service.replay_buffer;
    let role = match args.role {
        RoleArg::Reranker => Role::Reranker,
        RoleArg::Generator => Role::Generator,
    };
    let limits = Limits {
        max_prompt_tokens: args.max_prompt_tokens,
        max_completion_tokens: args.max_completion_tokens,
    };
    let settings = Settings {
        rules: Rules { task, role, min_reward: args.min_reward, min_gap: args.min_gap, limits },
        shape: args.format.into(),
        holdout_fraction: args.holdout_fraction.unwrap_or(buffer.holdout_fraction),
        holdout_key: buffer.holdout_key.clone(),
        max_examples: args.max_examples,
    };
    settings.check().map_err(|error| CliError::Usage(error.to_string()))?;
    let tokens = match &args.tokenizer {
        None => Tokens::Words,
        Some(path) => {
            Tokens::load(path).map_err(|e| CliError::failed("cannot measure lengths", e))?
        }
    };
    let (records, source) = match &args.source.records {
        Some(path) => {
            let found = records::read_records(path)
                .map_err(|e| CliError::failed("cannot read --records", e))?;
            (found, json!({ "records": path.file_name().map(|name| name.to_string_lossy()) }))
        }
        None => {
            let (samples, mut joined) = judged(&args.source).await?;
            // A generator's pair is a reference against an answer: one episode is enough for it.
            let records = match (task, role) {
                (Task::Preferences, Role::Reranker) => preferences(&samples, &mut joined),
                _ => demonstrations(&samples, &mut joined),
            };
            (records, json!({ "log": joined }))
        }
    };
    write(&records, &settings, &tokens, source, &args.out)
}

fn write(
    records: &[TrainingRecord],
    settings: &Settings,
    tokens: &Tokens,
    source: Value,
    out: &std::path::Path,
) -> Result<(), CliError> {
    let report = export::export(records, settings, tokens, (source, Clock::System), out)
        .map_err(|e| CliError::failed("cannot export training data", e))?;
    say(export::summary(&report, out))
}

/// The judged episodes of the log.
async fn judged(source: &SourceArgs) -> Result<(Vec<Sample>, Joined), CliError> {
    let config = source.settings.load(Vec::new())?;
    if config.log.kind == LogKind::Memory {
        return Err(CliError::Usage(
            "`log.kind = \"memory\"` keeps no episodes; give the --config of the service, or \
             --records"
                .to_owned(),
        ));
    }
    let log = OperatorLog::open(&config)
        .await
        .map_err(|e| CliError::failed("cannot open the event log", e))?;
    let mut episodes = Episodes::default();
    for stream in Episodes::STREAMS {
        let read = log.read(stream).await;
        for record in read.map_err(|e| CliError::failed("cannot read the event log", e))? {
            episodes.take(&record);
        }
    }
    Ok(episodes.judged())
}

async fn parity_inputs(args: ParityArgs) -> Result<(), CliError> {
    let quantity = match args.quantity {
        QuantityArg::Relevance => Quantity::Relevance,
        QuantityArg::NoAnswer => Quantity::NoAnswer,
        QuantityArg::Scores => Quantity::Scores,
    };
    let cases = match &args.source.records {
        Some(_) if quantity == Quantity::Scores => {
            return Err(CliError::Usage(
                "--quantity scores needs the states of the log; leave out --records".to_owned(),
            ));
        }
        Some(path) => {
            let found = records::read_records(path)
                .map_err(|e| CliError::failed("cannot read --records", e))?;
            parity::cases_of_records(&found, quantity, args.count)
        }
        None => {
            let (samples, _) = judged(&args.source).await?;
            parity::cases_of_samples(&samples, quantity, args.count)
        }
    };
    if cases.is_empty() {
        return Err(CliError::because(
            "there is no judged episode and no record with candidates to compare by",
        ));
    }
    parity::write_cases(&args.out, &cases)
        .map_err(|e| CliError::failed("cannot write the cases", e))?;
    say(json!({ "out": args.out, "cases": cases.len(), "quantity": quantity }))
}
