//! Learning, provisional, mature.

use super::{Forecast, Incidence, MIN_UNITS};

/// How sure a profile may be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Maturity {
    /// What is known is still being written: no signal may come of it.
    Learning,
    /// Frozen, but too few units were seen for a forecast, or it is above what can be borne.
    Provisional,
    /// Little novelty is left to come.
    Mature,
}

/// What can be borne of normal novelty. The budget of alerts has no part in it: a denial hangs on this,
/// and is not alerting.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MaturityRule {
    /// Fewest units of each kind; at least [`MIN_UNITS`] are asked for in any case.
    pub min_units: u64,
    /// Largest forecast share of a unit's distinct n-grams that were never seen. Scores are
    /// calibrated on held-back windows against the same frozen profile, so this only has to
    /// exclude profiles whose novelty is still ruled by what they have not seen.
    pub max_new_share: f64,
    /// Largest forecast number of programs and peers first seen a day: a new peer of a new program
    /// is what a denial may rest on.
    pub max_first_seen_per_day: f64,
}

impl Default for MaturityRule {
    /// 500 units, from which on the forecast is worth its name (`scripts/eval-model` measures it), one
    /// n-gram in a hundred, and one program or peer a day.
    fn default() -> Self {
        MaturityRule { min_units: 500, max_new_share: 0.01, max_first_seen_per_day: 1.0 }
    }
}

/// What is known about a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// What is known is frozen: fill is over.
    pub frozen: bool,
    /// n-grams of the program, by window; `None` where there are none to learn (a host).
    pub grams: Option<Incidence>,
    /// Programs and peers of the workload or host, by hour.
    pub first_seen: Option<Incidence>,
}

/// The state of a profile:
///
/// - *learning* until what is known is frozen;
/// - *mature* if every kind of novelty that applies has a forecast, from at least
///   [`MaturityRule::min_units`] windows (hours: [`MIN_UNITS`]), below what the rule allows;
/// - *provisional* otherwise, and if nothing at all has a forecast.
pub fn maturity(learned: &Learned, rule: &MaturityRule) -> Maturity {
    if !learned.frozen {
        return Maturity::Learning;
    }
    let bearable =
        |incidence: Option<Incidence>, min_units: u64, check: &dyn Fn(Forecast) -> bool| {
            incidence.map(|i| i.units >= min_units && i.forecast().is_some_and(check))
        };
    let min_units = rule.min_units.max(MIN_UNITS);
    let grams = bearable(learned.grams, min_units, &|f| f.new_share <= rule.max_new_share);
    let per_day = |f: Forecast| f.new_per_unit * 24.0 <= rule.max_first_seen_per_day;
    let first_seen = bearable(learned.first_seen, MIN_UNITS, &per_day);
    let known = [grams, first_seen];
    let all_bearable = known.iter().flatten().all(|&b| b) && known.iter().any(Option::is_some);
    if all_bearable { Maturity::Mature } else { Maturity::Provisional }
}
