//! How much of what is only listed each tenant gets into the findings' file and to the sinks: who makes one
//! finding after the other that nobody is told of must not push what others did out of the file, nor fill a
//! spool before the attack that follows. What is alerted is always given. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hedgerow_event::{Activity, Finding, Workload};
use lru::LruCache;

const HOUR: Duration = Duration::from_secs(3600);
/// Bytes of all listed reports in an hour, as records of a spool, which are some four times what the file of
/// findings gets: of its own accord a spool lasts three of them. A tenant gets no more than he leaves to the
/// others; whoever finds none left gets the least.
const ALL_BYTES: usize = 16 << 20;
const LEAST_BYTES: usize = 256 << 10;
/// Tenants that are told apart; all further ones share.
const TENANTS_MAX: usize = 256;
const OTHERS: &str = "others";
/// Owners of one tenant, such as containers of one runtime, that get the least each where he has no share left.
const OWNERS_MAX: usize = 256;
/// Listed cases whose close is given; the oldest make room.
const OPEN_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    left_out: u64,
}

#[derive(Debug)]
pub struct Shares {
    /// When this hour began, and what of it is taken.
    since: Option<Instant>,
    bytes: usize,
    tenants: HashMap<String, Share>,
    /// Bytes of owners whose tenant has no share left: containers of one runtime are one tenant.
    owners: HashMap<String, usize>,
    /// What was listed and not closed.
    open: LruCache<String, ()>,
    left_out: u64,
    untold: Vec<String>,
}

impl Default for Shares {
    fn default() -> Self {
        let (since, bytes, left_out) = (None, 0, 0);
        let (tenants, owners, untold) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { since, bytes, tenants, owners, open: LruCache::unbounded(), left_out, untold }
    }
}

impl Shares {
    /// This was listed, by an earlier run or now; its close is given.
    pub fn expect_close(&mut self, uid: &str) {
        self.open.put(uid.to_owned(), ());
        if self.open.len() > OPEN_MAX {
            self.open.pop_lru();
        }
    }

    /// Whether this was listed and is not closed.
    pub fn is_open(&self, uid: &str) -> bool {
        self.open.contains(uid)
    }

    /// Whether a report of so many bytes is given; what isn't is counted. What `is_owed` is given always: an
    /// entry, or an operator's mute, names it. The close of a listed case is paid
    /// for by its first report, so that whoever keeps cases has none open for ever.
    pub fn admit(&mut self, finding: &Finding, bytes: usize, is_owed: bool, now: Instant) -> bool {
        self.turn(now);
        let is_closed = finding.activity == Activity::Close;
        let is_known = match is_closed {
            true => self.open.pop(&finding.uid).is_some(),
            false => self.open.get(&finding.uid).is_some(),
        };
        if finding.disposition.is_alert() || (is_closed && is_known) {
            return true;
        }
        if is_owed {
            self.expect_close(&finding.uid);
            return true;
        }
        let cost = if is_known { bytes } else { bytes.saturating_mul(2) };
        let is_given = !is_closed && self.take(&finding.subject.workload, cost);
        match is_given {
            true => self.expect_close(&finding.uid),
            false => self.left_out += 1,
        }
        is_given
    }

    /// Another hour: what was left out in the one that is over is told.
    fn turn(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) < HOUR) {
            return;
        }
        (self.since, self.bytes) = (Some(now), 0);
        self.owners.clear();
        for (tenant, share) in std::mem::take(&mut self.tenants) {
            if share.left_out > 0 {
                self.untold.push(format!(
                    "{} findings of {tenant}, of which nobody was to be told, were past its share of \
                     their hour: no file and no sink has them",
                    share.left_out
                ));
            }
        }
    }

    fn take(&mut self, workload: &Workload, bytes: usize) -> bool {
        let (tenant, owner) = (workload.tenant(), workload.owner());
        let known = self.tenants.contains_key(tenant) || self.tenants.len() < TENANTS_MAX;
        let tenant = if known { tenant } else { OTHERS };
        let share = self.tenants.entry(tenant.to_owned()).or_default();
        let of_all = ALL_BYTES.saturating_sub(self.bytes);
        let is_given = share.bytes + bytes <= of_all.max(LEAST_BYTES);
        if is_given {
            share.bytes += bytes;
            self.bytes += bytes;
            return true;
        }
        let own = self.owners.get(owner).copied();
        let is_counted = own.is_some() || self.owners.len() < OWNERS_MAX;
        if owner != tenant && is_counted && own.unwrap_or(0) + bytes <= LEAST_BYTES {
            self.owners.insert(owner.to_owned(), own.unwrap_or(0) + bytes);
            return true;
        }
        if share.left_out == 0 {
            self.untold.push(format!(
                "{tenant} has had its share of the findings of which nobody is told, for this hour: further \
                 ones are counted, and go to no file and no sink"
            ));
        }
        share.left_out += 1;
        false
    }

    /// Reports that were left out, since the start.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whose share is used up, and what that has cost: two a tenant and hour.
    pub fn take_untold(&mut self, now: Instant) -> Vec<String> {
        self.turn(now);
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::Disposition;

    use super::{
        super::killed::common::{finding, of_workload},
        *,
    };

    const LARGE: usize = 200_000;

    fn listed(number: u32, workload: &str) -> Finding {
        let finding = Finding { disposition: Disposition::Suppressed, ..finding(number) };
        of_workload(finding, workload)
    }

    #[test]
    fn who_lists_without_end_leaves_room_to_others_and_alerts_have_no_share() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        // One tenant with as many owners of workloads as he likes.
        let flood = (0..5000).map(|number| listed(number, &format!("image:made-up-{number}")));
        let given = flood.filter(|one| shares.admit(one, LARGE, false, now)).count();
        assert!((given * 2 * LARGE).abs_diff(ALL_BYTES / 2) <= 2 * LARGE, "{given}");
        assert_eq!(shares.left_out(), 5000 - given as u64);
        assert!(shares.admit(&listed(6000, "web.service"), LARGE, false, now), "another's");
        // Of the same tenant, whose share others have used up: he has the least of his own, and what was
        // denied for is given.
        let own = listed(6003, "image:quiet");
        assert!(shares.admit(&own, LEAST_BYTES / 4, false, now), "an owner's first");
        assert!(!shares.admit(&listed(6004, "image:quiet"), LARGE, false, now));
        assert!(shares.admit(&listed(6005, "image:quiet"), LARGE, true, now), "it was denied");
        assert!(shares.is_open(&listed(6005, "image:quiet").uid));
        let of_one = of_workload(finding(6001), "image:made-up-1");
        assert!(shares.admit(&of_one, LARGE, false, now), "an alert");
        let told = shares.take_untold(now);
        assert!(told.len() == 1 && told[0].starts_with("image has had its share"), "{told:?}");
        let later = now + HOUR;
        let told = shares.take_untold(later);
        assert!(told.len() == 1 && told[0].contains("findings of image, "), "{told:?}");
        assert!(
            shares.admit(&listed(6002, "image:made-up-1"), LARGE, false, later),
            "an hour later"
        );
        assert!(shares.take_untold(later).is_empty());
    }

    #[test]
    fn what_was_listed_is_closed_and_what_was_left_out_is_not() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        let close =
            |number, workload| Finding { activity: Activity::Close, ..listed(number, workload) };
        let given: Vec<bool> =
            (0..200).map(|at| shares.admit(&listed(at, "1.service"), LARGE, false, now)).collect();
        assert!(given[0] && !given[199]);
        for (number, given) in (0..).zip(given) {
            assert_eq!(
                shares.admit(&close(number, "1.service"), LARGE, false, now),
                given,
                "{number}"
            );
        }
        shares.expect_close(&listed(500, "1.service").uid);
        assert!(shares.admit(&close(500, "1.service"), LARGE, false, now), "of an earlier run");
        // What was left out and is alerted later is closed as alerts are.
        assert!(shares.admit(&of_workload(finding(199), "1.service"), LARGE, false, now));
    }

    #[test]
    fn however_many_tenants_there_are_each_has_something() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        for number in 0..10_000 {
            shares.admit(&listed(number, &format!("{}.service", number % 100)), LARGE, false, now);
        }
        assert!(shares.admit(&listed(20_000, "late.service"), LEAST_BYTES / 2, false, now));
        assert!(shares.bytes <= ALL_BYTES + TENANTS_MAX * LEAST_BYTES);
    }
}
