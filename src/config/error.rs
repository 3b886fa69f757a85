//! How a configuration error reads: the place, the line with a caret, what was expected, the remedy.
//!
//! Knows how to find a place from a span; does not know any setting.

use super::layers::{Table, find};
use super::source::Origins;
use std::fmt;
use std::ops::Range;
use toml::de::DeValue;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error(
        "cannot read config file `{path}`: give the path of a TOML file, or leave --config out to use the built-in defaults"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}", join(.0))]
    Invalid(Vec<Problem>),
    /// It cannot be written as TOML.
    #[error("cannot write the config as TOML; use paths that are UTF-8")]
    Unprintable {
        /// What cannot be written.
        source: toml::ser::Error,
    },
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what was expected.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A place in a source of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// File, variable or flag.
    pub source: String,
    /// Line from 1; `None` outside files.
    pub line: Option<usize>,
    /// Column from 1, in characters.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// Characters the caret spans, ≥ 1.
    pub width: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { source, line, column, text, width } = &self.place;
        let number = line.map(|n| n.to_string()).unwrap_or_default();
        let margin = " ".repeat(number.len());
        match line {
            Some(line) => writeln!(f, "{source}:{line}:{column}: {}", self.message)?,
            None => writeln!(f, "{source}: {}", self.message)?,
        }
        // Tabs are kept, so that the caret stands below its text on every terminal.
        let lead: String = text
            .chars()
            .take(column.saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        writeln!(f, "{margin} | {lead}{}", "^".repeat(*width))?;
        write!(f, "{margin} = {}", self.remedy)
    }
}

/// Turns a decoding error into a problem: finds the key it speaks of and a remedy.
pub(super) fn explain(
    origins: &Origins,
    merged: &Table<'_>,
    message: &str,
    span: Option<Range<usize>>,
) -> Problem {
    let span = span.unwrap_or(0..0);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let (wrong, known) = quoted.split_first().map_or(("", &[][..]), |(w, k)| (*w, k));
        let at = locate_key(merged, wrong, &span).unwrap_or(span);
        let remedy = match nearest(wrong, known) {
            Some(close) => format!("did you mean `{close}`?"),
            None if message.starts_with("unknown field") => {
                format!("remove `{wrong}`: a setting without effect is an error")
            }
            None => format!("use one of: {}", known.join(", ")),
        };
        return Problem { place: origins.place(&at), message: message.to_owned(), remedy };
    }
    let remedy = match path_of(merged, &span, "") {
        Some(key) => format!("give `{key}` a value of the expected type"),
        None => "see `regrade serve --dry-run` for every setting with its default".to_owned(),
    };
    Problem { place: origins.place(&span), message: message.trim_end().to_owned(), remedy }
}

/// The span of a key of this name: inside the table at `near`, where the error only names that.
fn locate_key(table: &Table<'_>, name: &str, near: &Range<usize>) -> Option<Range<usize>> {
    for (key, value) in table {
        if key.span() == *near && key.get_ref() == name {
            return Some(key.span());
        }
        if let DeValue::Table(inner) = value.get_ref() {
            if value.span() == *near
                && let Some((span, _)) = find(inner, name)
            {
                return Some(span);
            }
            if let Some(span) = locate_key(inner, name, near) {
                return Some(span);
            }
        }
    }
    None
}

/// The dotted key whose value (or name) stands at a span.
fn path_of(table: &Table<'_>, span: &Range<usize>, prefix: &str) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let path = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(found) = path_of(inner, span, &format!("{path}."))
        {
            return Some(found);
        }
        (value.span() == *span).then_some(path)
    })
}

/// The known name closest to a wrong one, if it is close enough to be a slip.
fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, name) =
        known.iter().map(|name| (edits(wrong, name), *name)).min_by_key(|(d, _)| *d)?;
    (distance <= 1 + wrong.chars().count() / 4).then_some(name)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
