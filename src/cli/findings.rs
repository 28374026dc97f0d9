//! Arguments of `hedgerow findings`.

use std::time::Duration;

use clap::Subcommand;

use super::{State, duration};

#[derive(Debug, Subcommand)]
pub enum Findings {
    /// One line a finding, newest last.
    #[command(
        after_help = "Examples:\n  hedgerow findings list --since 2h --workload nginx.service\n  \
        hedgerow findings list --all             also what was listed and told to nobody\n  \
        hedgerow findings list --follow"
    )]
    List {
        /// Show suppressed findings, too.
        #[arg(long)]
        all: bool,
        /// Only of the last 90s, 2h, 7d.
        #[arg(long, value_parser = duration)]
        since: Option<Duration>,
        /// Only of this workload.
        #[arg(long)]
        workload: Option<String>,
        /// Go on with what is found from now on, until Ctrl-C.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        state: State,
    },
    /// One finding, whole.
    #[command(
        after_help = "Examples:\n  hedgerow findings show 8523dc\n  hedgerow findings show 8523dc --explain\n  \
        hedgerow findings show 8523dc --record   for root only"
    )]
    Show {
        /// Its uid, or a beginning of it that no other has.
        uid: String,
        /// Add what its surprise is the sum of, and by which columns the forest found its window.
        #[arg(long)]
        explain: bool,
        /// Also what its process tree did in the half minute before it opened.
        #[arg(long)]
        record: bool,
        #[command(flatten)]
        state: State,
    },
    /// Say that it was seen.
    #[command(
        after_help = "Examples:\n  hedgerow findings ack 8523dc\n  hedgerow findings ack 8523dc --attack"
    )]
    Ack {
        uid: String,
        /// And that it was an attack: its deeds no longer raise the level from which other such things are
        /// told. Amounts that were measured do.
        #[arg(long)]
        attack: bool,
        #[command(flatten)]
        state: State,
    },
    /// Don't tell what is like it for a while; it is judged and denied as before.
    #[command(after_help = "Example:\n  hedgerow findings mute 8523dc --for 6h")]
    Mute {
        uid: String,
        /// For this long.
        #[arg(long = "for", default_value = "1d", value_parser = duration)]
        duration: Duration,
        #[command(flatten)]
        state: State,
    },
    /// Say that it is normal here, of this workload and the file that the program runs from: it is
    /// learned and no longer reported. Another file at the same path is excused nothing.
    #[command(
        after_help = "Examples:\n  hedgerow findings accept 8523dc --dry-run\n  hedgerow findings accept 8523dc"
    )]
    Accept {
        uid: String,
        /// Say only what that would hide: findings of the last week, and kinds of deed that would no
        /// longer be told.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        state: State,
    },
}
