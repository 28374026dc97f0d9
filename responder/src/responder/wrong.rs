//! Entries that should never have been made: their workload goes back to monitor, and past a budget
//! of them nothing is denied automatically until the operator says so.

use hedgerow_event::{Mode, Remediation, Workload};

use super::{Alarm, Responder};
use crate::{
    Error, Now, Refusal,
    ended::End,
    kernel,
    ledger::{Decision, Ledger},
    standing::Wrong,
};

/// What came of calling an entry wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wronged {
    pub workload: Workload,
    /// The workload's mode by now.
    pub mode: Mode,
    /// Entries that were lifted or changed.
    pub reports: Vec<Remediation>,
    /// Wrong entries that count now, of so many that are acceptable in 90 days.
    pub counted: usize,
    pub budget: usize,
}

impl Responder {
    /// Says that an automatic entry, live or ended, should never have been made: lifts it, puts its
    /// workload back to monitor, and counts it where it refused anything.
    ///
    /// # Errors
    /// No automatic entry has this uid, or kernel or ledger fail.
    pub fn wrong(&mut self, uid: &str) -> Result<Wronged, Refusal> {
        let now = kernel::now();
        let (workload, refused) = self.blamed(uid)?;
        let mut reports: Vec<_> =
            self.remove(uid, "an operator said that it is wrong")?.into_iter().collect();
        self.withdraw(uid, "an operator said that it is wrong")?;
        let wrong = Wrong { uid: uid.to_owned(), workload: workload.clone(), time_ns: now.wall_ns };
        let was_halted = self.over_budget(now).is_some();
        let budget = self.options.limits.wrong;
        if refused && self.standing.add_wrong(wrong) {
            let counted = self.standing.wrong_now(now.wall_ns);
            let (uid, workload) = (uid.to_owned(), workload.to_string());
            self.log(now, Decision::Wrong { uid, workload, counted, budget });
        }
        if let Some(halted) = self.over_budget(now).filter(|_| !was_halted) {
            let reason = halted.to_string();
            self.log(now, Decision::Halt { halted: true, reason: reason.clone() });
            self.alarms.push(Alarm { workload: workload.clone(), reason });
        }
        let mode = self.mode(&workload).min(Mode::Monitor);
        match self.set_mode(workload.clone(), mode) {
            Ok(changed) => reports.extend(changed),
            Err(why) => {
                // It was lifted all the same.
                self.pending.extend(reports);
                return Err(why.into());
            }
        }
        let counted = self.standing.wrong_now(now.wall_ns);
        Ok(Wronged { workload, mode, reports, counted, budget })
    }

    /// The workload of an automatic entry, and whether the entry refused anything: by what is live,
    /// waits or has just ended, or by the ledger, which has the last lines when the disk has taken
    /// them.
    fn blamed(&self, uid: &str) -> Result<(Workload, bool), Refusal> {
        if let Some(hold) = self.holds.iter().find(|hold| hold.uid == uid) {
            return Ok((hold.workload(), false));
        }
        let live = self.entries.values().find(|entry| entry.uid == uid).map(End::from);
        let known = match live.or_else(|| self.ended.find(uid).cloned()) {
            Some(known) => Some(known),
            None => self.written_end(uid)?,
        };
        match known {
            None => Err(Refusal::NoEntry { uid: uid.to_owned() }),
            Some(End { automatic: false, .. }) => {
                Err(Refusal::NotAutomatic { uid: uid.to_owned() })
            }
            Some(end) => Ok((end.workload, end.refused)),
        }
    }

    /// The same by the ledger's file.
    fn written_end(&self, uid: &str) -> Result<Option<End>, Error> {
        let (lines, _torn) = Ledger::read(&self.options.ledger)?;
        let told = lines.into_iter().rev().find_map(|line| match line.decision {
            Decision::Block { entry, .. }
            | Decision::Extend { entry, .. }
            | Decision::Unblock { entry }
                if entry.uid == uid =>
            {
                Some(entry)
            }
            _ => None,
        });
        Ok(told.map(|entry| {
            let workload = entry.subject.as_deref().map(|subject| &subject.workload);
            End::of(&entry.uid, workload, entry.rule, entry.mode)
        }))
    }

    /// Why there are no automatic entries at present.
    pub fn halted(&self, now: Now) -> Option<Refusal> {
        self.over_budget(now).or_else(|| self.unremembered())
    }

    fn over_budget(&self, now: Now) -> Option<Refusal> {
        let (wrong, budget) = (self.standing.wrong_now(now.wall_ns), self.options.limits.wrong);
        (wrong > budget).then_some(Refusal::Halted { wrong, budget })
    }

    /// An operator's word for all workloads: what was wrong until now is forgiven.
    pub(super) fn forgive(&mut self, now: Now) -> Result<(), Error> {
        if self.over_budget(now).is_some() {
            let reason = "an operator set the mode of all workloads".to_owned();
            self.log(now, Decision::Halt { halted: false, reason });
        }
        self.standing.forgiven_ns = now.wall_ns;
        Ok(())
    }
}
