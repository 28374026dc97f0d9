//! Where an n-gram sits in the bitmaps of a profile.

/// Codes in an n-gram's key, nine bits each.
const CODE_BITS: u32 = 9;
/// Bit 62 of the history: a stream of 32-bit calls.
const COMPAT: u64 = 1 << 62;

/// The three orders of n-grams that a profile keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    Two,
    Three,
    Six,
}

impl Order {
    pub const ALL: [Self; 3] = [Self::Two, Self::Three, Self::Six];

    /// Codes in the n-gram.
    pub fn length(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Six => 6,
        }
    }
    /// log2 of the bitmap's size in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Two => 14,
            Self::Three => 15,
            Self::Six => 17,
        }
    }
    /// The bitmap's size in words of 64 bits.
    pub fn words(self) -> usize {
        1 << (self.bits() - 6)
    }
}

/// The hash functions of a model: multiply-shift (Dietzfelbinger et al. 1997) with odd multipliers
/// drawn from a secret key, so that colliding n-grams can't be searched for in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GramHash {
    multipliers: [u64; 3],
}

impl GramHash {
    /// Derives the multipliers from the model's key.
    pub fn new(key: u64) -> Self {
        let mut state = key;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) | 1
        };
        Self { multipliers: [next(), next(), next()] }
    }

    /// In the order of [`Order::ALL`].
    pub fn multipliers(&self) -> [u64; 3] {
        self.multipliers
    }

    /// Bit position of the newest n-gram of a history, below `1 << order.bits()`. Codes that are
    /// not there yet count as 0: the beginning of a program is a gram like any other.
    pub fn position(&self, order: Order, history: u64) -> u32 {
        let mask = (1u64 << (CODE_BITS * order.length())) - 1;
        let key = history & (mask | COMPAT);
        let product = key.wrapping_mul(self.multipliers[order as usize]);
        (product >> (64 - order.bits())) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_golden() {
        let hash = GramHash::new(42);
        let history = 0x0012_3456_789a_bcde & ((1 << 54) - 1);
        let positions = Order::ALL.map(|order| hash.position(order, history));
        assert_eq!(positions, GOLDEN);
        assert_ne!(
            hash.position(Order::Six, history),
            hash.position(Order::Six, history | COMPAT),
            "32-bit calls are a stream of their own"
        );
    }

    #[test]
    fn keys_differ() {
        assert_ne!(GramHash::new(1), GramHash::new(2));
        assert!(GramHash::new(0).multipliers().iter().all(|m| m % 2 == 1));
    }

    const GOLDEN: [u32; 3] = [879, 11261, 16441];
}
