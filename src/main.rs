//! The `hedgerow` binary: command line, configuration and the daemon's pipeline. The only room
//! that knows all others.

mod cli;
mod commands;
mod config;
mod connections;
mod control;
mod daemon;
mod exit;
mod findings;
mod host;
mod levers;
mod metrics;
mod names;
mod records;
mod text;
mod usage;
mod users;

use std::process::ExitCode;

use clap::Parser;

use self::cli::Command;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let cleans_up = |command: &Command| {
        matches!(
            command,
            Command::Run(_) | Command::Capture(_) | Command::Test(_) | Command::Top(_)
        )
    };
    if !cleans_up(&cli.command) {
        // SAFETY: sets a disposition before any other thread is made. Whoever only tells something
        // ends with its reader, as `cat` does, instead of panicking.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            text::note(&format!("hedgerow: {why:#}"));
            exit::code(&why)
        }
    }
}
