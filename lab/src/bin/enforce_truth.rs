//! `make enforce-truth`: real services live under a daemon that may refuse, and are attacked.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use hedgerow_lab::{
    enforce::{self, Life, Plan, Tried},
    exit_code,
};

/// Hits alone keep an entry for so long in all.
const HOUR_S: f64 = 3600.0;

/// Measures whom the kernel refuses: attackers, and nobody else.
#[derive(Debug, Parser)]
struct Arguments {
    /// The hedgerow binary
    #[arg(long)]
    hedgerow: PathBuf,
    /// Length of a round, a third of which is learned
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// Rounds with --enforce-provisional; one through the real gate follows, with none as well
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Write the table as this document
    #[arg(long)]
    docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit_code(perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = Plan {
        hedgerow: &arguments.hedgerow,
        length: Duration::from_secs(60 * u64::from(arguments.minutes)),
        rounds: arguments.rounds,
        tell: |line| println!("{line}"),
    };
    let lives = plan.make(|lives| {
        print!("\n{}", enforce::text(lives));
        match &arguments.docs {
            Some(docs) => Ok(fs::write(docs, enforce::document(lives))?),
            None => Ok(()),
        }
    })?;
    let broken: Vec<String> = lives.iter().flat_map(broken).collect();
    anyhow::ensure!(broken.is_empty(), "not kept: {}", broken.join("; "));
    Ok(())
}

/// What a life shows that was promised otherwise.
fn broken(life: &Life) -> Vec<String> {
    let mut broken = Vec::new();
    let mut say = |what: String| broken.push(format!("{}: {what}", life.gate.name()));
    if !life.wrong.is_empty() {
        say(format!("{} wrong denials", life.wrong.len()));
    }
    // Of an attack that was not made nothing is shown, through whichever gate.
    for tried in life.attacks.iter().filter(|tried| !tried.made) {
        say(format!("{} was not made: nobody connected", tried.attack));
    }
    let planted = &life.planted;
    if planted.expires_s.is_some_and(|seconds| seconds > HOUR_S + 1.0) {
        say("the planted client's entry outlives its hour".to_owned());
    }
    if planted.denied && (planted.freed_ms.is_none() || planted.denied_again) {
        say("`deny remove --wrong` doesn't free the planted client".to_owned());
    }
    if !planted.denied {
        say("the planted client was not denied: nothing is shown of it".to_owned());
    }
    if life.enforcing < life.ordered {
        say(format!("only {} of {} workloads may enforce", life.enforcing, life.ordered));
    }
    if life.week.is_some_and(|week| week.mature == 0) {
        say("no program's profile is mature".to_owned());
    }
    let not = |what: &str, is: &dyn Fn(&Tried) -> bool| {
        let names: Vec<&str> =
            life.attacks.iter().filter(|tried| is(tried)).map(|tried| &*tried.attack).collect();
        (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
    };
    not("not cut", &|tried| !tried.from_outside && !tried.is_cut()).into_iter().for_each(&mut say);
    not("not refused one peer, then the next", &Tried::misses_its_next_peer)
        .into_iter()
        .for_each(&mut say);
    not("denied by forged packets", &Tried::is_forged_denial).into_iter().for_each(&mut say);
    broken
}
