//! From a finding to what the kernel refuses, and to whoever wants to know.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use anyhow::Context as _;
use hedgerow_event::{
    Event, Evidence, Maturity, Mode, Origin, Remediation, Tampering, Target, Verdict, Workload,
};
use hedgerow_hostfile::Refusals;
use hedgerow_probe::support;
use hedgerow_responder::{
    Alarm, Error, Options, Refusal, Request, Responder, Wronged,
    ledger::Written as Ledger,
    now, ordered,
    policy::{self, Context, Offenders},
    protected::gather::{Gathered, Gatherer, namespaces_of},
};

use super::{Capture, LEDGER, alarm, report::Reporter, watch};
use crate::{
    config::{Config, sinks::Configured},
    exit::Failure,
    host::{self, Host},
};

/// The start waits so long for the addresses of this host. Without them nothing is denied by itself.
const GATHER: Duration = Duration::from_secs(10);
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
    Denied(Vec<Remediation>),
    /// A narrow entry, and why there is no wider one yet.
    Widened(Box<Remediation>, String),
    Refused(String),
}

impl Done {
    /// Something was denied.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Widened(..))
    }
}

/// Findings that led to no entry, with the reason, of which it is not said again; the oldest go first.
const REPORTED_MAX: usize = 1024;

impl Actor {
    /// `learning`: what was learned before, and the hours of the week seen with it, don't count.
    pub fn start(
        config: &Config,
        host: &Host,
        identity_key: [u64; 2],
        learning: bool,
        reporter: &mut Reporter,
    ) -> anyhow::Result<Self> {
        let mut options = Options::new(&host.id, config.state.join(LEDGER));
        options.mode = config.mode;
        options.mode_now = config.mode_now;
        options.limits.wrong = config.wrong_entries;
        options.directory = host::pins(&config.state);
        options.identity_key = identity_key;
        let ordered = ordered(&options).map_err(Failure::file)?;
        let mut alarms = Vec::new();
        // Its threads need nothing of what loading takes.
        let started = Responder::load(&options).and_then(|loaded| {
            let with = || Responder::with(loaded, options);
            let failed = |source| Error::Io { what: "responder".to_owned(), source };
            support::lowered(with).map_err(failed)?
        });
        let responder = match started {
            Ok(mut responder) => {
                if learning {
                    responder.forget_learned().map_err(Failure::file)?;
                }
                Some(responder)
            }
            // What an operator ordered is not guessed.
            Err(why @ Error::Standing { .. }) => {
                return Err(Failure::file(why).into());
            }
            Err(why) if config.mode_now.unwrap_or(config.mode) == Mode::Observe => {
                reporter.warn(&format!("nothing can be refused here: {why}"));
                if ordered > Mode::Observe {
                    let reason = format!("{ordered} is ordered, and nothing can be refused: {why}");
                    alarms.push(Alarm { workload: Workload::host(), reason });
                }
                None
            }
            Err(why) => return Err(Failure::host(why).into()),
        };
        if let (Some(asked), Some(responder)) = (config.mode_now, &responder)
            && asked > responder.default_mode()
        {
            reporter.warn(&format!(
                "--mode {asked} waits: an operator set {}; `hedgerow mode {asked}` raises it",
                responder.default_mode()
            ));
        }
        let peers = config.sinks.iter().flat_map(Configured::peers).collect();
        let gatherer = support::lowered(|| Gatherer::start(peers)).and_then(|gatherer| gatherer);
        let gatherer = gatherer.context("can't start the threads that read addresses")?;
        let mut actor = Self {
            alarms,
            responder,
            offenders: Offenders::default(),
            enforce_provisional: config.enforce_provisional,
            host: host.clone(),
            gatherer,
            gathered: false,
            ledger: Ledger::default(),
            skipped: false,
            unread: false,
            reported: VecDeque::new(),
        };
        let found = actor.gatherer.wait(GATHER);
        actor.protect(found, reporter);
        if !actor.gathered {
            reporter
                .warn("the addresses of this host are not read yet; until then nothing is denied");
        }
        Ok(actor)
    }

    /// Takes over what no automatic entry may name, and tells what could not be read of it.
    fn protect(&mut self, found: Option<Gathered>, reporter: &mut Reporter) {
        for refused in self.gatherer.refusals().iter().flat_map(Refusals::take_untold) {
            reporter.warn(&refused);
        }
        let (Some(found), Some(responder)) = (found, &mut self.responder) else { return };
        let protected = responder.protected_mut();
        protected.refresh(found.host);
        protected.refresh_namespaces(found.namespaces);
        if let Some(users) = found.users {
            protected.set_users(users);
        }
        for (source, wall_ns) in found.logins {
            protected.add_admin_login(source, wall_ns);
        }
        if let Some(why) = found.unread.as_ref().filter(|_| !self.unread) {
            reporter.warn(&format!(
                "not all of this host's own addresses, gateways, resolvers and DHCP servers can be read \
                 ({why}): protected is what could be, and what the last whole reading found"
            ));
        }
        self.unread = found.unread.is_some();
        if found.skipped > 0 && !std::mem::replace(&mut self.skipped, true) {
            reporter.warn(&format!(
                "{} namespaces are too many: their addresses are not protected",
                found.skipped
            ));
        }
        self.gathered = true;
    }

    /// Has a capture note what decisions rest on, once the host's addresses were read.
    pub fn tell_grounds(&self, capture: &mut Capture, boot_ns: u64) {
        if let Some(responder) = self.responder.as_ref().filter(|_| self.gathered) {
            capture.grounds(responder, self.enforce_provisional, boot_ns);
        }
    }

    /// Owners whose files are not read, because one took too long.
    pub fn unread(&self) -> Vec<String> {
        self.gatherer.refusals().iter().flat_map(Refusals::refused).collect()
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
        let wide = wide.map(|(target, why)| {
            let reason = format!("{why}; {}", request.reason);
            Request { target, reason, ..request.clone() }
        });
        match responder.deny(request) {
            Ok(remediation) => {
                self.offenders.add(evidence, remediation.mode, now_wall_ns);
                let Some(wide) = wide else { return Done::Denied(vec![remediation]) };
                let target = wide.target.to_string();
                match responder.deny(wide) {
                    Ok(wider) => Done::Denied(vec![remediation, wider]),
                    // It says nothing new.
                    Err(Refusal::Covered { .. }) => Done::Denied(vec![remediation]),
                    Err(why) => Done::Widened(Box::new(remediation), format!("{target}: {why}")),
                }
            }
            Err(why) => Done::Refused(why.to_string()),
        }
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

    /// Tells what came of it.
    pub fn done(&mut self, done: Done, reporter: &mut Reporter) {
        match done {
            Done::Denied(entries) => entries.iter().for_each(|one| reporter.remediation(one)),
            Done::Widened(remediation, wide) => {
                reporter.remediation(&remediation);
                reporter.widening(&wide);
            }
            Done::Reported(why) => reporter.not_denied(&why),
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

    /// Lifts entries unless told to keep them to their expiry.
    pub fn stop(&mut self, keep: bool, reporter: &mut Reporter) {
        if let Some(responder) = self.responder.take() {
            let live = responder.entries().len();
            if keep && live > 0 {
                reporter.warn(&format!(
                    "{live} entries stay in the kernel until they expire; `hedgerow disarm` ends them"
                ));
            }
            let stopped = responder.stop(keep);
            for remediation in stopped.reports {
                reporter.remediation(&remediation);
            }
            if let Some(why) = stopped.failed {
                reporter.warn(&format!("not all could be lifted or written: {why}"));
            }
        }
    }
}
