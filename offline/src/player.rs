//! A capture's records through an engine, in the order of delivery: the same steps as live.

use glob::Pattern;
use hedgerow_detect::{Engine, Outcome, known};
use hedgerow_event::{Epoch, EpochClose, Event, Origin, Subject};
use hedgerow_features::{EarlyLook, Extractor, Record, records_from_batch};
use hedgerow_sink::parquet::Damaged;

use crate::{
    Error, Result,
    capture::{Capture, in_file, wall_ns},
    condition::Condition,
    holes::Gap,
};

/// Where rows and n-grams come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// As the kernel counted them, against the profile that was in force.
    Recorded,
    /// Recomputed from every call.
    Recomputed,
    /// As the kernel counted them, but without the order of calls, which was counted against
    /// another profile: those columns are unavailable, and nothing is looked at early.
    Unordered,
}

impl Rows {
    /// Recorded ones where they can be taken; otherwise every call must have been stored.
    ///
    /// # Errors
    /// Not every call was stored.
    pub fn choose(recorded: bool, capture: &Capture) -> Result<Self> {
        if recorded {
            return Ok(Self::Recorded);
        }
        if capture.full || !capture.syscalls {
            return Ok(Self::Recomputed);
        }
        Err(Error::File(format!(
            "{}: its n-grams were counted against another profile and can't be recomputed, since \
             not every call was stored; capture with --full",
            capture.name
        )))
    }
}

/// Programs that are learned from or judged; what others did is as if it had not been seen. Whole
/// programs only, so that no sequence is torn.
#[derive(Debug, Clone, Default)]
pub struct Only {
    pub workloads: Vec<Pattern>,
    pub programs: Vec<Pattern>,
    pub condition: Option<Condition>,
}

impl Only {
    pub fn is_all(&self) -> bool {
        self.workloads.is_empty() && self.programs.is_empty() && self.condition.is_none()
    }

    /// # Errors
    /// None of the programs that were captured was taken, which is a slip.
    pub(crate) fn found(&self, taken: bool) -> Result<()> {
        match taken || self.is_all() {
            true => Ok(()),
            false => Err(Error::Usage(
                "--workload, --program, --where: none of the captured programs is asked for".into(),
            )),
        }
    }

    fn takes(&self, host: &str, subject: &Subject) -> bool {
        let any = |patterns: &[Pattern], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
        };
        any(&self.workloads, subject.workload.as_str())
            && any(&self.programs, &subject.program.path)
            && self.condition.as_ref().is_none_or(|condition| condition.takes(host, subject))
    }
}

/// Told of each outcome; whether to go on.
pub type Tell<'a> = dyn FnMut(&Engine, Outcome) -> Result<bool> + 'a;
/// Sees each event before the engine does, and whether it is judged or only leads up.
pub type Watch<'a> = dyn FnMut(&Event, bool) + 'a;
/// Told how many rows were read since the last time.
pub type Progress<'a> = dyn FnMut(u64) + 'a;

/// How a capture is played.
#[derive(Debug, Clone)]
pub struct Play {
    pub rows: Rows,
    /// The profile is the one that the capture's daemon had, or learned: it holds from the epoch
    /// in which it held live. Another one holds as soon as it is there.
    pub own: bool,
    /// Epochs up to this one only lead up to what is judged.
    pub judge_after: Option<u32>,
    pub only: Only,
}

/// A record without what was counted against a profile.
fn unordered(mut record: Record) -> Option<Record> {
    if let Record::Event(Event { origin, .. }) = &mut record {
        match origin {
            Origin::Row(row) => {
                (row.checked, row.unseen2, row.unseen3, row.unseen6) = (0, 0, 0, 0);
            }
            Origin::Signal(_) => return None,
            _ => {}
        }
    }
    (!matches!(record, Record::Grams(_) | Record::Early(_))).then_some(record)
}

/// A capture being played.
#[derive(Debug)]
pub struct Player {
    pub capture: Capture,
    play: Play,
    extractor: Extractor,
    known_since: Option<Epoch>,
    /// Read, not played yet.
    records: std::vec::IntoIter<Record>,
    last_boot_ns: u64,
    /// The last epoch that closed.
    closed: Epoch,
    /// Somebody was captured who is asked for.
    pub(crate) taken: bool,
    /// What led up to the judged part is over.
    judging: bool,
    /// The time that is asked for has begun.
    begun: bool,
    ended: bool,
    /// Epochs of which no record is there: (after, before).
    gaps: Vec<(Epoch, Epoch)>,
}

impl Player {
    pub fn new(capture: Capture, engine: &Engine, play: Play) -> Self {
        let mut extractor = Extractor::new(engine.seed());
        let known_since = capture.known_since.filter(|_| play.own);
        if let Some(profile) = engine.profile() {
            extractor.set_known(known(profile), known_since.unwrap_or_default());
        }
        Self {
            begun: capture.span.from_ns == i64::MIN,
            capture,
            taken: false,
            judging: play.judge_after.is_none(),
            play,
            extractor,
            known_since,
            records: Vec::new().into_iter(),
            last_boot_ns: 0,
            closed: Epoch(0),
            ended: false,
            gaps: Vec::new(),
        }
    }

    /// When the last epoch closed, on the clock since boot.
    pub fn last_boot_ns(&self) -> u64 {
        self.last_boot_ns
    }

    /// Files that could not be read to their end so far.
    pub fn damaged(&self) -> impl Iterator<Item = &Damaged> {
        self.capture.records.damaged().iter().chain(self.capture.early.damaged())
    }

    /// The run, and the epochs (after, before) between which nothing was there so far.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> {
        let name = &self.capture.name;
        self.gaps.iter().map(move |(after, before)| (name.clone(), *after, *before))
    }

    /// Plays all, or until whoever is told has enough; whether it came to the end.
    ///
    /// # Errors
    /// A record can't be; or what `tell` returned.
    pub fn play(
        &mut self,
        engine: &mut Engine,
        tell: &mut Tell<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<bool> {
        self.watched(engine, &mut |_, _| {}, tell, progress)
    }

    /// The same, with somebody who sees each event.
    ///
    /// # Errors
    /// As [`Self::play`].
    pub fn watched(
        &mut self,
        engine: &mut Engine,
        watch: &mut Watch<'_>,
        tell: &mut Tell<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<bool> {
        let mut out = Vec::new();
        loop {
            let Some(mut record) = self.next(progress)? else { return Ok(true) };
            let mut closes = false;
            if let Record::Close(close) = &mut record {
                let begun = self.begun;
                self.bound(close);
                if self.ended {
                    return Ok(true);
                }
                closes = begun;
            } else if !self.takes(&record) {
                continue;
            }
            // The first epoch may have begun before the time that is asked for.
            if !self.begun || (matches!(record, Record::Close(_)) && !closes) {
                continue;
            }
            if !self.record(engine, record, &mut out, watch, tell)? {
                return Ok(false);
            }
        }
    }

    fn next(&mut self, progress: &mut Progress<'_>) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.records.next() {
                return Ok(Some(record));
            }
            let Some(batch) = self.capture.records.next() else { return Ok(None) };
            let batch = batch.map_err(Error::file)?;
            progress(batch.num_rows() as u64);
            let records = records_from_batch(&batch);
            self.records = records.map_err(|why| in_file(&self.capture.records, why))?.into_iter();
        }
    }

    /// Notes where the time that is asked for begins and ends, and epochs that are missing: the
    /// one after these isn't whole.
    fn bound(&mut self, close: &mut EpochClose) {
        let span = self.capture.span;
        let end = wall_ns(close.end_boot_ns, close.realtime_offset_ns);
        self.ended = end > span.to_ns;
        if self.begun && self.last_boot_ns != 0 && close.epoch > self.closed.next() {
            self.gaps.push((self.closed, close.epoch));
            close.loss.lost += 1;
        }
        self.begun |= end >= span.from_ns;
    }

    fn takes(&mut self, record: &Record) -> bool {
        let subject = match record {
            Record::Event(event) => &event.actor.subject,
            Record::Grams(report) => &report.subject,
            Record::Early(_) | Record::Close(_) => return true,
        };
        let takes = self.play.only.takes(&self.capture.host, subject);
        self.taken |= takes;
        takes
    }

    fn record(
        &mut self,
        engine: &mut Engine,
        record: Record,
        out: &mut Vec<Record>,
        watch: &mut Watch<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<bool> {
        match self.play.rows {
            Rows::Recorded => out.push(record),
            Rows::Unordered => out.extend(unordered(record)),
            Rows::Recomputed => self.extractor.push(record, out),
        }
        for record in out.drain(..) {
            let outcomes = match record {
                Record::Event(event) => {
                    watch(&event, self.judging);
                    engine.observe(&event);
                    continue;
                }
                Record::Grams(report) => {
                    engine.grams(&report);
                    continue;
                }
                Record::Early(look) => self.look(engine, &look)?,
                Record::Close(close) => self.close(engine, &close)?,
            };
            for outcome in outcomes {
                if let Outcome::Arm(profile) = &outcome {
                    // Live, the kernel was in the next epoch when it was told.
                    let next = self.closed.next().next();
                    self.extractor.set_known(known(profile), self.known_since.unwrap_or(next));
                }
                if !tell(engine, outcome)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn close(&mut self, engine: &mut Engine, close: &EpochClose) -> Result<Vec<Outcome>> {
        self.last_boot_ns = close.end_boot_ns;
        self.closed = close.epoch;
        if self.judging {
            return Ok(engine.close(close)?);
        }
        engine.pass(close);
        self.judging = self.play.judge_after.is_none_or(|last| close.epoch.0 >= last);
        Ok(Vec::new())
    }

    /// Judges an early row where it was judged live.
    fn look(&mut self, engine: &mut Engine, look: &EarlyLook) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        // Those of another model were counted against its profile, and can't be recomputed.
        if !self.play.own {
            return Ok(outcomes);
        }
        let Some(window) = self.capture.early.take(look)? else { return Ok(outcomes) };
        self.last_boot_ns = look.time_boot_ns;
        if self.judging && self.play.only.takes(&self.capture.host, &look.subject) {
            engine.judge_early(window, &mut outcomes);
        }
        Ok(outcomes)
    }
}
