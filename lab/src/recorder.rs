//! The attacker's end of a connection: who came, and how many bytes arrived when.

use std::{
    io::{BufRead, BufReader},
    net::IpAddr,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    lab::{Lab, User},
    network::Site,
    process::start_error,
};

/// A TCP listener at the attacker's site that takes one connection.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    notes: Receiver<Note>,
    limit: Duration,
}

/// Bytes that arrived in one read, and when (Unix nanoseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub time_ns: i64,
    pub bytes: u64,
}

/// How a recorded connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nobody connected.
    Nobody,
    /// The peer closed it in order.
    Closed,
    /// It was reset.
    Reset,
    /// It was still open when the time was up.
    Time,
}

/// What the attacker's end saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// When the connection was accepted (Unix nanoseconds), and from whom.
    pub accepted: Option<(i64, IpAddr, u16)>,
    pub receipts: Vec<Receipt>,
    pub ended_ns: i64,
    pub end: End,
}

impl Transcript {
    /// Bytes that arrived until `time_ns`, and after it.
    pub fn bytes_around(&self, time_ns: i64) -> (u64, u64) {
        let sum = |after: bool| {
            let wanted = self.receipts.iter().filter(|r| (r.time_ns > time_ns) == after);
            wanted.map(|r| r.bytes).sum()
        };
        (sum(false), sum(true))
    }

    pub fn bytes(&self) -> u64 {
        self.receipts.iter().map(|r| r.bytes).sum()
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Note {
    Listening,
    Accepted { time_ns: i64, peer: IpAddr, port: u16 },
    Received { time_ns: i64, bytes: u64 },
    Ended { time_ns: i64, how: End },
}

impl Recorder {
    /// Listens on `port`; sends `text` to who comes, then records for `limit` at most.
    pub fn listen(lab: &Lab, port: u16, limit: Duration, text: &str) -> Result<Self> {
        let python = "/usr/bin/python3";
        let mut command = lab.command(Site::Attacker, "attacker", &User::ROOT, python)?;
        let seconds = limit.as_secs_f64().to_string();
        command.args(["-c", include_str!("python/recorder.py"), &port.to_string(), &seconds]);
        command.arg(text).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
        let (sender, notes) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            // Ends with the child; a line that isn't a note (a traceback goes to stderr) is none.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                    if let Ok(note) = serde_json::from_str(&line) {
                        let _ = sender.send(note);
                    }
                }
            });
        }
        let mut recorder = Self { child, notes, limit };
        match recorder.next(Duration::from_secs(20)) {
            Some(Note::Listening) => Ok(recorder),
            _ => Err(recorder.not_ready(20)),
        }
    }

    /// Waits for the connection and its end.
    pub fn finish(mut self) -> Result<Transcript> {
        let mut accepted = None;
        let mut receipts = Vec::new();
        let deadline = Instant::now() + 2 * self.limit + Duration::from_secs(10);
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Some(Note::Accepted { time_ns, peer, port }) => {
                    accepted = Some((time_ns, peer, port));
                }
                Some(Note::Received { time_ns, bytes }) => {
                    receipts.push(Receipt { time_ns, bytes });
                }
                Some(Note::Ended { time_ns, how }) => {
                    return Ok(Transcript { accepted, receipts, ended_ns: time_ns, end: how });
                }
                Some(Note::Listening) => {}
                None => return Err(self.not_ready(self.limit.as_secs())),
            }
        }
    }

    /// The next note; `None` when the recorder died or `limit` passed.
    fn next(&mut self, limit: Duration) -> Option<Note> {
        self.notes.recv_timeout(limit).ok()
    }

    fn not_ready(&self, seconds: u64) -> Error {
        Error::NotReady { what: "the attacker's recorder".into(), seconds, detail: String::new() }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart_by_time() {
        let receipt = |time_ns, bytes| Receipt { time_ns, bytes };
        let transcript = Transcript {
            accepted: None,
            receipts: vec![receipt(10, 1), receipt(20, 2), receipt(21, 4)],
            ended_ns: 30,
            end: End::Reset,
        };
        assert_eq!(transcript.bytes_around(20), (3, 4));
        assert_eq!(transcript.bytes(), 7);
    }
}
