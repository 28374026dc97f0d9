//! From a finding to what the kernel refuses, and to whoever wants to know.

use std::{collections::BTreeSet, time::Duration};

use hedgerow_event::{
    Event, Evidence, Finding, Maturity, Mode, Origin, Remediation, Rule, Subject, Target, Verdict,
    Workload,
};
use hedgerow_responder::{
    Options, Request, Responder, now,
    policy::{self, Context, Offenders},
    protected::gather::gather,
};
use hedgerow_sink::{JsonLinesSink, Message, Rotation, kafka::KafkaSink};

use super::{FINDINGS, LEDGER, report::Reporter};
use crate::{
    config::Config,
    exit::Failure,
    host::{self, Host},
};

/// Waiting records get this long at the end; what is left stays in the spool.
const FLUSH: Duration = Duration::from_secs(5);
/// Addresses of this host are gathered anew after this many sweeps.
const GATHER_SWEEPS: u32 = 30;
/// Files known to have been run, by the workloads that ran them; past it none is exclusive.
const FILES_MAX: usize = 65_536;

/// Responder and sinks.
pub struct Actor {
    /// `None` where the deny hooks can't be loaded: sensing goes on.
    pub responder: Option<Responder>,
    offenders: Offenders,
    enforce_provisional: bool,
    findings: JsonLinesSink,
    kafka: Option<KafkaSink>,
    files: BTreeSet<(hedgerow_event::FileKey, Workload)>,
    sweeps: u32,
    pub alerts: u64,
    pub suppressed: u64,
    pub blocks: u64,
}

/// What came of asking the responder.
pub enum Done {
    /// Nothing, with the reason.
    Reported(String),
    Denied(Box<Remediation>),
    Refused(String),
}

impl Actor {
    pub fn start(config: &Config, host: &Host, reporter: &mut Reporter) -> anyhow::Result<Self> {
        let mut options = Options::new(&host.id, config.state.join(LEDGER));
        options.mode = config.mode;
        options.directory = host::pins(&config.state);
        let responder = match Responder::start(options) {
            Ok(responder) => Some(responder),
            Err(why) if config.mode == Mode::Observe => {
                reporter.warn(&format!("nothing can be refused here: {why}"));
                None
            }
            Err(why) => return Err(Failure::host(why).into()),
        };
        let findings = JsonLinesSink::file(&config.state.join(FINDINGS), Rotation::default())
            .map_err(Failure::file)?;
        let kafka = match &config.kafka {
            Some(kafka) => Some(connect(kafka, reporter)?),
            None => None,
        };
        Ok(Self {
            responder,
            offenders: Offenders::default(),
            enforce_provisional: config.enforce_provisional,
            findings,
            kafka,
            files: BTreeSet::new(),
            sweeps: 0,
            alerts: 0,
            suppressed: 0,
            blocks: 0,
        })
    }

    /// Notes what the protected set and the exclusiveness of files depend on; what is used while
    /// learning is a peer of the baseline.
    pub fn observe(&mut self, event: &Event, learning: bool) {
        match &event.origin {
            Origin::Exec(exec) if self.files.len() < FILES_MAX => {
                self.files.insert((exec.file, event.actor.subject.workload.clone()));
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
            return Done::Reported("the deny hooks are not loaded".to_owned());
        };
        let workload = &evidence.subject.workload;
        let file_exclusive = evidence.file.is_some_and(|file| {
            self.files.len() < FILES_MAX
                && self.files.iter().all(|(known, by)| *known != file || by == workload)
        });
        let context = Context {
            mode: responder.mode(workload),
            state,
            enforce_provisional: self.enforce_provisional,
            protected: responder.protected(),
            offenders: &self.offenders,
            file_exclusive,
            now_wall_ns: now().wall_ns,
        };
        match policy::decide(evidence, &context) {
            Verdict::Report { reason } => Done::Reported(reason),
            Verdict::Deny { target, rule, seconds, reason } => {
                let request = Request {
                    target,
                    rule,
                    seconds,
                    finding_uid: Some(finding_uid.to_owned()),
                    subject: Some(evidence.subject.clone()),
                    mode: None,
                    reason,
                };
                match responder.deny(request) {
                    Ok(remediation) => {
                        self.offenders.add(evidence);
                        self.blocks += 1;
                        Done::Denied(Box::new(remediation))
                    }
                    Err(why) => Done::Refused(why.to_string()),
                }
            }
        }
    }

    /// Tells what came of it.
    pub fn done(&mut self, done: Done, reporter: &mut Reporter) {
        match done {
            Done::Denied(remediation) => self.remediation(&remediation, reporter),
            Done::Reported(why) => reporter.not_denied(&why),
            Done::Refused(why) => reporter.warn(&format!("not denied: {why}")),
        }
    }

    /// Sends a finding everywhere it goes.
    pub fn publish(&mut self, finding: &Finding, reporter: &mut Reporter) {
        if finding.activity == hedgerow_event::Activity::Create {
            match finding.disposition.is_alert() {
                true => self.alerts += 1,
                false => self.suppressed += 1,
            }
        }
        if let Err(why) = self.findings.write(finding) {
            reporter.warn(&format!("a finding was not written: {why}"));
        }
        self.send(Message::finding(finding), reporter);
        reporter.finding(finding);
    }

    fn remediation(&mut self, remediation: &Remediation, reporter: &mut Reporter) {
        self.send(Message::remediation(remediation), reporter);
        reporter.remediation(remediation);
    }

    fn send(&self, message: Result<Message, hedgerow_sink::SinkError>, reporter: &mut Reporter) {
        let Some(kafka) = &self.kafka else { return };
        if let Err(why) = message.and_then(|message| kafka.send(message)) {
            reporter.warn(&format!("not sent to Kafka: {why}"));
        }
    }

    /// Extends entries that are being hit, reports those that ended.
    pub fn sweep(&mut self, reporter: &mut Reporter) {
        self.sweeps += 1;
        let Some(responder) = &mut self.responder else { return };
        if self.sweeps.is_multiple_of(GATHER_SWEEPS) {
            responder.protected_mut().refresh(gather([1, std::process::id()]));
        }
        match responder.tick(now()) {
            Ok(remediations) => {
                for remediation in remediations {
                    self.remediation(&remediation, reporter);
                }
            }
            Err(why) => reporter.warn(&format!("entries could not be swept: {why}")),
        }
    }

    /// An operator's entry.
    pub fn deny(
        &mut self,
        target: Target,
        seconds: u32,
        reporter: &mut Reporter,
    ) -> Result<Remediation, String> {
        let responder = self.responder.as_mut().ok_or("the deny hooks are not loaded")?;
        let request = Request {
            target,
            rule: Rule::Operator,
            seconds,
            finding_uid: None,
            subject: None,
            mode: Some(Mode::Enforce),
            reason: "an operator said so".to_owned(),
        };
        let done = responder.deny(request).map_err(|why| why.to_string())?;
        self.remediation(&done, reporter);
        Ok(done)
    }

    /// An operator lifts an entry; that of an automatic one puts its workload back to monitor.
    pub fn remove(&mut self, uid: &str, reporter: &mut Reporter) -> Result<Remediation, String> {
        let responder = self.responder.as_mut().ok_or("the deny hooks are not loaded")?;
        let done = responder.remove(uid, "lifted by an operator").map_err(|why| why.to_string())?;
        let done = done.ok_or_else(|| format!("no live entry has the uid {uid}"))?;
        self.remediation(&done, reporter);
        let automatic: Option<&Subject> = match done.rule {
            Rule::Operator => None,
            _ => done.subject.as_deref(),
        };
        if let (Some(subject), Some(responder)) = (automatic, self.responder.as_mut()) {
            let changed = responder.set_mode(subject.workload.clone(), Mode::Monitor);
            for remediation in changed.map_err(|why| why.to_string())? {
                self.remediation(&remediation, reporter);
            }
        }
        Ok(done)
    }

    /// Lifts entries unless told to keep them, and delivers what waits.
    pub fn stop(&mut self, keep: bool, reporter: &mut Reporter) {
        if let Some(responder) = self.responder.take() {
            match responder.stop(keep) {
                Ok(lifted) => {
                    for remediation in lifted {
                        self.remediation(&remediation, reporter);
                    }
                }
                Err(why) => reporter.warn(&format!("entries could not be lifted: {why}")),
            }
        }
        if let Some(kafka) = self.kafka.take() {
            let status = kafka.stop(FLUSH);
            if status.waiting > 0 {
                reporter.warn(&format!(
                    "{} records wait in the spool for the broker; the next run sends them",
                    status.waiting
                ));
            }
        }
    }
}

fn connect(
    config: &hedgerow_sink::kafka::KafkaConfig,
    reporter: &mut Reporter,
) -> anyhow::Result<KafkaSink> {
    let sink = KafkaSink::start(config.clone()).map_err(|why| Failure::Broker(why.to_string()))?;
    let status = sink.wait_connected(Duration::from_secs(5));
    if status.connection != hedgerow_sink::kafka::Connection::Up {
        reporter.warn(&format!(
            "the broker {} can't be reached ({}); findings wait on disk until it can",
            config.brokers,
            status.last_error.as_deref().unwrap_or("no answer within 5 s")
        ));
    }
    Ok(sink)
}
