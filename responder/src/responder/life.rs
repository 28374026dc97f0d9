//! The life of entries: installed, with the sockets that stand cut; extended while they are hit; lifted.

use hedgerow_event::{Action, Mode, Remediation, Target, Workload};

use super::{Checked, Responder, disarmed};
use crate::{
    Error, Refusal,
    cut::{cut, is_shared},
    entry::{Due, Entry},
    hooks::Key,
    kernel::{self, Insert},
    ledger::{Decision, NOT_INSTALLED},
    sockets::Denied,
};

impl Responder {
    pub(super) fn install(
        &mut self,
        checked: Checked,
        now: crate::Now,
    ) -> Result<Remediation, Refusal> {
        let Checked { id, request, mode, ceiling, wide: _ } = checked;
        let enforced = self.kernel.hooks.told(Key::of(&request.target));
        let uid = crate::adopt::uid(&self.boot_id, id);
        let mut entry = Entry::begun(id, uid, request, (mode, ceiling), now);
        entry.enforced = enforced;
        // An entry in the kernel is always explained, by its note there if the line is lost.
        let planned = self.report(&entry, Action::Block, now, &entry.reason);
        self.log(now, Decision::Block { entry: planned, period_s: entry.period_s });
        self.entries.insert(id, entry.clone());
        let installed = self.rescope(&entry.target).and_then(|scope| match scope {
            Insert::Done => self.kernel.install(&entry),
            other => Ok(other),
        });
        if !matches!(installed, Ok(Insert::Done)) {
            self.entries.remove(&id);
            self.rescope(&entry.target)?;
            self.kernel.ask(self.entries.values(), &self.allowed)?;
            let undone = self.report(&entry, Action::Unblock, now, NOT_INSTALLED);
            self.log(now, Decision::Unblock { entry: undone });
            if let (Insert::Nobody, Target::TaskTree { tgid, .. }) = (installed?, &entry.target) {
                return Err(Refusal::Gone { tgid: *tgid });
            }
            let full = Refusal::Full { whose: "kernel", limit: self.entries.len() };
            if entry.is_automatic() {
                let workload = entry.workload().cloned().unwrap_or_else(Workload::host);
                self.trip(&workload, &full, now)?;
            }
            return Err(full);
        }
        // The entry is live whatever comes of the sockets.
        let why = self.cut(&mut entry).unwrap_or_else(|error| {
            format!("{}; what stands could not be destroyed: {error}", entry.reason)
        });
        let report = self.report(&entry, Action::Block, now, &why);
        self.entries.insert(id, entry);
        Ok(report)
    }

    /// Cuts the sockets that stand, where the entry enforces; returns what is to be said of it.
    pub(super) fn cut(&self, entry: &mut Entry) -> Result<String, Error> {
        let mut why = entry.reason.clone();
        if entry.mode == Mode::Enforce {
            let sockets = &self.kernel.maps.sockets;
            let mut denied = Denied::by(entry.id);
            let whole = self.kernel.list_sockets(|record| denied.take(record))?;
            if denied.full || !whole {
                why += "; there are too many descriptors to look at all of them: sockets that were \
                        not looked at are not destroyed, their packets are dropped";
            }
            let denied =
                denied.sockets(|socket, listing| !whole || is_shared(sockets, socket, listing));
            let by_peer = matches!(entry.target, Target::Peer { .. });
            let result = cut(sockets, entry.id, by_peer, denied);
            // Marks hold from here on.
            self.kernel.maps.changed()?;
            entry.sockets_destroyed += result.destroyed;
            if result.dropped_only > 0 {
                why += &format!(
                    "; sockets that could not be destroyed, whose packets are dropped: {}",
                    result.dropped_only
                );
            }
        }
        Ok(why)
    }

    /// An operator lifts an entry before its time. The finding of an automatic one asks for none again.
    ///
    /// # Errors
    /// The kernel or the ledger fails. `None`: there is no such entry.
    pub fn remove(&mut self, uid: &str, why: &str) -> Result<Option<Remediation>, Error> {
        let Some(entry) = self.entries.values().find(|entry| entry.uid == uid) else {
            return Ok(None);
        };
        if entry.is_automatic() {
            self.spent.lift(&entry.target, entry.finding_uid.clone(), entry.process);
        }
        self.lift(entry.id, kernel::now(), why).map(Some)
    }

    pub(super) fn lift(
        &mut self,
        id: u64,
        now: crate::Now,
        why: &str,
    ) -> Result<Remediation, Error> {
        let mut entry = self.entries.remove(&id).ok_or(Error::Malformed("no such entry"))?;
        (entry.hits, entry.inbound) = self.kernel.maps.hits(id)?;
        self.kernel.uninstall(&entry)?;
        self.rescope(&entry.target)?;
        self.pardon()?;
        self.kernel.ask(self.entries.values(), &self.allowed)?;
        entry.expires_wall_ns = entry.expires_wall_ns.min(now.wall_ns);
        let report = self.report(&entry, Action::Unblock, now, why);
        self.log(now, Decision::Unblock { entry: report.clone() });
        self.ended.add(&entry);
        Ok(report)
    }

    /// Who found no room in the table of denied processes is refused only while a tree is.
    pub(super) fn pardon(&self) -> Result<(), Error> {
        let refuses = |entry: &Entry| {
            entry.mode == Mode::Enforce && matches!(entry.target, Target::TaskTree { .. })
        };
        if self.entries.values().any(refuses) { Ok(()) } else { self.kernel.pardon() }
    }

    /// Installs what has waited, extends what was hit and releases what was not. To be called about every second; an entry
    /// that is missed expires in the kernel by itself.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn tick(&mut self, now: crate::Now) -> Result<Vec<Remediation>, Error> {
        // `disarm` throws the switch before it writes down whose order that is.
        let unexplained =
            !self.is_armed()? && self.armed && !disarmed(&self.options.ledger).exists();
        if std::mem::replace(&mut self.thrown, unexplained) || !unexplained {
            self.see_armed()?;
        }
        self.keep();
        self.tell_left_out(now.boot_ns);
        let mut reports = std::mem::take(&mut self.pending);
        reports.extend(self.install_due(now)?);
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            reports.extend(self.end_or_extend(id, now)?);
        }
        Ok(reports)
    }

    /// Writes how many lines were left out in minutes that are over then.
    pub(super) fn tell_left_out(&mut self, boot_ns: u64) {
        for (owner, lines) in self.quota.take_left_out(boot_ns) {
            self.log(kernel::now(), Decision::LeftOut { owner, lines });
        }
    }

    /// Ends what is over by now, though nobody swept yet: it refuses nothing, so it covers nothing.
    pub(super) fn end_expired(&mut self, now: crate::Now) -> Result<(), Error> {
        let over = self.entries.values().filter(|entry| entry.expiry_boot_ns <= now.boot_ns);
        for id in over.map(|entry| entry.id).collect::<Vec<_>>() {
            let ended = self.end_or_extend(id, now)?;
            self.pending.extend(ended);
        }
        Ok(())
    }

    /// Extends an entry that was hit, or releases one whose time is over.
    fn end_or_extend(&mut self, id: u64, now: crate::Now) -> Result<Option<Remediation>, Error> {
        let (hits, inbound) = self.kernel.maps.hits(id)?;
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(None) };
        entry.inbound = inbound;
        Ok(match entry.due(now.boot_ns, hits) {
            Due::Nothing => None,
            Due::Extend => {
                let fresh = hits - entry.hits_before;
                entry.extend(now);
                let entry = entry.clone();
                self.kernel.refresh(&entry)?;
                let why = format!("{fresh} more tries met, lives {} s more", entry.period_s);
                let report = self.report(&entry, Action::Block, now, &why);
                let period_s = entry.period_s;
                self.log(now, Decision::Extend { entry: report.clone(), period_s });
                Some(report)
            }
            Due::Release => {
                let why = entry.ending();
                if entry.is_spent() {
                    self.spent.add(entry);
                }
                Some(self.lift(id, now, &why)?)
            }
        })
    }
}
