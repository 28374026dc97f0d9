//! Entries that wait, and what ends the wait.

use super::{Checked, Responder};
use crate::{Error, Now, Refusal, hold::Hold, ledger::Decision, target::same};
use hedgerow_event::{Mode, Remediation, Target, Workload};

const NS_PER_S: u64 = 1_000_000_000;

impl Responder {
    /// Writes down that the entry waits, and gives the refusal that says so.
    pub(super) fn hold(&mut self, checked: Checked, now: Now) -> Result<Refusal, Error> {
        let seconds = self.options.limits.hold_s;
        let wait_ns = u64::from(seconds) * NS_PER_S;
        let hold = Hold {
            uid: crate::adopt::uid(&self.boot_id, checked.id),
            finding_uid: checked.request.finding_uid,
            target: checked.request.target,
            subject: checked.request.subject,
            rule: checked.request.rule,
            ceiling: checked.ceiling,
            seconds: checked.request.seconds,
            until_ns: now.wall_ns.saturating_add_unsigned(wait_ns),
            due_boot_ns: now.boot_ns.saturating_add(wait_ns),
            id: checked.id,
            process: checked.request.process,
            reason: checked.request.reason,
        };
        self.log(now, Decision::Hold { hold: hold.clone() });
        let refusal = Refusal::Held { uid: hold.uid.clone(), seconds };
        self.holds.push(hold);
        Ok(refusal)
    }

    /// Entries that wait, the next one first.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Installs what has waited its time, unless by now there is a reason against it.
    pub(super) fn install_due(&mut self, now: Now) -> Result<Vec<Remediation>, Error> {
        let mut installed = Vec::new();
        while let Some(at) = self.holds.iter().position(|hold| hold.due_boot_ns <= now.boot_ns) {
            let hold = self.holds.remove(at);
            let uid = hold.uid.clone();
            match self.install_held(hold, now) {
                Ok(done) => installed.push(done),
                Err(Refusal::Kernel(error)) => return Err(error),
                Err(why) => self.log_withdrawal(&uid, &why.to_string(), now),
            }
        }
        Ok(installed)
    }

    fn install_held(&mut self, hold: Hold, now: Now) -> Result<Remediation, Refusal> {
        let workload = hold.workload();
        let mode = self.admit_automatic(&hold.target, &workload, hold.ceiling, now)?;
        self.admit_wide(&workload)?;
        let request = super::Request {
            target: hold.target,
            rule: hold.rule,
            seconds: hold.seconds,
            finding_uid: hold.finding_uid,
            subject: hold.subject,
            process: hold.process,
            mode: Some(hold.ceiling),
            reason: hold.reason,
        };
        self.install(Checked { id: hold.id, request, mode, ceiling: hold.ceiling, wide: true }, now)
    }

    /// An operator takes back an entry that waits; false where none has this uid. Its finding asks for none
    /// again.
    ///
    /// # Errors
    /// The ledger fails.
    pub fn withdraw(&mut self, uid: &str, why: &str) -> Result<bool, Error> {
        let Some(hold) = self.put_off(uid, why) else { return Ok(false) };
        self.spent.lift(&hold.target, hold.finding_uid, hold.process);
        Ok(true)
    }

    /// Takes back an entry that waits, until it is asked for again.
    pub fn put_off(&mut self, uid: &str, why: &str) -> Option<Hold> {
        let at = self.holds.iter().position(|hold| hold.uid == uid)?;
        let hold = self.holds.remove(at);
        self.log_withdrawal(uid, why, crate::now());
        Some(hold)
    }

    pub(super) fn withdraw_all(&mut self, of: Option<&Workload>, why: &str) -> Result<(), Error> {
        let concerned = |hold: &&Hold| of.is_none_or(|workload| &hold.workload() == workload);
        let uids: Vec<String> =
            self.holds.iter().filter(concerned).map(|hold| hold.uid.clone()).collect();
        for uid in uids {
            self.put_off(&uid, why);
        }
        Ok(())
    }

    pub(super) fn log_withdrawal(&mut self, uid: &str, why: &str, now: Now) {
        self.log(now, Decision::Withdraw { uid: uid.to_owned(), reason: why.to_owned() });
    }

    /// An entry that waits for the target already.
    pub(super) fn held(&self, target: &Target) -> Option<&Hold> {
        self.holds.iter().find(|hold| same(&hold.target, target))
    }

    /// What may wait no longer, since the workload's mode is observe.
    pub(super) fn follow_mode(&mut self, workload: &Workload, mode: Mode) -> Result<(), Error> {
        if mode == Mode::Observe {
            self.withdraw_all(Some(workload), "the workload's mode is observe")?;
        }
        Ok(())
    }
}
