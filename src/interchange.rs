//! The round trip: what was learned here as data that other trainers read, and weights that were
//! trained elsewhere as policies and models that serve here.
//!
//! Out: judged episodes of a log ([`log`]) or a recipe's rollouts ([`records`]) become prompts and
//! completions ([`wording`], [`selection`]) that fit a length ([`limits`]), in the shapes of TRL and
//! LLaMA-Factory ([`shape`]), in files that are whole or absent ([`export`]). In: a policy's weights
//! ([`policy`]) or a BERT encoder with its heads ([`encoder`]), each held against what the other side
//! computed before it is kept ([`parity`]). Positions are counted from 1 on the wire and from 0
//! everywhere else. Knows no adapter and no command line.

pub mod encoder;
pub mod examples;
pub mod export;
mod files;
pub mod limits;
pub mod log;
mod names;
pub mod parity;
pub mod policy;
pub mod records;
pub mod selection;
pub mod shape;
pub mod wording;

pub use files::FileError;
pub use names::Mismatch;
pub use records::{Demonstration, Preference, TrainingRecord, Tried};
