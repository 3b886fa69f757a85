//! Interleaving: one context from two policies' lists.
