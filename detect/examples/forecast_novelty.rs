//! How well is the novelty of coming units forecast?
//!
//! ```sh
//! cargo run --release -p hedgerow-model --example forecast_novelty -- TRACES.txt N UNITS,... ORDERS
//! ```
//!
//! TRACES.txt has one unit a line: numbers (system calls), separated by blanks. The lines are put
//! into ORDERS random orders; after each number of UNITS the share of new N-grams in the next
//! hundred units is forecast and then counted. Writes CSV: gram, units, order, forecast share of a
//! unit's distinct grams, their actual share, and the actual share of calls.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use hedgerow_detect::maturity::Incidence;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Units in which what was forecast is counted.
const AHEAD: usize = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forecast_novelty: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, gram, checkpoints, orders] = args.as_slice() else {
        anyhow::bail!("usage: forecast_novelty TRACES.txt N UNITS,UNITS,... ORDERS");
    };
    let gram: usize = gram.parse().context("N")?;
    let checkpoints: Vec<usize> =
        checkpoints.split(',').map(str::parse).collect::<Result<_, _>>().context("UNITS")?;
    let orders: u64 = orders.parse().context("ORDERS")?;
    ensure!(gram > 0, "N must be at least 1");
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let units: Vec<Vec<u64>> = text.lines().map(|line| grams(line, gram)).collect();
    println!("gram,units,order,forecast,actual_distinct,actual_calls");
    for order in 0..orders {
        let mut shuffled: Vec<&[u64]> = units.iter().map(Vec::as_slice).collect();
        shuffled.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(order));
        // In how many units each gram was seen.
        let mut seen: HashMap<u64, u64> = HashMap::new();
        // Behind the last checkpoint nothing is learned, only counted.
        let last = checkpoints.iter().max().map_or(0, |&at| at + 1);
        for (at, unit) in shuffled.iter().enumerate().take(last) {
            if checkpoints.contains(&at)
                && let Some(forecast) = incidence(at, &seen).forecast()
            {
                let (distinct, calls) = new_shares(&seen, &shuffled[at..], AHEAD);
                println!("{gram},{at},{order},{},{distinct},{calls}", forecast.new_share);
            }
            for thing in unit.iter().collect::<BTreeSet<_>>() {
                *seen.entry(*thing).or_default() += 1;
            }
        }
    }
    Ok(())
}

fn incidence(units: usize, seen: &HashMap<u64, u64>) -> Incidence {
    let of = |n: u64| seen.values().filter(|&&units| units == n).count() as u64;
    Incidence { units: units as u64, once: of(1), total: seen.values().sum() }
}

/// Hashes of the runs of `n` numbers in a line.
fn grams(line: &str, n: usize) -> Vec<u64> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let calls: Vec<&str> = line.split_ascii_whitespace().collect();
    calls.windows(n).map(|run| hasher.hash_one(run)).collect()
}

/// Shares of distinct grams (by unit) and of all grams that were not seen before.
fn new_shares(seen: &HashMap<u64, u64>, units: &[&[u64]], ahead: usize) -> (f64, f64) {
    let (mut new_distinct, mut distinct, mut new_calls, mut calls) = (0, 0, 0, 0);
    for unit in units.iter().take(ahead) {
        let things: BTreeSet<u64> = unit.iter().copied().collect();
        distinct += things.len();
        new_distinct += things.iter().filter(|&&t| !seen.contains_key(&t)).count();
        calls += unit.len();
        new_calls += unit.iter().filter(|&&t| !seen.contains_key(&t)).count();
    }
    (new_distinct as f64 / distinct.max(1) as f64, new_calls as f64 / calls.max(1) as f64)
}
