//! What outlives the responder: written by threads of their own, so that no decision waits for a disk;
//! and the end, which lifts first and writes afterwards.

use std::{collections::BTreeMap, io::ErrorKind, time::Duration};

use hedgerow_event::Remediation;

use super::{Responder, disarmed};
use crate::{
    Error, Refusal,
    keeper::Keeper,
    kernel,
    ledger::Decision,
    protected::remembered::aside,
    standing::{self, set_marker},
};

/// An operator who orders something waits so long for the disk, and is told what it says until then.
const PATIENCE: Duration = Duration::from_millis(500);
/// The end waits so long, when everything is lifted.
const LAST: Duration = Duration::from_secs(5);
/// What normal life has shown, and what could not be written, is written after so many ticks.
const TICKS: u32 = 60;

const ORDERS: &str = "what was ordered";
const SWITCH: &str = "the kill switch";
const SEEN: &str = "what normal life has shown";

/// The files.
#[derive(Debug, Default)]
pub(super) struct Kept {
    orders: Keeper<Error>,
    switch: Keeper<Error>,
    seen: Keeper<Error>,
    /// Ticks since that was last looked at.
    ticks: u32,
    /// What is not on the disk, and why.
    missing: BTreeMap<&'static str, String>,
    /// That was told.
    told: bool,
}

impl Kept {
    /// Notes what came of a write.
    fn note(&mut self, what: &'static str, done: Option<&Result<(), Error>>) {
        match done {
            None => {}
            Some(Ok(())) => drop(self.missing.remove(what)),
            Some(Err(why)) => drop(self.missing.insert(what, why.to_string())),
        }
    }

    /// Tells once that something is not on the disk, and once that all is.
    pub fn take_notices(&mut self) -> Vec<String> {
        let missing = !self.missing.is_empty();
        if std::mem::replace(&mut self.told, missing) == missing {
            return Vec::new();
        }
        let one = |(what, why): (&&str, &String)| {
            format!("{what} is in force, and a restart forgets it: {why}")
        };
        match missing {
            true => self.missing.iter().map(one).collect(),
            false => vec!["what a restart must know is on the disk again".to_owned()],
        }
    }
}

/// What a stop did.
#[derive(Debug)]
#[must_use]
pub struct Stopped {
    pub reports: Vec<Remediation>,
    /// What failed first: everything else was done all the same.
    pub failed: Option<Error>,
}

impl Stopped {
    /// # Errors
    /// What failed.
    pub fn whole(self) -> Result<Vec<Remediation>, Error> {
        self.failed.map_or(Ok(self.reports), Err)
    }
}

#[cfg(test)]
impl Responder {
    /// Waits for what is being written.
    pub(crate) fn settle(&mut self) {
        let _ = self.kept.orders.settle(Duration::from_secs(60));
    }
}

impl Responder {
    /// A clean stop. With `keep` live entries, the programs and pins stay, and entries expire by
    /// themselves; otherwise, and where there is no entry, everything is lifted, detached and unpinned,
    /// whatever else fails.
    pub fn stop(mut self, keep: bool) -> Stopped {
        let mut failed = self.see_armed().err();
        let mut fails = |done: Result<(), Error>| failed = failed.take().or(done.err());
        fails(self.withdraw_all(None, "Hedgerow stopped"));
        self.tell_left_out(u64::MAX);
        let mut reports = std::mem::take(&mut self.pending);
        // Written aside meanwhile, and waited for at the end alone.
        self.save();
        if self.kept.missing.contains_key(SEEN) {
            self.protected.not_kept();
        }
        self.save_seen();
        if self.kept.missing.contains_key(SWITCH) {
            self.mark(!self.armed);
        }
        if !keep || self.entries.is_empty() {
            let now = kernel::now();
            let ids: Vec<u64> = self.entries.keys().copied().collect();
            for id in ids {
                fails(self.lift(id, now, "Hedgerow stopped").map(|lifted| reports.push(lifted)));
            }
            fails(self.kernel.remove());
        }
        let kept = &mut self.kept;
        for (what, keeper) in
            [(SWITCH, &mut kept.switch), (ORDERS, &mut kept.orders), (SEEN, &mut kept.seen)]
        {
            let idle = keeper.is_idle();
            let slow = || Err(Error::Slow { what, seconds: LAST.as_secs() });
            fails(keeper.finish(LAST).unwrap_or_else(|| if idle { Ok(()) } else { slow() }));
        }
        Stopped { reports, failed }
    }

    /// Hands the orders, and the hours that were seen, to the thread that writes them.
    pub(super) fn save(&mut self) {
        self.standing.tripped = self.breaker.tripped().clone();
        let (standing, path) = (self.standing.clone(), self.options.standing());
        self.kept.orders.put(move || standing.save(&path));
    }

    /// The same by an operator's order, who is told where the disk refuses. What was done is told all the
    /// same, then by the next tick.
    pub(super) fn save_order(
        &mut self,
        reports: Vec<Remediation>,
    ) -> Result<Vec<Remediation>, Error> {
        self.save();
        let done = self.kept.orders.settle(PATIENCE);
        self.kept.note(ORDERS, done.as_ref());
        match done {
            Some(Err(why)) => {
                self.pending.extend(reports);
                Err(why)
            }
            _ => Ok(reports),
        }
    }

    fn save_seen(&mut self) {
        if let Some(known) = self.protected.remember() {
            let path = self.options.remembered();
            self.kept.seen.put(move || known.save(&path));
        }
    }

    /// Looks after what is being written, and writes again what could not be.
    pub(super) fn keep(&mut self) {
        let kept = &mut self.kept;
        let done =
            [(ORDERS, kept.orders.poll()), (SWITCH, kept.switch.poll()), (SEEN, kept.seen.poll())];
        done.iter().for_each(|(what, done)| kept.note(what, done.as_ref()));
        kept.ticks += 1;
        if kept.ticks < TICKS {
            return;
        }
        kept.ticks = 0;
        let missing = |what| kept.missing.contains_key(what);
        let (orders, switch, seen) = (missing(ORDERS), missing(SWITCH), missing(SEEN));
        if orders {
            self.save();
        }
        if switch {
            self.mark(!self.armed);
        }
        if seen {
            self.protected.not_kept();
        }
        if self.kept.seen.is_idle() {
            self.save_seen();
        }
    }

    /// Writes the kill switch down where it was thrown since: no stop, start or reboot undoes it.
    pub(super) fn see_armed(&mut self) -> Result<(), Error> {
        let armed = self.is_armed()?;
        if armed == self.armed {
            return Ok(());
        }
        self.armed = armed;
        let ordered = self.by;
        if !armed {
            self.by = standing::who_disarmed(&disarmed(&self.options.ledger));
        }
        self.log(kernel::now(), Decision::Armed { armed });
        self.by = ordered;
        self.mark(!armed);
        Ok(())
    }

    /// Has the file made, or taken away, that says so.
    fn mark(&mut self, thrown: bool) {
        let marker = disarmed(&self.options.ledger);
        self.kept.switch.put(move || set_marker(&marker, thrown));
    }

    /// Waits for that, as [`Self::save_order`] does; `None` where the disk says nothing.
    fn marked(&mut self) -> Result<Option<()>, Error> {
        let done = self.kept.switch.settle(PATIENCE);
        self.kept.note(SWITCH, done.as_ref());
        done.transpose()
    }

    /// Throws the kill switch: every deny program lets everything pass until [`Self::arm`], also
    /// over a stop and start.
    ///
    /// # Errors
    /// The kernel or the disk fails; the switch is thrown all the same where it is the disk.
    pub fn disarm(&mut self) -> Result<(), Error> {
        self.kernel.maps.set_armed(false)?;
        self.see_armed()?;
        self.marked().map(drop)
    }

    /// Lets live entries act again.
    ///
    /// # Errors
    /// The kernel fails, or the disk keeps the file that says that they don't: then nothing is armed.
    pub fn arm(&mut self) -> Result<(), Error> {
        // What was thrown a moment ago has a line of its own.
        self.see_armed()?;
        self.mark(false);
        if self.marked()?.is_none() {
            // What is on its way to the disk must not arm the next start.
            self.mark(true);
            return Err(Error::Slow { what: SWITCH, seconds: 1 });
        }
        self.kernel.maps.set_armed(true)?;
        self.see_armed()?;
        self.marked().map(drop)
    }

    /// Why nothing may be denied by itself where what normal life has shown could not be read.
    pub(super) fn unremembered(&self) -> Option<Refusal> {
        let aside = aside(&self.options.remembered());
        (self.forgot && aside.exists()).then_some(Refusal::Unremembered { aside })
    }

    /// What is learned anew has seen no hour of the week yet, and has no baseline. Where the disk is full
    /// ticks tell that, and write it again: an unwatched host would be the worse.
    ///
    /// # Errors
    /// What was set aside can't be removed.
    pub fn forget_learned(&mut self) -> Result<(), Error> {
        self.standing.coverage = Default::default();
        self.protected.forget_baseline();
        // What was set aside, and the alarm of it, speak for what is forgotten now.
        if std::mem::take(&mut self.forgot) {
            self.alarms.clear();
            let aside = aside(&self.options.remembered());
            match std::fs::remove_file(&aside) {
                Err(why) if why.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("can't remove {}", aside.display()))(why));
                }
                _ => {}
            }
        }
        self.save();
        Ok(())
    }
}
