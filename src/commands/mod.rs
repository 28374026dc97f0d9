//! What each command does.

mod capture;
mod doctor;
pub mod findings;
mod offline;
mod replay;
mod scores;
mod steer;
mod test;
mod why;
mod windows;

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
        Command::Allow { prefix, state } => steer::allow(prefix, &state.state, json),
        Command::Mode { mode, workload, state } => steer::mode(mode, workload, &state.state, json),
        Command::Disarm { remove, state } => steer::disarm(remove, &state.state, json),
        Command::Test(state) => test::run(&state.state, json),
        Command::Doctor(state) => doctor::run(&state.state, json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hedgerow", &mut std::io::stdout());
            Ok(())
        }
    }
}
