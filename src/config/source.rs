//! Where each value came from: all sources laid end to end, so that one number names a place.
//!
//! Like a compiler's source map. Knows nothing of TOML or of what the values mean.

use super::error::Place;
use std::ops::Range;

/// What kind of source a text is; decides how a place in it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Compiled in; not set by anyone.
    Defaults,
    /// A file: places have lines.
    File,
    /// An environment variable or a flag, written `NAME=value`.
    Assignment {
        /// The dotted key that is set.
        key: String,
    },
}

/// One source.
#[derive(Debug)]
pub(super) struct Origin {
    /// Path, variable or flag.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: Kind,
    /// All of its text.
    pub(super) text: String,
    /// Global position of its first byte.
    pub(super) start: usize,
}

/// Every source of one configuration.
#[derive(Debug, Default)]
pub(super) struct Origins {
    all: Vec<Origin>,
    end: usize,
}

impl Origins {
    /// Adds a source after those added before, one layer higher.
    pub(super) fn add(&mut self, name: &str, kind: Kind, text: String) {
        let start = self.end;
        // One position of space, so that an error at the very end of a text is still inside it.
        self.end += text.len() + 1;
        self.all.push(Origin { name: name.to_owned(), kind, text, start });
    }

    /// The sources, lowest layer first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.all.iter()
    }

    fn at(&self, position: usize) -> Option<&Origin> {
        let after = self.all.partition_point(|origin| origin.start <= position);
        after.checked_sub(1).and_then(|index| self.all.get(index))
    }

    /// Whether somebody wrote this, rather than the program itself.
    pub(super) fn is_given(&self, span: &Range<usize>) -> bool {
        self.at(span.start).is_some_and(|origin| origin.kind != Kind::Defaults)
    }

    /// Names the place of a global span and copies its line.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let Some(origin) = self.at(span.start) else {
            return Place::default();
        };
        let text = origin.text.as_str();
        let from = floor(text, span.start - origin.start);
        let line_start = text[..from].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[from..].find('\n').map_or(text.len(), |at| from + at);
        let to = floor(text, span.end.saturating_sub(origin.start).clamp(from, line_end));
        Place {
            source: origin.name.clone(),
            line: (origin.kind == Kind::File).then(|| 1 + text[..from].matches('\n').count()),
            column: 1 + text[line_start..from].chars().count(),
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: text[from..to].chars().count().max(1),
        }
    }
}

/// The nearest character boundary at or below a byte position.
fn floor(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}
