//! The recipe on questions made by hand, whose right passages do not have the widest margin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::answer_head::Wanted;
use crate::policy::reader::Reading;
use crate::rewards::{ANSWER_TYPE, LABEL, LABELS, LONG};
use actors::types::{Document, Query};
use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;

const WIDTH: usize = 8;

fn reading(answer: &str, margin: f32, sign: f32) -> Arc<Reading> {
    let state = |at: usize| if at.is_multiple_of(2) { sign } else { -0.5 * sign + at as f32 * 0.1 };
    Arc::new(Reading {
        cls: (0..WIDTH).map(state).collect(),
        span: vec![0.0; WIDTH],
        rel: margin,
        span_score: margin,
        null_score: 0.0,
        answer: answer.to_owned(),
        tokens: 50,
    })
}

fn query(n: usize, references: &[&str], kind: &str) -> Query {
    let mut query = Query {
        id: format!("q{n}").as_str().into(),
        text: format!("what is number {n}?"),
        references: references.iter().map(|r| (*r).to_owned()).collect(),
        ..Query::default()
    };
    if !kind.is_empty() {
        query.metadata.insert(ANSWER_TYPE.to_owned(), kind.to_owned());
        query.metadata.insert(LABELS.to_owned(), "yes,no".to_owned());
    }
    query
}

fn example(query: Query, readings: Vec<Arc<Reading>>) -> Example {
    let document = |(n, reading): (usize, &Arc<Reading>)| Document {
        id: format!("{}-{n}", query.id).as_str().into(),
        text: format!("it is {}", reading.answer),
        ..Document::default()
    };
    let documents = readings.iter().enumerate().map(document).collect();
    Example::new(query.clone(), documents, readings)
}

/// Questions whose right passage has the smaller margin and another state; every fourth wants a
/// label that the state tells, and every eighth contradicts the others: the passage with the state
/// of the right ones is wrong.
fn toy(count: usize) -> Vec<Example> {
    let one = |n: usize| {
        let sign = if n % 8 == 3 { 1.5 } else { -1.5 };
        if n % 4 == 3 {
            let label = if sign > 0.0 { "yes" } else { "no" };
            return example(query(n, &[label], LABEL), vec![reading("a", 0.0, sign); 3]);
        }
        let right = format!("right{n}");
        let sign = if n % 8 == 5 { -1.5 } else { 1.5 };
        let readings = vec![
            reading(&format!("first{n}"), 2.0, -sign),
            reading(&right, 0.0, sign),
            reading(&format!("other{n}"), 1.0, -1.5),
        ];
        example(query(n, &[&right], ""), readings)
    };
    (0..count).map(one).collect()
}

fn labels() -> Vec<String> {
    ["yes", "no", "perhaps"].map(str::to_owned).to_vec()
}

fn untrained() -> AnswerHead {
    AnswerHead::untrained(WIDTH, &labels(), 1, &Device::Cpu).unwrap()
}

fn settings() -> GeneratorSettings {
    GeneratorSettings {
        sft: PhaseSettings { steps: 40, batch: 8, rate: 1e-2 },
        dpo: PhaseSettings { steps: 20, batch: 8, rate: 3e-3 },
        sizes: vec![2, 3],
        validate_every: 10,
        ..GeneratorSettings::default()
    }
}

fn without_validation(training: &[Example]) -> Examples<'_> {
    Examples { training, validation: &[] }
}

fn run(examples: Examples<'_>, settings: &GeneratorSettings, keep: Option<&Keep>) -> Outcome {
    train(&untrained(), examples, settings, keep, &mut |_| {}).unwrap()
}

fn bytes(head: &AnswerHead) -> Vec<u8> {
    crate::policy::answer_head::to_bytes(head, None).unwrap()
}

#[test]
fn fine_tuning_learns_what_the_margin_does_not_say() {
    let (training, held_out) = (toy(32), toy(48)[32..].to_vec());
    let before = figures(&untrained(), &held_out, 3).unwrap();
    let plain = margin_rule(&held_out, 3);
    assert_eq!(plain.exact_match, 0.0, "the widest margin is always wrong");
    assert!(before.exact_match < 0.3, "{before:?}");
    let settings = settings();
    let start = mean_likelihood(&untrained(), &training, &settings).unwrap().unwrap();
    let trained = run(without_validation(&training), &settings, None).sft;
    let end = mean_likelihood(&trained, &training, &settings).unwrap().unwrap();
    assert!(end > start + 0.5, "likelihood {start} to {end}");
    let after = figures(&trained, &held_out, 3).unwrap();
    // One in eight cannot be learned.
    assert!(after.exact_match > 0.85, "{before:?} to {after:?}");
}

/// Mean log-ratio of chosen over rejected against the reference, over all pairs.
fn margin(head: &AnswerHead, examples: &[Example], pairs: &[Pair]) -> f32 {
    let rows: Vec<_> = pairs.iter().map(|p| (&examples[p.example], p.context.clone())).collect();
    let rows = Rows::new(head, &rows).unwrap();
    let all: Vec<&Pair> = pairs.iter().collect();
    let preference = preference_loss(head, &rows, &all, &settings()).unwrap();
    preference.margin.mean_all().unwrap().to_scalar().unwrap()
}

#[test]
fn the_preference_margin_rises_and_falls_when_the_pairs_are_swapped() {
    let (training, settings, reference) = (toy(24), settings(), untrained());
    let given = pairs(&reference, &training, &settings).unwrap();
    assert!(given.iter().any(|pair| pair.is_label) && given.iter().any(|pair| !pair.is_label));
    let start = margin(&reference, &training, &given);
    assert!(start.abs() < 1e-4, "the reference prefers nothing to itself: {start}");
    let examples = without_validation(&training);
    let mut ignore = |_| {};
    let up = prefer(&reference, (examples, &given), &settings, None, &mut ignore).unwrap();
    assert!(margin(&up, &training, &given) > 0.5, "{}", margin(&up, &training, &given));
    let swapped: Vec<Pair> = given
        .iter()
        .map(|pair| Pair {
            chosen: pair.rejected.clone(),
            rejected: pair.chosen.clone(),
            reference: (pair.reference.1, pair.reference.0),
            ..pair.clone()
        })
        .collect();
    let down = prefer(&reference, (examples, &swapped), &settings, None, &mut ignore).unwrap();
    assert!(margin(&down, &training, &given) < -0.5, "{}", margin(&down, &training, &given));
}

#[test]
fn a_pair_rejects_the_most_probable_wrong_answer_that_was_given() {
    let readings = vec![
        reading("near wrong", 1.0, 1.5),
        reading("right", 0.0, 1.5),
        reading("RIGHT!", -3.0, 1.5),
        reading("never given", 0.5, 1.5),
    ];
    let all = [example(query(0, &["right"], ""), readings)];
    let settings = GeneratorSettings { sizes: vec![4], uniform_share: 1.0, ..settings() };
    let found = pairs(&untrained(), &all, &settings).unwrap();
    assert!(!found.is_empty());
    for pair in &found {
        let answer = |at: &usize| all[0].readings[pair.context[*at]].answer.as_str();
        assert_eq!(pair.rejected.iter().map(answer).collect::<Vec<_>>(), ["near wrong"]);
        let chosen: Vec<String> = pair.chosen.iter().map(|at| answer(at).to_lowercase()).collect();
        assert_eq!(chosen.len(), 2, "both spellings of the gold answer: {chosen:?}");
        assert!(pair.reference.0 < 0.0 && pair.reference.1 < 0.0);
    }
    let sure =
        [example(query(1, &["x"], ""), vec![reading("x", 5.0, 1.0), reading("y", 0.0, 1.0)])];
    let none = pairs(&untrained(), &sure, &settings).unwrap();
    assert!(none.is_empty(), "it gives no wrong answer: {none:?}");
}

#[test]
fn the_targets_are_the_gold_answers_then_the_near_ones_then_none() {
    let near = vec![reading("new york city", 0.0, 1.0), reading("rome", 0.0, 1.0)];
    let none = vec![reading("paris", 0.0, 1.0), reading("rome", 0.0, 1.0)];
    let examples = [
        example(query(0, &["New York"], ""), near),
        example(query(1, &["New York"], ""), none.clone()),
        example(query(2, &["no"], LABEL), none.clone()),
        example(query(3, &["perhaps"], LABEL), none),
    ];
    let rows: Vec<_> = examples.iter().map(|e| (e, vec![0, 1])).collect();
    let rows = Rows::new(&untrained(), &rows).unwrap();
    let (weights, counts) = rows.targets(3, &settings());
    // Two passages, none, yes, no, perhaps.
    assert!((weights[0][0] - 0.8).abs() < 1e-6 && weights[0][1..] == [0.0; 5]);
    assert_eq!(weights[1], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(weights[2], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(counts, [1.0, 0.3, 1.0, 0.0], "a label outside the choice teaches nothing");
    let strict = GeneratorSettings { soft_f1_min: 1.0, ..settings() };
    assert_eq!(rows.targets(3, &strict).0[0], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_loss_by_hand_where_scores_are_known() {
    // Two equal passages and "none": with the same score each a third, whatever the head adds to
    // both; the loss of the one is then ln(2 + none) apart from its own score.
    let all = [example(query(0, &["x"], ""), vec![reading("x", 1.0, 1.0), reading("y", 1.0, 1.0)])];
    let head = untrained();
    let rows = Rows::new(&head, &[(&all[0], vec![0, 1])]).unwrap();
    let scores: Vec<f32> = rows.logits(&head).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let masses: Vec<f32> = scores[..3].iter().map(|s| s.exp()).collect();
    let expected = -(masses[0] / masses.iter().sum::<f32>()).ln();
    let loss = sft_loss(&head, &rows, &settings()).unwrap().to_scalar::<f32>().unwrap();
    assert!((loss - expected).abs() < 1e-5, "{loss} against {expected}");
}

#[test]
fn the_gradient_of_both_losses_reaches_every_trainable_tensor() {
    let training = toy(8);
    let (head, variables) = untrained().trainable().unwrap();
    let rows: Vec<_> = training.iter().map(|e| (e, vec![2, 0, 1])).collect();
    let rows = Rows::new(&head, &rows).unwrap();
    let found = pairs(&untrained(), &training, &settings()).unwrap();
    let batch: Vec<&Pair> = found.iter().collect();
    let of: Vec<_> = found.iter().map(|p| (&training[p.example], p.context.clone())).collect();
    let paired = Rows::new(&head, &of).unwrap();
    let losses = [
        ("sft", sft_loss(&head, &rows, &settings()).unwrap()),
        ("dpo", preference_loss(&head, &paired, &batch, &settings()).unwrap().loss),
    ];
    for (phase, loss) in losses {
        let gradients = loss.backward().unwrap();
        for (name, variable) in &variables {
            let gradient: Vec<f32> = gradients
                .get(variable)
                .unwrap_or_else(|| panic!("{phase}: `{name}` has no gradient"))
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            // The weight of "none" cancels in a preference of one answer over another.
            let is_free = phase == "dpo" && name == "answer.none";
            assert!(is_free || gradient.iter().any(|g| *g != 0.0), "{phase}: `{name}` is 0");
        }
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_weights_and_a_seed_repeats() {
    let (training, validation) = (toy(16), toy(24)[16..].to_vec());
    let examples = Examples { training: &training, validation: &validation };
    let settings = settings();
    let whole = run(examples, &settings, None);
    assert_eq!(bytes(&whole.dpo), bytes(&run(examples, &settings, None).dpo));
    let identity = fingerprint(&untrained(), examples, &settings).unwrap();
    assert!(whole.pairs > 0);
    for killed_in in [SFT, DPO] {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::new(folder.path().to_owned(), &identity, 3);
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut look =
                |look: Look| assert!(look.phase != killed_in || look.step < 20, "killed");
            train(&untrained(), examples, &settings, Some(&keep), &mut look).unwrap()
        }));
        assert!(killed.is_err());
        let resumed = run(examples, &settings, Some(&keep));
        assert!(bytes(&resumed.sft) == bytes(&whole.sft), "killed in {killed_in}");
        assert!(bytes(&resumed.dpo) == bytes(&whole.dpo), "killed in {killed_in}");
    }
    let other = GeneratorSettings { seed: 1, ..settings };
    assert_ne!(bytes(&run(examples, &other, None).sft), bytes(&whole.sft));
    assert_ne!(fingerprint(&untrained(), examples, &other).unwrap(), identity);
}

#[test]
fn with_own_weights_only_the_shared_head_stays_as_it_is() {
    let training = toy(16);
    let settings = GeneratorSettings { trained: Trained::Own, ..settings() };
    let start = untrained();
    let end = train(&start, without_validation(&training), &settings, None, &mut |_| {}).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (name, tensor) in start.head().tensors() {
        assert_eq!(flat(tensor), flat(&end.dpo.head().tensors()[name]), "`{name}` moved");
    }
    assert!(bytes(&start) != bytes(&end.dpo));
}

#[test]
fn weights_that_are_no_numbers_stop_the_run_with_phase_and_step() {
    let (broken, variables) = untrained().trainable().unwrap();
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    variables["answer.none"].set(&nan).unwrap();
    let training = toy(4);
    let error = train(&broken, without_validation(&training), &settings(), None, &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("generator-sft stopped at step 1"), "{error}");
}

#[test]
fn contexts_are_seeded_subsets_of_the_asked_sizes_that_follow_relevance() {
    let readings: Vec<_> = (0..12).map(|n| reading("x", -(n as f32), 1.0)).collect();
    let example = example(query(0, &["x"], ""), readings);
    let settings = GeneratorSettings { sizes: vec![1, 5, 50], ..settings() };
    let draws = |seed: u64, settings: &GeneratorSettings| -> Vec<Vec<usize>> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..200).map(|_| draw_context(&example, settings, &mut rng)).collect()
    };
    let all = draws(3, &settings);
    assert_eq!(all, draws(3, &settings));
    assert_ne!(all, draws(4, &settings));
    for context in &all {
        assert!([1, 5, 12].contains(&context.len()), "{context:?}");
        let distinct: std::collections::BTreeSet<_> = context.iter().collect();
        assert_eq!(distinct.len(), context.len());
    }
    let first = |contexts: &[Vec<usize>]| contexts.iter().filter(|c| c[0] == 0).count();
    let by_relevance = GeneratorSettings { uniform_share: 0.0, ..settings.clone() };
    let uniform = GeneratorSettings { uniform_share: 1.0, ..settings };
    // The most relevant of twelve comes first with chance 1 / (1 + e^-1 + …) = 0.63 against 1/12.
    assert!((100..155).contains(&first(&draws(5, &by_relevance))));
    assert!(first(&draws(5, &uniform)) < 40);
}

#[test]
fn what_cannot_be_taught_is_refused_and_settings_have_ranges() {
    let readings = || vec![reading("a", 0.0, 1.0)];
    let long = example(query(0, &["a long answer"], LONG), readings());
    let unknown = example(query(1, &[], ""), readings());
    let empty = example(query(2, &["a"], ""), Vec::new());
    assert_eq!(wanted(&long.query), Wanted::Long);
    let training = [long, unknown, empty];
    assert!(training.iter().all(|e| !e.is_taught()));
    let error = train(&untrained(), without_validation(&training), &settings(), None, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("nothing to learn from"));
    settings().check().unwrap();
    let wrong = [
        (GeneratorSettings { beta: 0.0, ..settings() }, "beta"),
        (GeneratorSettings { sizes: vec![3, 0], ..settings() }, "sizes"),
        (GeneratorSettings { soft_f1_min: f32::NAN, ..settings() }, "soft_f1_min"),
        (GeneratorSettings { uniform_share: 1.5, ..settings() }, "uniform_share"),
    ];
    for (settings, name) in wrong {
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
}
