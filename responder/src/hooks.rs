//! The one table of hooks: what each is, what it refuses to whom, how surely, and what it needs of a
//! kernel. Loading, the verbs of entries, the levels that are told, `hedgerow doctor` and
//! docs/enforcement.md follow it. Pure.
//!
//! A new hook is a row of [`HOOKS`] and a program in a `bpf/src/deny_*.bpf.c`.

use std::fmt;

use hedgerow_bpf::wire;
use hedgerow_event::{Level, Target};
use serde::Serialize;

/// What a hook can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Connect,
    Send,
    Bind,
    Socket,
    Packet,
    Family,
    Exec,
    Map,
}

/// What a [`Target`] is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    Peer,
    ProgramPeer,
    TaskTree,
    Program,
    ProgramNetwork,
    Cgroup,
    User,
}

/// How a program gets to its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    /// By the name in its section: tracepoints with types, LSM.
    Section,
    /// To the root of the cgroup hierarchy, so that every process is below it.
    Cgroup,
}

/// What a kernel must have beside what is required of every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// BPF LSM programs, which a host can list and refuse all the same.
    Lsm,
    /// A tracepoint that younger kernels have.
    Tracepoint(&'static str),
}

/// What a hook refuses, to whom and how surely.
#[derive(Debug, Clone, Copy)]
pub struct Refuses {
    pub verb: Verb,
    pub keys: &'static [Key],
    pub level: Level,
}

/// A row of the table.
#[derive(Debug)]
pub struct Hook {
    /// Of its pinned link.
    pub name: &'static str,
    /// As the kernel's documentation has it.
    pub hook: &'static str,
    /// The BPF program.
    pub(crate) program: &'static str,
    pub(crate) attach: Attach,
    pub(crate) needs: Needs,
    /// `None`: it keeps who is who for the others.
    pub refuses: Option<Refuses>,
}

/// Kernels on which each pair is tried by its effect: Debian's, and the one of the machine that this was
/// written on.
pub const KERNELS: [&str; 3] = ["6.1", "6.12", "6.18"];

/// Whether a hook is there on a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    Yes,
    No,
    /// Where the host's policy lets LSM programs load.
    IfAllowed,
}

use Key::{Cgroup, Peer, Program, ProgramNetwork, ProgramPeer, TaskTree, User};

/// Who asks, whatever the address.
const ASKER: &[Key] = &[TaskTree, Program, ProgramNetwork, Cgroup, User];
/// Whose programs are not run.
const RUNNER: &[Key] = &[TaskTree, Program, Cgroup];

const fn keeps(name: &'static str, hook: &'static str, program: &'static str) -> Hook {
    Hook { name, hook, program, attach: Attach::Section, needs: Needs::Nothing, refuses: None }
}

const fn cgroup(
    name: &'static str,
    hook: &'static str,
    program: &'static str,
    verb: Verb,
    keys: &'static [Key],
) -> Hook {
    let refuses = Some(Refuses { verb, keys, level: Level::Prevents });
    Hook { name, hook, program, attach: Attach::Cgroup, needs: Needs::Nothing, refuses }
}

const fn lsm(
    name: &'static str,
    hook: &'static str,
    program: &'static str,
    verb: Verb,
    keys: &'static [Key],
) -> Hook {
    let refuses = Some(Refuses { verb, keys, level: Level::Prevents });
    Hook { name, hook, program, attach: Attach::Section, needs: Needs::Lsm, refuses }
}

/// In the order in which they are attached: who is who comes first.
pub const HOOKS: &[Hook] = &[
    keeps("fork", "tp_btf/sched_process_fork", "deny_fork"),
    keeps("exit", "tp_btf/sched_process_exit", "deny_exit"),
    Hook {
        refuses: Some(Refuses {
            verb: Verb::Exec,
            keys: &[Program],
            level: Level::KillsBeforeFirstInstruction,
        }),
        ..keeps("exec", "tp_btf/sched_process_exec", "deny_exec")
    },
    lsm("bprm", "lsm/bprm_check_security", "deny_bprm", Verb::Exec, RUNNER),
    lsm("map", "lsm/mmap_file", "deny_map", Verb::Map, &[Program]),
    cgroup("sock_create", "cgroup/sock_create", "deny_sock_create", Verb::Socket, ASKER),
    cgroup("connect4", "cgroup/connect4", "deny_connect4", Verb::Connect, &Key::ALL),
    cgroup("connect6", "cgroup/connect6", "deny_connect6", Verb::Connect, &Key::ALL),
    cgroup("sendmsg4", "cgroup/sendmsg4", "deny_sendmsg4", Verb::Send, &Key::ALL),
    cgroup("sendmsg6", "cgroup/sendmsg6", "deny_sendmsg6", Verb::Send, &Key::ALL),
    cgroup("bind4", "cgroup/bind4", "deny_bind4", Verb::Bind, ASKER),
    cgroup("bind6", "cgroup/bind6", "deny_bind6", Verb::Bind, ASKER),
    cgroup("egress", "cgroup_skb/egress", "deny_egress", Verb::Packet, &Key::ALL),
    cgroup("ingress", "cgroup_skb/ingress", "deny_ingress", Verb::Packet, &Key::ALL),
    lsm("family", "lsm/socket_create", "deny_family", Verb::Family, ASKER),
    Hook {
        name: "capability",
        hook: "tp_btf/cap_capable",
        program: "deny_capability",
        attach: Attach::Section,
        needs: Needs::Tracepoint("cap_capable"),
        refuses: Some(Refuses {
            verb: Verb::Family,
            keys: &[TaskTree],
            level: Level::KillsOneCallLate,
        }),
    },
];

impl Verb {
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Send,
        Self::Bind,
        Self::Socket,
        Self::Packet,
        Self::Family,
        Self::Exec,
        Self::Map,
    ];

    fn bit(self) -> u32 {
        match self {
            Self::Connect => wire::DENY_CONNECT,
            Self::Send => wire::DENY_SEND,
            Self::Bind => wire::DENY_BIND,
            Self::Socket => wire::DENY_SOCKET,
            Self::Packet => wire::DENY_PACKET,
            Self::Exec => wire::DENY_EXEC,
            Self::Map => wire::DENY_MAP,
            Self::Family => wire::DENY_FAMILY,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send a datagram",
            Self::Bind => "bind",
            Self::Socket => "make an internet socket",
            Self::Packet => "packets of what stands",
            Self::Exec => "execute",
            Self::Map => "be run by its loader",
            Self::Family => "make a socket of another family",
        }
    }
}

impl Key {
    pub const ALL: [Self; 7] = [Peer, ProgramPeer, TaskTree, Program, ProgramNetwork, Cgroup, User];

    pub fn of(target: &Target) -> Self {
        match target {
            Target::Peer { program_id: 0, .. } => Peer,
            Target::Peer { .. } => ProgramPeer,
            Target::TaskTree { .. } => TaskTree,
            Target::Program { network: false, .. } => Program,
            Target::Program { network: true, .. } => ProgramNetwork,
            Target::Cgroup { .. } => Cgroup,
            Target::User { .. } => User,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Peer => "peer",
            ProgramPeer => "peer of a program",
            TaskTree => "task tree",
            Program => "program",
            ProgramNetwork => "network of a program",
            Cgroup => "cgroup",
            User => "user",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A level, in the words of the documentation.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Prevents => "prevents",
        Level::PreventsNetwork => "prevents network",
        Level::KillsBeforeFirstInstruction => "kills before the first instruction",
        Level::KillsOneCallLate => "kills one call late",
        Level::Counts => "no",
    }
}

/// How much a level is worth, the least first.
fn worth(level: Level) -> u8 {
    match level {
        Level::Counts => 0,
        Level::KillsOneCallLate => 1,
        Level::KillsBeforeFirstInstruction => 2,
        Level::PreventsNetwork => 3,
        Level::Prevents => 4,
    }
}

impl Hook {
    pub(crate) fn of(program: &str) -> Option<&'static Self> {
        HOOKS.iter().find(|hook| hook.program == program)
    }

    /// How surely it refuses the verb to the key; `Counts`: it lets it through.
    pub fn level(&self, key: Key, verb: Verb) -> Level {
        let here = |refuses: &Refuses| refuses.verb == verb && refuses.keys.contains(&key);
        self.refuses.filter(here).map_or(Level::Counts, |refuses| refuses.level)
    }

    /// Whether a kernel of [`KERNELS`] has it.
    pub fn there(&self, kernel: &str) -> There {
        match (self.needs, kernel) {
            (Needs::Nothing, _) => There::Yes,
            (Needs::Lsm, "6.1" | "6.12") => There::Yes,
            (Needs::Lsm, _) => There::IfAllowed,
            (Needs::Tracepoint(_), "6.1" | "6.12") => There::No,
            (Needs::Tracepoint(_), _) => There::Yes,
        }
    }
}

/// A hook that this kernel doesn't have, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub hook: &'static str,
    pub why: String,
}

/// The hooks of this kernel.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    loaded: Vec<&'static Hook>,
    missing: Vec<Missing>,
}

impl Hooks {
    /// By what each row needs; `lacks` says why a need isn't met.
    pub(crate) fn by(mut lacks: impl FnMut(Needs) -> Option<String>) -> Self {
        let mut hooks = Self::default();
        for hook in HOOKS {
            match lacks(hook.needs) {
                None => hooks.loaded.push(hook),
                Some(why) => hooks.missing.push(Missing { hook: hook.hook, why }),
            }
        }
        hooks
    }

    pub fn loaded(&self) -> &[&'static Hook] {
        &self.loaded
    }

    /// What is refused by name: the pairs of these hooks are not offered here.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    pub(crate) fn has(&self, program: &str) -> bool {
        self.loaded.iter().any(|hook| hook.program == program)
    }

    /// How surely a verb is refused to a key; `Counts`: it isn't.
    pub fn level(&self, key: Key, verb: Verb) -> Level {
        let levels = self.loaded.iter().map(|hook| hook.level(key, verb));
        levels.max_by_key(|level| worth(*level)).unwrap_or(Level::Counts)
    }

    /// What is told of an entry that enforces: of a program, what becomes of its exec; of the others,
    /// what becomes of their network.
    pub fn told(&self, key: Key) -> Level {
        match key {
            Program => self.level(Program, Verb::Exec),
            _ => match self.level(key, Verb::Connect) {
                Level::Prevents => Level::PreventsNetwork,
                other => other,
            },
        }
    }

    /// What an entry refuses, as the kernel reads it.
    pub(crate) fn verbs(&self, key: Key) -> u32 {
        let refused = Verb::ALL.into_iter().filter(|verb| self.level(key, *verb) != Level::Counts);
        refused.fold(0, |verbs, verb| verbs | verb.bit())
    }

    /// Who refuses something to the key.
    pub fn of(&self, key: Key) -> impl Iterator<Item = &'static Hook> {
        let refuses = move |hook: &&'static Hook| {
            hook.refuses.is_some_and(|refuses| refuses.keys.contains(&key))
        };
        self.loaded.iter().copied().filter(refuses)
    }
}

const HEAD: &str = "\
# What is refused, and how surely

This file is generated from the table in `responder/src/hooks.rs` and checked by `cargo test -p
hedgerow-responder`; `HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-responder --test enforcement` writes
it. `hedgerow doctor` prints the same for the kernel that it runs on.

Every pair of a hook and a key is tried by its effect, and what isn't promised is tried to be let
through (`responder/tests/pairs.rs`; `make test-kernels` runs the same program under 6.1 and 6.12). *Prevents*: the call
fails with `EPERM`, or the packet is dropped. *Kills before the first instruction*: the new image runs
nothing. *Kills one call late*: the call goes on, and its caller doesn't return from it.

Sockets of another family are packet, XDP, vsock, Bluetooth and what else is neither IPv4 nor IPv6 and
leaves the host. The tracepoint of capabilities sees those that take `CAP_NET_RAW`: packet and XDP. What
stays open is in [evasions.md](evasions.md).

An automatic entry stands for a minute, longer while it is tried, an hour at most. Who does the same again later is
denied again, and who was refused one peer within the hour and calls another loses his network (the
task tree), where something grave was done, not only something new. What an operator took back of a process
(`hedgerow deny remove`) its finding doesn't ask for again.

A user is the real user id as the host counts it, of who asks and of who made the socket: set-uid programs change
nothing. All that is in a user namespace is its maker's too, whatever ids it has there (`/etc/subuid`, as rootless
containers use them), of namespaces in each other the outermost one's that root has not made. No finding denies a user or
the network of a program, only `hedgerow deny add --user U` and `hedgerow deny add --program P --network`; never root, a
user of the system, of services or of containers, or who orders it. Only by `--force` one who is logged in, or runs
something where it is not known whose login orders it (a kernel without audit, a console), or whose id lies beyond 65,535
and in no line of `/etc/passwd`.

";

/// docs/enforcement.md.
pub fn markdown() -> String {
    let everywhere = |kernel: &'static str| {
        Hooks::by(move |needs| {
            let hook = Hook { needs, ..keeps("", "", "") };
            (hook.there(kernel) != There::Yes).then(String::new)
        })
    };
    let mut text = HEAD.to_owned();
    for kernel in KERNELS {
        let hooks = everywhere(kernel);
        let note = match HOOKS.iter().any(|hook| hook.there(kernel) == There::IfAllowed) {
            true => ", where a policy of the host refuses LSM programs",
            false => "",
        };
        text += &format!("## Linux {kernel}{note}\n\n| denied | ");
        text += &Verb::ALL.map(Verb::name).join(" | ");
        text += " |\n|---|";
        text += &"---|".repeat(Verb::ALL.len());
        text += "\n";
        for key in Key::ALL {
            let cells = Verb::ALL.map(|verb| level_name(hooks.level(key, verb)));
            text += &format!("| {key} | {} |\n", cells.join(" | "));
        }
        text += "\n";
    }
    text += "## Hooks\n\n| hook | refuses | to | level | ";
    text += &KERNELS.join(" | ");
    text += " |\n|---|---|---|---|";
    text += &"---|".repeat(KERNELS.len());
    text += "\n";
    for hook in HOOKS {
        let there = KERNELS.map(|kernel| match hook.there(kernel) {
            There::Yes => "yes",
            There::No => "no",
            There::IfAllowed => "if allowed",
        });
        let (verb, keys, level) = match hook.refuses {
            Some(refuses) => (
                refuses.verb.name(),
                refuses.keys.iter().map(|key| key.name()).collect::<Vec<_>>().join(", "),
                level_name(refuses.level),
            ),
            None => ("keeps who is who", String::new(), ""),
        };
        let there = there.join(" | ");
        text += &format!("| `{}` | {verb} | {keys} | {level} | {there} |\n", hook.hook);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn bare() -> Hooks {
        Hooks::by(|needs| (needs != Needs::Nothing).then(|| "not here".to_owned()))
    }

    #[test]
    fn each_row_has_names_of_its_own() {
        let columns: [fn(&Hook) -> &'static str; 2] = [|hook| hook.name, |hook| hook.program];
        for name in columns {
            let names: HashSet<_> = HOOKS.iter().map(name).collect();
            assert_eq!(names.len(), HOOKS.len());
        }
    }

    #[test]
    fn an_entry_refuses_what_is_loaded_and_tells_no_more() {
        let (bare, whole) = (bare(), Hooks::by(|_| None));
        assert_eq!(bare.told(Program), Level::KillsBeforeFirstInstruction);
        assert_eq!(whole.told(Program), Level::Prevents);
        for key in [Peer, ProgramPeer, TaskTree, Cgroup] {
            assert_eq!(bare.told(key), Level::PreventsNetwork);
            assert_eq!(whole.told(key), Level::PreventsNetwork, "files and local sockets stay");
        }
        assert_eq!(bare.verbs(TaskTree) & wire::DENY_EXEC, 0);
        assert_ne!(whole.verbs(TaskTree) & wire::DENY_EXEC, 0);
        assert_eq!(whole.verbs(Cgroup) & wire::DENY_MAP, 0, "its libraries are mapped");
        let network = wire::DENY_CONNECT | wire::DENY_SEND | wire::DENY_PACKET;
        assert_eq!(whole.verbs(Peer), network);
        let none = Hooks::by(|_| Some("refused".to_owned()));
        assert_eq!((none.told(Peer), none.verbs(Peer)), (Level::Counts, 0));
        assert_eq!(none.missing().len(), HOOKS.len());
    }
}
