//! Arguments of `hedgerow usage`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{State, duration};

#[derive(Debug, Clone, Args)]
pub struct Usage {
    /// What the bytes are told by.
    #[arg(long, value_enum, default_value_t = By::Program)]
    pub by: By,
    /// Only the days of this time (2d, 7d) [default: all that are kept].
    #[arg(long, value_parser = duration)]
    pub since: Option<Duration>,
    /// Only what this user's sockets carried: a name of /etc/passwd, or a number.
    #[arg(long)]
    pub user: Option<String>,
    /// Only at this interface, as `--by interface` tells it.
    #[arg(long)]
    pub interface: Option<String>,
    /// Lines that are shown; the rest is told as one. --json has all.
    #[arg(long, default_value_t = 40)]
    pub limit: usize,
    #[command(flatten)]
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    Program,
    Workload,
    User,
    Peer,
    Interface,
    Day,
}
