//! At most one notification of a class in an hour, more only where the budget asks for more: what it
//! promises. The cap binds what a person is told, never what is listed or what the responder is asked.

use std::collections::{BTreeMap, VecDeque};

use hedgerow_event::Class;
use serde::{Deserialize, Serialize};

/// A case of the same class and hour notifies all the same if it is by so many nats more surprising
/// than those that were told: what is grave is not hidden by what came before it.
const GRAVER_NATS: f64 = 3.0;
const HOUR_NS: u64 = 3_600_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;
/// Notifications of the last week that are counted; the oldest go.
const KEPT_MAX: usize = 4096;

/// What was told lately, on the clock since boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Notices {
    /// By class: the hour of the last notification, how many it had and the highest surprise.
    last: BTreeMap<Class, (u64, u32, f64)>,
    told_ns: VecDeque<u64>,
    /// Cases past the cap that nobody was told of yet, not even by number.
    listed: u64,
}

impl Notices {
    /// Whether a case notifies, of which `per_hour` are allowed (at least one).
    pub fn admit(&mut self, class: Class, per_hour: f64, now_boot_ns: u64, nats: f64) -> bool {
        let hour = now_boot_ns / HOUR_NS;
        let allowed = per_hour.ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
        // A clock that begins anew, after a boot, has no hour in common with what was told before.
        let told = self.last.get(&class).filter(|(last, ..)| *last == hour);
        let (_, count, highest) = told.copied().unwrap_or((hour, 0, 0.0));
        if count >= allowed && nats < highest + GRAVER_NATS {
            return false;
        }
        self.last.insert(class, (hour, count.saturating_add(1), highest.max(nats)));
        self.told_ns.push_back(now_boot_ns);
        if self.told_ns.len() > KEPT_MAX {
            self.told_ns.pop_front();
        }
        true
    }

    /// A case is kept without being told.
    pub fn list(&mut self) {
        self.listed += 1;
    }

    /// Cases that were listed since the last call.
    pub fn take_listed(&mut self) -> u64 {
        std::mem::take(&mut self.listed)
    }

    /// Notifications within the last day.
    pub fn of_day(&self, now_boot_ns: u64) -> usize {
        let since = now_boot_ns.saturating_sub(DAY_NS);
        self.told_ns.iter().filter(|told| (since..=now_boot_ns).contains(*told)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_class_and_hour_unless_it_is_graver() {
        let mut notices = Notices::default();
        assert!(notices.admit(Class::Measure, 0.02, 10, 8.0));
        assert!(!notices.admit(Class::Measure, 0.02, 20, 9.0));
        assert!(notices.admit(Class::Measure, 0.02, 30, 13.5));
        assert!(
            notices.admit(Class::Intrinsic, 0.02, 40, 6.0),
            "each class has a place of its own"
        );
        assert!(notices.admit(Class::Measure, 0.02, HOUR_NS + 1, 8.0));
        assert_eq!(notices.of_day(HOUR_NS + 2), 4);
        assert_eq!(notices.of_day(3 * DAY_NS), 0);
        let mut many = Notices::default();
        let told = (0..10).filter(|_| many.admit(Class::Measure, 3.2, 10, 8.0)).count();
        assert_eq!(told, 4, "a budget of more than one an hour is no less");
    }
}
