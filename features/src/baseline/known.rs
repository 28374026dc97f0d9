//! The questions that windows ask a frozen baseline.

use hedgerow_event::{CLASSES, Program};

use super::seen::{Seen, Set};
use crate::item::ItemKey;

/// What one workload is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    seen: &'a Seen,
    /// The host's, of a workload that came after fill.
    host: Option<&'a Seen>,
    key: ItemKey,
}

impl<'a> Known<'a> {
    pub(super) fn new(seen: &'a Seen, host: Option<&'a Seen>, key: ItemKey) -> Self {
        Self { seen, host, key }
    }

    pub fn contains(self, set: Set, hash: u64) -> bool {
        self.seen.contains(set, hash) || self.host.is_some_and(|host| host.contains(set, hash))
    }

    pub fn is_new(self, set: Set, hash: u64) -> bool {
        !self.contains(set, hash)
    }

    /// Whose mixes of calls were learned.
    fn mixed(self) -> &'a Seen {
        self.host.unwrap_or(self.seen)
    }

    /// Mean surprise of the calls under the workload's learned mix, in bits (add-one smoothing);
    /// NaN without calls or where nothing was learned.
    pub fn rarity_bits(self, classes: &[u64; CLASSES]) -> f64 {
        let learned = self.mixed().mix.total();
        let calls: u64 = classes.iter().sum();
        if learned == 0 || calls == 0 {
            return f64::NAN;
        }
        let whole = (learned + CLASSES as u64) as f64;
        let bits =
            classes.iter().enumerate().filter(|(_, count)| **count > 0).map(|(class, count)| {
                let p = (self.mixed().mix.count(class) + 1) as f64 / whole;
                -p.log2() * *count as f64
            });
        bits.sum::<f64>() / calls as f64
    }

    /// Hellinger distance between the window's class shares and the program's learned ones; NaN
    /// without calls or where the program was not learned.
    pub fn distance(self, program: &Program, classes: &[u64; CLASSES]) -> f64 {
        let Some(mix) = self.mixed().mixes.get(&self.key.program(program)) else { return f64::NAN };
        let (learned, calls) = (mix.total(), classes.iter().sum::<u64>());
        if learned == 0 || calls == 0 {
            return f64::NAN;
        }
        let made = classes.iter().enumerate().filter(|(_, count)| **count > 0);
        let overlap = made.map(|(class, count)| {
            let p = mix.count(class) as f64 / learned as f64;
            (p * *count as f64 / calls as f64).sqrt()
        });
        // Rounding can take the overlap just past 1.
        (1.0 - overlap.sum::<f64>()).max(0.0).sqrt()
    }
}
