//! The `hedgerow` binary: command line, configuration and the daemon's pipeline. The only room
//! that knows all others.

mod cli;
mod commands;
mod config;
mod control;
mod daemon;
mod exit;
mod host;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hedgerow: {why:#}");
            exit::code(&why)
        }
    }
}
