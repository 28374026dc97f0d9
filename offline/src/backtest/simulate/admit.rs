//! Whether there is room and reason for one more entry, as the responder has it.

use hedgerow_event::{Target, Workload};
use hedgerow_responder::Now;

use super::{Live, ProcessKey, Simulation};

impl Simulation<'_> {
    /// Whether a live entry stops a target already: the same, or a tree that it is in.
    pub(super) fn covers(&self, live: &Live, target: &Target) -> bool {
        match (&live.entry.target, target) {
            (
                Target::TaskTree { tgid, start_boot_ns },
                Target::TaskTree { tgid: inner, start_boot_ns: inner_start },
            ) => self.line((*inner, *inner_start)).contains(&(*tgid, *start_boot_ns)),
            (
                Target::Program { cgroup_id: a, file, .. },
                Target::Program { cgroup_id: b, file: other, .. },
            ) => a == b && file == other,
            (live, target) => live == target,
        }
    }

    /// Whether a live entry denies who called a peer as a whole.
    pub(super) fn is_within(&self, live: &Live, target: &Target, process: ProcessKey) -> bool {
        let Target::TaskTree { tgid, start_boot_ns } = &live.entry.target else { return false };
        matches!(target, Target::Peer { .. })
            && self.line(process).contains(&(*tgid, *start_boot_ns))
    }

    /// A process with those above it.
    pub(super) fn line(&self, key: ProcessKey) -> Vec<ProcessKey> {
        std::iter::successors(Some(key), |key| self.parents.get(key).copied()).take(64).collect()
    }

    /// Room for one more entry of a workload, as the responder has it: without room, and past the rate,
    /// its breaker trips, which stops wide ones until somebody resets it.
    pub(super) fn admit(
        &mut self,
        workload: &Workload,
        target: &Target,
        wide: bool,
        now: Now,
    ) -> Result<(), String> {
        let protected = match target {
            Target::Peer { address, prefix_length, .. } => {
                self.protected.prefix(workload, *address, *prefix_length, now.wall_ns)
            }
            Target::TaskTree { tgid, .. } => self.protected.task(*tgid).map(str::to_owned),
            Target::Program { .. } | Target::Cgroup { .. } | Target::User { .. } => None,
        };
        if let Some(what) = protected {
            return Err(format!("{target}: {what}"));
        }
        let of = |live: &&Live| {
            let whose = live.entry.subject.as_ref().map(|subject| subject.workload.owner());
            whose == Some(workload.owner())
        };
        let (own, taken) = (self.live.iter().filter(of).count(), self.live.len());
        if !self.limits.has_share(own, taken) {
            self.breaker.trip(workload);
            return Err(format!(
                "{workload} has {own} of the {taken} places that are taken, which is all that it \
                 leaves to the others"
            ));
        }
        if !self.breaker.count(workload, now.boot_ns, self.limits.per_minute) {
            self.breaker.trip(workload);
        }
        if wide && self.breaker.is_tripped(workload) {
            return Err(format!("the breaker of {workload} is tripped: nothing wide"));
        }
        Ok(())
    }
}
