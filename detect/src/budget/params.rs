//! What is asked of a budget.

use thiserror::Error;

/// A parameter of a budget is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum BudgetError {
    /// Not a finite number above zero and at most 10,000.
    #[error("episodes per day must be above 0 and at most 10000, not {0}")]
    EpisodesPerDay(f64),
    /// Not within a day.
    #[error("the merge gap must be 1 to 86400 seconds, not {0}")]
    MergeGap(u64),
    /// Not in (0, 1].
    #[error("the threshold's daily move must be above 0 and at most 1 of the range, not {0}")]
    DailyMove(f64),
}

/// What is asked of a [`Budget`](super::Budget).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BudgetParams {
    /// Most alert episodes a day when nothing is wrong. A ceiling, not a quota.
    pub episodes_per_day: f64,
    /// Findings of one key merge while the gap between them is at most this long, seconds.
    pub merge_gap_s: u64,
    /// Most that the threshold moves within any 24 hours, as a share of the calibrated range
    /// (highest minus median held-back score).
    pub daily_move: f64,
}

impl Default for BudgetParams {
    /// One episode a day, gaps of at most five minutes, 10 % of the range a day.
    fn default() -> Self {
        BudgetParams { episodes_per_day: 1.0, merge_gap_s: 300, daily_move: 0.1 }
    }
}

impl BudgetParams {
    /// The parameters, if each is in its range.
    pub fn check(self) -> Result<Self, BudgetError> {
        if !(self.episodes_per_day > 0.0 && self.episodes_per_day <= 1e4) {
            return Err(BudgetError::EpisodesPerDay(self.episodes_per_day));
        }
        if !(1..=86_400).contains(&self.merge_gap_s) {
            return Err(BudgetError::MergeGap(self.merge_gap_s));
        }
        if !(self.daily_move > 0.0 && self.daily_move <= 1.0) {
            return Err(BudgetError::DailyMove(self.daily_move));
        }
        Ok(self)
    }

    /// Most ordinary alerts in any 24 hours: twice the budget, at least one.
    pub fn day_cap(&self) -> usize {
        ((2.0 * self.episodes_per_day) as usize).max(1)
    }

    /// Most ordinary alerts in any 7 days: six days at the cap, at least one. The seventh is left
    /// to alerts over budget, so that with them a week stays within twice the budget.
    pub fn week_cap(&self) -> usize {
        ((12.0 * self.episodes_per_day) as usize).max(1)
    }
}
