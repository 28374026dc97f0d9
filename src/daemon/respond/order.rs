//! What an operator orders.

use hedgerow_event::{Mode, Remediation, Target, Workload};
use hedgerow_responder::{Request, Responder, Wronged, now};

use super::{Actor, NOT_LOADED};
use crate::daemon::report::Reporter;

impl Actor {
    /// For an operator, who is told why there is none.
    pub fn asked(&self) -> Result<&Responder, String> {
        self.responder.as_ref().ok_or_else(|| NOT_LOADED.to_owned())
    }

    /// The same, to be steered.
    pub fn operated(&mut self) -> Result<&mut Responder, String> {
        self.responder.as_mut().ok_or_else(|| NOT_LOADED.to_owned())
    }

    /// What the host itself needs is refused unless it is forced.
    pub fn guard(&mut self, target: &Target, force: bool) -> Result<(), String> {
        let responder = self.operated()?;
        let why = match target {
            Target::Peer { address, prefix_length, .. } => {
                let protected = responder.protected();
                let what = protected.infrastructure(*address, *prefix_length, now().wall_ns);
                what.map(|what| format!("{address}/{prefix_length} is or holds {what}"))
            }
            Target::User { uid } => responder.risk(*uid).map(|why| format!("user {uid} is {why}")),
            _ => None,
        };
        match why {
            Some(why) if !force => {
                Err(format!("protected: {why}; --force refuses it all the same"))
            }
            _ => Ok(()),
        }
    }

    /// An operator's entry.
    pub fn deny(
        &mut self,
        request: Request,
        reporter: &mut Reporter,
    ) -> Result<Remediation, String> {
        let done = self.operated()?.deny(request).map_err(|why| why.to_string())?;
        reporter.remediation(&done);
        Ok(done)
    }

    /// An operator lifts an entry, or withdraws one that waits (`None`).
    pub fn remove(
        &mut self,
        uid: &str,
        reporter: &mut Reporter,
    ) -> Result<Option<Remediation>, String> {
        self.forget(uid);
        let responder = self.operated()?;
        if responder.withdraw(uid, "an operator said so").map_err(|why| why.to_string())? {
            return Ok(None);
        }
        let done = responder.remove(uid, "lifted by an operator").map_err(|why| why.to_string())?;
        let done = done.ok_or_else(|| format!("no live entry has the uid {uid}"))?;
        reporter.remediation(&done);
        Ok(Some(done))
    }

    /// Whose entry an operator takes back has offended in nothing.
    fn forget(&mut self, uid: &str) {
        let entries = self.responder.iter().flat_map(Responder::entries);
        let whose = entries.filter(|entry| entry.uid == uid).find_map(|entry| entry.process);
        whose.into_iter().for_each(|process| self.offenders.forget(process));
    }

    /// An operator says that an automatic entry should never have been made.
    pub fn wrong(&mut self, uid: &str, reporter: &mut Reporter) -> Result<Wronged, String> {
        self.forget(uid);
        let wronged = self.operated()?.wrong(uid).map_err(|why| why.to_string())?;
        for remediation in &wronged.reports {
            reporter.remediation(remediation);
        }
        Ok(wronged)
    }

    /// An operator sets the mode of a workload, or of all.
    pub fn set_mode(
        &mut self,
        workload: Option<Workload>,
        mode: Mode,
        reporter: &mut Reporter,
    ) -> Result<(), String> {
        let responder = self.operated()?;
        let changed = match workload {
            Some(workload) => responder.set_mode(workload, mode),
            None => responder.set_default_mode(mode),
        };
        for remediation in changed.map_err(|why| why.to_string())? {
            reporter.remediation(&remediation);
        }
        Ok(())
    }
}
