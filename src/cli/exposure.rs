//! Arguments of `hedgerow exposure`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{State, duration};

#[derive(Debug, Clone, Args)]
pub struct Exposure {
    /// Reports: JSON of Trivy, Grype or OSV-Scanner, or CycloneDX with vulnerabilities.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// The tree that the reports are about, whose package databases are read.
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Only what this workload used; its paths are meant in its own root, too.
    #[arg(long)]
    pub workload: Option<String>,
    /// Only what was used within this time (90s, 2h, 7d) [default: all that is recorded].
    #[arg(long, value_parser = duration)]
    pub since: Option<Duration>,
    /// Leave what is in use, and what needs a restart, for the daemon: findings about these programs name
    /// their known vulnerabilities. It takes the place of what was left before of the same workload.
    #[arg(long)]
    pub remember: bool,
    /// How it is told; --json is the same as json.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// ID=JUSTIFICATION: your word, in OpenVEX, that a vulnerability affects nothing here, with one of
    /// OpenVEX's justifications.
    #[arg(long, requires_all = ["by", "until"], value_name = "ID=WHY")]
    pub assert: Vec<String>,
    /// Who asserts it.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// The last day on which it is asserted: 2027-01-31.
    #[arg(long, value_name = "DAY")]
    pub until: Option<String>,
    #[command(flatten)]
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Openvex,
}
