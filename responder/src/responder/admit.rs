//! Whether a new entry may be made, and in which mode.

use hedgerow_bpf::wire;
use hedgerow_event::{Mode, Rule, Target, Workload};

use super::{Alarm, Checked, Responder};
use crate::{
    Error, Now, Refusal,
    entry::{OPERATOR_MAX_S, Request},
    hold::{Hold, is_narrow},
    kernel,
    ledger::Decision,
    sockets,
    target::{canonical, same},
    unit::{self, Forker},
};

impl Responder {
    /// The request with its mode, or why there may be no entry.
    pub(super) fn check(&mut self, request: Request, now: Now) -> Result<Checked, Refusal> {
        let target = canonical(request.target.clone())?;
        let mut request = Request { target, ..request };
        let target = request.target.clone();
        let ceiling = request.mode.unwrap_or(Mode::Enforce);
        let mut wide = !is_narrow(&target);
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
            if self.spent.covers(&request) {
                return Err(Refusal::Spent);
            }
            if let Some(held) = self.held(&target) {
                return Err(Refusal::Covered { uid: held.uid.clone() });
            }
            let mode = self.admit_automatic(&target, &workload, ceiling, now)?;
            if let Some(uid) = self.within(&request, mode)? {
                return Err(Refusal::Covered { uid });
            }
            self.admit_another(&workload, now)?;
            if let Some(what) = self.serves(&target, now)? {
                request.reason += &format!("; {what}");
                wide = true;
            }
            if wide {
                self.admit_wide(&workload)?;
            }
            mode
        };
        let id = kernel::random_id()?;
        Ok(Checked { id, request, mode, ceiling, wide })
    }

    /// What holds for every entry.
    fn admit_any(&self, target: &Target) -> Result<(), Refusal> {
        if !self.is_armed()? {
            return Err(Refusal::Disarmed);
        }
        if let Some(what) = self.own.inside(target) {
            return Err(Refusal::Protected(what.into()));
        }
        if let Some(what) = self.never(target)? {
            return Err(Refusal::Protected(what));
        }
        if let Some(live) = self.covering(target)? {
            return Err(Refusal::Covered { uid: live });
        }
        Ok(())
    }

    /// Whom an order may not name, also not by force.
    fn never(&self, target: &Target) -> Result<Option<String>, Error> {
        Ok(match target {
            Target::User { uid } => match self.protected.users() {
                None => Some(format!("user {uid}: who is who on this host is not read yet")),
                _ if self.by.is_some_and(|by| by.login_uid == Some(*uid)) => {
                    Some(format!("user {uid} is who orders it"))
                }
                Some(users) => users.never(*uid).map(|what| format!("user {uid} is {what}")),
            },
            Target::Program { file, .. } => {
                let own = self.kernel.program_of(std::process::id())?;
                own.is_some_and(|(_, own)| own == *file).then(|| "Hedgerow".to_owned())
            }
            _ => None,
        })
    }

    /// Why an order against a user is made by force alone.
    pub fn risk(&self, uid: u32) -> Option<&'static str> {
        let login = self.by.and_then(|by| by.login_uid);
        self.protected.users()?.risk(uid, login)
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
            // What costs so much is an operator's to say.
            Target::User { .. } | Target::Program { network: true, .. } => {
                Some("no finding denies it".to_owned())
            }
            Target::Program { .. } | Target::Cgroup { .. } => None,
        };
        match protected {
            Some(what) => Err(Refusal::Protected(format!("{target}: {what}"))),
            None => Ok(mode),
        }
    }

    /// Room for one more automatic entry of the workload. The breaker trips without it, and past the
    /// rate; a tripped one holds wide entries and lets narrow ones go on.
    fn admit_another(&mut self, workload: &Workload, now: Now) -> Result<(), Refusal> {
        let limits = self.options.limits;
        let host = Workload::host();
        let live = self.entries.values().filter(|entry| entry.is_automatic());
        let of: Vec<Workload> = live
            .map(|entry| entry.workload().unwrap_or(&host).clone())
            .chain(self.holds.iter().map(Hold::workload))
            .collect();
        let own = of.iter().filter(|other| other.owner() == workload.owner()).count();
        if !limits.has_share(own, of.len()) {
            let full = Refusal::Share { workload: workload.to_string(), own, taken: of.len() };
            self.trip(workload, &full, now)?;
            return Err(full);
        }
        let per_minute = limits.per_minute;
        if !self.breaker.count(workload, now.boot_ns, per_minute) {
            let tripped = Refusal::BreakerTripped { workload: workload.to_string(), per_minute };
            self.trip(workload, &tripped, now)?;
        }
        Ok(())
    }

    /// Nothing wide while the workload's breaker is tripped.
    pub(super) fn admit_wide(&self, workload: &Workload) -> Result<(), Refusal> {
        match self.breaker.is_tripped(workload) {
            true => Err(Refusal::BreakerOpen { workload: workload.to_string() }),
            false => Ok(()),
        }
    }

    /// Holds new wide entries of the workload, over restarts too; an operator is told once, loudly.
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
            self.log(now, decision);
            self.save();
            self.alarms.push(Alarm { workload: workload.clone(), reason });
        }
        Ok(())
    }

    /// Why a process is what a service stands and falls with: denying it is an outage, and so is wide.
    fn serves(&self, target: &Target, now: Now) -> Result<Option<String>, Error> {
        let Target::TaskTree { tgid, start_boot_ns } = target else { return Ok(None) };
        let unit = unit::cgroup_of(*tgid).and_then(|cgroup| unit::unit_of(&cgroup));
        let Some(unit) = unit else { return Ok(None) };
        let Some(ancestors) = self.kernel.ancestors(*tgid)? else { return Ok(None) };
        let mut forkers = Vec::new();
        for (forker, start) in &ancestors {
            let lives = self.kernel.start_of(*forker)? == Some(*start);
            forkers.push(match lives {
                true => Forker::Lives(unit::cgroup_of(*forker)),
                false => Forker::Exited,
            });
        }
        let all_known = ancestors.len() < wire::DENY_ANCESTORS_MAX as usize;
        let older = unit::any_member(&self.own.cgroup_root, &unit, |other| {
            let start = self.kernel.start_of(other).ok().flatten();
            start.is_some_and(|start| start < *start_boot_ns)
        });
        if older == Some(false) && unit::is_first(&unit, &forkers, all_known) {
            return Ok(Some(format!("it is the main process of {}", unit.display())));
        }
        if now.boot_ns.saturating_sub(*start_boot_ns) < unit::LISTENS_MIN_NS {
            return Ok(None);
        }
        let mut listens = false;
        let whole =
            self.kernel.list_sockets(|record| listens |= sockets::listens(record, *tgid))?;
        let unit = unit.display();
        Ok(match (listens, whole) {
            (true, _) => Some(format!("it has listened for {unit} for long")),
            (false, true) => None,
            (false, false) => Some(format!(
                "it may have listened for {unit} for long: there are too many descriptors to tell"
            )),
        })
    }

    /// The live entry that denies who called a peer as a whole.
    fn within(&self, request: &Request, mode: Mode) -> Result<Option<String>, Error> {
        let (Target::Peer { .. }, Some((tgid, start_boot_ns))) = (&request.target, request.process)
        else {
            return Ok(None);
        };
        let tree = self.kernel.tree_of(tgid, start_boot_ns)?.and_then(|id| self.entries.get(&id));
        Ok(tree.filter(|tree| tree.mode >= mode).map(|tree| tree.uid.clone()))
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
