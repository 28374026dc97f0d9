//! `hedgerow usage`: who used how many bytes of which interface. Works on the daemon's files, whether it
//! runs or not.

use std::collections::HashMap;

use hedgerow_event::gate;
use hedgerow_hostfile::Reader;
use serde::Serialize;

use crate::{
    cli::{By, Usage},
    config,
    exit::Failure,
    text,
    usage::{self, Bytes, DAY_NS, DAYS_MAX, DIRECTORY, Day, Row, Span},
    users::Users,
};

/// Of the JSON form.
const SCHEMA: u32 = 1;
/// Gaps that are named one by one.
const GAPS_NAMED: usize = 8;
const OTHER_PEERS: &str = "(other peers)";

/// A line of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    name: String,
    #[serde(flatten)]
    bytes: Bytes,
}

/// What is told.
#[derive(Debug, Serialize)]
struct Answer {
    schema: u32,
    watched: Vec<Span>,
    gaps: Vec<Span>,
    gaps_untold: u64,
    packets_refused: u64,
    rows_merged: u64,
    lines: Vec<Line>,
    /// What the interfaces counted, and of that what nobody is named for; not where it is asked for one user.
    counted: Option<Bytes>,
    other: Option<Bytes>,
}

pub fn run(arguments: &Usage, json: bool) -> anyhow::Result<()> {
    let directory = config::state(&arguments.state)?.join(DIRECTORY);
    let now_ns = hedgerow_responder::now().wall_ns;
    let since_ns = arguments.since.map_or(i64::MIN, |since| {
        now_ns.saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    });
    let names = usage::days(&directory).map_err(Failure::file)?;
    let ends_later = |day: &&String| usage::start_ns(day).is_some_and(|ns| ns + DAY_NS > since_ns);
    let wanted: Vec<&String> = names.iter().filter(ends_later).collect();
    let (mut days, mut unread) = (Vec::new(), Vec::new());
    for day in wanted.into_iter().rev().take(DAYS_MAX).rev() {
        match usage::read(&directory, day) {
            Ok(read) => days.extend(read),
            Err(why) => unread.push(format!("{why:#}")),
        }
    }
    for why in &unread {
        text::note(&format!("{why}: left out"));
    }
    if days.is_empty() {
        let path = directory.display();
        let why =
            format!("{path} holds no such day; [usage] enabled = true has a daemon write them");
        return Err(Failure::File(why).into());
    }
    let users = Users::read(&mut Reader::new("users"));
    let answer = answer(&days, arguments, &users, now_ns)?;
    if json { text::json(&answer) } else { tell(&answer, arguments) }
}

fn answer(days: &[Day], asked: &Usage, users: &Users, now_ns: i64) -> anyhow::Result<Answer> {
    let uid = |user: &str| {
        let why = || Failure::Usage(format!("--user: the host has no user `{user}`"));
        users.id(user).ok_or_else(why)
    };
    let uid = asked.user.as_deref().map(uid).transpose()?;
    let is_at = |interface: &str| asked.interface.as_deref().is_none_or(|one| one == interface);
    let mut lines: HashMap<String, Bytes> = HashMap::new();
    let (mut counted, mut other) = (Bytes::default(), Bytes::default());
    for day in days {
        let mut named: HashMap<&str, Bytes> = HashMap::new();
        for row in day.rows.iter().filter(|row| is_at(&row.who.interface)) {
            *named.entry(&row.who.interface).or_default() += row.bytes;
            if uid.is_none_or(|uid| row.who.uid == uid) {
                *lines.entry(key(row, &day.day, asked.by, users)).or_default() += row.bytes;
            }
        }
        for interface in day.interfaces.iter().filter(|one| is_at(&one.name)) {
            let named = named.remove(interface.name.as_str()).unwrap_or_default();
            other += interface.counted.without(&named);
            counted += named;
            counted += interface.counted.without(&named);
        }
        named.into_values().for_each(|bytes| counted += bytes);
    }
    let mut lines: Vec<Line> =
        lines.into_iter().map(|(name, bytes)| Line { name, bytes }).collect();
    match asked.by {
        By::Day => lines.sort_unstable_by(|a, b| a.name.cmp(&b.name)),
        _ => lines.sort_unstable_by(|a, b| {
            b.bytes.both().cmp(&a.bytes.both()).then_with(|| a.name.cmp(&b.name))
        }),
    }
    let all = uid.is_none();
    Ok(Answer {
        schema: SCHEMA,
        watched: days.iter().flat_map(|day| day.watched.iter().copied()).collect(),
        gaps: days.iter().flat_map(|day| gaps(day, now_ns)).collect(),
        gaps_untold: days.iter().map(|day| day.gaps_untold).sum(),
        packets_refused: days.iter().map(|day| day.packets_refused).sum(),
        rows_merged: days.iter().map(|day| day.rows_merged).sum(),
        lines,
        counted: all.then_some(counted),
        other: all.then_some(other),
    })
}

fn key(row: &Row, day: &str, by: By, users: &Users) -> String {
    match by {
        By::Program => row.who.program.clone(),
        By::Workload => row.who.workload.clone(),
        By::User => users.name(row.who.uid).map_or_else(|| row.who.uid.to_string(), str::to_owned),
        By::Peer => row.who.peer.map_or_else(|| OTHER_PEERS.to_owned(), |peer| peer.to_string()),
        By::Interface => row.who.interface.clone(),
        By::Day => day.to_owned(),
    }
}

/// What of a day was not watched.
fn gaps(day: &Day, now_ns: i64) -> Vec<Span> {
    let Some(start_ns) = usage::start_ns(&day.day) else { return Vec::new() };
    let mut from_ns = start_ns;
    let mut gaps = Vec::new();
    let end_ns = (start_ns + DAY_NS).min(now_ns);
    let end = Span { from_ns: end_ns, to_ns: end_ns };
    for span in day.watched.iter().chain([&end]) {
        // What is written is a minute old at most.
        let least = if span.from_ns == end_ns { 120_000_000_000 } else { usage::SLACK_NS };
        if span.from_ns.saturating_sub(from_ns) > least {
            gaps.push(Span { from_ns, to_ns: span.from_ns });
        }
        from_ns = from_ns.max(span.to_ns);
    }
    gaps
}

fn tell(answer: &Answer, asked: &Usage) -> anyhow::Result<()> {
    let head = format!("{:?}", asked.by).to_lowercase();
    let mut rows: Vec<(String, Bytes)> = Vec::new();
    let (shown, rest) = answer.lines.split_at(asked.limit.min(answer.lines.len()));
    rows.extend(shown.iter().map(|line| (gate::shown(&line.name).into_owned(), line.bytes)));
    if !rest.is_empty() {
        let mut sum = Bytes::default();
        rest.iter().for_each(|line| sum += line.bytes);
        rows.push((format!("({} more)", rest.len()), sum));
    }
    if let (Some(other), Some(counted)) = (answer.other, answer.counted) {
        rows.push(("other".to_owned(), other));
        rows.push(("counted".to_owned(), counted));
    }
    text::out(&format!("{:>12}  {:>12}  {:>12}  {head}", "received", "sent", "both"));
    for (name, bytes) in rows {
        let [received, sent, both] = [bytes.received, bytes.sent, bytes.both()].map(amount);
        text::out(&format!("{received:>12}  {sent:>12}  {both:>12}  {name}"));
    }
    let gaps = answer.gaps.len();
    for gap in answer.gaps.iter().take(GAPS_NAMED) {
        text::say(&format!(
            "Not watched: {} to {}.",
            text::time(gap.from_ns),
            text::time(gap.to_ns)
        ));
    }
    if gaps > GAPS_NAMED || answer.gaps_untold > 0 {
        let more = gaps.saturating_sub(GAPS_NAMED) as u64 + answer.gaps_untold;
        text::say(&format!("Not watched: {more} times more."));
    }
    if answer.packets_refused > 0 || answer.rows_merged > 0 {
        text::say(&format!(
            "{} packets and {} rows found no room: their bytes are in {OTHER_PEERS} or in other.",
            answer.packets_refused, answer.rows_merged
        ));
    }
    Ok(())
}

/// `870 B`, `12.3 kB`, `1.42 GB`.
fn amount(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
