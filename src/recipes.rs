//! A training system is one file here, read from paper to code. Recipes share functions, never loops.

pub mod fit;
pub mod gate;
pub mod instance;
pub mod offline;
pub mod online;
pub mod rollout;
pub mod train_reader;
