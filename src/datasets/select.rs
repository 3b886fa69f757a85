//! Which questions of a file a command uses: halves that a reader has not seen, train and test.

use super::{Question, bucket, reader_half};
use crate::text;
use std::collections::HashSet;

/// Ten buckets: the first six train, the others test.
const TRAIN_BUCKETS: u32 = 6;

/// The train or test part of a question file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// Six tenths, by hash of the cluster or id.
    Train,
    /// The rest.
    Test,
    /// Everything.
    All,
}

/// A half of the questions, by parity of the SHA-256 of the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// The half that the bundled reader was not trained on.
    Odd,
    /// The other half.
    Even,
    /// Both.
    Both,
}

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Selection {
    /// Part of the questions, by a hash of their id (or cluster) that never changes.
    #[arg(long, value_enum, default_value = "all")]
    pub split: Split,
    /// Half of the questions by parity of SHA-256(id); the bundled reader never saw the odd half.
    #[arg(long, value_enum, default_value = "both")]
    pub half: Half,
    /// At most this many questions, the first by hash.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

fn is_train(question: &Question) -> bool {
    bucket(question.split_key(), "split", 10) < TRAIN_BUCKETS
}

/// The questions to use, in a fixed order. Of the train part those go whose text, normalised, is
/// also a test question's.
pub fn select(all: Vec<Question>, selection: &Selection) -> Vec<Question> {
    let tested: HashSet<String> =
        all.iter().filter(|q| !is_train(q)).map(|q| text::normalise(&q.question)).collect();
    let mut kept: Vec<Question> = all
        .into_iter()
        .filter(|q| match selection.half {
            Half::Odd => reader_half(&q.id) == 1,
            Half::Even => reader_half(&q.id) == 0,
            Half::Both => true,
        })
        .filter(|q| match selection.split {
            Split::Train => is_train(q) && !tested.contains(&text::normalise(&q.question)),
            Split::Test => !is_train(q),
            Split::All => true,
        })
        .collect();
    kept.sort_by_cached_key(|q| (bucket(&q.id, "order", u32::MAX), q.id.clone()));
    kept.truncate(selection.limit.unwrap_or(usize::MAX));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: &str, text: &str) -> Question {
        Question { id: id.to_owned(), question: text.to_owned(), ..Question::default() }
    }

    #[test]
    fn train_and_test_share_neither_id_nor_text() {
        // Every text comes twice under different ids.
        let all: Vec<Question> =
            (0..200).map(|i| question(&format!("q{i}"), &format!("The text {}", i / 2))).collect();
        let part = |split| select(all.clone(), &Selection { split, half: Half::Both, limit: None });
        let (train, test) = (part(Split::Train), part(Split::Test));
        assert!(train.len() > 30 && test.len() > 50, "{} {}", train.len(), test.len());
        let texts: HashSet<&str> = test.iter().map(|q| q.question.as_str()).collect();
        assert!(train.iter().all(|q| !texts.contains(q.question.as_str())));
        assert_eq!(part(Split::All).len(), 200);
    }

    #[test]
    fn halves_are_apart_and_a_limit_takes_a_prefix() {
        let all: Vec<Question> = (0..50).map(|i| question(&format!("q{i}"), "t")).collect();
        let part = |half, limit| select(all.clone(), &Selection { split: Split::All, half, limit });
        let (odd, even) = (part(Half::Odd, None), part(Half::Even, None));
        assert_eq!(odd.len() + even.len(), 50);
        assert!(odd.iter().all(|q| reader_half(&q.id) == 1));
        assert_eq!(part(Half::Odd, Some(3)), odd[..3]);
    }
}
