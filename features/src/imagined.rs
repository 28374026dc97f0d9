//! A window that a subject might have: a usual one, with something on top.
//!
//! What is usual is known column by column only, of windows that are gone. A column becomes its
//! usual value plus what the formula makes of the difference: counts exactly, shares as far as the
//! usual counts tell them. A column of which nothing is usual is worked out from those counts.

use std::sync::{Arc, LazyLock};

use hedgerow_event::{CLASSES, Event, Origin, Subject, calls::Class};

use crate::{
    accumulate::Accumulator,
    baseline::{Baseline, parent_of},
    column::Context,
    columns::{COLUMNS, column_index},
    item::ItemKey,
    window::{Config, Window, WindowTime},
};

/// A field of an accumulator.
type Field = fn(&mut Accumulator) -> &mut u64;

/// Columns that say what a field held, beside those of the call classes.
const FIELDS: &[(&str, Field)] = &[
    ("volume_calls_count", |a| &mut a.calls.calls),
    ("errors_calls_count", |a| &mut a.calls.errors),
    ("processes_execs_count", |a| &mut a.processes.execs),
    ("processes_children_count", |a| &mut a.processes.children),
    ("processes_forks_count", |a| &mut a.processes.forks),
    ("files_streamed_count", |a| &mut a.files.streamed),
    ("files_opens_count", |a| &mut a.files.opens),
    ("files_failed_count", |a| &mut a.files.opens_failed),
    ("files_writes_count", |a| &mut a.files.opens_write),
    ("flows_opened_count", |a| &mut a.flows.opened),
    ("flows_accepted_count", |a| &mut a.flows.accepted),
    ("flows_failed_count", |a| &mut a.flows.failed),
    ("flows_out_bytes", |a| &mut a.flows.bytes_out),
    ("flows_in_bytes", |a| &mut a.flows.bytes_in),
    ("flows_flow_out_bytes", |a| &mut a.flows.bytes_out_max),
    ("flows_dns_out_bytes", |a| &mut a.flows.dns_bytes_out),
    ("flows_out_packets", |a| &mut a.flows.packets_out),
    ("flows_in_packets", |a| &mut a.flows.packets_in),
];

/// [`FIELDS`] by the index of their column.
static FIELD_COLUMNS: LazyLock<Vec<(usize, Field)>> = LazyLock::new(|| {
    FIELDS.iter().filter_map(|(name, field)| Some((column_index(name)?, *field))).collect()
});

/// The first column of the call classes.
static CLASS_COLUMNS: LazyLock<[Option<usize>; CLASSES]> = LazyLock::new(|| {
    std::array::from_fn(|class| {
        let name = hedgerow_event::calls::CLASS_NAMES[class];
        column_index(&format!("classes_{name}_count"))
    })
});

/// A subject's usual window, and what is imagined on top of it.
#[derive(Debug, Clone)]
pub struct Imagined {
    /// By column; `None` where nothing is usual.
    usual: Vec<Option<f64>>,
    before: Accumulator,
    after: Accumulator,
    key: ItemKey,
}

impl Imagined {
    /// `usual` gives a column's usual value by its index in [`COLUMNS`]; none of them is a window in
    /// which the subject does nothing else.
    pub fn new(subject: &Arc<Subject>, key: ItemKey, usual: impl Fn(usize) -> Option<f64>) -> Self {
        let usual: Vec<Option<f64>> = (0..COLUMNS.len()).map(usual).collect();
        let mut before = Accumulator::new(Arc::clone(subject), key);
        let whole = |column: Option<usize>| {
            column.and_then(|at| usual[at]).map_or(0, |value| value.max(0.0).round() as u64)
        };
        for (class, column) in CLASS_COLUMNS.iter().enumerate() {
            before.calls.classes[class] = whole(*column);
        }
        for (column, field) in FIELD_COLUMNS.iter() {
            *field(&mut before) = whole(Some(*column));
        }
        let share = column_index("volume_thread_share").and_then(|at| usual[at]).unwrap_or(0.0);
        before.calls.calls_max = (share * before.calls.calls as f64) as u64;
        Self { usual, after: before.clone(), before, key }
    }

    /// Puts an event on top; one of another subject counts nothing.
    pub fn observe(&mut self, event: &Event) {
        let subject = Arc::clone(&self.after.subject);
        let mut parent = None;
        if let Origin::Exec(exec) = &event.origin {
            parent = parent_of(event, exec);
        }
        if event.actor.subject == subject {
            self.after.observe(event, self.key);
            if let Some(parent) = parent {
                self.after.processes.observe_parent(parent, &subject, self.key);
            }
        }
        if let Some(parent) = parent.filter(|parent| **parent == subject) {
            self.after.processes.observe_child(parent, &event.actor.subject, self.key);
        }
    }

    /// Puts calls of a class on top, made by the threads that are there.
    pub fn call(&mut self, class: Class, times: u64) {
        let calls = &mut self.after.calls;
        calls.classes[class.index()] += times;
        calls.calls += times;
        calls.calls_max = calls.calls_max.max(times);
    }

    /// Puts forks of processes on top.
    pub fn fork(&mut self, times: u64) {
        self.call(Class::Clone, times);
        self.after.processes.forks += times;
    }

    /// Puts an accepted connection on top, so many times.
    pub fn accept(&mut self, times: u64) {
        self.call(Class::Accept, times);
        self.after.flows.accepted += times;
    }

    /// The window at a time, with the columns of the sensors that there are.
    pub fn window(&self, config: &Config, time: WindowTime, baseline: &Baseline) -> Window {
        let known = baseline.known(&self.after.subject.workload);
        let context = Context {
            scale: time.scale,
            seconds: time.seconds(),
            sensors: config.sensors,
            known: known.filter(|_| baseline.key() == self.key),
        };
        let mut window = Window::new(&config.host, &self.after, time, None, &context);
        let columns = window.values.iter_mut().zip(&self.usual).zip(COLUMNS.iter());
        for ((value, usual), column) in columns {
            let Some(usual) = usual else { continue };
            let before = column.value(&self.before, &context);
            if *value == before || value.is_nan() {
                *value = *usual;
            } else if !before.is_nan() {
                *value += usual - before;
            }
        }
        window
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Epoch, Loss, Program, Scale, Workload};

    use super::*;

    fn time() -> WindowTime {
        WindowTime {
            scale: Scale::Seconds5,
            epoch: Epoch(1),
            parts: 1,
            start_boot_ns: 0,
            end_boot_ns: 5_000_000_000,
            realtime_offset_ns: 0,
            suspended_ns: 0,
            unattributed: Loss::default(),
            shed: false,
        }
    }

    #[test]
    fn what_is_on_top_changes_its_own_columns_and_leaves_the_usual_ones() {
        let subject = Arc::new(Subject::new(Workload::host(), Program::new("/bin/x")));
        let usual = [
            ("volume_calls_count", 100.0),
            ("classes_open_count", 60.0),
            ("classes_read_count", 40.0),
            ("classes_open_share", 0.61),
            ("flows_peers_count", 3.0),
        ];
        let key = ItemKey(1);
        let of = |at: usize| {
            let named = usual.iter().find(|(name, _)| COLUMNS[at].name == *name);
            named.map(|(_, value)| *value)
        };
        let mut imagined = Imagined::new(&subject, key, of);
        let (config, baseline) = (Config::new("h"), Baseline::new(key, 1));
        let before = imagined.window(&config, time(), &baseline);
        usual.iter().for_each(|(name, value)| assert_eq!(before.value(name), Some(*value)));
        imagined.call(Class::Open, 100);
        let after = imagined.window(&config, time(), &baseline);
        assert_eq!(after.value("volume_calls_count"), Some(200.0));
        assert_eq!(after.value("classes_open_count"), Some(160.0));
        assert!((after.value("classes_open_share").unwrap() - 0.81).abs() < 1e-9);
        assert_eq!(after.value("flows_peers_count"), Some(3.0));
        assert_eq!(after.value("volume_calls_rate"), Some(40.0), "worked out from the counts");
    }
}
