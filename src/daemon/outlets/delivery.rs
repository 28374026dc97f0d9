//! The thread that describes findings, appends them to their file and hands them to the sinks.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hedgerow_event::{Finding, Remediation, gate};
use hedgerow_hostfile::Reader;
use hedgerow_sink::{PatientLines, Report, SinkError, SinkHealth, heartbeat::Heartbeat};
use serde_json::{Value, json};

use super::{missed::Mark, outlet::Outlet, terminal::Terminal};
use crate::{
    daemon::{process, recorder::Past, room::Room, watchdog::Count},
    host::Host,
    kubernetes::Kubernetes,
    metrics::{Stage, Stages},
    records, text,
    users::Users,
};

/// What waits is looked after this often.
const IDLE: Duration = Duration::from_secs(1);
/// Reports that are handed over before people are told of them.
pub const BATCH: usize = 256;
/// Past so many bytes of reports they are settled within a batch: as many fit into a sink's queue, and what waits
/// for its disk is not lost.
const BATCH_BYTES: usize = 8 << 20;
/// All sinks together get so long for what waits at the end.
const FLUSH: Duration = Duration::from_secs(8);

/// What goes out, in the order in which it happened.
#[derive(Debug)]
pub enum Out {
    Finding(Box<Finding>),
    Remediation(Box<Remediation>),
    Heartbeat(Box<Heartbeat>),
    /// What led to the finding of this uid.
    Past(String, Past),
    /// A line for standard output.
    Line(String),
    /// A line for standard error.
    Note(String),
    /// The end: the live line goes.
    Bare,
}

/// Something on its way out: when it was said, and its room in the queue.
#[derive(Debug)]
pub struct Said {
    pub at: Instant,
    pub what: Out,
    pub room: Room,
}

/// How the findings' file and the sinks fare.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    pub findings: SinkHealth,
    pub sinks: Vec<SinkHealth>,
}

/// What the thread works with.
pub struct Delivery {
    pub count: Arc<Count>,
    pub stages: Arc<Stages>,
    pub json: bool,
    pub state: PathBuf,
    pub host: Host,
    pub file: PatientLines,
    /// It was told that findings wait in memory.
    pub file_told: bool,
    /// It was told what an earlier run left torn in it.
    pub torn_told: bool,
    pub sinks: Vec<Outlet>,
    /// Bytes of reports that the sinks were given since they were settled.
    pub unsettled: usize,
    /// The last remediation that was handed over, as long as the mark does not name it.
    pub handed: Option<String>,
    /// How far remediations are with the sinks for good; none without sinks.
    pub mark: Option<Mark>,
    /// It was told that the mark can't be written.
    pub mark_told: bool,
    /// What an earlier run decided and did not hand over.
    pub missed: Vec<Remediation>,
    pub terminal: Terminal,
    pub reader: Reader,
    pub users: Users,
    /// Where it is asked.
    pub kubernetes: Option<Kubernetes>,
    pub delivered: Arc<Mutex<Delivered>>,
}

impl Delivery {
    /// Works until nobody can say anything more; then tries once more to write and to deliver.
    pub fn run(mut self, out: &Receiver<Said>) {
        let mut looked = Instant::now();
        self.idle();
        self.hand_over_missed();
        loop {
            match out.recv_timeout(IDLE) {
                Ok(first) => {
                    let more = out.try_iter().take(BATCH - 1);
                    let batch = [first].into_iter().chain(more).collect();
                    self.deliver(batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if looked.elapsed() >= IDLE {
                looked = Instant::now();
                self.idle();
            }
        }
        self.file.flush();
        if self.file.waiting() > 0 {
            self.warn(&format!("{} findings were not written to the disk", self.file.waiting()));
        }
        self.stop_sinks();
    }

    fn stop_sinks(&mut self) {
        let each = FLUSH / self.sinks.len().max(1) as u32;
        let mut is_safe = true;
        for outlet in std::mem::take(&mut self.sinks) {
            let lost = |health: &SinkHealth| health.overflow + health.rejected;
            let before = lost(&outlet.sink.health());
            let health = outlet.sink.stop(each);
            is_safe &= !health.at_risk;
            let more = lost(&health).saturating_sub(before);
            if more > 0 {
                self.warn(&format!(
                    "{more} reports for {} found no room: they are lost",
                    health.name
                ));
            }
            let SinkHealth { name, waiting, disk_bytes, .. } = health;
            match disk_bytes {
                _ if waiting == 0 => {}
                Some(_) => self.warn(&format!(
                    "{waiting} records wait for {name}; the next run sends what its spool holds"
                )),
                None => self
                    .warn(&format!("{waiting} reports for {name} were not written: they are lost")),
            }
        }
        if is_safe {
            self.move_mark();
        }
    }

    fn idle(&mut self) {
        self.file.retry();
        self.look_at_file();
        self.mark.iter_mut().for_each(Mark::retry);
        self.look_at_mark();
        let mut warnings = Vec::new();
        for outlet in &mut self.sinks {
            outlet.sink.idle();
            warnings.extend(outlet.look());
            warnings.extend(outlet.take_torn());
            warnings.extend(outlet.look_at_spool());
        }
        self.set_mark(None);
        warnings.iter().for_each(|warning| self.warn(warning));
        let health = self.health();
        *self.delivered.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    fn file_health(&self) -> SinkHealth {
        SinkHealth {
            name: "findings",
            up: self.file.failure().is_none(),
            delivered: self.file.written(),
            waiting: self.file.waiting() as u64,
            overflow: self.file.lost(),
            trouble: self.file.failure().map(str::to_owned),
            ..SinkHealth::default()
        }
    }

    fn health(&self) -> Delivered {
        let findings = self.file_health();
        let sinks = self.sinks.iter().map(Outlet::health).collect();
        Delivered { findings, sinks }
    }

    /// To the sinks first, then to people: what the terminal or `findings list` shows is in the
    /// spool, whatever becomes of this process; where a spool can't be opened it is in memory, which is told.
    fn deliver(&mut self, mut batch: Vec<Said>) {
        batch.iter_mut().for_each(|said| self.describe(&mut said.what));
        if let Some(kubernetes) = &self.kubernetes {
            let findings = batch.iter().filter_map(|said| match &said.what {
                Out::Finding(finding) => Some(&**finding),
                _ => None,
            });
            kubernetes.prepare(findings);
        }
        for said in &mut batch {
            self.hand_over(&mut said.what);
        }
        self.settle();
        let last = batch.iter().rev().find_map(|said| match &said.what {
            Out::Remediation(remediation) => Some(remediation.report_uid()),
            _ => None,
        });
        self.set_mark(last);
        for Said { at, what, room } in batch {
            self.show(what);
            self.stages.of(Stage::Delivery).observe(at.elapsed());
            self.count.finish();
            drop(room);
        }
    }

    fn settle(&mut self) {
        self.unsettled = 0;
        self.sinks.iter_mut().for_each(|outlet| outlet.sink.settle());
    }

    /// What the ledger holds up to here is the sinks' to deliver. Not as long as one has something in memory
    /// alone, nor once it had no room for a decision: what is sent again is the smaller harm.
    fn set_mark(&mut self, uid: Option<String>) {
        self.handed = uid.or_else(|| self.handed.take());
        let is_held = || self.sinks.iter().any(|outlet| outlet.sink.health().at_risk);
        if self.handed.is_some() && !is_held() {
            self.move_mark();
        }
    }

    fn move_mark(&mut self) {
        if let (Some(mark), Some(uid)) = (&mut self.mark, self.handed.take()) {
            mark.set(uid);
            self.look_at_mark();
        }
    }

    /// Tells once that the mark can't be written, and once that it is.
    fn look_at_mark(&mut self) {
        let why = self.mark.as_ref().and_then(Mark::failure).map(str::to_owned);
        match (why, self.mark_told) {
            (Some(why), false) => self.warn(&format!(
                "what a restart has to send again of decisions, or not, can't be noted: {why}"
            )),
            (None, true) => {
                self.warn("what a restart has to send again of decisions is noted again")
            }
            _ => return,
        }
        self.mark_told = !self.mark_told;
    }

    /// Sends what a killed daemon decided and didn't hand over; the sinks' consumers know repeats by
    /// their uid.
    fn hand_over_missed(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        if !missed.is_empty() {
            self.warn(&format!(
                "{} decisions of an earlier run that was killed are sent now",
                missed.len()
            ));
        }
        for part in missed.chunks(BATCH) {
            part.iter().for_each(|one| self.send(|| Report::remediation(one)));
            self.settle();
            self.set_mark(part.last().map(Remediation::report_uid));
        }
    }

    /// Says of a finding what `/proc` does.
    fn describe(&mut self, what: &mut Out) {
        let Out::Finding(finding) = what else { return };
        let (reader, users) = (&mut self.reader, &mut self.users);
        process::describe(finding, &self.host.boot_id, reader, users);
        for refused in self.reader.refusals().take_untold() {
            self.warn(&refused);
        }
    }

    fn hand_over(&mut self, what: &mut Out) {
        match what {
            Out::Finding(finding) => {
                let is_of_now = finding.boot_id == self.host.boot_id;
                if let Some(kubernetes) = self.kubernetes.as_ref().filter(|_| is_of_now) {
                    kubernetes.tell(finding);
                }
                self.send(|| Report::finding(finding));
            }
            Out::Remediation(remediation) => self.send(|| Report::remediation(remediation)),
            Out::Heartbeat(heartbeat) => self.send(|| Report::heartbeat(heartbeat)),
            Out::Past(..) | Out::Line(_) | Out::Note(_) | Out::Bare => {}
        }
    }

    fn show(&mut self, what: Out) {
        match what {
            Out::Finding(finding) => self.finding(&finding),
            Out::Remediation(remediation) => self.remediation(&remediation),
            Out::Heartbeat(_) => {}
            Out::Past(uid, past) => {
                let written = records::write(&self.state, &uid, &self.host, past.events());
                if let Err(why) = written {
                    self.warn(&format!("what led to {uid} was not recorded: {why:#}"));
                }
            }
            Out::Line(text) => self.terminal.print(text),
            Out::Note(text) => self.terminal.note(text),
            Out::Bare => self.terminal.bare(),
        }
    }

    fn warn(&self, text: &str) {
        self.terminal.note(format!("hedgerow: warning: {}", gate::shown(text)));
    }

    fn finding(&mut self, finding: &Finding) {
        if self.json {
            self.print_json(&json!({ "finding": finding }));
        } else if text::is_shown(finding) {
            self.terminal.print(text::finding(finding));
        }
        if let Err(why) = self.file.write(finding, !finding.disposition.is_alert()) {
            self.warn(&format!("a finding was not written: {why}"));
        }
        self.look_at_file();
        let health = self.file_health();
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).findings = health;
    }

    /// Tells once that findings wait, and once that they don't any more.
    fn look_at_file(&mut self) {
        let healed = self.file.healed();
        if healed > 0 && !std::mem::replace(&mut self.torn_told, true) {
            self.warn(&format!("the last finding of an earlier run was cut short: {healed} bytes"));
        }
        let failure = self.file.failure().map(str::to_owned);
        if failure.is_some() == self.file_told {
            return;
        }
        self.file_told = failure.is_some();
        match failure {
            Some(why) => self.warn(&format!("findings wait in memory: {why}")),
            None => self.warn(&format!(
                "findings are written again; {} since the start found no room in memory",
                self.file.lost()
            )),
        }
    }

    fn remediation(&self, remediation: &Remediation) {
        match self.json {
            true => self.print_json(&json!({ "remediation": remediation })),
            false => {
                let line = text::remediation(remediation);
                self.terminal.print(gate::shown(&line).into_owned());
            }
        }
    }

    fn print_json(&self, value: &Value) {
        match gate::json(value) {
            Ok(line) => self.terminal.print(line),
            Err(why) => self.warn(&format!("not told: {why}")),
        }
    }

    /// Hands a report to each sink. One that takes nothing counts it, is told of within a second, and
    /// holds up no other.
    fn send(&mut self, report: impl FnOnce() -> Result<Report, SinkError>) {
        if self.sinks.is_empty() {
            return;
        }
        let report = match report() {
            Ok(report) => report,
            Err(why) => {
                self.sinks.iter_mut().for_each(|outlet| outlet.unmade += 1);
                return self.warn(&format!("not sent: {why}"));
            }
        };
        for outlet in self.sinks.iter_mut().filter(|outlet| outlet.sink.wants(report.topic())) {
            let _counted = outlet.sink.take(&report);
        }
        self.unsettled += report.message.value.len();
        if self.unsettled > BATCH_BYTES {
            self.settle();
        }
    }
}

#[cfg(test)]
mod tests;
