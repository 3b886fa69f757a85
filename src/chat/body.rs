//! Reading a reply off the wire: whole or as events, bounded in size and in silence.

use super::wire::{Completion, Gathered, error_message};
use super::{ChatError, EndpointConfig, shape_error};
use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource as _};
use futures::{Stream, StreamExt as _};
use reqwest::Response;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of an error body that are read; more says nothing more.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Reads a reply of the kind that was asked for. A server that does not stream although it was
/// asked to answers in one piece, which is read as such.
pub(super) async fn read(
    response: Response,
    config: &EndpointConfig,
) -> Result<Gathered, ChatError> {
    let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
    let is_stream = kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
    });
    let gap = Duration::from_millis(config.gap_ms);
    let first = Duration::from_millis(config.first_byte_ms);
    let pieces = bounded(response, config.reply_bytes_max);
    if is_stream { read_events(pieces, (first, gap)).await } else { read_whole(pieces, gap).await }
}

/// What an error reply says; as much of it as can be had.
pub(super) async fn read_error(response: Response, gap: Duration) -> String {
    let mut pieces = std::pin::pin!(bounded(response, ERROR_BYTES_MAX));
    let mut body = Vec::new();
    while let Ok(Some(Ok(piece))) = timeout(gap, pieces.next()).await {
        body.extend_from_slice(&piece);
    }
    error_message(&body)
}

/// The pieces of a body; ends with an error once they are more than `limit` bytes.
fn bounded(response: Response, limit: usize) -> impl Stream<Item = Result<Bytes, ChatError>> {
    let mut left = limit;
    response.bytes_stream().map(move |piece| {
        let piece = piece.map_err(|error| ChatError::Lost(causes(&error)))?;
        left = left.checked_sub(piece.len()).ok_or(ChatError::TooLarge { limit })?;
        Ok(piece)
    })
}

async fn read_whole(
    pieces: impl Stream<Item = Result<Bytes, ChatError>>,
    gap: Duration,
) -> Result<Gathered, ChatError> {
    let mut pieces = std::pin::pin!(pieces);
    let mut body = Vec::new();
    while let Some(piece) = next(&mut pieces, gap).await? {
        body.extend_from_slice(&piece?);
    }
    let mut gathered = Gathered::default();
    add(&mut gathered, &body)?;
    if !gathered.has_choice {
        return Err(ChatError::Malformed("it holds no choice".to_owned()));
    }
    Ok(gathered)
}

async fn read_events(
    pieces: impl Stream<Item = Result<Bytes, ChatError>>,
    (first, gap): (Duration, Duration),
) -> Result<Gathered, ChatError> {
    let mut events = std::pin::pin!(pieces.eventsource());
    let mut gathered = Gathered::default();
    loop {
        // A server may open the stream before it has read the prompt. Comments that keep a
        // connection alive are no events, so none can stall behind them.
        let longest = if gathered.text.is_empty() { first.max(gap) } else { gap };
        let event = match next(&mut events, longest).await {
            Ok(Some(Ok(event))) => event,
            // Some servers leave `[DONE]` out, or what should come between it and the last words.
            // Without a reason to have finished the end is a break.
            _ if gathered.finish.is_some() => break,
            Ok(None) => {
                return Err(ChatError::Lost("the stream ended before the reply did".to_owned()));
            }
            Ok(Some(Err(EventStreamError::Transport(error)))) => return Err(error),
            Ok(Some(Err(_))) => {
                return Err(ChatError::Malformed("its events cannot be read".to_owned()));
            }
            Err(stalled) => return Err(stalled),
        };
        if event.data.trim() == "[DONE]" {
            break;
        }
        add(&mut gathered, event.data.as_bytes())?;
    }
    if gathered.finish.is_none() {
        return Err(ChatError::Lost("the stream was done before the reply was".to_owned()));
    }
    Ok(gathered)
}

async fn next<S: Stream + Unpin>(
    stream: &mut S,
    gap: Duration,
) -> Result<Option<S::Item>, ChatError> {
    timeout(gap, stream.next()).await.map_err(|_| ChatError::Stalled(gap))
}

fn add(gathered: &mut Gathered, json: &[u8]) -> Result<(), ChatError> {
    let piece: Completion =
        serde_json::from_slice(json).map_err(|error| ChatError::Malformed(shape_error(&error)))?;
    if piece.error.is_some() {
        // Too late for a status line: the server failed on the way.
        let (status, message) = (500, error_message(json));
        return Err(ChatError::Status { status, message, retry_after: None });
    }
    gathered.add(piece);
    Ok(())
}

/// An error with its causes; the address is left out, for it may hold a secret.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let lead = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{lead}{error}");
        cause = error.source();
    }
    if text.is_empty() { "no reason given".to_owned() } else { text }
}
