//! What a user asks and what the index returns.

use super::{DocumentId, QueryId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which documents may be found, by their metadata: for each key any of its values; every key must
/// fit. No key at all lets every document through; a key without values lets none.
pub type Filter = BTreeMap<String, Vec<String>>;

/// One question to be answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Unique identifier, given by the application or drawn at the door.
    #[serde(default)]
    pub id: QueryId,
    /// The question itself; never empty once admitted.
    #[serde(rename = "query")]
    pub text: String,
    /// Whose traffic this is, where several share a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Documents to choose from; when present the index is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<Document>>,
    /// Which documents may be retrieved, by their metadata; empty for all.
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub filter: Filter,
    /// Reference answers, any of which is right; empty when none is known (yet).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Free key-value pairs, carried into the episode unchanged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When the query was asked, milliseconds since the Unix epoch; 0 when unknown.
    #[serde(default)]
    pub time_ms: u64,
}

/// Another text to search with in the place of a query: a proposal of a rewriter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// What kind of text it is: `query2doc`, `hyde`, `rewrite`, …
    pub kind: String,
    /// The text; never empty.
    pub text: String,
}

/// One retrievable passage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Stable identifier.
    #[serde(alias = "pid")]
    pub id: DocumentId,
    /// Title, empty where there is none.
    #[serde(default)]
    pub title: String,
    /// Body.
    pub text: String,
    /// Free key-value pairs; what a query filters by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A document as the retriever returned it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The passage.
    pub document: Document,
    /// Retrieval score; larger is better, scale depends on the index.
    pub score: f32,
    /// Position in the retrieval order, from 0.
    pub rank: u32,
}
