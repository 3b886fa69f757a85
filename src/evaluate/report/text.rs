//! The report as a table for a terminal; shares are percentages.

use super::Report;
use std::fmt::Write as _;

/// Names longer than this push their row aside rather than all rows.
const NAME_WIDTH_MAX: usize = 32;

/// The report as a table for people.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let widest = report.policies.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let width = widest.clamp(6, NAME_WIDTH_MAX);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<width$} {:<14} {:>5} {:>4}  {:>5} {:>14}  {:>5} {:>5}  {:>5} {:>5}  \
         {:>5} {:>7} {:>5} {:>5}",
        "policy",
        "data set",
        "n",
        "runs",
        "F1",
        "95%",
        "EM",
        "R-L",
        "R@5",
        "nDCG",
        "k",
        "tokens",
        "reads",
        "retr"
    );
    for row in &report.policies {
        let share = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{:.1}", 100.0 * value))
        };
        let interval = row.f1_interval.map_or_else(
            || "-".to_owned(),
            |(low, high)| format!("[{:.1}, {:.1}]", 100.0 * low, 100.0 * high),
        );
        let _ = writeln!(
            out,
            "{:<width$} {:<14} {:>5} {:>4}  {:>5} {interval:>14}  {:>5} {:>5}  {:>5} {:>5}  \
             {:>5.2} {:>7.1} {:>5.2} {:>5.2}",
            row.name,
            row.dataset,
            row.questions,
            row.runs,
            share(row.f1),
            share(row.em),
            share(row.mean("rouge_l")),
            share(row.recall_at_5),
            share(row.mean("ndcg_at_10")),
            row.k_mean,
            row.context_tokens_mean,
            row.reader_calls_mean,
            row.retrievals_mean,
        );
    }
    differences(report, &mut out);
    for left_out in &report.scores.left_out {
        let by = if left_out.contender.is_empty() { "" } else { " by " };
        let _ = writeln!(
            out,
            "left out of {}: {} questions ({}{by}{}), the first {}",
            left_out.of, left_out.questions, left_out.reason, left_out.contender, left_out.first
        );
    }
    out
}

fn differences(report: &Report, out: &mut String) {
    for c in &report.comparisons {
        let _ = write!(out, "{} against {} on {}:", c.name, c.against, c.dataset);
        for (metric, label) in [("f1", "F1"), ("em", "EM"), ("ndcg_at_10", "nDCG@10")] {
            let Some(found) = c.differences.get(metric) else { continue };
            let _ = write!(
                out,
                " {label} {:+.1} [{:+.1}, {:+.1}] p {:.3} (Holm {:.3}),",
                100.0 * found.mean,
                100.0 * found.interval.0,
                100.0 * found.interval.1,
                found.p,
                found.p_holm
            );
        }
        match c.context_tokens_ratio {
            Some(ratio) => {
                let _ = writeln!(out, " context tokens x{ratio:.2}");
            }
            None => {
                let _ = writeln!(out, " the baseline has no context");
            }
        }
    }
}
