//! How complete is what was learned? Good-Turing estimation by incidence.
//!
//! Things (n-grams of a program; programs and peers of a workload) are seen in *units* (windows,
//! processes, traces, hours). With `f1` things seen in exactly one unit, and `T` units, the next unit
//! brings `f1 / T` things that no unit had (Good 1953; Chao and Jost 2012 for incidence), which is a share
//! `f1 / incidences` of the distinct things in it.
//!
//! Units, not single calls: novelty comes in bursts, and counting by call forecasts two to four
//! times too little of it. Shares are of *distinct* things; the share of calls is lower, since what
//! is new is also rare, so the forecast errs towards caution there.

mod state;

pub use state::{Learned, Maturity, MaturityRule, maturity};

/// Fewest units from which anything is forecast. Below, the estimate's own error is larger than
/// what it tells.
pub const MIN_UNITS: u64 = 100;

/// In how many units things were seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Incidence {
    /// Units.
    pub units: u64,
    /// Things seen in exactly one unit (f1).
    pub once: u64,
    /// Sum over the units of the distinct things in each.
    pub total: u64,
}

/// Novelty that normal life will still bring.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Forecast {
    /// Things never seen that the next unit brings, on average.
    pub new_per_unit: f64,
    /// Share of the next unit's distinct things that were never seen, 0 to 1.
    pub new_share: f64,
    /// Units that the forecast rests on.
    pub units: u64,
}

impl Incidence {
    /// The forecast, from [`MIN_UNITS`] units on.
    pub fn forecast(&self) -> Option<Forecast> {
        if self.units < MIN_UNITS {
            return None;
        }
        let (units, once) = (self.units as f64, self.once as f64);
        Some(Forecast {
            new_per_unit: once / units,
            new_share: if self.total == 0 { 0.0 } else { (once / self.total as f64).min(1.0) },
            units: self.units,
        })
    }
}

#[cfg(test)]
mod tests;
