//! How a long command tells how far it is: a bar with rate and time left on a terminal, one JSON
//! line a step otherwise. Both go to stderr, so that stdout carries results alone.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use tokio::time::Instant;

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts one; `total` where it is known, in units of the label (`passages`, `questions`).
    pub fn start(label: &str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(label, total));
        Self { label: label.to_owned(), total, done: 0, started: Instant::now(), bar }
    }

    /// Reports `count` more done, with what else this step has to say.
    pub fn advance(&mut self, count: u64, figures: &Value) {
        self.done += count;
        match &self.bar {
            Some(bar) => {
                bar.inc(count);
                bar.set_message(brief(figures));
            }
            None => self.line(figures),
        }
    }

    /// Ends it; the bar stays in its last state.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    fn line(&self, figures: &Value) {
        let seconds = self.started.elapsed().as_secs_f64();
        let line = step_line(&self.label, self.done, self.total, seconds, figures);
        // Progress is a courtesy: a closed stderr does not stop the work.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

fn bar(label: &str, total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} left {msg}",
        ),
        None => (
            ProgressBar::with_draw_target(None, target),
            "{prefix} {spinner} {pos} {per_sec} {elapsed} {msg}",
        ),
    };
    // The templates are constants; should one be wrong, the plain style still shows progress.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_prefix(label.to_owned())
}

/// `{"progress", "done", "total", "rate", "seconds", "seconds_left", …figures}`.
fn step_line(label: &str, done: u64, total: Option<u64>, seconds: f64, figures: &Value) -> Value {
    let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
    let left = total.filter(|_| rate > 0.0).map(|t| t.saturating_sub(done) as f64 / rate);
    let mut line = json!({
        "progress": label,
        "done": done,
        "total": total,
        "rate": rate,
        "seconds": seconds,
        "seconds_left": left,
    });
    if let (Some(line), Some(figures)) = (line.as_object_mut(), figures.as_object()) {
        line.extend(figures.clone());
    }
    line
}

fn brief(figures: &Value) -> String {
    let Some(figures) = figures.as_object() else {
        return String::new();
    };
    figures.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_line_gives_rate_and_time_left() {
        let line = step_line("passages", 50, Some(200), 10.0, &json!({ "loss": 0.5 }));
        assert_eq!(line["rate"], 5.0);
        assert_eq!(line["seconds_left"], 30.0);
        assert_eq!(line["loss"], 0.5);
    }

    #[test]
    fn an_unknown_total_gives_no_time_left() {
        let line = step_line("questions", 0, None, 0.0, &Value::Null);
        assert_eq!(line["seconds_left"], Value::Null);
        assert_eq!(line["rate"], 0.0);
    }
}
