//! Reports as files: how they are written for people and programs, and how they are read again.

use super::CliError;
use crate::evaluate::{Report, page};
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes one JSON document: objects line by line, lists of plain values on one line, so that the
/// figures of a thousand questions are one line each metric.
pub(super) fn to_json(report: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let formatter = Narrow { pretty: PrettyFormatter::new(), depth: 0, lists: Vec::new() };
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    report.serialize(&mut serializer)?;
    text.push(b'\n');
    Ok(text)
}

/// [`PrettyFormatter`] for objects; a list breaks lines only where it holds objects.
struct Narrow {
    pretty: PrettyFormatter<'static>,
    depth: usize,
    /// For each open list or object: whether it is a list, and whether that has broken a line.
    lists: Vec<(bool, bool)>,
}

impl Narrow {
    fn indent<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for Narrow {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.push((true, false));
        self.depth += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if let Some((_, true)) = self.lists.pop() {
            self.indent(writer)?;
        }
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if let Some((true, broken)) = self.lists.last_mut() {
            *broken = true;
            self.indent(writer)?;
        }
        self.lists.push((false, false));
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if let Some((_, true)) = self.lists.pop() {
            self.indent(writer)?;
        }
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if let Some((_, broken)) = self.lists.last_mut() {
            *broken = true;
        }
        if !first {
            writer.write_all(b",")?;
        }
        self.indent(writer)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }
}

/// Writes the page; nothing where no file was asked for.
pub(super) fn write_page(
    path: Option<&Path>,
    report: &Report,
    extras: &page::Extras,
) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let failed = || format!("cannot write the page to {}", path.display());
    let text = page::render(report, extras).map_err(|e| CliError::failed(failed(), e))?;
    std::fs::write(path, text).map_err(|e| CliError::failed(failed(), e))
}

/// Reads a report; of the report of a training run its evaluation.
pub(super) fn read(path: &Path) -> Result<Report, CliError> {
    let mut value = parse(path)?;
    if let Some(evaluation) = value.get_mut("evaluation").filter(|value| value.is_object()) {
        value = evaluation.take();
    }
    let report: Report = serde_json::from_value(value).map_err(|e| {
        CliError::failed(format!("{} is not a report of an evaluation", path.display()), e)
    })?;
    if report.scores.questions.is_empty() {
        return Err(CliError::because(format!(
            "{} holds no scores of single questions, so nothing in it can be compared; write it \
             again with this version's `regrade evaluate --report`",
            path.display()
        )));
    }
    Ok(report)
}

/// The reward curves in some reports; none is no mistake.
pub(super) fn curves(paths: &[PathBuf]) -> Result<Vec<page::Curve>, CliError> {
    let mut curves = Vec::new();
    for path in paths {
        curves.extend(page::curves(&name_of(path), &parse(path)?));
    }
    Ok(curves)
}

/// The name of a file without its ending.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn parse(path: &Path) -> Result<Value, CliError> {
    let failed = || format!("cannot read the report {}", path.display());
    let text = std::fs::read(path).map_err(|e| CliError::failed(failed(), e))?;
    serde_json::from_slice(&text).map_err(|e| CliError::failed(failed(), e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use serde_json::json;

    #[test]
    fn plain_lists_are_one_line_and_the_document_reads_back() {
        let value = json!({
            "a": [1, null, 0.5], "b": [{ "x": [[1, 2], [3]] }, {}], "c": {}, "d": [], "e": "[{,"
        });
        let text = String::from_utf8(to_json(&value).unwrap()).unwrap();
        let expected = [
            "{",
            "  \"a\": [1,null,0.5],",
            "  \"b\": [",
            "    {",
            "      \"x\": [[1,2],[3]]",
            "    },",
            "    {}",
            "  ],",
            "  \"c\": {},",
            "  \"d\": [],",
            "  \"e\": \"[{,\"",
            "}\n",
        ];
        let expected = expected.join("\n");
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
