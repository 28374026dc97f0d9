//! What was learned of each program, as plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Bitmap;
use crate::maturity::Incidence;

/// Bits of the 2-gram bitmaps.
pub const TWO_GRAM_BITS: usize = 1 << 14;
/// Bits of the 3-gram bitmaps.
pub const THREE_GRAM_BITS: usize = 1 << 15;
/// Bits of the 6-gram bitmaps.
pub const SIX_GRAM_BITS: usize = 1 << 17;

/// Most programs in a profile.
pub const MAX_PROGRAMS: usize = 4096;

/// Profiles of all learned programs, with the key of the n-gram hash that their bits stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawProfile")]
pub struct Profile {
    /// Key of the n-gram hash, drawn anew for every model: with a fixed one, calls that pass for
    /// known could be searched for in advance.
    pub gram_hash_key: u64,
    /// At most [`MAX_PROGRAMS`].
    pub programs: Vec<ProgramProfile>,
}

/// What was learned of one program. It names the program by architecture, path and digest, never
/// by inode, so that a model can move to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramProfile {
    /// Machine name as in `uname -m`: the same path has other calls on another architecture.
    pub architecture: String,
    /// Workload that ran it.
    pub workload: String,
    /// Path in its own mount namespace.
    pub path: String,
    /// The script, where an interpreter runs one.
    pub script: Option<String>,
    /// SHA-256 of the file, if it could be read.
    pub digest: Option<[u8; 32]>,
    /// Runs of two calls.
    pub two_grams: GramSet,
    /// Runs of three calls.
    pub three_grams: GramSet,
    /// Runs of six calls.
    pub six_grams: GramSet,
    /// Windows in which the program made calls while it was learned.
    pub windows: u64,
    /// Calls that it made in them.
    pub calls: u64,
}

impl ProgramProfile {
    /// A profile in which nothing is known yet.
    pub fn empty(architecture: String, workload: String, path: String) -> Self {
        ProgramProfile {
            architecture,
            workload,
            path,
            script: None,
            digest: None,
            two_grams: GramSet::empty(TWO_GRAM_BITS),
            three_grams: GramSet::empty(THREE_GRAM_BITS),
            six_grams: GramSet::empty(SIX_GRAM_BITS),
            windows: 0,
            calls: 0,
        }
    }
}

/// n-grams of one length by the hash of the gram: bit `h` of word `h / 64`. A program makes some hundred of
/// the hundred thousand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawGramSet", into = "RawGramSet")]
pub struct GramSet {
    /// Seen in at least one learning window.
    pub known: Bitmap,
    /// Seen in exactly one: what Good-Turing forecasts novelty from.
    pub in_one_window: Bitmap,
    /// Seen in exactly two.
    in_two_windows: Bitmap,
    /// Windows that were added.
    pub windows: u64,
    /// Sum over the windows of the distinct grams in each.
    pub incidences: u64,
}

impl GramSet {
    /// No grams, in bitmaps of `bits` bits (a multiple of 64).
    pub fn empty(bits: usize) -> Self {
        let map = Bitmap::empty(bits);
        GramSet {
            known: map.clone(),
            in_one_window: map.clone(),
            in_two_windows: map,
            windows: 0,
            incidences: 0,
        }
    }

    /// Grams by the number of windows, of some, in which they were seen.
    pub fn of(bits: usize, windows: u64, grams: &BTreeMap<u32, u32>) -> Self {
        let mut set = Self::empty(bits);
        for (position, times) in grams {
            let (at, bit) = (*position as usize / 64, 1 << (position % 64));
            if at >= set.known.size() {
                continue;
            }
            let maps = [
                (&mut set.known, true),
                (&mut set.in_one_window, *times == 1),
                (&mut set.in_two_windows, *times == 2),
            ];
            for (map, _) in maps.into_iter().filter(|(_, is)| *is) {
                map.set_word(at, map.word(at) | bit);
            }
            set.incidences += u64::from(*times);
        }
        set.windows = windows;
        set
    }

    /// Adds the grams of one more window, each as often as one likes; those past the end are left out.
    pub fn add_window<'a>(&mut self, grams: impl Iterator<Item = &'a u32>) {
        let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
        for position in grams {
            *seen.entry(*position as usize / 64).or_default() |= 1 << (position % 64);
        }
        let words = self.known.size();
        for (at, seen) in seen.into_iter().filter(|(at, _)| *at < words) {
            let (known, one) = (self.known.word(at), self.in_one_window.word(at));
            let two = self.in_two_windows.word(at);
            self.in_two_windows.set_word(at, (two & !seen) | (seen & known & one));
            self.in_one_window.set_word(at, (one & !seen) | (seen & !known));
            self.known.set_word(at, known | seen);
            self.incidences += u64::from(seen.count_ones());
        }
        self.windows += 1;
    }

    /// Adds the windows of another set of the same size, as if each had been added here.
    pub fn merge(&mut self, other: &GramSet) {
        for (at, theirs) in other.known.words() {
            let (known, one) = (self.known.word(at), self.in_one_window.word(at));
            let two = self.in_two_windows.word(at);
            let (their_one, their_two) =
                (other.in_one_window.word(at), other.in_two_windows.word(at));
            let twice = (two & !theirs) | (their_two & !known) | (one & their_one);
            self.in_two_windows.set_word(at, twice);
            self.in_one_window.set_word(at, (one & !theirs) | (their_one & !known));
            self.known.set_word(at, known | theirs);
        }
        self.windows += other.windows;
        self.incidences += other.incidences;
    }

    /// Share of the bits that are set, 0 to 1. Above .3 a map is saturated: too many unseen grams
    /// pass for known.
    pub fn fill(&self) -> f64 {
        self.known.ones() as f64 / (self.known.size().max(1) * 64) as f64
    }

    /// In how many windows grams were seen: what their remaining novelty is forecast from.
    pub fn incidence(&self) -> Incidence {
        Incidence { units: self.windows, once: self.in_one_window.ones(), total: self.incidences }
    }

    fn check(&self, bits: usize) -> Result<(), &'static str> {
        let sets = [&self.known, &self.in_one_window, &self.in_two_windows];
        if sets.iter().any(|set| set.size() != bits / 64) {
            return Err("profile: a bitmap of the wrong size");
        }
        if self.windows > u64::MAX / 2 || self.incidences > u64::MAX / 2 {
            return Err("profile: a count out of range");
        }
        let ones = self.in_one_window.words();
        let contradicts = |(at, one): (usize, u64)| {
            one & self.in_two_windows.word(at) != 0 || one & !self.known.word(at) != 0
        };
        let unknown = |(at, two): (usize, u64)| two & !self.known.word(at) != 0;
        if ones.map(contradicts).chain(self.in_two_windows.words().map(unknown)).any(|wrong| wrong)
        {
            return Err("profile: bitmaps contradict each other");
        }
        Ok(())
    }
}

/// As a model file has it: all words.
#[derive(Serialize, Deserialize)]
struct RawGramSet {
    known: Vec<u64>,
    in_one_window: Vec<u64>,
    in_two_windows: Vec<u64>,
    windows: u64,
    incidences: u64,
}

impl From<RawGramSet> for GramSet {
    fn from(raw: RawGramSet) -> Self {
        Self {
            known: raw.known.into(),
            in_one_window: raw.in_one_window.into(),
            in_two_windows: raw.in_two_windows.into(),
            windows: raw.windows,
            incidences: raw.incidences,
        }
    }
}

impl From<GramSet> for RawGramSet {
    fn from(set: GramSet) -> Self {
        Self {
            known: set.known.dense(),
            in_one_window: set.in_one_window.dense(),
            in_two_windows: set.in_two_windows.dense(),
            windows: set.windows,
            incidences: set.incidences,
        }
    }
}

#[derive(Deserialize)]
struct RawProfile {
    gram_hash_key: u64,
    programs: Vec<ProgramProfile>,
}

impl TryFrom<RawProfile> for Profile {
    type Error = &'static str;

    fn try_from(raw: RawProfile) -> Result<Self, Self::Error> {
        if raw.programs.len() > MAX_PROGRAMS {
            return Err("profile: too many programs");
        }
        for program in &raw.programs {
            program.two_grams.check(TWO_GRAM_BITS)?;
            program.three_grams.check(THREE_GRAM_BITS)?;
            program.six_grams.check(SIX_GRAM_BITS)?;
        }
        Ok(Profile { gram_hash_key: raw.gram_hash_key, programs: raw.programs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(set: &mut GramSet, word: u64) {
        let bits: Vec<u32> = (0..64).filter(|bit| word >> bit & 1 == 1).collect();
        // One that is past the end, too.
        set.add_window(bits.iter().chain(&[64]));
    }

    #[test]
    fn windows_are_counted_once_twice_and_more() {
        let mut set = GramSet::empty(64);
        add(&mut set, 0b0111);
        add(&mut set, 0b0110);
        add(&mut set, 0b1100);
        assert_eq!(set.known.dense(), [0b1111]);
        assert_eq!(set.in_one_window.dense(), [0b1001]);
        assert_eq!(set.in_two_windows.dense(), [0b0010]);
        assert_eq!(set.incidence(), Incidence { units: 3, once: 2, total: 7 });
        add(&mut set, 0b1111);
        assert_eq!(set.incidence(), Incidence { units: 4, once: 0, total: 11 });
        assert_eq!(set.fill(), 4.0 / 64.0);
        assert_eq!(set.check(64), Ok(()));
    }

    #[test]
    fn a_merged_set_is_as_if_all_windows_had_been_added_to_one() {
        let windows = [0b0111, 0b0110, 0b1100, 0b0011, 0b1_0001, 0b1000];
        let of = |windows: &[u64]| {
            let mut set = GramSet::empty(64);
            windows.iter().for_each(|window| add(&mut set, *window));
            set
        };
        for at in 0..=windows.len() {
            let (earlier, later) = windows.split_at(at);
            let mut merged = of(earlier);
            merged.merge(&of(later));
            assert_eq!(merged, of(&windows), "{at}");
        }
    }
}
