//! Peak memory of training while its input grows tenfold: `make flat`.

#![allow(clippy::unwrap_used)]

#[path = "../tests/life/mod.rs"]
mod life;

use std::{env, fs, path::Path, process::Command, time::Instant};

use hedgerow_offline::{
    time::Span,
    train::{self, Train},
};
use life::{Life, files, open};

/// Epochs of the smaller input: 50 minutes.
const EPOCHS: u32 = 600;

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Trains in a process of its own, whose peak is told.
fn learn(directory: &Path) {
    let began = Instant::now();
    let source = open(&[directory.to_owned()]).unwrap();
    let rows: u64 = source.runs[0].records.iter().map(|file| file.rows).sum();
    train::train(source, Span::ALL, &Train::default(), None, &mut |_| {}).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    println!("{rows} records: {seconds:.0} s, peak {} MiB", peak_kib() / 1024);
}

fn main() {
    if let Some(directory) = env::args().nth(1) {
        learn(Path::new(&directory));
        return;
    }
    for epochs in [EPOCHS, 10 * EPOCHS] {
        let home = tempfile::tempdir().unwrap();
        Life { epochs, ..Life::default() }.write(home.path());
        let bytes: u64 =
            files(home.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        print!("{epochs} epochs, {} KiB of Parquet, ", bytes / 1024);
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        let status = Command::new(env::current_exe().unwrap()).arg(home.path()).status().unwrap();
        assert!(status.success());
    }
}
