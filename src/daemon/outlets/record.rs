//! The thread that describes findings, appends them to their file and hands them on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hedgerow_event::{Activity, Disposition, Finding, Remediation, gate};
use hedgerow_hostfile::Reader;
use hedgerow_sink::{JsonLinesSink, Message, SinkError, kafka::KafkaSink};
use serde_json::{Value, json};

use super::terminal::Terminal;
use crate::{
    daemon::{process, watchdog::Count},
    metrics::{Stage, Stages},
    text,
};

/// Findings that wait in memory for room on the disk. Full: what comes is told as ever, and counted
/// as not written.
const WAITING_MAX: usize = 2048;
/// A file that could not be written is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// Kafka gets so long for what waits at the end; what is left stays in the spool.
const FLUSH: Duration = Duration::from_secs(5);

/// What goes out, in the order in which it happened.
#[derive(Debug)]
pub enum Out {
    Finding(Box<Finding>),
    Remediation(Box<Remediation>),
    /// A line for standard output.
    Line(String),
    /// A line for standard error.
    Note(String),
    /// The end: the live line goes.
    Bare,
}

/// How the findings' file fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub written: u64,
    /// Findings that wait in memory.
    pub waiting: usize,
    /// Findings that found no room there either.
    pub lost: u64,
    /// Why they wait.
    pub failure: Option<String>,
}

/// What the thread works with.
pub struct Recorder {
    pub count: Arc<Count>,
    pub stages: Arc<Stages>,
    pub json: bool,
    pub file: JsonLinesSink,
    pub kafka: Option<KafkaSink>,
    pub terminal: Terminal,
    pub reader: Reader,
    pub written: Arc<Mutex<Written>>,
    pub waiting: VecDeque<Finding>,
    pub tried: Instant,
}

impl Recorder {
    /// Works until nobody can say anything more; then tries once more to write and to deliver.
    pub fn run(mut self, out: &Receiver<(Instant, Out)>) {
        loop {
            match out.recv_timeout(RETRY) {
                Ok((said, what)) => {
                    self.deliver(what);
                    self.stages.of(Stage::Delivery).observe(said.elapsed());
                    self.count.finish();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.waiting.is_empty() && self.tried.elapsed() >= RETRY {
                self.write_waiting();
            }
        }
        self.write_waiting();
        if !self.waiting.is_empty() {
            self.warn(&format!("{} findings were not written to the disk", self.waiting.len()));
        }
        if let Some(kafka) = self.kafka.take() {
            let status = kafka.stop(FLUSH);
            if status.waiting > 0 {
                self.warn(&format!(
                    "{} records wait in the spool for the broker; the next run sends them",
                    status.waiting
                ));
            }
        }
    }

    fn deliver(&mut self, what: Out) {
        match what {
            Out::Finding(finding) => self.finding(*finding),
            Out::Remediation(remediation) => self.remediation(&remediation),
            Out::Line(text) => self.terminal.print(text),
            Out::Note(text) => self.terminal.note(text),
            Out::Bare => self.terminal.bare(),
        }
    }

    fn warn(&self, text: &str) {
        self.terminal.note(format!("hedgerow: warning: {}", gate::shown(text)));
    }

    fn finding(&mut self, mut finding: Finding) {
        process::describe(&mut finding, &mut self.reader);
        for refused in self.reader.refusals().take_untold() {
            self.warn(&refused);
        }
        self.send(Message::finding(&finding));
        if self.json {
            self.print_json(&json!({ "finding": finding }));
        } else if finding.disposition != Disposition::Suppressed
            && finding.activity != Activity::Close
        {
            self.terminal.print(text::finding(&finding));
        }
        self.write(finding);
    }

    /// Appends a finding, behind those that wait.
    fn write(&mut self, finding: Finding) {
        if self.waiting.len() >= WAITING_MAX {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).lost += 1;
            return;
        }
        let first = self.waiting.is_empty();
        self.waiting.push_back(finding);
        if first {
            self.write_waiting();
        }
        self.written.lock().unwrap_or_else(PoisonError::into_inner).waiting = self.waiting.len();
    }

    fn write_waiting(&mut self) {
        self.tried = Instant::now();
        let (mut failure, mut done) = (None, 0);
        while let Some(finding) = self.waiting.front() {
            match self.file.write(finding) {
                Ok(()) => {
                    self.waiting.pop_front();
                    done += 1;
                }
                Err(why) => {
                    failure = Some(why.to_string());
                    break;
                }
            }
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.waiting = self.waiting.len();
        written.written += done;
        let before = std::mem::replace(&mut written.failure, failure.clone());
        let lost = written.lost;
        drop(written);
        match (before, failure) {
            (None, Some(why)) => self.warn(&format!("findings wait in memory: {why}")),
            (Some(_), None) => self.warn(&format!(
                "findings are written again; {lost} since the start found no room in memory"
            )),
            _ => {}
        }
    }

    fn remediation(&mut self, remediation: &Remediation) {
        self.send(Message::remediation(remediation));
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

    fn send(&self, message: Result<Message, SinkError>) {
        let Some(kafka) = &self.kafka else { return };
        if let Err(why) = message.and_then(|message| kafka.send(message)) {
            self.warn(&format!("not sent to Kafka: {why}"));
        }
    }
}
