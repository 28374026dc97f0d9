//! Peak memory of training while its input grows tenfold, and time and memory of training on a fleet's
//! captures: `make flat`.
//!
//! ```text
//! flat                                       a made-up life, and ten times as much of it
//! flat fleet CAPTURE DIR HOSTS WINDOWS       writes a captured hour as the captures of a fleet
//! flat train DIR [MODEL [WINDOWS]]           trains, and tells time and peak
//! ```

#![allow(clippy::unwrap_used)]

mod fleet;
#[path = "../../tests/life/mod.rs"]
mod life;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

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
fn learn(directory: &Path, model: Option<&Path>, windows: Option<PathBuf>) {
    let began = Instant::now();
    let source = open(&[directory.to_owned()]).unwrap();
    let rows: u64 = source.runs.iter().flat_map(|run| &run.records).map(|file| file.rows).sum();
    let how = Train { windows, ..Train::default() };
    let trained = train::train(source, Span::ALL, &how, None, &mut |_| {}).unwrap();
    if let Some(path) = model {
        trained.model.save(path).unwrap();
        let bytes = fs::metadata(path).unwrap().len();
        print!("{} runs, a model of {} MiB, ", trained.runs, bytes >> 20);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{rows} records: {seconds:.0} s, peak {} MiB", peak_kib() / 1024);
}

fn tenfold() {
    let [once, tenfold] = [EPOCHS, 10 * EPOCHS].map(|epochs| {
        let home = tempfile::tempdir().unwrap();
        Life { epochs, ..Life::default() }.write(home.path());
        let bytes: u64 =
            files(home.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        let mut train = Command::new(env::current_exe().unwrap());
        let out = train.arg("train").arg(home.path()).output().unwrap();
        let told = String::from_utf8(out.stdout).unwrap();
        print!("{epochs} epochs, {} KiB of Parquet, {told}", bytes / 1024);
        assert!(out.status.success());
        told.split_whitespace().rev().nth(1).unwrap().parse::<u64>().unwrap()
    });
    assert!(tenfold < 2 * once, "memory grows with what is read");
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        [] => tenfold(),
        ["train", directory] => learn(Path::new(directory), None, None),
        ["train", directory, model] => learn(Path::new(directory), Some(Path::new(model)), None),
        ["train", directory, model, windows] => {
            learn(Path::new(directory), Some(Path::new(model)), Some(windows.into()));
        }
        ["fleet", capture, directory, hosts, windows] => {
            let (hosts, windows) = (hosts.parse().unwrap(), windows.parse().unwrap());
            let wanted = fleet::Wanted { hosts, windows };
            fleet::write(Path::new(capture), Path::new(directory), &wanted);
        }
        _ => panic!("see the first lines of offline/examples/flat/main.rs"),
    }
}
