//! Cgroups, mounts and containers of a test's own, gone with it.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use hedgerow_probe::identity::cgroup::Hierarchy;

use crate::harness::executable;

/// How long a cgroup may still hold processes that end, and a mount files that are read.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup, and those made below it.
pub struct Cgroup {
    path: PathBuf,
    name: String,
}

impl Cgroup {
    pub fn new(name: &str) -> Self {
        let name = format!("hedgerow-{name}");
        // The number is no part of the workload's name.
        let path =
            Hierarchy::open().unwrap().mount().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self { path, name }
    }

    /// A slice, which is no workload.
    pub fn slice(name: &str) -> Self {
        let name = format!("hedgerow-{name}-{}.slice", std::process::id());
        let path = Hierarchy::open().unwrap().mount().join(&name);
        fs::create_dir(&path).unwrap();
        Self { path, name }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a cgroup below this one.
    pub fn child(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The workload of a cgroup below this one.
    pub fn workload(&self, child: &str) -> String {
        format!("{}/{child}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let children = fs::read_dir(&self.path).unwrap().flatten().map(|entry| entry.path());
        let directories = children.filter(|path| path.is_dir()).chain([self.path.clone()]);
        for directory in directories.collect::<Vec<_>>() {
            let start = Instant::now();
            // A process may still be on its way out.
            while fs::remove_dir(&directory).is_err() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount(kind: &CStr, target: &CStr, options: &CStr) -> io::Result<()> {
    // SAFETY: terminated strings.
    let result = unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast())
    };
    done(result.into())
}

/// A mounted file system.
pub struct Mount {
    target: PathBuf,
}

impl Mount {
    pub fn tmpfs(target: &Path) -> Self {
        mount(c"tmpfs", &c_path(target), c"mode=755").unwrap();
        Self { target: target.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let target = c_path(&self.target);
        let start = Instant::now();
        // The sensor may be reading a file that was run from it.
        // SAFETY: a terminated string.
        while let Err(error) = done(unsafe { libc::umount(target.as_ptr()) }.into()) {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            assert!(busy && start.elapsed() < PATIENCE, "{}: {error}", self.target.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Debian's busybox-static, which needs nothing else of its root directory.
pub fn busybox() -> PathBuf {
    let places = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from);
    places.into_iter().find(|path| path.exists()).expect("busybox; see `scripts/setup test`")
}

/// The root directory of a container that holds busybox.
pub fn image() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    executable(&root.path().join("bin/busybox"), &fs::read(busybox()).unwrap());
    root
}

/// Runs a command in a mount namespace of its own, with an overlay of `lower` as its root, and in a
/// cgroup; whether it succeeded.
pub fn in_container(lower: &Path, cgroup: &Path, command: &[&str]) -> bool {
    in_overlay(lower, cgroup, false, command)
}

/// The same; `user`: the overlay is mounted in a user namespace, as anybody may.
pub fn in_overlay(lower: &Path, cgroup: &Path, user: bool, command: &[&str]) -> bool {
    let work = tempfile::tempdir().unwrap();
    // Overlayfs can't keep its upper layer on another overlay, which /tmp may be.
    let layers = Mount::tmpfs(work.path());
    for name in ["upper", "work", "root"] {
        fs::create_dir(layers.path().join(name)).unwrap();
    }
    let at = |name: &str| layers.path().join(name);
    let options = c_path(Path::new(&format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        at("upper").display(),
        at("work").display()
    )));
    let root = c_path(&at("root"));
    let procs = c_path(&cgroup.join("cgroup.procs"));
    let mut program = Command::new(command[0]);
    program.args(&command[1..]);
    // SAFETY: system calls only, on memory that was made before the fork.
    unsafe { program.pre_exec(move || enter(&root, &options, &procs, user)) };
    program.status().unwrap().success()
}

/// Joins a cgroup, and makes an overlay the root directory of a new mount namespace.
fn enter(root: &CStr, options: &CStr, procs: &CStr, user: bool) -> io::Result<()> {
    // SAFETY: system calls on terminated strings; the caller is a forked child.
    unsafe {
        join(procs)?;
        if user {
            done(libc::unshare(libc::CLONE_NEWUSER).into())?;
            write(c"/proc/self/setgroups", c"deny")?;
            write(c"/proc/self/gid_map", c"0 0 1")?;
            write(c"/proc/self/uid_map", c"0 0 1")?;
        }
        done(libc::unshare(libc::CLONE_NEWNS).into())?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let none = std::ptr::null();
        done(libc::mount(none, c"/".as_ptr(), none, private, none.cast()).into())?;
        mount(c"overlay", root, options)?;
        done(libc::chdir(root.as_ptr()).into())?;
        // Not pivot_root(2), which a guest's initial file system refuses.
        let (here, there) = (c".".as_ptr(), c"/".as_ptr());
        done(libc::mount(here, there, none, libc::MS_MOVE, none.cast()).into())?;
        done(libc::chroot(c".".as_ptr()).into())?;
        done(libc::chdir(c"/".as_ptr()).into())
    }
}

/// Moves the calling process into the cgroup of this `cgroup.procs`.
///
/// # Safety
/// For a forked child.
unsafe fn join(procs: &CStr) -> io::Result<()> {
    // SAFETY: as for the caller.
    unsafe { write(procs, c"0") }
}

/// Writes a text into a file that is there.
///
/// # Safety
/// For a forked child.
unsafe fn write(path: &CStr, text: &CStr) -> io::Result<()> {
    // SAFETY: system calls on terminated strings.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        done(file.into())?;
        let size = text.count_bytes();
        done(libc::write(file, text.as_ptr().cast(), size) as libc::c_long)?;
        libc::close(file);
    }
    Ok(())
}

/// Runs busybox's `true` with one argument out of a memory file, in a cgroup.
pub fn in_memory(name: &CStr, content: &[u8], cgroup: &Path, argument: &CStr) {
    let procs = c_path(&cgroup.join("cgroup.procs"));
    // SAFETY: terminated strings, our own bytes; the child makes system calls only, then execs or
    // ends.
    unsafe {
        let file = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        assert!(file >= 0);
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        assert_eq!(usize::try_from(written), Ok(content.len()));
        let child = libc::fork();
        if child == 0 {
            if join(&procs).is_ok() {
                let arguments = [c"true".as_ptr(), argument.as_ptr(), std::ptr::null()];
                libc::fexecve(file, arguments.as_ptr(), [std::ptr::null()].as_ptr());
            }
            libc::_exit(9);
        }
        let mut status = -1;
        libc::waitpid(child, &raw mut status, 0);
        libc::close(file);
        assert_eq!(status, 0);
    }
}
