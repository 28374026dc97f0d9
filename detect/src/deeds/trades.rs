//! Programs that exist for what is a deed in others.
//!
//! A name alone excuses nothing: whoever is root in a container can name a file so. The file must
//! be its package's, or, for what ran before the sensor and where no package database speaks, not
//! known to be anything else.

use hedgerow_event::{Deed, Program, Provenance};

use super::processes::Facts;

/// Where root keeps programs.
const DIRECTORIES: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/libexec/", "/bin/", "/sbin/", "/lib/"];

/// (deed, names of programs whose work it is)
const TRADES: &[(Deed, &[&str])] = &[
    (
        Deed::Secret,
        &[
            "agetty",
            "chpasswd",
            "cron",
            "crond",
            "fuser",
            "getty",
            "login",
            "lsof",
            "passwd",
            "pgrep",
            "pidof",
            "pkill",
            "polkit-agent-helper-1",
            "polkitd",
            "ps",
            "sshd",
            "sshd-auth",
            "sshd-session",
            "su",
            "sudo",
            "systemd",
            "top",
            "unix_chkpwd",
            "w",
        ],
    ),
    (
        Deed::Namespace,
        &[
            "containerd",
            "containerd-shim-runc-v2",
            "crun",
            "dockerd",
            "runc",
            "systemd",
            "systemd-executor",
        ],
    ),
    (
        Deed::Kernel,
        &["crun", "kmod", "runc", "systemd", "systemd-executor", "systemd-udevd", "udevadm"],
    ),
];

/// Whoever brings packages writes where it is decided what runs, and makes files set-user-id.
const PACKAGE_MANAGERS: &[&str] = &[
    "apk",
    "apt",
    "apt-get",
    "aptitude",
    "dnf",
    "dnf5",
    "dpkg",
    "dpkg-deb",
    "microdnf",
    "packagekitd",
    "pacman",
    "rpm",
    "yum",
    "zypper",
];

/// Whether a deed is what the program is there for.
pub fn is_excused(deed: Deed, program: &Program, facts: &Facts) -> bool {
    // An interpreter, or a program that takes commands from a file, is not what it is named.
    if program.script.is_some() {
        return false;
    }
    match deed {
        Deed::Persistence | Deed::SetIdBit => {
            facts.uid == 0
                && facts.provenance == Provenance::Package
                && is_named(program, PACKAGE_MANAGERS)
        }
        _ => {
            matches!(facts.provenance, Provenance::Package | Provenance::Unknown)
                && TRADES.iter().any(|(trade, names)| *trade == deed && is_named(program, names))
        }
    }
}

/// Whether a name is that of a directory in which root keeps programs.
pub fn is_program_directory(name: &str) -> bool {
    DIRECTORIES.iter().flat_map(|path| path.split('/')).any(|part| !part.is_empty() && part == name)
}

/// Whether a program is excused some deed by its path. What is called otherwise is judged the same
/// under any name.
pub fn has_trade(path: &str) -> bool {
    let known = TRADES.iter().flat_map(|(_, names)| *names).chain(PACKAGE_MANAGERS);
    let name = path.rsplit('/').next().unwrap_or_default();
    DIRECTORIES.iter().any(|home| path.starts_with(home)) && known.into_iter().any(|n| *n == name)
}

fn is_named(program: &Program, names: &[&str]) -> bool {
    let name = program.path.rsplit('/').next().unwrap_or_default();
    DIRECTORIES.iter().any(|home| program.path.starts_with(home)) && names.contains(&name)
}
