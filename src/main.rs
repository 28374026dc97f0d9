//! The `hedgerow` binary: command line, configuration and the daemon's pipeline. The only room
//! that knows all others.

mod cli;
mod control;
mod engine;
mod exit;

fn main() {}
