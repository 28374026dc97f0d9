//! Whether a new entry may be made, and in which mode.

use hedgerow_event::{Mode, Rule, Target, Workload};

use super::{Alarm, Checked, Request, Responder};
use crate::{
    Error, Now, Refusal,
    entry::OPERATOR_MAX_S,
    kernel,
    ledger::Decision,
    target::{ROOT_CGROUP, canonical, same},
};

impl Responder {
    /// The request with its mode, or why there may be no entry.
    pub(super) fn check(&mut self, request: Request, now: Now) -> Result<Checked, Refusal> {
        let target = canonical(request.target)?;
        let ceiling = request.mode.unwrap_or(Mode::Enforce);
        let mode = if request.rule == Rule::Operator {
            if !(1..=OPERATOR_MAX_S).contains(&request.seconds) {
                let asked = request.seconds;
                return Err(Refusal::TooLong { asked, longest: OPERATOR_MAX_S });
            }
            self.admit_any(&target)?;
            let limit = self.options.limits.automatic + self.options.limits.reserve;
            if self.entries.len() >= limit {
                return Err(Refusal::Full { whose: "all", limit });
            }
            ceiling
        } else {
            let workload = request.subject.as_deref().map(|subject| subject.workload.clone());
            let workload = workload.unwrap_or_else(Workload::host);
            if self.spent.covers(&target, request.finding_uid.as_deref()) {
                return Err(Refusal::Spent);
            }
            if let Some(held) = self.held(&target) {
                return Err(Refusal::Covered { uid: held.uid.clone() });
            }
            let mode = self.admit_automatic(&target, &workload, ceiling, now)?;
            self.admit_another(&workload, now)?;
            mode
        };
        let id = kernel::random_id()?;
        Ok(Checked { id, request: Request { target, ..request }, mode, ceiling })
    }

    /// What holds for every entry.
    fn admit_any(&self, target: &Target) -> Result<(), Refusal> {
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
        Ok(())
    }

    /// What holds for an automatic entry, when it is asked for and again when it has waited.
    pub(super) fn admit_automatic(
        &self,
        target: &Target,
        workload: &Workload,
        ceiling: Mode,
        now: Now,
    ) -> Result<Mode, Refusal> {
        self.admit_any(target)?;
        if let Some(halted) = self.halted(now) {
            return Err(halted);
        }
        let mode = ceiling.min(self.mode(workload));
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
        match protected {
            Some(what) => Err(Refusal::Protected(format!("{target}: {what}"))),
            None => Ok(mode),
        }
    }

    /// Room for one more automatic entry of the workload; without it the breaker trips.
    fn admit_another(&mut self, workload: &Workload, now: Now) -> Result<(), Refusal> {
        let limits = self.options.limits;
        let live = self.entries.values().filter(|entry| entry.is_automatic()).count();
        if live + self.holds.len() >= limits.automatic {
            let full = Refusal::Full { whose: "automatic", limit: limits.automatic };
            self.trip(workload, &full, now)?;
            return Err(full);
        }
        match self.breaker.admit(workload, now.boot_ns, limits.per_minute) {
            Err(tripped @ Refusal::BreakerTripped { .. }) => {
                self.trip(workload, &tripped, now)?;
                Err(tripped)
            }
            admitted => admitted,
        }
    }

    /// Holds new automatic entries of the workload; an operator is told once, loudly.
    pub(super) fn trip(
        &mut self,
        workload: &Workload,
        why: &Refusal,
        now: Now,
    ) -> Result<(), Error> {
        if self.breaker.trip(workload) {
            let reason = why.to_string();
            let decision =
                Decision::Breaker { workload: workload.to_string(), reason: reason.clone() };
            self.log(now, decision)?;
            self.alarms.push(Alarm { workload: workload.clone(), reason });
        }
        Ok(())
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
