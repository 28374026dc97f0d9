//! Whether a new entry may be made, and in which mode.

use hedgerow_event::{Mode, Rule, Subject, Target, Workload};

use super::Responder;
use crate::{
    Error, Refusal,
    target::{ROOT_CGROUP, same},
};

impl Responder {
    /// The mode of the new entry, or why there may be none.
    pub(super) fn admit(
        &mut self,
        target: &Target,
        rule: Rule,
        mode: Option<Mode>,
        subject: Option<&Subject>,
        now: crate::Now,
    ) -> Result<Mode, Refusal> {
        if !self.is_armed()? {
            return Err(Refusal::Disarmed);
        }
        if let Some(what) = self.own.inside(target) {
            return Err(Refusal::Protected(what.into()));
        }
        if let Target::TaskTree { tgid, start_boot_ns } = target {
            // An unknown process is one that the table had no room for.
            if self.start_of(*tgid)?.is_some_and(|start| start != *start_boot_ns) {
                return Err(Refusal::BadTarget(format!("process {tgid} is another by now")));
            }
        }
        if let Some(live) = self.covering(target)? {
            return Err(Refusal::Covered { uid: live });
        }
        let limits = self.options.limits;
        if rule == Rule::Operator {
            let limit = limits.automatic + limits.reserve;
            if self.entries.len() >= limit {
                return Err(Refusal::Full { whose: "all", limit });
            }
            return Ok(mode.unwrap_or(Mode::Enforce));
        }
        let host = Workload::host();
        let workload = subject.map_or(&host, |subject| &subject.workload);
        let mode = mode.unwrap_or_else(|| self.mode(workload)).min(self.mode(workload));
        if mode == Mode::Observe {
            return Err(Refusal::Observe(workload.to_string()));
        }
        let protected = match target {
            Target::Peer { address, prefix_length, .. } => {
                self.protected.prefix(workload, *address, *prefix_length, now.wall_ns)
            }
            Target::TaskTree { tgid, .. } => self.protected.task(*tgid).map(str::to_owned),
            Target::Program { cgroup_id: ROOT_CGROUP, .. } => Some("the root cgroup".to_owned()),
            Target::Program { .. } | Target::Cgroup { .. } => None,
        };
        if let Some(what) = protected {
            return Err(Refusal::Protected(format!("{target}: {what}")));
        }
        let automatic = self.entries.values().filter(|entry| entry.is_automatic()).count();
        if automatic >= limits.automatic {
            return Err(Refusal::Full { whose: "automatic", limit: limits.automatic });
        }
        self.breaker.admit(workload, now.boot_ns, limits.per_minute)?;
        Ok(mode)
    }

    /// The live entry that stops the target already.
    fn covering(&self, target: &Target) -> Result<Option<String>, Error> {
        if let Some(entry) = self.entries.values().find(|entry| same(&entry.target, target)) {
            return Ok(Some(entry.uid.clone()));
        }
        if let Target::TaskTree { tgid, start_boot_ns } = target {
            let id = self.kernel.tree_of(*tgid, *start_boot_ns)?;
            return Ok(id.and_then(|id| self.entries.get(&id)).map(|entry| entry.uid.clone()));
        }
        Ok(None)
    }
}
