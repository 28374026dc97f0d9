//! Places in the file system that an intruder wants, in one table: what decides what runs, and what
//! holds secrets.

use std::{collections::BTreeSet, sync::LazyLock};

/// A place: a directory, a file, or the beginning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// A directory ends in `/`, the beginning of a name in `*`; what begins with `/.` lies in
    /// whatever directory.
    pub name: &'static str,
    /// Who writes here decides what runs, or who may log in.
    pub decides: bool,
    /// Who reads here learns passwords, keys or another process's memory.
    pub secret: bool,
    /// So few programs open it that each open counts ([`is_sensitive`]).
    rare: bool,
}

const fn place(name: &'static str, decides: bool, secret: bool, rare: bool) -> Place {
    Place { name, decides, secret, rare }
}

/// Decides what runs, and is opened by few programs.
const fn decides(name: &'static str) -> Place {
    place(name, true, false, true)
}

/// Decides what runs, and is read by many.
const fn read_by_many(name: &'static str) -> Place {
    place(name, true, false, false)
}

const fn secret(name: &'static str) -> Place {
    place(name, false, true, true)
}

/// Holds secrets, and belongs to a program that reads it all the time.
const fn secret_in_use(name: &'static str) -> Place {
    place(name, false, true, false)
}

/// Neither, but of use to an intruder.
const fn rare(name: &'static str) -> Place {
    place(name, false, false, true)
}

const ETC: &[Place] = &[
    decides("/etc/cron.d/"),
    decides("/etc/crontab"),
    decides("/etc/systemd/system/"),
    decides("/etc/sudoers"),
    decides("/etc/sudoers.d/"),
    decides("/etc/pam.d/"),
    decides("/etc/ld.so.preload"),
    place("/etc/shadow", true, true, true),
    place("/etc/gshadow", true, true, true),
    secret("/etc/shadow-"),
    secret("/etc/ssh/ssh_host_*"),
    read_by_many("/etc/cron.hourly/"),
    read_by_many("/etc/cron.daily/"),
    read_by_many("/etc/cron.weekly/"),
    read_by_many("/etc/cron.monthly/"),
    read_by_many("/etc/anacrontab"),
    read_by_many("/etc/systemd/user/"),
    read_by_many("/etc/systemd/system-generators/"),
    read_by_many("/etc/init.d/"),
    read_by_many("/etc/rc.local"),
    read_by_many("/etc/inittab"),
    read_by_many("/etc/ld.so.conf"),
    read_by_many("/etc/ld.so.conf.d/"),
    read_by_many("/etc/profile"),
    read_by_many("/etc/profile.d/"),
    read_by_many("/etc/bash.bashrc"),
    read_by_many("/etc/bashrc"),
    read_by_many("/etc/zsh/"),
    read_by_many("/etc/environment"),
    read_by_many("/etc/passwd"),
    // What `useradd` and PAM write before they rename it.
    read_by_many("/etc/passwd+"),
    read_by_many("/etc/npasswd"),
    read_by_many("/etc/shadow+"),
    read_by_many("/etc/nshadow"),
    read_by_many("/etc/ssh/sshd_config"),
    read_by_many("/etc/ssh/sshd_config.d/"),
    read_by_many("/etc/modules-load.d/"),
    read_by_many("/etc/modprobe.d/"),
    read_by_many("/etc/udev/rules.d/"),
    read_by_many("/etc/update-motd.d/"),
    read_by_many("/etc/xdg/autostart/"),
    read_by_many("/etc/apt/apt.conf.d/"),
    read_by_many("/etc/logrotate.d/"),
    secret_in_use("/etc/krb5.keytab"),
    secret_in_use("/etc/ssl/private/"),
    secret_in_use("/etc/letsencrypt/"),
    secret_in_use("/etc/wireguard/"),
    secret_in_use("/etc/NetworkManager/system-connections/"),
    secret_in_use("/etc/kubernetes/"),
    secret_in_use("/etc/rancher/"),
];
const VAR: &[Place] = &[
    decides("/var/spool/cron/"),
    read_by_many("/var/spool/at/"),
    secret("/var/lib/kubelet/"),
    secret("/var/run/secrets/"),
    rare("/var/run/docker.sock"),
];
const RUN: &[Place] = &[
    secret("/run/secrets/"),
    rare("/run/docker.sock"),
    rare("/run/containerd/containerd.sock"),
    read_by_many("/run/systemd/system/"),
    read_by_many("/run/udev/rules.d/"),
];
const USR: &[Place] = &[
    read_by_many("/usr/lib/systemd/system/"),
    read_by_many("/usr/lib/systemd/user/"),
    read_by_many("/usr/lib/systemd/system-generators/"),
    read_by_many("/usr/local/lib/systemd/"),
    read_by_many("/usr/lib/udev/rules.d/"),
    read_by_many("/usr/lib/security/"),
    read_by_many("/usr/lib64/security/"),
    read_by_many("/usr/lib/x86_64-linux-gnu/security/"),
    read_by_many("/usr/lib/aarch64-linux-gnu/security/"),
];
const LIB: &[Place] = &[
    read_by_many("/lib/systemd/system/"),
    read_by_many("/lib/udev/rules.d/"),
    read_by_many("/lib/security/"),
];
const BOOT: &[Place] = &[decides("/boot/")];
const ROOT: &[Place] = &[rare("/root/.ssh/")];
const SYS: &[Place] = &[decides("/sys/kernel/security/"), rare("/sys/fs/bpf/")];
const DEV: &[Place] = &[place("/dev/mem", true, true, true), place("/dev/kmem", true, true, true)];
const PROC: &[Place] = &[
    secret("/proc/kcore"),
    rare("/proc/kallsyms"),
    rare("/proc/sysrq-trigger"),
    decides("/proc/sys/kernel/core_pattern"),
    read_by_many("/proc/sys/kernel/modprobe"),
    read_by_many("/proc/sys/fs/binfmt_misc/register"),
];
/// Of any process.
const PROCESS_MEMORY: Place = secret("/proc/#/mem");
const PROCESS_ENVIRONMENT: Place = secret("/proc/#/environ");
const PROCESS_MAPS: Place = rare("/proc/#/maps");
/// Wherever they lie, from the slash before their hidden name; each is the beginning of a name.
const HIDDEN: &[Place] = &[
    secret("/.ssh/id_"),
    decides("/.ssh/authorized_keys"),
    secret("/.aws/credentials"),
    secret("/.kube/config"),
    secret("/.docker/config.json"),
    secret("/.gnupg/private-keys"),
    secret("/.netrc"),
    secret("/.pgpass"),
    secret_in_use("/.git-credentials"),
    secret_in_use("/.my.cnf"),
    secret_in_use("/.vault-token"),
    secret_in_use("/.azure/"),
    secret_in_use("/.config/gcloud/"),
    read_by_many("/.config/autostart/"),
    read_by_many("/.config/systemd/user/"),
    read_by_many("/.bashrc"),
    read_by_many("/.bash_profile"),
    read_by_many("/.bash_login"),
    read_by_many("/.profile"),
    read_by_many("/.zshrc"),
];

impl Place {
    fn holds(&self, path: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None if self.name.ends_with('/') => path.starts_with(self.name),
            None => path == self.name,
        }
    }
}

/// The place of the table that a path lies in. A place with a fixed name comes before a hidden
/// name, which whoever makes a file can give it.
pub fn place_of(path: &str) -> Option<&'static Place> {
    let top = path.strip_prefix('/')?;
    let top = &top[..top.find('/').unwrap_or(top.len())];
    let fixed = match top {
        "etc" => ETC,
        "var" => VAR,
        "run" => RUN,
        "usr" => USR,
        "lib" => LIB,
        "boot" => BOOT,
        "sys" => SYS,
        "dev" => DEV,
        "proc" => PROC,
        _ => &[],
    };
    let found = fixed.iter().find(|place| place.holds(path));
    // What is hidden in /root/.ssh says more than that it lies there.
    let found = found.or_else(|| hidden(path));
    found.or_else(|| match top {
        "proc" => of_process(path),
        "root" => ROOT.iter().find(|place| place.holds(path)),
        _ => None,
    })
}

/// Whether a name is that of a directory which the table names.
pub fn is_place_directory(name: &str) -> bool {
    static NAMES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
        let all = [ETC, VAR, RUN, USR, LIB, BOOT, ROOT, SYS, DEV, PROC, HIDDEN].concat();
        let directories = |place: Place| place.name.rsplit_once('/').map(|(above, _)| above);
        all.into_iter().filter_map(directories).flat_map(|path| path.split('/')).collect()
    });
    NAMES.contains(name)
}

/// Whether a path is on the short list of files that an intruder wants: credentials, keys, and
/// places that decide what runs. `/proc/PID/{mem,environ,maps}` of any process too.
pub fn is_sensitive(path: &str) -> bool {
    place_of(path).is_some_and(|place| place.rare)
}

/// One pass over the path: a search for each name would cost more than all other counting.
fn hidden(path: &str) -> Option<&'static Place> {
    let pairs = path.as_bytes().windows(2).enumerate();
    let mut hidden = pairs.filter(|(_, pair)| *pair == b"/.");
    hidden.find_map(|(at, _)| HIDDEN.iter().find(|place| path[at..].starts_with(place.name)))
}

fn of_process(path: &str) -> Option<&'static Place> {
    let (_, file) = process_file(path)?;
    match file {
        "mem" => Some(&PROCESS_MEMORY),
        "environ" => Some(&PROCESS_ENVIRONMENT),
        "maps" => Some(&PROCESS_MAPS),
        _ => None,
    }
}

/// The process and the name of a file in `/proc/PID/`; `None` for any other path.
pub fn process_file(path: &str) -> Option<(u32, &str)> {
    let (process, file) = path.strip_prefix("/proc/")?.split_once('/')?;
    let digits = process.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| process.parse().ok()).flatten().map(|process| (process, file))
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
            "/home/a/.bashrc",
            "",
        ] {
            assert!(!is_sensitive(path), "{path}");
        }
    }

    fn kinds(path: &str) -> (bool, bool) {
        place_of(path).map_or((false, false), |place| (place.decides, place.secret))
    }

    #[test]
    fn what_decides_what_runs_is_told_from_what_holds_secrets() {
        for path in
            ["/etc/cron.d/x", "/home/a/.bashrc", "/etc/passwd", "/root/.ssh/authorized_keys"]
        {
            assert_eq!(kinds(path), (true, false), "{path}");
        }
        for path in ["/etc/shadow-", "/root/.ssh/id_rsa", "/proc/7/environ", "/run/secrets/x"] {
            assert_eq!(kinds(path), (false, true), "{path}");
        }
        assert_eq!(kinds("/etc/shadow"), (true, true));
        for path in ["/proc/7/maps", "/root/.ssh/known_hosts", "/etc/hosts", "/etc/cron.d"] {
            assert_eq!(kinds(path), (false, false), "{path}");
        }
    }

    #[test]
    fn a_hidden_name_hides_no_place() {
        assert_eq!(kinds("/etc/systemd/system/.netrc.service"), (true, false));
    }

    #[test]
    fn each_place_is_found_by_its_own_name() {
        for list in [ETC, VAR, RUN, USR, LIB, BOOT, SYS, DEV, PROC, HIDDEN] {
            for place in list {
                let path = format!("{}x", place.name.trim_end_matches('*'));
                let path = if place.name.ends_with(['/', '*']) || place.name.starts_with("/.") {
                    path.as_str()
                } else {
                    place.name
                };
                assert_eq!(place_of(path), Some(place), "{path}");
            }
        }
    }
}
