//! One world a file: what can be asked, what an answer is worth, and what the best one is.

pub mod baselines;
pub mod gate;
pub mod lists;
pub mod order;
pub mod planted;
pub mod prefix;
