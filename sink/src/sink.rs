//! What every sink is: it takes reports, never waits for a peer, and tells how it fares.
//!
//! A sink is a file that implements [`Sink`] and, of its table of the configuration, [`SinkConfig`]; and a row
//! of the daemon's list (`src/config/sinks.rs`), which names what it does when it is full.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    time::Duration,
};

use hedgerow_event::{Finding, Remediation, gate};

use crate::{Message, SinkError, Topic, heartbeat::Heartbeat};

/// What sinks are given: one report, encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// OCSF as JSON, with its topic, key and headers.
    pub message: Message,
    /// `metadata.uid`, by which repeats are told.
    pub uid: String,
    /// One line for people, escaped.
    pub summary: String,
    /// OCSF severity, 1 to 5.
    pub severity: u8,
    /// Nobody is told of it: it gives way where room runs short.
    pub is_listed: bool,
}

impl Report {
    /// # Errors
    /// It can't be encoded, or is too large.
    pub fn finding(finding: &Finding) -> Result<Self, SinkError> {
        let (message, base) = Message::of_finding(finding)?;
        let report = Self::new(message, base.metadata.uid, &base.message, base.severity_id);
        Ok(Self { is_listed: !finding.disposition.is_alert(), ..report })
    }

    /// # Errors
    /// It can't be encoded, or is too large.
    pub fn remediation(remediation: &Remediation) -> Result<Self, SinkError> {
        let (message, base) = Message::of_remediation(remediation)?;
        Ok(Self::new(message, base.metadata.uid, &base.message, base.severity_id))
    }

    /// # Errors
    /// It can't be encoded.
    pub fn heartbeat(heartbeat: &Heartbeat) -> Result<Self, SinkError> {
        let message = Message::heartbeat(heartbeat)?;
        Ok(Self::new(message, heartbeat.uid.clone(), "heartbeat", 1))
    }

    fn new(message: Message, uid: String, summary: &str, severity: u8) -> Self {
        let summary = gate::shown(summary).into_owned();
        Self { message, uid, summary, severity, is_listed: false }
    }

    pub fn topic(&self) -> Topic {
        self.message.topic
    }
}

/// How a sink fares: counters since the start, and the present state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkHealth {
    pub name: &'static str,
    /// The other side takes what it is given.
    pub up: bool,
    pub delivered: u64,
    pub waiting: u64,
    /// Lost, because there was no room.
    pub overflow: u64,
    /// Refused for good by the other side.
    pub rejected: u64,
    pub resent: u64,
    /// Sent from memory, because the sink's spool took none.
    pub unspooled: u64,
    /// Bytes of half-written reports of an earlier run that were cut off at the start.
    pub torn_bytes: u64,
    /// Bytes on disk, and the most that may be.
    pub disk_bytes: Option<(u64, u64)>,
    /// Why what is for it waits in memory alone, although it has a spool.
    pub memory_only: Option<String>,
    /// Something that it was given goes with this process, for it is in memory alone; or it had no room
    /// for a decision, of which its ledger is to remind the next run.
    pub at_risk: bool,
    /// The latest trouble.
    pub trouble: Option<String>,
}

/// A sink's table of the configuration.
pub trait SinkConfig: Debug + Send + Sync {
    /// Fields that lie in the state directory unless they are given.
    fn in_state(_state: &Path) -> Vec<(&'static str, PathBuf)>
    where
        Self: Sized,
    {
        Vec::new()
    }

    /// Whether nobody else may know the value of this dotted field.
    fn is_secret(_field: &str) -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Looks at every field, and touches no file.
    ///
    /// # Errors
    /// [`SinkError::Table`] names the field and says what is wrong.
    fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Whether it leaves the daemon's own files alone, which lie in this directory; touches none either.
    ///
    /// # Errors
    /// As [`Self::check`].
    fn check_beside(&self, _state: &Path) -> Result<(), SinkError> {
        Ok(())
    }

    /// Looks for what it names: files, directories, sockets. That may take what time a disk likes.
    ///
    /// # Errors
    /// As [`Self::check`].
    fn try_out(&self) -> Result<(), SinkError>;

    /// What works and is unwise, each by its key.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whom it talks to, as `host:port`: nobody may deny them.
    fn peers(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts the sink, which may wait a moment for the other side.
    ///
    /// # Errors
    /// A field is wrong, or what it needs can't be had. That the other side is away is none.
    fn start(&self) -> Result<Box<dyn Sink>, SinkError>;
}

/// Where reports go. All is called by one thread, which is not the one that decides.
pub trait Sink: Send + Debug {
    /// Whether it is given reports of this topic at present. Who reads a file or the journal of the
    /// host itself needs no sign of life.
    fn wants(&self, topic: Topic) -> bool {
        topic != Topic::Health
    }

    /// Takes a report, or says why not. Waits for a local disk at most.
    ///
    /// # Errors
    /// The report is lost, and counted.
    fn take(&mut self, report: &Report) -> Result<(), SinkError>;

    /// Returns once what was taken outlives this process, or after a moment where its disk stands
    /// still. Only then is somebody told of it.
    fn settle(&mut self) {}

    /// Called at least once a second, for what waits.
    fn idle(&mut self) {}

    fn health(&self) -> SinkHealth;

    /// Takes no more and delivers what it can within `limit`; tells what is left.
    fn stop(self: Box<Self>, limit: Duration) -> SinkHealth;
}
