//! Models: the encoder, the reader heads on it, and the selection policy. Knows tensors, not algorithms.

pub mod baselines;
pub mod encoder;
pub mod features;
pub mod fixed;
#[doc(hidden)]
pub mod fixture;
pub mod head;
pub mod kernels;
pub mod layers;
pub mod listwise;
pub mod model_folder;
pub mod monot5;
pub mod optimizer;
pub mod pointwise;
pub mod policy_folder;
pub mod reader;
pub mod selection;
pub mod sentence;
pub mod serving;
pub mod shortlist;
pub mod trajectories;
