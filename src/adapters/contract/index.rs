//! The promises of `ports::SearchIndex`.

use actors::ports::{Search, SearchIndex};
use actors::types::{Document, DocumentId, Filter};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Checks a search index. `make(name)` opens the index of that name: empty at first, and with what
/// it held when the name is opened again after the earlier handle is gone. It must allow filters by
/// `topic` and `place`.
pub async fn check_search_index(make: impl AsyncFn(&str) -> Arc<dyn SearchIndex>) {
    an_empty_index_finds_nothing(&*make("empty").await).await;
    what_was_added_is_found_best_first(&*make("found").await).await;
    an_upsert_replaces_by_id(&*make("upsert").await).await;
    a_deleted_passage_is_not_found(&*make("delete").await).await;
    ties_go_by_document_id(&*make("ties").await).await;
    odd_queries_are_no_errors(&*make("odd").await).await;
    a_filter_leaves_what_it_lets_through(&*make("filter").await).await;
    a_narrow_filter_still_finds_all_it_may(&*make("narrow").await).await;
    metadata_of_any_kind_comes_back(&*make("metadata").await).await;
    passages_survive_a_restart(&make).await;
}

fn passage(id: &str, title: &str, text: &str) -> Document {
    Document {
        id: id.into(),
        title: title.to_owned(),
        text: text.to_owned(),
        ..Document::default()
    }
}

fn library() -> Vec<Document> {
    vec![
        passage("nile", "Nile", "The Nile is a river that flows north through Africa."),
        passage("amazon", "Amazon", "The Amazon is a river in South America."),
        passage("everest", "Mount Everest", "The highest mountain lies in the Himalayas."),
        passage("sahara", "Sahara", "A desert in the north of Africa."),
    ]
}

async fn ids(index: &dyn SearchIndex, query: &str, k: usize) -> Vec<String> {
    let found = index.search(&Search::new(query, k)).await.unwrap();
    assert!(found.len() <= k, "{} candidates for k = {k}", found.len());
    for (rank, pair) in found.windows(2).enumerate() {
        assert!(pair[0].score >= pair[1].score, "scores fall, broken after rank {rank}");
    }
    for (rank, candidate) in found.iter().enumerate() {
        assert_eq!(candidate.rank as usize, rank, "ranks count from 0");
        assert!(candidate.score.is_finite());
    }
    found.into_iter().map(|c| c.document.id.0).collect()
}

async fn an_empty_index_finds_nothing(index: &dyn SearchIndex) {
    assert_eq!(index.count().await.unwrap(), 0);
    assert!(ids(index, "river", 5).await.is_empty());
    index.delete(&[DocumentId::from("nothing")]).await.unwrap();
    index.upsert(&[]).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 0);
}

async fn what_was_added_is_found_best_first(index: &dyn SearchIndex) {
    index.upsert(&library()).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 4);
    let found = index.search(&Search::new("highest mountain Himalayas", 3)).await.unwrap();
    assert_eq!(found[0].document, library()[2], "the passage comes back whole");
    assert_eq!(ids(index, "Amazon river", 1).await, ["amazon"]);
    assert_eq!(ids(index, "everest", 10).await[0], "everest", "titles are searched");
    assert!(ids(index, "river", 0).await.is_empty());
}

async fn an_upsert_replaces_by_id(index: &dyn SearchIndex) {
    index.upsert(&library()).await.unwrap();
    index.upsert(&[passage("nile", "Nile", "Now about crocodiles.")]).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 4);
    let found = index.search(&Search::new("crocodiles", 1)).await.unwrap();
    assert_eq!(found[0].document.text, "Now about crocodiles.");
    assert!(!ids(index, "flows", 10).await.contains(&"nile".to_owned()), "the old text is gone");
    // The last of two with one id in one call stays.
    let twice = [passage("x", "", "first zebra"), passage("x", "", "second zebra")];
    index.upsert(&twice).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 5);
    let found = index.search(&Search::new("zebra", 5)).await.unwrap();
    assert_eq!(found[0].document.text, "second zebra");
}

async fn a_deleted_passage_is_not_found(index: &dyn SearchIndex) {
    index.upsert(&library()).await.unwrap();
    let gone = [DocumentId::from("nile"), DocumentId::from("unknown")];
    index.delete(&gone).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 3);
    assert_eq!(ids(index, "river", 10).await[0], "amazon");
    assert!(!ids(index, "Nile river Africa", 10).await.contains(&"nile".to_owned()));
}

async fn ties_go_by_document_id(index: &dyn SearchIndex) {
    let same = ["c", "a", "d", "b"].map(|id| passage(id, "", "all the same words here"));
    index.upsert(&same).await.unwrap();
    index.upsert(&[passage("e", "", "something else entirely")]).await.unwrap();
    assert_eq!(ids(index, "same words", 3).await, ["a", "b", "c"]);
}

async fn odd_queries_are_no_errors(index: &dyn SearchIndex) {
    index.upsert(&library()).await.unwrap();
    for query in ["", " ", "?!… \"AND\" (OR", "title:nile +river -x", "\u{0}", "🐊", "ß İ ﬁ"]
    {
        ids(index, query, 5).await;
    }
    let long = "river nile water ".repeat(6_000);
    assert!(!ids(index, &long, 5).await.is_empty(), "a query of 100,000 characters is searched");
    assert_eq!(ids(index, "NILE", 1).await, ["nile"], "case does not matter");
}

fn tagged(mut document: Document, tags: &[(&str, &str)]) -> Document {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    document.metadata = tags.collect();
    document
}

fn filter(pairs: &[(&str, &[&str])]) -> Filter {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    pairs.iter().map(|(key, list)| ((*key).to_owned(), values(list))).collect()
}

async fn filtered(index: &dyn SearchIndex, query: &str, pairs: &[(&str, &[&str])]) -> Vec<String> {
    let search = Search { filter: filter(pairs), ..Search::new(query, 10) };
    let found = index.search(&search).await.unwrap();
    assert!(found.iter().all(|c| search.admits(&c.document)), "{pairs:?} lets others through");
    found.into_iter().map(|c| c.document.id.0).collect()
}

async fn a_filter_leaves_what_it_lets_through(index: &dyn SearchIndex) {
    let [nile, amazon, everest, sahara] = library().try_into().expect("four passages");
    let library = [
        tagged(nile, &[("topic", "river"), ("place", "africa")]),
        tagged(amazon, &[("topic", "river"), ("place", "america")]),
        tagged(everest, &[("topic", "mountain"), ("place", "asia")]),
        tagged(sahara, &[("topic", "desert"), ("place", "africa")]),
        passage("bare", "", "a river in Africa without metadata"),
    ];
    index.upsert(&library).await.unwrap();
    let all: BTreeSet<String> = filtered(index, "river africa", &[]).await.into_iter().collect();
    assert!(all.len() >= 4, "everything with a term of the query: {all:?}");
    assert_eq!(filtered(index, "river africa", &[("place", &["america"])]).await, ["amazon"]);
    let either = filtered(index, "river africa", &[("place", &["america", "asia", "africa"])]);
    let placed: BTreeSet<String> = all.into_iter().filter(|id| id != "bare").collect();
    assert_eq!(either.await.into_iter().collect::<BTreeSet<_>>(), placed, "any of the values");
    let both = [("place", &["africa"][..]), ("topic", &["river"][..])];
    assert_eq!(filtered(index, "river africa", &both).await, ["nile"], "all of the keys");
    for none in ["oceania", "afric", "africa ", "AFRICA", ""] {
        assert!(filtered(index, "river africa", &[("place", &[none])]).await.is_empty());
    }
    assert!(filtered(index, "river africa", &[("place", &[])]).await.is_empty());
    // An upsert replaces metadata too.
    index.upsert(&[tagged(library[0].clone(), &[("place", "egypt")])]).await.unwrap();
    assert_eq!(filtered(index, "river", &[("place", &["egypt"])]).await, ["nile"]);
    assert!(!filtered(index, "river", &[("topic", &["river"])]).await.contains(&"nile".into()));
}

async fn a_narrow_filter_still_finds_all_it_may(index: &dyn SearchIndex) {
    // The three that the filter lets through are the worst of two hundred by score.
    let mut passages: Vec<Document> = (0..200)
        .map(|n| tagged(passage(&format!("o{n:03}"), "", "zebra"), &[("topic", "other")]))
        .collect();
    let long = "zebra ".to_owned() + &"and many other words ".repeat(20);
    passages.extend(
        (0..3).map(|n| tagged(passage(&format!("w{n}"), "", &long), &[("topic", "wanted")])),
    );
    index.upsert(&passages).await.unwrap();
    let wanted = filtered(index, "zebra", &[("topic", &["wanted"])]).await;
    assert_eq!(wanted, ["w0", "w1", "w2"]);
}

async fn metadata_of_any_kind_comes_back(index: &dyn SearchIndex) {
    let odd = [("a.b \"c\"", "1"), ("topic", "ß İ 🐊"), ("place", "x:y\\z"), ("", "")];
    let odd = tagged(passage("odd", "", "zebra"), &odd);
    index.upsert(std::slice::from_ref(&odd)).await.unwrap();
    let found = index.search(&Search::new("zebra", 1)).await.unwrap();
    assert_eq!(found[0].document, odd);
    assert_eq!(filtered(index, "zebra", &[("topic", &["ß İ 🐊"])]).await, ["odd"]);
    assert_eq!(filtered(index, "zebra", &[("place", &["x:y\\z"])]).await, ["odd"]);
}

async fn passages_survive_a_restart(make: &impl AsyncFn(&str) -> Arc<dyn SearchIndex>) {
    let index = make("restart").await;
    index.upsert(&library()).await.unwrap();
    index.delete(&[DocumentId::from("sahara")]).await.unwrap();
    drop(index);
    let index = make("restart").await;
    assert_eq!(index.count().await.unwrap(), 3);
    assert_eq!(ids(&*index, "mountain", 5).await[0], "everest");
}
