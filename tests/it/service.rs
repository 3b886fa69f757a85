//! The real service behind the real wire: answers, faults, recovery, bad input.

mod bad_input;
mod end_to_end;
mod faults;
mod promotion;
mod recovery;
mod swaps;
