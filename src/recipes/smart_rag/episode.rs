//! One question being worked on: which moves are open, what each brings, and the quota.
//!
//! The environment's side of the decision process. Everything found stays: the list to choose from
//! is the union of all observations in order of arrival, each document once. The counter of
//! retrievals is here and nowhere else, so no policy, replay or training loop can get round it.

use super::world::{Asked, World};
use crate::policy::reader::{Reading, best_reading};
use crate::policy::turn_head::moves::{MOVES, Move, Open, RewriteKind};
use crate::policy::turn_head::state::{TurnView, state};
use crate::recipes::fit::RecipeError;
use crate::recipes::instance::Instance;
use actors::types::{Candidate, Query};
use std::collections::HashSet;
use std::sync::Arc;

/// What a move led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was searched for; the episode goes on.
    Observed,
    /// The answer is due, from [`Episode::list`]; no further move.
    Answering,
    /// The move was not open; the episode has ended without an answer. A typed policy under its
    /// masks cannot do this; moves replayed from a record can.
    Invalid,
}

/// See the module.
pub struct Episode<'w> {
    world: &'w World,
    asked: Arc<Asked>,
    quota: u32,
    used: Vec<RewriteKind>,
    searched: HashSet<String>,
    candidates: Vec<Candidate>,
    readings: Vec<Arc<Reading>>,
    new_share: f32,
    over: bool,
}

impl<'w> Episode<'w> {
    /// Begins; at most `quota` retrievals.
    ///
    /// # Errors
    /// A question that cannot be read or a generator that fails.
    pub async fn start(
        world: &'w World,
        query: &Query,
        quota: u32,
    ) -> Result<Episode<'w>, RecipeError> {
        Ok(Self {
            world,
            asked: world.ask(query).await?,
            quota,
            used: Vec::new(),
            searched: HashSet::new(),
            candidates: Vec::new(),
            readings: Vec::new(),
            new_share: 0.0,
            over: false,
        })
    }

    /// The question.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Rewrites searched with so far, in order.
    pub fn used(&self) -> &[RewriteKind] {
        &self.used
    }

    /// Moves that are open: to answer always, to retrieve while the quota lasts, with a rewrite
    /// that is to be had and was not searched with before.
    pub fn open(&self) -> Open {
        let mut open = [false; MOVES];
        open[Move::Answer.column()] = !self.over;
        if self.over || self.used.len() >= self.quota as usize {
            return open;
        }
        for kind in RewriteKind::ALL {
            let text = self.text(kind).filter(|text| !self.searched.contains(text));
            open[Move::Retrieve(kind).column()] = text.is_some() && !self.used.contains(&kind);
        }
        open
    }

    fn text(&self, kind: RewriteKind) -> Option<String> {
        let best = best_reading(self.readings.iter().map(|reading| &**reading));
        self.asked.text(kind, best.map(|(at, reading)| (&self.candidates[at], reading)))
    }

    /// What the turn head sees now.
    pub fn state(&self) -> Vec<f32> {
        let closed_book = &self.asked.closed_book;
        state(&TurnView {
            question: &self.asked.query.text,
            alone: &self.asked.alone,
            closed_book: &closed_book.text,
            closed_book_confidence: closed_book.confidence.unwrap_or(0.0),
            readings: &self.readings,
            used: &self.used,
            retrievals_left: self.quota.saturating_sub(self.used.len() as u32),
            new_share: self.new_share,
        })
    }

    /// Makes a move.
    ///
    /// # Errors
    /// An index or a reader that fails.
    pub async fn take(&mut self, next: Move) -> Result<Step, RecipeError> {
        if !self.open()[next.column()] {
            self.over = true;
            return Ok(Step::Invalid);
        }
        let Move::Retrieve(kind) = next else {
            self.over = true;
            return Ok(Step::Answering);
        };
        // An open retrieval has a text.
        let text = self.text(kind).unwrap_or_default();
        let observation = self.world.observe(&self.asked, &text).await?;
        let known: HashSet<String> =
            self.candidates.iter().map(|c| c.document.id.0.clone()).collect();
        let before = self.candidates.len();
        for (candidate, reading) in observation.candidates.iter().zip(&observation.readings) {
            if !known.contains(&candidate.document.id.0) {
                let rank = self.candidates.len() as u32;
                self.candidates.push(Candidate { rank, ..candidate.clone() });
                self.readings.push(Arc::clone(reading));
            }
        }
        let fresh = self.candidates.len() - before;
        self.new_share = fresh as f32 / observation.candidates.len().max(1) as f32;
        self.searched.insert(text);
        self.used.push(kind);
        Ok(Step::Observed)
    }

    /// Everything found so far, laid out for the selection head; `None` while there is nothing.
    ///
    /// # Errors
    /// States that are not finite.
    pub fn list(&self) -> Result<Option<Arc<Instance>>, RecipeError> {
        if self.candidates.is_empty() {
            return Ok(None);
        }
        let found = (self.candidates.as_slice(), self.readings.as_slice());
        self.world.list(&self.asked, &self.used, found).map(Some)
    }
}
