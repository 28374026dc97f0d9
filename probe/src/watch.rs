//! Own watch: whether hooks, maps and settings in the kernel are still as the sensor left them.
//!
//! What only user space writes is compared with what was written: the control word, the numbers of
//! workloads and services, the slots of programs once nothing is learned any more, the n-grams taken for known.
//! What the kernel itself writes (rows, sums, budgets, flows) can't be told from a foreign write,
//! but counters that run backwards can. What is told once (how interpreters name scripts) is frozen
//! in the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    os::fd::AsFd,
};

use hedgerow_event::Tampering;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapInfo};

use crate::{Error, Result, Stats, loader::Loaded};

/// What we wrote into a map that the kernel only reads. As bounded as the map itself: an entry that
/// the kernel refused is not kept.
#[derive(Debug, Default)]
pub struct Shadow {
    entries: HashMap<Vec<u8>, Vec<u8>>,
}

/// All at once: the kernel ends a batch before a bucket that doesn't fit, which looks like the end.
fn entries(map: &MapHandle, what: &'static str) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
    let batch = map.lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY);
    Ok(batch.map_err(Error::map(what))?.collect())
}

impl Shadow {
    /// As the map is now.
    pub fn of(map: &MapHandle, what: &'static str) -> Result<Self> {
        Ok(Self { entries: entries(map, what)? })
    }

    pub fn wrote(&mut self, key: &[u8], value: &[u8]) {
        self.entries.insert(key.to_vec(), value.to_vec());
    }

    pub fn removed(&mut self, key: &[u8]) {
        self.entries.remove(key);
    }

    /// What differs from what we wrote.
    fn look(&self, map: &MapHandle, what: &'static str) -> Result<Vec<Tampering>> {
        let found = entries(map, what)?;
        let told = |how: &str| Tampering::new(format!("map {what}"), how);
        let mut tampered = Vec::new();
        if found.keys().any(|key| !self.entries.contains_key(key)) {
            tampered.push(told("it has an entry that Hedgerow did not write"));
        }
        let differs = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            self.entries.get(key).is_some_and(|written| written != value)
        };
        if found.iter().any(differs) {
            tampered.push(told("an entry was changed"));
        }
        if self.entries.keys().any(|key| !found.contains_key(key)) {
            tampered.push(told("an entry was taken out"));
        }
        Ok(tampered)
    }
}

/// What the maps should hold.
#[derive(Debug, Default)]
pub struct Watch {
    pub workloads: Shadow,
    pub services: Shadow,
    /// Known only while nothing is learned: then the kernel adds none.
    pub programs: Option<Shadow>,
    /// Windows since learning ended.
    settled: u32,
    /// What was found at the last look.
    pub tampered: BTreeSet<Tampering>,
}

impl Watch {
    /// Compares the maps.
    pub fn look(&mut self, loaded: &Loaded, learning: bool) -> Result<Vec<Tampering>> {
        let mut tampered = self.workloads.look(&loaded.workloads, "workloads")?;
        tampered.extend(self.services.look(&loaded.services, "services")?);
        if learning {
            self.programs = None;
            self.settled = 0;
        } else if let Some(programs) = &self.programs {
            tampered.extend(programs.look(&loaded.programs, "programs")?);
        } else {
            self.settled += 1;
            // Programs that were being entered when learning ended are in after a window.
            if self.settled > 1 {
                self.programs = Some(Shadow::of(&loaded.programs, "programs")?);
            }
        }
        tampered.extend(rings(loaded)?);
        Ok(tampered)
    }
}

/// The array through which the kernel finds the ring of a CPU still leads to ours.
fn rings(loaded: &Loaded) -> Result<Option<Tampering>> {
    for (cpu, ring) in loaded.rings.iter().enumerate() {
        let ours = MapInfo::new(ring.as_fd()).map_err(Error::map("ring"))?.info.id;
        let key = (cpu as u32).to_ne_bytes();
        let found = loaded.ring_array.lookup(&key, MapFlags::ANY).map_err(Error::map("rings"))?;
        if found.as_deref() != Some(&ours.to_ne_bytes()) {
            let how = format!("the ring of CPU {cpu} is not Hedgerow's");
            return Ok(Some(Tampering::new("map rings", how)));
        }
    }
    Ok(None)
}

/// Counters only grow.
pub fn ran_backwards(before: &Stats, now: &Stats) -> Option<Tampering> {
    let counters = |stats: &Stats| {
        let Stats { sent, lost, uncharged, signals, calls_uncounted, spilled, .. } = *stats;
        [sent, lost, uncharged, signals, calls_uncounted, spilled]
    };
    let backwards = counters(now).iter().zip(counters(before)).any(|(now, before)| *now < before);
    backwards.then(|| Tampering::new("map stats", "counters ran backwards"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_run_backwards_are_told() {
        let before = Stats { sent: 5, lost: 3, ..Stats::default() };
        let now = Stats { sent: 6, lost: 3, ..before };
        assert_eq!(ran_backwards(&before, &now), None);
        assert!(ran_backwards(&now, &Stats { lost: 0, ..now }).is_some());
    }
}
