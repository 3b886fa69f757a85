//! The generator on real questions, where they are at hand.

use crate::tiny::{Tiny, command};
use regrade::config::Config;
use regrade::datasets::{self, Half, Selection, Split};
use regrade::policy::answer_head::AnswerHead;
use regrade::recipes::generator::{
    Example, Examples, GeneratorSettings, PhaseSettings, mean_likelihood, train,
};
use regrade::recipes::instance::lay_out;
use regrade::wiring;
use std::path::{Path, PathBuf};

const QUESTIONS: usize = 120;
const TOP_N: usize = 8;

/// Questions and passages of NQ, or the reason why there are none.
fn data() -> Result<[PathBuf; 2], String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let folder = root.join(shared).join("data");
    let files = ["nq-gold.questions.jsonl.gz", "wiki.passages.jsonl.gz"].map(|f| folder.join(f));
    match files.iter().all(|file| file.is_file()) {
        true => Ok(files),
        false => Err(format!("no data in {}; set REGRADE_SHARED", folder.display())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fine_tuning_raises_the_likelihood_of_real_questions() {
    let files = match data() {
        Ok(files) => files,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let all = datasets::load_questions(&files[..1]).unwrap();
    let part = Selection { split: Split::Train, half: Half::Odd, limit: Some(QUESTIONS) };
    let questions = datasets::select(all, &part);
    let passages = datasets::load_passages(&files[1..]).unwrap();
    let mut config = Config::default();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/models/minilm-reader");
    config.generator.model = model.clone();
    config.policy.model = model;
    let lab = wiring::lab(&config, &passages, QUESTIONS * TOP_N).await.unwrap();
    let laid_out = lay_out(&*lab.index, &lab.reader, &questions, TOP_N, &mut |_, _| {}).await;
    let examples: Vec<Example> =
        laid_out.unwrap().iter().map(|i| Example::of(i, &lab.reader).unwrap()).collect();
    let settings = GeneratorSettings {
        sft: PhaseSettings { steps: 150, ..PhaseSettings::default() },
        dpo: PhaseSettings { steps: 0, ..PhaseSettings::default() },
        sizes: vec![1, 3, 8],
        ..GeneratorSettings::default()
    };
    let labels = datasets::VERDICTS.map(str::to_owned);
    let head = AnswerHead::untrained(lab.reader.width(), &labels, 0, &lab.device).unwrap();
    let before = mean_likelihood(&head, &examples, &settings).unwrap().unwrap();
    let training = Examples { training: &examples, validation: &[] };
    let trained = train(&head, training, &settings, None, &mut |_| {}).unwrap().sft;
    let after = mean_likelihood(&trained, &examples, &settings).unwrap().unwrap();
    println!("mean log-likelihood of the right answers: {before:.3} to {after:.3} nats");
    assert!(after > before + 0.1, "{before} to {after}");
}

#[tokio::test]
async fn what_train_generator_writes_is_what_evaluate_answers_with() {
    let tiny = Tiny::new();
    let question = |n: usize| {
        format!("{{\"id\":\"q{n}\",\"question\":\"who is in {n}?\",\"answers\":[\"bob\"]}}\n")
    };
    let passage = |n: usize| format!("{{\"pid\":\"{n}\",\"text\":\"bob is in room {n}\"}}\n");
    let questions = tiny.file("q.jsonl", &(0..8).map(question).collect::<String>());
    let passages = tiny.file("p.jsonl", &(0..8).map(passage).collect::<String>());
    let files = ["--questions", &questions, "--passages", &passages, "--top-n", "3"];
    let (head, report) = (tiny.text("head"), tiny.text("report.json"));
    let mut train = vec!["train-generator", "--out", &head, "--sft-steps", "2", "--dpo-steps", "0"];
    train.extend(files);
    let flags = tiny.flags();
    train.extend(flags.iter().map(String::as_str));
    command(&train).await.unwrap();
    let policy = tiny.text("policy");
    let first = regrade::policy::serving::first_snapshot(16, 0, &candle_core::Device::Cpu).unwrap();
    regrade::policy::policy_folder::write(Path::new(&policy), &first).unwrap();
    let mut evaluate = vec!["evaluate", "--policy", &policy, "--report", &report];
    evaluate.extend(files);
    evaluate.extend(flags.iter().map(String::as_str));
    let (of_head, memory) =
        (format!("generator.answer_head={head}"), format!("generator.memory=[\"{questions}\"]"));
    for setting in [&of_head, &memory] {
        evaluate.extend(["--set", setting]);
    }
    command(&evaluate).await.unwrap();
    let wrong = format!("generator.answer_head={policy}");
    let at = evaluate.iter().position(|word| *word == of_head).unwrap();
    evaluate[at] = &wrong;
    let (_, error) = command(&evaluate).await.unwrap_err();
    assert!(error.contains("set up the evaluation"), "{error}");
}
