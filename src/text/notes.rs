//! Lines for standard error: prose for people, JSON lines from `run --json`; with a priority for the
//! journal.

use std::{
    borrow::Cow,
    io::Write,
    os::{fd::RawFd, unix::fs::MetadataExt},
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, SecondsFormat};
use hedgerow_event::gate;
use serde::Serialize;

/// Prints a line as [`super::say`] does, to standard error.
pub fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{}", noted(&gate::shown(line))));
}

static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From here on notes are JSON lines.
pub fn notes_as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// How warnings begin, and what ends a command.
const WARNING: &str = "hedgerow: warning: ";
const ERROR: &str = "hedgerow: ";

/// A line for standard error; one for the journal has its priority.
pub fn noted(line: &str) -> Cow<'_, str> {
    let (priority, message) = of(line);
    let line = match AS_JSON.load(Ordering::Relaxed) {
        true => logged(hedgerow_responder::now().wall_ns, priority, message).into(),
        false => Cow::Borrowed(line),
    };
    match is_journal(libc::STDERR_FILENO) {
        true => prioritised(&line, priority).into(),
        false => line,
    }
}

/// A note as a line of JSON.
fn logged(unix_ns: i64, priority: Priority, message: &str) -> String {
    #[derive(Serialize)]
    struct Note<'a> {
        time: String,
        level: Priority,
        message: &'a str,
    }
    let time = DateTime::from_timestamp_nanos(unix_ns);
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Strings are always written.
    serde_json::to_string(&Note { time, level: priority, message }).unwrap_or_default()
}

/// How grave a line is, and what it says.
fn of(line: &str) -> (Priority, &str) {
    if let Some(message) = line.strip_prefix(WARNING) {
        (Priority::Warning, message)
    } else if let Some(message) = line.strip_prefix(ERROR) {
        (Priority::Error, message)
    } else {
        (Priority::Info, line)
    }
}

/// How grave a line is, as syslog counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Error = 3,
    Warning = 4,
    /// Findings and what was refused.
    Notice = 5,
    Info = 6,
}

/// Whether what is written there goes to the journal, which reads priorities and has times of its own.
pub fn is_journal(descriptor: RawFd) -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let path = format!("/proc/self/fd/{descriptor}");
    std::fs::metadata(path).is_ok_and(|file| *stream == *format!("{}:{}", file.dev(), file.ino()))
}

/// Each line with its priority.
pub fn prioritised(text: &str, priority: Priority) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| format!("<{}>{line}", priority as u8)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_for_the_journal_has_its_priority() {
        let priority = |line: &str| prioritised(line, of(line).0);
        assert_eq!(priority("hedgerow: warning: a\nb"), "<4>hedgerow: warning: a\n<4>b");
        assert_eq!(priority("hedgerow: can't"), "<3>hedgerow: can't");
        assert_eq!(priority("Scoring starts."), "<6>Scoring starts.");
    }

    #[test]
    fn a_note_for_machines_is_a_line_whatever_it_says() {
        let line = |text: &str| {
            let (priority, message) = of(text);
            logged(1_795_391_999_123_000_000, priority, message)
        };
        let time = r#"{"time":"2026-11-22T23:59:59.123Z","level":"#;
        for (text, rest) in [
            ("hedgerow: warning: a\n\"b\"", r#""warning","message":"a\n\"b\""}"#),
            ("hedgerow: can't", r#""error","message":"can't"}"#),
            ("Scoring starts.", r#""info","message":"Scoring starts."}"#),
        ] {
            assert_eq!(line(text), format!("{time}{rest}"));
        }
    }
}
