//! The 64 classes that a row counts.

use crate::CLASSES;

/// What a system call is for. The discriminant is the index into [`crate::Row::classes`]; the order
/// is part of the window schema and of the model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// a number outside the tables.
    Odd,
    /// any 32-bit call.
    Compat,
    /// the return of fork, vfork, clone or clone3 in the child.
    Born,
    SignalReturn,
    Read,
    Write,
    PositionalRead,
    PositionalWrite,
    /// between descriptors: sendfile, splice, copy_file_range.
    Transfer,
    Open,
    Close,
    Stat,
    Access,
    Directory,
    Seek,
    Duplicate,
    /// fcntl, flock.
    FileControl,
    Ioctl,
    /// poll, select, epoll_wait.
    Poll,
    /// epoll, eventfd, timerfd, inotify set-up.
    Watch,
    Pipe,
    Sync,
    Truncate,
    Unlink,
    Rename,
    Link,
    /// System V and POSIX message queues, semaphores, shared memory.
    Ipc,
    /// mkdir, mknod.
    MakeNode,
    /// chmod family.
    Mode,
    /// chown family.
    Owner,
    /// extended attributes and file times.
    Attribute,
    WorkingDirectory,
    /// mmap, munmap, brk.
    Map,
    /// mprotect family.
    Protect,
    /// madvise, mlock, NUMA.
    Advise,
    /// memfd, userfaultfd.
    MemoryFile,
    Futex,
    /// sleeps, sched_yield, restart_syscall.
    Sleep,
    Time,
    Exit,
    Clone,
    Exec,
    Wait,
    Kill,
    Signal,
    /// who am I: getpid, getuid.
    Identity,
    /// setuid family, capset.
    Credentials,
    /// prctl, seccomp, Landlock.
    ProcessControl,
    /// limits, priorities, system information.
    Limits,
    /// io_uring and aio.
    Uring,
    /// ptrace, memory of others.
    Trace,
    Namespace,
    Mount,
    /// kernel modules, kexec.
    Module,
    /// bpf, perf_event_open.
    Bpf,
    Keyring,
    Socket,
    Connect,
    /// bind, listen.
    Bind,
    Accept,
    Send,
    Receive,
    SocketOption,
    /// reboot, clock, host name and what is left.
    System,
}

/// Names by index, as feature columns use them.
pub const CLASS_NAMES: [&str; CLASSES] = [
    "odd",
    "compat",
    "born",
    "signal_return",
    "read",
    "write",
    "positional_read",
    "positional_write",
    "transfer",
    "open",
    "close",
    "stat",
    "access",
    "directory",
    "seek",
    "duplicate",
    "file_control",
    "ioctl",
    "poll",
    "watch",
    "pipe",
    "sync",
    "truncate",
    "unlink",
    "rename",
    "link",
    "ipc",
    "make_node",
    "mode",
    "owner",
    "attribute",
    "working_directory",
    "map",
    "protect",
    "advise",
    "memory_file",
    "futex",
    "sleep",
    "time",
    "exit",
    "clone",
    "exec",
    "wait",
    "kill",
    "signal",
    "identity",
    "credentials",
    "process_control",
    "limits",
    "uring",
    "trace",
    "namespace",
    "mount",
    "module",
    "bpf",
    "keyring",
    "socket",
    "connect",
    "bind",
    "accept",
    "send",
    "receive",
    "socket_option",
    "system",
];

impl Class {
    /// Index below [`CLASSES`].
    pub fn index(self) -> usize {
        self as usize
    }
    pub fn name(self) -> &'static str {
        CLASS_NAMES[self.index()]
    }
}
