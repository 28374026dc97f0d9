//! Bytes by day: who used how much of an interface, and with whom. A file a day, which the daemon writes
//! and `hedgerow usage` reads.

mod meter;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{ErrorKind, Read},
    net::IpAddr,
    ops::AddAssign,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use chrono::{DateTime, NaiveDate};
use hedgerow_event::gate;
use serde::{Deserialize, Serialize};

pub use self::meter::{Measured, Meter};

/// Of the files in the state directory.
pub const DIRECTORY: &str = "usage";
const SCHEMA: u32 = 1;
/// Days that are kept.
pub const DAYS_MAX: usize = 62;
/// Rows of a day. Full: the smallest lose their peers, and then are what nobody is named for.
const ROWS_MAX: usize = 4096;
/// And of one that is over.
const ROWS_KEPT: usize = 1024;
/// Interfaces of a day, by name and workload. Full: what comes is in one of no name.
const INTERFACES_MAX: usize = 256;
const NO_ROOM: &str = "(others)";
/// Times in which nothing was missed. Full: later gaps are told as watched, and counted.
const SPANS_MAX: usize = 64;
/// Windows that follow each other are no gap, also where the clock is put right a little.
pub const SLACK_NS: i64 = 200_000_000;
const NAME_BYTES_MAX: usize = 256;
const FILE_BYTES_MAX: u64 = 32 << 20;
pub const DAY_NS: i64 = 86_400_000_000_000;

/// Both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    pub received: u64,
    pub sent: u64,
}

impl Bytes {
    pub fn both(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }

    /// What is left of it; never below 0.
    pub fn without(&self, part: &Self) -> Self {
        Self {
            received: self.received.saturating_sub(part.received),
            sent: self.sent.saturating_sub(part.sent),
        }
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, more: Self) {
        self.received = self.received.saturating_add(more.received);
        self.sent = self.sent.saturating_add(more.sent);
    }
}

/// Whose bytes they are, where and with whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    pub interface: String,
    pub uid: u32,
    pub workload: String,
    pub program: String,
    /// None: all for whom there was no room.
    pub peer: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub who: Who,
    #[serde(flatten)]
    pub bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// By itself, whoever used it.
    #[serde(flatten)]
    pub counted: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from_ns: i64,
    pub to_ns: i64,
}

/// A day as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    pub schema: u32,
    /// UTC, `2026-11-28`.
    pub day: String,
    pub watched: Vec<Span>,
    /// Gaps that found no room among them.
    pub gaps_untold: u64,
    /// Packets that the kernel counted without their peer, or not at all, for want of room.
    pub packets_refused: u64,
    /// Rows that lost their peer, or all.
    pub rows_merged: u64,
    pub interfaces: Vec<Interface>,
    pub rows: Vec<Row>,
}

impl Day {
    /// Reads what a daemon wrote.
    ///
    /// # Errors
    /// It is no such file.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let day: Self = serde_json::from_slice(bytes)?;
        anyhow::ensure!(day.schema == SCHEMA, "it is of schema {}, not {SCHEMA}", day.schema);
        let bounded = day.rows.len() <= ROWS_MAX && day.interfaces.len() <= INTERFACES_MAX + 1;
        anyhow::ensure!(bounded && day.watched.len() <= SPANS_MAX, "it has too many rows");
        anyhow::ensure!(date(&day.day).is_some(), "`{}` is no day", day.day);
        Ok(day)
    }
}

/// A day as it grows.
#[derive(Debug, Default)]
pub struct Table {
    day: String,
    rows: HashMap<Who, Bytes>,
    interfaces: BTreeMap<String, Bytes>,
    watched: Vec<Span>,
    gaps_untold: u64,
    packets_refused: u64,
    rows_merged: u64,
}

impl Table {
    pub fn new(day: String) -> Self {
        Self { day, ..Self::default() }
    }

    pub fn day(&self) -> &str {
        &self.day
    }

    /// Goes on where an earlier run ended.
    pub fn of(day: Day) -> Self {
        Self {
            rows: day.rows.into_iter().map(|row| (row.who, row.bytes)).collect(),
            interfaces: day.interfaces.into_iter().map(|one| (one.name, one.counted)).collect(),
            day: day.day,
            watched: day.watched,
            gaps_untold: day.gaps_untold,
            packets_refused: day.packets_refused,
            rows_merged: day.rows_merged,
        }
    }

    pub fn add(&mut self, measured: Measured, packets_refused: u64) {
        self.packets_refused += packets_refused;
        for (name, bytes) in measured.counted {
            let name = self.interface(&name);
            *self.interfaces.entry(name).or_default() += bytes;
        }
        for (mut who, bytes) in measured.rows {
            who.interface = self.interface(&who.interface);
            who.workload = gate::cut(&who.workload, NAME_BYTES_MAX);
            who.program = gate::cut(&who.program, NAME_BYTES_MAX);
            if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&who) {
                self.shrink(ROWS_MAX / 4 * 3);
            }
            *self.rows.entry(who).or_default() += bytes;
        }
    }

    fn interface(&self, name: &str) -> String {
        let name = gate::cut(name, NAME_BYTES_MAX);
        let has_room = self.interfaces.len() < INTERFACES_MAX;
        if has_room || self.interfaces.contains_key(&name) { name } else { NO_ROOM.to_owned() }
    }

    /// Makes room: the smallest rows are no longer told by peer. Where that doesn't suffice, the smallest go:
    /// the interface has counted their bytes, and nobody is named for them.
    fn shrink(&mut self, most: usize) {
        let by_size = |rows: &HashMap<Who, Bytes>| {
            let mut each: Vec<(u64, Who)> =
                rows.iter().map(|(who, bytes)| (bytes.both(), who.clone())).collect();
            each.sort_unstable();
            each
        };
        for (_, who) in by_size(&self.rows) {
            if self.rows.len() <= most {
                return;
            }
            if who.peer.is_some()
                && let Some(bytes) = self.rows.remove(&who)
            {
                *self.rows.entry(Who { peer: None, ..who }).or_default() += bytes;
                self.rows_merged += 1;
            }
        }
        let least = by_size(&self.rows);
        for (_, who) in least.iter().take(self.rows.len().saturating_sub(most)) {
            self.rows.remove(who);
            self.rows_merged += 1;
        }
    }

    /// Everything of this time is in, on this day.
    pub fn watched(&mut self, from_ns: i64, to_ns: i64) {
        let full = self.watched.len() >= SPANS_MAX;
        match self.watched.last_mut() {
            Some(last)
                if full || (last.to_ns - SLACK_NS..=last.to_ns + SLACK_NS).contains(&from_ns) =>
            {
                self.gaps_untold += u64::from(from_ns > last.to_ns + SLACK_NS);
                last.to_ns = last.to_ns.max(to_ns);
            }
            _ => self.watched.push(Span { from_ns, to_ns }),
        }
    }

    /// As it is written; of a day that is `over`, less.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn write(&mut self, over: bool) -> serde_json::Result<Vec<u8>> {
        if over {
            self.shrink(ROWS_KEPT);
        }
        let interface = |(name, counted): (&String, &Bytes)| Interface {
            name: name.clone(),
            counted: *counted,
        };
        let row = |(who, bytes): (&Who, &Bytes)| Row { who: who.clone(), bytes: *bytes };
        serde_json::to_vec(&Day {
            schema: SCHEMA,
            day: self.day.clone(),
            watched: self.watched.clone(),
            gaps_untold: self.gaps_untold,
            packets_refused: self.packets_refused,
            rows_merged: self.rows_merged,
            interfaces: self.interfaces.iter().map(interface).collect(),
            rows: self.rows.iter().map(row).collect(),
        })
    }
}

/// The day of a time, and its first nanosecond.
pub fn day_of(unix_ns: i64) -> (String, i64) {
    let day = DateTime::from_timestamp_nanos(unix_ns).format("%Y-%m-%d").to_string();
    (day, unix_ns - unix_ns.rem_euclid(DAY_NS))
}

fn date(day: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().filter(|date| date.to_string() == day)
}

/// The first nanosecond of a day.
pub fn start_ns(day: &str) -> Option<i64> {
    date(day)?.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt()
}

pub fn path(directory: &Path, day: &str) -> PathBuf {
    directory.join(format!("{day}.json"))
}

/// The days that are kept, the oldest first.
///
/// # Errors
/// The directory is there and can't be read.
pub fn days(directory: &Path) -> std::io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut days: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .filter(|day| date(day).is_some())
        .collect();
    days.sort_unstable();
    Ok(days)
}

/// Reads a day; `None` where there is none.
///
/// # Errors
/// There is one, which can't be read.
pub fn read(directory: &Path, day: &str) -> anyhow::Result<Option<Day>> {
    let path = path(directory, day);
    let mut bytes = Vec::new();
    match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?,
    };
    Day::parse(&bytes).map(Some).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
