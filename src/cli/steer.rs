//! Arguments of what steers: what is refused, what never is, and how far the responder may go.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hedgerow_event::Mode;

use super::{Prefix, State, duration};

#[derive(Debug, Subcommand)]
pub enum Deny {
    /// What the kernel refuses now; `hedgerow why` explains it.
    #[command(
        after_help = "Examples:\n  hedgerow deny list\n  hedgerow deny list --json | jq '.live[].target'"
    )]
    List {
        #[command(flatten)]
        state: State,
    },
    /// Refuse a peer, a program or a workload; what is named together is meant together. An operator's
    /// own order acts in every mode, also in observe.
    #[command(after_help = "Examples:\n  \
        hedgerow deny add --peer 192.0.2.9 --for 1h --reason 'incident 42'\n  \
        hedgerow deny add --peer 192.0.2.0/24 --workload web.service --dry-run\n  \
        hedgerow deny add --program /opt/tool --network\n  \
        hedgerow deny add --selector app=web --namespace shop --peer 192.0.2.9 --dry-run\n  \
        hedgerow deny add --user alice --for 30m")]
    Add(DenyAdd),
    /// Lift entries, or withdraw what is held.
    #[command(after_help = "Examples:\n  hedgerow deny remove 4f1c\n  \
        hedgerow deny remove 4f1c --wrong        it should never have been made\n  \
        hedgerow deny remove --workload web.service\n  hedgerow deny remove --all")]
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Remove {
        /// The entry's uid, or a beginning, of the whole or of what stands behind its last `-`, that no
        /// other has.
        #[arg(group = "which")]
        uid: Option<String>,
        /// Every entry of this workload.
        #[arg(long, group = "which")]
        workload: Option<String>,
        /// Every entry.
        #[arg(long, group = "which")]
        all: bool,
        /// The entry, live or ended, should never have been made: its workload goes back to monitor,
        /// and past the budget of wrong entries nothing is denied automatically until `hedgerow mode`.
        #[arg(long)]
        wrong: bool,
        #[command(flatten)]
        state: State,
    },
}

#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub struct DenyAdd {
    /// An address or prefix.
    #[arg(long, group = "whom")]
    pub peer: Option<Prefix>,
    /// The path of a program that ran since the daemon began; without --network and --peer it is not run
    /// any more, in the workloads where it was seen.
    #[arg(long, group = "whom")]
    pub program: Option<String>,
    /// The program runs on, and is refused the network alone; without --workload wherever it runs.
    #[arg(long, requires = "program", conflicts_with = "peer")]
    pub network: bool,
    /// A workload; alone, it is refused every connection.
    #[arg(long, group = "whom")]
    pub workload: Option<String>,
    /// A pod of this node, `NAMESPACE/NAME`: its containers, as they run now. Asks the Kubernetes API's word.
    #[arg(long, group = "whom", conflicts_with_all = ["workload", "selector"])]
    pub pod: Option<String>,
    /// The pods of this node with such labels, in the --namespace: `app=web`, `app in (web,api),!canary`.
    #[arg(long, group = "whom", requires = "namespace", conflicts_with = "workload")]
    pub selector: Option<String>,
    /// The namespace in which --selector selects.
    #[arg(long, requires = "selector")]
    pub namespace: Option<String>,
    /// A user, by name or number, who is refused the network in any cgroup and user namespace: no root, no user of the
    /// system, of services or of containers, and not who orders it.
    #[arg(long, group = "whom", conflicts_with_all = ["peer", "program", "workload", "pod", "selector"])]
    pub user: Option<String>,
    /// For this long.
    #[arg(long = "for", default_value = "1h", value_parser = duration)]
    pub duration: Duration,
    /// Why; kept in the ledger.
    #[arg(long)]
    pub reason: Option<String>,
    /// Say what would be refused, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Also what the host itself needs: loopback, own addresses, gateways, resolvers, sources of
    /// logins; login sessions, users who are logged in or may be who orders it, the programs that make sessions, package managers,
    /// container runtimes.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub state: State,
}

#[derive(Debug, Subcommand)]
pub enum AllowCommand {
    /// Never refuse an address or prefix.
    #[command(after_help = "Examples:\n  hedgerow allow add 192.0.2.0/24\n  \
        hedgerow allow add 192.0.2.9 --for 2d --workload backup.service")]
    Add {
        peer: Prefix,
        /// For this long; without it, until it is removed.
        #[arg(long = "for", value_parser = duration)]
        duration: Option<Duration>,
        /// To this workload only, also when it is started anew.
        #[arg(long)]
        workload: Option<String>,
        #[command(flatten)]
        state: State,
    },
    /// What is allowed, to whom and until when.
    #[command(after_help = "Example:\n  hedgerow allow list")]
    List {
        #[command(flatten)]
        state: State,
    },
    /// Allow it no longer.
    #[command(after_help = "Examples:\n  hedgerow allow remove 192.0.2.0/24\n  \
        hedgerow allow remove 192.0.2.9 --workload backup.service")]
    Remove {
        peer: Prefix,
        /// What was allowed to this workload.
        #[arg(long)]
        workload: Option<String>,
        #[command(flatten)]
        state: State,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArgument {
    Observe,
    Monitor,
    Enforce,
}

impl From<ModeArgument> for Mode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Observe => Self::Observe,
            ModeArgument::Monitor => Self::Monitor,
            ModeArgument::Enforce => Self::Enforce,
        }
    }
}
