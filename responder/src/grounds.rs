//! What decisions rest on beside their evidence, as it stood at a time: what a capture keeps, so that a
//! back-test decides as the responder did. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_event::{Mode, Workload};
use serde::{Deserialize, Serialize};

use crate::{
    coverage::Coverage,
    protected::{ProtectedSet, facts::Facts, remembered::Remembered},
};

/// Version of what is written; a reader refuses others by name.
pub const VERSION: u32 = 1;

/// Orders, and what the host is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grounds {
    pub version: u32,
    /// Of workloads without one of their own, and those.
    pub mode: Mode,
    pub modes: BTreeMap<Workload, Mode>,
    pub enforce_provisional: bool,
    /// Workloads whose breaker is tripped.
    pub tripped: BTreeSet<Workload>,
    pub facts: Facts,
    /// What was seen before; with the first of a capture only, since what comes later is in its
    /// records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// Hours of the week, peers and files that were seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub coverage: Coverage,
    remembered: Remembered,
}

impl Seen {
    pub fn of(coverage: &Coverage, protected: &ProtectedSet) -> Self {
        Self { coverage: coverage.clone(), remembered: protected.remembered() }
    }

    /// Takes over what was seen.
    pub fn recall(self, coverage: &mut Coverage, protected: &mut ProtectedSet) {
        if self.coverage.is_sound() {
            *coverage = self.coverage;
        }
        protected.recall(self.remembered);
    }
}

impl Grounds {
    /// Reads what was written.
    ///
    /// # Errors
    /// It is of another version, or no such thing.
    pub fn read(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).map_err(|why| why.to_string())?;
        if version != VERSION {
            return Err(format!("version {version}; this build reads version {VERSION}"));
        }
        serde_json::from_str(text).map_err(|why| why.to_string())
    }

    /// The workload's mode, as ordered.
    pub fn mode(&self, workload: &Workload) -> Mode {
        self.modes.get(workload).copied().unwrap_or(self.mode)
    }
}
