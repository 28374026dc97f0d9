//! System-call n-grams, as positions in bitmaps of 2^14, 2^15 and 2^17 bits.

use std::sync::Arc;

use crate::{Epoch, Subject};

/// The unseen n-grams that a program made in one epoch: what the learner adds to its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GramReport {
    pub epoch: Epoch,
    pub subject: Arc<Subject>,
    /// Positions of set bits, each once, in any order.
    pub grams2: Vec<u32>,
    pub grams3: Vec<u32>,
    pub grams6: Vec<u32>,
}

/// Known n-grams of a program, as bitmaps of 64-bit words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grams {
    pub grams2: Vec<u64>,
    pub grams3: Vec<u64>,
    pub grams6: Vec<u64>,
}
