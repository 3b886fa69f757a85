//! Figures by hand, against trec_eval, and over an index.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::datasets::{load_qrels, load_run};
use actors::fakes::FakeIndex;
use actors::types::{Document, DocumentId};
use std::io::{Read as _, Write as _};
use std::path::Path;

fn grades(grades: &[(&str, i32)]) -> Grades {
    grades.iter().map(|(id, grade)| ((*id).to_owned(), *grade)).collect()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn figures_are_those_worked_out_by_hand() {
    let judged = grades(&[("a", 3), ("b", 0), ("c", 1), ("d", 2), ("e", -1)]);
    let ranking = ["x", "d", "b", "a", "e"];
    let of = figures(&ranking, &judged, 1).unwrap();
    // (2 / log2 3 + 3 / log2 5) over the order a d c: (3 + 2 / log2 3 + 1 / log2 4).
    let gain = 2.0 / 3.0_f64.log2() + 3.0 / 5.0_f64.log2();
    let best = 3.0 + 2.0 / 3.0_f64.log2() + 1.0 / 2.0;
    close(of.ndcg_at_10, gain / best);
    // pytrec_eval 0.5: ndcg_cut_10 of the same.
    close(of.ndcg_at_10, 0.536_321_825_020_707_2);
    assert_eq!(of.hit_at, [0.0, 1.0, 1.0]);
    close(of.recall_at[0], 2.0 / 3.0);
    close(of.mrr_at_10, 0.5);
    // From grade 2 on: a and d, both found; the gains stay the same.
    let strict = figures(&ranking, &judged, 2).unwrap();
    assert_eq!(strict.recall_at, [1.0, 1.0, 1.0]);
    close(strict.ndcg_at_10, of.ndcg_at_10);
}

#[test]
fn cuts_are_at_their_places_and_nothing_relevant_is_no_figure() {
    let ranking: Vec<String> = (0..120).map(|n| format!("d{n}")).collect();
    let at = |place: usize| figures(&ranking, &grades(&[(&format!("d{place}"), 1)]), 1).unwrap();
    assert_eq!(at(0).hit_at, [1.0, 1.0, 1.0]);
    assert_eq!((at(4).hit_at, at(5).hit_at), ([0.0, 1.0, 1.0], [0.0, 0.0, 1.0]));
    assert_eq!((at(19).hit_at[2], at(20).hit_at[2]), (1.0, 0.0));
    assert_eq!((at(99).recall_at[2], at(100).recall_at[2]), (1.0, 0.0));
    close(at(9).ndcg_at_10, 1.0 / 11.0_f64.log2());
    close(at(9).mrr_at_10, 0.1);
    assert_eq!((at(10).ndcg_at_10, at(10).mrr_at_10), (0.0, 0.0));
    assert!(figures(&ranking, &grades(&[("d0", 0)]), 1).is_none());
    let nothing: [&str; 0] = [];
    assert_eq!(figures(&nothing, &grades(&[("d0", 1)]), 1).unwrap(), Figures::default());
}

fn question(id: &str, dataset: &str, text: &str, positives: &[&str]) -> Question {
    Question {
        id: id.to_owned(),
        dataset: dataset.to_owned(),
        question: text.to_owned(),
        positives: positives.iter().map(|id| DocumentId::from(*id)).collect(),
        ..Question::default()
    }
}

#[tokio::test]
async fn a_report_has_a_row_a_retriever_and_data_set_and_counts_what_it_leaves_out() {
    let index = FakeIndex::default();
    let passage = |id: &str, text: &str| Document {
        id: id.into(),
        text: text.to_owned(),
        ..Document::default()
    };
    index.upsert(&[passage("n", "nile river"), passage("e", "everest mountain")]).await.unwrap();
    let questions = [
        question("1", "rivers", "nile", &["n"]),
        question("2", "mountains", "nile", &["e"]),
        question("3", "mountains", "everest", &[]),
    ];
    let grades = grades_of(&questions, None);
    let retrievers = [Retriever { name: "fake".to_owned(), index: Arc::new(index) }];
    let mut asked = 0;
    let report =
        retrieve(&retrievers, (&questions, &grades), (20, 1), &mut |n| asked += n).await.unwrap();
    assert_eq!((asked, report.without_relevant), (2, 1));
    let rows: Vec<(&str, usize, f64)> = report
        .retrievers
        .iter()
        .map(|row| (row.dataset.as_str(), row.questions, row.hit_at_1))
        .collect();
    assert_eq!(rows, [("all", 2, 0.5), ("mountains", 1, 0.0), ("rivers", 1, 1.0)]);
    let table = retrieval_table(&report);
    assert!(table.contains("1 questions were left out"), "{table}");
    let qrels = Qrels::from([("2".to_owned(), BTreeMap::from([("n".to_owned(), 2)]))]);
    let judged = grades_of(&questions, Some(&qrels));
    assert_eq!(judged.iter().map(BTreeMap::len).collect::<Vec<_>>(), [0, 1, 0]);
}

#[test]
fn a_judged_question_without_a_ranking_counts_as_nothing_found() {
    let judged = BTreeMap::from([("a".to_owned(), 1)]);
    let qrels = Qrels::from([("1".to_owned(), judged.clone()), ("2".to_owned(), judged)]);
    let run = BTreeMap::from([("1".to_owned(), vec!["a".to_owned()])]);
    let report = score_run("run", &run, &qrels, 1);
    assert_eq!((report.retrievers[0].questions, report.retrievers[0].ndcg_at_10), (2, 0.5));
}

/// The lines of a TREC run out of the JSON of a published ranking.
fn run_file(path: &Path) -> tempfile::NamedTempFile {
    let mut text = String::new();
    let packed = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let rankings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for ranking in rankings.as_array().unwrap() {
        for hit in ranking["hits"].as_array().unwrap() {
            let word = |key: &str| hit[key].to_string().replace('"', "");
            let (query, id) = (word("qid"), word("docid"));
            writeln!(file, "{query} Q0 {id} {} {} x", word("rank"), word("score")).unwrap();
        }
    }
    file
}

#[test]
fn published_rankings_score_as_trec_eval_scores_them() {
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let folder = Path::new(&shared).join("data/raw/trec-dl-dev");
    if !folder.is_dir() {
        println!("skipped: no data in {shared}; set REGRADE_SHARED to the folder that holds it");
        return;
    }
    // pytrec_eval 0.5: ndcg_cut_10 and recall_100, means over the judged queries.
    for (run, qrels, ndcg, recall) in [
        ("bm25_dl19_top100", "dl19", 0.505_831, 0.453_073),
        ("spladepp_dl19_top100", "dl19", 0.730_807, 0.554_858),
        ("ada2_dl19_top100", "dl19", 0.703_515, 0.525_564),
        ("bm25_dl21_top100", "dl21", 0.445_831, 0.333_198),
    ] {
        let qrels = folder.join(format!("qrels.{qrels}-passage.txt.gz"));
        let file = run_file(&folder.join(format!("{run}.json.gz")));
        let rankings = load_run(file.path()).unwrap();
        let report = score_run(run, &rankings, &load_qrels(&qrels).unwrap(), 1);
        let row = &report.retrievers[0];
        println!("{run}: nDCG@10 {:.6}, recall@100 {:.6}", row.ndcg_at_10, row.recall_at_100);
        assert!((row.ndcg_at_10 - ndcg).abs() < 1e-6, "{run} {}", row.ndcg_at_10);
        assert!((row.recall_at_100 - recall).abs() < 1e-6, "{run} {}", row.recall_at_100);
    }
}
