//! Increments, cuts, deletions, and interruptions at every write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use actors::fakes::FakeIndex;
use actors::ports::Search;
use actors::types::Candidate;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokenizers::Tokenizer;

/// Notes what it holds, and fails (after or before the work) at a chosen call.
#[derive(Default)]
struct Frail {
    inner: FakeIndex,
    held: Mutex<BTreeMap<String, String>>,
    calls: Mutex<usize>,
    fail_at: Mutex<Option<(usize, bool)>>,
}

impl Frail {
    /// Whether this call is to fail, and whether before its work.
    fn turn(&self) -> Option<bool> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        let fail_at = *self.fail_at.lock().unwrap();
        fail_at.filter(|(call, _)| call == &*calls).map(|(_, before)| before)
    }

    fn held(&self) -> BTreeMap<String, String> {
        self.held.lock().unwrap().clone()
    }
}

#[async_trait]
impl SearchIndex for Frail {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        self.inner.search(search).await
    }

    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError> {
        let turn = self.turn();
        if turn != Some(true) {
            let mut held = self.held.lock().unwrap();
            held.extend(documents.iter().map(|d| (d.id.0.clone(), d.text.clone())));
        }
        turn.map_or(Ok(()), |_| Err(SearchError::Unavailable("killed".to_owned())))
    }

    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError> {
        let turn = self.turn();
        if turn != Some(true) {
            self.held.lock().unwrap().retain(|id, _| !ids.contains(&DocumentId(id.clone())));
        }
        turn.map_or(Ok(()), |_| Err(SearchError::Unavailable("killed".to_owned())))
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(self.held.lock().unwrap().len() as u64)
    }
}

/// One token a word.
fn chunker(tokens: usize) -> Chunker {
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": { "[UNK]": 0 }, "unk_token": "[UNK]" }
    });
    Chunker::new(Tokenizer::from_bytes(json.to_string()).unwrap(), tokens, 0).unwrap()
}

fn corpus(texts: &[(&str, &str)]) -> Vec<Document> {
    let document = |(id, text): &(&str, &str)| Document {
        id: DocumentId::from(*id),
        text: (*text).to_owned(),
        ..Document::default()
    };
    texts.iter().map(document).collect()
}

struct Bench {
    index: Arc<Frail>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { index: Arc::default(), folder: tempfile::tempdir().unwrap() }
    }

    /// One run of the command: load, then delete what is missing.
    async fn run(
        &self,
        texts: &[(&str, &str)],
        tokens: Option<usize>,
        batch: usize,
    ) -> Result<Summary, IngestError> {
        let manifest = Manifest::open(&self.folder.path().join("m.redb"), "test").await?;
        let index = Arc::clone(&self.index) as Arc<dyn SearchIndex>;
        let mut ingest = Ingest::open(index, manifest, tokens.map(chunker), batch).await?;
        let documents = corpus(texts);
        let kept: HashSet<String> = documents.iter().map(|d| d.id.0.clone()).collect();
        let (mut told, mut out_of) = (0, 0);
        ingest.load(documents, &mut |n, total| (told, out_of) = (told + n, total)).await?;
        assert_eq!(told, out_of, "progress ends at the total");
        assert_eq!(told, ingest.summary().sent);
        ingest.delete_missing(&kept).await?;
        Ok(Summary { seconds: 0.0, ..ingest.summary() })
    }

    fn held(&self) -> Vec<(String, String)> {
        self.index.held().into_iter().collect()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn summary(sent: u64, unchanged: u64, deleted: u64, chunks: u64) -> Summary {
    Summary { sent, unchanged, deleted, chunks, seconds: 0.0 }
}

#[tokio::test]
async fn unchanged_passages_are_not_sent_again_and_missing_ones_go() {
    let bench = Bench::new();
    let first = [("a", "one"), ("b", "two"), ("c", "three")];
    assert_eq!(bench.run(&first, None, 2).await.unwrap(), summary(3, 0, 0, 3));
    let calls = *bench.index.calls.lock().unwrap();
    assert_eq!(bench.run(&first, None, 2).await.unwrap(), summary(0, 3, 0, 0));
    assert_eq!(*bench.index.calls.lock().unwrap(), calls, "the index is not called");
    let second = [("a", "one"), ("b", "changed"), ("d", "four")];
    assert_eq!(bench.run(&second, None, 2).await.unwrap(), summary(2, 1, 1, 2));
    assert_eq!(bench.held(), pairs(&[("a", "one"), ("b", "changed"), ("d", "four")]));
}

#[tokio::test]
async fn chunks_that_a_shorter_text_or_another_cut_leaves_over_are_deleted() {
    let bench = Bench::new();
    bench.run(&[("a", "1 2 3 4 5")], Some(2), 10).await.unwrap();
    assert_eq!(bench.held(), pairs(&[("a#0", "1 2"), ("a#1", "3 4"), ("a#2", "5")]));
    assert_eq!(bench.run(&[("a", "1 2 3")], Some(2), 10).await.unwrap(), summary(1, 0, 0, 2));
    assert_eq!(bench.held(), pairs(&[("a#0", "1 2"), ("a#1", "3")]));
    let unchanged = bench.run(&[("a", "1 2 3")], Some(2), 10).await.unwrap();
    assert_eq!(unchanged, summary(0, 1, 0, 0));
    // Another cut of the same text is a change, and so is none.
    bench.run(&[("a", "1 2 3")], Some(3), 10).await.unwrap();
    assert_eq!(bench.held(), pairs(&[("a#0", "1 2 3")]));
    bench.run(&[("a", "1 2 3")], None, 10).await.unwrap();
    assert_eq!(bench.held(), pairs(&[("a", "1 2 3")]));
    bench.run(&[("b", "1")], None, 10).await.unwrap();
    assert_eq!(bench.held(), pairs(&[("b", "1")]));
}

#[tokio::test]
async fn a_deleted_passage_goes_with_all_its_chunks_and_unknown_ids_as_they_stand() {
    let bench = Bench::new();
    bench.run(&[("a", "1 2 3"), ("b", "1")], Some(1), 10).await.unwrap();
    bench.index.held.lock().unwrap().insert("foreign".to_owned(), "x".to_owned());
    let manifest = Manifest::open(&bench.folder.path().join("m.redb"), "test").await.unwrap();
    let index = Arc::clone(&bench.index) as Arc<dyn SearchIndex>;
    let mut ingest = Ingest::open(index, manifest, None, 10).await.unwrap();
    ingest.delete(&["a".to_owned(), "foreign".to_owned()]).await.unwrap();
    assert_eq!(ingest.summary().deleted, 1);
    drop(ingest);
    assert_eq!(bench.held(), pairs(&[("b#0", "1")]));
    assert_eq!(bench.run(&[("b", "1")], Some(1), 10).await.unwrap(), summary(0, 1, 0, 0));
}

#[tokio::test]
async fn after_an_interruption_at_any_write_the_next_run_makes_it_right() {
    let texts = [("a", "1 2 3 4"), ("b", "1 2"), ("c", "1"), ("d", "1 2 3")];
    let changed = [("a", "1"), ("b", "1 2 3 4 5 6"), ("d", "1 2 3")];
    let last = [("a", "9"), ("b", "1 2"), ("d", "1 2 3")];
    let expected = pairs(&[("a#0", "9"), ("b#0", "1 2"), ("d#0", "1 2"), ("d#1", "3")]);
    for call in 1..=8 {
        for before in [true, false] {
            let bench = Bench::new();
            bench.run(&texts, Some(2), 2).await.unwrap();
            let so_far = *bench.index.calls.lock().unwrap();
            *bench.index.fail_at.lock().unwrap() = Some((so_far + call, before));
            let interrupted = bench.run(&changed, Some(2), 2).await.is_err();
            *bench.index.fail_at.lock().unwrap() = None;
            // The corpus changes once more before the next run.
            bench.run(&last, Some(2), 2).await.unwrap();
            assert_eq!(bench.held(), expected, "call {call}, {before}, {interrupted}");
            let again = bench.run(&last, Some(2), 2).await.unwrap();
            assert_eq!(again, summary(0, 3, 0, 0));
        }
    }
}

#[tokio::test]
async fn an_index_that_was_emptied_gets_everything_again() {
    let bench = Bench::new();
    bench.run(&[("a", "1"), ("b", "2")], None, 10).await.unwrap();
    bench.index.held.lock().unwrap().clear();
    assert_eq!(bench.run(&[("a", "1"), ("b", "2")], None, 10).await.unwrap(), summary(2, 0, 0, 2));
}

#[tokio::test]
async fn one_file_keeps_several_indexes_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.redb");
    let entry = Entry::of([7; 32], Some(2));
    {
        let one = Manifest::open(&path, "one").await.unwrap();
        one.mark(vec![("a".to_owned(), entry)]).await.unwrap();
    }
    let two = Manifest::open(&path, "two").await.unwrap();
    assert!(two.entries().await.unwrap().is_empty());
    two.mark(vec![("b".to_owned(), Entry::default())]).await.unwrap();
    let error = match Manifest::open(&path, "one").await {
        Ok(_) => panic!("opened twice"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("another process has it open"), "{error}");
    drop(two);
    let one = Manifest::open(&path, "one").await.unwrap();
    assert_eq!(one.entries().await.unwrap(), HashMap::from([("a".to_owned(), entry)]));
    one.forget(vec!["a".to_owned(), "unknown".to_owned()]).await.unwrap();
    assert!(one.entries().await.unwrap().is_empty());
}
