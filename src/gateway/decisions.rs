//! `GET /v1/decisions/{id}`: what the log holds of a decision, however old: its episode, the reward
//! that counts with all its parts, and every revision of it.

use super::Gateway;
use super::error::ApiError;
use actors::types::DecisionId;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let known =
        gateway.within_deadline(async { Ok(gateway.door.decision(&DecisionId(id)).await?) });
    Ok(Json(json!(known.await?)))
}
