//! A table of figures, for people and as JSON.

use super::binomial::clopper_pearson;
use serde::Serialize;
use std::fmt;

/// Figures under one title.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What is shown, with its unit.
    pub title: String,
    /// One name a column.
    pub columns: Vec<String>,
    /// As many cells a row as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// What was assumed, below the table.
    pub notes: Vec<String>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Words.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number and how many decimals are printed.
    Number(f64, usize),
    /// A share of experiments with its exact 95% interval.
    Share {
        /// Hits over experiments.
        share: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// Not measured, or not reached.
    Missing,
}

impl Cell {
    /// The share `hits / total` with its interval.
    ///
    /// # Errors
    /// More hits than experiments.
    pub fn share(hits: u64, total: u64) -> anyhow::Result<Self> {
        let interval = clopper_pearson(hits, total, 0.05)?;
        let share = hits as f64 / total.max(1) as f64;
        Ok(Self::Share { share, low: interval.low, high: interval.high })
    }

    /// The count, or [`Cell::Missing`].
    pub fn count(count: Option<u64>) -> Self {
        count.map_or(Self::Missing, Self::Count)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Count(count) => write!(out, "{count}"),
            Self::Number(value, digits) => write!(out, "{value:.digits$}"),
            Self::Share { share, low, high } => {
                let [share, low, high] = [share, low, high].map(|value| value * 100.0);
                write!(out, "{share:.2}% [{low:.2}, {high:.2}]")
            }
            Self::Missing => out.write_str("-"),
        }
    }
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl fmt::Display for Table {
    /// The first column to the left, the others to the right.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![self.columns.clone()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(ToString::to_string).collect()));
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        writeln!(out, "{}", self.title)?;
        for line in &lines {
            for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match at {
                    0 => write!(out, "  {cell:<width$}")?,
                    _ => write!(out, "  {cell:>width$}")?,
                }
            }
            writeln!(out)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
    }
}
