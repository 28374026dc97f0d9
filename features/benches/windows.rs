//! How fast events become windows, and windows batches. Rates are printed as elements a second of
//! the thread's CPU time: on a shared machine wall time would measure the neighbours.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{hint::black_box, sync::Arc, time::Duration};

use common::*;
use criterion::{
    BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use hedgerow_event::{Event, FlowPhase, Origin, Raw, Subject};
use hedgerow_features::{
    Baseline, Config, Extractor, ItemKey, Record, Window, WindowBuilder, from_batch, matrix,
    records_from_batch, records_to_batch, to_batch,
};

/// CPU time of the benchmarking thread.
struct CpuTime;

fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec that outlives the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(failed, 0);
    Duration::new(u64::try_from(now.tv_sec).unwrap(), u32::try_from(now.tv_nsec).unwrap())
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu_time() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

const KEY: ItemKey = ItemKey(1);
const EVENTS: u32 = 100_000;

fn subjects(count: usize) -> Vec<Arc<Subject>> {
    (0..count).map(|i| subject("web.service", &format!("/usr/bin/program-{i}"))).collect()
}

/// The mix of a busy host: mostly streamed calls, with rows, flows and process records.
fn mix(subjects: &[Arc<Subject>]) -> Vec<Event> {
    (0..EVENTS)
        .map(|i| {
            let subject = &subjects[i as usize * 7 % subjects.len()];
            let origin = match i % 16 {
                0..=9 => call(257, 3, &format!("/var/lib/app/{}/data", i % 200)),
                10 | 11 => rows(&[(4, 100), (5, 50), (9, 20), (10, 20)]),
                12 | 13 => {
                    let address = format!("10.0.{}.{}", i % 3, i % 50);
                    outbound(FlowPhase::Start, &address, 443, 1_000)
                }
                14 => fork(i),
                _ => exit(0),
            };
            event(subject, 1, i % 400, origin)
        })
        .collect()
}

fn raws(subjects: &[Arc<Subject>]) -> Vec<Event> {
    (0..EVENTS)
        .map(|i| {
            let subject = &subjects[i as usize % subjects.len()];
            let number = [0, 1, 3, 257, 202, 262][i as usize * 5 % 6];
            let raw = Raw {
                number,
                compat: false,
                uring: false,
                fresh: false,
                streamed: false,
                result: 0,
            };
            event(subject, 1, i % 400, Origin::Raw(raw))
        })
        .collect()
}

fn builder() -> WindowBuilder {
    WindowBuilder::new(Config::new("bench"), KEY)
}

fn frozen() -> Baseline {
    let mut baseline = Baseline::new(KEY, 1 << 40);
    baseline.freeze();
    baseline
}

fn windows(count: usize) -> Vec<Window> {
    let mut builder = builder();
    for subject in &subjects(count) {
        builder.observe(&event(subject, 1, 4, rows(&[(4, 100), (9, 20)])));
        builder.observe(&event(subject, 1, 4, outbound(FlowPhase::Start, "10.0.0.9", 443, 10)));
    }
    builder.close(&close(1), &frozen())
}

fn events_windowed(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("events_windowed");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    let known = frozen();
    for count in [1, 30, 300] {
        let events = mix(&subjects(count));
        group.bench_with_input(BenchmarkId::new("mix", count), &events, |b, events| {
            b.iter(|| {
                let mut builder = builder();
                events.iter().for_each(|event| builder.observe(event));
                black_box(builder.close(&close(1), &known))
            });
        });
    }
    let events = raws(&subjects(30));
    group.bench_with_input(BenchmarkId::new("full_stream", 30), &events, |b, events| {
        b.iter(|| {
            let mut extractor = Extractor::new(7);
            let mut out = Vec::new();
            for event in events {
                extractor.push(Record::Event(event.clone()), &mut out);
            }
            extractor.push(Record::Close(close(1)), &mut out);
            black_box(out)
        });
    });
    group.finish();
}

fn first_seen(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("first_seen");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    let events = mix(&subjects(30));
    group.bench_function("learn", |b| {
        b.iter(|| {
            let mut baseline = Baseline::new(KEY, 1 << 40);
            events.iter().for_each(|event| baseline.observe(event));
            black_box(baseline)
        });
    });
    let mut known = Baseline::new(KEY, 1 << 40);
    events.iter().for_each(|event| known.observe(event));
    known.freeze();
    group.bench_function("judge", |b| {
        b.iter(|| events.iter().map(|event| known.novel(event).len()).sum::<usize>());
    });
    group.finish();
}

fn batches(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("batches");
    for count in [30, 300] {
        let windows = windows(count);
        group.throughput(Throughput::Elements(windows.len() as u64));
        group.bench_with_input(BenchmarkId::new("to_batch", count), &windows, |b, windows| {
            b.iter(|| to_batch(black_box(windows)).unwrap());
        });
        let batch = to_batch(&windows).unwrap();
        group.bench_with_input(BenchmarkId::new("from_batch", count), &batch, |b, batch| {
            b.iter(|| from_batch(black_box(batch)).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("matrix", count), &windows, |b, windows| {
            b.iter(|| matrix(black_box(windows)));
        });
    }
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    for (name, events) in [("mix", mix(&subjects(30))), ("full_stream", raws(&subjects(30)))] {
        let records: Vec<Record> = events.into_iter().map(Record::Event).collect();
        group.bench_with_input(
            BenchmarkId::new("records_to_batch", name),
            &records,
            |b, records| {
                b.iter(|| records_to_batch(black_box(records)).unwrap());
            },
        );
        let batch = records_to_batch(&records).unwrap();
        group.bench_with_input(BenchmarkId::new("records_from_batch", name), &batch, |b, batch| {
            b.iter(|| records_from_batch(black_box(batch)).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = events_windowed, first_seen, batches
}
criterion_main!(benches);
