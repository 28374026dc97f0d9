//! The order of a thread's calls.

use super::Step;

/// Nine bits a code, six codes.
const CODE_BITS: u32 = 9;
const MASK: u64 = (1 << 54) - 1;
const COMPAT: u64 = 1 << 62;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// It stays out of the history.
    Skipped,
    /// It repeats the call before.
    Collapsed,
    /// It entered: the n-grams that end in it are to be checked.
    Entered,
}

/// The newest six codes of a thread, the newest in the lowest bits; empty after fork and exec.
/// 32-bit calls are a stream of their own: a change of word size begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct History(u64);

impl History {
    /// The packed codes, bit 62 set in a 32-bit stream: the key of [`super::GramHash`].
    pub fn bits(self) -> u64 {
        self.0
    }
    /// No code yet since the thread began or exec replaced its program.
    pub fn is_empty(self) -> bool {
        self.0 & MASK == 0
    }
    /// Codes, the oldest first; 0 is "none yet".
    pub fn codes(self) -> [u16; 6] {
        std::array::from_fn(|i| {
            let shift = CODE_BITS * (5 - u32::try_from(i).unwrap_or(0));
            ((self.0 >> shift) & ((1 << CODE_BITS) - 1)) as u16
        })
    }
    /// Takes the next call in.
    pub fn push(&mut self, step: &Step) -> Push {
        if step.code == 0 {
            return Push::Skipped;
        }
        let stream = if step.compat { COMPAT } else { 0 };
        let mut old = self.0;
        if old & COMPAT != stream {
            old = stream;
        }
        if old & ((1 << CODE_BITS) - 1) == u64::from(step.code) {
            return Push::Collapsed;
        }
        self.0 = (((old << CODE_BITS) | u64::from(step.code)) & MASK) | stream;
        Push::Entered
    }
}
