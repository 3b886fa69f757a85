//! Surface cues: word overlap of query, title, document and answer, and the kind of answer asked for.
//!
//! English question words; for other languages these columns are constant and the head ignores them.

use super::agreement::Agreement;
use crate::policy::reader::Reading;
use crate::text;
use actors::types::Candidate;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Words that carry no content in a question.
const STOP: &[&str] = &[
    "of", "in", "on", "at", "to", "is", "was", "were", "are", "do", "does", "did", "for", "by",
    "with", "and", "or", "who", "what", "when", "where", "which", "how", "many", "much", "it",
    "its", "that", "this", "from", "as", "be", "has", "have", "had", "name", "first",
];

/// Words either side of an answer that count as near it.
const WINDOW: usize = 12;

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Who,
    When,
    Where,
    HowMany,
    Other,
}

/// Cues of one list.
pub(super) struct Cues {
    asked: Asked,
    rows: Vec<Vec<f32>>,
    /// `[i * n + j]`: share of the query's words near the answer of i where document j holds it.
    near: Vec<f32>,
}

impl Cues {
    pub(super) fn new(
        query: &str,
        candidates: &[Candidate],
        readings: &[Arc<Reading>],
        answers: &[String],
        bodies: &[String],
    ) -> Self {
        let query = text::normalise(query);
        let all: BTreeSet<&str> = query.split_whitespace().collect();
        let mut content: BTreeSet<&str> =
            all.iter().copied().filter(|w| !STOP.contains(w)).collect();
        if content.is_empty() {
            content.clone_from(&all);
        }
        let share = |of: &[&str], within: &dyn Fn(&str) -> bool, empty: f32| {
            let hits = of.iter().filter(|w| within(w)).count() as f32;
            if of.is_empty() { empty } else { hits / of.len() as f32 }
        };
        let asked_words: Vec<&str> = content.iter().copied().collect();
        let n = readings.len();
        let words: Vec<Vec<&str>> = bodies.iter().map(|b| b.split_whitespace().collect()).collect();
        let mut rows = Vec::with_capacity(n);
        for i in 0..n {
            let title = text::normalise(&candidates[i].document.title);
            let title: Vec<&str> = title.split_whitespace().collect();
            let answer: Vec<&str> = answers[i].split_whitespace().collect();
            let body: BTreeSet<&str> = words[i].iter().copied().collect();
            let padded = format!(" {} ", title.join(" "));
            let in_title = !answer.is_empty() && padded.contains(&format!(" {} ", answers[i]));
            rows.push(vec![
                share(&answer, &|w| all.contains(w), 1.0),
                share(&asked_words, &|w| title.contains(&w), 0.0),
                share(&title, &|w| all.contains(w), 0.0),
                share(&asked_words, &|w| body.contains(w), 0.0),
                f32::from(in_title),
            ]);
            let raw = &readings[i].answer;
            let digit = raw.chars().any(|c| c.is_ascii_digit());
            let capital = raw.chars().next().is_some_and(char::is_uppercase);
            rows[i].extend([f32::from(digit), f32::from(capital), f32::from(has_year(raw))]);
        }
        let mut near = vec![0.0; n * n];
        for i in 0..n {
            let answer: Vec<&str> = answers[i].split_whitespace().collect();
            for j in 0..n {
                near[i * n + j] = nearness(&answer, &words[j], &content);
            }
        }
        Self { asked: asked(&query), rows, near }
    }

    /// The features from `answer_in_query` to `asks_how_many`.
    pub(super) fn row(&self, i: usize, agreement: &Agreement) -> Vec<f32> {
        let n = self.rows.len();
        let near = |j: usize| {
            if agreement.holds(i, j) { self.near[i * n + j] } else { 0.0 }
        };
        let elsewhere = (0..n).filter(|&j| j != i).map(near);
        let by_relevance: f32 =
            (0..n).filter(|&j| j != i).map(|j| near(j) * agreement.by_relevance()[j]).sum();
        let overlap = &self.rows[i];
        let (digit, capital) = (overlap[5], overlap[6]);
        let wants_number = matches!(self.asked, Asked::When | Asked::HowMany);
        let wants_name = matches!(self.asked, Asked::Who | Asked::Where);
        let signed = |plus: bool, minus: bool| f32::from(plus) - f32::from(minus);
        let mut row = overlap[..5].to_vec();
        row.extend([near(i), elsewhere.fold(0.0, f32::max), by_relevance]);
        row.extend(&overlap[5..8]);
        row.push(digit * signed(wants_number, wants_name));
        row.push(capital * signed(wants_name, wants_number));
        for kind in [Asked::Who, Asked::When, Asked::Where, Asked::HowMany] {
            row.push(f32::from(self.asked == kind));
        }
        row
    }
}

fn asked(query: &str) -> Asked {
    let words: Vec<&str> = query.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let how_many = words.windows(2).any(|w| w[0] == "how" && (w[1] == "many" || w[1] == "much"));
    match () {
        () if how_many => Asked::HowMany,
        () if has("who") => Asked::Who,
        () if has("when") => Asked::When,
        () if has("where") => Asked::Where,
        () => Asked::Other,
    }
}

fn has_year(answer: &str) -> bool {
    let runs = answer.split(|c: char| !c.is_ascii_alphanumeric());
    runs.into_iter().any(|r| r.len() == 4 && r.starts_with(['1', '2']) && r.parse::<u16>().is_ok())
}

/// The largest share of the query's words within `WINDOW` words of an occurrence of the answer.
fn nearness(answer: &[&str], body: &[&str], content: &BTreeSet<&str>) -> f32 {
    if answer.is_empty() || content.is_empty() || body.len() < answer.len() {
        return 0.0;
    }
    let mut most = 0;
    for start in 0..=body.len() - answer.len() {
        if body[start] != answer[0] || &body[start..start + answer.len()] != answer {
            continue;
        }
        let end = start + answer.len();
        let before = &body[start.saturating_sub(WINDOW)..start];
        let after = &body[end..(end + WINDOW).min(body.len())];
        let around: BTreeSet<&str> = before.iter().chain(after).copied().collect();
        most = most.max(content.iter().filter(|w| around.contains(*w)).count());
    }
    most as f32 / content.len() as f32
}
