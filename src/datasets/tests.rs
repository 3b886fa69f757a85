//! Files good and bad, and the stable splits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use std::io::Write;

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn question_error(text: &str) -> String {
    read_questions("q.jsonl", text.as_bytes()).unwrap_err().to_string()
}

fn passage_error(bytes: &[u8]) -> String {
    read_passages("p.jsonl", bytes).unwrap_err().to_string()
}

const NQ: &str = concat!(
    r#"{"dataset":"nq","group":"wiki","question":"who?","answers":["A","B"],"#,
    r#""answer_type":"short","candidates":["p1"],"positives":["p1"],"retriever":"bm25","#,
    r#""meta":{"positives_by":"gold"},"id":"nq-1"}"#,
);
const BUNDLED: &str = concat!(
    r#"{"id":"his-q1","domain":"history","question":"Where?","answers":[],"#,
    r#""positives":[],"kind":"unanswerable","cluster":"his-c1"}"#,
);

#[test]
fn both_question_formats_load_from_one_file() {
    let text = format!("\u{feff}{NQ}\n\n{BUNDLED}");
    let questions = read_questions("q.jsonl", text.as_bytes()).unwrap();
    assert_eq!(questions.len(), 2);
    assert_eq!(questions[0].answers, ["A", "B"]);
    assert_eq!(questions[0].positives, [DocumentId::from("p1")]);
    assert_eq!(questions[0].meta["positives_by"], "gold");
    assert_eq!(questions[0].meta["retriever"], "bm25");
    assert_eq!(questions[1].dataset, "history");
    assert_eq!(questions[1].cluster.as_deref(), Some("his-c1"));
    assert!(questions[1].is_unanswerable() && !questions[0].is_unanswerable());
    assert_eq!(questions[1].to_query().metadata[UNANSWERABLE], "true");
    assert_eq!(questions[0].to_query().references, ["A", "B"]);
    assert_eq!((questions[0].split_key(), questions[1].split_key()), ("nq-1", "his-c1"));
}

#[test]
fn gzip_with_several_members_is_read_to_its_end_whatever_its_name() {
    let mut bytes = gzipped("{\"pid\":\"a\",\"title\":\"T\",\"text\":\"one\"}\n");
    bytes.extend(gzipped("{\"_id\":\"b\",\"text\":\"two\",\"metadata\":{}}\n"));
    let passages = read_passages("corpus.jsonl", &bytes).unwrap();
    let ids: Vec<&str> = passages.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(passages[1].title, "");
}

#[test]
fn a_bad_line_is_named_with_file_line_field_and_expectation() {
    let cases = [
        (
            format!("{NQ}\n{{\"id\":\"x\"}}"),
            "q.jsonl:2: field `question`: expected a non-empty string, found nothing",
        ),
        (
            format!("{NQ}\n\n{{\"id\":\"x\",\"question\":\"\"}}"),
            "q.jsonl:3: field `question`: expected a non-empty string, found an empty one",
        ),
        (
            "{\"id\":\"x\",\"question\":\"q\",\"answers\":{}}".into(),
            "q.jsonl:1: field `answers`: expected a list of strings, found an object",
        ),
        (
            "{\"id\":\"x\",\"question\":\"q\",\"positives\":[\"a\",null]}".into(),
            "q.jsonl:1: field `positives[1]`: expected a string, found null",
        ),
        (
            "{\"id\":[],\"question\":\"q\"}".into(),
            "q.jsonl:1: field `id`: expected a string, found a list",
        ),
        ("[1]".into(), "q.jsonl:1: expected a JSON object: found a list"),
    ];
    for (text, expected) in cases {
        assert_eq!(question_error(&text), expected);
    }
    assert!(question_error("{\"id\": ").starts_with("q.jsonl:1: expected a JSON object: EOF"));
}

#[test]
fn text_that_is_not_utf8_is_named_by_line_and_byte() {
    let error = passage_error(b"{\"pid\":\"a\",\"text\":\"x\"}\n{\"\xff\":1}\n");
    assert!(error.starts_with("p.jsonl:2: byte 3 of the line is not UTF-8"), "{error}");
}

#[test]
fn an_id_that_stands_twice_is_named_with_both_lines() {
    let error =
        passage_error(b"{\"pid\":\"a\",\"text\":\"x\"}\n\n{\"pid\":\"a\",\"text\":\"y\"}\n");
    assert!(error.contains("passage id `a` stands twice: p.jsonl:1 and p.jsonl:3"), "{error}");
}

#[test]
fn a_question_without_an_id_gets_one_from_its_text() {
    let text = concat!(
        "{\"question\":\"Where is  the Nile?\",\"answer\":[\"Africa\",\"Egypt\"]}\n",
        "{\"question\":\"Who is Ada?\",\"answers\":\"a programmer\",\"id\":null}\n",
    );
    let questions = read_questions("q.jsonl", text.as_bytes()).unwrap();
    // python: hashlib.sha256(b"where is nile").hexdigest()[:16]
    assert_eq!(questions[0].id, "q-f3564b5407874894");
    assert_eq!(questions[0].id, derived_id("where is the nile"));
    assert_eq!(questions[0].answers, ["Africa", "Egypt"]);
    assert_eq!(questions[1].answers, ["a programmer"]);
    assert_eq!(questions[1].id, derived_id("Who is Ada?"));
    assert_ne!(derived_id("?!"), derived_id("…!"), "signs alone are still told apart");
}

#[test]
fn a_question_that_comes_again_without_an_id_is_skipped_and_counted() {
    let line = "{\"question\":\"Who is Ada?\",\"answer\":\"x\"}\n";
    let text = format!("{line}{line}{{\"question\":\"who is ada\"}}\n{NQ}\n");
    let mut set = Unique::new("question");
    read_questions_into("q.jsonl", text.as_bytes(), &mut set).unwrap();
    assert_eq!((set.items.len(), set.skipped), (2, 2));
    assert_eq!(set.items[0].answers, ["x"], "the first stays");
    // A given id stays an error, also where it is one that was derived.
    let given = format!("{line}{{\"id\":\"{}\",\"question\":\"?\"}}", derived_id("Who is Ada?"));
    assert!(question_error(&given).contains("stands twice: q.jsonl:1 and q.jsonl:2"));
    assert!(question_error(&format!("{NQ}\n{NQ}")).contains("`nq-1` stands twice"));
    let empty = "{\"id\":\" \",\"question\":\"q\"}";
    assert!(question_error(empty).contains("field `id`: expected a non-empty string"));
}

#[test]
fn an_id_may_not_stand_in_two_files_either() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("one.jsonl"), folder.path().join("two.jsonl")];
    for path in &paths {
        std::fs::write(path, "{\"pid\":\"a\",\"text\":\"x\"}\n").unwrap();
    }
    let error = load_passages(&paths).unwrap_err().to_string();
    assert!(error.contains("one.jsonl:1 and ") && error.contains("two.jsonl:1"), "{error}");
}

#[test]
fn an_empty_corpus_and_a_missing_file_are_errors() {
    assert!(passage_error(b"\n\n").starts_with("no passage found in p.jsonl"));
    assert!(passage_error(b"{\"pid\":\"a\",\"text\":\" \"}").contains("field `text`"));
    let error = load_questions(&["does-not-exist.jsonl"]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read `does-not-exist.jsonl`"), "{error}");
}

#[test]
fn a_torn_gzip_file_is_an_error_and_not_half_a_corpus() {
    let bytes = gzipped("{\"pid\":\"a\",\"text\":\"x\"}\n{\"pid\":\"b\",\"text\":\"y\"}\n");
    let error = passage_error(&bytes[..bytes.len() - 6]);
    assert!(error.starts_with("cannot read `p.jsonl`"), "{error}");
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_memory() {
    let endless = std::io::repeat(b'x').take(1 << 30);
    let mut set = Unique::new("passage");
    let error = read_passages_into("p.jsonl", endless, &mut set).unwrap_err().to_string();
    assert!(error.contains("longer than 16777216 bytes"), "{error}");
}

#[test]
fn squad_json_gives_passages_and_questions_that_agree_on_ids() {
    let text = r#"{"data":[{"title":"A_B","paragraphs":[{"context":"one two","qas":[
        {"id":"1","question":"q1","answers":[
            {"text":"one","answer_start":0},{"text":"one","answer_start":0}]},
        {"id":"2","question":"q2","answers":[],"is_impossible":true}]}]}]}"#;
    let passages = read_passages("squad.json", text.as_bytes()).unwrap();
    let questions = read_questions("squad.json", text.as_bytes()).unwrap();
    assert_eq!(passages[0].title, "A B");
    assert_eq!(questions[0].positives, [passages[0].id.clone()]);
    assert_eq!(questions[0].answers, ["one"]);
    assert!(questions[1].is_unanswerable());
    let error = read_passages("squad.json", b"{\"data\": 1}").unwrap_err().to_string();
    assert!(error.starts_with("squad.json:1: expected SQuAD JSON"), "{error}");
}

#[test]
fn splits_are_stable_and_even() {
    // python: int(hashlib.sha256(b"nq-1").hexdigest(), 16) % 2, and first 8 bytes of
    // sha256(b"salt\0nq-1") % 10.
    let halves: Vec<u32> = ["nq-1", "nq-2", "nq-3", "nq-4"].map(reader_half).to_vec();
    assert_eq!(halves, [0, 0, 0, 1]);
    assert_eq!(["nq-1", "nq-2", "nq-3"].map(|id| bucket(id, "salt", 10)), [1, 9, 6]);
    assert_eq!(bucket("x", "salt", 0), 0);
    let first = (0..10_000).filter(|i| bucket(&format!("q{i}"), "s", 5) == 0).count();
    assert!((1_800..2_200).contains(&first), "{first} of 10000 in a fifth");
}

#[test]
fn every_shared_file_loads() {
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let Ok(files) = std::fs::read_dir(Path::new(&shared).join("data")) else {
        println!("skipped: no data in {shared}; set REGRADE_SHARED to the folder that holds it");
        return;
    };
    for file in files.map(|f| f.unwrap().path()) {
        let name = file.display().to_string();
        if name.ends_with(".questions.jsonl.gz") {
            assert!(load_questions(&[&file]).unwrap().iter().all(|q| !q.group.is_empty()));
        } else if name.ends_with(".passages.jsonl.gz") {
            assert!(load_passages(&[&file]).unwrap().len() > 1_000);
        }
    }
}
