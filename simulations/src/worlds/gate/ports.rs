//! Index, generators and reader of the world: functions of its seed and of the texts they are
//! given.

use super::{DOCUMENTS, EMBEDDING, Kind, riddle};
use actors::ports::{GenerateError, Generator, Search, SearchError, SearchIndex};
use actors::types::{Answer, Candidate, Document, DocumentId, Query};
use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use regrade::policy::reader::Reading;
use regrade::recipes::smart_rag::{Ports, ReadPairs};
use std::sync::Arc;

/// Title of the document that leads to a second search.
const CLUE: &str = "Clue";

/// Everything but the closed book.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatePorts {
    seed: u64,
}

/// What answers without documents: right about what it knows, and sure of itself by and large.
struct ClosedBook(GatePorts);

impl GatePorts {
    pub(super) fn ports(seed: u64) -> Ports {
        let this = Self { seed };
        Ports {
            index: Arc::new(this),
            generator: Arc::new(this),
            closed_book: Arc::new(ClosedBook(this)),
            rewriter: None,
            reader: Arc::new(this),
        }
    }

    fn kind(&self, number: u64) -> Kind {
        riddle(self.seed, number).0
    }

    /// Chance of its own for every text of a riddle.
    fn rng(&self, number: u64, salt: &str) -> StdRng {
        let salt = salt.bytes().fold(7_u64, |h, byte| h.wrapping_mul(31) ^ u64::from(byte));
        StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ salt)
    }
}

/// The number in a text, if there is one.
fn number(text: &str) -> Option<u64> {
    text.split_whitespace().find_map(|word| word.parse().ok())
}

/// What a text searches for, by its form.
fn form(text: &str) -> Kind {
    match text {
        _ if text.contains(CLUE) => Kind::Bridge,
        _ if text.starts_with("what") => Kind::Original,
        _ => Kind::Keywords,
    }
}

#[async_trait]
impl SearchIndex for GatePorts {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        let Some(number) = number(&search.text) else { return Ok(Vec::new()) };
        let (kind, form) = (self.kind(number), form(&search.text));
        let at = self.rng(number, &format!("{form:?}")).random_range(0..DOCUMENTS);
        let leads = kind == Kind::Bridge && form == Kind::Original;
        let candidate = |rank: usize| {
            let (id, title) = match rank == at {
                true if kind == form => (format!("good-{number}"), ""),
                true if leads => (format!("clue-{number}"), CLUE),
                _ => (format!("other-{number}-{form:?}-{rank}"), ""),
            };
            let document = Document {
                id: DocumentId(id.clone()),
                title: title.to_owned(),
                text: id,
                ..Document::default()
            };
            Candidate { document, score: (DOCUMENTS - rank) as f32, rank: rank as u32 }
        };
        Ok((0..DOCUMENTS.min(search.k)).map(candidate).collect())
    }

    async fn upsert(&self, _documents: &[Document]) -> Result<(), SearchError> {
        Err(SearchError::Refused("riddles are fixed".to_owned()))
    }

    async fn delete(&self, _ids: &[DocumentId]) -> Result<(), SearchError> {
        Err(SearchError::Refused("riddles are fixed".to_owned()))
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(DOCUMENTS as u64)
    }
}

#[async_trait]
impl Generator for GatePorts {
    /// Believes the first document.
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        let number = number(&query.text).unwrap_or_default();
        let is_good = documents.first().is_some_and(|d| d.id.as_str().starts_with("good"));
        let text = if is_good { format!("answer {number}") } else { "nonsense".to_owned() };
        Ok(Answer { text, ..Answer::default() })
    }
}

#[async_trait]
impl Generator for ClosedBook {
    async fn answer(&self, query: &Query, _: &[Document]) -> Result<Answer, GenerateError> {
        let number = number(&query.text).unwrap_or_default();
        let mut rng = self.0.rng(number, "closed book");
        let (text, confidence) = match self.0.kind(number) {
            Kind::Known => (format!("answer {number}"), rng.random_range(0.5..1.0)),
            _ => ("guess".to_owned(), rng.random_range(0.0..0.6)),
        };
        Ok(Answer { text, confidence: Some(confidence), ..Answer::default() })
    }
}

impl ReadPairs for GatePorts {
    fn width(&self) -> usize {
        EMBEDDING
    }

    fn read_pairs(
        &self,
        question: &str,
        documents: &[Document],
    ) -> Result<Vec<Arc<Reading>>, String> {
        let number = number(question).ok_or("that is no riddle")?;
        Ok(documents.iter().map(|document| Arc::new(self.reading(number, document))).collect())
    }
}

impl GatePorts {
    /// The question alone shows its kind in its state; a good document shows in state and scores.
    fn reading(&self, number: u64, document: &Document) -> Reading {
        let id = document.id.as_str();
        let mut rng = self.rng(number, id);
        let mut cls: Vec<f32> = (0..EMBEDDING).map(|_| rng.random_range(-1.0..1.0)).collect();
        let (column, relevance) = match id {
            "" => (self.kind(number) as usize, 0.0),
            _ if id.starts_with("good") => (0, 0.5),
            _ if id.starts_with("clue") => (1, 0.0),
            _ => (2, -0.5),
        };
        cls[column] += 3.0;
        let noise: f32 = rng.random_range(-1.0..1.0);
        let margin = if id.starts_with("good") || id.starts_with("clue") { 6.0 } else { -6.0 };
        Reading {
            span: cls.clone(),
            cls,
            rel: relevance + noise,
            span_score: margin + noise,
            null_score: 0.0,
            answer: if id.starts_with("clue") { format!("lead {number}") } else { id.to_owned() },
            tokens: 10,
        }
    }
}
