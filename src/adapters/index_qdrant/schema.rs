//! What a collection must be: its vectors, its indexes, and a fingerprint of how texts became
//! vectors, kept in the collection's own metadata.
//!
//! Vectors of two models, two tokenizers or two average lengths cannot be compared, and nothing in
//! a score would tell. So a collection that does not fit is refused, with both values named.

use super::config::QdrantConfig;
use super::failure::Failure;
use crate::retrieval::{Embedder, TERM_SPACE};
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, Distance, FieldType, Modifier,
    SparseVectorConfig, SparseVectorParams, Value, VectorParams, VectorParamsMap, VectorsConfig,
    value::Kind, vectors_config,
};
use std::collections::HashMap;

/// Name of the sparse vector.
pub(super) const SPARSE: &str = "bm25";
/// Name of the dense vector.
pub(super) const DENSE: &str = "dense";
/// Where metadata stands in the payload.
pub(super) const METADATA: &str = "metadata";
/// What the keys of the fingerprint begin with.
const PREFIX: &str = "regrade_";
/// The layout of payloads and vectors that this file describes.
const LAYOUT: &str = "1";

/// What this configuration expects of its collection.
pub(super) struct Schema {
    collection: String,
    dense: Option<(String, u64)>,
    filter_fields: Vec<String>,
    /// `(name, value, the setting that makes it)`.
    fingerprint: Vec<(&'static str, String, &'static str)>,
}

impl Schema {
    pub(super) fn new(config: &QdrantConfig, embedder: Option<&dyn Embedder>) -> Self {
        let dense = embedder.map(|model| (model.name(), model.dimension() as u64));
        let model = dense.as_ref().map_or("none", |(name, _)| name.as_str()).to_owned();
        let fingerprint = vec![
            ("layout", LAYOUT.to_owned(), "the version of this program"),
            ("terms", TERM_SPACE.to_owned(), "the version of this program"),
            ("k1", config.k1.to_string(), "`index.qdrant.k1`"),
            ("b", config.b.to_string(), "`index.qdrant.b`"),
            ("average_length", config.average_length.to_string(), "`index.qdrant.average_length`"),
            ("model", model, "the embedder"),
        ];
        Self {
            collection: config.collection.clone(),
            dense,
            filter_fields: config.filter_fields.clone(),
            fingerprint,
        }
    }

    /// The request that makes the collection.
    pub(super) fn creation(&self) -> CreateCollection {
        let dense = self.dense.as_ref().map(|(_, size)| {
            let distance = Distance::Cosine.into();
            let params = VectorParams { size: *size, distance, ..VectorParams::default() };
            let map = HashMap::from([(DENSE.to_owned(), params)]);
            VectorsConfig {
                config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map })),
            }
        });
        let idf = Some(Modifier::Idf.into());
        let sparse = SparseVectorParams { modifier: idf, ..SparseVectorParams::default() };
        let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
        CreateCollection {
            collection_name: self.collection.clone(),
            vectors_config: dense,
            sparse_vectors_config: Some(SparseVectorConfig {
                map: HashMap::from([(SPARSE.to_owned(), sparse)]),
            }),
            metadata: self
                .fingerprint
                .iter()
                .map(|(name, value, _)| (format!("{PREFIX}{name}"), text(value)))
                .collect(),
            ..CreateCollection::default()
        }
    }

    /// Compares a collection that is there.
    pub(super) fn check(&self, info: &CollectionInfo) -> Result<(), Failure> {
        let config = info.config.as_ref();
        self.check_fingerprint(config.map(|config| &config.metadata))?;
        let params = config.and_then(|config| config.params.as_ref());
        let vectors = params.and_then(|params| params.vectors_config.as_ref());
        self.check_dense(vectors.and_then(|vectors| vectors.config.as_ref()))?;
        let sparse = params.and_then(|params| params.sparse_vectors_config.as_ref());
        let sparse = sparse.and_then(|sparse| sparse.map.get(SPARSE));
        match sparse.map(SparseVectorParams::modifier) {
            Some(Modifier::Idf) => Ok(()),
            Some(other) => Err(self.misfit(&format!(
                "weighs its sparse vector `{SPARSE}` by {other:?}, expected Idf"
            ))),
            None => Err(self.misfit(&format!("has no sparse vector `{SPARSE}`"))),
        }
    }

    fn check_fingerprint(&self, found: Option<&HashMap<String, Value>>) -> Result<(), Failure> {
        let text = |name: &str| {
            let value = found.and_then(|found| found.get(&format!("{PREFIX}{name}")));
            value.and_then(|value| value.as_str()).map(String::as_str)
        };
        for (name, expected, setting) in &self.fingerprint {
            match text(name) {
                Some(found) if found == expected => {}
                Some(found) => {
                    return Err(self.misfit(&format!(
                        "was made with {name} `{found}`, here it is `{expected}` by {setting}"
                    )));
                }
                None => {
                    return Err(self.misfit(&format!(
                        "does not say with which {name} it was made (here it is `{expected}`): it \
                         was made by another program, or by a server before 1.16, which keeps no \
                         metadata"
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_dense(&self, found: Option<&vectors_config::Config>) -> Result<(), Failure> {
        let found = match found {
            Some(vectors_config::Config::ParamsMap(map)) => map.map.get(DENSE),
            Some(vectors_config::Config::Params(_)) | None => None,
        };
        match (&self.dense, found) {
            (None, _) => Ok(()),
            (Some((model, _)), None) => Err(self.misfit(&format!(
                "has no dense vector `{DENSE}`, expected one for the embedder `{model}`"
            ))),
            (Some((model, size)), Some(found)) if found.size != *size => {
                Err(self.misfit(&format!(
                    "holds vectors of {} values, the embedder `{model}` makes {size}",
                    found.size
                )))
            }
            (Some(_), Some(found)) if found.distance() != Distance::Cosine => {
                let distance = found.distance();
                Err(self.misfit(&format!("compares by {distance:?} distance, expected Cosine")))
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// The requests that make the indexes of filtered fields that are not there.
    pub(super) fn missing_indexes(&self, info: &CollectionInfo) -> Vec<CreateFieldIndexCollection> {
        let paths = self.filter_fields.iter().map(|field| format!("{METADATA}.{field}"));
        paths
            .filter(|path| !info.payload_schema.contains_key(path))
            .map(|field_name| CreateFieldIndexCollection {
                collection_name: self.collection.clone(),
                wait: Some(true),
                field_name,
                field_type: Some(FieldType::Keyword.into()),
                ..CreateFieldIndexCollection::default()
            })
            .collect()
    }

    fn misfit(&self, what: &str) -> Failure {
        let name = &self.collection;
        Failure::Misfit(format!(
            "collection `{name}` {what}; set it back, or name a new collection in \
             `index.qdrant.collection` and index again"
        ))
    }
}
