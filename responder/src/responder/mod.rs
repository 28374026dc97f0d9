//! The responder: decides nothing by itself, installs what it is told within its limits, keeps it
//! alive while it is hit, and says what it did.

mod admit;
mod control;
mod hold;
mod keep;
mod life;
mod options;
mod takeover;
mod watch;
mod wrong;

use std::{
    collections::{HashMap, VecDeque},
    mem::{Discriminant, discriminant},
    path::Path,
};

use hedgerow_event::{Action, FileKey, Mode, Remediation, Rule, Target, Workload};

use crate::{
    Error, Refusal,
    ended::Ended,
    entry::{Entry, Request},
    hold::Hold,
    hooks::Hooks,
    kernel::{self, Insert, Kernel, Sizes},
    ledger::{By, Decision, Ledger, Line},
    limits::Breaker,
    own::Own,
    protected::{ProtectedSet, remembered::Remembered},
    quota::Quota,
    spent::Spent,
    standing::Standing,
};
use keep::Kept;
pub use keep::Stopped;
use options::disarmed;
pub use options::{DIRECTORY, Options, STANDING, ordered};
pub use wrong::Wronged;

/// Something that an operator must hear of at once, as a finding above all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub workload: Workload,
    pub reason: String,
}

/// A request against which nothing speaks.
#[derive(Debug)]
struct Checked {
    id: u64,
    /// With its target made canonical.
    request: Request,
    mode: Mode,
    ceiling: Mode,
    /// It stops more than one offender, or a whole service.
    wide: bool,
}

/// Live entries and the pinned maps they stand in. Dropping it leaves both as they are.
#[derive(Debug)]
pub struct Responder {
    kernel: Kernel,
    pub(crate) ledger: Ledger,
    options: Options,
    boot_id: String,
    standing: Standing,
    entries: HashMap<u64, Entry>,
    /// Wide entries that are not installed yet.
    holds: Vec<Hold>,
    allowed: Vec<Target>,
    breaker: Breaker,
    protected: ProtectedSet,
    /// It could not be read at the start.
    forgot: bool,
    kept: Kept,
    own: Own,
    /// What only a fresh finding may open again.
    spent: Spent,
    ended: Ended,
    refused: Refused,
    quota: Quota,
    /// Whose order is being followed.
    by: Option<By>,
    /// The kill switch as the ledger has it; others can throw it through the pin.
    armed: bool,
    /// It was found thrown, and it is not known yet by whom.
    thrown: bool,
    /// What was found or given up at start, told by the first tick.
    pending: Vec<Remediation>,
    alarms: Vec<Alarm>,
    noticed: Noticed,
}

const FILES_FORGOTTEN: &str = "more files were executed than can be remembered: the oldest are forgotten, of the \
                               workload that ran the most";
const WORKLOADS_FORGOTTEN: &str = "more workloads were seen than can be followed: of those younger than a week the \
                                   ones seen longest ago are forgotten, and begin their week anew";
const PROCESSES_REFUSED: &str = "more processes run than the kernel's table has room for: of those without, entries for a \
                                 program match none, and who forked twice may be outside of a denied tree";
const DOOMED: &str = "a denied tree has more processes than the kernel's table has room for: further children are refused \
                      everything and killed at their next exec";
const UNCOUNTED: &str = "a monitored tree has more processes than the kernel's table has room for: what further children do \
                         is not counted";
const MAKERS_LOST: &str = "what an earlier version knew of sockets that stand could not be taken over: whoever holds one first \
                           counts as who made it, and a denied user's or program's that others hold may go on";

/// What was told of what there was no time or no room for, each counted since it began.
#[derive(Debug, Default)]
struct Noticed {
    /// Listings cut short.
    short: u64,
    files: u64,
    workloads: u64,
    /// Processes and children of denied ones that the kernel's tables had no room for.
    processes: u64,
    doomed: u64,
    uncounted: u64,
    makers_lost: u64,
}

/// Refusals that are remembered; the oldest go first, and would be written once more.
const REFUSED_MAX: usize = 1024;

/// What automatic entries were refused: a finding that asks again and again for the same is written down
/// once for each kind of answer.
#[derive(Debug, Default)]
struct Refused(VecDeque<(Option<String>, Target, Discriminant<Refusal>)>);

impl Refused {
    fn is_news(&mut self, finding: &Option<String>, target: &Target, refusal: &Refusal) -> bool {
        let said = (finding.clone(), target.clone(), discriminant(refusal));
        if self.0.contains(&said) {
            return false;
        }
        if self.0.len() >= REFUSED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(said);
        true
    }
}

/// The deny programs, attached and pinned, that nobody answers for yet.
#[derive(Debug)]
pub struct Loaded(Kernel);

impl Responder {
    /// Loads and pins the deny programs, or takes over those of an earlier responder together with
    /// the entries that the ledger explains; an entry that no ledger line explains is removed.
    ///
    /// # Errors
    /// Not root, no BPF file system or cgroup v2, programs refused by the kernel, a part of the
    /// pinned maps only, a ledger or orders that can't be read.
    pub fn start(options: Options) -> Result<Self, Error> {
        let loaded = Self::load(&options)?;
        Self::with(loaded, options)
    }

    /// Only what takes privileges: loads and pins the deny programs, or takes over pinned ones.
    ///
    /// # Errors
    /// Not root, no BPF file system or cgroup v2, programs refused by the kernel, a part of the
    /// pinned maps only.
    pub fn load(options: &Options) -> Result<Loaded, Error> {
        Self::load_sized(options, Sizes::default())
    }

    pub(crate) fn load_sized(options: &Options, sizes: Sizes) -> Result<Loaded, Error> {
        let sizes = Sizes { identity_key: options.identity_key, ..sizes };
        Kernel::start(&options.directory, sizes).map(Loaded)
    }

    /// The rest of a start, by the options that the programs were loaded by.
    ///
    /// # Errors
    /// A ledger or orders that can't be read.
    pub fn with(Loaded(kernel): Loaded, options: Options) -> Result<Self, Error> {
        let boot_id = kernel::boot_id()?;
        let ledger = Ledger::open(&options.ledger, options.ledger_bytes_max)?;
        let (lines, _torn) = Ledger::read(&options.ledger)?;
        let standing = Standing::load(&options.standing())?;
        let breaker = Breaker::remembering(standing.tripped.clone());
        let mut protected = ProtectedSet::default();
        let (known, unread) = Remembered::recall(&options.remembered())?;
        protected.recall(known);
        let mut responder = Self {
            kernel,
            ledger,
            options,
            boot_id,
            standing,
            entries: HashMap::new(),
            holds: Vec::new(),
            allowed: Vec::new(),
            breaker,
            protected,
            forgot: unread.is_some(),
            kept: Kept::default(),
            spent: Spent::default(),
            ended: Ended::default(),
            refused: Refused::default(),
            quota: Quota::default(),
            by: None,
            armed: true,
            thrown: false,
            own: Own::read(&kernel::cgroup_root()?),
            pending: Vec::new(),
            alarms: unread
                .map(|reason| Alarm { workload: Workload::host(), reason })
                .into_iter()
                .collect(),
            noticed: Noticed::default(),
        };
        let path = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
        responder.protected.set_own(responder.own.tgids.clone(), path);
        responder.adopt(crate::adopt::replay(&lines, &responder.boot_id))?;
        Ok(responder)
    }

    /// Installs an entry, cuts the sockets that stand, and returns what was done. A wide automatic
    /// entry waits first, see [`Responder::holds`].
    ///
    /// # Errors
    /// A [`Refusal`], written to the ledger; nothing is installed then.
    pub fn deny(&mut self, request: Request) -> Result<Remediation, Refusal> {
        let now = kernel::now();
        let (target, rule, finding_uid) =
            (request.target.clone(), request.rule, request.finding_uid.clone());
        let workload = request.subject.as_deref().map(|subject| subject.workload.clone());
        let workload = workload.unwrap_or_else(Workload::host);
        self.end_expired(now)?;
        let done = self.check(request, now).and_then(|checked| {
            let waits = rule != Rule::Operator && checked.wide;
            if waits { Err(self.hold(checked, now)?) } else { self.install(checked, now) }
        });
        if let Err(refusal) = &done
            && !matches!(refusal, Refusal::Held { .. })
            && (rule == Rule::Operator
                || (self.refused.is_news(&finding_uid, &target, refusal)
                    && self.quota.has_room(&workload, now.boot_ns)))
        {
            let reason = refusal.to_string();
            self.log(now, Decision::Refuse { target, rule, finding_uid, reason });
        }
        done
    }

    /// Live entries, oldest id first.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut list: Vec<_> = self.entries.values().collect();
        list.sort_by_key(|entry| (entry.expires_wall_ns, entry.id));
        list
    }

    /// What no automatic entry may name; the daemon keeps it up to date, see
    /// [`crate::protected::gather`].
    pub fn protected(&self) -> &ProtectedSet {
        &self.protected
    }

    pub fn protected_mut(&mut self) -> &mut ProtectedSet {
        &mut self.protected
    }

    /// What this kernel refuses, to whom and how surely.
    pub fn hooks(&self) -> &Hooks {
        &self.kernel.hooks
    }

    /// The deny programs that are attached, with the kernel's id of each.
    pub fn programs(&self) -> Vec<(&'static str, u32)> {
        self.kernel.programs()
    }

    /// Whether pinned maps of an earlier responder were taken over.
    pub fn adopted(&self) -> bool {
        self.kernel.adopted
    }

    /// What a live process runs, as peer and program entries name it: its program id and file.
    /// `None` where the kernel's table had no room for it, or there is no such process.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn program_of(&self, tgid: u32) -> Result<Option<(u64, FileKey)>, Error> {
        self.kernel.program_of(tgid)
    }

    /// When a live process started, as task-tree entries name it.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn start_of(&self, tgid: u32) -> Result<Option<u64>, Error> {
        self.kernel.start_of(tgid)
    }

    /// What happened since the last call that an operator must hear of.
    pub fn take_alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    /// What there was no time or no room for since the last call, for the log: each time that sockets
    /// were too many, once that files, workloads or processes were, and what is not on the disk.
    pub fn take_notices(&mut self) -> Vec<String> {
        let mut notices = self.kept.take_notices();
        let was = &self.noticed;
        // A control word that can't be read has nothing new.
        let control = self.kernel.maps.control().ok();
        let now = Noticed {
            short: self.kernel.cut_short(),
            files: self.protected.files_forgotten(),
            workloads: self.standing.coverage.forgotten(),
            processes: control.map_or(was.processes, |control| control.unknown),
            doomed: control.map_or(was.doomed, |control| control.doomed),
            uncounted: control.map_or(was.uncounted, |control| control.uncounted),
            makers_lost: u64::from(self.kernel.makers_lost),
        };
        if now.short > was.short {
            notices.push(format!(
                "there are too many descriptors on this host to look at all of them in time ({} times \
                 since the start): what stands when an entry is made is cut in part",
                now.short
            ));
        }
        for (now, was, what) in [
            (now.files, was.files, FILES_FORGOTTEN),
            (now.workloads, was.workloads, WORKLOADS_FORGOTTEN),
            (now.processes, was.processes, PROCESSES_REFUSED),
            (now.doomed, was.doomed, DOOMED),
            (now.uncounted, was.uncounted, UNCOUNTED),
            (now.makers_lost, was.makers_lost, MAKERS_LOST),
        ] {
            if now > 0 && was == 0 {
                notices.push(what.to_owned());
            }
        }
        self.noticed = now;
        notices
    }

    /// Whose order the next calls follow, until the next of these: told in their ledger lines.
    pub fn ordered_by(&mut self, by: Option<By>) {
        self.by = by;
    }

    /// Writes down an order that only the ledger has to know of.
    pub fn record_order(&self, decision: Decision) {
        self.log(kernel::now(), decision);
    }

    /// Whether an operator's entry would be made, without making it.
    ///
    /// # Errors
    /// The refusal that it would meet.
    pub fn would_deny(&mut self, request: Request) -> Result<(), Refusal> {
        self.check(request, kernel::now()).map(drop)
    }

    /// Writes down that a finding of a workload led to no entry, and why.
    pub fn record_report(&mut self, workload: &Workload, finding_uid: &str, reason: &str) {
        let now = kernel::now();
        if !self.quota.has_room(workload, now.boot_ns) {
            return;
        }
        let decision =
            Decision::Report { finding_uid: finding_uid.to_owned(), reason: reason.to_owned() };
        self.log(now, decision);
    }

    /// How the ledger fares: its lines are written beside, and wait in memory where they can't be.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn report(&self, entry: &Entry, action: Action, now: crate::Now, why: &str) -> Remediation {
        entry.remediation(action, &self.options.host_id, now, why)
    }

    fn log(&self, now: crate::Now, decision: Decision) {
        let (boot_id, by) = (self.boot_id.clone(), self.by);
        self.ledger.append(&Line { time_ns: now.wall_ns, boot_id, by, decision });
    }

    /// Writes what is to be looked up for the target's cgroup by all entries and allowances.
    fn rescope(&self, target: &Target) -> Result<Insert, Error> {
        let Some(cgroup_id) = crate::scope::cgroup_of(target) else { return Ok(Insert::Done) };
        let (id, flags) =
            crate::scope::scope(cgroup_id, self.entries.values(), self.allowed.iter());
        self.kernel.maps.set_scope(cgroup_id, id, flags)
    }

    fn rescope_all(&self) -> Result<(), Error> {
        for target in self.entries.values().map(|entry| &entry.target).chain(&self.allowed) {
            self.rescope(target)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Responder {
    /// Turns counting entries into refusing ones in the kernel, and nothing else.
    pub(crate) fn force_enforce(&mut self) {
        for entry in self.entries.values_mut() {
            entry.mode = Mode::Enforce;
            self.kernel.refresh(entry).expect("an entry is rewritten");
        }
    }
    pub(crate) fn kernel_hits(&self, id: u64) -> u64 {
        self.kernel.maps.hits(id).expect("hits are readable").0
    }
    /// Processes in the kernel's table that it counts for a tree.
    pub(crate) fn counted_members(&self, id: u64) -> i64 {
        use kernel::maps::get;
        let hits = get::<hedgerow_bpf::wire::deny_hits>(&self.kernel.maps.hits, &id.to_ne_bytes());
        hits.expect("hits are readable").map_or(0, |hits| hits.members)
    }
    /// The word by which a socket of this process is known to have met no entry.
    pub(crate) fn passed(&self, socket: &impl std::os::fd::AsRawFd) -> u64 {
        use kernel::maps::get;
        let key = socket.as_raw_fd().to_ne_bytes();
        let socket = get::<hedgerow_bpf::wire::deny_socket>(&self.kernel.maps.sockets, &key);
        socket.expect("a socket's storage is readable").map_or(0, |socket| socket.passed)
    }
    /// Records of sockets at a local port that a listing hands over.
    pub(crate) fn told_of(&self, port: u16) -> usize {
        let mut told = 0;
        let listing = self.kernel.list_sockets(|record| {
            told += usize::from(record.local_port == port);
        });
        listing.expect("sockets are listed");
        told
    }
    pub(crate) fn doomed(&self) -> u64 {
        self.kernel.maps.control().expect("the control word is readable").doomed
    }
}

/// What this kernel can refuse, found by loading the programs; nothing is attached or pinned.
///
/// # Errors
/// Not root, or the kernel refuses what is needed everywhere.
pub fn survey() -> Result<Hooks, Error> {
    kernel::survey()
}

/// Throws the kill switch of a responder that runs, is stopped or is dead; `ledger` is its ledger's
/// path. Lasts until [`Responder::arm`], over stops, starts and reboots. A responder that runs, or the
/// next one, writes down whose order it was.
///
/// # Errors
/// Nothing is pinned under `directory` (yet what starts next starts disarmed), or not root.
pub fn disarm(directory: &Path, ledger: &Path, by: By) -> Result<(), Error> {
    // First, since no disk may hold it up.
    let pinned = kernel::disarm(directory);
    if ledger.parent().is_some_and(Path::exists) {
        crate::standing::disarmed_by(&disarmed(ledger), by)?;
    }
    pinned
}

/// Detaches and unpins what a dead responder has left under `directory`.
///
/// # Errors
/// Not root.
pub fn remove_pins(directory: &Path) -> Result<(), Error> {
    kernel::remove_all(directory)
}
