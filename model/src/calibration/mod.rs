//! Split conformal calibration of anomaly scores, pooled and per group.
//!
//! A score becomes a p-value by its rank among scores of *held-back* rows, which no tree and no
//! reference sample saw: `p = (1 + #{held-back >= score}) / (n + 1)`. If the row is exchangeable
//! with the held-back ones, `P(p <= a) <= a` for every level `a`, whatever the detector
//! (Vovk, Gammerman, Shafer 2005; Bates et al. 2023, arXiv 2104.08279).
//!
//! The smallest p-value that `n` rows can give is `1 / (n + 1)`. Asked for a smaller level, the
//! calibration is [`Silence`], never an extrapolation: a generalised Pareto tail fitted to
//! isolation scores misses the asked rate by up to an order of magnitude in both directions.
//!
//! Calibrate on what life will bring: if a window is scored several times while it grows, its
//! held-back score is the maximum over those same looks.

mod store;

pub use store::{MAX_CAPACITY, ScoreStore};

use std::collections::BTreeMap;

/// Sizes of a [`Calibration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CalibrationLimits {
    /// Largest scores kept exactly, pooled and in each group.
    pub tail_capacity: usize,
    /// Scores sampled from the rest, pooled and in each group.
    pub body_capacity: usize,
    /// Most groups. When full, the rows of a further group join the pooled set only, and are
    /// counted in [`Calibration::ungrouped_rows`].
    pub group_capacity: usize,
}

impl Default for CalibrationLimits {
    /// 16 KiB a group and at most 512 groups; a level of one in 100,000 stays exact up to
    /// 10^8 rows.
    fn default() -> Self {
        CalibrationLimits { tail_capacity: 1024, body_capacity: 1024, group_capacity: 512 }
    }
}

/// Which held-back rows judged a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scope {
    /// Rows of the same group: the guarantee holds for the group.
    Group,
    /// Rows of all groups: the guarantee holds on average over the groups, not for each.
    Pooled,
}

/// Why a calibration says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Silence {
    /// Neither the group nor the pooled set has the rows that the level needs.
    TooFewRows {
        /// Rows of the larger of the two sets.
        rows: u64,
        /// Rows that the asked level needs.
        needed: u64,
    },
    /// The score is NaN or infinite.
    NotFinite,
}

/// What a calibration says about one score at an asked level.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Judgement {
    /// The p-value is at most the level.
    Exceeds {
        /// Conformal p-value, in (0, 1].
        p_value: f64,
        /// The set that judged.
        scope: Scope,
    },
    /// The p-value is above the level.
    Within {
        /// Conformal p-value, in (0, 1].
        p_value: f64,
        /// The set that judged.
        scope: Scope,
    },
    /// The data do not support the level.
    Silent(Silence),
}

/// Held-back scores, pooled and per group, that turn a score into a p-value.
///
/// Higher scores are more anomalous. Clean rows go on joining in life ([`Calibration::join`]):
/// that is how the small levels of an alert budget are reached at all. Memory is bounded by
/// [`CalibrationLimits`].
///
/// ```
/// use hedgerow_model::calibration::{Calibration, CalibrationLimits, Judgement, Scope};
///
/// let mut calibration = Calibration::new(CalibrationLimits::default());
/// for i in 0..999 {
///     calibration.join(Some("web.service"), f64::from(i) / 1000.0);
/// }
/// let judged = calibration.judge(Some("web.service"), 0.9995, 0.001);
/// assert_eq!(judged, Judgement::Exceeds { p_value: 0.001, scope: Scope::Group });
/// // One in ten thousand needs 9,999 held-back rows: the calibration says so.
/// assert!(matches!(calibration.judge(None, 0.9995, 0.0001), Judgement::Silent(_)));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawCalibration"))]
pub struct Calibration {
    limits: CalibrationLimits,
    pooled: ScoreStore,
    groups: BTreeMap<String, ScoreStore>,
    ungrouped_rows: u64,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct RawCalibration {
    limits: CalibrationLimits,
    pooled: ScoreStore,
    groups: BTreeMap<String, ScoreStore>,
    ungrouped_rows: u64,
}

#[cfg(feature = "serde")]
impl TryFrom<RawCalibration> for Calibration {
    type Error = &'static str;

    fn try_from(raw: RawCalibration) -> Result<Self, Self::Error> {
        if raw.groups.len() > raw.limits.group_capacity {
            return Err("calibration: more groups than its capacity");
        }
        Ok(Calibration {
            limits: raw.limits,
            pooled: raw.pooled,
            groups: raw.groups,
            ungrouped_rows: raw.ungrouped_rows,
        })
    }
}

impl Calibration {
    /// An empty calibration: silent at every level below 1.
    pub fn new(limits: CalibrationLimits) -> Self {
        Calibration {
            limits,
            pooled: ScoreStore::new(limits.tail_capacity, limits.body_capacity),
            groups: BTreeMap::new(),
            ungrouped_rows: 0,
        }
    }

    /// Joins the score of one clean held-back row, to the pooled set and to its group.
    ///
    /// Returns `false`, and joins nothing, if the score is not finite.
    pub fn join(&mut self, group: Option<&str>, score: f64) -> bool {
        if !self.pooled.join(score) {
            return false;
        }
        let Some(group) = group else { return true };
        if let Some(store) = self.groups.get_mut(group) {
            store.join(score);
        } else if self.groups.len() < self.limits.group_capacity {
            let mut store = ScoreStore::new(self.limits.tail_capacity, self.limits.body_capacity);
            store.join(score);
            self.groups.insert(group.to_owned(), store);
        } else {
            self.ungrouped_rows += 1;
        }
        true
    }

    /// Judges a score at a level: by its group if that has the rows that the level needs, else by
    /// the pooled set, else [`Judgement::Silent`].
    pub fn judge(&self, group: Option<&str>, score: f64, level: f64) -> Judgement {
        if !score.is_finite() {
            return Judgement::Silent(Silence::NotFinite);
        }
        let needed = rows_needed(level);
        let Some((store, scope)) = self.supporting(group, needed) else {
            let rows = self.pooled.rows();
            return Judgement::Silent(Silence::TooFewRows { rows, needed });
        };
        let p_value = store.p_value(score);
        if p_value <= level {
            Judgement::Exceeds { p_value, scope }
        } else {
            Judgement::Within { p_value, scope }
        }
    }

    /// The p-value of a score, without asking for a level: by its group if that has rows, else by
    /// the pooled set; `None` without rows or for a score that is not finite. A p-value at the
    /// set's smallest means "above every held-back row", no more.
    pub fn p_value(&self, group: Option<&str>, score: f64) -> Option<f64> {
        if !score.is_finite() {
            return None;
        }
        self.supporting(group, 1).map(|(store, _)| store.p_value(score))
    }

    /// The score that a row must be strictly above to be judged [`Judgement::Exceeds`] by the set
    /// that judges this group at this level; `None` where the calibration is silent or the rank
    /// lies below the exact tail.
    pub fn threshold(&self, group: Option<&str>, level: f64) -> Option<f64> {
        let (store, _) = self.supporting(group, rows_needed(level))?;
        store.kth_largest(alarms_allowed(level, store.rows()))
    }

    /// The largest held-back score of a group, or of all rows where the group has none.
    pub fn maximum(&self, group: Option<&str>) -> Option<f64> {
        self.supporting(group, 1).and_then(|(store, _)| store.maximum())
    }

    /// The smallest level that the data support for a group (`1 / (rows + 1)` of the larger of
    /// the group's and the pooled set).
    pub fn supported_level(&self, group: Option<&str>) -> f64 {
        let rows = self.group_rows(group).max(self.pooled.rows());
        1.0 / (rows + 1) as f64
    }

    /// Rows that joined, over all groups.
    pub fn rows(&self) -> u64 {
        self.pooled.rows()
    }

    /// Rows that joined a group; 0 for an unknown group.
    pub fn group_rows(&self, group: Option<&str>) -> u64 {
        group.and_then(|g| self.groups.get(g)).map_or(0, ScoreStore::rows)
    }

    /// Rows that joined the pooled set only, because there was no room for their group.
    pub fn ungrouped_rows(&self) -> u64 {
        self.ungrouped_rows
    }

    /// The groups that have rows of their own, with the number of rows.
    pub fn groups(&self) -> impl Iterator<Item = (&str, u64)> {
        self.groups.iter().map(|(name, store)| (name.as_str(), store.rows()))
    }

    fn supporting(&self, group: Option<&str>, needed: u64) -> Option<(&ScoreStore, Scope)> {
        group
            .and_then(|g| self.groups.get(g))
            .filter(|store| store.rows() >= needed)
            .map(|store| (store, Scope::Group))
            .or_else(|| (self.pooled.rows() >= needed).then_some((&self.pooled, Scope::Pooled)))
    }
}

/// Held-back rows that a level needs: the least `n` with `1 / (n + 1) <= level`.
///
/// A level at or below zero, or NaN, needs more rows than there can be.
pub fn rows_needed(level: f64) -> u64 {
    if level.is_nan() || level <= 0.0 {
        return u64::MAX;
    }
    let guess = (1.0 / level).ceil() as u64;
    // The reciprocal may round either way; settle it on the inequality that is promised.
    let enough = |rows: u64| 1.0 / (rows + 1) as f64 <= level;
    let mut rows = guess.saturating_sub(2);
    while rows < u64::MAX - 1 && !enough(rows) {
        rows += 1;
    }
    rows
}

/// The largest `k` with `k / (rows + 1) <= level`: a row alarms while fewer than `k` held-back
/// ones reach its score.
fn alarms_allowed(level: f64, rows: u64) -> u64 {
    let of = (rows + 1) as f64;
    let guess = ((level * of) as u64).min(rows);
    let allowed = |k: u64| k as f64 / of <= level;
    if allowed(guess + 1) {
        guess + 1
    } else if allowed(guess) {
        guess
    } else {
        guess - 1
    }
}

#[cfg(test)]
mod tests;
