//! The report as one HTML page: tables and plots, nothing fetched from anywhere, no script.
//!
//! Owns the page's outline and its style. Every text that comes from outside (names, data sets,
//! reasons) goes through `escape`. Knows reports, not how they came about.

mod curves;
mod plots;
mod svg;
mod tables;

pub use curves::{Curve, curves};

use super::report::{PolicyRow, Report};
use std::fmt::Write as _;
use svg::DrawError;

/// What goes on the page beside the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extras {
    /// Reward over training, one a run.
    pub curves: Vec<Curve>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot of {what}")]
pub struct PageError {
    /// Which plot.
    what: &'static str,
    /// What the plotting library says.
    source: DrawError,
}

fn drawing(what: &'static str) -> impl FnOnce(DrawError) -> PageError {
    move |source| PageError { what, source }
}

/// Quality by which contenders are plotted: the first of these that is known.
const HEADLINES: [(&str, &str); 4] = [
    ("f1", "F1"),
    ("ndcg_at_10", "nDCG@10"),
    ("recall_at_5", "recall@5"),
    ("recall_selected", "recall of the selection"),
];

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#8881}\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}\
h3{font-size:1.05rem;margin-top:1.8rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;margin:.5rem 0}\
caption{text-align:left;font-style:italic;padding:.25rem 0}\
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th:first-child,td:first-child,td.text,th.text{text-align:left}\
tbody tr:nth-child(even){background:var(--soft)}\
td.wrap{white-space:normal;min-width:18rem}\
figure{margin:1rem 0}figcaption{font-size:.875rem}\
figure svg{max-width:100%;height:auto}\
figure svg text{fill:currentColor}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.5rem}\
.grid figure{margin:0}";

/// Text as it may stand in HTML, in attributes too; characters that no document may hold are
/// replaced.
pub(in crate::evaluate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The page.
///
/// # Errors
/// A plot that the plotting library refuses.
pub fn render(report: &Report, extras: &Extras) -> Result<String, PageError> {
    let mut out = String::new();
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Regrade: evaluation</title>\n",
    );
    // Writing to a String cannot fail.
    let _ = write!(out, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>Evaluation</h1>\n");
    out.push_str(&introduction(report));
    let overall: Vec<&PolicyRow> = report.rows_of(report.overall()).collect();
    out.push_str("<h2>Overall</h2>\n");
    out.push_str(&tables::answers(&overall, report.overall()));
    out.push_str(&tables::rankings(&overall, report.overall()));
    if let Some((metric, label)) = headline(&overall) {
        out.push_str(
            "<h2>Quality against context</h2>\n<p>Up and to the left is better: more \
                      right from fewer tokens. The line joins the fixed cuts.</p>\n",
        );
        out.push_str(&plots::frontier(&overall, (metric, label)).map_err(drawing("quality"))?);
        out.push_str(&differences(report, (metric, label))?);
    }
    out.push_str(
        "<h2>How many documents</h2>\n<p>Documents put before the generator, as a share \
         of questions. Fixed cuts are left out: theirs is one bar.</p>\n",
    );
    out.push_str("<div class=\"grid\">\n");
    for (at, row) in overall.iter().filter(|row| !super::report::is_fixed(&row.name)).enumerate() {
        out.push_str(&plots::histogram(row, at).map_err(drawing("k"))?);
    }
    out.push_str("</div>\n");
    if !extras.curves.is_empty() {
        out.push_str("<h2>Training</h2>\n<p>Mean reward of what was trained on.</p>\n");
        out.push_str(&plots::rewards(&extras.curves).map_err(drawing("training"))?);
    }
    out.push_str("<h2>Cost and time</h2>\n");
    out.push_str(&tables::costs(&overall, report.overall()));
    out.push_str(&by_dataset(report));
    out.push_str(&tables::left_out(report));
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

fn headline(rows: &[&PolicyRow]) -> Option<(&'static str, &'static str)> {
    HEADLINES.into_iter().find(|(metric, _)| rows.iter().any(|row| row.mean(metric).is_some()))
}

fn introduction(report: &Report) -> String {
    let contenders = report.rows_of(report.overall()).count();
    format!(
        "<p>{contenders} contenders answered the same {} questions. Shares are percentages. \
         Intervals are 95% bootstrap intervals over questions and, where a contender has several \
         runs (seeds), over runs too; differences are paired. p-values are those of a two-sided \
         paired bootstrap, alone and after Holm’s correction for the number of contenders compared \
         with one baseline. Intervals are not corrected.</p>\n",
        report.questions
    )
}

/// The forest plot of each part, then the numbers.
fn differences(report: &Report, (metric, label): (&str, &str)) -> Result<String, PageError> {
    let mut out = String::new();
    if report.comparisons.is_empty() {
        return Ok(out);
    }
    let _ = writeln!(out, "<h2>Differences of {}</h2>", escape(label));
    let mut datasets: Vec<&str> = report.comparisons.iter().map(|c| c.dataset.as_str()).collect();
    datasets.dedup();
    for (at, dataset) in datasets.iter().enumerate() {
        let part: Vec<_> = report.comparisons.iter().filter(|c| c.dataset == *dataset).collect();
        let plot = plots::forest(&part, (metric, label), at).map_err(drawing("differences"))?;
        out.push_str(&plot);
    }
    out.push_str(&tables::comparisons(report));
    Ok(out)
}

fn by_dataset(report: &Report) -> String {
    let mut out = String::new();
    let mut datasets: Vec<&str> = report.policies.iter().map(|row| row.dataset.as_str()).collect();
    datasets.dedup();
    if datasets.len() < 2 {
        return out;
    }
    out.push_str("<h2>By data set</h2>\n");
    for dataset in datasets.into_iter().skip(1) {
        let rows: Vec<&PolicyRow> = report.rows_of(dataset).collect();
        let title = match dataset {
            super::report::MACRO => "Mean over data sets",
            dataset => dataset,
        };
        let _ = writeln!(out, "<h3>{}</h3>", escape(title));
        out.push_str(&tables::answers(&rows, dataset));
        out.push_str(&tables::rankings(&rows, dataset));
    }
    out
}

#[cfg(test)]
mod tests;
