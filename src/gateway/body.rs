//! Reading a request body: media type, size, UTF-8 and JSON, each refused in its own words.
//!
//! Owns the inputs that several routes share (a document as text or object). Knows no route.

use super::error::ApiError;
use crate::config::ServerConfig;
use actors::types::{Document, DocumentId, Filter};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use serde::de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Reads a JSON body into a type; at most `max_body_bytes` are ever held.
pub(super) async fn read<T: DeserializeOwned>(
    request: Request<Body>,
    limits: &ServerConfig,
) -> Result<T, ApiError> {
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if !media.is_some_and(is_json) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("body is `{}`; send `content-type: application/json`", media.unwrap_or("")),
        ));
    }
    let bytes = axum::body::to_bytes(request.into_body(), limits.max_body_bytes)
        .await
        .map_err(|e| body_error(&e, limits.max_body_bytes))?;
    parse(&bytes)
}

fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn body_error(error: &axum::Error, limit: usize) -> ApiError {
    let is_too_large = std::error::Error::source(error)
        .is_some_and(|source| source.to_string().contains("length limit"));
    if is_too_large {
        return ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("body is over {limit} bytes; send less, or raise `server.max_body_bytes`"),
        );
    }
    ApiError::new(StatusCode::BAD_REQUEST, "broken_body", "the body ended before it was complete")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_utf8",
            format!("body is not UTF-8: byte {} is wrong; encode it as UTF-8", e.valid_up_to()),
        )
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let error = e.into_inner();
        let (code, lead) = match error.classify() {
            serde_json::error::Category::Data => ("invalid_field", "body does not fit"),
            _ => ("malformed_json", "body is not valid JSON"),
        };
        let mut refusal = ApiError::new(StatusCode::BAD_REQUEST, code, format!("{lead}: {error}"));
        if code == "invalid_field" {
            refusal.param = param(&path, &error.to_string());
        }
        refusal
    })?;
    json.end().map_err(|e| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "malformed_json",
            format!("body is not valid JSON: {e}"),
        )
    })?;
    Ok(value)
}

/// The field at fault: the path to it, or the name in the message where that is nearer.
fn param(path: &str, message: &str) -> Option<String> {
    let named = ["missing field", "unknown field", "duplicate field"]
        .iter()
        .any(|lead| message.starts_with(lead));
    let name = if named { message.split('`').nth(1) } else { None };
    match (path, name) {
        ("." | "", name) => name.map(str::to_owned),
        (path, Some(name)) if !path.ends_with(name) => Some(format!("{path}.{name}")),
        (path, _) => Some(path.to_owned()),
    }
}

/// Refuses an empty query and one over the limit.
pub(super) fn check_query(text: &str, limits: &ServerConfig) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::field("query", "the query is empty; send the question as text"));
    }
    let length = text.chars().count();
    if length > limits.max_query_chars {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "query_too_long",
            format!(
                "the query has {length} characters, the limit is {}; shorten it, or raise \
                 `server.max_query_chars`",
                limits.max_query_chars
            ),
        )
        .with_param("query"));
    }
    Ok(())
}

/// Refuses a filter that nothing could pass, and one that nothing would read.
pub(super) fn check_filter(filter: &Filter, is_retrieved: bool) -> Result<(), ApiError> {
    if !is_retrieved && !filter.is_empty() {
        let message = "`filter` has no effect on `candidates`; send one of the two";
        return Err(ApiError::field("filter", message));
    }
    for (key, values) in filter {
        if key.is_empty() {
            return Err(ApiError::field("filter", "a key of `filter` is empty"));
        }
        if values.is_empty() {
            let message =
                format!("`{key}` lists no value; name one that may pass, or leave it out");
            return Err(ApiError::field(format!("filter.{key}"), message));
        }
    }
    Ok(())
}

/// A document as clients send it: plain text, or `{text, title?, id?, metadata?}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DocumentInput {
    /// Name, if the client has one.
    pub(super) id: Option<String>,
    /// Title, if there is one.
    pub(super) title: String,
    /// Body.
    pub(super) text: String,
    /// Free key-value pairs.
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentObject {
    #[serde(default, alias = "pid")]
    id: Option<String>,
    #[serde(default)]
    title: String,
    text: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for DocumentInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObject;
        impl<'de> Visitor<'de> for TextOrObject {
            type Value = DocumentInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object {text, title?, id?, metadata?}")
            }

            fn visit_str<E>(self, text: &str) -> Result<DocumentInput, E> {
                Ok(DocumentInput {
                    id: None,
                    title: String::new(),
                    text: text.to_owned(),
                    metadata: BTreeMap::new(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DocumentInput, A::Error> {
                let o = DocumentObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DocumentInput { id: o.id, title: o.title, text: o.text, metadata: o.metadata })
            }
        }
        deserializer.deserialize_any(TextOrObject)
    }
}

/// Checks a list of documents and gives each an id: its own, or its position.
pub(super) fn documents(
    field: &str,
    inputs: Vec<DocumentInput>,
    limits: &ServerConfig,
) -> Result<Vec<Document>, ApiError> {
    if inputs.is_empty() {
        return Err(ApiError::field(field, format!("`{field}` is empty; send at least one")));
    }
    if inputs.len() > limits.max_documents {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_many_documents",
            format!(
                "{} documents, the limit is {}; send fewer, or raise `server.max_documents`",
                inputs.len(),
                limits.max_documents
            ),
        )
        .with_param(field));
    }
    let mut seen = BTreeSet::new();
    let mut documents = Vec::with_capacity(inputs.len());
    for (position, input) in inputs.into_iter().enumerate() {
        let id = input.id.unwrap_or_else(|| position.to_string());
        if !seen.insert(id.clone()) {
            let param = format!("{field}[{position}].id");
            return Err(ApiError::field(param, format!("document id `{id}` is given twice")));
        }
        documents.push(Document {
            id: DocumentId(id),
            title: input.title,
            text: input.text,
            metadata: input.metadata,
        });
    }
    Ok(documents)
}
