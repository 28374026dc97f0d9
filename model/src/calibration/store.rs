//! A bounded store of held-back scores: exact in the tail, sampled in the body.

/// Scores in one set of held-back rows, in bounded memory.
///
/// The `tail_capacity` largest scores are kept exactly; of the rest a uniform sample of
/// `body_capacity` scores is kept (Vitter 1985, algorithm R). So counts at and above the smallest
/// tail score are exact however many rows joined, and counts below it are estimates with a
/// standard error of at most `rows / (2 sqrt(body_capacity))`. Until more than
/// `tail_capacity + body_capacity` rows have joined, every count is exact.
///
/// When full: a new score pushes the smallest tail score into the sample, where it replaces a
/// random earlier one or is dropped. The row count goes on growing.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawScoreStore"))]
pub struct ScoreStore {
    tail_capacity: usize,
    body_capacity: usize,
    rows: u64,
    /// Ascending.
    tail: Vec<f64>,
    body: Vec<f64>,
}

/// A store as read from a file, before its invariants are checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct RawScoreStore {
    tail_capacity: usize,
    body_capacity: usize,
    rows: u64,
    tail: Vec<f64>,
    body: Vec<f64>,
}

/// Most scores that one store may keep in each of its two parts.
pub const MAX_CAPACITY: usize = 1 << 20;

impl ScoreStore {
    /// An empty store. Capacities are clamped to `1..=MAX_CAPACITY`.
    pub fn new(tail_capacity: usize, body_capacity: usize) -> Self {
        ScoreStore {
            tail_capacity: tail_capacity.clamp(1, MAX_CAPACITY),
            body_capacity: body_capacity.clamp(1, MAX_CAPACITY),
            rows: 0,
            tail: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds one score; `false` (and no change) if it is not finite.
    pub fn join(&mut self, score: f64) -> bool {
        if !score.is_finite() {
            return false;
        }
        self.rows += 1;
        let at = self.tail.partition_point(|&kept| kept < score);
        if self.tail.len() < self.tail_capacity {
            self.tail.insert(at, score);
            return true;
        }
        let demoted = if at == 0 {
            score
        } else {
            let smallest = self.tail[0];
            self.tail.copy_within(1..at, 0);
            self.tail[at - 1] = score;
            smallest
        };
        self.sample(demoted);
        true
    }

    /// Offers a score to the body's uniform sample. The draw is a hash of the count, so that the
    /// same rows give the same store without any generator state to save.
    fn sample(&mut self, score: f64) {
        let offered = self.rows - self.tail.len() as u64;
        if self.body.len() < self.body_capacity {
            self.body.push(score);
            return;
        }
        let slot = (split_mix(offered) % offered) as usize;
        if let Some(kept) = self.body.get_mut(slot) {
            *kept = score;
        }
    }

    /// Rows that ever joined, whether their score is still kept or not.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The largest score that ever joined.
    pub fn maximum(&self) -> Option<f64> {
        self.tail.last().copied()
    }

    /// The `k`-th largest score (`k` from 1), while it lies in the exact tail.
    pub fn kth_largest(&self, k: u64) -> Option<f64> {
        let k = usize::try_from(k).ok().filter(|&k| k >= 1)?;
        self.tail.len().checked_sub(k).map(|at| self.tail[at])
    }

    /// The score that a share of the rows lies at or below (`share` in 0..=1): exact in the tail
    /// and while every score is kept, else from the body's sample.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let demoted = self.rows - self.tail.len() as u64;
        let rank = ((share.clamp(0.0, 1.0) * self.rows as f64).ceil() as u64).max(1);
        if rank > demoted {
            return self.kth_largest(self.rows - rank.min(self.rows) + 1);
        }
        let mut body = self.body.clone();
        body.sort_unstable_by(f64::total_cmp);
        let at = scale_up(rank, body.len(), demoted);
        body.get((at as usize).max(1) - 1).copied()
    }

    /// How many of the rows scored at least `score`: exact from the smallest tail score upwards,
    /// estimated (rounded up) below it.
    pub fn count_at_least(&self, score: f64) -> u64 {
        let below = self.tail.partition_point(|&kept| kept < score);
        let in_tail = (self.tail.len() - below) as u64;
        if below > 0 || self.body.is_empty() {
            return in_tail;
        }
        let demoted = self.rows - self.tail.len() as u64;
        let sampled = self.body.iter().filter(|&&kept| kept >= score).count();
        in_tail + scale_up(demoted, sampled, self.body.len() as u64)
    }

    /// Split conformal p-value: `(1 + #{held-back >= score}) / (rows + 1)`, in (0, 1].
    pub fn p_value(&self, score: f64) -> f64 {
        (1 + self.count_at_least(score)) as f64 / (self.rows + 1) as f64
    }
}

/// ceil(count * part / whole), in integers: in floats 14 / 25 * 25 is more than 14.
fn scale_up(count: u64, part: usize, whole: u64) -> u64 {
    (u128::from(count) * part as u128).div_ceil(u128::from(whole)) as u64
}

/// SplitMix64 (Steele, Lea, Flood 2014) of a counter.
fn split_mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(feature = "serde")]
impl TryFrom<RawScoreStore> for ScoreStore {
    type Error = &'static str;

    fn try_from(raw: RawScoreStore) -> Result<Self, Self::Error> {
        let capacities = 1..=MAX_CAPACITY;
        if !capacities.contains(&raw.tail_capacity) || !capacities.contains(&raw.body_capacity) {
            return Err("score store: a capacity is out of range");
        }
        if raw.tail.len() > raw.tail_capacity || raw.body.len() > raw.body_capacity {
            return Err("score store: more scores than its capacity");
        }
        if raw.tail.iter().chain(&raw.body).any(|s| !s.is_finite()) {
            return Err("score store: a score is not finite");
        }
        let smallest = raw.tail.first().copied().unwrap_or(f64::NEG_INFINITY);
        if !raw.tail.is_sorted() || raw.body.iter().any(|&s| s > smallest) {
            return Err("score store: scores out of order");
        }
        let kept = (raw.tail.len() + raw.body.len()) as u64;
        let tail_full = raw.tail.len() == raw.tail_capacity;
        let body_full = raw.body.len() == raw.body_capacity;
        let consistent = match (tail_full, body_full) {
            (false, _) => raw.body.is_empty() && raw.rows == kept,
            (true, false) => raw.rows == kept,
            (true, true) => raw.rows >= kept && raw.rows < u64::MAX / 2,
        };
        if !consistent {
            return Err("score store: row count and kept scores disagree");
        }
        Ok(ScoreStore {
            tail_capacity: raw.tail_capacity,
            body_capacity: raw.body_capacity,
            rows: raw.rows,
            tail: raw.tail,
            body: raw.body,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[cfg(feature = "serde")]
    #[test]
    fn a_stored_body_without_a_tail_is_refused() {
        let text = r#"{"tail_capacity":1,"body_capacity":1,"rows":1,"tail":[],"body":[0.5]}"#;
        assert!(serde_json::from_str::<ScoreStore>(text).is_err());
    }

    #[test]
    fn not_finite_scores_do_not_join() {
        let mut store = ScoreStore::new(4, 4);
        assert!(!store.join(f64::NAN));
        assert!(!store.join(f64::INFINITY));
        assert_eq!(store.rows(), 0);
        assert_eq!(store.p_value(1.0), 1.0);
    }

    #[test]
    fn the_body_sample_stays_uniform_over_many_rows() {
        let mut store = ScoreStore::new(64, 1024);
        let rows = 100_000_u64;
        for i in 0..rows {
            // A permutation of 0..rows, so that arrival order carries no information.
            store.join((i * 48_271 % 100_003 % rows) as f64);
        }
        for share in [0.1, 0.5, 0.9] {
            let p = store.p_value(share * rows as f64);
            assert!((p - (1.0 - share)).abs() < 0.05, "share {share}: p {p}");
        }
    }

    proptest! {
        #[test]
        fn counts_in_the_tail_are_exact(
            scores in proptest::collection::vec(-100i32..100, 1..400),
            tail in 1usize..40,
            body in 1usize..40,
            asked in -110i32..110,
        ) {
            let mut store = ScoreStore::new(tail, body);
            for &s in &scores {
                store.join(f64::from(s));
            }
            let exact = scores.iter().filter(|&&s| s >= asked).count() as u64;
            let got = store.count_at_least(f64::from(asked));
            if exact <= tail as u64 || scores.len() <= tail + body {
                prop_assert_eq!(got, exact);
            }
            if scores.len() <= tail + body {
                let mut ascending = scores.clone();
                ascending.sort_unstable();
                let median = ascending[scores.len().div_ceil(2) - 1];
                prop_assert_eq!(store.quantile(0.5), Some(f64::from(median)));
            }
            prop_assert!(got >= exact.min(tail as u64) && got <= scores.len() as u64);
            let mut sorted = scores.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            for k in 1..=tail.min(sorted.len()) {
                prop_assert_eq!(store.kth_largest(k as u64), Some(f64::from(sorted[k - 1])));
            }
        }
    }
}
