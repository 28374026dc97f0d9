//! How a responder is started, and where its files are.

use std::path::{Path, PathBuf};

use hedgerow_event::Mode;

use crate::{Error, Limits, standing::Standing};

/// Name of what an operator ordered, beside the ledger.
pub const STANDING: &str = "responder.json";

/// Where the deny maps and links are pinned.
pub const DIRECTORY: &str = "/sys/fs/bpf/hedgerow";

/// How a responder is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory on a BPF file system; it is made, and its parent mounted, where missing.
    pub directory: PathBuf,
    pub ledger: PathBuf,
    pub ledger_bytes_max: u64,
    pub host_id: String,
    pub limits: Limits,
    /// The mode of workloads for which no operator has set one, in this run or before.
    pub mode: Mode,
    /// Of this run: holds where it is less than the default mode that an operator has set before, or where
    /// none has; a workload's own mode stays.
    pub mode_now: Option<Mode>,
    /// The host's secret behind programs' ids, the same as the sensor's.
    pub identity_key: [u64; 2],
}

impl Options {
    pub fn new(host_id: impl Into<String>, ledger: impl Into<PathBuf>) -> Self {
        Self {
            directory: DIRECTORY.into(),
            ledger: ledger.into(),
            ledger_bytes_max: 16 << 20,
            host_id: host_id.into(),
            limits: Limits::default(),
            mode: Mode::Observe,
            mode_now: None,
            identity_key: [0; 2],
        }
    }

    /// What an operator ordered, beside the ledger.
    pub(super) fn standing(&self) -> PathBuf {
        self.ledger.with_file_name(STANDING)
    }

    /// What normal life has shown.
    pub(super) fn remembered(&self) -> PathBuf {
        self.ledger.with_file_name("remembered.json")
    }
}

/// The file that says that the kill switch is thrown, beside the ledger.
pub(super) fn disarmed(ledger: &Path) -> PathBuf {
    ledger.with_file_name("disarmed")
}

/// The highest mode that is ordered for any workload, whether or not a responder can be started.
///
/// # Errors
/// The orders can't be read.
pub fn ordered(options: &Options) -> Result<Mode, Error> {
    let standing = Standing::load(&options.standing())?;
    let default = standing.default_mode(options.mode_now, options.mode);
    Ok(standing.modes.values().copied().fold(default, Mode::max))
}
