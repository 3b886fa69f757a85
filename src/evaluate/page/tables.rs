//! The tables of the page.

use super::escape;
use crate::evaluate::metrics::CUTS;
use crate::evaluate::report::{Difference, Estimate, PolicyRow, Report};
use std::fmt::Write as _;

/// A column: its head, and the cell of a row (not escaped: cells are numbers, or go through
/// [`escape`] themselves).
type Column<'a> = (String, Box<dyn Fn(&PolicyRow) -> String + 'a>);

fn cells(rows: &[&PolicyRow], caption: &str, columns: &[Column<'_>]) -> String {
    let mut out = String::from("<div class=\"wide\">\n<table>\n");
    // Writing to a String cannot fail.
    let _ = write!(out, "<caption>{}</caption>\n<thead>\n<tr>", escape(caption));
    out.push_str("<th scope=\"col\">contender</th>");
    for (head, _) in columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(head));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&row.name));
        for (_, cell) in columns {
            let _ = write!(out, "<td>{}</td>", cell(row));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.1}", 100.0 * value))
}

fn with_interval(estimate: Option<&Estimate>) -> String {
    match estimate {
        Some(Estimate { mean, interval: Some((low, high)), .. }) => {
            format!("{:.1} [{:.1}, {:.1}]", 100.0 * mean, 100.0 * low, 100.0 * high)
        }
        other => percent(other.map(|estimate| estimate.mean)),
    }
}

/// The metrics of a list that any row knows, as columns.
fn known<'a>(rows: &[&PolicyRow], metrics: Vec<(String, String)>) -> Vec<Column<'a>> {
    let is_known = |(name, _): &(String, String)| rows.iter().any(|row| row.mean(name).is_some());
    let column = |(name, head): (String, String)| -> Column<'a> {
        (head, Box::new(move |row| with_interval(row.metrics.get(&name))))
    };
    metrics.into_iter().filter(is_known).map(column).collect()
}

/// Answers, and what they were made from.
pub(super) fn answers(rows: &[&PolicyRow], dataset: &str) -> String {
    let mut columns: Vec<Column<'_>> = vec![
        ("questions".to_owned(), Box::new(|row| row.questions.to_string())),
        ("runs".to_owned(), Box::new(|row| row.runs.to_string())),
    ];
    let metrics =
        [("f1", "F1"), ("em", "EM"), ("rouge_l", "ROUGE-L"), ("label_accuracy", "label accuracy")];
    let owned = metrics.map(|(name, head)| (name.to_owned(), head.to_owned()));
    columns.extend(known(rows, owned.to_vec()));
    columns.push(("k".to_owned(), Box::new(|row| format!("{:.2} ± {:.2}", row.k_mean, row.k_sd))));
    columns.push((
        "context tokens".to_owned(),
        Box::new(|row| format!("{:.1}", row.context_tokens_mean)),
    ));
    cells(rows, &format!("Answers: {dataset}"), &columns)
}

/// Rankings and selections; nothing where no relevant document is known.
pub(super) fn rankings(rows: &[&PolicyRow], dataset: &str) -> String {
    let at = |kind: &str, cut: usize| (format!("{kind}_at_{cut}"), format!("{kind}@{cut}"));
    let mut metrics = vec![("ndcg_at_10".to_owned(), "nDCG@10".to_owned())];
    metrics.extend(CUTS.map(|cut| at("hit", cut)));
    metrics.extend(CUTS.map(|cut| at("recall", cut)));
    metrics.push(("hit_selected".to_owned(), "hit, selected".to_owned()));
    metrics.push(("recall_selected".to_owned(), "recall, selected".to_owned()));
    let columns = known(rows, metrics);
    if columns.is_empty() {
        return String::new();
    }
    cells(rows, &format!("Rankings and selections: {dataset}"), &columns)
}

/// Costs and times.
pub(super) fn costs(rows: &[&PolicyRow], dataset: &str) -> String {
    let ms = |value: f64| format!("{value:.1}");
    let columns: Vec<Column<'_>> = vec![
        ("reader calls".to_owned(), Box::new(|row| format!("{:.2}", row.reader_calls_mean))),
        ("retrievals".to_owned(), Box::new(|row| format!("{:.2}", row.retrievals_mean))),
        (
            "without retrieval".to_owned(),
            Box::new(|row| format!("{:.1}%", 100.0 * row.without_retrieval)),
        ),
        ("decide p50, ms".to_owned(), Box::new(move |row| ms(row.latency_ms.decide_p50))),
        ("decide p95, ms".to_owned(), Box::new(move |row| ms(row.latency_ms.decide_p95))),
        ("answer p50, ms".to_owned(), Box::new(move |row| ms(row.latency_ms.answer_p50))),
        ("answer p95, ms".to_owned(), Box::new(move |row| ms(row.latency_ms.answer_p95))),
    ];
    let mut out = cells(rows, &format!("Cost and time a question: {dataset}"), &columns);
    out.push_str(
        "<p>Contenders of one evaluation share what is cached: the first that reads a passage for \
         a question pays for it, those after it do not.</p>\n",
    );
    out
}

/// Every difference with its p-values.
pub(super) fn comparisons(report: &Report) -> String {
    let mut out = String::from(
        "<div class=\"wide\">\n<table>\n<caption>Contender less baseline; shares in points, tokens \
         and retrievals as they are</caption>\n<thead>\n<tr><th scope=\"col\">contender</th>\
         <th scope=\"col\" class=\"text\">baseline</th>\
         <th scope=\"col\" class=\"text\">data set</th>\
         <th scope=\"col\" class=\"text\">metric</th><th scope=\"col\">difference</th>\
         <th scope=\"col\">95%</th><th scope=\"col\">p</th><th scope=\"col\">p, Holm</th></tr>\n\
         </thead>\n<tbody>\n",
    );
    for c in &report.comparisons {
        for (metric, found) in &c.differences {
            let scale = if matches!(metric.as_str(), "context_tokens" | "retrievals") {
                1.0
            } else {
                100.0
            };
            let Difference { mean, interval: (low, high), p, p_holm } = *found;
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td class=\"text\">{}</td>\
                 <td class=\"text\">{}</td><td>{:+.2}</td><td>[{:+.2}, {:+.2}]</td><td>{p:.4}</td>\
                 <td>{p_holm:.4}</td></tr>",
                escape(&c.name),
                escape(&c.against),
                escape(&c.dataset),
                escape(metric),
                scale * mean,
                scale * low,
                scale * high,
            );
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

/// What could not be scored; a sentence where all was.
pub(super) fn left_out(report: &Report) -> String {
    let mut out = String::from("<h2>Left out</h2>\n");
    if report.scores.left_out.is_empty() {
        out.push_str("<p>Nothing: every question is part of every figure.</p>\n");
        return out;
    }
    out.push_str(
        "<div class=\"wide\">\n<table>\n\
         <caption>Questions that are not part of a figure</caption>\n\
         <thead>\n<tr><th scope=\"col\">not part of</th><th scope=\"col\" class=\"text\">because \
         of</th><th scope=\"col\" class=\"text\">reason</th><th scope=\"col\">questions</th>\
         <th scope=\"col\" class=\"text\">the first</th></tr>\n</thead>\n<tbody>\n",
    );
    for l in &report.scores.left_out {
        let by = if l.contender.is_empty() { "the question" } else { l.contender.as_str() };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td>\
             <td class=\"text wrap\">{}</td></tr>",
            escape(&l.of),
            escape(by),
            escape(&l.reason),
            l.questions,
            escape(&l.first),
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}
