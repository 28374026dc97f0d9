//! What the sensors deliver, decoded and named.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, Epoch, FileKey, Flow, Subject};

/// What a path of the kernel's begins with where its head is missing: it is deeper or longer than
/// the kernel's walk goes. It names no file.
pub const PATH_CUT: &str = ".../";

/// Number of system-call classes that a row counts.
pub const CLASSES: usize = 64;

/// The thread an event belongs to, as the kernel saw it, and the subject it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub subject: Arc<Subject>,
    pub tgid: u32,
    pub tid: u32,
    /// `start_boottime` of the thread group's leader: with `tgid` it names a process for good.
    pub start_boot_ns: u64,
    /// cgroup v2 id (inode number of its directory).
    pub cgroup_id: u64,
    /// Hash of the kernel's cache key of the program (real inode and script) with the host's secret;
    /// never stored in a model, since it doesn't survive a copy to another host.
    pub program_id: u64,
    /// n-gram profile slot; 0 is `unprofiled`.
    pub slot: u32,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The window the kernel put it into.
    pub epoch: Epoch,
    pub time_boot_ns: u64,
    pub actor: Actor,
    pub origin: Origin,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    Row(Box<Row>),
    Exec(Box<Exec>),
    Fork(Fork),
    Exit(Exit),
    Call(Box<Call>),
    Flow(Box<Flow>),
    /// Something unseen was found in the thread's calls; triggers early scoring, counts nothing.
    Signal(Signal),
    /// Every call, with `--full`.
    Raw(Raw),
}

/// Why a row was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowReason {
    /// The iterator read and zeroed a closed bucket.
    Window,
    /// The thread became another program, or moved to another workload or profile; the counts
    /// belong to what it was.
    Exec,
    /// The thread ended.
    Exit,
    /// Sums of threads whose rows found a full ring; `tgid` and `tid` are 0.
    Spilled,
}

impl RowReason {
    /// In the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Window, Self::Exec, Self::Exit, Self::Spilled];
}

/// System-call counts of one thread in one epoch (a part of it where exec or exit cut it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub reason: RowReason,
    /// Calls completed, by class; the sum is `calls`.
    pub classes: [u32; CLASSES],
    pub calls: u64,
    /// Calls that returned an error other than a restart.
    pub errors: u64,
    /// Calls that entered the history and were checked against a profile (slot > 0).
    pub checked: u64,
    pub unseen2: u64,
    pub unseen3: u64,
    pub unseen6: u64,
    /// Calls left out of the history because they repeated the one before.
    pub collapsed: u64,
    /// Records of this thread that found a full ring.
    pub lost: u64,
    /// Records that a token bucket held back; not loss.
    pub limited: u64,
}

impl Row {
    /// A row in which nothing was counted.
    pub fn empty(reason: RowReason) -> Self {
        Self {
            reason,
            classes: [0; CLASSES],
            calls: 0,
            errors: 0,
            checked: 0,
            unseen2: 0,
            unseen3: 0,
            unseen6: 0,
            collapsed: 0,
            lost: 0,
            limited: 0,
        }
    }
}

/// A successful `execve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The subject that called exec; `actor` is what it became.
    pub previous: Option<Arc<Subject>>,
    pub file: FileKey,
    pub parent_tgid: u32,
    /// Subject of the parent process, where it is known.
    pub parent: Option<Arc<Subject>>,
    /// Effective user id before and after.
    pub uid_before: u32,
    pub uid: u32,
    /// `audit` login uid of who logged in: in a login's session, or below sshd or login. Elsewhere
    /// `u32::MAX`, since whoever has none may write himself any. Older captures have the number alone.
    pub login_uid: u32,
    /// Real path as resolved by the kernel (dentry walk), in the process's mount namespace.
    pub path: Arc<str>,
    /// Arguments as read from the new image's memory: *claimed*, may be cut.
    pub arguments: Arc<str>,
    /// Of the script, where one was run by its absolute path, else of the file that ran. `None`
    /// while it has not been read, as at the first exec of a path, and where it can't be.
    pub digest: Option<Digest>,
    /// The file's path, or the script's, is known in its workload with other digests only; told
    /// once.
    pub replaced: bool,
    /// The file lives in memory only (memfd) or has no link.
    pub memory: bool,
    /// The file, or its directory, can be written by others than root (as of `/tmp`).
    pub writable: bool,
    /// A set-uid, set-gid or capability-carrying file raised privileges.
    pub privileged: bool,
    /// Standard input, output or error is an IPv4 or IPv6 socket, by the kernel's own file: under
    /// whatever number it was opened.
    pub socket_io: bool,
    /// It, or a process that it descends from, has put a TCP socket to listen, or was given a
    /// listening one as one of its first four descriptors. Kept by the kernel from the fork on,
    /// through double forks, sessions and re-parenting, up to the host's init and to the edge of
    /// the cgroup. A login session is a service of its own, whoever let it in. Not told: a
    /// listening socket that came over a Unix socket.
    pub under_listener: bool,
    /// By root, in the root directory of the host's init, from a file that only root can change, and
    /// without loader's or interpreter's variables that name other code: there a path is what it
    /// says. `None` where a capture is older than this field.
    pub of_host: Option<bool>,
    /// Of the script, where a program that is a package's or an image's runs one; not known of
    /// program text and of scripts that are run by a relative path.
    pub provenance: Provenance,
    /// `None` where a capture is older than this field, and where no row could be made for the
    /// process.
    pub root: Option<Root>,
}

impl Exec {
    /// The exec of a file of which nothing is known, by a child of init that is root and belongs to no
    /// login.
    pub fn of(path: impl Into<Arc<str>>) -> Self {
        Self {
            previous: None,
            file: FileKey::default(),
            parent_tgid: 1,
            parent: None,
            uid_before: 0,
            uid: 0,
            login_uid: u32::MAX,
            path: path.into(),
            arguments: "".into(),
            digest: None,
            replaced: false,
            memory: false,
            writable: false,
            privileged: false,
            socket_io: false,
            under_listener: false,
            of_host: None,
            provenance: Provenance::Unknown,
            root: None,
        }
    }
}

/// The first process of the instance of a service that a process belongs to. Kept by the kernel
/// from the fork on: double forks, sessions and re-parenting don't change it, and it may have ended
/// long ago.
///
/// An instance begins where a program is executed below the host's init, the kernel itself, pid 1
/// of another pid namespace or a subreaper (`PR_SET_CHILD_SUBREAPER`), as the first one in a new
/// pid namespace, or in another cgroup than that of the instance it comes from. Who listens for
/// connections, or descends from somebody who does, is a service: of those only the cgroup and
/// init begin another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root {
    pub tgid: u32,
    pub start_boot_ns: u64,
}

/// Where the file that an exec ran comes from, as root-owned databases and the file system tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// It was not found out: not read yet, or no database speaks for this place.
    #[default]
    Unknown,
    /// A package holds this content at this path, and a signed list may hold the package: it does,
    /// or did before a newer version, or the host has no lists that can be read.
    Package,
    /// A package holds this content at this path, and no signed list holds the package.
    Unsigned,
    /// A package owns the path, with other content.
    Modified,
    /// A lower layer of the container's image, which the container can't write. What the image's
    /// own database says of it is not asked.
    Image,
    /// Written into the container since it was made, its mode and owner included.
    Drift,
    /// No package owns the path.
    Unowned,
}

impl Provenance {
    /// In the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Package,
        Self::Unsigned,
        Self::Modified,
        Self::Image,
        Self::Drift,
        Self::Unowned,
    ];
}

/// A new thread or process; `actor` is the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    pub child_tgid: u32,
    pub child_tid: u32,
    pub child_start_boot_ns: u64,
    /// A thread of the same process.
    pub thread: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// `task_struct::exit_code`: status << 8 | signal.
    pub code: i32,
    /// The last thread of the process.
    pub process: bool,
}

/// A security-relevant system call, streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Native number on this architecture after mapping compat calls; -1 where none exists.
    pub number: i32,
    /// Class index below [`CLASSES`].
    pub class: u8,
    pub compat: bool,
    /// -516 to -512: a signal interrupted it, and the kernel may make it again. It is not counted,
    /// and what it began may go on.
    pub result: i64,
    /// Register arguments. Of `openat2` the third are the flags that the opened file has, of
    /// `clone3` the first the namespaces that the child was given; of an open by io_uring the third
    /// and fourth are flags and mode.
    pub arguments: [u64; 6],
    /// For opens: the path of the dentry behind the returned descriptor (kernel-owned); by io_uring:
    /// the name that the kernel copied at submission, behind its directory, whatever comes of it.
    /// For failed opens and unlinks the path argument, for renames and links what the file is called
    /// from then on: *claimed*, but for the directory that a relative name is in. Begins with
    /// [`PATH_CUT`] where it is too long to be told whole.
    pub path: Option<Arc<str>>,
    /// `path` was read from user memory, which another thread can rewrite; never evidence for a
    /// denial.
    pub claimed: bool,
}

impl Call {
    /// A native call that succeeded, of no class.
    pub fn of(number: i32, arguments: [u64; 6], path: Option<&str>) -> Self {
        Self {
            number,
            class: 0,
            compat: false,
            result: 0,
            arguments,
            path: path.map(Arc::from),
            claimed: false,
        }
    }

    /// Flags that the file behind an `openat2` has: none of those that only the open itself heeds.
    /// A capture that is older than these has the address of what was asked for.
    pub fn openat2_flags(&self) -> u64 {
        let flags = self.arguments[2];
        if flags > u64::from(u32::MAX) { 0 } else { flags }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Unseen 6-grams in the thread's current bucket when the signal was written.
    pub unseen6: u32,
    pub calls: u32,
}

/// One call of the full stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {
    /// Number as the task used it: native, or i386 when `compat`.
    pub number: i32,
    pub compat: bool,
    /// An io_uring request; `number` is its opcode.
    pub uring: bool,
    /// The thread's history was reset before this call (exec, fork).
    pub fresh: bool,
    /// The live path would have streamed it as a [`Call`].
    pub streamed: bool,
    pub result: i64,
}
