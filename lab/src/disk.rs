//! A file system that has as little as a test wants.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// A tmpfs of a test's own; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Its directory was made for it.
    made: bool,
}

impl Disk {
    /// Mounts one with such options of tmpfs(5) as `size=1m,nr_inodes=32`: the directory itself takes one.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn mount(options: &str) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // A run that was killed leaves its own.
        let path = loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let name = format!("hedgerow-disk-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made.map(|()| path)?,
            }
        };
        let disk = Self { path, made: true };
        disk.configure(options)?;
        Ok(disk)
    }

    /// The same over a directory that is there.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn over(path: &Path, options: &str) -> io::Result<Self> {
        let disk = Self { path: path.to_owned(), made: false };
        disk.configure(options)?;
        Ok(disk)
    }

    /// Gives it other options.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn remount(&self, options: &str) -> io::Result<()> {
        self.configure(&format!("remount,{options}"))
    }

    fn configure(&self, options: &str) -> io::Result<()> {
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&self.path).status()?;
        let refused = || io::Error::other(format!("mount -o {options}: {status}"));
        status.success().then_some(()).ok_or_else(refused)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all files that it has room for; these are they.
    pub fn take_files(&self) -> Vec<PathBuf> {
        let path = |number| self.path.join(format!("filler-{number}"));
        (0..).map(path).take_while(|path| File::create(path).is_ok()).collect()
    }

    /// Takes all its room, by this file.
    ///
    /// # Errors
    /// It can't be made.
    pub fn take_room(&self) -> io::Result<PathBuf> {
        let path = self.path.join("filler");
        let mut file = File::create(&path)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        if self.made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// A directory whose disk stands still: whoever opens or makes a file in it waits until this is dropped. Needs
/// root.
#[derive(Debug)]
pub struct Still(#[expect(dead_code, reason = "who waits is let go as it is closed")] OwnedFd);

impl Still {
    /// Files that are open go on.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn at(directory: &Path) -> io::Result<Self> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
        // SAFETY: plain numbers; events are not read.
        let group = unsafe { libc::fanotify_init(flags, libc::O_RDONLY.cast_unsigned()) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made it, and nobody else owns it.
        let group = unsafe { OwnedFd::from_raw_fd(group) };
        let mask = libc::FAN_OPEN_PERM | libc::FAN_EVENT_ON_CHILD;
        let add = libc::FAN_MARK_ADD | libc::FAN_MARK_ONLYDIR;
        // SAFETY: the descriptor is open and the path NUL-terminated.
        let marked = unsafe {
            libc::fanotify_mark(group.as_raw_fd(), add, mask, libc::AT_FDCWD, path.as_ptr())
        };
        if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(group)) }
    }
}
