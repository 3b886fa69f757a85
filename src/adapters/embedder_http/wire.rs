//! What goes over the wire: the request, and an answer read with a bound and put in order.
//!
//! Knows no retry.

use super::retry::Trouble;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bytes that one number of a vector takes at most in JSON, with its separator.
const BYTES_PER_NUMBER: usize = 40;
/// Bytes of everything else in an answer.
const BYTES_BESIDE: usize = 1 << 20;
/// Characters of a server's complaint that are quoted.
const QUOTED_CHARS: usize = 300;

/// How a server is asked to write vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Lists of numbers.
    #[default]
    Float,
    /// Little-endian f32 in base64: a quarter of the size.
    Base64,
}

#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
    pub(super) encoding_format: Encoding,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    index: Option<usize>,
    embedding: Embedding,
}

/// Some servers write lists whatever they were asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Embedding {
    Numbers(Vec<f32>),
    Base64(String),
}

/// The body of a good answer; the trouble of any other.
pub(super) async fn read(
    response: Response,
    texts: usize,
    dimension: usize,
) -> Result<Vec<u8>, Trouble> {
    let (status, wait) = (response.status(), retry_after(&response));
    let bound = texts * dimension * BYTES_PER_NUMBER + BYTES_BESIDE;
    let body = bounded(response, bound).await;
    if status.is_success() {
        return body;
    }
    let body = quoted(&body.unwrap_or_default());
    if is_busy(status) {
        return Err(Trouble::Busy { status: status.as_u16(), wait, body });
    }
    Err(Trouble::Refused(format!("status {status}: {body}")))
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

async fn bounded(mut response: Response, bound: usize) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= bound => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                let reason = format!("the answer is longer than {bound} bytes");
                return Err(Trouble::Refused(reason));
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(Trouble::network(&error)),
        }
    }
}

/// Seconds of `Retry-After`; a date is left to our own pauses.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn quoted(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut head: String = text.trim().chars().take(QUOTED_CHARS).collect();
    if head.is_empty() {
        head.push_str("no explanation");
    }
    head
}

/// The vectors of an answer in the order of the texts.
pub(super) fn vectors(body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, Trouble> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        let reason = format!("cannot understand the answer: {error}");
        // Cut off, or another page altogether: a retry may help. JSON of another shape: it cannot.
        if error.is_data() { Trouble::Refused(reason) } else { Trouble::Broken(reason) }
    })?;
    if answer.data.len() != texts {
        let found = answer.data.len();
        return Err(Trouble::Refused(format!("{found} vectors for {texts} texts")));
    }
    let mut ordered: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (at, entry) in answer.data.into_iter().enumerate() {
        let index = entry.index.unwrap_or(at);
        let place = ordered.get_mut(index).filter(|place| place.is_none()).ok_or_else(|| {
            Trouble::Refused(format!(
                "index {index} of entry {at} is out of range or stands twice, for {texts} texts"
            ))
        })?;
        *place = Some(entry.embedding.numbers().map_err(|reason| {
            Trouble::Refused(format!("cannot understand vector {index}: {reason}"))
        })?);
    }
    // As many entries as places, and no place taken twice: none is left.
    Ok(ordered.into_iter().flatten().collect())
}

impl Embedding {
    fn numbers(self) -> Result<Vec<f32>, String> {
        let text = match self {
            Self::Numbers(numbers) => return Ok(numbers),
            Self::Base64(text) => text,
        };
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(format!("{} bytes are no whole numbers of 4 bytes", bytes.len()));
        }
        Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }
}
