//! At most one notification of a class in an hour, more only where the budget asks for more: what it
//! promises. What is grave by itself has one of each of a few owners of workloads, so that noise of one
//! hides nothing of another. The cap binds what a person is told, never what is listed or what the
//! responder is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hedgerow_event::{Class, Workload};
use serde::{Deserialize, Serialize};

/// A case of the same class and hour notifies all the same if it is by so many nats more surprising
/// than those that were told: what is grave is not hidden by what came before it.
pub const GRAVER_NATS: f64 = 3.0;
/// Owners with a place of their own for what is grave, in an hour.
const OWNERS_MAX: usize = 4;
const HOUR_NS: u64 = 3_600_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;
/// Tenants who wait for a place, and who had one.
const WAITING_MAX: usize = 256;
/// Notifications of the last week that are counted; the oldest go.
const KEPT_MAX: usize = 4096;

/// What was told lately, on the clock since boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Notices {
    /// The boot that the clock runs since.
    #[serde(default)]
    boot_id: String,
    /// By class: the hour of the last notification, how many it had and the highest surprise.
    last: BTreeMap<Class, (u64, u32, f64)>,
    /// Owners that had one for what is grave in that hour.
    #[serde(default)]
    grave: BTreeSet<String>,
    told_ns: VecDeque<u64>,
    /// Whose turn it is among those who were told of amounts.
    #[serde(default)]
    turns: Turns,
    /// Those that nobody was told of yet, not even by number.
    #[serde(default)]
    not_told: Listed,
}

/// Why a case is listed, and nobody is told of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NotTold {
    /// Its class had its notifications of this hour.
    Room,
    /// An amount alone, of a program that is known too little, by so many hours.
    LittleKnown(f64),
    /// It lies below its floor: the responder alone was asked.
    BelowFloor,
}

/// Cases that were listed, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub no_room: u64,
    pub little_known: u64,
    pub below_floor: u64,
    /// The most hours that were missing to one of which too little is known.
    pub hours_missing: f64,
}

/// Places for amounts go round: whoever found none has the next hour's before those who were told later, and
/// where he doesn't come nobody has it. So nobody who is loud in each hour has all of them, and no hour has more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Turns {
    /// By tenant the hour in which he was last told of.
    told: BTreeMap<String, u64>,
    /// Who found no place, in which hour, and the highest surprise then.
    waiting: BTreeMap<String, (u64, f64)>,
}

impl Turns {
    /// Whether he has one of so many places: others who are before him don't need them all.
    fn is_first(&self, tenant: &str, places: u32, hour: u64, nats: f64) -> bool {
        let own = self.told.get(tenant);
        let before = |(other, (since, theirs)): &(&String, &(u64, f64))| {
            *other != tenant
                && hour <= since + 1
                && self.told.get(*other) < own
                && nats < theirs + GRAVER_NATS
        };
        (self.waiting.iter().filter(before).count() as u64) < u64::from(places)
    }

    fn waits(&mut self, tenant: &str, hour: u64, nats: f64) {
        self.waiting.retain(|_, (since, _)| hour <= *since + 1);
        if self.waiting.len() < WAITING_MAX || self.waiting.contains_key(tenant) {
            let waits = self.waiting.entry(tenant.to_owned()).or_default();
            *waits = (hour, waits.1.max(nats));
        }
    }

    fn told(&mut self, tenant: &str, hour: u64) {
        self.waiting.remove(tenant);
        self.told.insert(tenant.to_owned(), hour);
        if self.told.len() > WAITING_MAX {
            let oldest = self.told.iter().min_by_key(|(_, told)| **told);
            let oldest = oldest.map(|(tenant, _)| tenant.clone());
            oldest.and_then(|oldest| self.told.remove(&oldest));
        }
    }
}

impl NotTold {
    /// For the end of a finding's reason.
    pub fn words(self) -> String {
        match self {
            Self::Room => "this hour's notification of its class is spent, or another's".into(),
            Self::LittleKnown(hours) => {
                format!("amounts alone are told once its program is known for {hours:.0} h more")
            }
            Self::BelowFloor => "it lies below its floor, and went to the responder only".into(),
        }
    }
}

impl Listed {
    pub fn cases(&self) -> u64 {
        self.no_room + self.little_known + self.below_floor
    }
}

impl Notices {
    /// Goes on in a boot; true where that is another one, of which no hour is an hour that something was
    /// told in.
    pub fn begin_boot(&mut self, boot_id: &str) -> bool {
        let is_new = self.boot_id != boot_id;
        if is_new {
            *self = Self { not_told: self.not_told, ..Self::default() };
            boot_id.clone_into(&mut self.boot_id);
        }
        is_new
    }

    /// Whether a case of a workload notifies, of which `per_hour` are allowed (at least one).
    pub fn admit(
        &mut self,
        (class, workload): (Class, &Workload),
        per_hour: f64,
        now_boot_ns: u64,
        nats: f64,
    ) -> bool {
        let hour = now_boot_ns / HOUR_NS;
        let allowed = per_hour.ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
        let told = self.last.get(&class).filter(|(last, ..)| *last == hour);
        let (_, count, highest) = told.copied().unwrap_or((hour, 0, 0.0));
        if class == Class::Intrinsic && count == 0 {
            self.grave.clear();
        }
        let is_elsewhere = class == Class::Intrinsic
            && self.grave.len() < OWNERS_MAX
            && !self.grave.contains(workload.owner());
        let left = allowed.saturating_sub(count);
        let has_place = match class {
            Class::Measure => self.turns.is_first(workload.tenant(), left, hour, nats),
            _ => left > 0,
        };
        let is_graver = count > 0 && nats >= highest + GRAVER_NATS;
        if !has_place && !is_graver && !is_elsewhere {
            if class == Class::Measure {
                self.turns.waits(workload.tenant(), hour, nats);
            }
            return false;
        }
        if class == Class::Measure {
            self.turns.told(workload.tenant(), hour);
        }
        if class == Class::Intrinsic && self.grave.len() < OWNERS_MAX {
            self.grave.insert(workload.owner().to_owned());
        }
        self.last.insert(class, (hour, count.saturating_add(1), highest.max(nats)));
        self.told_ns.push_back(now_boot_ns);
        if self.told_ns.len() > KEPT_MAX {
            self.told_ns.pop_front();
        }
        true
    }

    /// A case is kept without being told.
    pub fn list(&mut self, why: NotTold) {
        let listed = &mut self.not_told;
        match why {
            NotTold::Room => listed.no_room += 1,
            NotTold::LittleKnown(hours) => {
                listed.little_known += 1;
                listed.hours_missing = listed.hours_missing.max(hours);
            }
            NotTold::BelowFloor => listed.below_floor += 1,
        }
    }

    /// Cases that were listed since the last call.
    pub fn take_listed(&mut self) -> Listed {
        std::mem::take(&mut self.not_told)
    }

    /// Notifications within the last day, of this boot.
    pub fn of_day(&self, now_boot_ns: u64) -> usize {
        let since = now_boot_ns.saturating_sub(DAY_NS);
        self.told_ns.iter().filter(|told| (since..=now_boot_ns).contains(*told)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(notices: &mut Notices, class: Class, of: &str, now: u64, nats: f64) -> bool {
        notices.admit((class, &Workload::new(of)), 0.02, now, nats)
    }

    #[test]
    fn one_a_class_and_hour_unless_it_is_graver() {
        let mut notices = Notices::default();
        assert!(admit(&mut notices, Class::Measure, "a", 10, 8.0));
        assert!(!admit(&mut notices, Class::Measure, "b", 20, 9.0));
        assert!(admit(&mut notices, Class::Measure, "a", 30, 13.5));
        assert!(
            admit(&mut notices, Class::Intrinsic, "a", 40, 6.0),
            "each class has a place of its own"
        );
        assert!(admit(&mut notices, Class::Measure, "b", HOUR_NS + 1, 8.0));
        assert_eq!(notices.of_day(HOUR_NS + 2), 4);
        assert_eq!(notices.of_day(3 * DAY_NS), 0);
        let mut many = Notices::default();
        let here = Workload::new("a");
        let told = (0..10).filter(|_| many.admit((Class::Measure, &here), 3.2, 10, 8.0)).count();
        assert_eq!(told, 4, "a budget of more than one an hour is no less");
    }

    #[test]
    fn noise_in_one_workload_takes_no_place_from_what_is_grave_in_another() {
        let mut notices = Notices::default();
        let grave =
            |notices: &mut Notices, of: &str, now| admit(notices, Class::Intrinsic, of, now, 9.0);
        assert!(grave(&mut notices, "noisy", 10));
        assert!(!grave(&mut notices, "noisy", 20));
        assert!(grave(&mut notices, "web", 30));
        let told = (0..20).filter(|at| grave(&mut notices, &format!("s{at}"), 40)).count();
        assert_eq!(told, OWNERS_MAX - 2, "a host that is noisy all over is told no more");
        let names = (0..20).map(|at| format!("user@1.service/{at}.service"));
        let told = names.filter(|name| grave(&mut notices, name, 2 * HOUR_NS)).count();
        assert_eq!(told, 1, "names that one user makes are one owner's");
        assert!(grave(&mut notices, "web", 2 * HOUR_NS + 1));
        let mut notices = Notices::default();
        assert!(grave(&mut notices, "web", 10));
        assert!(grave(&mut notices, "noisy", HOUR_NS));
        assert!(grave(&mut notices, "web", HOUR_NS + 1));
    }

    #[test]
    fn who_is_loud_in_each_hour_leaves_places_to_others_and_no_hour_has_more() {
        let mut notices = Notices::default();
        let mut told = |hour: u64, of: &[(&str, f64)]| -> Vec<usize> {
            let told = |(of, nats): &(&str, f64)| {
                admit(&mut notices, Class::Measure, of, hour * HOUR_NS + 1, *nats)
            };
            let told: Vec<bool> = of.iter().map(told).collect();
            (0..told.len()).filter(|at| told[*at]).collect()
        };
        let (loud, web, db) = (("image:loud", 9.0), ("web", 8.0), ("db", 8.0));
        assert_eq!(told(0, &[loud, web, db]), [0]);
        // Whatever he calls himself, and however often he asks first.
        assert_eq!(told(1, &[("image:made-up", 9.0), loud, web, db]), [2]);
        assert_eq!(told(2, &[loud, web, db]), [2]);
        assert_eq!(told(3, &[loud, web, db]), [0]);
        assert_eq!(told(4, &[loud, web, db]), [1]);
        // Who waited is over: the place is spent, and the next hour is anybody's.
        assert_eq!(told(5, &[loud]), [0usize; 0]);
        assert_eq!(told(6, &[loud]), [0]);
        // What is far graver waits for nobody.
        assert_eq!(told(6, &[db]), [0usize; 0]);
        assert_eq!(told(7, &[("image:loud", 13.0), db]), [0]);
    }

    #[test]
    fn the_first_hour_of_a_boot_is_not_that_of_the_last() {
        let mut notices = Notices::default();
        assert!(notices.begin_boot("a"));
        assert!(admit(&mut notices, Class::Novelty, "web", 10, 8.0));
        assert!(!notices.begin_boot("a") && !admit(&mut notices, Class::Novelty, "web", 20, 8.0));
        notices.list(NotTold::Room);
        assert!(notices.begin_boot("b") && notices.of_day(30) == 0);
        assert!(admit(&mut notices, Class::Novelty, "web", 30, 8.0));
        assert_eq!(notices.take_listed().cases(), 1, "it is still to be told by number");
    }
}
