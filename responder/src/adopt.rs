//! What the ledger says should be live, for a responder that starts over a dead one. Pure.

use std::collections::BTreeMap;

use hedgerow_event::{Remediation, Target};

use crate::{
    entry::Entry,
    ledger::{Decision, Line},
    target::same,
};

/// Name of an entry outside of the kernel: unique over boots and hosts.
pub(crate) fn uid(boot_id: &str, id: u64) -> String {
    format!("{boot_id}-{id:016x}")
}

fn id_of(uid: &str, boot_id: &str) -> Option<u64> {
    let id = uid.strip_prefix(boot_id)?.strip_prefix('-')?;
    u64::from_str_radix(id, 16).ok()
}

/// What was live when the last responder wrote its last line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub entries: Vec<Entry>,
    pub allowed: Vec<Target>,
}

/// Plays the lines of this boot; those of another one concern maps that are gone.
pub(crate) fn replay(lines: &[Line], boot_id: &str) -> Replayed {
    let mut live = BTreeMap::new();
    let mut allowed: Vec<Target> = Vec::new();
    for line in lines.iter().filter(|line| line.boot_id == boot_id) {
        match &line.decision {
            Decision::Block { entry, period_s } | Decision::Extend { entry, period_s } => {
                if let Some(id) = id_of(&entry.uid, boot_id) {
                    live.insert(id, rebuild(id, entry, *period_s));
                }
            }
            Decision::Unblock { entry } => {
                if let Some(id) = id_of(&entry.uid, boot_id) {
                    live.remove(&id);
                }
            }
            Decision::Allow { target, allowed: through } => {
                allowed.retain(|other| !same(other, target));
                if *through {
                    allowed.push(target.clone());
                }
            }
            _ => {}
        }
    }
    Replayed { entries: live.into_values().collect(), allowed }
}

fn rebuild(id: u64, told: &Remediation, period_s: u32) -> Entry {
    Entry {
        id,
        uid: told.uid.clone(),
        finding_uid: told.finding_uid.clone(),
        target: told.target.clone(),
        subject: told.subject.clone(),
        rule: told.rule,
        mode: told.mode,
        reason: told.reason.clone(),
        // The kernel knows it exactly.
        expiry_boot_ns: 0,
        expires_wall_ns: told.expires_ns,
        period_s,
        hits: told.hits,
        hits_before: told.hits,
        sockets_destroyed: told.sockets_destroyed,
    }
}
