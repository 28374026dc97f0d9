//! How many lines on what led to no entry one owner's workloads get in the ledger: whoever is refused again
//! and again must not push what else was decided out of it. Pure.

use std::collections::HashMap;

const MINUTE_NS: u64 = 60_000_000_000;
/// Lines of an owner in a minute; further ones are counted.
const LINES_MAX: u64 = 60;
/// Lines of all owners in a minute, past which each gets the least: whoever starts containers has many.
const ALL_MAX: u64 = 1000;
const LEAST: u64 = 2;
/// Owners that are told apart; all further ones share.
const OWNERS_MAX: usize = 256;
const OTHERS: &str = "others";

#[derive(Debug, Default)]
struct Lines {
    since_boot_ns: u64,
    written: u64,
    left_out: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Quota {
    owners: HashMap<String, Lines>,
    all: Lines,
}

impl Quota {
    /// Whether one more line may be written; what may not is counted.
    pub fn has_room(&mut self, owner: &str, boot_ns: u64) -> bool {
        let known = self.owners.contains_key(owner) || self.owners.len() < OWNERS_MAX;
        let owner = if known { owner } else { OTHERS };
        let fresh = || Lines { since_boot_ns: boot_ns, ..Lines::default() };
        if boot_ns.saturating_sub(self.all.since_boot_ns) >= MINUTE_NS {
            self.all = fresh();
        }
        let most = if self.all.written < ALL_MAX { LINES_MAX } else { LEAST };
        let lines = self.owners.entry(owner.to_owned()).or_insert_with(fresh);
        let room = lines.written < most;
        for lines in [lines, &mut self.all] {
            *(if room { &mut lines.written } else { &mut lines.left_out }) += 1;
        }
        room
    }

    /// What was left out in minutes that are over, by owner; they begin anew.
    pub fn take_left_out(&mut self, boot_ns: u64) -> Vec<(String, u64)> {
        let mut left_out = Vec::new();
        self.owners.retain(|owner, lines| {
            let goes_on = boot_ns.saturating_sub(lines.since_boot_ns) < MINUTE_NS;
            if !goes_on && lines.left_out > 0 {
                left_out.push((owner.clone(), lines.left_out));
            }
            goes_on
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_without_end_gets_a_line_a_second_and_then_a_count() {
        let mut quota = Quota::default();
        let written = (0..10_000).filter(|_| quota.has_room("web.service", 5)).count();
        assert_eq!(written as u64, LINES_MAX);
        assert!(quota.has_room("db.service", 5), "another's");
        assert!(quota.take_left_out(5 + MINUTE_NS - 1).is_empty());
        let left_out = quota.take_left_out(5 + MINUTE_NS);
        assert_eq!(left_out, [("web.service".to_owned(), 10_000 - LINES_MAX)]);
        assert!(quota.has_room("web.service", 5 + MINUTE_NS), "a minute later");
        // However many owners there are.
        let mut quota = Quota::default();
        let written = (0..100_000).filter(|n| quota.has_room(&n.to_string(), 5)).count();
        assert_eq!(written as u64, OWNERS_MAX as u64 + LINES_MAX);
        assert_eq!(quota.take_left_out(5 + MINUTE_NS).len(), 1);
        // However much of them each asks for: there is a limit for all, and none is left out whole.
        let mut quota = Quota::default();
        let mut by_owner = [0; OWNERS_MAX];
        for at in 0..OWNERS_MAX * 100 {
            let owner = at / 100;
            by_owner[owner] += u64::from(quota.has_room(&owner.to_string(), 5));
        }
        assert!(by_owner.iter().sum::<u64>() <= ALL_MAX + LINES_MAX + LEAST * OWNERS_MAX as u64);
        assert!(by_owner.iter().all(|lines| *lines >= LEAST), "{by_owner:?}");
        assert_eq!(quota.take_left_out(5 + MINUTE_NS).len(), OWNERS_MAX);
        assert!((0..LINES_MAX).all(|_| quota.has_room("0", 5 + MINUTE_NS)), "a minute later");
    }
}
