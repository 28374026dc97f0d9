//! What a responder that starts finds of an earlier one.

use std::collections::HashSet;

use hedgerow_event::Action;

use super::{Responder, disarmed};
use crate::{
    Error,
    adopt::Replayed,
    entry::Entry,
    hooks::Key,
    kernel::{self, Insert},
    ledger::Decision,
};

impl Responder {
    /// Takes over live entries that the ledger, or the note beside them, explains, removes those that
    /// nothing does, and writes down what ended unattended.
    pub(super) fn adopt(&mut self, mut explained: Replayed) -> Result<(), Error> {
        let now = kernel::now();
        let carried = self.carry_over(&explained, now)?;
        let held: HashSet<u64> = self.kernel.maps.ids().into_iter().collect();
        self.adopt_noted(&held, &mut explained, now)?;
        if disarmed(&self.options.ledger).exists() {
            self.kernel.maps.set_armed(false)?;
        }
        self.see_armed()?;
        for uid in explained.held {
            self.log_withdrawal(&uid, "Hedgerow ended while it waited", now);
        }
        for entry in explained.lost {
            let gone = self.report(&entry, Action::Unblock, now, "gone with the reboot");
            self.log(now, Decision::Unblock { entry: gone.clone() });
            self.pending.push(gone);
        }
        self.allowed = explained.allowed;
        self.allowed.extend(self.standing.allowed.iter().cloned());
        for target in &self.allowed {
            if self.kernel.maps.allow(target, true)? == Insert::Full {
                return Err(Error::Malformed("no room for what is allowed"));
            }
        }
        for mut entry in explained.entries {
            let (began, expiry) = self.kernel.life(entry.id)?;
            if expiry > now.boot_ns {
                (entry.began_boot_ns, entry.expiry_boot_ns) = (began, expiry);
                entry.enforced = self.kernel.hooks.told(Key::of(&entry.target));
                entry.expires_wall_ns = now.wall_ns + (expiry - now.boot_ns) as i64;
                (entry.hits, entry.inbound) = self.kernel.maps.hits(entry.id)?;
                entry.hits_before = entry.hits_before.min(entry.hits);
                // The responder that made it may have had other hooks.
                self.kernel.refresh(&entry)?;
                self.entries.insert(entry.id, entry);
            } else {
                self.kernel.uninstall(&entry)?;
                let gone = self.report(&entry, Action::Unblock, now, "expired unattended");
                self.log(now, Decision::Unblock { entry: gone.clone() });
                self.pending.push(gone);
            }
        }
        for id in held {
            if !self.entries.contains_key(&id) && self.kernel.remove_foreign(id)? {
                self.log(now, Decision::Foreign { id });
            }
        }
        let live = self.entries.keys().copied().collect();
        let targets = self.entries.values().map(|entry| &entry.target).chain(&self.allowed);
        let scopes = targets.filter_map(crate::scope::cgroup_of).collect();
        self.kernel.maps.sweep(&live, &scopes, &self.allowed)?;
        self.rescope_all()?;
        self.kernel.ask(self.entries.values(), &self.allowed)?;
        if carried { self.succeed() } else { Ok(()) }
    }

    /// Brings what maps of another layout hold into ours, with the expiry that it has; they refuse
    /// meanwhile. True where there are such maps.
    fn carry_over(&self, explained: &Replayed, now: crate::Now) -> Result<bool, Error> {
        let Some(noted) = self.kernel.left()? else { return Ok(false) };
        if !self.kernel.is_left_armed() {
            self.kernel.maps.set_armed(false)?;
        }
        self.kernel.take_left_processes()?;
        let is_noted = |entry: &&Entry| noted.iter().any(|noted| noted.id == entry.id);
        let others = explained.entries.iter().filter(|entry| !is_noted(entry)).map(|entry| {
            // The ledger knows it by the wall clock alone.
            let left_ns = u64::try_from(entry.expires_wall_ns - now.wall_ns).unwrap_or(0);
            let expiry_boot_ns = now.boot_ns + left_ns;
            Entry { began_boot_ns: now.boot_ns, expiry_boot_ns, ..entry.clone() }
        });
        let live = noted.iter().cloned().chain(others);
        for entry in live.filter(|entry| entry.expiry_boot_ns > now.boot_ns) {
            let held = self.kernel.life(entry.id)?.1 != 0;
            if !held && self.kernel.install(&entry)? == Insert::Full {
                return Err(Error::Malformed("no room for what an earlier version denied"));
            }
        }
        self.kernel.count_members()?;
        Ok(true)
    }

    /// Marks and destroys anew what the carried entries deny, and takes away what held them before.
    fn succeed(&mut self) -> Result<(), Error> {
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            let Some(mut entry) = self.entries.get(&id).cloned() else { continue };
            self.cut(&mut entry)?;
            self.entries.insert(id, entry);
        }
        self.kernel.drop_left()
    }

    /// Writes, and reports, what a crash or a full disk has lost of entries that are live.
    fn adopt_noted(
        &mut self,
        held: &HashSet<u64>,
        explained: &mut Replayed,
        now: crate::Now,
    ) -> Result<(), Error> {
        let known: HashSet<u64> = explained.entries.iter().map(|entry| entry.id).collect();
        for id in held.difference(&known) {
            let Some(mut entry) = self.kernel.noted(*id)? else { continue };
            // What is adopted rises no higher than it was.
            entry.ceiling = entry.mode;
            let why = format!("{} (its line was lost, and is written anew)", entry.reason);
            let told = self.report(&entry, Action::Block, now, &why);
            self.log(now, Decision::Block { entry: told.clone(), period_s: entry.period_s });
            self.pending.push(told);
            explained.entries.push(entry);
        }
        Ok(())
    }
}
