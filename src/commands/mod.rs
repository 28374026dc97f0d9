//! What each command does.

#[cfg(feature = "full")]
mod capture;
mod config_file;
mod doctor;
mod exposure;
mod findings;
#[cfg(feature = "full")]
mod judge;
mod log;
#[cfg(feature = "full")]
mod model;
#[cfg(feature = "full")]
mod offline;
mod power;
#[cfg(feature = "full")]
mod share;
mod status;
mod steer;
mod support;
mod test;
#[cfg(feature = "full")]
mod top;
mod usage;
mod why;

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command},
    config::{self, Config},
    daemon, text,
};

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let json = cli.json;
    match cli.command {
        Command::Run(run) => {
            if json {
                text::notes_as_json();
            }
            daemon::run(Config::load(&run, json)?)
        }
        #[cfg(feature = "full")]
        Command::Capture(capture) => capture::capture(&capture, json),
        #[cfg(feature = "full")]
        Command::Train(train) => offline::train(&train, json),
        #[cfg(feature = "full")]
        Command::Score(score) => offline::score(&score, json),
        #[cfg(feature = "full")]
        Command::Eval(eval) => judge::eval(&eval, json),
        #[cfg(feature = "full")]
        Command::Backtest(backtest) => judge::backtest(&backtest, json),
        #[cfg(feature = "full")]
        Command::Model(command) => model::run(&command, json),
        Command::Status(state) => status::run(&config::state(&state)?, json),
        #[cfg(feature = "full")]
        Command::Top(top) => top::run(&config::state(&top.state)?, json || top.json),
        Command::Power { workload, model, state } => {
            power::run(model.as_deref(), workload.as_deref(), &config::state(&state)?, json)
        }
        Command::Exposure(arguments) => exposure::run(&arguments, json),
        Command::Usage(arguments) => usage::run(&arguments, json),
        Command::Findings(command) => findings::run(&command, json),
        Command::Why { what, all, state } => {
            why::run(what.as_deref(), all, &config::state(&state)?, json)
        }
        Command::Deny(command) => steer::deny(&command, json),
        Command::Allow(command) => steer::allow(&command, json),
        Command::Mode { mode, workload, state } => {
            steer::mode(mode, workload, &config::state(&state)?, json)
        }
        Command::Maintenance { duration, workload, state, .. } => {
            steer::maintenance(duration, workload, &config::state(&state)?, json)
        }
        Command::Disarm { remove, state } => steer::disarm(remove, &config::state(&state)?, json),
        Command::Arm(state) => steer::arm(&config::state(&state)?, json),
        Command::Test(state) => test::run(&config::state(&state)?, json),
        Command::Doctor(state) => {
            doctor::run(&config::state(&state)?, state.config.as_deref(), json)
        }
        Command::Support { out, state } => support::run(out.as_deref(), &state, json),
        Command::Config(command) => config_file::run(&command, json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hedgerow", &mut std::io::stdout());
            Ok(())
        }
    }
}
