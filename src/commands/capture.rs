//! `hedgerow capture`: windows and records to Parquet, without a model.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};
use hedgerow_features::{Baseline, Config as Windows, ItemKey, Record, WindowBuilder};
use hedgerow_probe::{Item, Options, Probe, identity::Resolver, support};

use super::{offline, share};
use crate::{
    cli,
    config::BUDGET_PER_DAY_DEFAULT,
    daemon::{Capture, Run},
    exit::Failure,
    host::{self, Host},
    text,
};

/// First-seen incidence is not learned here; any unit will do.
const UNIT_NS: u64 = 3_600_000_000_000;

/// Captures until the time is up or Ctrl-C.
pub fn capture(arguments: &cli::Capture, json: bool) -> anyhow::Result<()> {
    if let Some(cli::CaptureCommand::Share(share)) = &arguments.command {
        return share::run(share, json);
    }
    let directory = arguments.directory.as_deref();
    let directory = directory.ok_or_else(|| Failure::Usage("DIRECTORY is missing".to_owned()))?;
    support::require().map_err(Failure::host)?;
    let host = Host::read()?;
    let signals = support::lowered(host::signals)??;
    let seed = offline::key(&arguments.key)?.unwrap_or_else(rand::random);
    let run = Run {
        seed,
        schedule: None,
        budget_per_day: BUDGET_PER_DAY_DEFAULT,
        full: arguments.full,
        syscalls: true,
    };
    host::make_capture(directory)?;
    let mut capture = support::lowered(|| Capture::start(directory, &host, run))??;
    let key = ItemKey(seed);
    let mut builder = WindowBuilder::new(Windows::new(host.id.as_str()), key);
    let baseline = Baseline::new(key, UNIT_NS);
    let options = Options {
        gram_key: seed,
        identity_key: rand::random(),
        learning: true,
        full: arguments.full,
        ..Options::default()
    };
    let resolver = support::lowered(Resolver::open)??;
    let (probe, items) = Probe::start(options, resolver).map_err(Failure::host)?;
    support::lower().map_err(Failure::host)?;
    let started = Instant::now();
    let end = match arguments.seconds {
        Some(seconds) => after(Duration::from_secs(seconds)),
        None => crossbeam_channel::never(),
    };
    if !json {
        text::note(&format!("Capturing to {}; Ctrl-C ends it.", directory.display()));
    }
    let mut records = 0u64;
    loop {
        select! {
            recv(items) -> item => {
                let Ok(item) = item else { break };
                records += take(item, &mut builder, &baseline, &mut capture);
                // Nothing is left to do where it can't be written: a full disk ends it.
                if capture.failure().is_some() {
                    break;
                }
            }
            recv(end) -> _ => break,
            recv(signals) -> _ => break,
        }
    }
    let drain = std::thread::spawn(move || left(&items));
    let stats = probe.control().stats().unwrap_or_default();
    probe.stop().map_err(Failure::host)?;
    for item in drain.join().unwrap_or_default() {
        records += take(item, &mut builder, &baseline, &mut capture);
    }
    finish(capture, records, stats.lost, started, json)
}

/// What a probe that stops still delivers.
fn left(items: &Receiver<Item>) -> Vec<Item> {
    let mut left = Vec::new();
    while let Ok(item) = items.recv_timeout(Duration::from_secs(10)) {
        left.push(item);
    }
    left
}

/// Writes what waits, and says what became of all.
fn finish(
    capture: Capture,
    records: u64,
    lost: u64,
    started: Instant,
    json: bool,
) -> anyhow::Result<()> {
    let (status, dropped, failure) = capture.finish();
    let not_written = status.rows_lost + dropped;
    if json {
        text::json(
            &serde_json::json!({ "records": records, "rows": status.rows, "files": status.files,
                "lost": lost, "not_written": not_written }),
        )?;
    } else {
        text::note(&format!(
            "Captured {} in {:.0} s: {} in {}, {lost} lost in the kernel, {not_written} not written.",
            text::counted(records, "record", "records"),
            started.elapsed().as_secs_f64(),
            text::counted(status.rows, "row", "rows"),
            text::counted(status.files, "file", "files"),
        ));
    }
    failure.map_or(Ok(()), |why| Err(Failure::File(why).into()))
}

fn take(
    item: Item,
    builder: &mut WindowBuilder,
    baseline: &Baseline,
    capture: &mut Capture,
) -> u64 {
    match item {
        Item::Events(events) => {
            events.iter().for_each(|event| builder.observe(event));
            let count = events.len() as u64;
            capture.records(events.into_iter().map(Record::Event).collect());
            count
        }
        // Captures hold what is counted and judged.
        Item::Used(_) => 0,
        Item::Grams(report) => {
            capture.records(vec![Record::Grams(report)]);
            1
        }
        Item::Close(close) => {
            capture.records(vec![Record::Close(close.clone())]);
            capture.windows(builder.close(&close, baseline));
            0
        }
    }
}
