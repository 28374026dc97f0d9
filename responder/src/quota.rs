//! How many lines on what led to no entry one owner's workloads get in the ledger: whoever is refused again
//! and again must not push what else was decided out of it. Pure.

use std::collections::HashMap;

use hedgerow_event::Workload;

const MINUTE_NS: u64 = 60_000_000_000;
/// Lines of an owner in a minute; further ones are counted.
const LINES_MAX: u64 = 60;
/// Lines of all owners in a minute. A tenant, who may have any number of owners, gets no more of them than he
/// leaves to the others; whoever finds none left gets the least.
const ALL_MAX: u64 = 1000;
const LEAST: u64 = 2;
/// Owners that are told apart; all further ones of a tenant share, and so do those of further tenants.
const OWNERS_MAX: usize = 256;
const TENANTS_MAX: usize = 256;
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
    /// The minute of all, what was written in it, and of that what by each tenant.
    since_boot_ns: u64,
    written: u64,
    tenants: HashMap<String, u64>,
}

impl Quota {
    /// Whether one more line may be written; what may not is counted.
    pub fn has_room(&mut self, workload: &Workload, boot_ns: u64) -> bool {
        if boot_ns.saturating_sub(self.since_boot_ns) >= MINUTE_NS {
            (self.since_boot_ns, self.written) = (boot_ns, 0);
            self.tenants.clear();
        }
        let tenant = workload.tenant();
        let known = self.tenants.contains_key(tenant) || self.tenants.len() < TENANTS_MAX;
        let tenant = if known { tenant } else { OTHERS };
        let owner = workload.owner();
        let known = self.owners.contains_key(owner) || self.owners.len() < OWNERS_MAX;
        let owner = if known { owner } else { tenant };
        let of_tenant = self.tenants.entry(tenant.to_owned()).or_default();
        let has_share = *of_tenant < ALL_MAX.saturating_sub(self.written);
        let most = if has_share { LINES_MAX } else { LEAST };
        let lines = self
            .owners
            .entry(owner.to_owned())
            .or_insert_with(|| Lines { since_boot_ns: boot_ns, ..Lines::default() });
        let room = lines.written < most;
        *(if room { &mut lines.written } else { &mut lines.left_out }) += 1;
        // What is the least that each gets is nobody's share.
        let shared = u64::from(room && has_share);
        *of_tenant += shared;
        self.written += shared;
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
        let named = |name: &str| Workload::new(name);
        let (web, db) = (named("web.service"), named("db.service"));
        let mut quota = Quota::default();
        let written = (0..10_000).filter(|_| quota.has_room(&web, 5)).count();
        assert_eq!(written as u64, LINES_MAX);
        assert!(quota.has_room(&db, 5), "another's");
        assert!(quota.take_left_out(5 + MINUTE_NS - 1).is_empty());
        let left_out = quota.take_left_out(5 + MINUTE_NS);
        assert_eq!(left_out, [("web.service".to_owned(), 10_000 - LINES_MAX)]);
        assert!(quota.has_room(&web, 5 + MINUTE_NS), "a minute later");
    }

    #[test]
    fn however_many_owners_a_tenant_has_others_have_their_lines() {
        let mut quota = Quota::default();
        let mut ask = |name: String, times: u64| {
            let workload = Workload::new(name);
            (0..times).filter(|_| quota.has_room(&workload, 5)).count() as u64
        };
        let mut of_one =
            |name: fn(usize) -> String| (0..1000).map(|at| ask(name(at), 100)).sum::<u64>();
        let least = LEAST * OWNERS_MAX as u64;
        assert!(of_one(|at| format!("image:made-up-{at}")) <= ALL_MAX / 2 + least + LINES_MAX);
        // Though he has all owners that are told apart.
        assert!(ask("web.service".into(), 10) == 10 && ask("k8s:shop/web/x".into(), 10) == 10);
        assert!((0..5).all(|at| ask(format!("db-{at}.service"), 1) == 1));
    }

    #[test]
    fn all_tenants_together_have_a_limit_and_none_is_left_out_whole() {
        let mut quota = Quota::default();
        let mut by_owner = [0; OWNERS_MAX];
        for at in 0..OWNERS_MAX * 100 {
            let owner = at / 100;
            let workload = Workload::new(format!("{owner}.service"));
            by_owner[owner] += u64::from(quota.has_room(&workload, 5));
        }
        assert!(by_owner.iter().sum::<u64>() <= ALL_MAX + LEAST * OWNERS_MAX as u64);
        assert!(by_owner.iter().all(|lines| *lines >= LEAST), "{by_owner:?}");
        assert_eq!(quota.take_left_out(5 + MINUTE_NS).len(), OWNERS_MAX);
        let first = Workload::new("0.service");
        assert!((0..LINES_MAX).all(|_| quota.has_room(&first, 5 + MINUTE_NS)), "a minute later");
    }
}
