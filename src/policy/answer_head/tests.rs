//! The answer head on readings made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::serving::{self, PolicyWeights};
use actors::types::{Digest, PolicySnapshot, PolicyVersion};
use std::path::Path;

const WIDTH: usize = 8;

pub(super) fn labels() -> Vec<String> {
    ["SUPPORTS", "REFUTES", "NOT_ENOUGH_INFO"].map(str::to_owned).to_vec()
}

fn head(seed: u64) -> AnswerHead {
    AnswerHead::untrained(WIDTH, &labels(), seed, &Device::Cpu).unwrap()
}

/// A reading of this answer with this margin.
fn reading(answer: &str, margin: f32) -> Arc<Reading> {
    let state = |n: usize| ((answer.len() * 7 + n * 3) % 5) as f32 - 2.0;
    Arc::new(Reading {
        cls: (0..WIDTH).map(state).collect(),
        span: vec![0.0; WIDTH],
        rel: margin / 4.0,
        span_score: margin + 4.0,
        null_score: 4.0,
        answer: answer.to_owned(),
        tokens: 100,
    })
}

fn documents(readings: &[Arc<Reading>]) -> Vec<Document> {
    let document = |(n, reading): (usize, &Arc<Reading>)| Document {
        id: format!("d{n}").as_str().into(),
        text: format!("Some words here. It says {} there. More words.", reading.answer),
        ..Document::default()
    };
    readings.iter().enumerate().map(document).collect()
}

fn answer(head: &AnswerHead, readings: &[Arc<Reading>], wanted: &Wanted) -> Option<Found> {
    let documents = documents(readings);
    let passages = Passages { question: "who is it?", documents: &documents, readings };
    decode(head, passages, wanted, Limits { long_words_max: 12 }).unwrap()
}

fn short(head: &AnswerHead, readings: &[Arc<Reading>]) -> Found {
    answer(head, readings, &Wanted::Short).unwrap()
}

fn logits(head: &AnswerHead, readings: &[Arc<Reading>]) -> AnswerLogits {
    let rows = states("who is it?", &documents(readings), readings);
    let width = rows.len() / readings.len();
    head.forward(&Lists::pad(&[rows], width, &Device::Cpu).unwrap()).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn untrained_the_score_is_about_the_margin_and_the_widest_wins() {
    let readings = [reading("Ada", -6.0), reading("Bob", 3.0), reading("Cyd", 1.0)];
    for seed in 0..4 {
        let head = head(seed);
        let spans = flat(&logits(&head, &readings).spans);
        let none = spans[3];
        for (score, margin) in spans.iter().zip([-6.0, 3.0, 1.0]) {
            let found = score - none;
            assert!((found - margin).abs() < 0.5, "seed {seed}: {found} against {margin}");
        }
        let found = short(&head, &readings);
        assert_eq!((found.text.as_str(), found.cites.as_slice()), ("Bob", &[1][..]));
        // Odds e^3 to e^1 + e^-6 + e^0.
        let expected = 3.0 - (1f32.exp() + (-6f32).exp() + 1.0).ln();
        assert!((found.confidence - expected).abs() < 0.6, "{} {expected}", found.confidence);
    }
}

#[test]
fn equal_answers_pool_and_beat_a_wider_margin() {
    let apart = [reading("Ada", 2.0), reading("Bob", 1.5), reading("Cyd", 1.4)];
    assert_eq!(short(&head(0), &apart).text, "Ada");
    let agreeing = [reading("Ada", 2.0), reading("Bob", 1.5), reading("the BOB!", 1.4)];
    let found = short(&head(0), &agreeing);
    assert_eq!((found.text.as_str(), found.cites), ("Bob", vec![1, 2]));
}

#[test]
fn one_passage_still_has_a_confidence_and_no_passage_has_no_answer() {
    let found = short(&head(0), &[reading("Ada", -3.0)]);
    assert!((found.confidence + 3.0).abs() < 0.5, "{}", found.confidence);
    assert_eq!(short(&head(0), &[]), Found::default());
    let nothing = short(&head(0), &[reading("", -20.0)]);
    assert!(nothing.text.is_empty() && nothing.cites.is_empty());
    let certain = short(&head(0), &[reading("Ada", 1e6)]);
    assert!(certain.confidence.is_finite());
}

/// A trained head in which the position counts: the earlier, the better.
fn minding_position() -> AnswerHead {
    let (trained, variables) = head(0).trainable().unwrap();
    let mut skip = flat(variables["answer.skip.weight"].as_tensor());
    skip[features::position("retrieval_reciprocal_rank").unwrap()] = 2.0;
    variables["answer.skip.weight"].set(&Tensor::new(skip, &Device::Cpu).unwrap()).unwrap();
    trained
}

#[test]
fn among_equals_the_first_wins_and_where_position_is_learned_order_matters() {
    let (ada, bob) = (reading("Ada", 2.0), reading("Bob", 2.0));
    let head = minding_position();
    assert_eq!(short(&head, &[ada.clone(), bob.clone()]).text, "Ada");
    assert_eq!(short(&head, &[bob, ada]).text, "Bob");
}

#[test]
fn passages_that_say_the_same_may_change_places() {
    // Same answer, same reading: the pooled score cannot depend on which of them comes first.
    let (one, other) = (reading("Ada", 2.0), reading("Bob", 0.0));
    let twins = [one.clone(), one.clone(), other.clone()];
    let found = short(&head(3), &twins);
    let documents = documents(&twins);
    let swapped = [documents[1].clone(), documents[0].clone(), documents[2].clone()];
    let passages = Passages { question: "who is it?", documents: &swapped, readings: &twins };
    let limits = Limits { long_words_max: 12 };
    let again = decode(&head(3), passages, &Wanted::Short, limits).unwrap().unwrap();
    assert_eq!(found, again);
}

#[test]
fn padding_changes_nothing() {
    let (two, three) = (
        [reading("Ada", 2.0), reading("Bob", 1.0)],
        [reading("Ada", 1.0), reading("Bob", 0.0), reading("Cyd", 5.0)],
    );
    let rows = |readings: &[Arc<Reading>]| states("who is it?", &documents(readings), readings);
    let lists = [rows(&two), rows(&three)];
    let padded = Lists::pad(&lists, lists[0].len() / 2, &Device::Cpu).unwrap();
    let both = head(1).forward(&padded).unwrap();
    let (alone, first) = (logits(&head(1), &two), both.spans.get(0).unwrap());
    for (a, b) in flat(&alone.spans).iter().zip([0, 1, 3].map(|i| flat(&first)[i])) {
        assert!((a - b).abs() < 1e-4, "{a} against {b}");
    }
    assert_eq!(flat(&both.present.get(0).unwrap()), [1.0, 1.0, 0.0, 1.0]);
    for (a, b) in flat(&alone.labels).iter().zip(flat(&both.labels.get(0).unwrap())) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn a_label_is_chosen_among_those_that_are_wanted() {
    let readings = [reading("Ada", 2.0), reading("Bob", 1.0)];
    let of = |wanted: &[&str]| {
        let wanted = wanted.iter().map(|l| (*l).to_owned()).collect();
        answer(&head(0), &readings, &Wanted::Label(wanted))
    };
    let any = of(&[]).unwrap();
    assert!(labels().contains(&any.text) && any.cites == [0, 1], "{any:?}");
    assert_eq!(of(&["REFUTES", "unknown"]).unwrap().text, "REFUTES");
    assert_eq!(of(&["yes", "no"]), None);
}

#[test]
fn a_long_answer_is_the_sentences_of_the_spans_within_the_bound() {
    let readings = [reading("Ada", 2.0), reading("Bob", 1.0)];
    let found = answer(&head(0), &readings, &Wanted::Long).unwrap();
    assert_eq!(found.text, "It says Ada there. More words. It says Bob there.");
    assert_eq!(found.cites, [0, 1]);
    assert!(found.confidence.is_finite());
}

#[test]
fn the_gradient_reaches_every_trainable_tensor() {
    let (trained, variables) = head(0).trainable().unwrap();
    let readings = [reading("Ada", 2.0), reading("Bob", 1.0), reading("Cyd", -1.0)];
    let out = logits(&trained, &readings);
    // Attention over the labels' list has a gradient at its start of 0, too.
    let loss = (out.spans.powf(2.0).unwrap().sum_all().unwrap()
        + out.labels.exp().unwrap().get(0).unwrap().get(1).unwrap())
    .unwrap();
    let gradients = loss.backward().unwrap();
    for (name, variable) in &variables {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("`{name}` has none"));
        assert!(flat(gradient).iter().any(|g| *g != 0.0), "`{name}` has a gradient of 0");
    }
    assert!(variables.keys().all(|name| !name.contains("stop")), "nothing reads the stop");
}

#[test]
fn a_head_on_a_policy_starts_without_its_prior_and_sees_its_steps() {
    let policy = PolicyWeights::untrained(WIDTH, 5, &Device::Cpu).unwrap();
    let (shared, variables) = policy.head.trainable().unwrap();
    let answers = AnswerHead::on(shared, &labels(), 0, &Device::Cpu).unwrap();
    let readings = [reading("Ada", 2.0), reading("Bob", 1.0)];
    let before = flat(&logits(&answers, &readings).spans);
    assert!((before[0] - before[2] - 2.0).abs() < 0.5, "{before:?}");
    let moved = (variables["score.weight"].as_tensor() + 1.0).unwrap();
    variables["score.weight"].set(&moved).unwrap();
    assert_ne!(before, flat(&logits(&answers, &readings).spans), "one step moves both");
    let own = answers.snapshot().unwrap();
    variables["score.weight"].set(&(moved + 1.0).unwrap()).unwrap();
    assert_ne!(
        flat(&logits(&own, &readings).spans),
        flat(&logits(&answers, &readings).spans),
        "a snapshot stays"
    );
}

fn refused(folder: &Path, reader: &Digest) -> String {
    read(folder, reader, &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn a_folder_gives_back_the_head_and_refuses_what_does_not_fit() {
    let place = tempfile::tempdir().unwrap();
    let (folder, reader) = (place.path().join("head"), Digest("r1".to_owned()));
    assert!(refused(&folder, &reader).contains("regrade train-generator"));
    let head = minding_position();
    let digest = write(&folder, &head, ("sft", &reader), None).unwrap();
    let again = read(&folder, &reader, &Device::Cpu).unwrap();
    assert_eq!(to_bytes(&again, None).unwrap(), to_bytes(&head, None).unwrap());
    assert_eq!(write(&folder, &again, ("sft", &reader), None).unwrap(), digest);
    let other = Digest("r2".to_owned());
    assert!(refused(&folder, &other).contains("trained on the reader r1, and r2 was given"));
    let weights = folder.join("answer_head.safetensors");
    std::fs::write(&weights, b"else").unwrap();
    assert!(refused(&folder, &reader).contains("digest its manifest states"));
    std::fs::write(folder.join("answer_head.json"), b"{}").unwrap();
    assert!(refused(&folder, &reader).contains("not the manifest of an answer head"));
}

#[test]
fn shared_weights_lie_once_beside_their_policy_and_follow_no_other() {
    let place = tempfile::tempdir().unwrap();
    let (folder, reader) = (place.path().join("both"), Digest("r1".to_owned()));
    let snapshot = |seed| {
        let weights = PolicyWeights::untrained(WIDTH, seed, &Device::Cpu).unwrap();
        let bytes = serving::to_bytes(&weights).unwrap();
        (weights, PolicySnapshot::new(PolicyVersion(1), None, "test", bytes))
    };
    let (policy, first) = snapshot(1);
    let head = AnswerHead::on(policy.head, &labels(), 0, &Device::Cpu).unwrap();
    write(&folder, &head, ("sft", &reader), Some(&first)).unwrap();
    assert!(crate::policy::policy_folder::is_policy_folder(&folder));
    let again = read(&folder, &reader, &Device::Cpu).unwrap();
    let readings = [reading("Ada", 2.0), reading("Bob", 1.0)];
    assert_eq!(flat(&logits(&again, &readings).spans), flat(&logits(&head, &readings).spans));
    crate::policy::policy_folder::write(&folder, &snapshot(2).1).unwrap();
    assert!(refused(&folder, &reader).contains("train the generator again on that policy"));
    let bytes = to_bytes(&head, Some(&first.digest)).unwrap();
    let alone = from_bytes(&bytes, None, &Device::Cpu).unwrap_err().to_string();
    assert!(alone.contains("which is not beside it"), "{alone}");
}

#[test]
fn bytes_that_are_something_else_are_refused_by_what_is_wrong() {
    let of = |bytes: &[u8]| from_bytes(bytes, None, &Device::Cpu).unwrap_err().to_string();
    assert!(of(b"else").contains("not a safetensors file"));
    let policy = PolicyWeights::untrained(WIDTH, 1, &Device::Cpu).unwrap();
    let policy = serving::to_bytes(&policy).unwrap();
    assert!(of(&policy).contains("are they a policy's?"), "{}", of(&policy));
    let mut other = to_bytes(&head(0), None).unwrap();
    let at = other.windows(LAYOUT.len()).position(|part| part == LAYOUT.as_bytes()).unwrap();
    other[at + LAYOUT.len() - 1] = b'9';
    assert!(of(&other).contains("answer layout `regrade-answers/9`"), "{}", of(&other));
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    let (trained, variables) = head(0).trainable().unwrap();
    variables["answer.none"].set(&nan).unwrap();
    let error = to_bytes(&trained, None).unwrap_err().to_string();
    assert_eq!(error, "tensor `answer.none` holds NaN");
}
