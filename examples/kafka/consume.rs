//! An incident desk on Hedgerow's topics: what opens, changes and closes, what was refused for it
//! (or would be, where a mode only counts), and which hosts are silent. Each report counts once.
//!
//! ```sh
//! cargo run -p hedgerow-sink --example consume -- 127.0.0.1:9092
//! ```
//!
//! Delivery is at least once, so that a report can come twice: it is known by `metadata.uid`, a
//! heartbeat by its host's last one. Topics have no order between them: a block may come before its
//! finding. What is remembered is in memory here; a desk that must outlive a restart keeps it in a
//! database.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    error::Error,
    io::{self, Write},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hedgerow_event::gate::shown;
use hedgerow_sink::{
    heartbeat::Heartbeat,
    kafka::Topics,
    ocsf::{DetectionFinding, RemediationActivity},
};
use rdkafka::{
    ClientConfig, Message, Offset,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
};

/// Ids remembered; a repeat comes soon after its original, never a hundred thousand reports later.
const REMEMBERED: usize = 100_000;
/// Incidents remembered; past them the oldest go.
const INCIDENTS: usize = 10_000;
/// A host is silent after so many intervals without a heartbeat.
const MISSED: i64 = 3;
/// Seconds; whatever a host says of its interval, it is waited for no longer.
const INTERVAL_MAX: u64 = 86_400;
/// Between two looks at who is silent.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a broker has for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// OCSF activities: a finding is closed, a remediation lifts.
const CLOSE: u8 = 3;
const RESTORE: u8 = 3;
/// OCSF's action of what the kernel refuses; what it only counts is observed.
const DENIED: u8 = 2;

/// The most recent ids with what was said of each last, oldest first.
#[derive(Debug, Default)]
struct Seen {
    known: HashMap<String, &'static str>,
    order: VecDeque<String>,
}

impl Seen {
    /// What was said before.
    fn insert(&mut self, uid: &str, word: &'static str) -> Option<&'static str> {
        let before = self.known.insert(uid.to_owned(), word);
        if before.is_none() {
            self.order.push_back(uid.to_owned());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        before
    }

    fn is_new(&mut self, uid: &str) -> bool {
        self.insert(uid, "").is_none()
    }
}

/// One episode, with what was refused for it.
#[derive(Debug, Default)]
pub struct Incident {
    /// `None`: only its remediations have come so far.
    pub open: Option<bool>,
    /// `command_uid` of each deny entry by which the kernel refused.
    pub refused: BTreeSet<String>,
}

#[derive(Debug)]
struct Host {
    boot: String,
    sequence: u64,
    time: i64,
    interval: i64,
    silent: bool,
}

/// What is known from all records so far.
#[derive(Debug, Default)]
pub struct Desk {
    seen: Seen,
    /// Deny entries, by host and `command_uid`.
    entries: Seen,
    /// By `finding_info.uid`.
    pub incidents: BTreeMap<String, Incident>,
    order: VecDeque<String>,
    hosts: BTreeMap<String, Host>,
    unreadable: u64,
}

impl Desk {
    fn incident(&mut self, uid: &str) -> &mut Incident {
        if !self.incidents.contains_key(uid) {
            self.order.push_back(uid.to_owned());
            if self.order.len() > INCIDENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.incidents.remove(&oldest);
            }
        }
        self.incidents.entry(uid.to_owned()).or_default()
    }

    /// A line where a record says something new. One that can't be read is told and skipped: it would
    /// be read again after each restart.
    pub fn take(
        &mut self,
        topics: &Topics,
        topic: &str,
        value: &[u8],
        place: &str,
    ) -> Option<String> {
        self.read(topics, topic, value).unwrap_or_else(|why| {
            self.unreadable += 1;
            let (why, count) = (why.to_string(), self.unreadable);
            eprintln!("{place} can't be read ({count} so far): {}", shown(&why));
            None
        })
    }

    fn read(
        &mut self,
        topics: &Topics,
        topic: &str,
        value: &[u8],
    ) -> serde_json::Result<Option<String>> {
        Ok(if topic == topics.findings {
            self.finding(&serde_json::from_slice(value)?)
        } else if topic == topics.remediations {
            self.remediation(&serde_json::from_slice(value)?)
        } else {
            self.heartbeat(serde_json::from_slice(value)?)
        })
    }

    fn finding(&mut self, event: &DetectionFinding) -> Option<String> {
        let base = &event.base;
        if !self.seen.is_new(&base.metadata.uid) {
            return None;
        }
        let incident = self.incident(&event.finding_info.uid);
        // What comes after the close is an older report again.
        if incident.open == Some(false) {
            return None;
        }
        let closed = base.activity_id == CLOSE;
        let word = match (incident.open, closed) {
            (_, true) => "CLOSED",
            (None, false) => "OPEN",
            (Some(_), false) => "UPDATE",
        };
        incident.open = Some(!closed);
        let alert = if event.is_alert { "ALERT" } else { "     " };
        let entries = match incident.refused.len() {
            0 => String::new(),
            n => format!(" | {n} refused for it"),
        };
        let top = event.unmapped.finding.attribution.first().map_or(String::new(), |share| {
            format!(" | {} = {} ({:.0} %)", share.feature, share.value, share.share * 100.0)
        });
        let (host, severity, message) = (&base.device.uid, &base.severity, &base.message);
        Some(format!("{word:<7} {alert} {severity:<8} {host} {message}{top}{entries}"))
    }

    fn remediation(&mut self, event: &RemediationActivity) -> Option<String> {
        let base = &event.base;
        if !self.seen.is_new(&base.metadata.uid) {
            return None;
        }
        let word = match (base.activity_id, event.outcome.action_id) {
            (RESTORE, _) => "LIFTED",
            (_, DENIED) => "REFUSED",
            _ => "WOULD REFUSE",
        };
        let entry = format!("{} {}", base.device.uid, event.command_uid);
        // An entry that lives longer is no news, and none lives again.
        if self.entries.known.get(&entry).is_some_and(|said| [word, "LIFTED"].contains(said)) {
            return None;
        }
        self.entries.insert(&entry, word);
        let whose = match &base.metadata.correlation_uid {
            Some(uid) => {
                let incident = self.incident(uid);
                if word == "REFUSED" {
                    incident.refused.insert(event.command_uid.clone());
                }
                match incident.open {
                    Some(true) => format!("for the open incident {uid}"),
                    Some(false) => format!("for the closed incident {uid}"),
                    None => format!("for {uid}, which has not come yet"),
                }
            }
            None => "by an operator".to_owned(),
        };
        Some(format!("{word:<7} {} {} {whose}", base.device.uid, base.message))
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) -> Option<String> {
        let Heartbeat { sequence, time, .. } = heartbeat;
        // A repeat: a restart counts from 0, but later; a clock may be set back, but goes on counting.
        if self.hosts.get(&heartbeat.host_id).is_some_and(|last| {
            last.boot == heartbeat.boot_id && sequence <= last.sequence && time <= last.time
        }) {
            return None;
        }
        let interval = heartbeat.interval_seconds.clamp(1, INTERVAL_MAX) as i64 * 1000;
        let host = Host { boot: heartbeat.boot_id, sequence, time, interval, silent: false };
        let before = self.hosts.insert(heartbeat.host_id.clone(), host);
        match before {
            None => Some(format!("HOST    {} {}", heartbeat.host_id, heartbeat.phase)),
            Some(before) if before.silent => Some(format!("BACK    {}", heartbeat.host_id)),
            Some(_) => None,
        }
    }

    /// Hosts that were silent at a time up to which all is read, a line each. Time: milliseconds since
    /// the Unix epoch.
    pub fn silent(&mut self, now: i64) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, host) in &mut self.hosts {
            let since = now.saturating_sub(host.time);
            if !host.silent && since > MISSED * host.interval {
                host.silent = true;
                lines.push(format!("SILENT  {id} for {} s", since / 1000));
            }
        }
        lines
    }
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Up to when the health topic was read: what a backlog says last of a host is no sign of silence.
#[derive(Debug, Default)]
struct Reading {
    asked: i64,
    ends: BTreeMap<i32, i64>,
}

impl Reading {
    /// A time up to which all assigned partitions were read, where one is newly known: what was their
    /// end when that was asked for lies behind. Who waits for an end itself never sees the one of a busy
    /// topic.
    fn known(&mut self, places: &BTreeMap<i32, (i64, i64)>, now: i64) -> Option<i64> {
        let same = places.keys().eq(self.ends.keys());
        if same && self.ends.iter().any(|(partition, end)| places[partition].0 < *end) {
            return None;
        }
        let known = (same && !places.is_empty()).then_some(self.asked);
        self.asked = now;
        self.ends = places.iter().map(|(partition, (_, end))| (*partition, *end)).collect();
        known
    }
}

/// Of each assigned partition of a topic: what is read next, and its end.
fn places(consumer: &BaseConsumer, topic: &str) -> KafkaResult<BTreeMap<i32, (i64, i64)>> {
    let positions = consumer.position()?;
    let assigned = positions.elements_for_topic(topic);
    if assigned.is_empty() {
        return Ok(BTreeMap::new());
    }
    let committed = consumer.committed(PATIENCE)?;
    let place = |partition: i32, position: Offset| {
        let (first, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let begin = committed.find_partition(topic, partition).map(|begin| begin.offset());
        // Where nothing was read since the assignment, what is committed comes next, else the first.
        let next = match (position, begin) {
            (Offset::Offset(next), _) | (_, Some(Offset::Offset(next))) => next.max(first),
            _ => first,
        };
        Ok((partition, (next, end)))
    };
    assigned.iter().map(|at| place(at.partition(), at.offset())).collect()
}

/// Reads the topics as a member of `group`; ends once nothing has come for `idle` after something did.
pub fn run(
    brokers: &str,
    topics: &Topics,
    group: &str,
    idle: Option<Duration>,
    out: &mut impl Write,
) -> Result<Desk, Box<dyn Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        // A topic that is made later is found within this time.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .create()?;
    consumer.subscribe(&[&topics.findings, &topics.remediations, &topics.health])?;
    let mut desk = Desk::default();
    let mut reading = Reading::default();
    let (mut last, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
    while idle.is_none_or(|idle| last.is_none_or(|last| last.elapsed() < idle)) {
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            let now = now_ms();
            // While no broker answers nothing is known.
            let places = places(&consumer, &topics.health).ok();
            let known = places.and_then(|places| reading.known(&places, now));
            for line in known.map(|known| desk.silent(known)).unwrap_or_default() {
                writeln!(out, "{}", shown(&line))?;
            }
        }
        let Some(record) = consumer.poll(Duration::from_millis(500)) else { continue };
        let record = match record {
            Ok(record) => record,
            // Not made yet: hosts that found nothing have sent nothing.
            Err(error)
                if error.rdkafka_error_code()
                    == Some(rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        last = Some(Instant::now());
        let place = format!("{}/{}@{}", record.topic(), record.partition(), record.offset());
        let value = record.payload().unwrap_or_default();
        if let Some(line) = desk.take(topics, record.topic(), value, &place) {
            writeln!(out, "{}", shown(&line))?;
        }
        // Only what was printed is committed: a crash repeats a line, it never skips one.
        consumer.commit_message(&record, CommitMode::Async)?;
    }
    consumer.commit_consumer_state(CommitMode::Sync).or_else(|error| {
        match error.rdkafka_error_code() {
            Some(rdkafka::types::RDKafkaErrorCode::NoOffset) => Ok(()),
            _ => Err(error),
        }
    })?;
    Ok(desk)
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(brokers) = arguments.next() else {
        return Err("usage: consume BROKERS [GROUP]".into());
    };
    let group = arguments.next().unwrap_or_else(|| "hedgerow-example".into());
    run(&brokers, &Topics::default(), &group, None, &mut io::stdout().lock())?;
    Ok(())
}
