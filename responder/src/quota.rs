//! How many lines on what led to no entry one owner's workloads get in the ledger: whoever is refused again
//! and again must not push what else was decided out of it. Pure.

use std::collections::HashMap;

const MINUTE_NS: u64 = 60_000_000_000;
/// Lines of an owner in a minute; further ones are counted.
const LINES_MAX: u64 = 60;
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
pub(crate) struct Quota(HashMap<String, Lines>);

impl Quota {
    /// Whether one more line may be written; what may not is counted.
    pub fn has_room(&mut self, owner: &str, boot_ns: u64) -> bool {
        let known = self.0.contains_key(owner) || self.0.len() < OWNERS_MAX;
        let owner = if known { owner } else { OTHERS };
        let fresh = || Lines { since_boot_ns: boot_ns, ..Lines::default() };
        let lines = self.0.entry(owner.to_owned()).or_insert_with(fresh);
        let room = lines.written < LINES_MAX;
        *(if room { &mut lines.written } else { &mut lines.left_out }) += 1;
        room
    }

    /// What was left out in minutes that are over, by owner; they begin anew.
    pub fn take_left_out(&mut self, boot_ns: u64) -> Vec<(String, u64)> {
        let mut left_out = Vec::new();
        self.0.retain(|owner, lines| {
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
    }
}
