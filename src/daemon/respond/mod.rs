//! From a finding to what the kernel refuses: the responder, what its decisions rest on, and who hears of them.

pub mod alarm;
mod order;
mod start;
pub mod watch;

use std::collections::{BTreeSet, VecDeque};

use hedgerow_event::{
    Event, Evidence, Finding, Maturity, Origin, Remediation, Tampering, Target, Verdict, Workload,
};
use hedgerow_responder::{
    Alarm, Refusal, Request, Responder,
    ledger::Written as Ledger,
    now,
    policy::{self, Context, Offenders},
    protected::gather::{Gatherer, namespaces_of},
};

use super::report::Reporter;
use crate::host::Host;

/// Why there is no responder.
const NOT_LOADED: &str = "the deny hooks are not loaded";

/// Responder, and what its decisions rest on.
pub struct Actor {
    /// `None` where the deny hooks can't be loaded: sensing goes on.
    pub responder: Option<Responder>,
    /// What an operator must hear of that no responder is there to raise.
    alarms: Vec<Alarm>,
    offenders: Offenders,
    enforce_provisional: bool,
    host: Host,
    /// Reads what no automatic entry may name.
    gatherer: Gatherer,
    gathered: bool,
    /// How the ledger fared at the last sweep.
    ledger: Ledger,
    /// Namespaces past the limit were told.
    skipped: bool,
    /// That something of the host couldn't be read was told, and still can't be.
    unread: bool,
    /// The last findings that led to no entry, with the reason: their updates say nothing new.
    reported: VecDeque<(String, String)>,
}

/// What came of asking the responder.
pub enum Done {
    /// Nothing, with the reason.
    Reported(String),
    /// Entries, and why there is no wider one yet.
    Denied(Vec<Remediation>, Option<String>),
    Refused(String),
}

impl Done {
    /// Something was denied.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(..))
    }
}

/// Findings that led to no entry, with the reason, of which it is not said again; the oldest go first.
const REPORTED_MAX: usize = 1024;

impl Actor {
    /// What decisions rest on, once the host's addresses were read; and whether a provisional profile may
    /// enforce.
    pub fn grounds(&self) -> Option<(&Responder, bool)> {
        let responder = self.responder.as_ref().filter(|_| self.gathered)?;
        Some((responder, self.enforce_provisional))
    }

    /// Adds an epoch to what was seen of the week.
    pub fn watch(&mut self, seconds: u32, workloads: &BTreeSet<&Workload>) {
        if let Some(responder) = &mut self.responder {
            responder.watch(now(), seconds, workloads.iter().copied());
        }
    }

    /// Notes what the protected set and the exclusiveness of files depend on; what is used while
    /// learning is a peer of the baseline.
    pub fn observe(&mut self, event: &Event, learning: bool) {
        match &event.origin {
            Origin::Exec(exec) => {
                let Some(responder) = &mut self.responder else { return };
                let workload = &event.actor.subject.workload;
                responder.protected_mut().use_file(exec.file, workload);
            }
            Origin::Flow(flow) => {
                let Some(responder) = &mut self.responder else { return };
                let protected = responder.protected_mut();
                let workload = &event.actor.subject.workload;
                protected.use_peer(workload, flow.peer.address);
                if learning {
                    protected.learn_peer(workload, flow.peer.address);
                }
            }
            _ => {}
        }
    }

    /// Asks the policy, and does what it says.
    pub fn act(&mut self, finding_uid: &str, evidence: &Evidence, state: Maturity) -> Done {
        let Some(responder) = &mut self.responder else {
            return Done::Reported(NOT_LOADED.to_owned());
        };
        if !self.gathered {
            return Done::Reported("the addresses of this host are not read yet".to_owned());
        }
        // Where the offender lives matters only if its peer is protected somewhere.
        let protected = responder.protected_mut();
        let named = evidence.peer.filter(|peer| protected.is_named_in_a_namespace(peer.address));
        protected.judge(named.map_or_else(Vec::new, |_| namespaces_of(evidence.tgid)));
        let workload = &evidence.subject.workload;
        let exclusive = |file| responder.protected().is_exclusive(file, workload);
        let file_exclusive = evidence.file.is_some_and(exclusive);
        let now_wall_ns = now().wall_ns;
        let context = Context {
            mode: responder.mode(workload),
            state,
            covered: responder.coverage().of(workload, now_wall_ns),
            enforce_provisional: self.enforce_provisional,
            protected: responder.protected(),
            offenders: &self.offenders,
            file_exclusive,
            deep: hedgerow_responder::is_deep(evidence.tgid),
            now_wall_ns,
        };
        let (target, rule, seconds, reason) = match policy::decide(evidence, &context) {
            Verdict::Deny { target, rule, seconds, reason } => (target, rule, seconds, reason),
            Verdict::Report { reason } => {
                return Done::Reported(self.not_denied(workload, finding_uid, reason));
            }
        };
        let wide = policy::widened(&target, evidence, &context);
        let request = Request {
            target,
            rule,
            seconds,
            finding_uid: Some(finding_uid.to_owned()),
            subject: Some(evidence.subject.clone()),
            process: Some((evidence.tgid, evidence.start_boot_ns)),
            mode: Some(context.mode_now()),
            reason,
        };
        let done = deny(responder, request, wide);
        if let Done::Denied(entries, _) = &done {
            let mode = entries.iter().map(|entry| entry.mode).next();
            mode.into_iter().for_each(|mode| self.offenders.add(evidence, mode, now_wall_ns));
        }
        done
    }

    /// Writes down that a finding led to no entry, unless that was said of it.
    pub fn not_denied(&mut self, workload: &Workload, finding_uid: &str, reason: String) -> String {
        let said = (finding_uid.to_owned(), reason.clone());
        if self.reported.contains(&said) {
            return reason;
        }
        let Some(responder) = &mut self.responder else { return reason };
        responder.record_report(workload, finding_uid, &reason);
        if self.reported.len() >= REPORTED_MAX {
            self.reported.pop_front();
        }
        self.reported.push_back(said);
        reason
    }

    /// Raises what the responder wants an operator to hear at once, above all findings.
    pub fn raise(&mut self, state: Maturity, model_id: &str, reporter: &mut Reporter) {
        let mut alarms = std::mem::take(&mut self.alarms);
        alarms.extend(self.responder.iter_mut().flat_map(Responder::take_alarms));
        for told in alarms {
            let finding = alarm::finding(&told, &self.host, state, model_id, now().wall_ns);
            reporter.finding(&finding, true);
        }
        for notice in self.responder.iter_mut().flat_map(Responder::take_notices) {
            reporter.warn(&notice);
        }
    }

    /// What somebody else changed of the deny programs and their maps.
    pub fn tampered(&mut self, reporter: &mut Reporter) -> Vec<Tampering> {
        let Some(responder) = &self.responder else { return Vec::new() };
        responder.tampered().unwrap_or_else(|why| {
            reporter.warn(&format!("the deny maps could not be looked after: {why}"));
            Vec::new()
        })
    }

    /// Raises what somebody else changed.
    pub fn accuse(
        &mut self,
        tampering: Tampering,
        state: Maturity,
        model_id: &str,
        reporter: &mut Reporter,
    ) {
        let finding = watch::finding(tampering, &self.host, state, model_id, now().wall_ns);
        reporter.finding(&finding, true);
    }

    /// Tells what came of it, below the finding.
    pub fn done(&mut self, done: Done, finding: &Finding, reporter: &mut Reporter) {
        match done {
            Done::Denied(entries, not_widened) => {
                entries.iter().for_each(|one| reporter.remediation(one));
                not_widened.iter().for_each(|why| reporter.widening(why));
            }
            Done::Reported(why) => reporter.not_denied(finding, &why),
            Done::Refused(why) => reporter.warn(&format!("not denied: {why}")),
        }
    }

    /// Extends entries that are being hit, reports those that ended.
    pub fn sweep(&mut self, reporter: &mut Reporter) {
        let found = self.gatherer.take();
        self.protect(found, reporter);
        let Some(responder) = &mut self.responder else { return };
        let ledger = responder.ledger().written();
        match (&self.ledger, &ledger.failure) {
            (Ledger { failure: None, .. }, Some(why)) => reporter.warn(&format!(
                "decisions stand and are kept beside their entries, but their lines wait: {why}"
            )),
            (Ledger { failure: Some(_), .. }, None) => reporter.warn("the ledger is written again"),
            _ => {}
        }
        if ledger.healed > self.ledger.healed {
            reporter.warn(&format!(
                "the ledger's last line was cut short: {} bytes went",
                ledger.healed
            ));
        }
        if ledger.lost > self.ledger.lost {
            let lost = ledger.lost - self.ledger.lost;
            reporter.warn(&format!("{lost} lines found no room, and are not in the ledger"));
        }
        self.ledger = ledger;
        // What has waited is of nobody in particular.
        responder.protected_mut().judge(Vec::new());
        match responder.tick(now()) {
            Ok(remediations) => {
                for remediation in remediations {
                    reporter.remediation(&remediation);
                }
            }
            Err(why) => reporter.warn(&format!("entries could not be swept: {why}")),
        }
    }
}

/// Makes an entry, and the wider one that an offence like this asks for.
fn deny(responder: &mut Responder, request: Request, wide: Option<(Target, String)>) -> Done {
    let wider = wide.map(|(target, why)| {
        let reason = format!("{why}; {}", request.reason);
        Request { target, reason, ..request.clone() }
    });
    let mut entries = match responder.deny(request) {
        Ok(entry) => vec![entry],
        Err(why) => return Done::Refused(why.to_string()),
    };
    let Some(wider) = wider else { return Done::Denied(entries, None) };
    let target = wider.target.to_string();
    let not_widened = match responder.deny(wider) {
        Ok(wider) => {
            entries.push(wider);
            None
        }
        // It says nothing new.
        Err(Refusal::Covered { .. }) => None,
        Err(why) => Some(format!("{target}: {why}")),
    };
    Done::Denied(entries, not_widened)
}
