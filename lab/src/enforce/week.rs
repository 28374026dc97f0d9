//! A week of the services, for a gate that asks for one. A daemon captures minutes of them while it
//! learns, busy ones and quiet ones; of those each hour of the week has some, as they were recorded but
//! for their times, and `hedgerow train` learns from that as from any capture.
//!
//! What the kernel counted while it knew no n-gram makes the hours that the week's model is filled in,
//! and what it counted while it knew the recording's profile those that are held against it: the
//! profile is the same, since the hours of fill hold all of what it was made of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    ops::Range,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use hedgerow_detect::{Phase, Schedule};
use hedgerow_event::{Epoch, EpochClose, Origin, Workload};
use hedgerow_features::{Record, records_from_batch, records_schema_least, records_to_batch};
use hedgerow_offline::keys::{
    BOOT, EDGES, HOST, KNOWN_SINCE, OFFSET, RECORDS, SCHEDULE, known_since, scoring_after,
};
use hedgerow_responder::coverage::{Coverage, HOURS};
use hedgerow_sink::parquet::{ParquetConfig, ParquetReader, ParquetSink};
use serde::Serialize;

use super::services::ENFORCED;
use crate::{Lab, truth::Placed};

const HOUR_NS: u64 = 3_600_000_000_000;
/// Epochs of an hour, nine minutes: a profile is counted by hours where it was learned for a day at
/// least. As many of them are busy as make 500 windows within the hours of fill.
const EPOCHS: u32 = 108;
const BUSY_EPOCHS: u32 = 6;
const SHARED_EPOCHS: u32 = 6;
/// What an epoch stands for.
const STANDS_FOR_S: u32 = 3600 / EPOCHS;
/// Hours of fill and fit; calibration has the rest of the week, as 60 : 20 : 20 divides it.
const FILL_HOURS: u32 = 101;
const FIT_HOURS: u32 = 34;
/// So long before the recording the week begins: its last hour is over, whatever part of an hour was
/// rounded up.
const BEGUN_HOURS_AGO: u64 = HOURS as u64 + 1;
/// Epochs of other boots begin at a multiple of an hour's, too.
const FIRST_EPOCH: u32 = 720;
/// The week is of another boot than the life.
const BOOT_ID: &str = "the-week-before";

/// What `hedgerow train` says of the services' programs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Learned {
    /// Programs with a mature profile, of those with one.
    pub mature: usize,
    pub programs: usize,
    /// Seconds that were recorded, and that it took to make a week of them and to learn it.
    pub recorded_s: u64,
    pub took_s: u64,
}

/// Five seconds of the recording.
struct Recorded {
    close: EpochClose,
    records: Vec<Record>,
}

/// What was captured of a daemon's learning.
struct Recording {
    metadata: BTreeMap<String, String>,
    epochs: Vec<Recorded>,
    /// Epochs in which the kernel knew nothing, and those in which it knew the profile.
    unknown: Kinds,
    known: Kinds,
}

/// The epochs of a part of the recording, each kind by turns.
struct Kinds {
    busy: Turns,
    /// The services rested; the host had more to do than in the others of that kind.
    shared: Turns,
    quiet: Turns,
}

/// Epochs, one after the other and over again.
struct Turns {
    epochs: Vec<usize>,
    next: usize,
}

/// The week while it is written.
struct Writer {
    sink: ParquetSink,
    epoch: Epoch,
    offset_ns: i64,
    coverage: Coverage,
}

/// Makes the week out of what a daemon captured while it learned, and of when that was quiet (since
/// boot); tells what was watched in it.
pub(super) fn write(capture: &Path, quiet: &[Range<u64>], week: &Path) -> anyhow::Result<Coverage> {
    let mut recording = Recording::read(capture, quiet)?;
    let last = recording.epochs.last().context("nothing was recorded")?;
    // Hours of this clock are the units that maturity counts.
    let begin_ns = last.close.end_boot_ns.next_multiple_of(HOUR_NS);
    let offset_ns = last.close.realtime_offset_ns - (BEGUN_HOURS_AGO * HOUR_NS).cast_signed();
    let mut writer = Writer::open(&recording.metadata, week, offset_ns)?;
    for hour in 0..HOURS {
        let Recording { unknown, known, epochs, .. } = &mut recording;
        let part = if hour < FILL_HOURS { unknown } else { known };
        let mut at_ns = begin_ns + u64::from(hour) * HOUR_NS;
        let indices: Vec<usize> = part.hour().collect();
        for piece in indices.chunk_by(|one, next| one + 1 == *next) {
            let (Some(first), Some(last)) = (piece.first(), piece.last()) else { continue };
            at_ns = writer.piece(&epochs[*first..=*last], at_ns)?;
        }
    }
    writer.sink.finish()?;
    Ok(writer.coverage)
}

impl Kinds {
    /// What else the host did while the services rested would be most of the week: of those epochs the
    /// half that has more of it is a small part of each hour.
    fn of(part: Range<usize>, epochs: &[Recorded], rest: &[Range<u64>]) -> Self {
        let (mut quiet, busy): (Vec<usize>, Vec<usize>) =
            part.partition(|at| epochs[*at].is_within(rest));
        quiet.sort_by_cached_key(|at| epochs[*at].of_others());
        let shared = quiet.split_off(quiet.len().div_ceil(2));
        let turns = |mut epochs: Vec<usize>| {
            epochs.sort_unstable();
            Turns { epochs, next: 0 }
        };
        Self { busy: turns(busy), shared: turns(shared), quiet: turns(quiet) }
    }

    fn is_whole(&self) -> bool {
        [&self.busy, &self.shared, &self.quiet].iter().all(|turns| !turns.epochs.is_empty())
    }

    fn hour(&mut self) -> impl Iterator<Item = usize> + use<> {
        let busy = self.busy.take(BUSY_EPOCHS);
        let shared = self.shared.take(SHARED_EPOCHS);
        busy.chain(shared).chain(self.quiet.take(EPOCHS - BUSY_EPOCHS - SHARED_EPOCHS))
    }
}

impl Turns {
    fn take(&mut self, count: u32) -> impl Iterator<Item = usize> + use<> {
        let taken: Vec<usize> =
            self.epochs.iter().cycle().skip(self.next).take(count as usize).copied().collect();
        self.next = (self.next + taken.len()) % self.epochs.len().max(1);
        taken.into_iter()
    }
}

impl Recording {
    fn read(capture: &Path, quiet: &[Range<u64>]) -> anyhow::Result<Self> {
        let records = capture.join(RECORDS);
        let reader = ParquetReader::open(&records, Some(&records_schema_least()))?;
        let metadata = reader.metadata();
        let mut epochs = Vec::new();
        let mut open: HashMap<Epoch, Vec<Record>> = HashMap::new();
        for batch in reader {
            for record in records_from_batch(&batch?).context("a record of the recording")? {
                let epoch = match &record {
                    Record::Event(event) => event.epoch,
                    Record::Grams(report) => report.epoch,
                    // Learning is no other for having looked at something early.
                    Record::Early(_) => continue,
                    Record::Close(close) => {
                        let records = open.remove(&close.epoch).unwrap_or_default();
                        // What came too late for its epoch is part of none.
                        open.retain(|epoch, _| *epoch > close.epoch);
                        epochs.push(Recorded { close: close.clone(), records });
                        continue;
                    }
                };
                open.entry(epoch).or_default().push(record);
            }
        }
        let schedule = metadata.get(SCHEDULE).context("the recording's daemon didn't learn")?;
        let schedule: Schedule = serde_json::from_str(schedule)?;
        let since = known_since(&metadata).context("the kernel never knew the profile")?;
        let after = scoring_after(&metadata).context("the recording ends before learning did")?;
        let known = epochs.partition_point(|epoch: &Recorded| epoch.close.epoch < since)
            ..epochs.partition_point(|epoch| epoch.close.epoch.0 <= after);
        let unknown = 0..(schedule.fill as usize).min(epochs.len());
        let [unknown, known] = [unknown, known].map(|part| Kinds::of(part, &epochs, quiet));
        anyhow::ensure!(
            unknown.is_whole() && known.is_whole(),
            "too short to make a week of, or never quiet"
        );
        Ok(Self { metadata, epochs, unknown, known })
    }
}

impl Recorded {
    /// Records of others than the services.
    fn of_others(&self) -> usize {
        let ours = ENFORCED.map(Lab::workload);
        let is_other = |record: &&Record| match record {
            Record::Event(event) => {
                !ours.iter().any(|one| *one == *event.actor.subject.workload.as_str())
            }
            _ => false,
        };
        self.records.iter().filter(is_other).count()
    }

    fn is_within(&self, spans: &[Range<u64>]) -> bool {
        let EpochClose { start_boot_ns, end_boot_ns, .. } = self.close;
        spans.iter().any(|span| span.start <= start_boot_ns && end_boot_ns <= span.end)
    }
}

impl Writer {
    fn open(
        metadata: &BTreeMap<String, String>,
        week: &Path,
        offset_ns: i64,
    ) -> anyhow::Result<Self> {
        let host = metadata.get(HOST).context("the recording names no host")?;
        let mut config = ParquetConfig::whole(week, host);
        config.file_seconds = u32::MAX;
        let mut sink = ParquetSink::open(config)?;
        for (key, value) in metadata {
            sink.set_metadata(key, value);
        }
        let [fill, fit] = [FILL_HOURS, FIT_HOURS].map(|hours| hours * EPOCHS);
        let schedule = Schedule { fill, fit, calibrate: HOURS * EPOCHS - fill - fit };
        let edges = [
            (0, Phase::Fill),
            (FIRST_EPOCH + fill - 1, Phase::Fit),
            (FIRST_EPOCH + fill + fit - 1, Phase::Calibrate),
            (FIRST_EPOCH + schedule.epochs() - 1, Phase::Scoring),
        ];
        sink.set_metadata(SCHEDULE, serde_json::to_string(&schedule)?);
        sink.set_metadata(EDGES, serde_json::to_string(&BTreeMap::from(edges))?);
        sink.set_metadata(KNOWN_SINCE, (FIRST_EPOCH + fill + 1).to_string());
        sink.set_metadata(OFFSET, offset_ns.to_string());
        sink.set_metadata(BOOT, BOOT_ID);
        Ok(Self { sink, epoch: Epoch(FIRST_EPOCH), offset_ns, coverage: Coverage::default() })
    }

    /// Writes epochs that follow each other in the recording, from a time on; tells when they end.
    fn piece(&mut self, piece: &[Recorded], at_ns: u64) -> anyhow::Result<u64> {
        let Some(first) = piece.first() else { return Ok(at_ns) };
        let placed = Placed::new(first.close.start_boot_ns, at_ns);
        let mut end_ns = at_ns;
        for recorded in piece {
            let close = placed.close(recorded.close.clone(), self.epoch, self.offset_ns);
            end_ns = close.end_boot_ns;
            let wall_ns = self.offset_ns.saturating_add_unsigned(end_ns);
            let moved = recorded.records.iter().map(|record| match record.clone() {
                Record::Event(event) => Record::Event(placed.event(event, self.epoch)),
                Record::Grams(mut report) => {
                    report.epoch = self.epoch;
                    Record::Grams(report)
                }
                other => other,
            });
            let records: Vec<Record> = moved.chain([Record::Close(close)]).collect();
            self.sink.write(RECORDS, &records_to_batch(&records)?, wall_ns)?;
            let seen = workloads(recorded);
            self.coverage.watch(wall_ns, STANDS_FOR_S, seen, |_| false);
            self.epoch = self.epoch.next();
        }
        Ok(end_ns)
    }
}

/// Whose calls were counted in an epoch.
fn workloads(recorded: &Recorded) -> BTreeSet<&Workload> {
    let rows = recorded.records.iter().filter_map(|record| match record {
        Record::Event(event) if matches!(event.origin, Origin::Row(_)) => Some(event),
        _ => None,
    });
    rows.map(|event| &event.actor.subject.workload).collect()
}

impl Learned {
    /// Reads the report of a training.
    pub(super) fn read(report: &Path, took: Duration, recorded: Duration) -> anyhow::Result<Self> {
        let read = fs::read(report).with_context(|| report.display().to_string())?;
        let report: serde_json::Value = serde_json::from_slice(&read)?;
        let ours = ENFORCED.map(Lab::workload);
        let all =
            report["overview"]["workloads"].as_array().context("the report has no workloads")?;
        let all = all.iter().filter(|one| ours.iter().any(|unit| one["workload"] == unit.as_str()));
        let programs: Vec<_> =
            all.flat_map(|one| one["programs"].as_array().into_iter().flatten()).collect();
        Ok(Self {
            mature: programs.iter().filter(|program| program["state"] == "mature").count(),
            programs: programs.len(),
            recorded_s: recorded.as_secs(),
            took_s: took.as_secs(),
        })
    }
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mature, programs, recorded_s, took_s } = self;
        write!(
            f,
            "{mature} of {programs} profiles mature by a week made of {recorded_s} s, in {took_s} s"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hedgerow_event::{
        Actor, Event, GramReport, HostCounters, Loss, Maturity, Program, Row, RowReason, Subject,
    };
    use hedgerow_offline::{
        keys::{BUDGET, FULL, SEED, SYSCALLS},
        source::{Selection, Source},
        time::Span,
        train::{Train, train},
    };
    use hedgerow_responder::coverage::{Covered, DAYS_MIN};

    use super::*;
    use crate::now_ns;

    const EPOCH_NS: u64 = 5_000_000_000;
    /// Epochs of the recording's fill, and of what follows.
    const LEARNED: u32 = 20;
    const HELD: u32 = 12;

    fn subject() -> Arc<Subject> {
        Arc::new(Subject::new(Workload::new("web.service"), Program::new("/usr/sbin/nginx")))
    }

    /// What a thread did in an epoch that begins at a time.
    fn row(epoch: u32, start_boot_ns: u64) -> Event {
        let calls = 40 + u64::from(epoch % 7);
        let mut row = Row { calls, checked: calls, ..Row::empty(RowReason::Window) };
        row.classes[usize::from(epoch.is_multiple_of(3))] = u32::try_from(calls).unwrap();
        let known = epoch >= LEARNED;
        (row.unseen2, row.unseen3, row.unseen6) = if known { (0, 0, 0) } else { (calls, 9, 9) };
        Event {
            epoch: Epoch(epoch),
            time_boot_ns: start_boot_ns + 1,
            actor: Actor {
                subject: subject(),
                tgid: 7,
                tid: 7,
                start_boot_ns: 5,
                cgroup_id: 9,
                program_id: 11,
                slot: 1,
            },
            origin: Origin::Row(Box::new(row)),
        }
    }

    /// A recording of a service in fill and after it; tells when the second half of each was.
    fn record(capture: &Path, now_ns: i64) -> [Range<u64>; 2] {
        let mut sink = ParquetSink::open(ParquetConfig::whole(capture, "h")).unwrap();
        let schedule = Schedule { fill: LEARNED, fit: HELD / 2, calibrate: HELD / 2 };
        let edges = BTreeMap::from([(LEARNED + HELD - 1, Phase::Scoring)]);
        let at_ns = |epoch: u32| 20 * HOUR_NS + u64::from(epoch) * EPOCH_NS;
        let offset_ns = now_ns - at_ns(LEARNED + HELD).cast_signed();
        for (key, value) in [
            (HOST, "h".to_owned()),
            (BOOT, "b".to_owned()),
            (SEED, "7".to_owned()),
            (BUDGET, "1".to_owned()),
            (FULL, "false".to_owned()),
            (SYSCALLS, "true".to_owned()),
            (OFFSET, offset_ns.to_string()),
            (KNOWN_SINCE, (LEARNED + 1).to_string()),
            (SCHEDULE, serde_json::to_string(&schedule).unwrap()),
            (EDGES, serde_json::to_string(&edges).unwrap()),
        ] {
            sink.set_metadata(key, value);
        }
        for epoch in 0..LEARNED + HELD {
            let mut records = vec![Record::Event(row(epoch, at_ns(epoch)))];
            if epoch < LEARNED {
                let grams = || vec![epoch % 4];
                records.push(Record::Grams(GramReport {
                    epoch: Epoch(epoch),
                    subject: subject(),
                    grams2: grams(),
                    grams3: grams(),
                    grams6: grams(),
                }));
            }
            records.push(Record::Close(EpochClose {
                epoch: Epoch(epoch),
                start_boot_ns: at_ns(epoch),
                end_boot_ns: at_ns(epoch + 1),
                realtime_offset_ns: offset_ns,
                suspended_ns: 0,
                loss: Loss::default(),
                host: HostCounters::default(),
                shed: false,
            }));
            sink.write(RECORDS, &records_to_batch(&records).unwrap(), now_ns).unwrap();
        }
        sink.finish().unwrap();
        [at_ns(LEARNED / 2)..at_ns(LEARNED), at_ns(LEARNED + HELD / 2)..u64::MAX]
    }

    #[test]
    fn what_is_learned_of_minutes_is_as_mature_and_as_old_as_the_gate_asks_for() {
        let directory = tempfile::tempdir().unwrap();
        let [capture, week] = ["capture", "week"].map(|name| directory.path().join(name));
        let now_ns = now_ns();
        let quiet = record(&capture, now_ns);
        let coverage = write(&capture, &quiet, &week).unwrap();
        let Covered { days, hours } = coverage.of(&subject().workload, now_ns);
        assert_eq!((days, hours), (DAYS_MIN, HOURS));
        let source = Source::open(&[week], &Selection::default()).unwrap();
        let made = train(source, Span::ALL, &Train::default(), None, &mut |_| {}).unwrap();
        assert!(made.gaps.is_empty(), "{:?}", made.gaps);
        assert!(made.engine.learned_ns().unwrap() <= now_ns);
        assert_eq!(made.engine.state_of_workload(&subject().workload), Maturity::Mature);
        let overview = made.engine.overview();
        let program = &overview.workloads[0].programs[0];
        assert_eq!((program.state, program.windows), (Maturity::Mature, 10_908));
    }

    #[test]
    fn a_recording_without_a_quiet_part_makes_no_week() {
        let directory = tempfile::tempdir().unwrap();
        let [capture, week] = ["capture", "week"].map(|name| directory.path().join(name));
        record(&capture, now_ns());
        let refused = write(&capture, &[], &week).unwrap_err().to_string();
        assert!(refused.contains("never quiet"), "{refused}");
    }
}
