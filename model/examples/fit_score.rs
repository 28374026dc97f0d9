//! Fits a detector on one NumPy matrix and scores another.
//!
//! ```sh
//! cargo run --release -p hedgerow-model --example fit_score -- TRAIN.npy TEST.npy OUT.npy \
//!     [--algorithm iforest|nn] [--trees N] [--samples N] [--seed N] [--threads N]
//! ```
//!
//! For `nn`, `--trees` is the number of draws.
//!
//! The matrices are float32 or float64 in either order, rows x columns; NaN is a missing value.
//! OUT.npy gets one float64 score a row of TEST.npy, higher for more anomalous rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hedgerow_model::{IsolationForest, NearestNeighborEnsemble};
use linfa::prelude::*;
use ndarray::{Array1, Array2};
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement, WriteNpyExt};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

const USAGE: &str = "usage: fit_score TRAIN.npy TEST.npy OUT.npy [--algorithm iforest|nn] \
                     [--trees N] [--samples N] [--seed N] [--threads N]";

struct Options {
    train: PathBuf,
    test: PathBuf,
    out: PathBuf,
    algorithm: String,
    trees: Option<usize>,
    samples: Option<usize>,
    seed: u64,
    threads: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fit_score: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if std::env::args().skip(1).any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = parse(std::env::args().skip(1))?;
    let train = read_matrix(&options.train)?;
    let test = read_matrix(&options.test)?;
    let scores = fit_score(&options, train, &test)?;
    let out = File::create(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    scores.write_npy(out).with_context(|| format!("writing {}", options.out.display()))?;
    eprintln!("{}: {} scores", options.out.display(), scores.len());
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut paths = Vec::new();
    let mut options = Options {
        train: PathBuf::new(),
        test: PathBuf::new(),
        out: PathBuf::new(),
        algorithm: "iforest".to_owned(),
        trees: None,
        samples: None,
        seed: 42,
        threads: 1,
    };
    while let Some(arg) = args.next() {
        if !arg.starts_with("--") {
            paths.push(PathBuf::from(arg));
            continue;
        }
        let value = args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"))?;
        let number =
            || (value.parse::<u64>()).with_context(|| format!("{arg} {value}: not a number"));
        match arg.as_str() {
            "--algorithm" => options.algorithm = value,
            "--trees" => options.trees = Some(usize::try_from(number()?)?),
            "--samples" => options.samples = Some(usize::try_from(number()?)?),
            "--seed" => options.seed = number()?,
            "--threads" => options.threads = usize::try_from(number()?)?,
            _ => bail!("unknown option {arg}\n{USAGE}"),
        }
    }
    let [train, test, out] = <[PathBuf; 3]>::try_from(paths)
        .map_err(|paths| anyhow::anyhow!("{} paths instead of three\n{USAGE}", paths.len()))?;
    Ok(Options { train, test, out, ..options })
}

/// Reads either type; f32 rows are the same rows in f64, and the scores keep all their digits.
fn read_matrix(path: &Path) -> Result<Array2<f64>> {
    let matrix = match read_as::<f64>(path)? {
        Err(ReadNpyError::WrongDescriptor(_)) => {
            read_as::<f32>(path)?.map(|matrix| matrix.mapv(f64::from))
        }
        read => read,
    };
    matrix.with_context(|| format!("{} is no float32 or float64 matrix", path.display()))
}

fn read_as<T: ReadableElement>(path: &Path) -> Result<Result<Array2<T>, ReadNpyError>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(Array2::read_npy(file))
}

fn fit_score(options: &Options, train: Array2<f64>, test: &Array2<f64>) -> Result<Array1<f64>> {
    ensure!(
        train.ncols() == test.ncols(),
        "{} has {} columns, {} has {}",
        options.train.display(),
        train.ncols(),
        options.test.display(),
        test.ncols()
    );
    let train = Dataset::from(train);
    let rng = Xoshiro256PlusPlus::seed_from_u64(options.seed);
    let scores: Array1<f64> = match options.algorithm.as_str() {
        "iforest" => IsolationForest::params_with_rng(rng)
            .n_trees(options.trees.unwrap_or(100))
            .sample_size(options.samples.unwrap_or(256))
            .n_threads(options.threads)
            .fit(&train)?
            .predict(test),
        "nn" => NearestNeighborEnsemble::params_with_rng(rng)
            .n_draws(options.trees.unwrap_or(50))
            .sample_size(options.samples.unwrap_or(16))
            .n_threads(options.threads)
            .fit(&train)?
            .predict(test),
        other => bail!("unknown algorithm {other}\n{USAGE}"),
    };
    Ok(scores)
}
