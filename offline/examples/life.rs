//! Captures of a made-up life, to try Python and Spark on without a kernel: below a directory, `past`
//! is of two hosts and 30 minutes, `today` of 6 minutes more, on the first host with an intruder.

#![allow(clippy::unwrap_used)]

#[path = "../tests/life/mod.rs"]
mod life;

use std::{env, path::Path};

use life::{Life, intruder};

const PAST_EPOCHS: u32 = 360;
const TODAY_EPOCHS: u32 = 72;

fn main() {
    let Some(directory) = env::args().nth(1) else {
        eprintln!("usage: life DIRECTORY");
        std::process::exit(2);
    };
    let directory = Path::new(&directory);
    for (chance, host) in (1..).zip(["a", "b"]) {
        let past = Life { host, chance, epochs: PAST_EPOCHS, ..Life::default() };
        past.write(&directory.join("past"));
        let (first, chance) = (PAST_EPOCHS + 100, chance + 2);
        let today = Life { first, chance, epochs: TODAY_EPOCHS, ..past };
        match host {
            "a" => today.write_with(&directory.join("today"), &intruder(first + TODAY_EPOCHS / 2)),
            _ => today.write(&directory.join("today")),
        }
    }
}
