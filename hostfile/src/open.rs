//! Opening what may be a trap.

use std::{
    ffi::{CString, OsString},
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Progress, Refused};

/// A rename or a mount during the walk is no answer (openat2(2)): so often it is tried again.
const TRIES: usize = 16;

/// Magic numbers (statfs(2)) of file systems whose regular files do something when they are read, or
/// never end.
const PSEUDO: [i64; 11] = [
    0x9fa0,      // proc: kmsg takes what it tells, kcore has no end
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs: trace_pipe takes what it tells
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup v2
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
];

/// Opens the regular file that `path` names inside the directory `root`, as [`Root::file`] does.
///
/// # Errors
/// There is no such file, or it is one of those that are not opened.
pub fn inside(root: &Path, path: &Path) -> Result<File, Refused> {
    Root::open(root)?.file(path)
}

/// A directory that others' paths are meant in: what leads out of it, `..` and absolute links included,
/// is taken as leading back to it. Clones share it.
#[derive(Debug, Clone)]
pub struct Root(Arc<File>);

impl Root {
    /// `path` may be a magic link such as `/proc/PID/root`.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        Ok(Self(Arc::new(options.open(path)?)))
    }

    /// Opens a regular file. Nothing else is ever opened: a device might notice, a FIFO waits.
    ///
    /// # Errors
    /// There is no such file, or it is one of those.
    pub fn file(&self, path: &Path) -> Result<File, Refused> {
        for_reading(&place(&self.0, path, 0)?)
    }

    /// What is there, a link itself where the path leads to one.
    ///
    /// # Errors
    /// There is nothing.
    pub fn stat(&self, path: &Path) -> Result<Metadata, Refused> {
        Ok(place(&self.0, path, libc::O_NOFOLLOW)?.metadata()?)
    }

    /// Where a link leads.
    ///
    /// # Errors
    /// There is no link.
    pub fn link(&self, path: &Path) -> Result<PathBuf, Refused> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().ok_or(Refused::NotRegular)?;
        Ok(fs::read_link(descriptor(&place(&self.0, above, 0)?).join(name))?)
    }

    /// Names in a directory, so many at most.
    ///
    /// # Errors
    /// There is no such directory, or nobody waits any more.
    pub fn names(
        &self,
        path: &Path,
        names_max: usize,
        progress: &Progress,
    ) -> Result<Vec<OsString>, Refused> {
        let mut names = Vec::new();
        for entry in fs::read_dir(descriptor(&place(&self.0, path, 0)?))?.take(names_max) {
            let name = entry?.file_name();
            progress.add(name.len())?;
            names.push(name);
        }
        Ok(names)
    }
}

/// By which a descriptor is opened again.
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// What a path leads to inside a directory, as a place only.
fn place(directory: &File, path: &Path, flags: libc::c_int) -> Result<File, Refused> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    // SAFETY: plain numbers, for which zeroes are a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_PATH | libc::O_CLOEXEC | flags).cast_unsigned());
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    for _ in 0..TRIES {
        // SAFETY: the path is NUL-terminated, `how` has the size that is passed; both outlive the
        // call.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if let Ok(descriptor) = i32::try_from(opened)
            && descriptor >= 0
        {
            // SAFETY: the call made it, and nobody else owns it.
            return Ok(unsafe { File::from_raw_fd(descriptor) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EAGAIN) {
            return Err(error.into());
        }
    }
    Err(io::Error::from(io::ErrorKind::WouldBlock).into())
}

/// Opens the file that a process runs, by its magic link.
///
/// # Errors
/// The process is gone, or runs no regular file.
pub fn image(process: u32) -> Result<File, Refused> {
    let path = format!("/proc/{process}/exe");
    for_reading(&File::options().read(true).custom_flags(libc::O_PATH).open(path)?)
}

/// Opens for reading what is only a place so far.
fn for_reading(place: &File) -> Result<File, Refused> {
    if !place.metadata()?.is_file() {
        return Err(Refused::NotRegular);
    }
    if is_pseudo(place)? {
        return Err(Refused::Pseudo);
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    Ok(File::options().read(true).custom_flags(flags).open(descriptor(place))?)
}

fn is_pseudo(place: &File) -> io::Result<bool> {
    // SAFETY: all zeroes are a value of this plain struct.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `status` is writable.
    if unsafe { libc::fstatfs(place.as_raw_fd(), &raw mut status) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PSEUDO.contains(&(status.f_type & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::content;

    fn read(root: &Path, path: &str) -> Result<Vec<u8>, Refused> {
        content(inside(root, Path::new(path))?, 100, &crate::Progress::default())
    }

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/real"), "here").unwrap();
        for (name, target) in
            [("absolute", "/etc/real"), ("up", "../../../../etc/real"), ("relative", "real")]
        {
            symlink(target, root.path().join("etc").join(name)).unwrap();
            let path = format!("/etc/{name}");
            assert_eq!(read(root.path(), &path).unwrap(), b"here", "{name}");
        }
        symlink("/dev/zero", root.path().join("zero")).unwrap();
        assert!(matches!(read(root.path(), "/zero"), Err(Refused::Io(_))), "none in here");
        assert!(matches!(read(root.path(), "../../../etc/passwd"), Err(Refused::Io(_))));
        symlink(format!("/proc/{}/root/etc/passwd", std::process::id()), root.path().join("magic"))
            .unwrap();
        assert!(matches!(read(root.path(), "/magic"), Err(Refused::Io(_))));
    }

    #[test]
    fn names_and_places_stay_inside_too() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "").unwrap();
        fs::create_dir(home.path().join("etc")).unwrap();
        fs::write(home.path().join("etc/a"), "").unwrap();
        symlink("/etc", home.path().join("absolute")).unwrap();
        symlink(outside.path(), home.path().join("out")).unwrap();
        let root = Root::open(home.path()).unwrap();
        let progress = Progress::default();
        let names = |path: &str, max| root.names(Path::new(path), max, &progress);
        assert_eq!(names("/absolute", 9).unwrap(), ["a"]);
        assert_eq!((names("/", 9).unwrap().len(), names("", 2).unwrap().len()), (3, 2));
        assert!(names("/out", 9).is_err() && names("/etc/a", 9).is_err());
        assert!(root.stat(Path::new("/absolute/a")).unwrap().is_file());
        assert!(root.stat(Path::new("/out")).unwrap().is_symlink());
        assert!(root.stat(Path::new("/out/secret")).is_err());
        assert_eq!(root.link(Path::new("out")).unwrap(), outside.path());
        assert!(root.link(Path::new("/etc")).is_err());
    }

    #[test]
    fn only_regular_files_of_real_file_systems_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(matches!(read(root.path(), "/fifo"), Err(Refused::NotRegular)));
        fs::create_dir(root.path().join("directory")).unwrap();
        assert!(matches!(read(root.path(), "/directory"), Err(Refused::NotRegular)));
        for path in ["/dev/zero", "/dev/null"] {
            assert!(matches!(read(Path::new("/"), path), Err(Refused::NotRegular)), "{path}");
        }
        for path in ["/proc/version", "/sys/kernel/uevent_seqnum"] {
            assert!(matches!(read(Path::new("/"), path), Err(Refused::Pseudo)), "{path}");
        }
    }

    #[test]
    fn a_large_file_is_refused_unread_and_a_growing_one_is_cut() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("sparse")).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(matches!(read(root.path(), "/sparse"), Err(Refused::TooLarge(100))));
        fs::write(root.path().join("small"), [b'x'; 100]).unwrap();
        assert_eq!(read(root.path(), "/small").unwrap().len(), 100);
    }

    #[test]
    fn the_own_image_is_read() {
        let own = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(image(std::process::id()).unwrap().metadata().unwrap().len(), own.len());
        assert!(image(u32::MAX).is_err());
    }
}
