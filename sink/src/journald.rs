//! The journal of systemd, by its native protocol: one datagram a report.
//!
//! When the journal's socket is full, or nobody listens, the report is lost and counted: the journal
//! is for people on the host, and Kafka or a file for what must arrive.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    SinkError,
    message::Topic,
    sink::{Report, Sink, SinkConfig, SinkHealth},
};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Asked for, so that a long report fits into one datagram; systemd's own programs do the same.
const SEND_BUFFER: libc::c_int = 8 << 20;
/// By these the journal finds all of a kind: `journalctl MESSAGE_ID=...`.
const FINDING_ID: &str = "1f0f6e6fd1a14f0c9a3cbcb0f3b6b2d1";
const REMEDIATION_ID: &str = "6f3c52a3f6c94d7fa0f0a0e2a4c1b7e5";

/// The `[journald]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournaldConfig {
    /// The journal's socket.
    pub socket: PathBuf,
}

impl Default for JournaldConfig {
    fn default() -> Self {
        Self { socket: SOCKET.into() }
    }
}

impl SinkConfig for JournaldConfig {
    fn try_out(&self) -> Result<(), SinkError> {
        let wrong = |why: io::Error| SinkError::Table {
            table: JournaldSink::NAME,
            field: "socket",
            reason: self.nobody(&why),
        };
        open().and_then(|socket| self.ask(&socket)).map_err(wrong)
    }

    fn start(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(JournaldSink::start(self)?))
    }
}

impl JournaldConfig {
    /// Whether somebody listens. One that others keep busy is there all the same.
    fn ask(&self, socket: &UnixDatagram) -> io::Result<()> {
        match socket.send_to(&[], &self.socket) {
            Err(why) if why.kind() != io::ErrorKind::WouldBlock => Err(why),
            _ => Ok(()),
        }
    }

    fn nobody(&self, why: &io::Error) -> String {
        format!("nobody listens on {}: {why}", self.socket.display())
    }
}

#[derive(Debug)]
pub struct JournaldSink {
    socket: UnixDatagram,
    config: JournaldConfig,
    health: SinkHealth,
}

impl JournaldSink {
    pub const NAME: &str = "journald";

    /// A journal that isn't there yet is told as one that takes nothing, and asked again.
    ///
    /// # Errors
    /// No socket can be had.
    pub fn start(config: &JournaldConfig) -> Result<Self, SinkError> {
        let socket = open().map_err(SinkError::io(&config.socket))?;
        let trouble = config.ask(&socket).err().map(|why| config.nobody(&why));
        let (name, up) = (Self::NAME, trouble.is_none());
        let health = SinkHealth { name, up, trouble, ..SinkHealth::default() };
        Ok(Self { socket, config: config.clone(), health })
    }

    fn send(&self, report: &Report) -> io::Result<()> {
        let whole = self.socket.send_to(&datagram(report, true), &self.config.socket);
        match whole {
            Err(why) if why.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.socket.send_to(&datagram(report, false), &self.config.socket).map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

fn open() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let size = SEND_BUFFER;
    // SAFETY: an option of a descriptor of ours, read from an integer of the size that is passed.
    // Refused without the right to it: then the usual size holds.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            (&raw const size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
    Ok(socket)
}

/// Fields of an entry; a value with its length may hold anything.
fn datagram(report: &Report, whole: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(report.message.value.len() + 512);
    let mut field = |name: &str, value: &[u8]| {
        bytes.extend(name.as_bytes());
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(value);
        bytes.push(b'\n');
    };
    let (kind, id) = match report.topic() {
        Topic::Findings => ("finding", Some(FINDING_ID)),
        Topic::Remediations => ("remediation", Some(REMEDIATION_ID)),
        // The journal is given none.
        Topic::Health => ("heartbeat", None),
    };
    field("MESSAGE", report.summary.as_bytes());
    if let Some(id) = id {
        field("MESSAGE_ID", id.as_bytes());
    }
    field("PRIORITY", priority(report.severity).as_bytes());
    field("SYSLOG_IDENTIFIER", b"hedgerow");
    field("HEDGEROW_KIND", kind.as_bytes());
    field("HEDGEROW_UID", report.uid.as_bytes());
    match whole {
        true => field("HEDGEROW_EVENT", &report.message.value),
        // Too long for a datagram here: what else the report says stands in its other sinks.
        false => field("HEDGEROW_EVENT_BYTES", report.message.value.len().to_string().as_bytes()),
    }
    bytes
}

/// Syslog's priority of an OCSF severity.
fn priority(severity: u8) -> &'static str {
    match severity {
        5.. => "2",
        4 => "3",
        3 => "4",
        2 => "5",
        _ => "6",
    }
}

impl Sink for JournaldSink {
    fn take(&mut self, report: &Report) -> Result<(), SinkError> {
        match self.send(report) {
            Ok(()) => {
                self.health.delivered += 1;
                self.health.up = true;
                self.health.trouble = None;
                Ok(())
            }
            Err(why) => {
                self.health.overflow += 1;
                self.health.up = false;
                let why = SinkError::io(&self.config.socket)(why);
                self.health.trouble = Some(why.to_string());
                Err(why)
            }
        }
    }

    /// A journal that came back is known before there is something for it.
    fn idle(&mut self) {
        // A full one doesn't take reports again yet.
        if !self.health.up && self.socket.send_to(&[], &self.config.socket).is_ok() {
            self.health.up = true;
            self.health.trouble = None;
        }
    }

    fn health(&self) -> SinkHealth {
        self.health.clone()
    }

    fn stop(self: Box<Self>, _: Duration) -> SinkHealth {
        self.health
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::message::Message;

    fn report(bytes: usize) -> Report {
        let message = Message {
            topic: Topic::Findings,
            key: "h".into(),
            headers: Vec::new(),
            value: vec![b'\n'; bytes],
        };
        let uid = format!("test-{}-{bytes}", std::process::id());
        let summary = "a shell\nunder a service".into();
        Report { message, uid, summary, severity: 5, is_listed: false }
    }

    fn fields(mut datagram: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        while !datagram.is_empty() {
            let end = datagram.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(datagram[..end].to_vec()).unwrap();
            let (length, rest) = datagram[end + 1..].split_first_chunk::<8>().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            found.insert(name, value.to_vec());
            datagram = rest.strip_prefix(b"\n").unwrap();
        }
        found
    }

    #[test]
    fn a_report_is_an_entry_and_no_value_makes_another_field() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournaldSink::start(&JournaldConfig { socket: path }).unwrap();
        let mut buffer = vec![0; 1 << 20];
        assert_eq!(journal.recv(&mut buffer).unwrap(), 0, "the start asks whether it is there");
        sink.take(&report(100_000)).unwrap();
        let bytes = journal.recv(&mut buffer).unwrap();
        let found = fields(&buffer[..bytes]);
        assert_eq!(found["MESSAGE"], b"a shell\nunder a service");
        assert_eq!(found["PRIORITY"], b"2");
        assert_eq!(found["HEDGEROW_KIND"], b"finding");
        assert_eq!(found["HEDGEROW_EVENT"].len(), 100_000);
        assert_eq!(sink.health().delivered, 1);
    }

    #[test]
    fn a_journal_that_is_not_there_yet_keeps_no_daemon_from_starting_and_is_asked_again() {
        let home = tempfile::tempdir().unwrap();
        let config = JournaldConfig { socket: home.path().join("socket") };
        let said = config.try_out().unwrap_err().to_string();
        assert!(said.starts_with("journald.socket: nobody listens on /"), "{said}");
        let mut sink = config.start().unwrap();
        let health = sink.health();
        assert!(!health.up && health.trouble.unwrap().contains("nobody listens on /"));
        assert!(sink.take(&report(1)).is_err());
        sink.idle();
        assert_eq!((sink.health().up, sink.health().overflow), (false, 1));
        let journal = UnixDatagram::bind(&config.socket).unwrap();
        config.try_out().unwrap();
        sink.idle();
        assert!(sink.health().up && sink.health().trouble.is_none(), "nothing was for it");
        drop(journal);
        std::fs::remove_file(&config.socket).unwrap();
        assert!(sink.take(&report(1)).is_err() && !sink.health().up);
        let _journal = UnixDatagram::bind(&config.socket).unwrap();
        sink.take(&report(1)).unwrap();
        assert_eq!((sink.health().up, sink.health().delivered), (true, 1));
    }

    #[test]
    fn a_journal_that_does_not_read_holds_nobody_up_and_what_is_lost_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournaldSink::start(&JournaldConfig { socket: path.clone() }).unwrap();
        let refused = (0..100_000).find(|_| sink.take(&report(1)).is_err());
        assert!(refused.is_some(), "a socket that is never read is never full");
        let config = JournaldConfig { socket: path.clone() };
        assert!(JournaldSink::start(&config).is_ok(), "who fills it keeps no daemon from starting");
        sink.idle();
        let health = sink.health();
        assert!(health.overflow == 1 && !health.up && health.trouble.is_some(), "{health:?}");
        let mut buffer = [0; 4096];
        journal.recv(&mut buffer).unwrap();
        sink.take(&report(1)).unwrap();
        assert!(sink.health().up);
    }
}
