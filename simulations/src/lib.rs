//! Worlds in which the best answer is known, so that what Regrade learns can be held against it.
//!
//! Every world is a function of its seed. Benchmarks are in `benches/`, what they are measured
//! against in `peers/`.

pub mod statistics;
pub mod worlds;
