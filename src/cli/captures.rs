//! The command line of what makes captures, and of what is asked of them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Prefix;

#[derive(Debug, Clone, Args)]
pub struct Capture {
    #[command(subcommand)]
    pub command: Option<CaptureCommand>,
    /// Directory to write to.
    #[arg(required = true)]
    pub directory: Option<PathBuf>,
    /// Stop after this many seconds; without it, at Ctrl-C.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Store every system call.
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub key: Key,
}

#[derive(Debug, Clone, Subcommand)]
pub enum CaptureCommand {
    /// Write a capture anew as it can be given away: without arguments and, by a key, without names.
    #[command(
        after_help = "Arguments are dropped. With --pseudonymise names of hosts, workloads and files, \
        addresses and users are replaced, the same by the same wherever the key is the same; what \
        learning needs of them stays, so that a model learned from either judges alike. Counts, \
        times and the key of n-grams stay: they, too, say what a host does.\n\n\
        Example:\n  hedgerow capture share /var/lib/hedgerow/capture shared --owner carol \
        --pseudonymise names.key"
    )]
    Share(Share),
}

#[derive(Debug, Clone, Args)]
pub struct Share {
    /// What `run --capture` or `capture` wrote.
    pub capture: PathBuf,
    /// Directory to write to; it must not be there.
    pub out: PathBuf,
    /// Whose the files are to be, by name or number; nobody else may read them.
    #[arg(long)]
    pub owner: String,
    /// File of a secret (16 bytes or more, mode 0600) by which names, addresses and users are replaced.
    #[arg(long, value_name = "KEYFILE")]
    pub pseudonymise: Option<PathBuf>,
}

/// Which captures, and what of them.
#[derive(Debug, Clone, Args)]
pub struct Captures {
    /// What `run --capture` or `capture` wrote: directories, partitions (host=, date=), files, and
    /// quoted patterns of these.
    #[arg(required = true, value_name = "CAPTURE")]
    pub captures: Vec<PathBuf>,
    /// Only these hosts, by name or pattern.
    #[arg(long)]
    pub host: Vec<glob::Pattern>,
    /// Only epochs that end at or after this time (2026-11-26T17:00:00Z; without a zone, in --tz).
    #[arg(long)]
    pub from: Option<String>,
    /// Only epochs that end at or before this time.
    #[arg(long)]
    pub to: Option<String>,
    /// Zone of times that name none, such as Europe/Berlin.
    #[arg(long, default_value = "UTC")]
    pub tz: String,
    /// Only these workloads, by name or pattern; what others did is as if it had not been seen.
    #[arg(long)]
    pub workload: Vec<glob::Pattern>,
    /// Only these programs, by path or pattern.
    #[arg(long)]
    pub program: Vec<glob::Pattern>,
    /// Only programs for which this SQL condition on host, workload and program holds.
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
}

/// The key of n-grams and items.
#[derive(Debug, Clone, Args)]
pub struct Key {
    /// Seed of the n-gram hash and of the forest. `capture` draws one without it; `train` takes its
    /// captures', and another one only where every call was captured (--full).
    #[arg(long, conflicts_with = "key_file")]
    pub seed: Option<u64>,
    /// File of a secret that all hosts share (16 bytes or more, mode 0600), in place of a seed.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Train {
    #[command(flatten)]
    pub captures: Captures,
    /// Model file to write.
    #[arg(long, default_value = "model.hedgerow")]
    pub model: PathBuf,
    #[command(flatten)]
    pub key: Key,
    /// Recompute rows and n-grams from every captured call instead of taking them as the kernel
    /// counted them; needs a capture of every call (--full).
    #[arg(long)]
    pub recompute: bool,
    /// Directory for the windows it was learned from (Parquet).
    #[arg(long)]
    pub windows: Option<PathBuf>,
    /// Also write what was learned as a self-contained page, and beside it the same as JSON.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write what `hedgerow model merge` makes models of, with others, however little was captured,
    /// instead of a model.
    #[arg(long, conflicts_with = "report")]
    pub part: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Score {
    #[command(flatten)]
    pub captures: Captures,
    /// Model file to score with.
    #[arg(long, default_value = "model.hedgerow")]
    pub model: PathBuf,
    /// Directory for scores (Parquet) and findings (JSON lines), which has none yet; without it they
    /// are printed.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Recompute rows from every captured call instead of taking them as the kernel counted them;
    /// needs a capture of every call (--full). For another model than the captured daemon's it is done
    /// anyway.
    #[arg(long)]
    pub recompute: bool,
    /// Directory for the windows that were scored (Parquet); another than --out.
    #[arg(long)]
    pub windows: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Eval {
    #[command(flatten)]
    pub captures: Captures,
    /// Model file to score with.
    #[arg(long, default_value = "model.hedgerow")]
    pub model: PathBuf,
    /// What was an attack, when and where (CSV or Parquet).
    #[arg(long)]
    pub labels: PathBuf,
    /// Alerts a day that are acceptable; what the capture's daemon had without it.
    #[arg(long)]
    pub budget: Option<f64>,
    /// Recompute rows from every captured call; needs a capture of every call (--full).
    #[arg(long)]
    pub recompute: bool,
    /// Also write the figures as CSV.
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Also write a self-contained page.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Backtest {
    #[command(flatten)]
    pub captures: Captures,
    /// Model file to score with.
    #[arg(long, default_value = "model.hedgerow")]
    pub model: PathBuf,
    /// What the responder is told (TOML).
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Never refuse these addresses or prefixes, under any of the policies.
    #[arg(long)]
    pub allow: Vec<Prefix>,
    /// Alerts a day that are acceptable; what the capture's daemon had without it.
    #[arg(long)]
    pub budget: Option<f64>,
    /// What was an attack, when and where (CSV or Parquet): all else that is cut is benign.
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// A second model, to be told apart from the first.
    #[arg(long)]
    pub against_model: Option<PathBuf>,
    /// A second policy, to be told apart from the first.
    #[arg(long)]
    pub against_policy: Option<PathBuf>,
}
