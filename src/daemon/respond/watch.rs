//! Own watch: what somebody else changed of Hedgerow in the kernel is a finding of the top severity.
//! It passes by the alert budget, also while learning: whoever blinds the sensor must not be able to
//! buy its silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Family, Finding, Maturity, Object, Subject, Tampering, Workload};
use hedgerow_responder::Alarm;

use super::alarm;
use crate::host::Host;

/// What is changed again, having been as it was left meanwhile, is told again after this time.
const AGAIN_NS: u64 = 600_000_000_000;

/// What was found at the last look, and what is told lately. As many at most as there are hooks and maps.
#[derive(Debug, Default)]
pub struct Told {
    found: BTreeSet<Tampering>,
    untold: BTreeSet<Tampering>,
    told_boot_ns: BTreeMap<Tampering, u64>,
}

impl Told {
    /// What was not there at the last look; where it was told a moment ago, once that is long ago.
    pub fn fresh(&mut self, found: BTreeSet<Tampering>, boot_ns: u64) -> Vec<Tampering> {
        self.untold.extend(found.difference(&self.found).cloned());
        self.found = found;
        self.told_boot_ns.retain(|_, told| boot_ns.saturating_sub(*told) < AGAIN_NS);
        let is_late = |one: &Tampering| self.told_boot_ns.contains_key(one);
        let all = std::mem::take(&mut self.untold).into_iter();
        let (untold, fresh): (BTreeSet<_>, BTreeSet<_>) = all.partition(is_late);
        self.untold = untold;
        self.told_boot_ns.extend(fresh.iter().map(|one| (one.clone(), boot_ns)));
        fresh.into_iter().collect()
    }
}

/// The finding that accuses somebody else.
pub fn finding(
    tampering: Tampering,
    host: &Host,
    state: Maturity,
    model_id: &str,
    now_wall_ns: i64,
) -> Finding {
    let told = Alarm {
        workload: Workload::host(),
        reason: format!("somebody else changed Hedgerow in the kernel: {tampering}"),
    };
    let subject = Arc::new(Subject::host());
    Finding {
        families: vec![Family::Host],
        objects: vec![Object::Tampered { subject, tampering }],
        ..alarm::finding(&told, host, state, model_id, now_wall_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_again_when_it_comes_back_after_a_while() {
        let mut told = Told::default();
        let change = Tampering::new("program x at packets", "detached");
        let found = BTreeSet::from([change.clone()]);
        let mut fresh = |found: &BTreeSet<Tampering>, at| told.fresh(found.clone(), at);
        let none = BTreeSet::new();
        assert_eq!(fresh(&found, 1), vec![change.clone()]);
        assert!(fresh(&found, 2).is_empty() && fresh(&none, 3).is_empty());
        // Whoever changes it at each look is told now and then.
        assert!(fresh(&found, 4).is_empty() && fresh(&none, 5).is_empty());
        assert_eq!(fresh(&none, 1 + AGAIN_NS), vec![change.clone()]);
        assert!(fresh(&none, 1 + 3 * AGAIN_NS).is_empty(), "nobody did");
        assert_eq!(fresh(&found, 2 + 3 * AGAIN_NS), vec![change]);
    }
}
