//! Losses, advantages and divergences: pure functions, one idea a file. No model, no loop, no IO.

pub mod advantage;
pub mod divergence;
pub mod doubly_robust;
pub mod dpo;
pub mod gae;
pub mod kl_control;
pub mod marginal;
pub mod ppo;
pub mod rrpo;
pub mod sft;
pub mod utility;
