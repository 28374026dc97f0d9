//! The responder: decides nothing by itself, installs what it is told within its limits, keeps it
//! alive while it is hit, and says what it did.

mod admit;
mod control;
mod hold;
mod takeover;
mod watch;
mod wrong;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use hedgerow_event::{Action, FileKey, Mode, Remediation, Rule, Target, Workload};

use crate::{
    Error, Refusal,
    cut::cut,
    entry::{Due, Entry, Request},
    hold::Hold,
    hooks::{Hooks, Key},
    kernel::{self, Insert, Kernel, Sizes},
    ledger::{By, Decision, Ledger, Line},
    limits::{Breaker, Limits},
    own::Own,
    protected::{
        ProtectedSet,
        remembered::{Keeper, Remembered},
    },
    sockets,
    spent::Spent,
    standing::Standing,
};
pub use wrong::Wronged;

/// What normal life has shown is saved after so many ticks, where anything is new.
const REMEMBER_TICKS: u32 = 60;

/// Where the deny maps and links are pinned.
pub const DIRECTORY: &str = "/sys/fs/bpf/hedgerow";

/// How a responder is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory on a BPF file system; it is made, and its parent mounted, where missing.
    pub directory: PathBuf,
    pub ledger: PathBuf,
    pub ledger_bytes_max: u64,
    pub host_id: String,
    pub limits: Limits,
    /// The mode of workloads for which no operator has set one, in this run or before.
    pub mode: Mode,
    /// Of this run: holds where it is less than the default mode that an operator has set before, or where
    /// none has; a workload's own mode stays.
    pub mode_now: Option<Mode>,
    /// The host's secret behind programs' ids, the same as the sensor's.
    pub identity_key: [u64; 2],
}

impl Options {
    pub fn new(host_id: impl Into<String>, ledger: impl Into<PathBuf>) -> Self {
        Self {
            directory: DIRECTORY.into(),
            ledger: ledger.into(),
            ledger_bytes_max: 16 << 20,
            host_id: host_id.into(),
            limits: Limits::default(),
            mode: Mode::Observe,
            mode_now: None,
            identity_key: [0; 2],
        }
    }

    /// What an operator ordered, beside the ledger.
    fn standing(&self) -> PathBuf {
        self.ledger.with_file_name("responder.json")
    }

    /// What normal life has shown.
    fn remembered(&self) -> PathBuf {
        self.ledger.with_file_name("remembered.json")
    }
}

/// The file that says that the kill switch is thrown, beside the ledger.
fn disarmed(ledger: &Path) -> PathBuf {
    ledger.with_file_name("disarmed")
}

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
    keeper: Keeper,
    /// Ticks since that was last looked at.
    unsaved_ticks: u32,
    own: Own,
    /// What only a fresh finding may open again.
    spent: Spent,
    /// Whose order is being followed.
    by: Option<By>,
    /// The kill switch as the ledger has it; others can throw it through the pin.
    armed: bool,
    /// It was found thrown, and it is not known yet by whom.
    thrown: bool,
    /// What was found or given up at start, told by the first tick.
    pending: Vec<Remediation>,
    alarms: Vec<Alarm>,
}

impl Responder {
    /// Loads and pins the deny programs, or takes over those of an earlier responder together with
    /// the entries that the ledger explains; an entry that no ledger line explains is removed.
    ///
    /// # Errors
    /// Not root, no BPF file system or cgroup v2, programs refused by the kernel, pinned maps of
    /// another layout, a ledger that can't be written, orders that can't be read.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_sized(options, Sizes::default())
    }

    pub(crate) fn start_sized(options: Options, sizes: Sizes) -> Result<Self, Error> {
        let sizes = Sizes { identity_key: options.identity_key, ..sizes };
        let boot_id = kernel::boot_id()?;
        let ledger = Ledger::open(&options.ledger, options.ledger_bytes_max)?;
        let (lines, _torn) = Ledger::read(&options.ledger)?;
        let standing = Standing::load(&options.standing())?;
        let breaker = Breaker::remembering(standing.tripped.clone());
        let mut protected = ProtectedSet::default();
        protected.recall(Remembered::load(&options.remembered())?);
        let kernel = Kernel::start(&options.directory, sizes)?;
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
            keeper: Keeper::default(),
            unsaved_ticks: 0,
            spent: Spent::default(),
            by: None,
            armed: true,
            thrown: false,
            own: Own::read(&kernel::cgroup_root()?),
            pending: Vec::new(),
            alarms: Vec::new(),
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
        let done = self.check(request, now).and_then(|checked| {
            let waits = rule != Rule::Operator && checked.wide;
            if waits { Err(self.hold(checked, now)?) } else { self.install(checked, now) }
        });
        done.inspect_err(|refusal| {
            if matches!(refusal, Refusal::Held { .. }) {
                return;
            }
            let reason = refusal.to_string();
            self.log(now, Decision::Refuse { target, rule, finding_uid, reason });
        })
    }

    fn install(&mut self, checked: Checked, now: crate::Now) -> Result<Remediation, Refusal> {
        let Checked { id, request, mode, ceiling, wide: _ } = checked;
        let enforced = self.kernel.hooks.told(Key::of(&request.target));
        let uid = crate::adopt::uid(&self.boot_id, id);
        let mut entry = Entry::begun(id, uid, request, (mode, ceiling), now);
        entry.enforced = enforced;
        // An entry in the kernel is always explained, by its note there if the line is lost.
        let planned = self.report(&entry, Action::Block, now, &entry.reason);
        self.log(now, Decision::Block { entry: planned, period_s: entry.period_s });
        self.entries.insert(id, entry.clone());
        let installed = self.rescope(&entry.target).and_then(|scope| match scope {
            Insert::Done => self.kernel.install(&entry),
            other => Ok(other),
        });
        if !matches!(installed, Ok(Insert::Done)) {
            self.entries.remove(&id);
            self.rescope(&entry.target)?;
            self.kernel.ask(self.entries.values())?;
            let undone = self.report(&entry, Action::Unblock, now, "could not be installed");
            self.log(now, Decision::Unblock { entry: undone });
            if let (Insert::Nobody, Target::TaskTree { tgid, .. }) = (installed?, &entry.target) {
                return Err(Refusal::Gone { tgid: *tgid });
            }
            let full = Refusal::Full { whose: "kernel", limit: self.entries.len() };
            if entry.is_automatic() {
                let workload = entry.workload().cloned().unwrap_or_else(Workload::host);
                self.trip(&workload, &full, now)?;
            }
            return Err(full);
        }
        // The entry is live whatever comes of the sockets.
        let why = self.cut(&mut entry).unwrap_or_else(|error| {
            format!("{}; what stands could not be destroyed: {error}", entry.reason)
        });
        let report = self.report(&entry, Action::Block, now, &why);
        self.entries.insert(id, entry);
        Ok(report)
    }

    /// Cuts the sockets that stand, where the entry enforces; returns what is to be said of it.
    fn cut(&self, entry: &mut Entry) -> Result<String, Error> {
        let mut why = entry.reason.clone();
        if entry.mode == Mode::Enforce {
            let standing = sockets::records(&self.kernel.list_sockets()?)?;
            let denied = sockets::denied(&standing, entry.id);
            let result = cut(&self.kernel.maps.sockets, entry.id, denied);
            // Marks hold from here on.
            self.kernel.maps.changed(|verbs| verbs)?;
            entry.sockets_destroyed += result.destroyed;
            if result.dropped_only > 0 {
                why += &format!(
                    "; {} sockets could not be destroyed, their packets are dropped",
                    result.dropped_only
                );
            }
        }
        Ok(why)
    }

    /// Lifts an entry before its time.
    ///
    /// # Errors
    /// The kernel or the ledger fails. `None`: there is no such entry.
    pub fn remove(&mut self, uid: &str, why: &str) -> Result<Option<Remediation>, Error> {
        let id = self.entries.values().find(|entry| entry.uid == uid).map(|entry| entry.id);
        id.map(|id| self.lift(id, kernel::now(), why)).transpose()
    }

    fn lift(&mut self, id: u64, now: crate::Now, why: &str) -> Result<Remediation, Error> {
        let mut entry = self.entries.remove(&id).ok_or(Error::Malformed("no such entry"))?;
        (entry.hits, entry.inbound) = self.kernel.maps.hits(id)?;
        self.kernel.uninstall(&entry)?;
        self.rescope(&entry.target)?;
        self.pardon()?;
        self.kernel.ask(self.entries.values())?;
        entry.expires_wall_ns = entry.expires_wall_ns.min(now.wall_ns);
        let report = self.report(&entry, Action::Unblock, now, why);
        self.log(now, Decision::Unblock { entry: report.clone() });
        Ok(report)
    }

    /// Who found no room in the table of denied processes is refused only while a tree is.
    pub(super) fn pardon(&self) -> Result<(), Error> {
        let refuses = |entry: &Entry| {
            entry.mode == Mode::Enforce && matches!(entry.target, Target::TaskTree { .. })
        };
        if self.entries.values().any(refuses) { Ok(()) } else { self.kernel.pardon() }
    }

    /// Live entries, oldest id first.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut list: Vec<_> = self.entries.values().collect();
        list.sort_by_key(|entry| (entry.expires_wall_ns, entry.id));
        list
    }

    /// Installs what has waited, extends what was hit and releases what was not. To be called about every second; an entry
    /// that is missed expires in the kernel by itself.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn tick(&mut self, now: crate::Now) -> Result<Vec<Remediation>, Error> {
        // `disarm` throws the switch before it writes down whose order that is.
        let unexplained =
            !self.is_armed()? && self.armed && !disarmed(&self.options.ledger).exists();
        if std::mem::replace(&mut self.thrown, unexplained) || !unexplained {
            self.note_armed()?;
        }
        self.remember()?;
        let mut reports = std::mem::take(&mut self.pending);
        reports.extend(self.install_due(now)?);
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            let (hits, inbound) = self.kernel.maps.hits(id)?;
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.inbound = inbound;
            match entry.due(now.boot_ns, hits) {
                Due::Nothing => {}
                Due::Extend => {
                    let fresh = hits - entry.hits_before;
                    entry.extend(now);
                    let entry = entry.clone();
                    self.kernel.refresh(&entry)?;
                    let why = format!("hit {fresh} times, lives {} s more", entry.period_s);
                    let report = self.report(&entry, Action::Block, now, &why);
                    let period_s = entry.period_s;
                    self.log(now, Decision::Extend { entry: report.clone(), period_s });
                    reports.push(report);
                }
                Due::Release => {
                    let why = entry.ending();
                    if entry.is_spent() {
                        self.spent.add(entry);
                    }
                    reports.push(self.lift(id, now, &why)?);
                }
            }
        }
        Ok(reports)
    }

    /// Keeps what normal life has shown over a restart.
    fn remember(&mut self) -> Result<(), Error> {
        self.unsaved_ticks += 1;
        if self.unsaved_ticks < REMEMBER_TICKS || !self.keeper.is_idle() {
            return Ok(());
        }
        self.unsaved_ticks = 0;
        // Of a full disk the ledger speaks; nothing that is in force hangs on this file.
        drop(self.keeper.result());
        match self.protected.remember() {
            Some(known) => self.keeper.write(known, &self.options.remembered()),
            None => Ok(()),
        }
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

    /// A clean stop. With `keep` live entries, the programs and pins stay, and entries expire by
    /// themselves; otherwise, and where there is no entry, everything is lifted, detached and unpinned.
    ///
    /// # Errors
    /// The kernel or the ledger fails.
    pub fn stop(mut self, keep: bool) -> Result<Vec<Remediation>, Error> {
        self.note_armed()?;
        self.save()?;
        self.keeper.finish();
        if let Some(known) = self.protected.remember() {
            known.save(&self.options.remembered())?;
        }
        self.withdraw_all(None, "Hedgerow stopped")?;
        let mut reports = std::mem::take(&mut self.pending);
        if !keep || self.entries.is_empty() {
            let now = kernel::now();
            let ids: Vec<u64> = self.entries.keys().copied().collect();
            for id in ids {
                reports.push(self.lift(id, now, "Hedgerow stopped")?);
            }
            self.kernel.remove()?;
        }
        Ok(reports)
    }

    /// What happened since the last call that an operator must hear of.
    pub fn take_alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
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

    /// Writes down that a finding led to no entry, and why.
    pub fn record_report(&mut self, finding_uid: &str, reason: &str) {
        let decision =
            Decision::Report { finding_uid: finding_uid.to_owned(), reason: reason.to_owned() };
        self.log(kernel::now(), decision);
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
        self.ledger.append(Line { time_ns: now.wall_ns, boot_id, by, decision });
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
    /// The word by which a socket of this process is known to have met no entry.
    pub(crate) fn passed(&self, socket: &impl std::os::fd::AsRawFd) -> u64 {
        use kernel::maps::get;
        let key = socket.as_raw_fd().to_ne_bytes();
        let socket = get::<hedgerow_bpf::wire::deny_socket>(&self.kernel.maps.sockets, &key);
        socket.expect("a socket's storage is readable").map_or(0, |socket| socket.passed)
    }
    pub(crate) fn doomed(&self) -> u64 {
        self.kernel.maps.control().expect("the control word is readable").doomed
    }
}

/// The highest mode that is ordered for any workload, whether or not a responder can be started.
///
/// # Errors
/// The orders can't be read.
pub fn ordered(options: &Options) -> Result<Mode, Error> {
    let standing = Standing::load(&options.standing())?;
    let default = standing.default_mode(options.mode_now, options.mode);
    Ok(standing.modes.values().copied().fold(default, Mode::max))
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
