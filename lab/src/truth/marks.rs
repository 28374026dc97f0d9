//! What was done while a recording was made: when, by whom, and of which kind.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Names of the recording's facts and of its marks, beside the capture.
const SESSION: &str = "session.json";
const MARKS: &str = "marks.jsonl";
/// Directory of the capture below the recording.
pub const CAPTURE: &str = "capture";

/// What a kind of act is, as the table adds it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// One deed tells it: fileless, dropped, set-uid, shells, injection, namespaces, replacement,
    /// persistence.
    Intrinsic,
    /// Any other attack.
    Other,
    /// An attack that takes its time.
    Slow,
    /// Something rare that an administrator does.
    Rare,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Intrinsic => "intrinsic",
            Self::Other => "other",
            Self::Slow => "slow",
            Self::Rare => "rare",
        }
    }

    pub fn is_attack(self) -> bool {
        self != Self::Rare
    }

    /// A finding that comes later than this after the act's begin is none.
    pub fn limit(self) -> Duration {
        match self {
            Self::Slow => Duration::from_secs(2 * 3600),
            _ => Duration::from_secs(75),
        }
    }
}

/// How the processes of an act are told from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Processes that have this word in their arguments, and their descendants.
    Token(String),
    /// Every process of a unit of the lab that lived meanwhile: the service itself does it.
    Unit(String),
    /// Nobody's: the kernel's own counters tell it.
    Kernel,
}

/// One act, done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub kind: String,
    pub class: Class,
    /// The service, or whoever it was done through.
    pub load: String,
    pub whose: Vec<Whose>,
    /// `CLOCK_BOOTTIME` and Unix time of begin and end.
    pub begun_boot_ns: u64,
    pub ended_boot_ns: u64,
    pub begun_ns: i64,
    pub ended_ns: i64,
    /// What went wrong; such an act counts nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// From when to when, of `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub begin_boot_ns: u64,
    pub end_boot_ns: u64,
}

/// A recording as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The process that started every load and act.
    pub harness_pid: u32,
    /// Its executable, which every process of the lab is before its first exec.
    pub harness_path: String,
    /// Nothing but the loads, from which lives learn.
    pub learn: Span,
    /// The same, in which plain life is judged, and which surrounds what is spliced.
    pub judge: Span,
    /// Acts one after another.
    pub acts: Span,
    pub loads: Vec<String>,
    /// Records that found no room on the way to the disk: holes in somebody's rows.
    #[serde(default)]
    pub not_written: u64,
}

impl Session {
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(SESSION);
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| path.display().to_string())
    }

    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(SESSION);
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// Adds one line for each act, as soon as it is over.
#[derive(Debug)]
pub struct MarkWriter(File);

impl MarkWriter {
    pub fn create(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(MARKS);
        Ok(Self(File::create(&path).with_context(|| path.display().to_string())?))
    }

    pub fn write(&mut self, mark: &Mark) -> anyhow::Result<()> {
        serde_json::to_writer(&self.0, mark)?;
        Ok(self.0.write_all(b"\n")?)
    }
}

/// Every act of a recording that was done to its end.
pub fn read_marks(directory: &Path) -> anyhow::Result<Vec<Mark>> {
    let path = directory.join(MARKS);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let mut marks = Vec::new();
    for line in BufReader::new(file).lines() {
        let mark: Mark =
            serde_json::from_str(&line?).with_context(|| path.display().to_string())?;
        if mark.failed.is_none() {
            marks.push(mark);
        }
    }
    Ok(marks)
}
