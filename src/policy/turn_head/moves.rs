//! The moves of a turn, their probabilities in f64, and how one is drawn.
//!
//! Owns the typed action space, so that a move can be closed but never malformed, and the one
//! definition of its probabilities that rollouts, the trainer and the threshold share. Does not
//! know which moves are open (the environment of a recipe says so) nor where logits come from.
//!
//! `b(m) = (1 − eps) · softmax(l / tau)[m] + eps / |open|` over the open moves. A turn with one
//! open move is forced: its log-probability is 0.

use actors::types::Exploration;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Which text is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteKind {
    /// The question as asked.
    Original,
    /// Its content words only.
    Keywords,
    /// The question with title and answer of the best document so far: the second hop.
    Bridge,
    /// A pseudo-document proposed beside the question.
    Query2doc,
    /// A hypothetical document in its place.
    Hyde,
    /// The question in other words.
    Rewrite,
}

impl RewriteKind {
    /// Every kind, in the order of the logits.
    pub const ALL: [Self; 6] =
        [Self::Original, Self::Keywords, Self::Bridge, Self::Query2doc, Self::Hyde, Self::Rewrite];

    /// Its name in reports, and what a rewriter calls its proposals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Keywords => "keywords",
            Self::Bridge => "bridge",
            Self::Query2doc => "query2doc",
            Self::Hyde => "hyde",
            Self::Rewrite => "rewrite",
        }
    }

    /// Position among the kinds.
    pub fn position(self) -> usize {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or(0)
    }
}

/// Number of moves: to answer, and one a kind of rewrite.
pub const MOVES: usize = 1 + RewriteKind::ALL.len();

/// One move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Answer now, from what was found (nothing, if nothing was retrieved).
    Answer,
    /// Retrieve once more.
    Retrieve(RewriteKind),
}

impl Move {
    /// Column of its logit.
    pub fn column(self) -> usize {
        match self {
            Move::Answer => 0,
            Move::Retrieve(kind) => 1 + kind.position(),
        }
    }

    /// The move of a column; `None` beyond the last.
    pub fn of_column(column: usize) -> Option<Self> {
        match column {
            0 => Some(Move::Answer),
            _ => RewriteKind::ALL.get(column - 1).map(|kind| Move::Retrieve(*kind)),
        }
    }
}

/// Which moves are open, by column.
pub type Open = [bool; MOVES];

/// Logits of every move, closed ones included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TurnLogits(pub [f64; MOVES]);

/// Why a move has no probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// It is not open.
    #[error("move {0:?} is not open at this turn")]
    Closed(Move),
    /// A logit is NaN or infinite.
    #[error("turn logits are not finite")]
    NotFinite,
    /// Nothing is open; answering always should be.
    #[error("no move is open at this turn")]
    NothingOpen,
}

impl TurnLogits {
    /// The same with `bias` added to every retrieval: the threshold on the gate. A threshold τ on
    /// the probability of retrieving is a bias of −ln(τ / (1 − τ)).
    pub fn with_retrieve_bias(mut self, bias: f64) -> Self {
        self.0[1..].iter_mut().for_each(|logit| *logit += bias);
        self
    }

    /// ln of the odds of retrieving (by whichever rewrite) against answering: negative infinity
    /// where no retrieval is open.
    pub fn retrieve_log_odds(&self, open: &Open) -> f64 {
        let retrieve = (1..MOVES).filter(|&column| open[column]).map(|column| self.0[column]);
        let top = retrieve.clone().fold(f64::NEG_INFINITY, f64::max);
        if top == f64::NEG_INFINITY {
            return top;
        }
        top + retrieve.map(|l| (l - top).exp()).sum::<f64>().ln() - self.0[0]
    }

    /// Probability of each column under the behaviour policy, 0 where closed; sums to 1.
    pub fn probabilities(
        &self,
        open: &Open,
        temperature: f64,
        epsilon: f64,
    ) -> Result<[f64; MOVES], MoveError> {
        if self.0.iter().any(|logit| !logit.is_finite()) {
            return Err(MoveError::NotFinite);
        }
        let columns = (0..MOVES).filter(|&column| open[column]);
        let count = columns.clone().count();
        if count == 0 {
            return Err(MoveError::NothingOpen);
        }
        let top = columns.clone().map(|column| self.0[column]).fold(f64::NEG_INFINITY, f64::max);
        let mut p = [0.0; MOVES];
        columns.clone().for_each(|c| p[c] = ((self.0[c] - top) / temperature).exp());
        let sum: f64 = p.iter().sum();
        let uniform = epsilon / count as f64;
        columns.for_each(|c| p[c] = (1.0 - epsilon) * p[c] / sum + uniform);
        Ok(p)
    }

    /// Natural log-probability of a move under a policy that draws as `exploration` says.
    ///
    /// # Errors
    /// A move that is not open, or logits that are no numbers.
    pub fn log_prob(
        &self,
        open: &Open,
        taken: Move,
        exploration: Exploration,
    ) -> Result<f64, MoveError> {
        if !open[taken.column()] {
            return Err(MoveError::Closed(taken));
        }
        Ok(self.behaviour(open, exploration)?[taken.column()].ln())
    }

    /// A move and its log-probability (0 when greedy).
    ///
    /// Greedy opens the gate first and picks the rewrite then: it retrieves where retrieving is
    /// more probable than answering, all rewrites taken together, as a threshold of a half on the
    /// probability of retrieving does; on a tie it answers, which costs less.
    pub fn choose(
        &self,
        open: &Open,
        exploration: Exploration,
        rng: &mut impl Rng,
    ) -> Result<(Move, f64), MoveError> {
        let p = self.behaviour(open, exploration)?;
        let u = if exploration.has_chance() { rng.random::<f64>() } else { 0.0 };
        let column = draw(&p, u);
        let taken = Move::of_column(column).ok_or(MoveError::NothingOpen)?;
        Ok((taken, p[column].ln()))
    }

    /// Probabilities of the moves. A move is a list of one step.
    fn behaviour(&self, open: &Open, exploration: Exploration) -> Result<[f64; MOVES], MoveError> {
        let (share, (temperature, epsilon)) = match exploration {
            Exploration::Greedy => (0.0, (1.0, 0.0)),
            Exploration::Sample { temperature, epsilon } => (1.0, (temperature, epsilon)),
            Exploration::Explore { share, temperature, epsilon } => (share, (temperature, epsilon)),
        };
        let mut p = self.probabilities(open, temperature, epsilon)?;
        if share < 1.0 {
            p.iter_mut().for_each(|p| *p *= share);
            p[self.greedy(open)] += 1.0 - share;
        }
        Ok(p)
    }

    fn greedy(&self, open: &Open) -> usize {
        if open[0] && self.retrieve_log_odds(open) <= 0.0 {
            return 0;
        }
        let retrieve = (1..MOVES).filter(|&column| open[column]);
        let better =
            |best: usize, next: usize| if self.0[next] > self.0[best] { next } else { best };
        retrieve.reduce(better).unwrap_or(0)
    }
}

/// Index of the cell that `u` in [0, 1) falls into; cells of probability 0 are never hit.
fn draw(p: &[f64; MOVES], u: f64) -> usize {
    let mut left = u * p.iter().sum::<f64>();
    let mut last = 0;
    for (column, &cell) in p.iter().enumerate().filter(|(_, cell)| **cell > 0.0) {
        if left < cell {
            return column;
        }
        left -= cell;
        last = column;
    }
    last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    const SAMPLE: Exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };

    fn open(columns: &[usize]) -> Open {
        std::array::from_fn(|column| columns.contains(&column))
    }

    fn logits(first: &[f64]) -> TurnLogits {
        TurnLogits(std::array::from_fn(|column| first.get(column).copied().unwrap_or(50.0)))
    }

    #[test]
    fn columns_and_moves_are_one_to_one() {
        for column in 0..MOVES {
            assert_eq!(Move::of_column(column).unwrap().column(), column);
        }
        assert_eq!(Move::of_column(MOVES), None);
    }

    #[test]
    fn closed_moves_have_no_probability_however_large_their_logit() {
        let p = logits(&[0.0, 2f64.ln()]).probabilities(&open(&[0, 1]), 1.0, 0.0).unwrap();
        assert!((p[0] - 1.0 / 3.0).abs() < 1e-12 && (p[1] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(p[2..], [0.0; MOVES - 2]);
        // With a temperature of 2 the odds are √2, mixed with a uniform tenth.
        let mixed = logits(&[0.0, 2f64.ln()]).probabilities(&open(&[0, 1]), 2.0, 0.1).unwrap();
        let odds = 2f64.sqrt();
        assert!((mixed[1] - (0.9 * odds / (1.0 + odds) + 0.05)).abs() < 1e-12);
        let taken = Move::Retrieve(RewriteKind::Bridge);
        let error = logits(&[0.0]).log_prob(&open(&[0]), taken, SAMPLE).unwrap_err();
        assert_eq!(error, MoveError::Closed(taken));
        assert_eq!(logits(&[0.0]).log_prob(&open(&[0]), Move::Answer, SAMPLE), Ok(0.0));
    }

    #[test]
    fn draws_follow_the_probabilities_and_tell_them() {
        let (mut rng, logits, open) =
            (StdRng::seed_from_u64(1), logits(&[0.0, 1.0, -1.0]), open(&[0, 1, 2]));
        let p = logits.probabilities(&open, 1.0, 0.0).unwrap();
        let mut counts = [0.0; MOVES];
        for _ in 0..20_000 {
            let (taken, log_prob) = logits.choose(&open, SAMPLE, &mut rng).unwrap();
            assert!((log_prob - p[taken.column()].ln()).abs() < 1e-12);
            assert_eq!(logits.log_prob(&open, taken, SAMPLE), Ok(log_prob));
            counts[taken.column()] += 1.0 / 20_000.0;
        }
        for column in 0..MOVES {
            assert!((counts[column] - p[column]).abs() < 0.015, "{counts:?} against {p:?}");
        }
    }

    #[test]
    fn a_move_is_explored_on_a_share_of_the_turns() {
        let (logits, open) = (logits(&[0.0, 1.0, -1.0]), open(&[0, 1, 2]));
        let sampled = logits.probabilities(&open, 2.0, 0.1).unwrap();
        let explore = Exploration::Explore { share: 0.25, temperature: 2.0, epsilon: 0.1 };
        let of = |taken| logits.log_prob(&open, taken, explore).unwrap().exp();
        // Greedy retrieves by column 1.
        assert!((of(Move::Answer) - 0.25 * sampled[0]).abs() < 1e-12);
        let greedy = Move::of_column(1).unwrap();
        assert!((of(greedy) - 0.75 - 0.25 * sampled[1]).abs() < 1e-12);
        let (taken, log_prob) =
            logits.choose(&open, explore, &mut StdRng::seed_from_u64(2)).unwrap();
        assert_eq!(log_prob, logits.log_prob(&open, taken, explore).unwrap());
    }

    #[test]
    fn the_greedy_gate_weighs_all_rewrites_together_and_a_bias_shifts_it() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut choose = |logits: TurnLogits| {
            logits.choose(&open(&[0, 1, 2]), Exploration::Greedy, &mut rng).unwrap().0
        };
        // Neither rewrite beats the answer alone; both together do: 0.8 + 0.9 > 1 in odds.
        let both = logits(&[0.0, 0.8f64.ln(), 0.9f64.ln()]);
        assert_eq!(choose(both), Move::Retrieve(RewriteKind::Keywords));
        assert!((both.retrieve_log_odds(&open(&[0, 1, 2])) - 1.7f64.ln()).abs() < 1e-12);
        assert_eq!(choose(both.with_retrieve_bias(-1.8f64.ln())), Move::Answer);
        // A tie answers.
        assert_eq!(choose(logits(&[0.0, 0.5f64.ln(), 0.5f64.ln()])), Move::Answer);
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused() {
        let broken = logits(&[f64::NAN]).probabilities(&open(&[0, 1]), 1.0, 0.0);
        assert_eq!(broken, Err(MoveError::NotFinite));
        assert_eq!(logits(&[]).probabilities(&open(&[]), 1.0, 0.0), Err(MoveError::NothingOpen));
    }
}
