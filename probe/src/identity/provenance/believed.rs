//! Files of databases that are believed: opened without following a link, and only where the
//! directories that lead there and the file belong to root and can be written by nobody else.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

/// What tells that a file or directory is no longer the one that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// As [`is_settled`].
    pub fn is_settled(&self, at_ns: i128) -> bool {
        is_settled(self.changed_ns, at_ns)
    }
}

/// Whether a change after `at_ns` (of [`now_ns`]) is sure to give a file another time than
/// `changed_ns`: what changed less than a moment before may change once more under the same time.
pub fn is_settled(changed_ns: i128, at_ns: i128) -> bool {
    const MOMENT_NS: i128 = 100_000_000;
    changed_ns + MOMENT_NS <= at_ns
}

/// Nanoseconds of the clock that the kernel stamps files with (`ktime_get_coarse_real_ts64`), which
/// a late tick holds back, and `CLOCK_REALTIME` doesn't tell of.
pub fn now_ns() -> i128 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes a `timespec` that is ours. It fails for no clock that there is.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// A directory whose content only its believed owner can have put there.
#[derive(Debug)]
pub struct Directory {
    file: File,
    owner: u32,
}

impl Directory {
    /// The root that everything is looked for below; it is given, and believed.
    pub fn root(path: &Path, owner: u32) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self { file, owner })
    }

    /// A directory below this one; each on the way is checked.
    pub fn below(&self, path: &str) -> io::Result<Self> {
        let mut found = None;
        for name in path.split('/') {
            let above = found.as_ref().unwrap_or(self);
            let file = above.open_as(name, libc::O_PATH | libc::O_DIRECTORY)?;
            believed(&file.metadata()?, self.owner)?;
            found = Some(Self { file, owner: self.owner });
        }
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens a regular file of this directory.
    pub fn open(&self, name: &str) -> io::Result<File> {
        // A FIFO, whoever put it there, is not waited for.
        let file = self.open_as(name, libc::O_RDONLY | libc::O_NONBLOCK)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        believed(&metadata, self.owner)?;
        Ok(file)
    }

    /// Reads a file of at most `bytes_max` bytes, which isn't written meanwhile; that another takes
    /// its place is no harm.
    pub fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut file = self.open(name)?;
        let before = Stamp::of(&file.metadata()?);
        if before.size > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut content = Vec::with_capacity(usize::try_from(before.size).unwrap_or(0));
        (&mut file).take(bytes_max).read_to_end(&mut content)?;
        let after = Stamp::of(&file.metadata()?);
        if (after.size, after.modified_ns) != (before.size, before.modified_ns) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(content)
    }

    /// Names of what the directory holds, at most `most`.
    pub fn names(&self, most: usize) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        let mut names = Vec::new();
        for entry in entries {
            if names.len() >= most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    pub fn stamp(&self) -> Option<Stamp> {
        Some(Stamp::of(&self.file.metadata().ok()?))
    }

    /// Of a file or directory in this one.
    pub fn stamp_of(&self, name: &str) -> Option<Stamp> {
        let file = self.open_as(name, libc::O_PATH).ok()?;
        Some(Stamp::of(&file.metadata().ok()?))
    }

    fn open_as(&self, name: &str, flags: libc::c_int) -> io::Result<File> {
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        open_at(&self.file, name, flags, resolve)
    }
}

/// `openat2(2)`.
fn open_at(from: &File, path: &str, flags: libc::c_int, resolve: u64) -> io::Result<File> {
    let path = CString::new(path)?;
    // SAFETY: all zeros is a valid `open_how`; the call reads it and a terminated string, and
    // returns a descriptor that is ours.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
        how.resolve = resolve;
        let descriptor = libc::syscall(
            libc::SYS_openat2,
            from.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        );
        match i32::try_from(descriptor) {
            Ok(descriptor) if descriptor >= 0 => Ok(File::from_raw_fd(descriptor)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn believed(metadata: &fs::Metadata, owner: u32) -> io::Result<()> {
    if metadata.uid() == owner && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::ErrorKind::PermissionDenied.into())
}
