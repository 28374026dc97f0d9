//! Facts about the host that the maps depend on.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Error, Now};

/// Where cgroup v2 is mounted, by `/proc/self/mountinfo`.
pub(crate) fn cgroup_root() -> Result<PathBuf, Error> {
    let mount = hedgerow_hostfile::mount_point("cgroup2");
    mount.map_err(Error::io("can't read /proc/self/mountinfo"))?.ok_or(Error::NoCgroup)
}

/// Makes sure that `path` is a BPF file system, mounting one where there is none.
pub(crate) fn ensure_bpffs(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::NoBpffs { path: path.to_owned(), source };
    if is_bpffs(path).unwrap_or(false) {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    let target = CString::new(path.as_os_str().as_bytes()).map_err(|e| failed(e.into()))?;
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            target.as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            // Whoever may write there could pin over our names.
            c"mode=0700".as_ptr().cast(),
        )
    };
    if result == 0 { Ok(()) } else { Err(failed(io::Error::last_os_error())) }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statfs` is plain data for which zeroes are a value.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated and `status` is writable.
    if unsafe { libc::statfs(path.as_ptr(), &mut status) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.f_type == libc::BPF_FS_MAGIC)
}

/// Why BPF LSM programs refuse nothing here: the kernel takes none (a host can list `bpf` and refuse
/// it), or `bpf` is not among the active LSMs (a kernel can take one that it never calls).
pub(crate) fn lsm_refusal() -> Option<String> {
    const ACTIVE: &str = "/sys/kernel/security/lsm";
    if !libbpf_rs::ProgramType::Lsm.is_supported().unwrap_or(false) {
        return Some("the kernel refuses BPF LSM programs".to_owned());
    }
    if !hedgerow_bpf::attaches_to_functions() {
        return Some(
            "this kernel attaches no programs to its functions; 6.4 and newer do".to_owned(),
        );
    }
    match fs::read_to_string(ACTIVE) {
        Ok(list) if list.trim().split(',').any(|name| name == "bpf") => None,
        Ok(list) => Some(format!("the active LSMs are {}; boot with lsm=...,bpf", list.trim())),
        Err(error) => Some(format!("can't read {ACTIVE}: {error}")),
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clocks that are read exist on every kernel that is supported.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Reads both clocks.
pub fn now() -> Now {
    Now {
        boot_ns: u64::try_from(read(libc::CLOCK_BOOTTIME)).unwrap_or(0),
        wall_ns: read(libc::CLOCK_REALTIME),
    }
}

/// CPU time that this thread has taken.
pub(super) fn cpu_time() -> Duration {
    Duration::from_nanos(u64::try_from(read(libc::CLOCK_THREAD_CPUTIME_ID)).unwrap_or(0))
}

/// A key for an entry that nobody can guess or meet twice; never 0 nor the id of the doomed.
pub(crate) fn random_id() -> Result<u64, Error> {
    loop {
        let mut bytes = [0u8; 8];
        // SAFETY: `bytes` is writable for the length that is passed.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got != 8 {
            return Err(Error::io("no random numbers")(io::Error::last_os_error()));
        }
        let id = u64::from_ne_bytes(bytes);
        if id != 0 && id != u64::MAX {
            return Ok(id);
        }
    }
}

/// Names this boot; entries of another one are gone.
pub(crate) fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(Error::io(format!("can't read {path}")))?;
    Ok(text.trim().to_owned())
}
