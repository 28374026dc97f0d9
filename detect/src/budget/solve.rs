//! Solving for a threshold: the lowest score above which held-back findings form at most a given
//! number of episodes.

use std::collections::{BTreeMap, BTreeSet};

/// Identifies what merges into one episode: a stable 64-bit hash of the workload or process tree
/// and of the objects of the finding. Held-back rows must use the same keys as life.
pub type EpisodeKey = u64;

/// One scored window.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scored {
    /// Seconds, on the clock of [`Budget::observe`](super::Budget::observe).
    pub time_s: u64,
    /// What the window would merge with.
    pub key: EpisodeKey,
    /// Higher is more anomalous.
    pub score: f64,
}

/// The lowest threshold `t >= at_least` for which, at `t` and at every higher threshold, the rows
/// strictly above it form at most `episodes` episodes (rows of one key with gaps of at most
/// `gap_s`). `rows` is sorted by falling score in the process.
///
/// The number of episodes is not monotone in the threshold (far down everything merges into one),
/// hence "at every higher threshold".
pub(super) fn threshold(rows: &mut [Scored], episodes: u64, gap_s: u64, at_least: f64) -> f64 {
    rows.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    let mut times: BTreeMap<EpisodeKey, BTreeSet<u64>> = BTreeMap::new();
    let mut formed: u64 = 0;
    for row in rows.iter() {
        if row.score <= at_least {
            return at_least;
        }
        let of_key = times.entry(row.key).or_default();
        let before = of_key.range(..=row.time_s).next_back().copied();
        let after = of_key.range(row.time_s..).next().copied();
        let joins_before = before.is_some_and(|t| row.time_s - t <= gap_s);
        let joins_after = after.is_some_and(|t| t - row.time_s <= gap_s);
        let was_one = match (before, after) {
            (Some(b), Some(a)) => a - b <= gap_s,
            _ => false,
        };
        of_key.insert(row.time_s);
        match (joins_before, joins_after) {
            (false, false) => formed += 1,
            (true, true) if !was_one => formed -= 1,
            _ => {}
        }
        if formed > episodes {
            return row.score;
        }
    }
    at_least
}

/// Seconds that rows at these times cover: gaps above `gap_s` are time in which nobody looked.
/// `times_s` must ascend.
pub(super) fn covered_s(times_s: impl Iterator<Item = u64>, gap_s: u64) -> u64 {
    let mut last = None;
    let mut covered = 0;
    for time in times_s {
        if let Some(last) = last {
            let gap = time - last;
            covered += if gap <= gap_s { gap } else { 0 };
        }
        last = Some(time);
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn episodes_above(rows: &[Scored], threshold: f64, gap_s: u64) -> u64 {
        let mut above: Vec<_> =
            rows.iter().filter(|r| r.score > threshold).map(|r| (r.key, r.time_s)).collect();
        above.sort_unstable();
        let starts =
            above.windows(2).filter(|w| w[0].0 != w[1].0 || w[1].1 - w[0].1 > gap_s).count();
        (starts + usize::from(!above.is_empty())) as u64
    }

    #[test]
    fn a_gap_in_the_rows_is_not_covered_time() {
        assert_eq!(covered_s([0, 5, 10, 5_000, 5_005].into_iter(), 300), 15);
    }

    proptest! {
        #[test]
        fn the_solved_threshold_is_the_lowest_that_keeps_the_count(
            raw in proptest::collection::vec((0u64..3_000, 0u64..3, 0u8..40), 0..120),
            episodes in 0u64..8,
            at_least in 0u8..20,
        ) {
            let mut rows: Vec<_> = raw
                .iter()
                .map(|&(time_s, key, score)| Scored { time_s, key, score: f64::from(score) })
                .collect();
            let solved = threshold(&mut rows, episodes, 100, f64::from(at_least));
            for t in 0..40u8 {
                if f64::from(t) >= solved {
                    prop_assert!(episodes_above(&rows, f64::from(t), 100) <= episodes);
                }
            }
            // One notch lower the count is exceeded, unless the bound from below stopped it.
            if solved > f64::from(at_least) {
                let lower = episodes_above(&rows, solved - 1.0, 100);
                let partly = rows.iter().filter(|r| r.score == solved).count() > 1;
                prop_assert!(lower > episodes || partly);
            }
        }
    }
}
