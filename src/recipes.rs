//! stub
pub mod train_reader;
