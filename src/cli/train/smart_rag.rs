//! `regrade train --recipe smart_rag`: trains gate, rewrites and selection together, and reports
//! accuracy against retrievals on the test part.

use super::{Args, CliError, folder, say, start, tested};
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::datasets::{self, Question, bucket};
use crate::policy::policy_folder;
use crate::policy::serving;
use crate::recipes::smart_rag::{
    self, CURVE_OFFSETS, Event, Gate, Measured, Plan, Ports, Recall, Rules, SmartPolicy,
    SmartRagConfig, World,
};
use crate::wiring::{self, Lab};
use actors::types::{PolicySnapshot, PolicyVersion, Query};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Least similarity of a known question whose answer the closed book gives.
const SIMILARITY_MIN: f32 = 0.5;
/// Retrieve rates that offsets are calibrated for, on the training questions.
const RATES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// Flags of this recipe alone.
#[derive(Debug, Default, clap::Args)]
pub struct Flags {
    /// Question files whose answers the closed book knows (`smart_rag`): what it answers without
    /// documents. Without any, the configured generator is asked without documents.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub memory: Vec<PathBuf>,
    /// Share of questions that the memory holds, by id, in the training and in the test part
    /// (`smart_rag`); surplus questions of either kind are left out. Data sets named `--unmixed`
    /// are not counted. Without it, questions are taken as they are.
    #[arg(long, value_name = "SHARE")]
    pub mix: Option<f64>,
    /// Data sets that stand outside the mix and are kept whole, such as one that retrieval cannot
    /// help (`smart_rag`).
    #[arg(long, num_args = 1.., value_name = "DATASET", requires = "mix")]
    pub unmixed: Vec<String>,
    /// Folder of checkpoints, one below it a seed; a killed run goes on from there (`smart_rag`).
    #[arg(long, value_name = "DIR")]
    pub checkpoints: Option<PathBuf>,
}

/// Trains one policy a seed, and measures it where `--evaluate` asks for it.
pub(super) async fn run(args: Args, config: Config) -> Result<(), CliError> {
    let load = |e| CliError::failed("cannot load the questions", e);
    let questions = datasets::load_questions(&args.questions).map_err(load)?;
    let memory = match args.smart_rag.memory.as_slice() {
        [] => Vec::new(),
        files => datasets::load_questions(files).map_err(load)?,
    };
    let passages = datasets::load_passages(&args.passages)
        .map_err(|e| CliError::failed("cannot load the passages", e))?;
    let known: HashSet<&str> = memory.iter().map(|question| question.id.as_str()).collect();
    let test = mixed(tested(&args, &questions)?, &known, &args.smart_rag)?;
    let train = mixed(datasets::select(questions, &args.selection), &known, &args.smart_rag)?;
    let (train, test) = (queries(&train), queries(&test));
    let quota = config.smart_rag.retrievals_max as usize;
    let pairs = (train.len() + test.len()) * args.top_n as usize * (1 + quota);
    let lab = wiring::lab(&config, &passages, pairs)
        .await
        .map_err(|e| CliError::failed("cannot set up training", e))?;
    let world = world(&args, &config, &lab, Recall::new(&memory, SIMILARITY_MIN))?;
    let mut runs = Vec::new();
    for &seed in &args.seeds {
        let settings = SmartRagConfig { seed, ..config.smart_rag.clone() };
        let summary = one(&args, (&config, &settings), (&lab, &world), (&train, &test)).await?;
        say(&summary)?;
        runs.push(summary);
    }
    crate::cli::write_report(args.report.as_deref(), &json!({ "runs": runs }))
}

/// The questions of a part such that `--mix` of those that are mixed are known; a longer side loses
/// its last questions by hash.
fn mixed(
    questions: Vec<Question>,
    known: &HashSet<&str>,
    flags: &Flags,
) -> Result<Vec<Question>, CliError> {
    let Some(share) = flags.mix else { return Ok(questions) };
    if !(0.0..1.0).contains(&share) {
        return Err(CliError::Usage("--mix must be a share of at least 0 and below 1".to_owned()));
    }
    let (mut kept, inside): (Vec<Question>, Vec<Question>) =
        questions.into_iter().partition(|question| flags.unmixed.contains(&question.dataset));
    let (mut ours, mut others): (Vec<Question>, Vec<Question>) =
        inside.into_iter().partition(|question| known.contains(question.id.as_str()));
    for side in [&mut ours, &mut others] {
        side.sort_by_cached_key(|question| {
            (bucket(&question.id, "mix", u32::MAX), question.id.clone())
        });
    }
    let wanted = |others: usize| (others as f64 * share / (1.0 - share)).round() as usize;
    if ours.len() > wanted(others.len()) {
        ours.truncate(wanted(others.len()));
    } else if share > 0.0 {
        others.truncate((ours.len() as f64 * (1.0 - share) / share).round() as usize);
    }
    kept.append(&mut ours);
    kept.append(&mut others);
    kept.sort_by_cached_key(|question| {
        (bucket(&question.id, "order", u32::MAX), question.id.clone())
    });
    Ok(kept)
}

fn queries(questions: &[Question]) -> Vec<Query> {
    questions.iter().map(Question::to_query).collect()
}

fn world(args: &Args, config: &Config, lab: &Lab, memory: Recall) -> Result<World, CliError> {
    let rewriter =
        wiring::rewriter(config).map_err(|e| CliError::failed("cannot set up the rewriter", e))?;
    let ports = Ports {
        index: Arc::clone(&lab.index),
        generator: Arc::clone(&lab.generator),
        closed_book: match args.smart_rag.memory.as_slice() {
            [] => Arc::clone(&lab.generator),
            _ => Arc::new(memory),
        },
        rewriter,
        reader: Arc::clone(&lab.reader) as Arc<dyn smart_rag::ReadPairs>,
    };
    Ok(World::new(ports, args.top_n as usize, config.smart_rag.observations_max))
}

/// Trains with one seed, keeps the policy, and measures it.
async fn one(
    args: &Args,
    (config, settings): (&Config, &SmartRagConfig),
    (lab, world): (&Lab, &World),
    (train, test): (&[Query], &[Query]),
) -> Result<Value, CliError> {
    let failed = |doing: &'static str| move |e| CliError::failed(doing, e);
    let seed = settings.seed;
    let start = start(args, lab, seed)?;
    let weights = serving::from_snapshot(&start, &lab.device)
        .map_err(|e| CliError::failed("cannot start from these weights", e))?;
    let plan = Plan {
        world,
        queries: train,
        start: &weights,
        limits: config.service.limits,
        config: settings,
        checkpoints: args.smart_rag.checkpoints.as_ref().map(|d| d.join(format!("seed-{seed}"))),
        device: lab.device.clone(),
    };
    let mut progress = Progress::start("training questions tried", Some(train.len() as u64));
    let mut curve = Vec::new();
    let trained = smart_rag::train(&plan, &mut |event| watch(event, &mut progress, &mut curve))
        .await
        .map_err(failed("training stopped"))?;
    progress.finish();
    let bytes = serving::to_bytes(&trained.weights).map_err(CliError::because)?;
    let version = PolicyVersion(start.version.0 + 1);
    let snapshot = PolicySnapshot::new(version, Some(start.version), "smart_rag", bytes);
    let folder = folder(args, seed);
    policy_folder::write(&folder, &snapshot)
        .map_err(|e| CliError::failed("cannot keep the policy", e))?;
    let policy = SmartPolicy::new(&trained.weights, (settings.hidden, seed), &lab.device)
        .map_err(failed("cannot use what was trained"))?;
    let mut summary = json!({
        "seed": seed, "recipe": "smart_rag", "policy": folder, "digest": snapshot.digest,
        "questions": train.len(), "samples": trained.kinds, "curve": curve,
        "validation": {
            "warmed_up": trained.validation.0, "best": trained.validation.1,
        },
    });
    if !test.is_empty() {
        let rules = Rules::greedy(settings.retrievals_max, config.service.limits);
        summary["evaluation"] =
            evaluated(world, &policy, (train, test), (&rules, settings)).await?;
        let warmed = measured(world, &trained.warmed_up, test, (&rules, settings)).await?;
        summary["evaluation"]["warmed_up"] = json!(warmed);
    }
    summary["work"] = json!({ "world": world.counts(), "reader": lab.reader.counters() });
    Ok(summary)
}

fn watch(event: Event, progress: &mut Progress, curve: &mut Vec<Value>) {
    match event {
        Event::Tried { done, .. } => {
            if done.is_multiple_of(20) {
                progress.advance(20, &json!({}));
            }
        }
        event => {
            let figures = json!(event);
            progress.advance(0, &figures);
            curve.push(figures);
        }
    }
}

async fn measured(
    world: &World,
    policy: &SmartPolicy,
    queries: &[Query],
    (rules, settings): (&Rules, &SmartRagConfig),
) -> Result<Measured, CliError> {
    let queries: Vec<&Query> = queries.iter().collect();
    smart_rag::measure(world, policy, &queries, (rules, settings))
        .await
        .map_err(|e| CliError::failed("the evaluation stopped", e))
}

/// The policy against both fixed gates with its own selection, and at other retrieve rates.
async fn evaluated(
    world: &World,
    policy: &SmartPolicy,
    (train, test): (&[Query], &[Query]),
    (rules, settings): (&Rules, &SmartRagConfig),
) -> Result<Value, CliError> {
    let stopped = |e| CliError::failed("the evaluation stopped", e);
    let of = |gate: Gate| rules.with_gate(gate);
    let ours = measured(world, policy, test, (rules, settings)).await?;
    let always = measured(world, policy, test, (&of(Gate::Always), settings)).await?;
    let never = measured(world, policy, test, (&of(Gate::Never), settings)).await?;
    let all: Vec<&Query> = test.iter().collect();
    let points = smart_rag::curve(world, policy, &all, (rules, settings), &CURVE_OFFSETS);
    let points = points.await.map_err(stopped)?;
    let trained: Vec<&Query> = train.iter().collect();
    let odds = smart_rag::first_turn_log_odds(world, policy, &trained, settings.retrievals_max);
    let odds = odds.await.map_err(stopped)?;
    let mut calibrated = Vec::new();
    for rate in RATES {
        let retrieve_bias = smart_rag::calibrate_rate(&odds, rate);
        let rules = of(Gate::Policy { retrieve_bias });
        let tally = measured(world, policy, test, (&rules, settings)).await?.overall;
        calibrated.push(json!({ "wished": rate, "retrieve_bias": retrieve_bias, "tally": tally }));
    }
    let saved = 1.0 - ours.overall.retrievals as f64 / always.overall.retrievals.max(1) as f64;
    Ok(json!({
        "smart_rag": ours, "always_retrieve": always, "never_retrieve": never,
        "retrievals_saved": saved, "f1_gain": ours.overall.f1 - always.overall.f1,
        "em_gain": ours.overall.em - always.overall.em,
        "offsets": points, "calibrated": calibrated,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_mix_keeps_the_share_and_leaves_other_sets_whole() {
        let question = |id: usize, dataset: &str| Question {
            id: format!("{dataset}{id}"),
            dataset: dataset.to_owned(),
            ..Question::default()
        };
        let mut all: Vec<Question> = (0..90).map(|id| question(id, "in")).collect();
        all.extend((0..10).map(|id| question(id, "out")));
        let names: Vec<String> = (0..60).map(|id| format!("in{id}")).collect();
        let known: HashSet<&str> = names.iter().map(String::as_str).collect();
        let flags = Flags { mix: Some(1.0 / 3.0), unmixed: vec!["out".into()], ..Flags::default() };
        let kept = mixed(all.clone(), &known, &flags).unwrap();
        let count = |f: &dyn Fn(&Question) -> bool| kept.iter().filter(|q| f(q)).count();
        assert_eq!(count(&|q| known.contains(q.id.as_str())), 15);
        assert_eq!(count(&|q| q.dataset == "in"), 45);
        assert_eq!(count(&|q| q.dataset == "out"), 10);
        assert_eq!(mixed(all.clone(), &known, &Flags::default()).unwrap(), all);
        let wrong = Flags { mix: Some(1.0), ..Flags::default() };
        assert!(mixed(all, &known, &wrong).is_err());
    }
}
