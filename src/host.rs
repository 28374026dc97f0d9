//! What a daemon needs to know of its host.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};
use hedgerow_responder::DIRECTORY;
use sha2::{Digest, Sha256};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{cli::STATE_DIRECTORY, exit::Failure};

/// Names that make findings of this host and boot unique.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/etc/machine-id`, or the host's name where there is none.
    pub id: String,
    pub boot_id: String,
    pub name: String,
    /// Wall time less time since boot, as it was at the start.
    pub realtime_offset_ns: i64,
}

impl Host {
    pub fn read() -> anyhow::Result<Self> {
        let line = |path: &str| -> Option<String> {
            let text = fs::read_to_string(path).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let name = line("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned());
        let boot_id = line("/proc/sys/kernel/random/boot_id")
            .context("can't read /proc/sys/kernel/random/boot_id; is /proc mounted?")
            .map_err(Failure::host)?;
        let id = line("/etc/machine-id").unwrap_or_else(|| name.clone());
        let now = hedgerow_responder::now();
        let realtime_offset_ns = now.wall_ns.saturating_sub_unsigned(now.boot_ns);
        Ok(Self { id, boot_id, name, realtime_offset_ns })
    }
}

/// Makes the state directory, for root only.
pub fn make_state(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("can't make the state directory {}", path.display()))
        .map_err(|why| Failure::file(why).into())
}

/// Where the deny programs of the daemon with this state directory are pinned: daemons with states
/// of their own must not share live entries.
pub fn pins(state: &Path) -> PathBuf {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if whole(state) == whole(Path::new(STATE_DIRECTORY)) {
        return DIRECTORY.into();
    }
    // Names on a BPF file system hold no dots.
    let digest = Sha256::digest(whole(state).as_os_str().as_encoded_bytes());
    let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{DIRECTORY}-{name}").into()
}

/// Ctrl-C: whoever stops the daemon by hand wants nothing refused afterwards. A service manager's
/// SIGTERM may be a restart, and leaves entries to their expiry.
pub fn is_by_hand(signal: i32) -> bool {
    signal == SIGINT
}

/// Delivers SIGHUP, SIGINT and SIGTERM.
pub fn signals() -> anyhow::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, receiver) = bounded(4);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
