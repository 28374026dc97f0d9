//! Own watch: what somebody else changed of Hedgerow in the kernel is a finding of the top severity.
//! It passes by the alert budget, also while learning: whoever blinds the sensor must not be able to
//! buy its silence.

use std::{collections::BTreeSet, sync::Arc};

use hedgerow_event::{Family, Finding, Maturity, Object, Subject, Tampering, Workload};
use hedgerow_responder::Alarm;

use super::alarm;
use crate::host::Host;

/// What has been told already. As many at most as there are hooks and maps.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<Tampering>);

impl Told {
    /// What was not there at the last look.
    pub fn fresh(&mut self, found: BTreeSet<Tampering>) -> Vec<Tampering> {
        let fresh = found.difference(&self.0).cloned().collect();
        self.0 = found;
        fresh
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
    fn a_change_is_told_once_and_again_when_it_comes_back() {
        let mut told = Told::default();
        let change = Tampering::new("program x at packets", "detached");
        let found = BTreeSet::from([change.clone()]);
        assert_eq!(told.fresh(found.clone()), vec![change.clone()]);
        assert!(told.fresh(found.clone()).is_empty());
        assert!(told.fresh(BTreeSet::new()).is_empty());
        assert_eq!(told.fresh(found), vec![change]);
    }
}
