//! `make truth`: records loads and acts under a real daemon, or takes a recording that is there, and
//! tells what lives of it find.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use hedgerow_lab::{
    Load, exit_code,
    truth::{self, Acts, Naming, Plan, Recording, Rule, Table, Tape, duration, judge},
};

/// Alerts of plain life that a row of rates waits for: with fewer, none at all would prove nothing.
const ALERTS_EXPECTED: f64 = 6.0;

/// Measures what is found, and what alerts that should not.
#[derive(Debug, Parser)]
struct Arguments {
    /// The hedgerow binary that records
    #[arg(long)]
    hedgerow: PathBuf,
    /// Where the recording is, or is made when it is not there
    #[arg(long)]
    recording: PathBuf,
    /// Length of a recording
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Learning times in seconds
    #[arg(long, value_delimiter = ',', default_value = "120,600,3600,86400,604800")]
    learn: Vec<u64>,
    /// Learned states of each learning time, among which the acts are divided
    #[arg(long, default_value_t = 4)]
    states: usize,
    /// Alerts a day that are asked for
    #[arg(long, default_value_t = 1.0)]
    budget: f64,
    /// Only every other act, from the first (0) or the second (1) on: choose on one, tell on the other
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..2))]
    half: Option<u8>,
    /// Also tell what parts of the rule find by themselves after at most an hour, without units
    #[arg(long)]
    parts: bool,
    /// Also judge plain life with so many alerts a day asked, for as long as six are expected
    #[arg(long, value_delimiter = ',')]
    rates: Vec<f64>,
    /// Only with workloads told apart by units, or only without
    #[arg(long)]
    naming: Option<Naming>,
    /// Only these loads
    #[arg(long, value_delimiter = ',')]
    loads: Vec<Load>,
    /// Only these kinds of act
    #[arg(long, value_delimiter = ',')]
    acts: Vec<String>,
    /// A few minutes with two loads and two kinds of attack, to see that it works
    #[arg(long)]
    quick: bool,
    /// Write the table between the markers of this file
    #[arg(long)]
    docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit_code(perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.quick {
        let table =
            truth::quick(&arguments.hedgerow, &arguments.recording, |line| println!("{line}"))?;
        print!("{}{}", table.text(), table.details());
        return Ok(());
    }
    if !arguments.recording.join("session.json").exists() {
        record(arguments)?;
    }
    let begun = Instant::now();
    let tape = Tape::read(&arguments.recording)?;
    println!(
        "{} epochs, {} calls, {} acts, {} not recorded; {} records lost, {} not written; read in {:.0} s",
        tape.epochs.len(),
        tape.calls,
        tape.marks.len(),
        tape.missing,
        tape.lost,
        tape.session.not_written,
        begun.elapsed().as_secs_f64()
    );
    let plan = Plan {
        rule: Rule::Whole,
        acts: arguments.half.map_or(Acts::All, |half| Acts::Half(half.into())),
        learn_s: arguments.learn.clone(),
        namings: arguments.naming.map_or_else(|| Naming::ALL.to_vec(), |naming| vec![naming]),
        states: arguments.states,
        plain_hours: 0.0,
        budget_per_day: arguments.budget,
    };
    let begun = Instant::now();
    let states = judge(&tape, &plan, &mut |state| {
        eprintln!(
            "{}, {} learned: {} lives, {:.0} s",
            state.naming.name(),
            duration(state.learn_s),
            state.tried.len(),
            begun.elapsed().as_secs_f64()
        );
    })?;
    let parts = if arguments.parts { &Rule::PARTS[..] } else { &[] };
    let parts = parts.iter().map(|rule| {
        let learn_s = plan.learn_s.iter().copied().filter(|learn_s| *learn_s <= 3600).collect();
        let plan = Plan { rule: *rule, learn_s, namings: vec![Naming::Bare], ..plan.clone() };
        Ok((*rule, judge(&tape, &plan, &mut |_| {})?))
    });
    let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
    let asked = arguments.rates.iter().map(|per_day| {
        let plan = Plan {
            acts: Acts::None,
            learn_s: vec![3600],
            states: 1,
            plain_hours: ALERTS_EXPECTED * 24.0 / per_day,
            budget_per_day: *per_day,
            ..plan.clone()
        };
        Ok((*per_day, judge(&tape, &plan, &mut |_| {})?))
    });
    let asked = asked.collect::<anyhow::Result<Vec<_>>>()?;
    let table = Table::new(states, parts, asked, arguments.budget);
    fs::write(arguments.recording.join("details.txt"), table.details())?;
    fs::write(arguments.recording.join("table.json"), serde_json::to_vec_pretty(&table)?)?;
    fs::write(arguments.recording.join("table.md"), table.markdown())?;
    print!("{}", table.text());
    if let Some(docs) = &arguments.docs {
        truth::put(docs, &table.markdown())?;
    }
    println!("{:.0} s for the table", begun.elapsed().as_secs_f64());
    Ok(())
}

fn record(arguments: &Arguments) -> anyhow::Result<()> {
    let loads =
        if arguments.loads.is_empty() { Load::ALL.to_vec() } else { arguments.loads.clone() };
    let recording = Recording {
        hedgerow: &arguments.hedgerow,
        directory: &arguments.recording,
        length: Duration::from_secs(60 * u64::from(arguments.minutes)),
        loads: &loads,
        kinds: &arguments.acts,
        tell: |line| println!("{line}"),
    };
    recording.make()
}
