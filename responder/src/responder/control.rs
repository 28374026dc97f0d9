//! What an operator sets: modes, allowances, the kill switch.

use hedgerow_event::{Action, Mode, Remediation, Target, Workload};

use super::Responder;
use crate::{
    Error, Refusal,
    entry::Entry,
    kernel::{self, Insert},
    ledger::Decision,
    target::same,
};

impl Responder {
    pub fn mode(&self, workload: &Workload) -> Mode {
        self.modes.get(workload).copied().unwrap_or(self.options.mode)
    }

    /// Sets a workload's mode and resets its breaker. Live automatic entries of the workload follow:
    /// `observe` lifts them, the others rewrite what the kernel does with a hit.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn set_mode(&mut self, workload: Workload, mode: Mode) -> Result<Vec<Remediation>, Error> {
        let now = kernel::now();
        self.breaker.reset(&workload);
        self.log(now, Decision::Mode { workload: workload.to_string(), mode })?;
        let host = Workload::host();
        let follows =
            |entry: &Entry| entry.is_automatic() && entry.workload().unwrap_or(&host) == &workload;
        let ids: Vec<u64> =
            self.entries.values().filter(|entry| follows(entry)).map(|entry| entry.id).collect();
        let mut reports = Vec::new();
        for id in ids {
            if mode == Mode::Observe {
                reports.push(self.lift(id, now, "the workload's mode is observe")?);
            } else if let Some(mut entry) = self.entries.get(&id).cloned() {
                entry.mode = mode;
                self.kernel.refresh(&entry)?;
                let why = self.cut(&mut entry)?;
                let report = self.report(&entry, Action::Block, now, &why);
                let period_s = entry.period_s;
                self.entries.insert(id, entry);
                self.log(now, Decision::Extend { entry: report.clone(), period_s })?;
                reports.push(report);
            }
        }
        self.modes.insert(workload, mode);
        Ok(reports)
    }

    /// Sets the mode of all workloads, those that had one of their own included; live automatic
    /// entries follow.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn set_default_mode(&mut self, mode: Mode) -> Result<Vec<Remediation>, Error> {
        self.log(kernel::now(), Decision::Mode { workload: "*".to_owned(), mode })?;
        let mut workloads: Vec<Workload> =
            self.modes.drain().map(|(workload, _)| workload).collect();
        workloads.extend(self.entries.values().filter_map(|entry| entry.workload().cloned()));
        workloads.sort();
        workloads.dedup();
        self.options.mode = mode;
        let mut reports = Vec::new();
        for workload in workloads {
            reports.extend(self.set_mode(workload, mode)?);
        }
        Ok(reports)
    }

    /// Lets a peer, a program or a cgroup through whatever entry says otherwise, or no longer.
    ///
    /// # Errors
    /// Not a target that can be allowed (a task tree), or the map is full.
    pub fn allow(&mut self, target: Target, allowed: bool) -> Result<(), Refusal> {
        let target = crate::allow::canonical(target)?;
        if allowed && !self.allowed.iter().any(|other| same(other, &target)) {
            if self.kernel.maps.allow(&target, true)? == Insert::Full {
                return Err(Refusal::Full { whose: "allowed", limit: self.allowed.len() });
            }
            self.allowed.push(target.clone());
        } else if !allowed {
            self.kernel.maps.allow(&target, false)?;
            self.allowed.retain(|other| !same(other, &target));
        }
        self.rescope(&target)?;
        self.log(kernel::now(), Decision::Allow { target, allowed })?;
        Ok(())
    }

    pub fn allowed(&self) -> &[Target] {
        &self.allowed
    }

    /// Workloads whose breaker has tripped.
    pub fn tripped(&self) -> Vec<&Workload> {
        self.breaker.tripped().collect()
    }

    /// Whether the kill switch lets entries act.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn is_armed(&self) -> Result<bool, Error> {
        self.kernel.maps.is_armed()
    }

    /// Throws the kill switch: every deny program lets everything pass until [`Self::arm`], also
    /// over a stop and start.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn disarm(&mut self) -> Result<(), Error> {
        self.set_armed(false)
    }

    /// Lets live entries act again.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn arm(&mut self) -> Result<(), Error> {
        self.set_armed(true)
    }

    fn set_armed(&mut self, armed: bool) -> Result<(), Error> {
        self.kernel.maps.set_armed(armed)?;
        self.note_armed()
    }

    /// Writes the kill switch down where it was thrown since: a stop and start must not undo it.
    pub(super) fn note_armed(&mut self) -> Result<(), Error> {
        let armed = self.is_armed()?;
        if armed != self.armed {
            self.armed = armed;
            self.log(kernel::now(), Decision::Armed { armed })?;
        }
        Ok(())
    }
}
