//! A budget as read from a file: checked before it may decide anything.

use super::*;

/// The fields of [`Budget`], unchecked.
#[derive(serde::Deserialize)]
pub(super) struct RawBudget {
    params: BudgetParams,
    held_back: HeldBack,
    level: Option<Level>,
    now_s: u64,
    clock_offset_s: i64,
    hours: Option<Hours>,
    day: DayOfAlerts,
    open: OpenEpisodes,
    history: Vec<Scored>,
    history_dropped: Option<(u64, f64)>,
    totals: BudgetTotals,
}

impl RawBudget {
    fn check(&self) -> Result<(), String> {
        self.params.check().map_err(|e| format!("budget: {e}"))?;
        let within = |time_s: u64| time_s <= self.now_s;
        let bounded = self.day.alerts.len()
            <= self.params.day_cap() + episodes::MAX_REMEMBERED_OVER_CAP
            && self.open.by_key.len() <= MAX_OPEN_EPISODES
            && self.history.len() <= MAX_HISTORY
            && self.hours.as_ref().is_none_or(|h| h.closed.len() <= HOURS_KEPT);
        if !bounded {
            return Err("budget: more entries than a limit allows".into());
        }
        let times_fit = self.now_s <= u64::MAX / 4
            && self.held_back.covered_s <= u64::MAX / 4
            && self.totals.observed_s <= u64::MAX / 4
            && self.totals.alerts <= u64::MAX / 4
            && self.totals.over_budget <= u64::MAX / 4
            && self.totals.suppressed <= u64::MAX / 4
            && self.day.alerts.iter().all(|&(t, _)| within(t))
            && self.open.by_key.values().all(|e| within(e.last_s))
            && self.history.iter().all(|row| within(row.time_s))
            && self.hours.as_ref().is_none_or(|h| {
                within(h.open_since_s)
                    && h.closed_total <= u64::MAX / 4
                    && h.last(HOURS_KEPT + 1).all(|h| h.observed_s <= 2 * DAY_S as u32)
            });
        if !times_fit {
            return Err("budget: a time lies after the state's own".into());
        }
        let scores = self.day.alerts.iter().map(|&(_, score)| score);
        let scores = scores.chain(self.history.iter().map(|row| row.score));
        let scores = scores.chain(self.history_dropped.map(|(_, score)| score));
        let scores = scores.chain(self.level.iter().flat_map(|l| [l.floor, l.threshold, l.range]));
        let hours = self.hours.iter().flat_map(|h| h.last(HOURS_KEPT + 1));
        let hours = hours.flat_map(|h| [Some(h.threshold), h.highest]).flatten();
        if !scores.chain(hours).all(f64::is_finite) {
            return Err("budget: a score is not finite".into());
        }
        let ordered = self.level.is_none_or(|l| l.threshold >= l.floor && l.range >= 0.0);
        if !ordered {
            return Err("budget: the threshold lies below its floor".into());
        }
        Ok(())
    }
}

impl TryFrom<RawBudget> for Budget {
    type Error = String;

    fn try_from(raw: RawBudget) -> Result<Self, Self::Error> {
        raw.check()?;
        Ok(Budget {
            params: raw.params,
            held_back: raw.held_back,
            level: raw.level,
            now_s: raw.now_s,
            clock_offset_s: raw.clock_offset_s,
            hours: raw.hours,
            day: raw.day,
            open: raw.open,
            history: raw.history,
            history_dropped: raw.history_dropped,
            totals: raw.totals,
        })
    }
}
