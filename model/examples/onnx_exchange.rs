//! Isolation forests to and from ONNX.
//!
//! ```sh
//! cargo run --release -p hedgerow-model --example onnx_exchange -- export TRAIN.npy OUT.onnx [SEED]
//! cargo run --release -p hedgerow-model --example onnx_exchange -- convert IN.onnx OUT.onnx
//! cargo run --release -p hedgerow-model --example onnx_exchange -- score IN.onnx ROWS.npy OUT.npy
//! cargo run --release -p hedgerow-model --example onnx_exchange -- explain IN.onnx ROWS.npy OUT.npy
//! ```
//!
//! `export` fits 100 trees of 256 rows on a float32 matrix; `convert` reads either form (the compact
//! graph, or skl2onnx's of scikit-learn's `IsolationForest`) and writes the compact graph; `score`
//! writes one float64 score for each row of a float32 matrix, and `explain` the exact SHAP values of
//! its mean path length, one for each column.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use hedgerow_model::{IsolationForest, onnx};
use linfa::prelude::*;
use ndarray::Array2;
use ndarray_npy::{read_npy, write_npy};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onnx_exchange: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["export", train, out] => write_onnx(&fit(train, 42)?, out),
        ["export", train, out, seed] => write_onnx(&fit(train, seed.parse()?)?, out),
        ["convert", from, out] => write_onnx(&read_onnx(from)?, out),
        ["score", from, rows, out] => {
            let forest = read_onnx(from)?;
            let rows = read_rows(rows)?;
            let lengths = forest.mean_path_lengths(rows.view());
            let scores = lengths.mapv(|length| forest.score_of_path_length(length));
            write_npy(out, &scores).with_context(|| format!("writing {out}"))
        }
        ["explain", from, rows, out] => {
            let forest = read_onnx(from)?;
            let rows = read_rows(rows)?;
            let mut values = Array2::zeros(rows.dim());
            for (row, mut values) in rows.outer_iter().zip(values.outer_iter_mut()) {
                values.assign(&forest.shap_values(row).values);
            }
            write_npy(out, &values).with_context(|| format!("writing {out}"))
        }
        _ => bail!(
            "usage: export TRAIN.npy OUT.onnx [SEED] | convert IN.onnx OUT.onnx | \
             score IN.onnx ROWS.npy OUT.npy | explain IN.onnx ROWS.npy OUT.npy"
        ),
    }
}

fn fit(train: &str, seed: u64) -> Result<IsolationForest> {
    let rows = read_rows(train)?;
    let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    Ok(IsolationForest::params_with_rng(rng).fit(&Dataset::from(rows))?)
}

fn read_rows(path: &str) -> Result<Array2<f32>> {
    read_npy(path).with_context(|| format!("{path} is no float32 matrix"))
}

fn read_onnx(path: &str) -> Result<IsolationForest> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {path}"))?;
    onnx::import(&bytes).with_context(|| format!("importing {path}"))
}

fn write_onnx(forest: &IsolationForest, path: &str) -> Result<()> {
    std::fs::write(path, onnx::export(forest)?).with_context(|| format!("writing {path}"))
}
