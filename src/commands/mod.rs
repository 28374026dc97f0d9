//! What each command does.

mod capture;
mod doctor;
pub mod findings;
mod offline;
mod steer;
mod test;

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command},
    config::Config,
    daemon,
};

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let json = cli.json;
    match cli.command {
        Command::Run(run) => daemon::run(Config::load(&run, json)?),
        Command::Capture(capture) => capture::capture(&capture, json),
        Command::Train(train) => offline::train(&train, json),
        Command::Score(score) => offline::score(&score, json),
        Command::Findings(command) => findings::run(&command, json),
        Command::Deny(command) => steer::deny(&command, json),
        Command::Allow { prefix } => steer::allow(prefix, json),
        Command::Mode { mode, workload } => steer::mode(mode, workload, json),
        Command::Disarm => steer::disarm(json),
        Command::Test => test::run(json),
        Command::Doctor => doctor::run(json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hedgerow", &mut std::io::stdout());
            Ok(())
        }
    }
}
