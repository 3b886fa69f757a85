//! TREC files: rankings of a system (runs) and judgements of people (qrels), plain or gzip.
//!
//! A line of a run is `query Q0 document rank score tag`; of qrels `query 0 document grade`. The
//! tab-separated qrels of BEIR (`query-id corpus-id score`, with that header) are read too.

use super::error::{DatasetError, Place};
use super::lines::{read_error, unpacked};
use super::{name_of, open};
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::Path;

/// What people say of documents: query → document → grade, 0 or less for not relevant.
pub type Qrels = BTreeMap<String, BTreeMap<String, i32>>;

/// Rankings by query: documents, best first.
pub type Run = BTreeMap<String, Vec<String>>;

const RUN_LINE: &str = "a line of a run, `query Q0 document rank score tag`";
const QRELS_LINE: &str = "a line of judgements, `query 0 document grade`";

/// Loads judgements.
///
/// # Errors
/// A file that cannot be read, a line that is none, or a document judged twice for one query.
pub fn load_qrels(path: &Path) -> Result<Qrels, DatasetError> {
    let mut qrels = Qrels::new();
    each_line(path, &mut |place, line| {
        let wrong = |reason: String| DatasetError::Json {
            place: place.clone(),
            expected: QRELS_LINE,
            reason,
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (query, document, grade) = match words[..] {
            ["query-id", "corpus-id", "score"] if place.line == 1 => return Ok(()),
            [query, _, document, grade] => (query, document, grade),
            [query, document, grade] => (query, document, grade),
            _ => return Err(wrong(format!("found {} words", words.len()))),
        };
        let grade = grade.parse().map_err(|_| wrong(format!("`{grade}` is no whole number")))?;
        let judged = qrels.entry(query.to_owned()).or_default();
        if judged.insert(document.to_owned(), grade).is_some() {
            return Err(wrong(format!("`{document}` is judged twice for `{query}`")));
        }
        Ok(())
    })?;
    not_empty(path, "judgement", qrels)
}

/// Loads a run. As in trec_eval the order is that of the scores, and of equal ones the document
/// that sorts last comes first; the ranks of the file are not read.
///
/// # Errors
/// A file that cannot be read, a line that is none, or a document ranked twice for one query.
pub fn load_run(path: &Path) -> Result<Run, DatasetError> {
    let mut scored: BTreeMap<String, Vec<(String, f32)>> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    each_line(path, &mut |place, line| {
        let wrong = |reason: String| DatasetError::Json {
            place: place.clone(),
            expected: RUN_LINE,
            reason,
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [query, _, document, _, score, ..] = words[..] else {
            return Err(wrong(format!("found {} words", words.len())));
        };
        // Single precision, as trec_eval reads it: it decides what ties.
        let score: f32 = score.parse().map_err(|_| wrong(format!("`{score}` is no number")))?;
        if !seen.insert((query.to_owned(), document.to_owned())) {
            return Err(wrong(format!("`{document}` is ranked twice for `{query}`")));
        }
        scored.entry(query.to_owned()).or_default().push((document.to_owned(), score));
        Ok(())
    })?;
    let ordered = scored.into_iter().map(|(query, mut documents)| {
        documents.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        (query, documents.into_iter().map(|(document, _)| document).collect())
    });
    not_empty(path, "ranked document", ordered.collect())
}

fn not_empty<V>(
    path: &Path,
    what: &'static str,
    found: BTreeMap<String, V>,
) -> Result<BTreeMap<String, V>, DatasetError> {
    if found.is_empty() {
        return Err(DatasetError::Empty { what, paths: name_of(&path) });
    }
    Ok(found)
}

/// Gives each line that is not blank, with its place.
fn each_line(
    path: &Path,
    take: &mut dyn FnMut(&Place, &str) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let name = name_of(&path);
    let mut source = unpacked(&name, open(&path)?)?;
    let (mut place, mut line) = (Place::new(&name, 0), String::new());
    loop {
        line.clear();
        place.line += 1;
        if source.read_line(&mut line).map_err(|error| read_error(&name, error))? == 0 {
            return Ok(());
        }
        if !line.trim().is_empty() {
            take(&place, &line)?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_run_is_ordered_by_score_and_ties_as_in_trec_eval() {
        let run = file("1 Q0 a 1 2.5 x\n1 Q0 b 2 9 x\n\n1 Q0 c 3 2.5 x\n2 Q0 a 1 -1 x\n");
        let run = load_run(run.path()).unwrap();
        assert_eq!(run["1"], ["b", "c", "a"]);
        assert_eq!(run["2"], ["a"]);
    }

    #[test]
    fn judgements_are_read_in_the_form_of_trec_and_of_beir() {
        for text in ["1 0 a 2\n1 0 b -1\n", "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t-1\n"] {
            let qrels = load_qrels(file(text).path()).unwrap();
            assert_eq!(qrels["1"], BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), -1)]));
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let told = |text: &str| {
            let file = file(text);
            let error = load_run(file.path()).unwrap_err().to_string();
            error.replace(&file.path().display().to_string(), "run")
        };
        assert_eq!(
            told("1 Q0 a 1 2.5 x\n1 Q0 b\n"),
            "run:2: expected a line of a run, `query Q0 document rank score tag`: found 3 words"
        );
        assert!(told("1 Q0 a 1 high x\n").contains("run:1"), "a score that is no number");
        assert!(told("1 Q0 a 1 1 x\n1 Q0 a 2 1 x\n").contains("`a` is ranked twice for `1`"));
        let qrels = file("1 0 a 1\n1 0 a 1\n");
        assert!(load_qrels(qrels.path()).unwrap_err().to_string().contains("judged twice"));
    }
}
