//! `POST /rerank` in the shapes of Cohere v2 and Jina: documents in, the chosen ones in order out.
//!
//! `top_n` is a cap: the policy may choose fewer. What only Regrade knows stands in the extra
//! object `regrade`, which clients of those services pass over.

use super::body::{self, DocumentInput};
use super::error::ApiError;
use super::observe::timings;
use super::{Gateway, MODEL};
use actors::service::{Overrides, Served};
use actors::types::{Query, QueryId, SelectionLimits};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The request. Cohere's and Jina's own knobs without a meaning here are refused like any other
/// unknown field; `model` is accepted because their clients always send it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RerankRequest {
    query: String,
    documents: Vec<DocumentInput>,
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
    /// Any name: there is one model.
    #[serde(default, rename = "model")]
    _model: Option<String>,
}

pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    let reply = gateway.within_deadline(async {
        let input: RerankRequest = body::read(request, &gateway.limits).await?;
        let return_documents = input.return_documents;
        let (query, overrides) = admit(input, &gateway)?;
        let served = gateway.door.rerank(query, overrides).await?;
        Ok(response(&served, return_documents))
    });
    Ok(Json(reply.await?))
}

/// `top_n` goes into the limits of the decision, not into a cut afterwards: the logged propensity
/// must be that of what was shown.
fn admit(input: RerankRequest, gateway: &Gateway) -> Result<(Query, Overrides), ApiError> {
    body::check_query(&input.query, &gateway.limits)?;
    if input.top_n == Some(0) {
        return Err(ApiError::field("top_n", "`top_n` must be at least 1, or absent for no cap"));
    }
    let candidates = body::documents("documents", input.documents, &gateway.limits)?;
    let id = QueryId(gateway.next_id("q"));
    let limits = input.top_n.map(|cap| {
        let k_max = gateway.selection.k_max.min(u32::try_from(cap).unwrap_or(u32::MAX));
        SelectionLimits { k_max, k_min: gateway.selection.k_min.min(k_max), ..gateway.selection }
    });
    let query = Query { id, text: input.query, candidates: Some(candidates), ..Query::default() };
    Ok((query, Overrides { limits, ..Overrides::default() }))
}

/// Scores are logits; the wire carries their sigmoid, in [0, 1] as Cohere's are.
fn relevance(score: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(score)).exp())
}

fn response(served: &Served, return_documents: bool) -> Value {
    let results: Vec<Value> = served
        .documents
        .iter()
        .map(|ranked| {
            let mut result =
                json!({ "index": ranked.index, "relevance_score": relevance(ranked.score) });
            if return_documents {
                let document = &ranked.document;
                result["document"] = json!({
                    "id": document.id, "title": document.title, "text": document.text,
                });
            }
            result
        })
        .collect();
    json!({
        "id": served.query_id,
        "model": MODEL,
        "results": results,
        "meta": { "api_version": { "version": "2" }, "billed_units": { "search_units": 1 } },
        "regrade": {
            "decision_id": served.decision_id,
            "policy_version": served.policy.version,
            "policy_digest": served.policy.digest,
            "k": served.documents.len(),
            "propensity": served.propensity,
            "timings": timings(served),
        },
    })
}
