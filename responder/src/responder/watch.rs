//! Own watch: what somebody else changed of the deny programs and their maps.

use std::collections::HashSet;

use hedgerow_event::{Tampering, Target};

use super::Responder;
use crate::{
    Error,
    scope::{cgroup_of, scope},
};

impl Responder {
    /// Pins, links and maps that are no longer as they were left: a detached program, an entry or an
    /// allowance that no ledger line explains, one that was changed or taken out. By what entries are found is
    /// put back. The kill switch is an operator's, not part of it.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn tampered(&self) -> Result<Vec<Tampering>, Error> {
        let mut tampered = self.kernel.pins_tampered();
        let entries: Vec<_> = self.entries.values().collect();
        let targets = entries.iter().map(|entry| &entry.target).chain(&self.allowed);
        let cgroups: HashSet<u64> =
            targets.filter_map(|target: &Target| cgroup_of(target)).collect();
        let scopes = cgroups.into_iter().filter_map(|cgroup_id| {
            let (id, flags) = scope(cgroup_id, self.entries.values(), self.allowed.iter());
            (id != 0 || flags != 0).then_some((cgroup_id, id, flags))
        });
        tampered.extend(self.kernel.maps_tampered(&entries, &self.allowed, &scopes.collect())?);
        Ok(tampered)
    }
}
