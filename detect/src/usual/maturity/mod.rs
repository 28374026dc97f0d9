//! How complete is what was learned? Good-Turing estimation by incidence.
//!
//! Things (n-grams of a program; programs, children, peers, ports of a host) are seen in *units*
//! (windows, processes, traces, hours). With `f1` things seen in exactly one unit, `f2` in exactly
//! two, and `T` units:
//!
//! - the next unit brings `f1 / T` things that no unit had (Good 1953; Chao and Jost 2012 for
//!   incidence), which is a share `f1 / incidences` of the distinct things in it;
//! - at least `f1² / (2 f2)` things are still unseen (Chao 1987), and the next `t` units bring
//!   `f0 (1 - (1 - f1 / (T f0 + f1))^t)` of them (Colwell et al. 2012).
//!
//! Units, not single calls: novelty comes in bursts, and counting by call forecasts two to four
//! times too little of it. Shares are of *distinct* things; the share of calls is lower, since what
//! is new is also rare, so the forecast errs towards caution there.

mod counter;
mod state;

pub use counter::{IncidenceCounter, MAX_THINGS};
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
    /// Things seen in exactly two units (f2).
    pub twice: u64,
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
    /// Things still unseen, at least.
    pub unseen: f64,
    /// Units that the forecast rests on.
    pub units: u64,
}

impl Forecast {
    /// Things never seen that the next `units` units bring together. Far beyond the units seen so
    /// far this is a lower bound, like [`Forecast::unseen`].
    pub fn new_within(&self, units: f64) -> f64 {
        if self.unseen <= 0.0 {
            return 0.0;
        }
        let seen_units = self.units as f64;
        let once = self.new_per_unit * seen_units;
        let missed = (1.0 - once / (seen_units * self.unseen + once)).powf(units.max(0.0));
        self.unseen * (1.0 - missed)
    }
}

impl Incidence {
    /// The forecast, from [`MIN_UNITS`] units on.
    pub fn forecast(&self) -> Option<Forecast> {
        if self.units < MIN_UNITS {
            return None;
        }
        let (units, once, twice) = (self.units as f64, self.once as f64, self.twice as f64);
        // Chao2, with the bias-corrected form where nothing was seen twice.
        let pairs = if self.twice > 0 {
            once * once / (2.0 * twice)
        } else {
            once * (once - 1.0).max(0.0) / 2.0
        };
        Some(Forecast {
            new_per_unit: once / units,
            new_share: if self.total == 0 { 0.0 } else { (once / self.total as f64).min(1.0) },
            unseen: pairs * (units - 1.0) / units,
            units: self.units,
        })
    }
}

#[cfg(test)]
mod tests;
