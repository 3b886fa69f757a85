//! `POST /v1/answer`: a question in, an answer with its decision out.
//!
//! `filter` narrows what is retrieved: `{"lang": ["en", "de"], "year": ["2024"]}` finds documents
//! whose metadata has one of the values under each key.

use super::Gateway;
use super::body::{self, DocumentInput};
use super::error::ApiError;
use super::observe::timings;
use actors::service::{Overrides, Served};
use actors::types::{Exploration, Filter, Query, QueryId, SelectionLimits};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerRequest {
    query: String,
    id: Option<String>,
    tenant: Option<String>,
    candidates: Option<Vec<DocumentInput>>,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    time_ms: u64,
    limits: Option<SelectionLimits>,
    exploration: Option<Exploration>,
    top_n: Option<usize>,
}

pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    let served = gateway.within_deadline(async {
        let input: AnswerRequest = body::read(request, &gateway.limits).await?;
        let (query, overrides) = admit(input, &gateway)?;
        Ok(gateway.door.answer(query, overrides).await?)
    });
    Ok(Json(response(served.await?)))
}

/// Checks what types cannot say and fills in the id.
fn admit(input: AnswerRequest, gateway: &Gateway) -> Result<(Query, Overrides), ApiError> {
    let limits = &gateway.limits;
    body::check_query(&input.query, limits)?;
    body::check_filter(&input.filter, input.candidates.is_none())?;
    if input.top_n.is_some_and(|n| n == 0 || n > limits.max_documents) {
        let message = format!("`top_n` must lie in 1..={}", limits.max_documents);
        return Err(ApiError::field("top_n", message));
    }
    if input.limits.is_some_and(|l| l.k_max == 0 || l.k_min > l.k_max || l.token_budget == 0) {
        let message = "`limits` needs k_max >= 1, k_min <= k_max and token_budget >= 1";
        return Err(ApiError::field("limits", message));
    }
    if let Some(Err(reason)) = input.exploration.map(|exploration| exploration.validate()) {
        return Err(ApiError::field("exploration", format!("exploration.{reason}")));
    }
    let candidates = match input.candidates {
        Some(inputs) => Some(body::documents("candidates", inputs, limits)?),
        None => None,
    };
    let query = Query {
        id: QueryId(input.id.filter(|id| !id.is_empty()).unwrap_or_else(|| gateway.next_id("q"))),
        text: input.query,
        tenant: input.tenant,
        candidates,
        filter: input.filter,
        references: input.references,
        metadata: input.metadata,
        time_ms: input.time_ms,
    };
    let overrides =
        Overrides { limits: input.limits, exploration: input.exploration, top_n: input.top_n };
    Ok((query, overrides))
}

fn response(served: Served) -> Value {
    let timings = timings(&served);
    let answer = served.answer.unwrap_or_default();
    let documents: Vec<Value> = served
        .documents
        .iter()
        .map(|d| {
            json!({
                "id": d.document.id,
                "title": d.document.title,
                "text": d.document.text,
                "metadata": d.document.metadata,
                "index": d.index,
                "score": d.score,
            })
        })
        .collect();
    json!({
        "id": served.query_id,
        "answer": answer.text,
        "citations": answer.citations,
        "confidence": answer.confidence,
        "decision_id": served.decision_id,
        "policy": served.policy,
        "gate": served.gate,
        "degraded": served.degraded,
        "k": documents.len(),
        "documents": documents,
        "usage": answer.usage,
        "propensity": served.propensity,
        "timings": timings,
    })
}
