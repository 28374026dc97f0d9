#![allow(clippy::unwrap_used)]
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use hedgerow_event::{Activity, Disposition};
use hedgerow_lab::Disk;
use hedgerow_sink::{Format, JsonlConfig, JsonlSink, Rotation, Sink};

use super::{
    super::{
        Outlets,
        killed::{common::finding, decided},
    },
    *,
};
use crate::{cli, config::Config};

/// A sink with room for 16 MiB until it is settled, which takes its first report once it may.
#[derive(Debug)]
struct Small {
    begin: Receiver<()>,
    held: usize,
    lost: Arc<AtomicUsize>,
}

impl Sink for Small {
    fn take(&mut self, report: &Report) -> Result<(), SinkError> {
        let _ = self.begin.recv();
        self.held += report.message.value.len();
        self.lost.fetch_add(usize::from(self.held > 16 << 20), Ordering::Relaxed);
        Ok(())
    }
    fn settle(&mut self) {
        self.held = 0;
    }
    fn health(&self) -> SinkHealth {
        SinkHealth { name: "small", up: true, ..SinkHealth::default() }
    }
    fn stop(self: Box<Self>, _: Duration) -> SinkHealth {
        self.health()
    }
}

fn outlets(home: &Path, sink: impl Sink + 'static) -> Outlets {
    let file = home.join("hedgerow.toml");
    std::fs::write(&file, format!("state = {home:?}\n")).unwrap();
    let run = cli::Run { config: Some(file), ..cli::Run::default() };
    let config = Config::load(&run, true).unwrap();
    let lines = PatientLines::new(&home.join("findings.jsonl"), Rotation::default());
    let (host, sinks) = (Host::read().unwrap(), vec![Box::new(sink) as Box<dyn Sink>]);
    Outlets::start(&config, &host, false, lines, sinks, Arc::default(), None).unwrap()
}

#[test]
fn however_large_reports_are_a_batch_of_them_fits_into_the_queue_of_a_sink() {
    let home = tempfile::tempdir().unwrap();
    let (go, begin) = crossbeam_channel::bounded(0);
    let lost = Arc::new(AtomicUsize::new(0));
    let small = Small { begin, held: 0, lost: Arc::clone(&lost) };
    let outlets = outlets(home.path(), small);
    for number in 0..200 {
        // A close is not printed.
        let finding = Finding { activity: Activity::Close, ..finding(number) };
        outlets.finding(&Finding { reason: "a".repeat(100_000), ..finding }, false);
    }
    drop((go, outlets));
    assert_eq!(lost.load(Ordering::Relaxed), 0);
}
#[test]
fn the_mark_passes_no_decision_that_a_sink_has_in_memory_alone_or_had_no_room_for() {
    let (home, disk) = (tempfile::tempdir().unwrap(), Disk::mount("mode=700,size=8m").unwrap());
    let path = disk.path().join("reports.jsonl");
    let jsonl = JsonlConfig { path, max_bytes: 1 << 20, keep: 1, format: Format::Ocsf };
    let start = || outlets(home.path(), JsonlSink::start(&jsonl).unwrap());
    let mark = || std::fs::read_to_string(home.path().join("reported")).unwrap();
    let uid = |number| decided(number).1.report_uid();
    let until = |done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !done() {
            assert!(Instant::now() < deadline, "{}", mark());
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    let filler = disk.take_room().unwrap();
    let outlets = start();
    outlets.remediation(&decided(1).1);
    drop(outlets);
    assert_eq!(mark().trim(), "", "as killed: the line was in memory");

    let outlets = start();
    outlets.remediation(&decided(2).1);
    std::fs::remove_file(filler).unwrap();
    until(&|| mark().trim() == uid(2));

    let filler = disk.take_room().unwrap();
    for number in 0..200 {
        let finding = Finding { activity: Activity::Close, ..finding(number) };
        outlets.finding(&Finding { reason: "a".repeat(100_000), ..finding }, false);
    }
    // More than fits between the large ones.
    (3..303).for_each(|number| outlets.remediation(&decided(number).1));
    until(&|| outlets.health().sinks.iter().any(|sink| sink.overflow + sink.waiting == 500));
    std::fs::remove_file(filler).unwrap();
    until(&|| outlets.health().sinks.iter().all(|sink| sink.waiting == 0));
    outlets.remediation(&decided(303).1);
    drop(outlets);
    assert_eq!(mark().trim(), uid(2), "what found no room is sent by the next run");
}
/// A sink that takes all; these are the bytes of it.
#[derive(Debug)]
struct Large(Arc<AtomicUsize>);

impl Sink for Large {
    fn take(&mut self, report: &Report) -> Result<(), SinkError> {
        self.0.fetch_add(report.message.value.len(), Ordering::Relaxed);
        Ok(())
    }
    fn health(&self) -> SinkHealth {
        SinkHealth { name: "large", up: true, ..SinkHealth::default() }
    }
    fn stop(self: Box<Self>, _: Duration) -> SinkHealth {
        self.health()
    }
}

#[test]
fn what_a_tenant_has_listed_in_an_hour_is_bounded_as_sinks_get_it() {
    let (home, bytes) = (tempfile::tempdir().unwrap(), Arc::default());
    let outlets = outlets(home.path(), Large(Arc::clone(&bytes)));
    for number in 0..2000 {
        let listed = Disposition::Suppressed;
        outlets.finding(&Finding { disposition: listed, ..finding(number) }, false);
    }
    drop(outlets);
    let bytes = bytes.load(Ordering::Relaxed);
    // A report is paid for with its close.
    assert!((3 << 20..=4 << 20).contains(&bytes), "{bytes}");
}
