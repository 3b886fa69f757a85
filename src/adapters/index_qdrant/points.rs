//! A passage as a point of the server, and the way back; filters; the order of what was found.

use super::failure::Failure;
use super::schema::{DENSE, METADATA, SPARSE};
use crate::retrieval::{RRF_K, SparseVector, reciprocal_rank_fusion};
use actors::types::{Candidate, Document, DocumentId, Filter};
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    self as wire, Condition, NamedVectors, PointId, PointStruct, ScoredPoint,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// The space of point ids: fixed for ever, for it is written into collections.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2c_1d0e_58b4_5c7a_9a33_4f0d_7e21_b6c5);

/// The payload of a point.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    title: String,
    text: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// The id of a passage's point: equal for equal passages' ids, so that writing again replaces.
pub(super) fn point_id(id: &DocumentId) -> PointId {
    PointId::from(Uuid::new_v5(&NAMESPACE, id.as_str().as_bytes()).to_string())
}

/// The point of a passage.
pub(super) fn point(
    document: &Document,
    sparse: SparseVector,
    dense: Option<Vec<f32>>,
) -> Result<PointStruct, Failure> {
    let stored = Stored {
        id: document.id.0.clone(),
        title: document.title.clone(),
        text: document.text.clone(),
        metadata: document.metadata.clone(),
    };
    let failed = |reason: String| {
        Failure::Refused(format!("cannot write passage `{}`: {reason}", document.id))
    };
    let stored = serde_json::to_value(stored).map_err(|error| failed(error.to_string()))?;
    let payload = Payload::try_from(stored).map_err(|error| failed(error.to_string()))?;
    let mut vectors = NamedVectors::default();
    if !sparse.is_empty() {
        let vector = wire::Vector::new_sparse(sparse.indices, sparse.values);
        vectors = vectors.add_vector(SPARSE, vector);
    }
    if let Some(dense) = dense {
        vectors = vectors.add_vector(DENSE, wire::Vector::new_dense(dense));
    }
    Ok(PointStruct::new(point_id(&document.id), vectors, payload))
}

/// What an embedder reads of a passage.
pub(super) fn readable(document: &Document) -> String {
    if document.title.is_empty() {
        document.text.clone()
    } else {
        format!("{}\n{}", document.title, document.text)
    }
}

/// The server's form of a filter.
pub(super) fn filter(filter: &Filter) -> Option<wire::Filter> {
    if filter.is_empty() {
        return None;
    }
    let condition = |(key, values): (&String, &Vec<String>)| {
        Condition::matches(format!("{METADATA}.{key}"), values.clone())
    };
    Some(wire::Filter::must(filter.iter().map(condition)))
}

/// One search of a batch: the `limit` nearest to a vector, with their payload.
pub(super) fn nearest(
    collection: &str,
    vector: wire::VectorInput,
    (using, limit): (&str, usize),
    filter: Option<wire::Filter>,
) -> wire::QueryPoints {
    wire::QueryPoints {
        collection_name: collection.to_owned(),
        query: Some(wire::Query::new_nearest(vector)),
        using: Some(using.to_owned()),
        filter,
        limit: Some(limit as u64),
        with_payload: Some(true.into()),
        ..wire::QueryPoints::default()
    }
}

/// The `k` best of one or several lists. Engines order ties as they like, so each list is sorted
/// anew: by score, ties by id. One list keeps its scores; several are fused, and what they score is
/// the fusion.
pub(super) fn ranked(lists: Vec<Vec<ScoredPoint>>, k: usize) -> Result<Vec<Candidate>, Failure> {
    let mut documents: HashMap<DocumentId, Document> = HashMap::new();
    let mut sorted = Vec::with_capacity(lists.len());
    for list in lists {
        let mut hits: Vec<(DocumentId, f32)> = Vec::with_capacity(list.len());
        for point in list {
            let score = point.score;
            let document = document(point)?;
            hits.push((document.id.clone(), score));
            documents.insert(document.id.clone(), document);
        }
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        // A point may stand on two shards for a moment; its best place counts.
        let mut seen = std::collections::HashSet::new();
        hits.retain(|(id, _)| seen.insert(id.clone()));
        sorted.push(hits);
    }
    let best: Vec<(DocumentId, f32)> = match <[_; 1]>::try_from(sorted) {
        Ok([only]) => only.into_iter().take(k).collect(),
        Err(several) => {
            let ids = |hits: Vec<(DocumentId, f32)>| hits.into_iter().map(|hit| hit.0).collect();
            let lists: Vec<Vec<DocumentId>> = several.into_iter().map(ids).collect();
            let fused = reciprocal_rank_fusion(&lists, RRF_K, k);
            fused.into_iter().map(|entry| (entry.id, entry.score as f32)).collect()
        }
    };
    let candidate = |(rank, (id, score)): (u32, (DocumentId, f32))| {
        documents.remove(&id).map(|document| Candidate { document, score, rank })
    };
    Ok((0..).zip(best).filter_map(candidate).collect())
}

fn document(point: ScoredPoint) -> Result<Document, Failure> {
    let id = format!("{:?}", point.id.and_then(|id| id.point_id_options));
    let stored: Stored = Payload::from(point.payload).deserialize().map_err(|error| {
        Failure::Misfit(format!(
            "point {id} does not hold a passage ({error}): something else writes to the \
             collection; give it one of its own in `index.qdrant.collection`"
        ))
    })?;
    let Stored { id, title, text, metadata } = stored;
    Ok(Document { id: DocumentId(id), title, text, metadata })
}
