//! BM25 over tantivy's postings, with our constants and exact lengths.
//!
//! `score(d) = Σ_t ln(1 + (N − n_t + ½)/(n_t + ½)) · f / (f + k1·(1 − b + b·|d|/avg))`, with `f`
//! the occurrences of term t in passage d, `n_t` the passages that hold t, N all passages. Source:
//! Robertson and Zaragoza 2009, in Lucene's form (the factor k1 + 1 changes no order).

use super::EmbeddedIndexConfig;
use super::fields::Fields;
use actors::types::Filter;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;
use tantivy::columnar::StrColumn;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{
    DocAddress, DocId, DocSet, InvertedIndexReader, Searcher, SegmentReader, TERMINATED,
    TantivyError, Term,
};

/// The index at one moment.
pub(super) struct Pool {
    searcher: Searcher,
    segments: Vec<Segment>,
    fields: Fields,
    passages: u64,
    average_length: f64,
}

struct Segment {
    reader: SegmentReader,
    inverted: Arc<InvertedIndexReader>,
    facets: Arc<InvertedIndexReader>,
    /// Terms of each passage, deleted ones included.
    lengths: Vec<u32>,
    ids: Option<StrColumn>,
}

/// A passage found.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) address: DocAddress,
    /// Empty until the best are taken.
    pub(super) id: String,
    pub(super) score: f32,
}

/// One query term with its postings in each segment.
struct Found {
    passages: u64,
    postings: Vec<Option<SegmentPostings>>,
}

impl Pool {
    /// Takes the lengths of all passages into memory: 4 bytes a passage.
    pub(super) fn load(searcher: Searcher, fields: Fields) -> Result<Self, TantivyError> {
        let mut segments = Vec::new();
        let (mut passages, mut total) = (0_u64, 0_u64);
        for reader in searcher.segment_readers() {
            let column = reader.fast_fields().column_first_or_default::<u64>("length")?;
            let lengths: Vec<u32> = (0..reader.max_doc())
                .map(|doc| u32::try_from(column.get_val(doc)).unwrap_or(u32::MAX))
                .collect();
            for doc in reader.doc_ids_alive() {
                passages += 1;
                total += u64::from(lengths[doc as usize]);
            }
            segments.push(Segment {
                reader: reader.clone(),
                inverted: reader.inverted_index(fields.terms)?,
                facets: reader.inverted_index(fields.facets)?,
                lengths,
                ids: reader.fast_fields().str("id")?,
            });
        }
        // Of a pool without any term nothing is ever found, so the average may be anything but 0.
        let average_length = (total as f64 / passages.max(1) as f64).max(1.0);
        Ok(Self { searcher, segments, fields, passages, average_length })
    }

    pub(super) fn passages(&self) -> u64 {
        self.passages
    }

    pub(super) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// The best `k` passages that the filter lets through, best first, ties by document id. What a
    /// term weighs does not depend on the filter.
    pub(super) fn top(
        &self,
        terms: &[String],
        k: usize,
        filter: &Filter,
        config: &EmbeddedIndexConfig,
    ) -> Result<Vec<Hit>, TantivyError> {
        let mut found = self.find(terms)?;
        self.drop_common(&mut found, config);
        let mut hits = Vec::new();
        for (ordinal, segment) in self.segments.iter().enumerate() {
            let mut scores = vec![0.0_f64; segment.lengths.len()];
            let mut touched: Vec<DocId> = Vec::new();
            let admitted = self.admitted(segment, filter)?;
            for term in &mut found {
                let weight = self.inverse_frequency(term.passages);
                if let Some(postings) = &mut term.postings[ordinal] {
                    self.accumulate(segment, postings, weight, config, &mut |doc, score| {
                        let sum = &mut scores[doc as usize];
                        if *sum == 0.0 {
                            touched.push(doc);
                        }
                        *sum += score;
                    });
                }
            }
            let admits = |doc: &DocId| admitted.as_ref().is_none_or(|a| a[*doc as usize]);
            hits.extend(touched.into_iter().filter(admits).map(|doc| Hit {
                address: DocAddress::new(ordinal as u32, doc),
                id: String::new(),
                score: scores[doc as usize] as f32,
            }));
        }
        self.best(hits, k)
    }

    /// Which passages of a segment the filter lets through; `None` for all.
    fn admitted(
        &self,
        segment: &Segment,
        filter: &Filter,
    ) -> Result<Option<Vec<bool>>, TantivyError> {
        let mut admitted: Option<Vec<bool>> = None;
        for (key, values) in filter {
            let mut fits = vec![false; segment.lengths.len()];
            for value in values {
                let term = self.fields.facet(key, value);
                let list = segment.facets.read_postings(&term, IndexRecordOption::Basic)?;
                let Some(mut postings) = list else { continue };
                while postings.doc() != TERMINATED {
                    fits[postings.doc() as usize] = true;
                    postings.advance();
                }
            }
            admitted = Some(match admitted {
                None => fits,
                Some(before) => before.iter().zip(&fits).map(|(a, b)| *a && *b).collect(),
            });
        }
        Ok(admitted)
    }

    /// Ids of the passages that the filter lets through; `None` for all.
    pub(super) fn admitted_ids(
        &self,
        filter: &Filter,
    ) -> Result<Option<HashSet<String>>, TantivyError> {
        if filter.is_empty() {
            return Ok(None);
        }
        let mut ids = HashSet::new();
        for (ordinal, segment) in (0_u32..).zip(&self.segments) {
            let Some(admitted) = self.admitted(segment, filter)? else { continue };
            let alive = segment.reader.doc_ids_alive().filter(|doc| admitted[*doc as usize]);
            for doc in alive {
                ids.insert(self.id_of(DocAddress::new(ordinal, doc))?);
            }
        }
        Ok(Some(ids))
    }

    fn find(&self, terms: &[String]) -> Result<Vec<Found>, TantivyError> {
        let mut found = Vec::with_capacity(terms.len());
        for text in terms {
            let term = Term::from_field_text(self.fields.terms, text);
            let (mut passages, mut postings) = (0, Vec::with_capacity(self.segments.len()));
            for segment in &self.segments {
                let list = segment.inverted.read_postings(&term, IndexRecordOption::WithFreqs)?;
                passages += list.as_ref().map_or(0, |list| {
                    u64::from(match segment.reader.alive_bitset() {
                        Some(alive) => list.doc_freq_given_deletes(alive),
                        None => list.doc_freq(),
                    })
                });
                postings.push(list);
            }
            if passages > 0 {
                found.push(Found { passages, postings });
            }
        }
        Ok(found)
    }

    /// Leaves out terms that nearly every passage has: they cost most and decide least.
    fn drop_common(&self, found: &mut Vec<Found>, config: &EmbeddedIndexConfig) {
        if self.passages <= config.common_term_pool_min {
            return;
        }
        let most = config.common_term_share * self.passages as f64;
        if found.iter().any(|term| term.passages as f64 <= most) {
            found.retain(|term| term.passages as f64 <= most);
        }
    }

    fn inverse_frequency(&self, passages: u64) -> f64 {
        let (all, with) = (self.passages as f64, passages as f64);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }

    fn accumulate(
        &self,
        segment: &Segment,
        postings: &mut SegmentPostings,
        weight: f64,
        config: &EmbeddedIndexConfig,
        add: &mut dyn FnMut(DocId, f64),
    ) {
        let mut doc = postings.doc();
        while doc != TERMINATED {
            if !segment.reader.is_deleted(doc) {
                let frequency = f64::from(postings.term_freq());
                let length = f64::from(segment.lengths[doc as usize]);
                let norm = 1.0 - config.b + config.b * length / self.average_length;
                add(doc, weight * frequency / (frequency + config.k1 * norm));
            }
            doc = postings.advance();
        }
    }

    /// Sorts the best `k`; ids are looked up only for passages that may be among them.
    fn best(&self, mut hits: Vec<Hit>, k: usize) -> Result<Vec<Hit>, TantivyError> {
        let falling = |a: &Hit, b: &Hit| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
        if hits.len() > k {
            let (_, last, _) = hits.select_nth_unstable_by(k - 1, falling);
            let least = last.score;
            hits.retain(|hit| hit.score >= least);
        }
        for hit in &mut hits {
            hit.id = self.id_of(hit.address)?;
        }
        hits.sort_by(|a, b| falling(a, b).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(k);
        Ok(hits)
    }

    /// Where the passage of this id lies; `id` is the field of ids.
    pub(super) fn address_of(
        &self,
        field: Field,
        id: &str,
    ) -> Result<Option<DocAddress>, TantivyError> {
        let term = Term::from_field_text(field, id);
        for (ordinal, segment) in self.segments.iter().enumerate() {
            let ids = segment.reader.inverted_index(field)?;
            let Some(mut postings) = ids.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while postings.doc() != TERMINATED {
                if !segment.reader.is_deleted(postings.doc()) {
                    return Ok(Some(DocAddress::new(ordinal as u32, postings.doc())));
                }
                postings.advance();
            }
        }
        Ok(None)
    }

    fn id_of(&self, address: DocAddress) -> Result<String, TantivyError> {
        let mut id = String::new();
        if let Some(ids) = &self.segments[address.segment_ord as usize].ids
            && let Some(ordinal) = ids.term_ords(address.doc_id).next()
        {
            ids.ord_to_str(ordinal, &mut id)?;
        }
        Ok(id)
    }
}
