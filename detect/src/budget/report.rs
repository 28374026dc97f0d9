//! What a budget tells about itself.

/// What held-back data support.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Support {
    /// Days that the held-back rows cover; gaps longer than the merge gap do not count.
    pub held_back_days: f64,
    /// The smallest rate that they support, episodes a day; infinite without rows.
    pub supported_per_day: f64,
    /// The asked rate is at least the supported one: the budget has a threshold.
    pub supported: bool,
}

/// Sums since the budget was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BudgetTotals {
    /// Seconds in which windows were observed.
    pub observed_s: u64,
    /// Episodes that alerted, those over budget included.
    pub alerts: u64,
    /// Of these, alerts past the cap.
    pub over_budget: u64,
    /// Episodes that started suppressed (one that rises and alerts later counts in both).
    pub suppressed: u64,
}

/// Asked and achieved, and where the threshold stands.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BudgetReport {
    /// Asked rate, episodes a day.
    pub asked_per_day: f64,
    /// Achieved rate over all observed time, alerts a day; `None` before anything was observed.
    pub achieved_per_day: Option<f64>,
    /// Achieved rate over the last seven days of observed time, alerts a day.
    pub achieved_week_per_day: Option<f64>,
    /// Alerts in the last 24 hours.
    pub alerts_last_day: usize,
    /// Most ordinary alerts in any 24 hours.
    pub day_cap: usize,
    /// What the held-back data support.
    pub support: Support,
    /// Scores must be strictly above this to be findings; `None` while unsupported.
    pub threshold: Option<f64>,
    /// The threshold never falls below this: the level at which held-back data gave the budget.
    pub floor: Option<f64>,
    /// How far feedback has raised the threshold above the floor, as a share of the calibrated
    /// range: more than a little means that life is noisier than what was held back.
    pub raised: Option<f64>,
    /// Episodes open now.
    pub open_episodes: usize,
    /// Sums since the budget was made.
    pub totals: BudgetTotals,
}
