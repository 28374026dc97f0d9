//! The alert budget: "at most N alert episodes a day when nothing is wrong".
//!
//! Windows above a threshold are *findings*; findings of one key with gaps of at most five minutes
//! are one *episode*; the budget is held on episodes. A pure state machine over (time, key,
//! score): no clock is read, and the state is saved and restored whole.
//!
//! - **Floor.** [`Budget::calibrate`] solves for the lowest threshold at which held-back data gave
//!   the budget. The threshold never falls below it: a quiet host stays quiet. Until the data
//!   support the asked rate (`N x days >= 1`), there is no threshold, and every answer is
//!   [`Decision::Silent`].
//! - **Feedback.** Every hour the threshold moves by the surplus of episodes over the asked rate,
//!   every day it is raised to what the last three days would have needed; never by more than
//!   10 % of the calibrated range in any 24 hours, so that noise cannot buy silence.
//! - **Cap.** In any 24 hours at most `2 N` and in any 7 days at most `12 N` ordinary alerts, from
//!   the first minute. Past it only an episode above all that alerted in that time, or one that
//!   the caller marks as bypassing, still alerts, marked over budget (and counted against the
//!   cap); the others are *suppressed*: kept, not alerted.
//!
//! Where these clash, floor and cap win.

mod episodes;
mod hours;
mod params;
mod provisional;
mod report;
mod solve;
mod state;

pub use episodes::MAX_OPEN_EPISODES;
pub use params::{BudgetError, BudgetParams};
pub use provisional::{
    CountEvidence, PROVISIONAL_COUNT_FACTOR, ProvisionalAlert, ProvisionalEvidence,
    provisional_alert,
};
pub use report::{BudgetReport, BudgetTotals, Support};
pub use solve::{EpisodeKey, Scored};

use episodes::{DayOfAlerts, Episode, OpenEpisodes};
use hedgerow_model::calibration::ScoreStore;
use hours::{HOUR_S, HOURS_KEPT, Hours};

const DAY_S: u64 = 86_400;

/// Days of life that the daily solve looks back on.
const SOLVE_DAYS: usize = 3;

/// Scores of life above the floor that are kept for the daily solve. When full, the lower half is
/// dropped, and for three days no solve goes below the highest score dropped.
const MAX_HISTORY: usize = 16_384;

/// Surplus episodes, in budgets, that feedback answers with the whole daily move.
const SURPLUS_FOR_DAILY_MOVE: f64 = 2.0;

/// What becomes of one scored window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Decision {
    /// An alert: a new episode, or a suppressed one that rose.
    Alert {
        /// Past the cap.
        over_budget: bool,
    },
    /// Belongs to an episode that has alerted.
    Merged,
    /// Starts or continues an episode that the cap keeps from alerting. Keep it; do not alert.
    Suppressed,
    /// Not above the threshold, or not a finite score.
    Below,
    /// There is no threshold: the held-back data do not support the asked rate.
    Silent,
}

/// Floor and threshold in force.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
struct Level {
    floor: f64,
    threshold: f64,
    /// Highest minus median held-back score.
    range: f64,
}

/// What is held back, as far as it is needed later.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct HeldBack {
    covered_s: u64,
    last_s: Option<u64>,
    scores: ScoreStore,
}

impl HeldBack {
    fn empty() -> Self {
        HeldBack { covered_s: 0, last_s: None, scores: ScoreStore::new(1, 1024) }
    }
}

/// The budget's state. See the [module](self) for the rules.
///
/// Times are Unix seconds or any other clock that goes on over restarts; a step back of up to an
/// hour is taken as no time passing, a longer one as a reset clock from which time goes on.
///
/// ```
/// use hedgerow_detect::budget::{Budget, BudgetParams, Decision, Scored};
///
/// // Ten days of one window a minute, ordinary scores below 0.5, one peak a day.
/// let held_back: Vec<_> = (0..14_400u64)
///     .map(|minute| Scored {
///         time_s: minute * 60,
///         key: 1,
///         score: if minute % 1440 == 700 { 0.6 + minute as f64 * 1e-6 } else { 0.4 },
///     })
///     .collect();
/// let mut budget = Budget::new(BudgetParams::default())?;
/// assert!(budget.calibrate(&held_back).supported);
/// let now = 864_000;
/// assert_eq!(budget.observe(now, 1, 0.41, false), Decision::Below);
/// assert_eq!(budget.observe(now + 60, 1, 0.9, false), Decision::Alert { over_budget: false });
/// assert_eq!(budget.observe(now + 120, 1, 0.8, false), Decision::Merged);
/// # Ok::<(), crate::budget::BudgetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "state::RawBudget")]
pub struct Budget {
    params: BudgetParams,
    held_back: HeldBack,
    level: Option<Level>,
    now_s: u64,
    /// Added to the caller's time: a clock that was set back goes on from where it was.
    clock_offset_s: i64,
    hours: Option<Hours>,
    day: DayOfAlerts,
    open: OpenEpisodes,
    history: Vec<Scored>,
    /// Highest score dropped from a full history, and when.
    history_dropped: Option<(u64, f64)>,
    totals: BudgetTotals,
}

impl Budget {
    /// A budget without a threshold: silent until the data support the asked rate.
    pub fn new(params: BudgetParams) -> Result<Self, BudgetError> {
        Ok(Budget {
            params: params.check()?,
            held_back: HeldBack::empty(),
            level: None,
            now_s: 0,
            clock_offset_s: 0,
            hours: None,
            day: DayOfAlerts::default(),
            open: OpenEpisodes::default(),
            history: Vec::new(),
            history_dropped: None,
            totals: BudgetTotals::default(),
        })
    }

    /// Solves the floor from held-back rows (in any order), and starts the threshold there.
    ///
    /// `k` episodes among `n` days support a threshold for later days as `k + 1` do (the conformal
    /// correction), so the held-back rows may give one episode less than the budget. Scores that
    /// are not finite are left out. Replaces an earlier calibration; alerts, open episodes and
    /// totals stay, so a new model does not reset the cap.
    pub fn calibrate(&mut self, held_back: &[Scored]) -> Support {
        let gap_s = self.params.merge_gap_s;
        let mut rows: Vec<_> = held_back.iter().copied().filter(|r| r.score.is_finite()).collect();
        rows.sort_unstable_by_key(|r| r.time_s);
        let mut known = HeldBack::empty();
        known.covered_s = solve::covered_s(rows.iter().map(|r| r.time_s), gap_s);
        rows.iter().for_each(|r| {
            known.scores.join(r.score);
        });
        self.held_back = known;
        self.level = None;
        self.history.clear();
        self.history_dropped = None;
        let support = self.support();
        if support.supported {
            let episodes = (self.params.episodes_per_day * support.held_back_days) as u64;
            let at_least = f64::NEG_INFINITY;
            let floor = solve::threshold(&mut rows, episodes.max(1) - 1, gap_s, at_least);
            self.start_level(floor);
        }
        support
    }

    /// Joins the score of a clean window of life to the held-back rows, while these do not yet
    /// support the asked rate; returns whether they do. The floor is set once, when they first do
    /// (at their highest score): a floor that followed the clean rows would turn into a quota.
    pub fn join(&mut self, time_s: u64, score: f64) -> bool {
        if self.level.is_some() {
            return true;
        }
        if !self.held_back.scores.join(score) {
            return false;
        }
        if let Some(last) = self.held_back.last_s {
            let gap = time_s.saturating_sub(last);
            self.held_back.covered_s += if gap <= self.params.merge_gap_s { gap } else { 0 };
        }
        self.held_back.last_s = Some(time_s);
        if self.support().supported
            && let Some(floor) = self.held_back.scores.maximum()
        {
            self.start_level(floor);
        }
        self.level.is_some()
    }

    /// What becomes of a scored window. `bypass`: past the cap it alerts all the same (an object,
    /// and a second family that agrees); it does not lower the threshold.
    pub fn observe(&mut self, time_s: u64, key: EpisodeKey, score: f64, bypass: bool) -> Decision {
        self.advance(time_s);
        let Some(level) = self.level else { return Decision::Silent };
        if !score.is_finite() {
            return Decision::Below;
        }
        if score > level.floor {
            self.remember(Scored { time_s: self.now_s, key, score });
        }
        if score <= level.threshold {
            return Decision::Below;
        }
        self.admit_now(key, score, bypass)
    }

    /// Takes a finding that another rule made (the provisional one): it merges and is capped like
    /// any other, but no threshold is asked.
    pub fn admit(&mut self, time_s: u64, key: EpisodeKey, score: f64, bypass: bool) -> Decision {
        self.advance(time_s);
        if score.is_finite() { self.admit_now(key, score, bypass) } else { Decision::Below }
    }

    /// Lets time pass without a window, so that a report is of now.
    pub fn advance(&mut self, time_s: u64) {
        let elapsed_s = self.step_clock(time_s);
        let start = self.level.map_or(0.0, |l| l.threshold);
        let now_s = self.now_s;
        let hours = self.hours.get_or_insert_with(|| Hours::starting(now_s, start));
        if elapsed_s <= self.params.merge_gap_s {
            hours.open.observed_s += elapsed_s as u32;
            self.totals.observed_s += elapsed_s;
        }
        if now_s - hours.open_since_s > (HOURS_KEPT as u64 + 1) * HOUR_S {
            *hours = Hours::starting(now_s, start);
        }
        while self.hours.as_ref().is_some_and(|h| self.now_s - h.open_since_s >= HOUR_S) {
            self.close_hour();
        }
        self.day.forget_before((self.now_s + 1).saturating_sub(DAY_S));
    }

    /// The score that a window must be strictly above to be a finding; `None` while unsupported.
    pub fn threshold(&self) -> Option<f64> {
        self.level.map(|l| l.threshold)
    }

    /// What the held-back data support.
    pub fn support(&self) -> Support {
        let held_back_days = self.held_back.covered_s as f64 / DAY_S as f64;
        let supported = self.params.episodes_per_day * held_back_days >= 1.0;
        Support { held_back_days, supported_per_day: 1.0 / held_back_days, supported }
    }

    /// Asked and achieved rates, and where the threshold stands.
    pub fn report(&self) -> BudgetReport {
        let per_day = |alerts: u64, observed_s: u64| {
            (observed_s > 0).then(|| alerts as f64 * DAY_S as f64 / observed_s as f64)
        };
        let week = self.hours.iter().flat_map(|h| h.last(HOURS_KEPT));
        let (week_alerts, week_observed_s) = week.fold((0, 0), |(alerts, observed_s), h| {
            (alerts + u64::from(h.alerts), observed_s + u64::from(h.observed_s))
        });
        BudgetReport {
            asked_per_day: self.params.episodes_per_day,
            achieved_per_day: per_day(self.totals.alerts, self.totals.observed_s),
            achieved_week_per_day: per_day(week_alerts, week_observed_s),
            alerts_last_day: self.day.alerts.len(),
            day_cap: self.params.day_cap(),
            support: self.support(),
            threshold: self.threshold(),
            floor: self.level.map(|l| l.floor),
            raised: self
                .level
                .map(|l| if l.range > 0.0 { (l.threshold - l.floor) / l.range } else { 0.0 }),
            open_episodes: self.open.count(self.now_s, self.params.merge_gap_s),
            totals: self.totals,
        }
    }

    fn start_level(&mut self, floor: f64) {
        let highest = self.held_back.scores.maximum().unwrap_or(floor);
        let median = self.held_back.scores.quantile(0.5).unwrap_or(floor);
        self.level = Some(Level { floor, threshold: floor, range: highest - median });
        if let Some(hours) = &mut self.hours {
            hours.open.threshold = floor;
            hours.closed.iter_mut().for_each(|h| h.threshold = floor);
        }
    }

    /// Steps the clock and returns the seconds that passed.
    fn step_clock(&mut self, time_s: u64) -> u64 {
        let first = self.hours.is_none();
        let shifted = time_s.saturating_add_signed(self.clock_offset_s);
        if !first && shifted.saturating_add(HOUR_S) < self.now_s {
            let back_s = i64::try_from(self.now_s - shifted).unwrap_or(i64::MAX);
            self.clock_offset_s = self.clock_offset_s.saturating_add(back_s);
            return 0;
        }
        let before = if first { shifted } else { self.now_s };
        // Far below the largest number, so that sums of times cannot overflow.
        self.now_s = shifted.max(before).min(u64::MAX / 4);
        self.now_s.saturating_sub(before)
    }

    fn remember(&mut self, row: Scored) {
        if self.history.len() >= MAX_HISTORY {
            self.history.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
            let dropped = self.history[MAX_HISTORY / 2].score;
            let before = self.history_dropped.map_or(dropped, |(_, score)| score);
            self.history_dropped = Some((self.now_s, dropped.max(before)));
            self.history.truncate(MAX_HISTORY / 2);
        }
        self.history.push(row);
    }

    fn admit_now(&mut self, key: EpisodeKey, score: f64, bypass: bool) -> Decision {
        let gap_s = self.params.merge_gap_s;
        let now_s = self.now_s;
        let is_new = match self.open.live(key, now_s, gap_s) {
            Some(episode) => {
                episode.last_s = now_s;
                if episode.alerted {
                    return Decision::Merged;
                }
                false
            }
            None => true,
        };
        let decision = self.decide(score, bypass);
        let alerted = matches!(decision, Decision::Alert { .. });
        self.open.open(key, Episode { last_s: now_s, alerted }, gap_s);
        self.count(decision, score, is_new);
        decision
    }

    fn decide(&self, score: f64, bypass: bool) -> Decision {
        let week = || self.hours.iter().flat_map(|h| h.last(HOURS_KEPT + 1));
        let day_full = self.day.alerts.len() >= self.params.day_cap();
        let week_full = week().map(|h| h.alerts as usize).sum::<usize>() >= self.params.week_cap();
        if !day_full && !week_full {
            return Decision::Alert { over_budget: false };
        }
        let above_day = !day_full || score > self.day.highest();
        let above_week = !week_full || week().filter_map(|h| h.highest).all(|h| score > h);
        if bypass || (above_day && above_week) {
            Decision::Alert { over_budget: true }
        } else {
            Decision::Suppressed
        }
    }

    fn count(&mut self, decision: Decision, score: f64, is_new: bool) {
        let Some(hours) = &mut self.hours else { return };
        let hour = &mut hours.open;
        if is_new {
            hour.episodes = hour.episodes.saturating_add(1);
        }
        match decision {
            Decision::Alert { over_budget } => {
                hour.alerts = hour.alerts.saturating_add(1);
                hour.highest = Some(hour.highest.map_or(score, |h| h.max(score)));
                self.day.add(self.now_s, score, self.params.day_cap());
                self.totals.alerts += 1;
                self.totals.over_budget += u64::from(over_budget);
            }
            Decision::Suppressed if is_new => self.totals.suppressed += 1,
            _ => {}
        }
    }

    /// Closes an hour: feedback, and each 24th time the daily solve.
    fn close_hour(&mut self) {
        let Some(hours) = &mut self.hours else { return };
        let Some(mut level) = self.level else { return hours.close(0.0) };
        let daily_move = self.params.daily_move * level.range;
        let asked = self.params.episodes_per_day * f64::from(hours.open.observed_s) / DAY_S as f64;
        let surplus = f64::from(hours.open.episodes) - asked;
        let gain = daily_move / (SURPLUS_FOR_DAILY_MOVE * self.params.episodes_per_day);
        let mut wanted = level.threshold + gain * surplus;
        if (hours.closed_total + 1).is_multiple_of(24) {
            let observed: u64 = hours.last(SOLVE_DAYS * 24).map(|h| u64::from(h.observed_s)).sum();
            wanted = wanted.max(self.solve_history(observed, level.floor));
        }
        let Some(hours) = &mut self.hours else { return };
        let (low, high) = hours.day_range();
        level.threshold = wanted.max(high - daily_move).min(low + daily_move).max(level.floor);
        hours.close(level.threshold);
        self.level = Some(level);
    }

    /// The threshold that would have held the budget over the last days of life.
    fn solve_history(&mut self, observed_s: u64, floor: f64) -> f64 {
        let since_s = self.now_s.saturating_sub(SOLVE_DAYS as u64 * DAY_S);
        self.history.retain(|row| row.time_s >= since_s);
        self.history_dropped = self.history_dropped.filter(|&(time_s, _)| time_s >= since_s);
        let at_least = self.history_dropped.map_or(floor, |(_, score)| score.max(floor));
        let episodes = self.params.episodes_per_day * observed_s as f64 / DAY_S as f64;
        solve::threshold(
            &mut self.history,
            episodes.round() as u64,
            self.params.merge_gap_s,
            at_least,
        )
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
