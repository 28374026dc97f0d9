//! What an operator sets: modes, allowances, the kill switch.

use std::collections::BTreeMap;

use hedgerow_event::{Action, Mode, Remediation, Target, Workload};

use super::Responder;
use crate::{
    Error, Now, Refusal,
    adopt::is_scoped,
    coverage::Coverage,
    entry::Entry,
    grounds::{self, Grounds, Seen},
    kernel::{self, Insert},
    ledger::Decision,
    standing::Standing,
    target::same,
};

impl Responder {
    /// How far the workload's entries may go, as ordered. Kept over restarts and reboots.
    pub fn mode(&self, workload: &Workload) -> Mode {
        self.standing.modes.get(workload).copied().unwrap_or_else(|| self.default_mode())
    }

    /// The mode of workloads without one of their own.
    pub fn default_mode(&self) -> Mode {
        self.standing.default_mode(self.options.mode_now, self.options.mode)
    }

    /// Workloads with a mode of their own.
    pub fn modes(&self) -> &BTreeMap<Workload, Mode> {
        &self.standing.modes
    }

    /// What decisions rest on now; `seen` adds what was seen before.
    pub fn grounds(&self, enforce_provisional: bool, seen: bool) -> Grounds {
        Grounds {
            version: grounds::VERSION,
            mode: self.default_mode(),
            modes: self.modes().clone(),
            enforce_provisional,
            tripped: self.tripped().into_iter().cloned().collect(),
            facts: self.protected.facts(),
            seen: seen.then(|| Seen::of(self.coverage(), &self.protected)),
        }
    }

    /// Sets a workload's mode and resets its breaker. Live automatic entries of the workload follow:
    /// `observe` lifts them, the others rewrite what the kernel does with a hit, within what each
    /// entry may do.
    ///
    /// # Errors
    /// The kernel, the ledger or the file of orders fails.
    pub fn set_mode(&mut self, workload: Workload, mode: Mode) -> Result<Vec<Remediation>, Error> {
        let now = kernel::now();
        self.log(now, Decision::Mode { workload: workload.to_string(), mode });
        self.standing.modes.insert(workload.clone(), mode);
        let reports = self.apply_mode(&workload, mode, now)?;
        self.save_order(reports)
    }

    /// Sets the mode of all workloads, those that had one of their own included, and forgives wrong
    /// entries; live automatic entries follow. A workload that a wrong entry put back to monitor
    /// does not rise with the others: it must be named.
    ///
    /// # Errors
    /// The kernel, the ledger or the file of orders fails.
    pub fn set_default_mode(&mut self, mode: Mode) -> Result<Vec<Remediation>, Error> {
        let now = kernel::now();
        self.log(now, Decision::Mode { workload: "*".to_owned(), mode });
        self.forgive(now)?;
        let mut workloads: Vec<Workload> = self.standing.modes.keys().cloned().collect();
        workloads.extend(self.entries.values().filter_map(|entry| entry.workload().cloned()));
        workloads.push(Workload::host());
        workloads.sort();
        workloads.dedup();
        let put_back = |workload: &Workload| {
            self.standing.wrong.iter().any(|wrong| &wrong.workload == workload)
        };
        let mut kept = std::mem::take(&mut self.standing.modes);
        kept.retain(|workload, own| *own < mode && put_back(workload));
        self.standing.modes = kept;
        self.standing.mode = Some(mode);
        self.options.mode_now = None;
        self.breaker.reset_all();
        let mut reports = Vec::new();
        for workload in workloads {
            reports.extend(self.apply_mode(&workload, self.mode(&workload), now)?);
        }
        self.save_order(reports)
    }

    fn apply_mode(
        &mut self,
        workload: &Workload,
        mode: Mode,
        now: Now,
    ) -> Result<Vec<Remediation>, Error> {
        self.breaker.reset(workload);
        self.follow_mode(workload, mode)?;
        let host = Workload::host();
        let follows =
            |entry: &&Entry| entry.is_automatic() && entry.workload().unwrap_or(&host) == workload;
        let ids: Vec<u64> = self.entries.values().filter(follows).map(|entry| entry.id).collect();
        let mut reports = Vec::new();
        for id in ids {
            if mode == Mode::Observe {
                reports.push(self.lift(id, now, "the workload's mode is observe")?);
                continue;
            }
            let Some(mut entry) = self.entries.get(&id).cloned() else { continue };
            if entry.mode == mode.min(entry.ceiling) {
                continue;
            }
            entry.mode = mode.min(entry.ceiling);
            self.kernel.refresh(&entry)?;
            if let Target::TaskTree { tgid, start_boot_ns } = entry.target {
                // Who found no room while it only counted.
                self.kernel.spread(tgid, start_boot_ns, id)?;
            }
            let why = self.cut(&mut entry)?;
            let report = self.report(&entry, Action::Block, now, &why);
            let period_s = entry.period_s;
            self.entries.insert(id, entry);
            self.log(now, Decision::Extend { entry: report.clone(), period_s });
            reports.push(report);
        }
        self.pardon()?;
        Ok(reports)
    }

    /// Adds what was watched of the week, see [`crate::coverage`].
    pub fn watch<'a>(
        &mut self,
        now: Now,
        seconds: u32,
        workloads: impl IntoIterator<Item = &'a Workload>,
    ) {
        let Standing { coverage, modes, .. } = &mut self.standing;
        if coverage.watch(now.wall_ns, seconds, workloads, |one| modes.contains_key(one)) {
            self.save();
        }
    }

    pub fn coverage(&self) -> &Coverage {
        &self.standing.coverage
    }

    /// Lets a peer, a program or a cgroup through whatever entry says otherwise, or no longer.
    ///
    /// # Errors
    /// Not a target that can be allowed (a task tree), or the map is full.
    pub fn allow(&mut self, target: Target, allowed: bool) -> Result<(), Refusal> {
        let target = crate::allow::canonical(target, allowed)?;
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
        self.kernel.ask(self.entries.values(), &self.allowed)?;
        if !is_scoped(&target) {
            self.standing.allowed.retain(|other| !same(other, &target));
            self.standing.allowed.extend(allowed.then(|| target.clone()));
            self.save_order(Vec::new())?;
        }
        self.log(kernel::now(), Decision::Allow { target, allowed });
        Ok(())
    }

    pub fn allowed(&self) -> &[Target] {
        &self.allowed
    }

    /// Workloads whose breaker has tripped.
    pub fn tripped(&self) -> Vec<&Workload> {
        self.breaker.tripped().iter().collect()
    }

    /// Whether the kill switch lets entries act.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn is_armed(&self) -> Result<bool, Error> {
        self.kernel.maps.is_armed()
    }
}
