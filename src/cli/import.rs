//! `regrade import`: weights that were trained elsewhere, checked and held against the other side.
//!
//! Owns its flags; what is checked is `interchange`'s.

use super::settings::ConfigArgs;
use super::train_reader::Stored;
use super::{CliError, say};
use crate::interchange::parity::{self, Cases, ParityError, TOLERANCE_MAX};
use crate::interchange::{encoder, policy};
use crate::policy::policy_folder;
use crate::policy::reader::PairReader;
use crate::policy::serving::{self, EncoderPolicy};
use actors::clock::Clock;
use actors::types::PolicyVersion;
use candle_core::Device;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flags of `regrade import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A policy: safetensors with `head.*` and perhaps `trunk.*`, on the model of `policy.model`.
    Policy(PolicyArgs),
    /// A BERT encoder or cross-encoder: a Hugging Face folder.
    Encoder(EncoderArgs),
}

/// What the other side computed.
#[derive(Debug, clap::Args)]
struct ParityArgs {
    /// Cases with the logits of the other side, one a line; without it nothing is compared.
    #[arg(long, value_name = "FILE")]
    parity: Option<PathBuf>,
    /// Largest difference of a logit where a case has none of its own.
    #[arg(long, default_value_t = 1e-3, value_parser = parse_tolerance)]
    tolerance: f64,
}

#[derive(Debug, clap::Args)]
struct PolicyArgs {
    /// The weights.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// What they are called: their lineage is `imported/NAME`.
    #[arg(long)]
    name: String,
    /// Where the policy goes: a folder that does not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The policy folder that they were made from: its sizes where the file says none, and the
    /// parent on record.
    #[arg(long, value_name = "DIR")]
    like: Option<PathBuf>,
    #[command(flatten)]
    parity: ParityArgs,
    #[command(flatten)]
    settings: ConfigArgs,
}

#[derive(Debug, clap::Args)]
struct EncoderArgs {
    /// The folder: config.json, tokenizer.json, model.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What it is called: its lineage is `imported/NAME`.
    #[arg(long)]
    name: String,
    /// Where the model goes: a folder that does not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Put zeros for a relevance head or a span head that the folder does not have.
    #[arg(long)]
    fill_missing_heads: bool,
    /// How the weights are stored.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Stored,
    #[command(flatten)]
    parity: ParityArgs,
    #[command(flatten)]
    settings: ConfigArgs,
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= TOLERANCE_MAX => Ok(value),
        _ => Err(format!("expected a number above 0, at most {TOLERANCE_MAX}")),
    }
}

impl ParityArgs {
    fn cases(&self) -> Result<Option<Cases>, CliError> {
        let read = |path: &PathBuf| Cases::read(path, self.tolerance);
        let read = self.parity.as_ref().map(read).transpose();
        read.map_err(|e| CliError::failed("cannot read --parity", e))
    }
}

/// Imports.
///
/// # Errors
/// Files that cannot be read, tensors that do not fit, logits that are not those of the other side,
/// or a place that is taken. Nothing is kept then.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.what {
        What::Policy(args) => import_policy(&args),
        What::Encoder(args) => import_encoder(&args),
    }
}

fn import_encoder(args: &EncoderArgs) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    let failed = |e| CliError::failed("cannot import the encoder", e);
    let cases = args.parity.cases()?;
    let loaded = encoder::load(&args.model, args.fill_missing_heads).map_err(failed)?;
    let how = (args.precision.into(), Clock::System);
    let place = (args.name.as_str(), args.out.as_path());
    let reader = config.generator.reader.clone();
    let imported = encoder::write(&loaded, place, how, reader, cases.as_ref()).map_err(failed)?;
    let mut line = json!(imported);
    line["out"] = json!(args.out);
    say(line)
}

fn import_policy(args: &PolicyArgs) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    free(&args.out)?;
    let cases = args.parity.cases()?;
    let like = match &args.like {
        None => None,
        Some(folder) => Some(
            policy_folder::read(folder).map_err(|e| CliError::failed("cannot read --like", e))?,
        ),
    };
    let like_weights = like
        .as_ref()
        .map(|like| serving::from_snapshot(like, &Device::Cpu))
        .transpose()
        .map_err(|e| CliError::failed("cannot read --like", e))?;
    let parent: Option<PolicyVersion> = like.as_ref().map(|like| like.version);
    let (snapshot, weights) =
        policy::read(&args.weights, &args.name, like_weights.as_ref(), parent)
            .map_err(|e| CliError::failed("cannot import the policy", e))?;
    // As a service takes it: the head fits the model folder, and so does the trunk.
    let reader = PairReader::load(&config.policy.model, config.generator.reader.clone())
        .map_err(|e| CliError::failed("cannot load the model of `policy.model`", e))?;
    EncoderPolicy::new(Arc::new(reader), &snapshot, Device::Cpu)
        .map_err(|e| CliError::failed("cannot serve these weights on `policy.model`", e))?;
    let check = |cases: &Cases| -> Result<parity::Report, ParityError> {
        cases.check(|case| parity::of_head(&weights.head, case))
    };
    let report = cases
        .as_ref()
        .map(check)
        .transpose()
        .map_err(|e| CliError::failed("cannot import the policy", e))?;
    policy_folder::write(&args.out, &snapshot)
        .map_err(|e| CliError::failed("cannot keep the policy", e))?;
    say(json!({
        "lineage": snapshot.recipe,
        "version": snapshot.version,
        "parent": snapshot.parent,
        "digest": snapshot.digest,
        "parity": report,
        "out": args.out,
    }))
}

fn free(out: &Path) -> Result<(), CliError> {
    match out.exists() {
        true => Err(CliError::because(format!(
            "`{}` exists; give another --out, or remove it",
            out.display()
        ))),
        false => Ok(()),
    }
}
