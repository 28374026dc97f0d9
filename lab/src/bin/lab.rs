//! The lab by hand: `lab up`, then loads and attacks in it from other terminals, then `lab down`.

use std::{process::ExitCode, thread, time::Duration};

use clap::{Parser, Subcommand};
use hedgerow_lab::{Attack, Lab, Load, Outcome, Site, Via, exit_code};

/// Benign loads and attacks in network namespaces of their own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the lab (anew if it is there)
    Up,
    /// Removes the lab and everything that runs in it
    Down,
    /// Runs loads in a lab of its own, which goes with it (Ctrl-C ends it)
    Run {
        names: Vec<Load>,
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Runs loads in the lab: web, app, build, archive, apt, postgres, nginx, redis, jvm, ci,
    /// containers
    Load {
        #[arg(required = true)]
        names: Vec<Load>,
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Attacks once: copy-shell, reverse-shell, dropped-shell, memory-shell, next-address, exfiltrate, flood,
    /// scan-in, scan-out, rename, forks
    Attack {
        name: Attack,
        /// Bound for what has no end of its own
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Run inside the attacked service instead of a child of it
        #[arg(long)]
        in_process: bool,
    },
}

fn main() -> ExitCode {
    exit_code(perform(Arguments::parse().command))
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up => {
            let lab = Lab::create_shared()?;
            for site in Site::ALL {
                let space = format!("{}.{}", lab.name(), site.name());
                println!("{space:32} {} {}", site.ipv4(), site.ipv6());
            }
        }
        Command::Down => Lab::remove_shared()?,
        Command::Run { names, seconds } => run(&Lab::up()?, &names, seconds)?,
        Command::Load { names, seconds } => run(&Lab::shared()?, &names, seconds)?,
        Command::Attack { name, seconds, in_process } => {
            let via = if in_process { Via::Thread } else { Via::Child };
            let outcome = name.run(&Lab::shared()?, via, Duration::from_secs(seconds))?;
            report(name, &outcome);
        }
    }
    Ok(())
}

fn run(lab: &Lab, loads: &[Load], seconds: u64) -> anyhow::Result<()> {
    let mut running = Vec::new();
    for load in loads {
        running.push(load.start(lab)?);
        println!("{load} runs");
    }
    println!("{} is up for {seconds} s", lab.name());
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn report(attack: Attack, outcome: &Outcome) {
    let seconds = (outcome.ended_ns - outcome.started_ns) as f64 / 1e9;
    println!("{attack}: {seconds:.2} s");
    if let Some(transcript) = &outcome.transcript {
        match transcript.accepted {
            Some((_, peer, port)) => println!(
                "{peer}:{port} sent {} bytes to the attacker; the connection ended by {:?}",
                transcript.bytes(),
                transcript.end
            ),
            None => println!("nobody connected to the attacker"),
        }
    }
}
