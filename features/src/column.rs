//! What a column is: its name, its meaning and its formula, all in one place.

use std::borrow::Cow;

use hedgerow_event::{Family, Scale};

use crate::{accumulate::Accumulator, baseline::Known};

/// How a column's values are stored and what they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from 0, `UInt64`; exact up to 2^53, where it saturates.
    Count,
    /// A real number, `Float64`.
    Measure,
}

/// The sensor whose hooks a column needs; without them it is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Per-thread rows of system calls.
    Rows,
    /// Exec, fork and exit records.
    Processes,
    /// Streamed security-relevant calls.
    Calls,
    /// Flow records.
    Flows,
    /// The kernel's network counters; only on the host subject.
    Host,
}

/// Which sensors deliver. What a host can't deliver is unavailable, not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensors {
    pub rows: bool,
    pub processes: bool,
    pub calls: bool,
    pub flows: bool,
    pub host: bool,
}

impl Default for Sensors {
    fn default() -> Self {
        Self { rows: true, processes: true, calls: true, flows: true, host: true }
    }
}

impl Sensors {
    pub fn has(self, source: Source) -> bool {
        match source {
            Source::Rows => self.rows,
            Source::Processes => self.processes,
            Source::Calls => self.calls,
            Source::Flows => self.flows,
            Source::Host => self.host,
        }
    }
}

/// What a formula may look at beside the accumulator.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub scale: Scale,
    /// Length of the window for rates; `None` where a suspend makes rates meaningless.
    pub seconds: Option<f64>,
    pub sensors: Sensors,
    /// What is known of the subject's workload; `None` while it is being learned.
    pub known: Option<Known<'a>>,
}

/// How a value comes about. NaN means unavailable.
#[derive(Debug, Clone, Copy)]
pub enum Formula {
    Of(fn(&Accumulator, &Context<'_>) -> f64),
    /// Calls of these classes, a bit set of class indices.
    Sum(u64),
    /// Their share of all calls.
    Share(u64),
}

/// One column of a window.
#[derive(Debug, Clone)]
pub struct Column {
    /// `family_thing_unit`.
    pub name: Cow<'static, str>,
    pub family: Family,
    pub kind: Kind,
    pub source: Source,
    /// The forest sees it; the rest is kept so that nothing is lost.
    pub matrix: bool,
    /// The formula for people, and when it is unavailable.
    pub doc: Cow<'static, str>,
    pub formula: Formula,
}

impl Column {
    pub const fn count(
        family: Family,
        source: Source,
        name: &'static str,
        doc: &'static str,
        formula: fn(&Accumulator, &Context<'_>) -> f64,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            family,
            kind: Kind::Count,
            source,
            matrix: true,
            doc: Cow::Borrowed(doc),
            formula: Formula::Of(formula),
        }
    }

    pub const fn measure(
        family: Family,
        source: Source,
        name: &'static str,
        doc: &'static str,
        formula: fn(&Accumulator, &Context<'_>) -> f64,
    ) -> Self {
        let mut column = Self::count(family, source, name, doc, formula);
        column.kind = Kind::Measure;
        column
    }

    /// Calls of some classes: from rows, so exact where streamed records are limited.
    pub const fn calls(
        family: Family,
        name: &'static str,
        doc: &'static str,
        classes: u64,
    ) -> Self {
        let mut column = Self::count(family, Source::Rows, name, doc, |_, _| f64::NAN);
        column.formula = Formula::Sum(classes);
        column
    }

    /// Kept in the schema, kept from the forest: another column says the same in a better form.
    pub const fn outside_matrix(mut self) -> Self {
        self.matrix = false;
        self
    }

    /// The column's value; NaN where it is unavailable.
    pub fn value(&self, accumulator: &Accumulator, context: &Context<'_>) -> f64 {
        Rule::of(self).value(accumulator, context, Available::of(accumulator, context))
    }
}

/// Sources that a row has something of, a bit each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Available(u8);

impl Available {
    pub(crate) fn of(accumulator: &Accumulator, context: &Context<'_>) -> Self {
        let bit = |source: Source| {
            let is_there = source != Source::Host || accumulator.host.is_some();
            u8::from(is_there && context.sensors.has(source)) << source as u8
        };
        use Source::{Calls, Flows, Host, Processes, Rows};
        Self([Rows, Processes, Calls, Flows, Host].map(bit).into_iter().sum())
    }

    fn has(self, source: Source) -> bool {
        self.0 >> source as u8 & 1 == 1
    }
}

/// What a column's value is made by: names and words would make a window's way through them long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    kind: Kind,
    source: Source,
    formula: Formula,
}

impl Rule {
    pub(crate) fn of(column: &Column) -> Self {
        let Column { kind, source, formula, .. } = *column;
        Self { kind, source, formula }
    }

    #[inline]
    pub(crate) fn value(
        self,
        accumulator: &Accumulator,
        context: &Context<'_>,
        available: Available,
    ) -> f64 {
        if !available.has(self.source) {
            return f64::NAN;
        }
        let value = match self.formula {
            Formula::Of(formula) => formula(accumulator, context),
            Formula::Sum(classes) => accumulator.calls.sum(classes) as f64,
            Formula::Share(classes) => {
                share(accumulator.calls.sum(classes), accumulator.calls.calls)
            }
        };
        // Not `min`, which would turn "unavailable" into the largest count.
        if self.kind == Kind::Count && value > COUNT_MAX { COUNT_MAX } else { value }
    }
}

/// The largest count that `f64` and the forest's input hold exactly.
pub const COUNT_MAX: f64 = (1u64 << 53) as f64;

/// `part / whole`; unavailable where the whole is 0.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    match (part, whole) {
        (_, 0) => f64::NAN,
        // What most classes are.
        (0, _) => 0.0,
        _ => part as f64 / whole as f64,
    }
}
