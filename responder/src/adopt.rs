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

/// What was so when the last responder wrote its last line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Live entries of this boot.
    pub entries: Vec<Entry>,
    /// Entries that were live when another boot ended: their maps are gone.
    pub lost: Vec<Entry>,
    /// What was allowed in this boot for a cgroup of its own.
    pub allowed: Vec<Target>,
    /// Uids of entries that waited.
    pub held: Vec<String>,
}

/// Plays the lines. Only what is of this boot can still be in the kernel.
pub(crate) fn replay(lines: &[Line], boot_id: &str) -> Replayed {
    let mut live = BTreeMap::new();
    let mut allowed: Vec<Target> = Vec::new();
    let mut held: Vec<String> = Vec::new();
    for line in lines {
        if let Decision::Block { entry, .. } = &line.decision {
            held.retain(|uid| *uid != entry.uid);
        }
        match &line.decision {
            Decision::Block { entry, period_s } | Decision::Extend { entry, period_s } => {
                live.insert(entry.uid.clone(), rebuild(entry, *period_s));
            }
            Decision::Unblock { entry } => {
                live.remove(&entry.uid);
            }
            Decision::Hold { hold } => held.push(hold.uid.clone()),
            Decision::Withdraw { uid, .. } => held.retain(|other| other != uid),
            // Ids of cgroups and files are of their boot; the others are in the standing orders.
            Decision::Allow { target, allowed: through }
                if line.boot_id == boot_id && is_scoped(target) =>
            {
                allowed.retain(|other| !same(other, target));
                if *through {
                    allowed.push(target.clone());
                }
            }
            _ => {}
        }
    }
    let (mut entries, mut lost) = (Vec::new(), Vec::new());
    for mut entry in live.into_values() {
        match id_of(&entry.uid, boot_id) {
            Some(id) => {
                entry.id = id;
                entries.push(entry);
            }
            None => lost.push(entry),
        }
    }
    Replayed { entries, lost, allowed, held }
}

/// The target names a cgroup, which no other boot has.
pub(crate) fn is_scoped(target: &Target) -> bool {
    crate::scope::cgroup_of(target) != Some(0)
}

fn rebuild(told: &Remediation, period_s: u32) -> Entry {
    Entry {
        // By its uid.
        id: 0,
        uid: told.uid.clone(),
        finding_uid: told.finding_uid.clone(),
        target: told.target.clone(),
        subject: told.subject.clone(),
        process: None,
        rule: told.rule,
        mode: told.mode,
        // Nothing that is adopted rises.
        ceiling: told.mode,
        reason: told.reason.clone(),
        // The kernel knows it exactly.
        began_boot_ns: 0,
        expiry_boot_ns: 0,
        expires_wall_ns: told.expires_ns,
        period_s,
        hits: told.hits,
        hits_before: told.hits,
        inbound: 0,
        sockets_destroyed: told.sockets_destroyed,
        enforced: told.level,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Action, Level, Mode, Rule};

    use super::*;
    use crate::hold::Hold;

    fn line(boot_id: &str, decision: Decision) -> Line {
        Line { time_ns: 0, boot_id: boot_id.into(), by: None, decision }
    }

    fn told(boot_id: &str, id: u64) -> Remediation {
        Remediation {
            uid: uid(boot_id, id),
            finding_uid: None,
            action: Action::Block,
            target: Target::TaskTree { tgid: 7, start_boot_ns: 8 },
            subject: None,
            rule: Rule::ExecUntrusted,
            mode: Mode::Enforce,
            level: Level::Prevents,
            host_id: "h".into(),
            time_ns: 0,
            expires_ns: 60,
            hits: 3,
            sockets_destroyed: 0,
            reason: "why".into(),
        }
    }

    #[test]
    fn what_was_not_lifted_is_live_and_what_another_boot_left_is_lost() {
        let block = |boot, id| line(boot, Decision::Block { entry: told(boot, id), period_s: 60 });
        let lines = [
            block("old", 1),
            block("old", 2),
            line("old", Decision::Unblock { entry: told("old", 1) }),
            block("new", 3),
            block("new", 0xffff_ffff_0000_0004),
            line("new", Decision::Extend { entry: told("new", 3), period_s: 120 }),
        ];
        let replayed = replay(&lines, "new");
        let live: Vec<_> = replayed.entries.iter().map(|e| (e.id, e.period_s, e.hits)).collect();
        assert_eq!(live, [(3, 120, 3), (0xffff_ffff_0000_0004, 60, 3)]);
        assert_eq!(replayed.lost.iter().map(|e| &e.uid).collect::<Vec<_>>(), [&uid("old", 2)]);
        // Once told, it isn't told again.
        let mut lines = lines.to_vec();
        lines.push(line("new", Decision::Unblock { entry: told("old", 2) }));
        assert!(replay(&lines, "new").lost.is_empty());
    }

    #[test]
    fn this_boots_allowances_are_remembered_and_what_waited_is_known() {
        let target = Target::Cgroup { cgroup_id: 9, path: "/a".into() };
        let allow = |boot, allowed| line(boot, Decision::Allow { target: target.clone(), allowed });
        assert!(replay(&[allow("a", true)], "b").allowed.is_empty());
        assert_eq!(replay(&[allow("b", true)], "b").allowed, vec![target.clone()]);
        assert!(replay(&[allow("b", true), allow("b", false)], "b").allowed.is_empty());
        let hold = |id| {
            let entry = told("b", id);
            let hold = Hold {
                uid: entry.uid,
                finding_uid: None,
                target: entry.target,
                subject: None,
                rule: entry.rule,
                ceiling: Mode::Enforce,
                seconds: 60,
                until_ns: 60,
                due_boot_ns: 0,
                id,
                process: None,
                reason: entry.reason,
            };
            line("b", Decision::Hold { hold })
        };
        let lines = [
            hold(1),
            hold(2),
            hold(3),
            line("b", Decision::Withdraw { uid: uid("b", 1), reason: "no".into() }),
            line("b", Decision::Block { entry: told("b", 2), period_s: 60 }),
        ];
        assert_eq!(replay(&lines, "b").held, [uid("b", 3)]);
    }
}
