//! Bitmaps of which most words are 0.

/// A bitmap of a fixed size: the words that aren't 0, or all of them, whichever is smaller.
#[derive(Debug, Clone)]
pub struct Bitmap {
    words: usize,
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    /// By place, in order.
    Few(Vec<(u32, u64)>),
    All(Vec<u64>),
}

impl Bitmap {
    /// `bits` (a multiple of 64) that aren't set.
    pub fn empty(bits: usize) -> Self {
        Self { words: bits / 64, held: Held::Few(Vec::new()) }
    }

    /// How many words there are.
    pub fn size(&self) -> usize {
        self.words
    }

    /// A word; past the end it is 0.
    pub fn word(&self, at: usize) -> u64 {
        let found = match &self.held {
            Held::Few(few) => {
                let place = few.binary_search_by_key(&at, |(at, _)| *at as usize).ok();
                place.map(|place| few[place].1)
            }
            Held::All(all) => all.get(at).copied(),
        };
        found.unwrap_or(0)
    }

    /// Sets a word; past the end nothing.
    pub fn set_word(&mut self, at: usize, word: u64) {
        if at >= self.words {
            return;
        }
        match &mut self.held {
            Held::All(all) => all[at] = word,
            Held::Few(few) => match few.binary_search_by_key(&at, |(at, _)| *at as usize) {
                Ok(place) if word == 0 => drop(few.remove(place)),
                Ok(place) => few[place].1 = word,
                Err(_) if word == 0 => {}
                // Each takes twice as much as a word of all.
                Err(_) if 2 * few.len() >= self.words => {
                    let mut all = self.dense();
                    all[at] = word;
                    self.held = Held::All(all);
                }
                Err(place) => few.insert(place, (at as u32, word)),
            },
        }
    }

    /// Words that aren't 0, by place, in order.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        let (few, all) = match &self.held {
            Held::Few(few) => (few.as_slice(), &[][..]),
            Held::All(all) => (&[][..], all.as_slice()),
        };
        let few = few.iter().map(|(at, word)| (*at as usize, *word));
        few.chain(all.iter().copied().enumerate()).filter(|(_, word)| *word != 0)
    }

    /// All words.
    pub fn dense(&self) -> Vec<u64> {
        let mut all = vec![0; self.words];
        self.words().for_each(|(at, word)| all[at] = word);
        all
    }

    /// Bits that are set.
    pub fn ones(&self) -> u64 {
        self.words().map(|(_, word)| u64::from(word.count_ones())).sum()
    }
}

impl PartialEq for Bitmap {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words && self.words().eq(other.words())
    }
}

impl Eq for Bitmap {}

impl From<Vec<u64>> for Bitmap {
    fn from(all: Vec<u64>) -> Self {
        let few = all.iter().filter(|word| **word != 0).count();
        let words = all.len();
        let places = all.iter().zip(0..).filter(|(word, _)| **word != 0);
        match 2 * few > words {
            false => {
                Self { words, held: Held::Few(places.map(|(word, at)| (at, *word)).collect()) }
            }
            true => Self { words, held: Held::All(all) },
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn however_full_it_is_as_if_all_words_were_held() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let (mut map, mut all) = (Bitmap::empty(64 * 64), vec![0u64; 64]);
        for turn in 0..2_000 {
            let word = if rng.gen_bool(0.3) { 0 } else { rng.r#gen::<u64>() };
            // It fills up to the middle of the test.
            let at = rng.gen_range(0..64) * turn / 1_000 % 64;
            map.set_word(at, word);
            all[at] = word;
            assert_eq!((map.word(at), map.word(64)), (word, 0));
            assert_eq!(map.dense(), all);
            assert_eq!(map, Bitmap::from(all.clone()));
            assert_eq!(map.ones(), all.iter().map(|w| u64::from(w.count_ones())).sum::<u64>());
        }
        assert!(matches!(map.held, Held::All(_)));
        map.set_word(64, 1);
        assert_eq!(map.dense(), all);
    }
}
