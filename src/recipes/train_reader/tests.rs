//! Runs on a tiny random model: learning, resuming, stopping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::model_folder::WEIGHTS_FILE;
use crate::policy::reader::PairReader;

fn args(dir: &std::path::Path, out: &str, steps: u64) -> TrainReaderArgs {
    let base = dir.join("base");
    if !base.exists() {
        write_tiny_model(&base, 5).unwrap();
    }
    let names = ["ada", "bob", "cyd", "dan", "eve", "fay"];
    let passages = (0..12).map(|n| {
        let name = names[n % 6];
        let text = match n < 6 {
            true => format!("the key of room {n} is {name}{name} in town"),
            false => format!("room {} has no lock at all", n % 6),
        };
        Document { id: format!("p{n}").as_str().into(), text, ..Document::default() }
    });
    let questions = (0..6).map(|n| TrainingQuestion {
        id: format!("q{n}"),
        question: format!("who is in room {n}?"),
        answers: vec![format!("{0}{0}", names[n].to_uppercase())],
        positives: vec![format!("p{n}").as_str().into()],
        candidates: vec![format!("p{n}").as_str().into(), format!("p{}", n + 6).as_str().into()],
    });
    TrainReaderArgs {
        base,
        out: dir.join(out),
        questions: questions.collect(),
        passages: passages.collect(),
        settings: TrainReaderSettings {
            steps,
            batch_questions: 4,
            trainable: Trainable::All,
            optimizer: OptimizerArgs { rate: 5e-3, warmup_steps: 2, ..Default::default() },
            checkpoint_every: 0,
            precision: Precision::F32,
            ..Default::default()
        },
    }
}

fn weights(args: &TrainReaderArgs) -> Vec<u8> {
    std::fs::read(args.out.join(WEIGHTS_FILE)).unwrap()
}

#[test]
fn the_loss_falls_and_the_reader_finds_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let args = args(dir.path(), "out", 120);
    let mut losses = Vec::new();
    let report = train_reader(&args, &mut |progress| {
        losses.push(progress.loss);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(report.finished && report.examples == 6);
    let last = losses[110..].iter().sum::<f32>() / 10.0;
    assert!(last < 0.5 * losses[0], "from {} to {last}", losses[0]);
    let reader = PairReader::load(&args.out, ReaderArgs::default()).unwrap();
    let read =
        |at: usize| reader.read(&[("who is in room 1?", &args.passages[at])]).unwrap().remove(0);
    assert_eq!(read(1).answer, "bobbob");
    assert!(read(1).rel > read(7).rel && read(1).margin() > read(7).margin());
}

#[test]
fn a_run_stopped_and_resumed_writes_the_same_bytes_as_one_that_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let (straight, stopped) = (args(dir.path(), "a", 7), args(dir.path(), "b", 7));
    train_reader(&straight, &mut |_| ControlFlow::Continue(())).unwrap();
    let first = train_reader(&stopped, &mut |progress| match progress.step {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .unwrap();
    assert_eq!((first.steps, first.finished, first.digest), (3, false, None));
    let second = train_reader(&stopped, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((second.steps, second.resumed_from), (7, Some(3)));
    assert!(weights(&straight) == weights(&stopped));
    assert_eq!(std::fs::read_dir(&stopped.out).unwrap().count(), 3, "the model's files alone");
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = args(dir.path(), "a", 7);
    train_reader(&args, &mut |_| ControlFlow::Break(())).unwrap();
    args.settings.seed += 1;
    let error = train_reader(&args, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, TrainReaderError::OtherRun { .. }), "{error}");
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_and_names_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = args(dir.path(), "a", 50);
    args.settings.optimizer.rate = 1e30;
    args.settings.optimizer.warmup_steps = 0;
    let error = train_reader(&args, &mut |_| ControlFlow::Continue(())).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(" at step 2"), "{text}");
    assert!(!args.out.join(WEIGHTS_FILE).exists());
}

#[test]
fn questions_without_a_passage_that_answers_them_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = args(dir.path(), "a", 5);
    args.questions.iter_mut().for_each(|question| question.answers = vec!["zzz".to_owned()]);
    let error = train_reader(&args, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, TrainReaderError::NoExamples { questions: 6, .. }), "{error}");
}

#[test]
fn every_trained_weight_gets_a_gradient_from_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let args = args(dir.path(), "a", 1);
    let base = ModelFolder::load(&args.base, &Device::Cpu).unwrap();
    let encoder =
        PairEncoder::new(base.tokenizer.clone(), &base.config, &args.settings.reader).unwrap();
    let examples = Examples::build(&args, &encoder).unwrap();
    let run = Run::start(&args, &base, &examples).unwrap();
    let (pairs, targets) = examples.batch(&encoder, 0, 0, 4).unwrap();
    let batch = PackedBatch::new(pairs.iter().map(|pair| &pair.sequence), &Device::Cpu).unwrap();
    let output = run.model.forward(&batch).unwrap();
    let gradients = loss(&output, &batch, &targets).unwrap().backward().unwrap();
    for (name, variable) in run.weights.variables() {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name}: none"));
        let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0 || name.ends_with("key.bias"), "{name}: zero");
    }
}

#[test]
fn zero_steps_only_store_the_base_in_another_precision() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = args(dir.path(), "a", 0);
    args.settings.precision = Precision::Int8Rows;
    let report = train_reader(&args, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.finished && report.digest.is_some());
    assert!(
        weights(&args).len()
            < std::fs::metadata(args.base.join(WEIGHTS_FILE)).unwrap().len() as usize
    );
}
