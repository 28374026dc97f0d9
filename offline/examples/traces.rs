//! Learns from a directory of traces and measures others: what `make eval` calls.
//!
//! ```sh
//! traces --learn DIR --judge DIR [--map FILE] [--calls N] [--seed N]
//! ```
//!
//! One file a trace; FILE maps what stands in them to names of calls (`datasets/maps`). Prints
//! `trace,windows,checked,unseen6,forest,measure,mean` for each judged one, as CSV.

use std::{env, io::Write, path::PathBuf, process::ExitCode};

use hedgerow_offline::{
    Error, Result,
    traces::{
        judge::{self, How},
        mapping::Mapping,
        read,
    },
};

const USAGE: &str = "usage: traces --learn DIR --judge DIR [--map FILE] [--calls N] [--seed N]";

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("traces: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut learn, mut judged, mut map) = (None, None, None);
    let mut how = How { calls: 256, seed: 0 };
    while let Some(option) = arguments.next() {
        let wrong = |why: &str| Error::Usage(format!("{option}: {why}\n{USAGE}"));
        let value = arguments.next().ok_or_else(|| wrong("a value is missing"))?;
        let number = || value.parse::<u64>().map_err(|_| wrong("a number is wanted"));
        match option.as_str() {
            "--learn" => learn = Some(PathBuf::from(value)),
            "--judge" => judged = Some(PathBuf::from(value)),
            "--map" => map = Some(PathBuf::from(value)),
            "--calls" => how.calls = usize::try_from(number()?.max(1)).unwrap_or(usize::MAX),
            "--seed" => how.seed = number()?,
            _ => return Err(wrong("no such option")),
        }
    }
    let (Some(learn), Some(judged)) = (learn, judged) else {
        return Err(Error::Usage(USAGE.to_owned()));
    };
    let mapping = map.as_deref().map_or_else(|| Ok(Mapping::native()), Mapping::read)?;
    let learned = judge::learn(&read::directory(&learn, &mapping)?, how)?;
    let mut out = std::io::stdout().lock();
    let told = |why: std::io::Error| Error::File(format!("standard output: {why}"));
    writeln!(out, "trace,windows,checked,unseen6,forest,measure,mean").map_err(told)?;
    for trace in read::directory(&judged, &mapping)? {
        let of = learned.judge(&trace);
        let name = trace.name.replace(['"', '\n', '\r'], "_");
        writeln!(
            out,
            "\"{name}\",{},{},{},{},{},{}",
            of.windows, of.checked, of.unseen6, of.forest, of.measure, of.mean
        )
        .map_err(told)?;
    }
    Ok(())
}
