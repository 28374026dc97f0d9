//! The catalogue of deeds: everything nameable that can be surprising, one row each.
//!
//! A deed rests on facts that the kernel owns; what a process claims is none. How surprising one is
//! depends on how often its kind happens in its context, beginning with the row's prior.

use serde::{Deserialize, Serialize};

/// How grave a deed is by itself; each class has a share of the alert budget of its own, so that a
/// storm in one can't raise the bar of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// An amount: the forest, the neighbours, n-grams and counts.
    Measure,
    /// Something that was never seen here before.
    Novelty,
    /// What normal life hardly ever does, whoever does it.
    Intrinsic,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Measure, Self::Novelty, Self::Intrinsic];

    pub fn name(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Novelty => "novelty",
            Self::Intrinsic => "intrinsic",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What deeds are evidence of. Within an aspect only the most surprising deed of a process tree
/// counts, since the others follow from it: a new program is mostly a new child, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Where the code comes from.
    Image,
    /// Who started what.
    Lineage,
    /// A shell's or a program's standard streams.
    Streams,
    /// Rights gained.
    Rights,
    /// Power over other processes, the kernel or the host.
    Power,
    /// What decides what runs later.
    Persistence,
    /// Secrets.
    Secrets,
    /// Whom it talks to.
    Peer,
    /// Who talks to it.
    Source,
    /// How much left.
    Outflow,
    /// What became of many files.
    Files,
    /// How it works: amounts.
    Measure,
}

impl Aspect {
    /// All that deeds are evidence of.
    pub const DEEDS: [Self; 11] = [
        Self::Image,
        Self::Lineage,
        Self::Streams,
        Self::Rights,
        Self::Power,
        Self::Persistence,
        Self::Secrets,
        Self::Peer,
        Self::Source,
        Self::Outflow,
        Self::Files,
    ];
}

macro_rules! deeds {
    ($($kind:ident $name:literal $class:ident $aspect:ident $per_day:literal $words:literal $evidence:literal;)+) => {
        /// A kind of deed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Deed {
            $(#[doc = $evidence] $kind),+
        }

        /// The catalogue, in the order of [`Deed`].
        pub const CATALOGUE: &[DeedRow] = &[
            $(DeedRow {
                deed: Deed::$kind,
                name: $name,
                class: Class::$class,
                aspect: Aspect::$aspect,
                per_day: $per_day,
                words: $words,
                evidence: $evidence,
            }),+
        ];
    };
}

/// One kind of deed, as everything that depends on it reads it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeedRow {
    pub deed: Deed,
    /// As it is written in files and by `hedgerow power`.
    pub name: &'static str,
    pub class: Class,
    pub aspect: Aspect,
    /// Deeds a day on a host of which nothing is known; what was observed soon outweighs it.
    pub per_day: f64,
    /// What it did, after the program's name.
    pub words: &'static str,
    /// The facts it rests on, and where the kernel has them from.
    pub evidence: &'static str,
}

// kind, name, class, aspect, prior a day, words, evidence; new rows go last, since model files keep a
// row by its place
deeds! {
    ExecMemory "exec_memory" Intrinsic Image 0.01 "ran from memory"
        "exec of a file without a link: memfd, or deleted (`i_nlink` at sched_process_exec)";
    ExecWritable "exec_writable" Intrinsic Image 0.02 "ran from a writable place"
        "exec of a file that, or whose directory, others than root can write (inode modes at exec)";
    ExecDrift "exec_drift" Intrinsic Image 0.01 "ran from a file that was written into its container"
        "exec of a file in the upper layer of an overlay";
    ExecModified "exec_modified" Intrinsic Image 0.01 "ran from a file that its package holds with other content"
        "exec of a file whose digest is not that of the package that owns its path";
    ExecUnsigned "exec_unsigned" Novelty Image 0.5 "ran from a package that no signed list holds"
        "first exec of a program of a package that stands in no signed list";
    ExecUnowned "exec_unowned" Novelty Image 2.0 "ran from a file that no package owns"
        "first exec of a program whose file belongs to no package";
    Replaced "replaced" Novelty Image 1.0 "runs from another file than before"
        "exec of a known path with another digest, of no package";
    ReplacedWithin "replaced_within" Intrinsic Image 0.01 "runs a file that its own service has rewritten"
        "exec of a known path with another digest, written by a process of the same workload";
    NewProgram "new_program" Novelty Lineage 12.0 "was never seen here"
        "first event of a program in its workload";
    NewChild "new_child" Novelty Lineage 12.0 "was never seen to be started by this program"
        "first exec of a program by this parent program";
    UnderListener "under_listener" Intrinsic Lineage 0.02 "was never seen under a service that listens for connections"
        "first exec of a program by this parent, with a listening ancestor, or where the parent accepted connections in many epochs of learning (its calls, counted), and no login";
    SocketStreams "socket_streams" Intrinsic Streams 0.02 "has a network connection for its standard streams"
        "exec with an IPv4 or IPv6 socket as descriptor 0, 1 or 2, never seen of this program";
    Privilege "privilege" Intrinsic Rights 0.02 "changed its rights in a way never seen"
        "exec that raised privileges or changed the effective user id, for this program and ids first";
    SetIdBit "set_id_bit" Intrinsic Rights 0.01 "made a file set-user-id"
        "successful chmod with S_ISUID or S_ISGID on a file, by a program that never did";
    Credentials "credentials" Intrinsic Rights 0.001 "changed its credentials without a call that does so"
        "effective user or capabilities of a task (`real_cred`) that grew without an exec or a call that grants any";
    Trace "trace" Intrinsic Power 0.02 "reached into another process"
        "successful ptrace attach, seize or poke, or process_vm_writev, by a program that never did";
    Namespace "namespace" Intrinsic Power 0.02 "entered or made namespaces or mounts"
        "successful setns, unshare, mount, pivot_root or a clone with new namespaces (those of clone3 as the child has them), by a program that never did";
    Kernel "kernel" Intrinsic Power 0.01 "loaded code into the kernel"
        "successful bpf, module or kexec call by a program that never did";
    IoUring "io_uring" Intrinsic Power 0.01 "works through io_uring"
        "first io_uring set-up or request of a program";
    Persistence "persistence" Intrinsic Persistence 0.01 "wrote where it is decided what runs"
        "file opened for writing (the descriptor's own file), or renamed or linked (the directory of a relative name is the kernel's, the rest is claimed), into a place of cron, systemd, the loader, logins, by a program that never did and is no package manager";
    WroteCode "wrote_code" Intrinsic Persistence 0.01 "wrote a script"
        "script opened for writing under a service that listens, by a program that never did";
    Secret "secret" Intrinsic Secrets 0.02 "opened secrets"
        "successful open of passwords or keys, or one by io_uring whatever comes of it, by a program that never did";
    NewPeer "new_peer" Novelty Peer 24.0 "talks to an address never seen here"
        "outbound flow to an address that its workload never used (the socket's tuple)";
    Beacon "beacon" Intrinsic Peer 0.005 "calls an address never seen before at regular times"
        "regular gaps between starts of flows to an address first seen after learning";
    NewListener "new_listener" Novelty Source 1.0 "accepts connections on a port never seen"
        "inbound flow to a local port that its workload never had one on";
    NewSource "new_source" Novelty Source 12.0 "is called from an address never seen"
        "inbound flow from an address that its workload never had one from";
    OneSource "one_source" Intrinsic Source 0.01 "is called by one new source more often than by any before"
        "inbound flows of an address first seen after learning, beside the most of any source in five minutes";
    Outflow "outflow" Intrinsic Outflow 0.02 "sent much to an address never seen before"
        "bytes to an address first seen after learning, beside the most to any other in an hour";
    DnsOutflow "dns_outflow" Intrinsic Outflow 0.005 "sent much through name queries"
        "bytes to port 53 in an hour beside the most of any hour";
    Rewrite "rewrite" Intrinsic Files 0.02 "rewrote and renamed many files"
        "renames of a process tree in five minutes beside the most of its workload";
    Tampered "tampered" Intrinsic Power 0.001 "tampered with Hedgerow"
        "hooks, links and maps compared with what was left there";
    Measure "measure" Measure Measure 0.5 "did more, or other work, than ever"
        "a window's score beside the held-back ones of its program";
    ExecCut "exec_cut" Intrinsic Image 0.005 "ran from a place too deep to be named"
        "exec of a file whose path is longer or deeper than the kernel's walk goes";
    RuntimeCode "runtime_code" Novelty Image 1.0 "made memory executable while it ran"
        "successful mmap of anonymous memory with PROT_EXEC, or mprotect with it, by a program that never did";
    Packets "packets" Intrinsic Power 0.01 "reads or sends packets past the network stack"
        "successful socket() of family AF_PACKET or AF_XDP by a program that never did";
    Scan "scan" Intrinsic Peer 0.01 "tried many addresses or ports that don't answer"
        "outbound flows of a program in five minutes that were never established, beside the most that learning saw";
    Flood "flood" Intrinsic Source 0.01 "counts what was sent to no listener, or to one without room"
        "SYN cookies, listen overflows and segments to closed ports in five minutes (`/proc/PID/net/{snmp,netstat}`), beside the most that learning saw";
    Forks "forks" Intrinsic Power 0.003 "started a burst of processes"
        "processes forked in 5 s, other than one for each connection, by a program that serves connections, beside the most that learning saw";
    Answers "answers" Intrinsic Source 0.003 "gave a new source far more for what it asked than any before"
        "bytes to a source first seen after learning for each byte from it, beside the most of any source in an hour";
}

impl Deed {
    /// The deed's row of the catalogue.
    pub fn row(self) -> &'static DeedRow {
        &CATALOGUE[self as usize]
    }
    pub fn class(self) -> Class {
        self.row().class
    }
    pub fn aspect(self) -> Aspect {
        self.row().aspect
    }

    /// Whether an automatic denial may rest on it. What administrators and runtimes do for a living
    /// (namespaces, tracing, secrets, timers, renames) is told, and adds to what else was done.
    pub fn may_deny(self) -> bool {
        let trade =
            [Aspect::Power, Aspect::Secrets, Aspect::Persistence, Aspect::Files, Aspect::Source];
        self.class() == Class::Intrinsic && !trade.contains(&self.aspect())
    }
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_the_order_of_its_deeds_and_its_priors_fit_a_budget_of_one_a_day() {
        for (at, row) in CATALOGUE.iter().enumerate() {
            assert_eq!(row.deed as usize, at, "{}", row.name);
            let text = serde_json::to_string(&row.deed).unwrap_or_default();
            assert_eq!(text, format!("\"{}\"", row.name));
        }
        // Half of one alert a day is what intrinsic deeds may spend: a third by the catalogue, the rest is for
        // what is learned.
        let intrinsic = CATALOGUE.iter().filter(|row| row.class == Class::Intrinsic);
        let per_day: f64 = intrinsic.map(|row| row.per_day).sum();
        assert!(per_day < 1.0 / 3.0, "{per_day}");
    }
}
