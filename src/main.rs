//! The `hedgerow` binary: command line, configuration and the daemon's pipeline. The only room
//! that knows all others.

// What only those use that a small build leaves out.
#![cfg_attr(not(feature = "full"), allow(dead_code))]

mod cli;
mod commands;
mod config;
mod connections;
mod control;
mod daemon;
mod exit;
mod findings;
mod host;
mod kubernetes;
mod levers;
mod metrics;
mod names;
#[cfg(feature = "full")]
mod records;
#[cfg(not(feature = "full"))]
mod small;
mod text;
mod usage;
mod users;

use std::process::ExitCode;

use clap::Parser;

use self::cli::Command;
#[cfg(not(feature = "full"))]
use self::small::records;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let cleans_up = |command: &Command| match command {
        Command::Run(_) | Command::Test(_) => true,
        #[cfg(feature = "full")]
        Command::Capture(_) | Command::Top(_) => true,
        _ => false,
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
