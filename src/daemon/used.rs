//! What runs, or is mapped or read as code, kept for `hedgerow exposure`. The loop notes it and waits
//! for nothing; a thread of its own keeps the table, looks at what ran before the start, and writes.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    io::{ErrorKind, Read},
    mem::take,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_event::{
    EpochClose, Event, Exec, FileKey, Flow, FlowDirection, FlowPhase, Origin, Subject, Use, Used,
};
use hedgerow_exposure::{
    mappings,
    record::{BEFORE, FILE, FILE_BYTES_MAX, Key, Record, Table, User},
};
use hedgerow_hostfile::{Reader, Refusals};
use hedgerow_probe::Stats;

use super::vulnerable::{self, Vulnerable};
use crate::{exit::Failure, metrics::QueueLength};

/// Windows that wait for the thread. Full: what a window brought is lost, and the table says so.
const WINDOWS_MAX: usize = 16;
/// Different uses of a window. Full: the rest is lost, and the table says so.
const USES_MAX: usize = 16_384;
/// Pairs of a window: a program, and who talked to it. Full: the rest is counted in the table.
const TALKS_MAX: usize = 4096;
/// The table is written this often, and at the end.
const WRITE: Duration = Duration::from_secs(60);
/// Processes that ran before the start and are looked at, and bytes of what each has mapped.
const PROCESSES_MAX: usize = 65_536;
const MAPS_BYTES_MAX: u64 = 4 << 20;

/// Of a use: the file, how, and by whom.
type What = (Arc<str>, FileKey, Use, Arc<Subject>);

/// What a window brought.
struct Window {
    end_ns: i64,
    lost: bool,
    /// With one of the processes.
    uses: HashMap<What, u32>,
    talks: HashSet<(Arc<Subject>, IpAddr)>,
    talks_refused: u64,
}

/// The loop's end.
#[derive(Debug)]
pub struct Uses {
    pending: HashMap<What, u32>,
    talks: HashSet<(Arc<Subject>, IpAddr)>,
    talks_refused: u64,
    lost: bool,
    /// Records that were lost, as of the last window.
    losses: u64,
    windows: Option<Sender<Window>>,
    /// Windows that found no room.
    windows_lost: u64,
    thread: Option<JoinHandle<()>>,
    /// What an operator should hear.
    untold: Arc<Mutex<Vec<String>>>,
    /// Of programs, to be put beside findings.
    pub known: vulnerable::Shared,
}

impl Uses {
    /// Starts the thread, with what an earlier run left in the state directory. The sensor watches
    /// already, so that nothing falls between what ran before and what comes.
    ///
    /// # Errors
    /// There can't be a thread.
    pub fn start(state: &Path, now_ns: i64, refusals: Refusals) -> anyhow::Result<Self> {
        let (windows, receiver) = bounded(WINDOWS_MAX);
        let untold = Arc::new(Mutex::new(Vec::new()));
        let known = vulnerable::Shared::default();
        let keeper = Keeper {
            path: state.join(FILE),
            untold: Arc::clone(&untold),
            vulnerable: Vulnerable::new(state, Arc::clone(&known)),
            reader: Reader::sharing("maps", refusals),
            failed: false,
            full: false,
        };
        let thread = std::thread::Builder::new().name("hedgerow-used".into());
        let thread = thread.spawn(move || keeper.run(&receiver, now_ns)).map_err(Failure::host)?;
        Ok(Self { windows: Some(windows), thread: Some(thread), untold, known, ..Self::off() })
    }

    /// Nothing is kept.
    pub fn off() -> Self {
        Self {
            pending: HashMap::new(),
            talks: HashSet::new(),
            talks_refused: 0,
            lost: false,
            losses: 0,
            windows: None,
            windows_lost: 0,
            thread: None,
            untold: Arc::default(),
            known: vulnerable::Shared::default(),
        }
    }

    /// Notes who ran what, and who was talked to by whom.
    pub fn observe(&mut self, event: &Event) {
        if self.windows.is_none() {
            return;
        }
        match &event.origin {
            Origin::Exec(exec) => self.ran(event, exec),
            Origin::Flow(flow) => self.talked(&event.actor.subject, flow),
            _ => {}
        }
    }

    /// Notes what an exec tells: the file that ran, and the script where one was named by its path.
    fn ran(&mut self, event: &Event, exec: &Exec) {
        let subject = &event.actor.subject;
        if !exec.memory {
            let what = (Arc::clone(&exec.path), exec.file, Use::Ran, Arc::clone(subject));
            self.note(what, event.actor.tgid);
        }
        if let Some(script) = subject.program.script_path() {
            let what = (script.into(), FileKey::default(), Use::Ran, Arc::clone(subject));
            self.note(what, event.actor.tgid);
        }
    }

    /// Notes who talked to a program from another host.
    fn talked(&mut self, subject: &Arc<Subject>, flow: &Flow) {
        let peer = flow.peer.address;
        let is_own = peer.is_loopback() || peer == flow.local.address || !flow.has_peer();
        let came = flow.direction == FlowDirection::Inbound && flow.phase != FlowPhase::Failed;
        if !came || is_own {
            return;
        }
        if self.talks.len() < TALKS_MAX {
            self.talks.insert((Arc::clone(subject), peer));
        } else {
            self.talks_refused += 1;
        }
    }

    /// Notes what was mapped or read.
    pub fn used(&mut self, used: Vec<Used>) {
        for Used { actor, how, path, file } in used {
            self.note((path, file, how, actor.subject), actor.tgid);
        }
    }

    fn note(&mut self, what: What, tgid: u32) {
        if self.pending.len() < USES_MAX {
            self.pending.insert(what, tgid);
        } else {
            self.lost = true;
        }
    }

    /// Not everything of this window was told.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// Hands a window over.
    pub fn close(&mut self, close: &EpochClose, stats: &Stats) {
        if self.windows.is_none() {
            return;
        }
        let losses =
            stats.lost + stats.calls_uncounted + stats.skipped + stats.used_untold + stats.overdue;
        let lost = take(&mut self.lost) || losses > self.losses;
        self.losses = losses;
        let end_ns = close.end_boot_ns.cast_signed().saturating_add(close.realtime_offset_ns);
        let window = Window {
            end_ns,
            lost,
            uses: take(&mut self.pending),
            talks: take(&mut self.talks),
            talks_refused: take(&mut self.talks_refused),
        };
        if self.windows.as_ref().is_some_and(|windows| windows.try_send(window).is_err()) {
            self.lost = true;
            self.windows_lost += 1;
        }
    }

    /// The windows that wait for the thread.
    pub fn queue(&self) -> QueueLength {
        QueueLength {
            name: "used",
            waiting: self.windows.as_ref().map_or(0, Sender::len) as u64,
            most: WINDOWS_MAX as u64,
            lost: self.windows_lost,
        }
    }

    /// What an operator should hear.
    pub fn take_untold(&self) -> Vec<String> {
        take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has everything written.
    pub fn stop(&mut self) {
        self.windows = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            let said = "the thread that keeps what was used has panicked".to_owned();
            self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        }
    }
}

/// The thread's end.
struct Keeper {
    path: PathBuf,
    untold: Arc<Mutex<Vec<String>>>,
    vulnerable: Vulnerable,
    reader: Reader,
    /// A failure to write was told, or that the table is full.
    failed: bool,
    full: bool,
}

impl Keeper {
    /// Where a process's paths are meant, as [`Key::elsewhere`] has it; both where its root doesn't answer.
    /// One that is gone is taken for the host's: its file is then rather said to be in use than not.
    fn elsewhere(&mut self, pid: u32) -> &'static [bool] {
        match self.reader.elsewhere(pid) {
            Some(false) => &[false],
            Some(true) => &[true],
            None => &[false, true],
        }
    }

    fn run(mut self, windows: &Receiver<Window>, now_ns: i64) {
        let mut table = Table::begin(self.before(), now_ns);
        self.stood(&mut table, now_ns);
        self.write(&table);
        self.remember();
        let mut written = Instant::now();
        for window in windows {
            self.remember();
            let mut places = HashMap::new();
            for ((path, file, how, subject), tgid) in window.uses {
                let user = User::of(&subject);
                // Asked once for each process of a window.
                let elsewhere = *places.entry(tgid).or_insert_with(|| self.elsewhere(tgid));
                for elsewhere in elsewhere.iter().copied() {
                    let path = path.as_ref().into();
                    let key = Key { path, device: file.device, inode: file.inode, elsewhere };
                    table.used(key, how, user.clone(), window.end_ns);
                }
            }
            for (subject, peer) in window.talks {
                table.talked(User::of(&subject), peer, window.end_ns);
            }
            table.talks_refused(window.talks_refused);
            table.watched(window.end_ns, window.lost);
            if table.refused() > 0 && !self.full {
                self.full = true;
                self.tell("the table of files in use is full: what comes is counted only".into());
            }
            if written.elapsed() >= WRITE {
                self.write(&table);
                written = Instant::now();
            }
        }
        self.write(&table);
    }

    fn remember(&mut self) {
        let said = self.vulnerable.look();
        said.into_iter().for_each(|said| self.tell(said));
    }

    fn tell(&self, said: String) {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }

    /// What an earlier run left.
    fn before(&self) -> Record {
        let read =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path).and_then(
                |file| {
                    let mut bytes = Vec::new();
                    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
                    Ok(bytes)
                },
            );
        let why = match read {
            Ok(bytes) => match Record::parse(&bytes) {
                Ok(record) => return record,
                Err(why) => why,
            },
            Err(why) if why.kind() == ErrorKind::NotFound => return Record::default(),
            Err(why) => why.to_string(),
        };
        let path = self.path.display();
        self.tell(format!("{path} can't be read ({why}): what was used is recorded anew"));
        Record::default()
    }

    /// What processes have mapped that ran before they could be seen to map it. Names of their
    /// workloads are not asked for.
    fn stood(&mut self, table: &mut Table, now_ns: i64) {
        let own = std::process::id();
        for pid in processes().into_iter().filter(|pid| *pid != own) {
            let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let Ok(maps) = self.reader.read_proc(pid, "maps", MAPS_BYTES_MAX) else { continue };
            let program = program.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
            let elsewhere = self.elsewhere(pid);
            for mapping in mappings(&String::from_utf8_lossy(&maps)) {
                let how = if mapping.path == program { Use::Ran } else { Use::Mapped };
                let (major, minor) = (libc::major(mapping.device), libc::minor(mapping.device));
                let device = u64::from(major) << 20 | u64::from(minor);
                for elsewhere in elsewhere.iter().copied() {
                    let path = mapping.path.clone();
                    let key = Key { path, device, inode: mapping.inode, elsewhere };
                    let user = User { workload: BEFORE.into(), program: program.clone() };
                    table.used(key, how, user, now_ns);
                }
            }
        }
    }

    fn write(&mut self, table: &Table) {
        let written = table.write().map_err(anyhow::Error::from);
        match written.and_then(|bytes| replace(&self.path, &bytes)) {
            Ok(()) => self.failed = false,
            Err(why) if !self.failed => {
                self.failed = true;
                self.tell(format!("what was used is not written: {why:#}"));
            }
            Err(_) => {}
        }
    }
}

/// Replaces a file that is root's alone: a crash leaves the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    hedgerow_hostfile::replace(path, bytes)
        .with_context(|| format!("can't write {}", path.display()))
}

/// Numbers of the processes that there are.
pub fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.take(PROCESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use hedgerow_event::{Epoch, HostCounters, Loss, Peer};

    use super::*;

    fn keeper(path: &Path) -> Keeper {
        Keeper {
            path: path.into(),
            untold: Arc::default(),
            vulnerable: Vulnerable::new(path, vulnerable::Shared::default()),
            reader: Reader::new("maps"),
            failed: false,
            full: false,
        }
    }

    fn uses(windows: Sender<Window>) -> Uses {
        Uses {
            pending: HashMap::new(),
            talks: HashSet::new(),
            talks_refused: 0,
            lost: false,
            losses: 0,
            windows: Some(windows),
            windows_lost: 0,
            thread: None,
            untold: Arc::default(),
            known: Arc::default(),
        }
    }

    fn window() -> EpochClose {
        EpochClose {
            epoch: Epoch(1),
            start_boot_ns: 0,
            end_boot_ns: 5,
            realtime_offset_ns: 0,
            suspended_ns: 0,
            loss: Loss::default(),
            host: HostCounters::default(),
            shed: false,
        }
    }

    #[test]
    fn who_came_from_another_host_is_noted_and_who_came_past_the_room_counted() {
        let (windows, receiver) = bounded(1);
        let mut uses = uses(windows);
        let subject = Arc::new(Subject::host());
        let at = |address: [u8; 4]| Peer { address: address.into(), port: 1 };
        let here = at([192, 0, 2, 1]);
        let came = |peer| Flow::start(FlowDirection::Inbound, here, peer);
        let far = came(at([192, 0, 2, 2]));
        let called = Flow { direction: FlowDirection::Outbound, ..far.clone() };
        let failed = Flow { phase: FlowPhase::Failed, ..far.clone() };
        for flow in [came(here), came(at([127, 0, 0, 2])), came(at([0; 4])), called, failed] {
            uses.talked(&subject, &flow);
        }
        assert!(uses.talks.is_empty());
        uses.talked(&subject, &far);
        for number in 0..=TALKS_MAX as u32 {
            let [_, a, b, c] = number.to_be_bytes();
            uses.talked(&subject, &came(at([10, a, b, c])));
        }
        uses.close(&window(), &Stats::default());
        let window = receiver.recv().unwrap();
        assert_eq!((window.talks.len(), window.talks_refused), (TALKS_MAX, 2));
        assert!(window.talks.contains(&(subject, far.peer.address)));
        assert_eq!((uses.talks.len(), uses.talks_refused), (0, 0));
    }

    #[test]
    fn a_window_that_finds_no_room_is_counted_and_the_next_one_says_so() {
        let (windows, receiver) = bounded(1);
        let mut uses = uses(windows);
        let close = window();
        let stats = Stats::default();
        uses.close(&close, &stats);
        uses.close(&close, &stats);
        assert_eq!((uses.queue().waiting, uses.queue().lost), (1, 1));
        assert!(!receiver.recv().unwrap().lost);
        uses.close(&close, &stats);
        assert!(receiver.recv().unwrap().lost);
        assert_eq!((uses.queue().waiting, uses.queue().lost), (0, 1));
    }

    /// As systemd sandboxes a service, and as a container has a root of its own. Needs root.
    #[test]
    fn a_namespace_with_the_hosts_root_is_the_host_and_another_root_is_elsewhere() {
        let mut keeper = keeper(Path::new("/none"));
        assert_eq!(keeper.elsewhere(std::process::id()), [false]);
        assert_eq!(keeper.elsewhere(u32::MAX), [false], "it is gone");
        let sandbox: &[&str] = &["sh", "-c", "mount -t tmpfs none /tmp && exec sleep 100"];
        let container: &[&str] = &["chroot", "/usr", "/bin/sleep", "100"];
        for (command, expected) in [(sandbox, false), (container, true)] {
            let mut unshare = std::process::Command::new("unshare");
            let mut child = unshare.arg("--mount").args(command).spawn().unwrap();
            let pid = child.id();
            let sleeps = || {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                name == "sleep\n"
            };
            let deadline = Instant::now() + Duration::from_secs(60);
            while !sleeps() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
            let found = keeper.elsewhere(pid);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_ne!(own, fs::read_link("/proc/self/ns/mnt").unwrap());
            assert_eq!(found, [expected], "{command:?}");
        }
    }

    #[test]
    fn a_torn_table_is_told_and_begun_anew_and_a_full_disk_is_told_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        let mut keeper_of = keeper(&path);
        let mut table = Table::begin(keeper_of.before(), 1);
        keeper_of.stood(&mut table, 1);
        keeper_of.write(&table);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!keeper_of.before().files.is_empty(), "other processes have something mapped");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(keeper_of.before(), Record::default());
        let said = take(&mut *keeper_of.untold.lock().unwrap());
        assert!(said.len() == 1 && said[0].contains("recorded anew"), "{said:?}");
        let mut nowhere = keeper(&home.path().join("none").join(FILE));
        nowhere.write(&table);
        nowhere.write(&table);
        assert_eq!(nowhere.untold.lock().unwrap().len(), 1);
    }
}
