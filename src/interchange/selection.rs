//! A selection as text: `[3], [17], [5]`, or `None`.
//!
//! The output of a list-wise reranker (DynamicRAG, Table 12): positions in the prompt's list, counted
//! from 1, in the order the generator is to see them. Inside they are counted from 0. Knows no prompt.

use serde::Serialize;

/// What stands for an empty selection.
pub const NONE: &str = "None";

/// The text of a selection; `order` counts from 0.
pub fn format_selection(order: &[u32]) -> String {
    if order.is_empty() {
        return NONE.to_owned();
    }
    let names: Vec<String> = order.iter().map(|at| format!("[{}]", u64::from(*at) + 1)).collect();
    names.join(", ")
}

/// How much of a text must be a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// All of it, white space aside: `[a], [b]` without repeats and within range, or `None`.
    #[default]
    Strict,
    /// Every `[a]` in it that is within range and new; the rest is counted.
    Lenient,
}

/// A selection read from text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Parsed {
    /// Positions, from 0.
    pub order: Vec<u32>,
    /// Names of no candidate: 0, or above n.
    pub out_of_range: u32,
    /// Names that had been given before.
    pub duplicates: u32,
    /// Bytes that are no name, separator or white space.
    pub junk_bytes: u32,
    /// Whether the text said that nothing is needed.
    pub is_none: bool,
}

impl Parsed {
    /// Whether the text was exactly a selection.
    pub fn is_clean(&self) -> bool {
        self.out_of_range == 0 && self.duplicates == 0 && self.junk_bytes == 0
    }
}

/// Why a text is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionTextError {
    /// A strict reading found something else.
    #[error(
        "`{text}` is no selection from {n}: {out_of_range} names out of range, {duplicates} \
         repeated, {junk_bytes} bytes of something else; expected `[3], [17]` or `None`"
    )]
    Unclean {
        /// The start of the text.
        text: String,
        /// Candidates.
        n: usize,
        /// Names of no candidate.
        out_of_range: u32,
        /// Names given twice.
        duplicates: u32,
        /// Other bytes.
        junk_bytes: u32,
    },
    /// There is neither a name nor `None`: nothing was decided, which is not an empty selection.
    #[error("`{text}` names no candidate; expected `[3], [17]` or `None`")]
    Nothing {
        /// The start of the text.
        text: String,
    },
}

/// Reads a selection from `n` candidates.
///
/// # Errors
/// Strict: anything beside a selection. Lenient: a text in which nothing was chosen and nothing
/// declined, or all names were out of range.
pub fn parse_selection(
    text: &str,
    n: usize,
    reading: Reading,
) -> Result<Parsed, SelectionTextError> {
    let parsed = scan(text, n);
    let start = || text.chars().take(80).collect::<String>();
    let names = parsed.order.len() + (parsed.out_of_range + parsed.duplicates) as usize;
    // `None` stands alone, and a list has one comma between two names.
    let is_formed = text.trim() == NONE
        || text.split(',').all(|part| name(part.trim()).is_some_and(|(_, after)| after.is_empty()));
    if reading == Reading::Strict && !(parsed.is_clean() && is_formed) {
        let Parsed { out_of_range, duplicates, junk_bytes, .. } = parsed;
        return Err(SelectionTextError::Unclean {
            text: start(),
            n,
            out_of_range,
            duplicates,
            junk_bytes,
        });
    }
    if parsed.order.is_empty() && (!parsed.is_none || names > 0) {
        return Err(SelectionTextError::Nothing { text: start() });
    }
    Ok(parsed)
}

fn scan(text: &str, n: usize) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some((number, after)) = name(rest) {
            // From 1 on the wire.
            match number.checked_sub(1).filter(|at| (*at as usize) < n) {
                None => parsed.out_of_range += 1,
                Some(at) if parsed.order.contains(&at) => parsed.duplicates += 1,
                Some(at) => parsed.order.push(at),
            }
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix(NONE).filter(|_| !parsed.is_none) {
            parsed.is_none = true;
            rest = after;
            continue;
        }
        if !(next == ',' || next.is_whitespace()) {
            parsed.junk_bytes += next.len_utf8() as u32;
        }
        rest = &rest[next.len_utf8()..];
    }
    parsed
}

/// `[12]` at the start of a text: the number and what follows. A number too large for any list is
/// one out of range.
fn name(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.strip_prefix('[')?.split_once(']')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (digits.parse().unwrap_or(u32::MAX), after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom as _;

    #[test]
    fn positions_count_from_one_on_the_wire() {
        assert_eq!(format_selection(&[2, 16, 4]), "[3], [17], [5]");
        assert_eq!(format_selection(&[]), "None");
        let parsed = parse_selection(" [3], [17],[5]\n", 20, Reading::Strict).unwrap();
        assert_eq!(parsed.order, [2, 16, 4]);
        let parsed = parse_selection("None", 20, Reading::Strict).unwrap();
        assert!(parsed.order.is_empty() && parsed.is_none);
    }

    #[test]
    fn a_strict_reading_takes_nothing_but_a_selection() {
        let wrong = [
            "[3] [17]",
            "[3],, [17]",
            ",[3]",
            "[3],",
            "[0]",
            "[21]",
            "[3], [3]",
            "3, 17",
            "",
            "[3], None",
            "None, ",
            "none",
            "The answer is [3]",
            "[3] > [17]",
            "[-1]",
            "[3.5]",
            "[99999999999999999999]",
            "[3] [4],",
        ];
        for text in wrong {
            assert!(parse_selection(text, 20, Reading::Strict).is_err(), "{text:?}");
        }
        let error = parse_selection("[0], [3], [3]!", 20, Reading::Strict).unwrap_err();
        let text = error.to_string();
        for part in ["1 names out of range", "1 repeated", "1 bytes of something else"] {
            assert!(text.contains(part), "{part} not in: {text}");
        }
    }

    #[test]
    fn a_lenient_reading_keeps_what_it_can_and_counts_the_rest() {
        let parsed =
            parse_selection("I pick [3], then [25] and [3]; [1].", 20, Reading::Lenient).unwrap();
        assert_eq!(parsed.order, [2, 0]);
        assert_eq!((parsed.out_of_range, parsed.duplicates), (1, 1));
        assert!(parsed.junk_bytes > 0 && !parsed.is_clean());
        let none = parse_selection("Answer: None.", 20, Reading::Lenient).unwrap();
        assert!(none.order.is_empty() && none.is_none);
        // Not an empty selection: nobody said that nothing is needed.
        for text in ["", "no idea", "[21], [0]", "None [40]"] {
            let error = parse_selection(text, 20, Reading::Lenient).unwrap_err();
            assert!(matches!(error, SelectionTextError::Nothing { .. }), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(n in 1_u32..200, k in 0_usize..40, seed in 0_u64..1_000) {
            let mut all: Vec<u32> = (0..n).collect();
            all.shuffle(&mut StdRng::seed_from_u64(seed));
            all.truncate(k);
            let text = format_selection(&all);
            for reading in [Reading::Strict, Reading::Lenient] {
                let parsed = parse_selection(&text, n as usize, reading).unwrap();
                prop_assert_eq!(&parsed.order, &all);
                prop_assert!(parsed.is_clean());
            }
        }

        #[test]
        fn no_text_gives_a_position_out_of_range_or_twice(text in "[\\[\\]0-9, Non]{0,40}", n in 0_usize..12) {
            for reading in [Reading::Strict, Reading::Lenient] {
                let Ok(parsed) = parse_selection(&text, n, reading) else { continue };
                let mut seen = std::collections::BTreeSet::new();
                prop_assert!(parsed.order.iter().all(|at| (*at as usize) < n && seen.insert(*at)));
            }
        }
    }
}
