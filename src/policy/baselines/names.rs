//! Baselines by name: what stands in a table, a flag or a configuration.
//!
//! Owns the grammar. Makes nothing: see [`super::by_name`].

use super::cuts::Cut;
use std::str::FromStr;

/// Largest k and largest window that a name may ask for.
pub const K_MAX: usize = 500;

/// Forms of the names, for messages and help texts.
pub const NAMES: [&str; 11] = [
    "retrieval_k<K>",
    "cross_encoder_k<K>",
    "windows_k<K>",
    "random_k<K>",
    "oracle",
    "threshold[:<PROBABILITY>]",
    "threshold_logit:<LOGIT>",
    "threshold_retrieval:<SCORE>",
    "knee",
    "largest_drop",
    "knee_retrieval",
];

/// Cut of `threshold` without a number: even odds.
const EVEN: f32 = 0.5;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Named {
    /// The retrieval order, cut.
    Retrieval(Cut),
    /// The order of the cross-encoder's relevance logits, cut; cuts by score are logits.
    CrossEncoder(Cut),
    /// List-wise sliding windows over the untrained selection head, the first so many.
    Windows(usize),
    /// So many documents by lot.
    Random(usize),
    /// The known positives.
    Oracle,
}

/// A name that stands for nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no baseline `{name}`{problem}; expected one of {}, with K from 1 to {K_MAX}",
    NAMES.join(", "))]
pub struct UnknownBaseline {
    /// As given.
    pub name: String,
    /// What is wrong with a name of a known form; empty for another one.
    pub problem: &'static str,
}

impl FromStr for Named {
    type Err = UnknownBaseline;

    fn from_str(name: &str) -> Result<Self, UnknownBaseline> {
        let unknown = |problem| UnknownBaseline { name: name.to_owned(), problem };
        let number = |text: &str| {
            let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| unknown(": what follows the colon is no number"))
        };
        match name {
            "oracle" => return Ok(Self::Oracle),
            "knee" => return Ok(Self::CrossEncoder(Cut::Knee)),
            "largest_drop" => return Ok(Self::CrossEncoder(Cut::LargestDrop)),
            "knee_retrieval" => return Ok(Self::Retrieval(Cut::Knee)),
            "threshold" => return Ok(Self::CrossEncoder(Cut::AtLeast(logit(EVEN)))),
            _ => {}
        }
        if let Some((rule, text)) = name.split_once(':') {
            return match rule {
                "threshold" => match number(text)? {
                    p if (0.0..=1.0).contains(&p) => Ok(Self::CrossEncoder(Cut::AtLeast(logit(p)))),
                    _ => Err(unknown(": a probability is a number from 0 to 1")),
                },
                "threshold_logit" => Ok(Self::CrossEncoder(Cut::AtLeast(number(text)?))),
                "threshold_retrieval" => Ok(Self::Retrieval(Cut::AtLeast(number(text)?))),
                _ => Err(unknown("")),
            };
        }
        let (rule, k) = name.rsplit_once("_k").ok_or_else(|| unknown(""))?;
        let k: usize = k.parse().map_err(|_| unknown(""))?;
        if !(1..=K_MAX).contains(&k) {
            return Err(unknown(": its K is out of range"));
        }
        match rule {
            "retrieval" => Ok(Self::Retrieval(Cut::First(k))),
            "cross_encoder" => Ok(Self::CrossEncoder(Cut::First(k))),
            "windows" => Ok(Self::Windows(k)),
            "random" => Ok(Self::Random(k)),
            _ => Err(unknown("")),
        }
    }
}

/// `ln(p / (1 - p))`; infinite at 0 and 1.
fn logit(probability: f32) -> f32 {
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_ranks_and_where_it_is_cut() {
        for (name, expected) in [
            ("retrieval_k5", Named::Retrieval(Cut::First(5))),
            ("cross_encoder_k20", Named::CrossEncoder(Cut::First(20))),
            ("windows_k5", Named::Windows(5)),
            ("random_k1", Named::Random(1)),
            ("oracle", Named::Oracle),
            ("threshold", Named::CrossEncoder(Cut::AtLeast(0.0))),
            ("threshold:1", Named::CrossEncoder(Cut::AtLeast(f32::INFINITY))),
            ("threshold:0", Named::CrossEncoder(Cut::AtLeast(f32::NEG_INFINITY))),
            ("threshold_logit:-2.5", Named::CrossEncoder(Cut::AtLeast(-2.5))),
            ("threshold_retrieval:12.5", Named::Retrieval(Cut::AtLeast(12.5))),
            ("knee", Named::CrossEncoder(Cut::Knee)),
            ("knee_retrieval", Named::Retrieval(Cut::Knee)),
            ("largest_drop", Named::CrossEncoder(Cut::LargestDrop)),
        ] {
            assert_eq!(name.parse(), Ok(expected), "{name}");
        }
        // Odds of 4 to 1.
        let Ok(Named::CrossEncoder(Cut::AtLeast(cut))) = "threshold:0.8".parse() else {
            unreachable!("a threshold");
        };
        assert!((cut - 4.0_f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_there_are() {
        for (name, problem) in [
            ("", "`;"),
            ("threshhold", "`;"),
            ("random", "`;"),
            ("random_kfive", "`;"),
            ("best_k5", "`;"),
            ("random_k0", ": its K is out of range;"),
            ("retrieval_k501", ": its K is out of range;"),
            ("threshold:1.5", ": a probability is a number from 0 to 1;"),
            ("threshold:nan", ": what follows the colon is no number;"),
            ("threshold_retrieval:", ": what follows the colon is no number;"),
            ("knee:3", "`;"),
        ] {
            let told = name.parse::<Named>().map_err(|error| error.to_string());
            let told = told.err().unwrap_or_default();
            assert!(told.starts_with(&format!("there is no baseline `{name}`")), "{told}");
            assert!(told.contains(problem), "{told}");
            assert!(NAMES.iter().all(|form| told.contains(form)), "{told}");
        }
    }
}
