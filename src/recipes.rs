//! A training system is one file here, read from paper to code. Recipes share functions, never loops.

pub mod gate;
pub mod offline;
pub mod online;
pub mod train_reader;
