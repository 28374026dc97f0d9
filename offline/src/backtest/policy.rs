//! What the responder would have been told, as a file.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use hedgerow_event::{Mode, Workload};
use hedgerow_responder::protected::ProtectedSet;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Orders and addresses; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Of workloads without one of their own.
    pub mode: Mode,
    /// By workload.
    pub modes: BTreeMap<Workload, Mode>,
    /// Enforce before a profile is mature and has seen a week.
    pub enforce_provisional: bool,
    /// Addresses and prefixes that are never refused.
    pub allow: Vec<String>,
    /// Those that the host itself needs: its own, gateways, resolvers, brokers, where the capture
    /// doesn't hold them.
    pub protect: Vec<String>,
    /// The orders that held when it was captured go before `mode`, `modes` and
    /// `enforce_provisional`, where the capture has them.
    #[serde(skip)]
    pub as_captured: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            modes: BTreeMap::new(),
            enforce_provisional: false,
            allow: Vec::new(),
            protect: Vec::new(),
            as_captured: false,
        }
    }
}

impl Policy {
    /// The policy of a file, or the orders of the capture, and what is never refused beside.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(path: Option<&Path>, allow: &[String]) -> Result<Self> {
        let mut policy = path.map(Self::read).transpose()?.unwrap_or_default();
        policy.as_captured = path.is_none();
        policy.allow.extend(allow.iter().cloned());
        Ok(policy)
    }

    /// Reads a policy from TOML.
    ///
    /// # Errors
    /// Names the file, the line and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|why| Error::at(path, why))?;
        let policy: Self = toml::from_str(&text).map_err(|why| {
            let start = why.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            Error::at(path, format!("line {line}: {}", why.message()))
        })?;
        policy.prefixes(&policy.allow).map_err(|why| Error::at(path, format!("allow: {why}")))?;
        policy
            .prefixes(&policy.protect)
            .map_err(|why| Error::at(path, format!("protect: {why}")))?;
        Ok(policy)
    }

    pub(super) fn mode(&self, workload: &Workload) -> Mode {
        self.modes.get(workload).copied().unwrap_or(self.mode)
    }

    /// What no entry may name.
    pub(super) fn protected(&self) -> std::result::Result<ProtectedSet, String> {
        let mut protected = ProtectedSet::default();
        self.protect(&mut protected)?;
        Ok(protected)
    }

    /// Adds to what no entry may name.
    pub(super) fn protect(&self, protected: &mut ProtectedSet) -> std::result::Result<(), String> {
        for (list, reason) in
            [(&self.allow, "on the allowlist"), (&self.protect, "an address that the host needs")]
        {
            for (address, length) in self.prefixes(list)? {
                protected.add_address(address, length, reason);
            }
        }
        Ok(())
    }

    fn prefixes(&self, list: &[String]) -> std::result::Result<Vec<(IpAddr, u8)>, String> {
        list.iter().map(|text| prefix(text)).collect()
    }
}

/// `192.0.2.0/24`, or one address.
fn prefix(text: &str) -> std::result::Result<(IpAddr, u8), String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr =
        address.parse().map_err(|_| format!("`{text}` is no address or prefix"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), str::parse);
    let length = length.ok().filter(|length| *length <= most);
    Ok((address, length.ok_or_else(|| format!("`{text}` has no prefix length from 0 to {most}"))?))
}
