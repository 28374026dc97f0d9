//! Opening what may be a trap.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

use crate::Refused;

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

/// Opens the regular file that `path` names inside the directory `root`, which may be a magic link
/// such as `/proc/PID/root`: what leads out of it, `..` and absolute links included, is taken as
/// leading back to it. Nothing but a regular file is ever opened: a device might notice, a FIFO
/// waits.
///
/// # Errors
/// There is no such file, or it is one of those.
pub fn inside(root: &Path, path: &Path) -> Result<File, Refused> {
    let directory =
        File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    // SAFETY: plain numbers, for which zeroes are a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_PATH | libc::O_CLOEXEC).cast_unsigned());
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
            return for_reading(&unsafe { File::from_raw_fd(descriptor) });
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
    let descriptor = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    Ok(File::options().read(true).custom_flags(flags).open(descriptor)?)
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
