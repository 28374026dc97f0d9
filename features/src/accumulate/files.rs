//! Streamed security-relevant calls: files, and what was refused.

use hedgerow_event::{Call, calls::Class};

use crate::{item::ItemKey, sketch::Sketch};

/// Beginnings of paths that hold secrets or decide what runs; opened by few programs.
const SENSITIVE_DIRECTORIES: &[&str] = &[
    "/root/.ssh/",
    "/etc/ssh/ssh_host_",
    "/etc/sudoers.d/",
    "/etc/pam.d/",
    "/etc/cron.d/",
    "/var/spool/cron/",
    "/etc/systemd/system/",
    "/var/lib/kubelet/",
    "/run/secrets/",
    "/var/run/secrets/",
    "/sys/kernel/security/",
    "/sys/fs/bpf/",
    "/boot/",
];
/// Files of the same kind.
const SENSITIVE_FILES: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/crontab",
    "/etc/ld.so.preload",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/dev/mem",
    "/dev/kmem",
    "/proc/kcore",
    "/proc/kallsyms",
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
];
/// Secrets wherever they lie, from the slash before their hidden name.
const SENSITIVE_HIDDEN: &[&str] = &[
    "/.ssh/id_",
    "/.ssh/authorized_keys",
    "/.aws/credentials",
    "/.kube/config",
    "/.docker/config.json",
    "/.gnupg/private-keys",
    "/.netrc",
    "/.pgpass",
];

/// Whether a path is on the short list of files that an intruder wants: credentials, keys, and
/// places that decide what runs. `/proc/PID/{mem,environ,maps}` of any process too.
pub fn is_sensitive(path: &str) -> bool {
    SENSITIVE_DIRECTORIES.iter().any(|directory| path.starts_with(directory))
        || SENSITIVE_FILES.contains(&path)
        || is_hidden_secret(path)
        || path.strip_prefix("/proc/").is_some_and(|rest| {
            rest.split_once('/').is_some_and(|(process, file)| {
                process.bytes().all(|byte| byte.is_ascii_digit())
                    && matches!(file, "mem" | "environ" | "maps")
            })
        })
}

/// One pass over the path: a search for each secret would cost more than all other counting.
fn is_hidden_secret(path: &str) -> bool {
    let pairs = path.as_bytes().windows(2).enumerate();
    let mut hidden = pairs.filter(|(_, pair)| *pair == b"/.");
    hidden.any(|(at, _)| SENSITIVE_HIDDEN.iter().any(|secret| path[at..].starts_with(secret)))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Streamed calls of every kind.
    pub streamed: u64,
    /// Of those, refused with EPERM or EACCES.
    pub denied: u64,
    pub opens: u64,
    pub opens_failed: u64,
    /// Successful opens for writing.
    pub opens_write: u64,
    /// Successful calls that make memory executable or a file in memory.
    pub code: u64,
    /// Calls on a sensitive path, successful or not.
    pub sensitive: u64,
    /// Paths of streamed calls.
    pub paths: Sketch,
    /// First two components of those.
    pub prefixes: Sketch,
}

impl FileCounts {
    pub fn observe(&mut self, call: &Call, key: ItemKey) {
        self.streamed += 1;
        let denied = [-i64::from(libc::EPERM), -i64::from(libc::EACCES)];
        self.denied += u64::from(denied.contains(&call.result));
        let code = [Class::Protect.index(), Class::MemoryFile.index()];
        self.code += u64::from(call.result >= 0 && code.contains(&usize::from(call.class)));
        if let Some(write) = open_for_writing(call) {
            self.opens += 1;
            if call.result < 0 {
                self.opens_failed += 1;
            } else {
                self.opens_write += u64::from(write);
            }
        }
        if let Some(path) = &call.path {
            self.sensitive += u64::from(is_sensitive(path));
            self.paths.add(key.path(path), 1);
            self.prefixes.add(key.path_prefix(path), 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.streamed += other.streamed;
        self.denied += other.denied;
        self.opens += other.opens;
        self.opens_failed += other.opens_failed;
        self.opens_write += other.opens_write;
        self.code += other.code;
        self.sensitive += other.sensitive;
        self.paths.merge(&other.paths);
        self.prefixes.merge(&other.prefixes);
    }
}

/// Whether the call opens a file, and if so whether for writing. `openat2` keeps its flags in user
/// memory, out of sight: it counts as an open for reading.
fn open_for_writing(call: &Call) -> Option<bool> {
    let flags = match i64::from(call.number) {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.arguments[1],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => return Some(true),
        libc::SYS_openat => call.arguments[2],
        libc::SYS_openat2 => return Some(false),
        _ => return None,
    };
    Some(flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sensitive_and_libraries_are_not() {
        for path in [
            "/etc/shadow",
            "/home/a/.ssh/id_ed25519",
            "/root/.ssh/known_hosts",
            "/home/b/.x/.pgpass",
            "/etc/ssh/ssh_host_rsa_key",
            "/proc/77/mem",
            "/etc/cron.d/x",
        ] {
            assert!(is_sensitive(path), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/usr/lib/libc.so.6",
            "/proc/self/maps",
            "/proc/77/stat",
            "/.",
            "/é/.ssh",
            "",
        ] {
            assert!(!is_sensitive(path), "{path}");
        }
    }
}
