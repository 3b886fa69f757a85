//! DPO's pairs: contexts in which the generator could have said the right thing and a wrong one.
//!
//! Knows no loss.

use super::super::fit::{RecipeError, rng_of};
use super::GeneratorSettings;
use super::contexts::draw;
use super::examples::Example;
use super::losses::Rows;
use crate::policy::answer_head::{AnswerHead, Groups, Wanted, answer_key};
use std::collections::BTreeSet;

/// A gold and a wrong answer of one context.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The example, as an index.
    pub example: usize,
    /// Its candidates in the context, in order.
    pub context: Vec<usize>,
    /// Whether the answers are labels.
    pub is_label: bool,
    /// Positions in the context (or labels of the head) that are right; never empty.
    pub chosen: Vec<usize>,
    /// Those of the wrong answer; never empty.
    pub rejected: Vec<usize>,
    /// Log-probability of both under the reference, nats.
    pub reference: (f32, f32),
}

/// An answer that a context can give: positions, name, log-probability, and how right it is.
struct Choice {
    at: Vec<usize>,
    name: String,
    log_prob: f32,
    quality: f32,
}

/// Draws contexts of every example and finds the pairs; a function of its arguments only.
///
/// For each question: the wrong answers (below the soft threshold) that `reference` gives over its
/// contexts are gathered; a context that holds a gold answer and one of them is a pair, with the
/// most probable one rejected. Equal contexts of one question count once.
///
/// # Errors
/// The head fails.
pub fn pairs(
    reference: &AnswerHead,
    examples: &[Example],
    settings: &GeneratorSettings,
) -> Result<Vec<Pair>, RecipeError> {
    let mut found = Vec::new();
    for (index, example) in examples.iter().enumerate().filter(|(_, e)| e.is_taught()) {
        let mut rng = rng_of(settings.seed, "generator-dpo-contexts", index as u64);
        let contexts: BTreeSet<Vec<usize>> =
            (0..settings.contexts).map(|_| draw(example, settings, &mut rng)).collect();
        let rows: Vec<_> = contexts.into_iter().map(|context| (example, context)).collect();
        let log_probs = Rows::new(reference, &rows)?.log_probs(reference)?;
        let labels = reference.labels();
        let choices: Vec<Vec<Choice>> = rows
            .iter()
            .zip(&log_probs)
            .map(|((example, context), row)| choices(example, context, (labels, row)))
            .collect();
        let is_wrong = |choice: &&Choice| choice.quality < settings.soft_f1_min;
        let given: BTreeSet<&str> = choices
            .iter()
            .filter_map(|row| row.iter().max_by(|a, b| a.log_prob.total_cmp(&b.log_prob)))
            .filter(is_wrong)
            .map(|choice| choice.name.as_str())
            .collect();
        for ((_, context), row) in rows.iter().zip(&choices) {
            let right: Vec<&Choice> = row.iter().filter(|c| c.quality >= 1.0).collect();
            let wrong = row.iter().filter(is_wrong).filter(|c| given.contains(c.name.as_str()));
            let Some(wrong) = wrong.max_by(|a, b| a.log_prob.total_cmp(&b.log_prob)) else {
                continue;
            };
            if right.is_empty() {
                continue;
            }
            let mass: f64 = right.iter().map(|c| f64::from(c.log_prob).exp()).sum();
            let mut chosen: Vec<usize> = right.iter().flat_map(|c| c.at.clone()).collect();
            chosen.sort_unstable();
            found.push(Pair {
                example: index,
                context: context.clone(),
                is_label: matches!(example.wanted, Wanted::Label(_)),
                chosen,
                rejected: wrong.at.clone(),
                reference: (mass.max(f64::MIN_POSITIVE).ln() as f32, wrong.log_prob),
            });
        }
    }
    Ok(found)
}

/// What a context can answer; `row` are the log-probabilities of its alternatives.
fn choices(
    example: &Example,
    context: &[usize],
    (labels, row): (&[String], &[f32]),
) -> Vec<Choice> {
    if let Wanted::Label(wanted) = &example.wanted {
        let from = row.len() - labels.len();
        let open = |label: &String| wanted.is_empty() || wanted.contains(label);
        let choice = |(at, label): (usize, &String)| Choice {
            at: vec![at],
            name: label.clone(),
            log_prob: row[from + at],
            quality: f32::from(u8::from(example.query.references.contains(label))),
        };
        return labels.iter().enumerate().filter(|(_, label)| open(label)).map(choice).collect();
    }
    let answer = |at: usize| example.readings[context[at]].answer.as_str();
    let groups = Groups::new((0..context.len()).map(answer));
    let pooled = groups.pooled(&row[..context.len()]);
    let choice = |(members, log_prob): (&Vec<usize>, f64)| Choice {
        name: answer_key(answer(members[0])),
        // The same answer is as right wherever it stands.
        quality: example.quality[context[members[0]]],
        at: members.clone(),
        log_prob: log_prob as f32,
    };
    groups.members().iter().zip(pooled).map(choice).collect()
}
