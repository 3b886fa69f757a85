//! The table of generators over numbers of documents.

use crate::policy::answer_head::AnswerHead;
use crate::recipes::fit::RecipeError;
use crate::recipes::generator::{Example, Figures, figures, margin_rule};
use serde::Serialize;
use std::fmt::Write as _;

/// Numbers of documents that are compared.
const FIXED: [usize; 5] = [1, 3, 5, 10, 20];

/// One generator with one number of documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// `margin_rule`, `untrained`, `sft` or `dpo`.
    generator: String,
    /// The data set; empty for all together.
    dataset: String,
    /// The first so many documents of the retrieval order.
    k: usize,
    #[serde(flatten)]
    figures: Figures,
}

/// The table, for people and for programs.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    pub(super) text: String,
}

/// Scores the margin rule and the heads on the same examples, over all and for each data set.
pub(super) fn table(
    heads: &[(&str, &AnswerHead)],
    examples: &[Example],
    top_n: usize,
) -> Result<Table, RecipeError> {
    let mut rows = Vec::new();
    for dataset in datasets(examples) {
        let of = |e: &&Example| dataset.is_empty() || name(e) == dataset;
        let part: Vec<Example> = examples.iter().filter(of).cloned().collect();
        for k in FIXED.into_iter().filter(|&k| k <= top_n) {
            let row = |generator: &str, figures| Row {
                generator: generator.to_owned(),
                dataset: dataset.clone(),
                k,
                figures,
            };
            rows.push(row("margin_rule", margin_rule(&part, k)));
            for (name, head) in heads {
                rows.push(row(name, figures(head, &part, k)?));
            }
        }
    }
    let mut text = String::from("dataset            k  generator     n      EM     F1");
    for row in &rows {
        let Figures { questions, exact_match, token_f1 } = row.figures;
        let dataset = if row.dataset.is_empty() { "all" } else { &row.dataset };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{dataset:<16} {:>3}  {:<11} {questions:>4} {:>7.1} {:>6.1}",
            row.k,
            row.generator,
            100.0 * exact_match,
            100.0 * token_f1
        );
    }
    Ok(Table { rows, text })
}

fn name(example: &Example) -> &str {
    example.query.metadata.get("dataset").map(String::as_str).unwrap_or_default()
}

/// All together first, then each data set where there are several.
fn datasets(examples: &[Example]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for example in examples {
        if !found.iter().any(|known| known == name(example)) {
            found.push(name(example).to_owned());
        }
    }
    found.sort();
    let each = if found.len() > 1 { found } else { Vec::new() };
    std::iter::once(String::new()).chain(each).collect()
}
