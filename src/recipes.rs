//! A training system is one file here, read from paper to code. Recipes share functions, never loops.

pub mod dynamic_rag;
pub mod examiner;
pub mod fit;
pub mod gate;
pub mod generator;
pub mod grpo;
pub mod instance;
pub mod lists;
pub mod logged;
pub mod noise;
pub mod off_policy;
pub mod offline;
pub mod online;
pub mod rollout;
pub mod rrpo;
pub mod smart_rag;
#[cfg(test)]
mod toy;
pub mod train_reader;
pub mod utilities;
