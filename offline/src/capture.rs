//! One run's records, early rows and what its files say of it.

use std::{collections::BTreeMap, env::consts::ARCH, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema};
use hedgerow_detect::{EPOCH_SECONDS, SavedModel, Schedule, Settings};
use hedgerow_event::Epoch;
use hedgerow_features::{EarlyLook, Sensors, Window, from_batch, records_schema_least, schema};
use hedgerow_sink::parquet::{Damaged, ParquetReader};

use crate::{
    Error, Result,
    keys::{
        ARCHITECTURE, BUDGET, EARLY, FULL, MODEL, OFFSET, RECORDS, SCHEDULE, SEED, SYSCALLS,
        known_since, scoring_after,
    },
    source::Run,
    time::Span,
};

/// What a capture says of itself.
#[derive(Debug)]
pub struct Capture {
    pub(crate) records: ParquetReader,
    pub(crate) early: EarlyRows,
    /// By which it is told.
    pub name: String,
    pub seed: u64,
    pub host: String,
    boot: String,
    /// Of the learning that went on meanwhile.
    pub schedule: Option<Schedule>,
    /// The epoch after which that daemon began to score.
    pub scoring_after: Option<u32>,
    /// The first epoch in which its kernel took the profile for known.
    pub(crate) known_since: Option<Epoch>,
    /// The model whose profile that is; older versions don't say.
    pub(crate) model: Option<String>,
    /// Every call was stored.
    pub full: bool,
    pub syscalls: bool,
    pub budget_per_day: f64,
    /// Wall time less time since boot, as it was at the start.
    pub(crate) realtime_offset_ns: i64,
    pub span: Span,
}

fn is_of_here(name: &str, metadata: &BTreeMap<String, String>) -> Result<()> {
    match metadata.get(ARCHITECTURE).filter(|other| *other != ARCH) {
        None => Ok(()),
        Some(other) => Err(Error::File(format!(
            "{name}: recorded on {other}, where system calls have other numbers than on {ARCH}: read it on \
             {other}, or leave its host out with --host"
        ))),
    }
}

impl Capture {
    /// Opens a run.
    ///
    /// # Errors
    /// Names the file and the column that doesn't fit, what the metadata lacks, or the architecture whose
    /// numbers of system calls aren't known here.
    pub fn open(run: Run, span: Span) -> Result<Self> {
        let name = run.name();
        is_of_here(&name, &run.metadata)?;
        let missing = |key: &str| {
            Error::File(format!(
                "{name}: the files' metadata has no usable `{key}`; was it written by `hedgerow \
                 capture` or `hedgerow run --capture`?"
            ))
        };
        let metadata = &run.metadata;
        let text = |key: &str| metadata.get(key).ok_or_else(|| missing(key));
        let truth = |key: &str| -> Result<bool> { text(key)?.parse().map_err(|_| missing(key)) };
        let schedule = metadata.get(SCHEDULE).map(|text| serde_json::from_str(text));
        Ok(Self {
            seed: text(SEED)?.parse().map_err(|_| missing(SEED))?,
            schedule: schedule.transpose().map_err(|_| missing(SCHEDULE))?,
            scoring_after: scoring_after(metadata),
            known_since: known_since(metadata),
            model: metadata.get(MODEL).cloned(),
            full: truth(FULL)?,
            syscalls: truth(SYSCALLS)?,
            budget_per_day: text(BUDGET)?
                .parse()
                .ok()
                .filter(|budget: &f64| budget.is_finite() && *budget > 0.0)
                .ok_or_else(|| missing(BUDGET))?,
            realtime_offset_ns: text(OFFSET)?.parse().map_err(|_| missing(OFFSET))?,
            early: EarlyRows::open(&run, span)?,
            host: run.host,
            boot: run.boot,
            records: ParquetReader::of(run.records, &records_schema_least())
                .map_err(Error::file)?,
            name,
            span,
        })
    }

    /// What the daemon that made the capture ran with.
    pub fn settings(&self, schedule: Schedule, seed: u64) -> Settings {
        Settings {
            host_id: Arc::from(self.host.as_str()),
            boot_id: self.boot.clone(),
            schedule,
            budget_per_day: self.budget_per_day,
            seed,
            sensors: Sensors { rows: self.syscalls, calls: self.syscalls, ..Sensors::default() },
            realtime_offset_ns: self.realtime_offset_ns,
        }
    }

    /// Alerts a day that are acceptable: as asked, or what the daemon had that made it.
    pub(crate) fn budget(&self, asked: Option<f64>) -> Result<f64> {
        match asked {
            Some(budget) if !(budget.is_finite() && budget > 0.0) => Err(Error::Usage(format!(
                "--budget: {budget} is not a number of episodes a day above 0"
            ))),
            asked => Ok(asked.unwrap_or(self.budget_per_day)),
        }
    }

    /// Whether its rows were counted by a model's profile: a key alone doesn't say so, which a fleet
    /// shares.
    pub(crate) fn is_of(&self, saved: &SavedModel) -> bool {
        saved.seed() == self.seed
            && match &self.model {
                Some(model) => saved.has_profile_of(model),
                None => self.known_since.is_some(),
            }
    }

    /// Rows of its records.
    pub fn rows(&self) -> u64 {
        self.records.rows()
    }
}

/// Counts the epochs of a run that end within a time, by two columns of it.
///
/// # Errors
/// A column can't be read.
pub fn epochs(run: &Run, span: Span) -> Result<u64> {
    use arrow::array::{
        AsArray,
        types::{Int64Type, UInt64Type},
    };
    const END: &str = "close_end_boot_ns";
    const CLOCK: &str = "close_realtime_offset_ns";
    let expected = Schema::new(vec![
        Field::new(END, DataType::UInt64, true),
        Field::new(CLOCK, DataType::Int64, true),
    ]);
    let reader = ParquetReader::of(run.records.clone(), &expected).map_err(Error::file)?;
    let mut epochs = 0;
    for batch in reader.with_columns(&[END, CLOCK]) {
        let batch = batch.map_err(Error::file)?;
        let (Some(end), Some(clock)) = (batch.column_by_name(END), batch.column_by_name(CLOCK))
        else {
            continue;
        };
        let (end, clock) = (end.as_primitive::<UInt64Type>(), clock.as_primitive::<Int64Type>());
        let within = end.iter().zip(clock).filter(|(end, clock)| {
            end.zip(*clock).is_some_and(|(end, clock)| span.holds(wall_ns(end, clock)))
        });
        epochs += within.count() as u64;
    }
    // The first one may have begun before it.
    Ok(if span.from_ns > i64::MIN { u64::saturating_sub(epochs, 1) } else { epochs })
}

/// The schedule that divides so many epochs as a learning time is divided.
pub fn divided(epochs: u64) -> Schedule {
    Schedule::of(epochs * EPOCH_SECONDS)
}

pub(crate) fn wall_ns(boot_ns: u64, realtime_offset_ns: i64) -> i64 {
    realtime_offset_ns.saturating_add_unsigned(boot_ns)
}

impl Span {
    pub(crate) fn holds(self, time_ns: i64) -> bool {
        (self.from_ns..=self.to_ns).contains(&time_ns)
    }
}

/// Early rows in order, a file at a time.
#[derive(Debug)]
pub(crate) struct EarlyRows {
    reader: Option<ParquetReader>,
    rows: std::iter::Peekable<std::vec::IntoIter<Window>>,
    /// Rows or looks may be missing.
    holes: bool,
}

impl EarlyRows {
    fn open(run: &Run, span: Span) -> Result<Self> {
        let reader = match run.early.is_empty() {
            true => None,
            false => Some(ParquetReader::of(run.early.clone(), &schema()).map_err(Error::file)?),
        };
        let holes = run.damaged || !span.is_all();
        Ok(Self { reader, rows: Vec::new().into_iter().peekable(), holes })
    }

    fn peek(&mut self) -> Result<Option<&Window>> {
        while self.rows.peek().is_none() {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            let Some(batch) = reader.next() else { return Ok(None) };
            let batch = batch.map_err(Error::file)?;
            let rows = from_batch(&batch).map_err(|why| in_file(reader, why))?;
            self.holes |= !reader.damaged().is_empty();
            self.rows = rows.into_iter().peekable();
        }
        Ok(self.rows.peek())
    }

    /// The row that a look had; none where it is missing and may be.
    pub(crate) fn take(&mut self, look: &EarlyLook) -> Result<Option<Window>> {
        // Rows whose looks are missing.
        while self.holes
            && self.peek()?.is_some_and(|row| EarlyLook::from(row).time_boot_ns < look.time_boot_ns)
        {
            self.rows.next();
        }
        if self.peek()?.is_some_and(|row| EarlyLook::from(row) == *look) {
            return Ok(self.rows.next());
        }
        if self.holes {
            return Ok(None);
        }
        Err(Error::File(format!(
            "stream `{EARLY}`: no row for the look at {} in epoch {}; the files of `{RECORDS}` and \
             `{EARLY}` are not of one capture",
            look.subject, look.epoch
        )))
    }

    pub(crate) fn damaged(&self) -> &[Damaged] {
        self.reader.as_ref().map_or(&[], ParquetReader::damaged)
    }
}

/// A row that can't be, with the file and the row group that it is in.
pub(crate) fn in_file(reader: &ParquetReader, why: hedgerow_features::Error) -> Error {
    let path = reader.path().map(|path| path.display().to_string()).unwrap_or_default();
    let before = reader.before();
    let group = why.row().map(|row| reader.row_group(before + row as u64));
    let group = group.map_or_else(String::new, |group| format!("row group {group}: "));
    let why = why.behind(usize::try_from(before).unwrap_or_default());
    Error::File(format!("{path}: {group}{why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_recorded_on_another_architecture_is_refused_by_name() {
        let of = |architecture: &str| BTreeMap::from([(ARCHITECTURE.into(), architecture.into())]);
        assert!(
            is_of_here("run", &BTreeMap::new()).is_ok() && is_of_here("run", &of(ARCH)).is_ok()
        );
        let why = is_of_here("run", &of("riscv64")).unwrap_err().to_string();
        assert!(why.starts_with("run: recorded on riscv64, "), "{why}");
    }
}
