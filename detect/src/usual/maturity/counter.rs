//! Counting in how many units each thing was seen.

use super::Incidence;
use std::collections::BTreeMap;

/// Most things that one counter tells apart. When full, a thing that it does not know counts as
/// seen once for every unit that it appears in: what is not remembered never matures.
pub const MAX_THINGS: usize = 65_536;

/// Counts in how many units (hours, say) each thing was seen, in bounded memory.
///
/// For n-grams the bitmaps of the profile do this; the counter is for what is first seen rarely:
/// programs, parent-child pairs, peers, ports, path prefixes. Things are stable 64-bit hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "RawCounter")]
pub struct IncidenceCounter {
    seen: BTreeMap<u64, Seen>,
    unit: u64,
    started: bool,
    incidence: Incidence,
    refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Seen {
    last_unit: u64,
    /// Saturates at three: only once and twice are asked for.
    units: u8,
}

impl IncidenceCounter {
    /// Begins a unit (hours since the epoch, say) if it is not the one already begun. Units in
    /// which nothing was observed are not to be begun. Numbers must not fall; a lower one counts
    /// as the current unit.
    pub fn begin(&mut self, unit: u64) {
        if !self.started || unit > self.unit {
            self.started = true;
            self.unit = unit;
            self.incidence.units += 1;
        }
    }

    /// Sees a thing in the unit begun last; returns whether no earlier look, in this unit or
    /// another, had seen it (always, for a thing that found no room).
    pub fn see(&mut self, thing: u64) -> bool {
        let full = self.seen.len() >= MAX_THINGS;
        let Some(seen) = self.seen.get_mut(&thing) else {
            self.incidence.total += 1;
            self.incidence.once += 1;
            if full {
                self.refused += 1;
            } else {
                self.seen.insert(thing, Seen { last_unit: self.unit, units: 1 });
            }
            return true;
        };
        if seen.last_unit < self.unit {
            seen.last_unit = self.unit;
            self.incidence.total += 1;
            match seen.units {
                1 => {
                    self.incidence.once -= 1;
                    self.incidence.twice += 1;
                    seen.units = 2;
                }
                2 => {
                    self.incidence.twice -= 1;
                    seen.units = 3;
                }
                _ => {}
            }
        }
        false
    }

    /// Whether a thing has been seen (and found room).
    pub fn knows(&self, thing: u64) -> bool {
        self.seen.contains_key(&thing)
    }

    /// Units, and things seen in one and in two of them.
    pub fn incidence(&self) -> Incidence {
        self.incidence
    }

    /// Looks at things that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
#[derive(serde::Deserialize)]
struct RawCounter {
    seen: BTreeMap<u64, Seen>,
    unit: u64,
    started: bool,
    incidence: Incidence,
    refused: u64,
}
impl TryFrom<RawCounter> for IncidenceCounter {
    type Error = &'static str;

    fn try_from(raw: RawCounter) -> Result<Self, Self::Error> {
        if raw.seen.len() > MAX_THINGS {
            return Err("incidence counter: too many things");
        }
        let of = |units: u8| raw.seen.values().filter(|s| s.units == units).count() as u64;
        let half = u64::MAX / 2;
        let Incidence { units, once, twice, total } = raw.incidence;
        let consistent = raw.refused < half
            && units < half
            && total < half
            && once == of(1) + raw.refused
            && twice == of(2)
            && raw.seen.values().all(|s| (1..=3).contains(&s.units) && s.last_unit <= raw.unit);
        if !consistent {
            return Err("incidence counter: counts contradict each other");
        }
        Ok(IncidenceCounter {
            seen: raw.seen,
            unit: raw.unit,
            started: raw.started,
            incidence: raw.incidence,
            refused: raw.refused,
        })
    }
}
