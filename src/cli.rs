//! The command line.

#[cfg(feature = "full")]
mod captures;
mod exposure;
mod findings;
#[cfg(feature = "full")]
mod model;
mod steer;
mod usage;
mod value;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

#[cfg(feature = "full")]
pub use captures::{Backtest, Capture, CaptureCommand, Captures, Eval, Key, Score, Share, Train};
pub use exposure::{Exposure, Format};
pub use findings::Findings;
#[cfg(feature = "full")]
pub use model::{Model, ModelImport};
pub use steer::{AllowCommand, Deny, DenyAdd, ModeArgument};
pub use usage::{By, Usage};
pub use value::{Prefix, duration};

/// Where the model, findings, ledger and spool live unless told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/hedgerow";
/// The configuration that is read unless another is named.
pub const CONFIG: &str = "/etc/hedgerow/hedgerow.toml";

/// Learns what this host normally does, reports what is not, and lets the kernel refuse it.
#[derive(Debug, Parser)]
#[command(
    name = "hedgerow",
    version,
    after_help = "Examples:\n  hedgerow run --learn 2m          try it: learn for two minutes, then score\n  \
                  hedgerow doctor                  what this kernel can do\n  \
                  hedgerow status                  what is watched, lost, learned and refused\n  \
                  hedgerow top                     the same, and what happens, as it happens\n  \
                  hedgerow findings list           what was found\n  \
                  hedgerow why UID                 a finding or a refusal, explained\n\n\
                  Times are UTC.\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 this host or user \
                  can't, 4 a file is unreadable or corrupt, 5 the daemon isn't running."
)]
pub struct Cli {
    /// Print JSON for machines instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe this host, learn, score, report and, told to, refuse.
    #[command(after_help = "Examples:\n  hedgerow run --learn 2m\n  \
        hedgerow run --kafka localhost:9092\n  \
        hedgerow run --learn 2m --capture /var/lib/hedgerow/capture --full\n\n\
        Ctrl-C lifts live entries, detaches every probe and prints a summary.")]
    Run(Run),
    #[cfg(feature = "full")]
    /// Write windows and records to rotating Parquet files, without learning or scoring.
    #[command(
        after_help = "Killed at any moment, it loses the last seconds only. A full disk ends it, \
        and what is written is whole.\n\n\
        Examples:\n  hedgerow capture /var/lib/hedgerow/capture --seconds 600\n  \
        hedgerow capture /var/lib/hedgerow/capture --full --key-file fleet.key\n  \
        hedgerow capture share /var/lib/hedgerow/capture shared --owner carol --pseudonymise names.key",
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true
    )]
    Capture(Capture),
    #[cfg(feature = "full")]
    /// Learn a model from captured Parquet files.
    #[command(
        after_help = "Each of several runs, of one host or of many, is learned from by itself, as its \
        daemon did or, of captures of every call (--full), divided 60 : 20 : 20; the model is made \
        of all their parts. All have one key (--key-file). `hedgerow model merge` does the same \
        with models.\n\n\
        Examples:\n  hedgerow train /var/lib/hedgerow/capture --model host.hedgerow\n  \
        hedgerow train /captures --host 'web-*' --from 2026-11-01 --to 2026-11-08\n  \
        hedgerow train '/captures/*/records/host=web-1/date=2026-11-*' --workload 'nginx*'\n  \
        hedgerow train /captures --where \"workload like 'web%' and not (host = 'web-3' and program = \
        '/usr/bin/php')\""
    )]
    Train(Train),
    #[cfg(feature = "full")]
    /// Score captured Parquet files with a model.
    #[command(
        after_help = "Example:\n  hedgerow score /var/lib/hedgerow/capture --model host.hedgerow --out scores"
    )]
    Score(Score),
    #[cfg(feature = "full")]
    /// Evaluate a model on captures by labels of what was an attack.
    #[command(
        after_help = "Labels are CSV with a header, or Parquet: start,end,host and, as wanted, \
        workload,program (patterns), tree (a process id), class. Times are RFC 3339 with their zone. \
        What is outside of all labels is benign; class `ignore` is neither.\n\n\
        Example:\n  hedgerow eval /captures --model host.hedgerow --labels attacks.csv --html eval.html"
    )]
    Eval(Eval),
    #[cfg(feature = "full")]
    /// Show what a model and a policy would have done to a captured past.
    #[command(
        after_help = "A policy is TOML: mode, [modes] by workload, enforce_provisional, allow and \
        protect (lists of prefixes); without one, what was ordered when it was captured, or else \
        enforce for all. What follows a cut is marked counterfactual; what the capture doesn't \
        hold is named.\n\n\
        Examples:\n  hedgerow backtest /captures --model host.hedgerow --labels attacks.csv\n  \
        hedgerow backtest /captures --model a.hedgerow --against-model b.hedgerow\n  \
        hedgerow backtest /captures --policy today.toml --against-policy strict.toml"
    )]
    Backtest(Backtest),
    #[cfg(feature = "full")]
    /// Give a model's forest away as ONNX, or take one in that was fitted elsewhere.
    #[command(
        subcommand,
        after_help = "A forest reads the deviations of a window: the columns of `hedgerow score \
        --out` from volume_spread on. docs/captures.md has both ways whole.\n\n\
        Examples:\n  hedgerow model export forest.onnx --model host.hedgerow\n  \
        hedgerow model import sklearn.onnx --model host.hedgerow --out new.hedgerow --hold-back /captures\n  \
        hedgerow model merge web-1.hedgerow web-2.hedgerow -o web.hedgerow"
    )]
    Model(Model),
    /// One screen: what is watched, lost, learned and refused, and why a workload can't be enforced.
    #[command(after_help = "Examples:\n  hedgerow status\n  hedgerow status --json | jq .modes")]
    Status(State),
    #[cfg(feature = "full")]
    /// Workloads, findings and entries on a terminal, renewed every second; lifts entries.
    #[command(
        after_help = "Fits 80x24, also over ssh; what colour says words say, too, and NO_COLOR=1 \
        leaves it out. `?` shows the keys. For machines: hedgerow status --json.\n\n\
        Examples:\n  hedgerow top\n  NO_COLOR=1 hedgerow top --state /srv/hedgerow"
    )]
    Top(Top),
    /// What would be missed: each kind of deed and each amount, by workload, and why.
    #[command(
        after_help = "Every program of a workload, and one that was never seen, is tried on the \
        rule itself: would somebody be told of that deed now, alone or with which one other in the \
        same process tree; how much of an amount is the least that is told. For root only: whoever \
        knows the answers knows how to stay unseen.\n\n\
        Examples:\n  hedgerow power\n  hedgerow power --workload nginx.service\n  \
        hedgerow power --model host.hedgerow --json | jq '.workloads[].amounts'"
    )]
    Power {
        /// Only this workload.
        #[arg(long)]
        workload: Option<String>,
        /// A model file, instead of what the daemon judges by; each hour has its notifications left
        /// then.
        #[arg(long)]
        model: Option<PathBuf>,
        #[command(flatten)]
        state: State,
    },
    /// Is vulnerable code in use here? Reports of scanners, joined with what runs, is mapped or read.
    #[command(
        after_help = "in use: it ran, was mapped executable or read by an interpreter while a daemon \
        watched, or is right now. restart: fixed on disk, and a process has what was there before. \
        not seen: nobody used it while it was watched, which is no proof that nobody will. unknown: \
        its files aren't known, or records were lost. What is recorded is at most a minute old. \
        docs/exposure.md says what can't be seen.\n\n\
        Examples:\n  trivy rootfs / --format json > report.json && hedgerow exposure --report report.json\n  \
        hedgerow exposure --report grype.json --since 7d --json | jq '.rows[] | select(.verdict == \
        \"in_use\")'\n  \
        hedgerow exposure --report r.json --json | jq '.rows[] | select(.listens and .talked) | \
        .talked.peers'\n  \
        hedgerow exposure --report r.json --root /srv/app --workload app.service\n  \
        hedgerow exposure --report r.json --remember && hedgerow findings list --follow\n  \
        hedgerow exposure --report r.json --format openvex --by 'Carol Reed' --until 2027-01-31 \
        --assert CVE-2026-1=vulnerable_code_not_in_execute_path"
    )]
    Exposure(Exposure),
    /// Who used how many bytes of which interface, and with whom, by day.
    #[command(
        after_help = "Recorded where the configuration has [usage] enabled = true; the files are read, so that \
        it works with the daemon dead. Bytes are counted as the interface does, with headers; other is what \
        it counted and nobody is named for: what is forwarded, what sockets of the kernel carry, what found \
        no room. Who is named is the user who made the socket or accepted on it, and the program that uses \
        it. Loopback is left out. Days are UTC, 62 of them are kept. docs/usage.md says the rest.\n\n\
        Examples:\n  hedgerow usage\n  hedgerow usage --by peer --user carol --since 7d\n  \
        hedgerow usage --by interface\n  hedgerow usage --by day --interface eth0\n  \
        hedgerow usage --json | jq '.lines[] | select(.sent > 1e9)'"
    )]
    Usage(Usage),
    /// List and show findings, and say what they are worth.
    #[command(
        subcommand,
        after_help = "ack: it was seen. mute: what is like it is not told for a while; it is judged \
        and denied as before. accept: it is normal here; it is learned and no longer reported. \
        allow (hedgerow allow add): the peer is never refused, findings go on.\n\n\
        Examples:\n  hedgerow findings list --since 2h --workload nginx.service\n  \
        hedgerow findings list --follow\n  hedgerow findings mute 8523dc --for 1d"
    )]
    Findings(Findings),
    /// Explain an entry, a finding or a peer, back to the deed and the process.
    #[command(after_help = "Works with the daemon dead.\n\nExamples:\n  hedgerow why 8523dc\n  \
        hedgerow why 192.0.2.9\n  hedgerow why              the newest decisions")]
    Why {
        /// The uid of an entry or finding, or its beginning, or an address; without it, what was
        /// decided last.
        what: Option<String>,
        /// Every decision in the ledger, not the newest only.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        state: State,
    },
    /// List, add and remove what the kernel refuses.
    #[command(
        subcommand,
        after_help = "An automatic entry against one program's peer or one process \
        tree stands at once, for 60 s, doubling to an hour while it is hit. One against a program, a \
        cgroup or all programs of a workload is held for a minute, in which `deny remove` withdraws \
        it.\n\nExamples:\n  hedgerow deny add --peer 192.0.2.9 --for 1h\n  \
        hedgerow deny add --peer 192.0.2.0/24 --workload web.service --dry-run\n  \
        hedgerow deny remove 4f1c\n  hedgerow deny remove --workload web.service --wrong"
    )]
    Deny(Deny),
    /// What is never refused, whatever is found.
    #[command(
        subcommand,
        after_help = "Examples:\n  hedgerow allow add 192.0.2.0/24\n  \
        hedgerow allow add 192.0.2.9 --for 2d --workload backup.service\n  \
        hedgerow allow remove 192.0.2.0/24"
    )]
    Allow(AllowCommand),
    /// Show or set how far the responder may go, and what is missing before it does.
    #[command(after_help = "Modes: observe installs nothing; monitor installs entries and counts \
        what they would refuse; enforce refuses.\n\nenforce is held at monitor, workload by \
        workload, until its profile is mature and each hour of the week was seen over at least 7 \
        days; `hedgerow mode` shows what is missing. `run --enforce-provisional` overrides that, \
        for demonstrations. What an operator orders (`hedgerow deny add`) acts in every mode. Modes are \
        kept over restarts and reboots. Setting one resets the \
        breaker; setting it for all workloads also forgives wrong entries. What `disarm` stopped \
        goes on with `arm` only.\n\n\
        Examples:\n  hedgerow mode\n  hedgerow mode monitor\n  \
        hedgerow mode enforce --workload nginx.service")]
    Mode {
        mode: Option<ModeArgument>,
        /// Only this workload; without it, the default of all.
        #[arg(long)]
        workload: Option<String>,
        #[command(flatten)]
        state: State,
    },
    /// No automatic denial and no learning for a while; detection goes on. Ends by itself.
    #[command(after_help = "Examples:\n  hedgerow maintenance 30m\n  \
        hedgerow maintenance 2h --workload postgresql.service\n  hedgerow maintenance --end")]
    #[command(group = clap::ArgGroup::new("until").required(true))]
    Maintenance {
        /// For so long from now on: 30m, 2h.
        #[arg(group = "until", value_parser = duration)]
        duration: Option<Duration>,
        /// End it now.
        #[arg(long, group = "until")]
        end: bool,
        /// Only this workload; without it, the whole host.
        #[arg(long)]
        workload: Option<String>,
        #[command(flatten)]
        state: State,
    },
    /// Refuse nothing any more, at once; works with the daemon dead. Lasts until `hedgerow arm`,
    /// also over restarts and reboots.
    #[command(
        after_help = "It takes entries out of force, and leaves them; with --remove nothing of Hedgerow is left \
        in the kernel, and no daemon may run.\n\n\
        Examples:\n  hedgerow disarm\n  systemctl stop hedgerow && hedgerow disarm --remove\n  \
        hedgerow disarm --state /srv/hedgerow"
    )]
    Disarm {
        /// Also detach and unpin what a dead daemon left in the kernel, live entries included.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        state: State,
    },
    /// End `disarm`: entries act again, as their workloads' modes say.
    #[command(
        after_help = "Asks the running daemon. After `disarm --remove`, or the removal of the package, start one \
        first.\n\nExamples:\n  hedgerow arm\n  hedgerow arm && hedgerow mode"
    )]
    Arm(State),
    /// Make a harmless incident and show it end to end.
    #[command(
        after_help = "One program runs from memory, once, and holds a connection to loopback, in a workload of \
        its own. What is grave by itself is told once an hour of each of four owners of workloads, more only \
        where it is graver by 3 nats or the budget asks for more: a second test within the hour finds the same, \
        which is listed (findings list --all) and alerts nobody.\n\n\
        Examples:\n  hedgerow test\n  hedgerow test --json | jq .effect"
    )]
    Test(State),
    /// Show what this kernel can do, by loading tiny probes, and what a running daemon lacks before
    /// it may enforce.
    #[command(after_help = "Examples:\n  hedgerow doctor\n  hedgerow doctor --json | jq .daemon")]
    Doctor(State),
    /// Write what helps to help you into a file to send, without secrets.
    #[command(
        after_help = "Works with and without a running daemon, for root only. In it: versions, doctor, \
        config show, status, metrics, the model's headline, sizes of the state's files, the newest lines of \
        ledger, findings and log. Programs, addresses, names of users and workloads are in it; secrets of \
        command lines and of the configuration, what was learned and what `hedgerow power` says are not. \
        manifest.json in it says what was left out and why.\n\n\
        Examples:\n  hedgerow support\n  hedgerow support /root/web-1.tar.gz && tar tzf /root/web-1.tar.gz"
    )]
    Support {
        /// A file that doesn't exist yet [default: hedgerow-support-TIME.tar.gz, here].
        out: Option<PathBuf>,
        #[command(flatten)]
        state: State,
    },
    /// Check the configuration, or show what is in force and where each value is from.
    #[command(
        subcommand,
        after_help = "Read are FILE and conf.d/*.toml beside it, in the order of their names; what \
        comes later wins, key by key. Secrets are shown as ***.\n\n\
        Examples:\n  hedgerow config check\n  hedgerow config show\n  \
        hedgerow config show --config /etc/hedgerow/hedgerow.toml --json"
    )]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  hedgerow completions zsh > _hedgerow\n  \
        hedgerow completions fish > ~/.config/fish/completions/hedgerow.fish")]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Clone, Default, Args)]
pub struct Run {
    /// Configuration file (TOML) [default: /etc/hedgerow/hedgerow.toml, where there is one].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Learn anew for this long (2m, 90s, 1d). Without it a saved model is used, and a host without
    /// one learns for a day.
    #[arg(long, value_parser = duration)]
    pub learn: Option<Duration>,
    /// Directory of the model, findings, ledger and spool [default: /var/lib/hedgerow].
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// How far the responder may go, unless a workload has a mode of its own; enforce is held at
    /// monitor until a workload's profile is mature and has seen a week. What `hedgerow mode` set last
    /// holds where it is less [default: what `hedgerow mode` set last, or observe].
    #[arg(long)]
    pub mode: Option<ModeArgument>,
    /// Enforce before the profile is mature and has seen a week; for demonstrations only.
    #[arg(long)]
    pub enforce_provisional: bool,
    /// Alert episodes a day that are acceptable when nothing is wrong [default: 1].
    #[arg(long)]
    pub budget: Option<f64>,
    /// Send findings and remediations to these Kafka brokers (host:port,...).
    #[arg(long)]
    pub kafka: Option<String>,
    /// Write windows and records to Parquet files in this directory.
    #[arg(long)]
    pub capture: Option<PathBuf>,
    /// Stream every system call (with --capture: store it, so that everything can be recomputed).
    #[arg(long)]
    pub full: bool,
    /// Don't observe system calls, only flows and processes.
    #[arg(long)]
    pub no_syscalls: bool,
    /// Seed of the forest and of the n-gram hash; random without it.
    #[arg(long, conflicts_with = "key_file")]
    pub seed: Option<u64>,
    /// File of a secret that all hosts of a fleet share (16 bytes or more, mode 0600), in place of
    /// a seed: what they capture can be joined.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// Leave live entries in the kernel until they expire, also at Ctrl-C; SIGTERM and faults always do.
    #[arg(long)]
    pub keep_entries: bool,
}

/// Where a running daemon's state is; every command that reads or steers it takes this.
#[derive(Debug, Clone, Args)]
pub struct State {
    /// The daemon's state directory [default: the configuration's, or /var/lib/hedgerow].
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// The daemon's configuration file, whose `state` is taken [default:
    /// /etc/hedgerow/hedgerow.toml, where there is one].
    #[arg(long, conflicts_with = "state")]
    pub config: Option<PathBuf>,
}

#[cfg(feature = "full")]
#[derive(Debug, Clone, Args)]
pub struct Top {
    /// In place of the one that all commands have: it is refused, with what there is for machines.
    #[arg(long, hide = true)]
    pub json: bool,
    #[command(flatten)]
    pub state: State,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a daemon would start with it; names the file and the field where it wouldn't.
    #[command(after_help = "Examples:\n  hedgerow config check && systemctl reload hedgerow\n  \
        hedgerow config check --config new.toml")]
    Check(ConfigFile),
    /// Every value in force with the file that it is from.
    #[command(after_help = "Examples:\n  hedgerow config show\n  \
        hedgerow config show --config /etc/hedgerow/hedgerow.toml --json")]
    Show(ConfigFile),
}

#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration file (TOML) [default: /etc/hedgerow/hedgerow.toml, where there is one].
    #[arg(long)]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn top_offers_no_json_and_is_still_asked_for_it() {
        use clap::CommandFactory;
        let mut command = Cli::command();
        command.build();
        let mut help =
            |name: &str| command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert!(help("status").contains("Print JSON for machines"));
        assert!(!help("top").contains("Print JSON for machines"), "{}", help("top"));
        for line in [["hedgerow", "top", "--json"], ["hedgerow", "--json", "top"]] {
            assert!(Cli::try_parse_from(line).unwrap().json);
        }
        assert!(!Cli::try_parse_from(["hedgerow", "top"]).unwrap().json);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_an_example_of_itself() {
        use clap::CommandFactory;
        fn ask(mut command: clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
            command.get_subcommands().for_each(|inner| ask(inner.clone(), &path));
            let help = command.render_long_help().to_string();
            let (_, examples) = help
                .split_once("\nExample")
                .unwrap_or_else(|| panic!("{path}: no example in\n{help}"));
            assert!(examples.contains(&path), "{path} is not in {examples}");
        }
        ask(Cli::command(), "");
    }

    #[test]
    fn no_help_suggests_a_place_that_others_can_write_to() {
        use clap::CommandFactory;
        fn helps(command: &mut clap::Command, all: &mut String) {
            all.push_str(&command.render_long_help().to_string());
            for inner in command.get_subcommands_mut() {
                helps(inner, all);
            }
        }
        let mut all = String::new();
        helps(&mut Cli::command(), &mut all);
        assert!(all.contains("hedgerow maintenance"), "the whole tree was read");
        assert!(!all.contains("/tmp"), "whoever is there first chooses what root trains on");
    }
}
