//! Times the isolation forest on request, so that a script can interleave it with other engines.
//!
//! ```sh
//! cargo run --release -p hedgerow-model --example timing -- ROWS.npy [FOREST.json]
//! ```
//!
//! Reads one command a line: `fit THREADS`, `score THREADS N detected|portable` (the first N rows)
//! answer with wall and CPU seconds; `row` with the median wall seconds of one row over 2,000;
//! `bytes` with those of the model on the heap; `save N OUT.npy` writes the first N rows' scores.

use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hedgerow_model::{Instructions, IsolationForest};
use linfa::prelude::*;
use ndarray::{Array1, Array2, s};
use ndarray_npy::{read_npy, write_npy};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rows: Array2<f32> = read_npy(args.next().context("ROWS.npy is missing")?)?;
    let dataset = DatasetBase::from(rows);
    let mut forest: IsolationForest = match args.next() {
        Some(path) => serde_json::from_reader(std::io::BufReader::new(std::fs::File::open(path)?))?,
        None => IsolationForest::params().fit(&dataset)?,
    };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["fit", threads] => {
                let params = IsolationForest::params().n_threads(threads.parse()?);
                time(|| drop(black_box(params.fit(&dataset))))
            }
            ["score", threads, n, instructions] => {
                let instructions = match instructions {
                    "portable" => Instructions::Portable,
                    _ => Instructions::Detected,
                };
                forest = forest.with_threads(threads.parse()?).with_instructions(instructions);
                let rows = dataset.records().slice(s![..n.parse::<usize>()?, ..]);
                time(|| drop(black_box::<Array1<f32>>(forest.predict(&rows))))
            }
            ["row"] => format!("{:e}", median_row_seconds(&forest, dataset.records())),
            ["bytes"] => forest.heap_bytes().to_string(),
            ["save", n, path] => {
                let rows = dataset.records().slice(s![..n.parse::<usize>()?, ..]).mapv(f64::from);
                let scores: Array1<f64> = forest.predict(&rows);
                write_npy(path, &scores)?;
                scores.len().to_string()
            }
            _ => bail!("unknown command {line}"),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Wall and CPU seconds of `work`.
fn time(work: impl FnOnce()) -> String {
    let (start, cpu_start) = (Instant::now(), cpu_seconds());
    work();
    format!("{:e} {:e}", start.elapsed().as_secs_f64(), cpu_seconds() - cpu_start)
}

/// CPU time of the process so far, over all its threads.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes the timespec that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn median_row_seconds(forest: &IsolationForest, rows: &Array2<f32>) -> f64 {
    let mut seconds: Vec<f64> = (0..2000.min(rows.nrows()))
        .map(|row| {
            let row = rows.slice(s![row..=row, ..]);
            let start = Instant::now();
            let score: Array1<f32> = forest.predict(&row);
            black_box(score);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
