//! The fields of a passage in tantivy, and the way there and back.
//!
//! Knows nothing of scores.

use crate::retrieval::tokens;
use actors::types::{Document, DocumentId};
use std::collections::BTreeMap;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing,
    TextOptions, Value as _,
};
use tantivy::{DocAddress, Searcher, TantivyDocument, TantivyError, Term};

/// Handles of the fields.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    pub(super) id: Field,
    title: Field,
    text: Field,
    /// Metadata as a JSON object, to be given back.
    metadata: Field,
    /// One term for each pair of it, to be filtered by.
    pub(super) facets: Field,
    /// Terms of title and text, as [`tokens`] gives them, split at spaces.
    pub(super) terms: Field,
    /// Number of those terms.
    length: Field,
    /// The passage's vector in half precision; absent where no embedder was configured.
    pub(super) vector: Field,
}

impl Fields {
    /// A passage as it is stored, with its vector unless that is empty.
    pub(super) fn stored(
        self,
        document: &Document,
        vector: &[u8],
    ) -> Result<TantivyDocument, TantivyError> {
        let mut terms = tokens(&document.title);
        terms.extend(tokens(&document.text));
        let mut stored = TantivyDocument::default();
        stored.add_text(self.id, document.id.as_str());
        stored.add_text(self.title, &document.title);
        stored.add_text(self.text, &document.text);
        if !document.metadata.is_empty() {
            let metadata = serde_json::to_string(&document.metadata)
                .map_err(|error| TantivyError::InternalError(error.to_string()))?;
            stored.add_text(self.metadata, metadata);
        }
        for (key, value) in &document.metadata {
            stored.add_text(self.facets, facet(key, value));
        }
        stored.add_u64(self.length, terms.len() as u64);
        stored.add_text(self.terms, terms.join(" "));
        if !vector.is_empty() {
            stored.add_bytes(self.vector, vector);
        }
        Ok(stored)
    }

    /// The passage at an address.
    pub(super) fn load(
        self,
        searcher: &Searcher,
        address: DocAddress,
    ) -> Result<Document, TantivyError> {
        let stored: TantivyDocument = searcher.doc(address)?;
        let text = |field| stored.get_first(field).and_then(|value| value.as_str());
        let owned = |field| text(field).unwrap_or_default().to_owned();
        let metadata = match text(self.metadata) {
            None => BTreeMap::new(),
            Some(metadata) => serde_json::from_str(metadata)
                .map_err(|error| TantivyError::InternalError(error.to_string()))?,
        };
        Ok(Document {
            id: DocumentId(owned(self.id)),
            title: owned(self.title),
            text: owned(self.text),
            metadata,
        })
    }

    /// What passages with this pair in their metadata are found by.
    pub(super) fn facet(self, key: &str, value: &str) -> Term {
        Term::from_field_text(self.facets, &facet(key, value))
    }
}

/// Lengths make it unambiguous: no pair of key and value looks like another.
fn facet(key: &str, value: &str) -> String {
    format!("{}:{key}{value}", key.len())
}

/// The schema with the handles of its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let terms = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        id: schema.add_text_field("id", STRING | STORED | FAST),
        title: schema.add_text_field("title", STORED),
        text: schema.add_text_field("text", STORED),
        metadata: schema.add_text_field("metadata", STORED),
        facets: schema.add_text_field("facets", STRING),
        terms: schema.add_text_field("terms", TextOptions::default().set_indexing_options(terms)),
        length: schema.add_u64_field("length", FAST | INDEXED),
        vector: schema.add_bytes_field("vector", STORED),
    };
    (schema.build(), fields)
}
