//! The loop on scripted rankers, and published runs replayed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use std::sync::Mutex;

/// Ranks by the numbers in the documents' texts, and writes down what it saw.
#[derive(Default)]
struct ByNumber {
    seen: Mutex<Vec<Vec<String>>>,
    says: Option<Vec<usize>>,
}

#[async_trait]
impl WindowRanker for ByNumber {
    async fn rank(&self, _query: &str, window: &[&Document]) -> Result<Vec<usize>, WindowError> {
        let ids = window.iter().map(|d| d.id.0.clone()).collect();
        self.seen.lock().unwrap().push(ids);
        if let Some(says) = &self.says {
            return Ok(says.clone());
        }
        let number = |place: &usize| window[*place].text.parse::<i64>().unwrap();
        let mut order: Vec<usize> = (0..window.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(number(place)));
        Ok(order)
    }
}

struct Broken;

#[async_trait]
impl WindowRanker for Broken {
    async fn rank(&self, _query: &str, _window: &[&Document]) -> Result<Vec<usize>, WindowError> {
        Err(WindowError::Unavailable("gone".to_owned()))
    }
}

fn documents(texts: impl IntoIterator<Item = String>) -> Vec<Document> {
    let document = |(n, text): (usize, String)| Document {
        id: format!("d{n}").as_str().into(),
        text,
        ..Document::default()
    };
    texts.into_iter().enumerate().map(document).collect()
}

async fn reranked(ranker: &dyn WindowRanker, documents: &[Document]) -> Reranked {
    let listed: Vec<&Document> = documents.iter().collect();
    rerank(ranker, "q", &listed, ListwiseArgs::default()).await
}

#[test]
fn windows_slide_from_the_bottom_and_reach_every_place() {
    assert_eq!(windows(25, 20, 10), [5..25, 0..15]);
    assert_eq!(windows(45, 20, 10), [25..45, 15..35, 5..25, 0..15]);
    assert_eq!(windows(40, 20, 10), [20..40, 10..30, 0..20]);
    assert_eq!(windows(7, 20, 10), vec![0..7], "a list shorter than a window is one window");
    assert_eq!(windows(20, 20, 10), vec![0..20]);
    assert_eq!(windows(100, 20, 10).len(), 9);
    assert!(windows(0, 20, 10).is_empty());
    for n in 1..130 {
        for (window, stride) in [(20, 10), (20, 20), (5, 1), (2, 1), (7, 3), (4, 0), (4, 9)] {
            let spans = windows(n, window, stride);
            assert!((0..n).all(|place| spans.iter().any(|s| s.contains(&place))), "{n} {window}");
            assert!(spans.iter().all(|s| s.len() <= window && !s.is_empty()));
            assert_eq!(spans.last().unwrap().start, 0, "the top is ranked last");
        }
    }
}

#[tokio::test]
async fn the_best_document_comes_up_from_anywhere() {
    for n in [2, 7, 20, 21, 25, 45, 100] {
        for best in 0..n {
            let listed =
                documents((0..n).map(|place| if place == best { "1".into() } else { "0".into() }));
            let made = reranked(&ByNumber::default(), &listed).await;
            assert_eq!(made.order[0], best, "n = {n}");
            let mut all = made.order.clone();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>(), "a permutation");
        }
    }
}

#[tokio::test]
async fn one_pass_sorts_the_first_ten_of_a_hundred_in_nine_calls() {
    // The best last: number n at place n.
    let listed = documents((0..100).map(|place: usize| place.to_string()));
    let ranker = ByNumber::default();
    let made = reranked(&ranker, &listed).await;
    assert_eq!(made.calls, 9);
    assert_eq!(made.order[..10], [99, 98, 97, 96, 95, 94, 93, 92, 91, 90]);
    assert_ne!(made.order[10], 89, "only window - stride documents cross a boundary");
    let first = ranker.seen.lock().unwrap()[0].clone();
    assert_eq!(first[0], "d80", "the bottom is ranked first");
    let args = ListwiseArgs { passes: 2, ..ListwiseArgs::default() };
    let refs: Vec<&Document> = listed.iter().collect();
    let twice = rerank(&ByNumber::default(), "q", &refs, args).await;
    assert_eq!(twice.calls, 18);
    assert_eq!(twice.order[10..12], [89, 88], "a second pass goes deeper");
}

#[tokio::test]
async fn a_ranker_that_fails_or_errs_leaves_the_list_whole() {
    let listed = documents((0..45).map(|place: usize| place.to_string()));
    let made = reranked(&Broken, &listed).await;
    assert_eq!(made.order, (0..45).collect::<Vec<_>>());
    assert_eq!((made.calls, made.failed), (4, 4));
    assert_eq!(made.failure, Some(WindowError::Unavailable("gone".to_owned())));
    let says = Some(vec![3, 3, 70, 1]);
    let made = reranked(&ByNumber { says, ..ByNumber::default() }, &listed[..6]).await;
    assert_eq!(made.order, [3, 1, 0, 2, 4, 5]);
    assert_eq!((made.calls, made.repaired, made.failed), (1, 1, 0));
    let alone = reranked(&Broken, &listed[..1]).await;
    assert_eq!((alone.order, alone.calls), (vec![0], 0), "one document needs no ranker");
    assert!(reranked(&Broken, &[]).await.order.is_empty());
}

#[tokio::test]
async fn scores_stay_with_the_slot_and_long_texts_are_cut() {
    let listed = documents(["1", "3", "2"].map(str::to_owned));
    let made = reranked(&ByNumber::default(), &listed).await;
    assert_eq!(made.order, [1, 2, 0]);
    // Slots hold 9, 8, 7: the document now first has 9.
    assert_eq!(made.slot_scores(&[9.0, 8.0, 7.0]), [7.0, 9.0, 8.0]);
    let long = documents([vec!["word"; 301].join("  "), vec!["word"; 300].join("  ")]);
    assert_eq!(shortened(&long[0], 300).text, vec!["word"; 300].join(" "));
    assert!(matches!(shortened(&long[1], 300), Cow::Borrowed(_)), "300 words are kept as they are");
}

#[test]
fn settings_out_of_bounds_are_named() {
    let with = |change: fn(&mut ListwiseArgs)| {
        let mut args = ListwiseArgs::default();
        change(&mut args);
        args.validate().err().map(|(field, _)| field)
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|args| args.window = 1), Some("window"));
    assert_eq!(with(|args| args.stride = 21), Some("stride"));
    assert_eq!(with(|args| args.stride = 0), Some("stride"));
    assert_eq!(with(|args| args.words_max = 0), Some("words_max"));
    assert_eq!(with(|args| args.passes = 11), Some("passes"));
}

fn trace_of(entries: &[(&str, &[&str], &str)]) -> Result<Trace, TraceError> {
    let mut text = String::new();
    for (query, passages, response) in entries {
        let numbered = passages.iter().enumerate().map(|(n, p)| format!("\n[{}] {p}", n + 1));
        let prompt = format!(
            "I rank.\n{}\nSearch Query: {query}.\nRank the passages",
            numbered.collect::<String>()
        );
        let entry = serde_json::json!({"prompt": prompt, "response": response});
        text.push_str(&format!("{entry}, "));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Trace::load(file.path())
}

#[tokio::test]
async fn a_trace_gives_each_window_once_and_notices_another_window() {
    let trace =
        trace_of(&[("q", &["One [2] x", "two"], "[2] > [1]"), ("p.q", &["one"], "none")]).unwrap();
    let listed = documents(["One (2) x", "Two"].map(str::to_owned));
    let [one, two] = [&listed[0], &listed[1]];
    assert_eq!(trace.left(), 2);
    assert!(matches!(trace.rank("other", &[one, two]).await, Err(WindowError::Refused(_))));
    assert_eq!(trace.rank("q", &[one, two]).await, Ok(vec![1, 0]));
    assert!(matches!(trace.rank("q", &[one, two]).await, Err(WindowError::Refused(_))));
    assert_eq!(trace.rank("p.q", &[one]).await, Err(WindowError::NoPermutation));
    let turned = trace_of(&[("q", &["one", "two"], "[1]")]).unwrap();
    assert!(matches!(turned.rank("q", &[two, one]).await, Err(WindowError::Refused(_))));
    let fewer = trace_of(&[("q", &["one", "two"], "[1]")]).unwrap();
    assert!(matches!(fewer.rank("q", &[one]).await, Err(WindowError::Refused(_))));
    let error = Trace::load(std::path::Path::new("no/such.json")).unwrap_err().to_string();
    assert!(error.contains("no/such.json"), "{error}");
    let error = trace_of(&[("q", &[], "[1]")]).unwrap_err().to_string();
    assert!(error.contains("entry 1") && error.contains("no passage"), "{error}");
}
