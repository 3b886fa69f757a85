//! The promises of `ports::Generator`.

use actors::ports::Generator;
use actors::types::{Document, Query};
use std::sync::Arc;

/// Checks a generator; `make()` gives one that works.
pub async fn check_generator(make: impl AsyncFn() -> Arc<dyn Generator>) {
    let generator = make().await;
    let query = Query { text: "Where does the Nile end?".to_owned(), ..Query::default() };
    let documents: Vec<Document> = (0..3)
        .map(|n| Document {
            id: format!("d{n}").as_str().into(),
            title: "Nile".to_owned(),
            text: format!("Passage {n}: the Nile ends in the Mediterranean Sea."),
            ..Document::default()
        })
        .collect();
    let none = generator.answer(&query, &[]).await.expect("an empty list of documents is legal");
    assert!(none.citations.is_empty(), "nothing can be cited from no documents");
    assert_eq!(none.usage.context_tokens, 0, "no documents cost no context");
    for count in 1..=3 {
        let answer = generator.answer(&query, &documents[..count]).await.expect("an answer");
        for cited in &answer.citations {
            let given = documents[..count].iter().any(|d| d.id == *cited);
            assert!(given, "cites `{cited}`, which was not given");
        }
        assert!(answer.confidence.is_none_or(f32::is_finite));
    }
    let asked = (0..8).map(|_| {
        let (generator, query, documents) =
            (Arc::clone(&generator), query.clone(), documents.clone());
        tokio::spawn(async move { generator.answer(&query, &documents).await.is_ok() })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert!(answer.await.unwrap(), "eight questions at once are answered");
    }
}
