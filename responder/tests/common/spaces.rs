//! Processes that are somebody's subordinate ids, as rootless containers are.

use std::{
    ffi::CStr,
    fs,
    io::{Error, Read, Result, Write},
    os::unix::process::CommandExt,
    process::Command,
};

use super::Puppet;

const FIRST: u32 = 100_000;

/// AppArmor takes from whoever is not root what a namespace of his own would be for (Ubuntu 24.04). Nothing does in
/// the guests of `scripts/vm`, so that what hangs on it is tried somewhere.
pub fn are_refused() -> bool {
    let path = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let refused = fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    assert!(!refused || std::env::var_os("HEDGEROW_GUEST").is_none(), "a guest refuses namespaces");
    refused
}

/// A puppet in a user namespace that `uid` has made, as an id of the range that root maps there (newuidmap
/// does the same), below `depth` - 1 more that it made itself.
pub fn inside(uid: u32, depth: u32) -> Result<Puppet> {
    let (mut made, mut makes) = std::io::pipe()?;
    let (mut mapped, mut maps) = std::io::pipe()?;
    // By descriptor: its user may have no way to the path.
    let mut command = Command::new("/proc/self/exe");
    let prepare = move || {
        become_user(uid)?;
        new_space()?;
        makes.write_all(&std::process::id().to_ne_bytes())?;
        let mut is_mapped = [0];
        mapped.read_exact(&mut is_mapped)?;
        if is_mapped == [0] {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        become_user(1)?;
        for level in 1..depth {
            deeper(if level == 1 { c"0 1 1" } else { c"0 0 1" })?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls alone, on descriptors and buffers of its own.
    unsafe { command.pre_exec(prepare) };
    std::thread::scope(|scope| {
        let map = scope.spawn(move || {
            let mut pid = [0; 4];
            made.read_exact(&mut pid)?;
            let pid = u32::from_ne_bytes(pid);
            let mapped = ["uid_map", "gid_map"].into_iter().try_for_each(|map| {
                fs::write(format!("/proc/{pid}/{map}"), format!("0 {FIRST} 65536"))
            });
            // It waits, also for what can't be done.
            maps.write_all(&[u8::from(mapped.is_ok())])?;
            mapped
        });
        let puppet = Puppet::begin(command);
        map.join().map_err(|_| Error::other("its ids were not mapped"))??;
        puppet
    })
}

/// One more, in which the only id is what this one is. Its maps are its own to write, as for whoever may be
/// looked into.
fn deeper(map: &CStr) -> Result<()> {
    new_space()?;
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    for (path, text) in [
        (c"/proc/self/setgroups", c"deny"),
        (c"/proc/self/uid_map", map),
        (c"/proc/self/gid_map", map),
    ] {
        // SAFETY: system calls on a descriptor of their own and on strings that live over the call.
        let written = unsafe {
            let out = libc::open(path.as_ptr(), libc::O_WRONLY);
            let length = text.count_bytes();
            let written = libc::write(out, text.as_ptr().cast(), length);
            libc::close(out);
            written == length as isize
        };
        if !written {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

fn new_space() -> Result<()> {
    // SAFETY: plain system call; the process has one thread.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// All its ids, by calls that are of this thread alone.
fn become_user(id: u32) -> Result<()> {
    for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
        // SAFETY: plain system call.
        if unsafe { libc::syscall(call, id, id, id) } != 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}
