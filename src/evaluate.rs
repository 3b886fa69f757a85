//! Policies on held-out questions: the figures a claim rests on, with their intervals.

pub mod interval;
