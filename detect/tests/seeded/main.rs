//! What an attacker, or bad luck, could do to the rule before or while attacking: each life runs
//! through the real engine on its true clock, each seeded. Afterwards what is grave by itself is
//! found all the same, and nothing more is told than was asked for.
#![allow(clippy::unwrap_used)]

#[path = "../../../features/tests/common/mod.rs"]
mod common;
mod host;
#[path = "../stats/mod.rs"]
mod stats;

use std::{collections::BTreeMap, sync::Arc};

use common::outbound;
use hedgerow_detect::Phase;
use hedgerow_event::{Aspect, Deed, FlowPhase, Subject};
use host::{DAY, GRAVE, HOUR, Host, MINUTE, tool};
use rand::Rng;
use stats::{at_most, share_interval};

/// What became of the lives of a test.
#[derive(Default)]
struct Table {
    found: BTreeMap<String, (u32, u32)>,
    false_alerts: u32,
    expected: f64,
}

impl Table {
    fn add(&mut self, row: impl ToString, found: bool) {
        let (of, all) = self.found.entry(row.to_string()).or_default();
        *of += u32::from(found);
        *all += 1;
    }

    /// Ends the part of a life in which nothing was wrong.
    fn peace(&mut self, host: &mut Host, epochs: u32) {
        self.expected += host.per_day * f64::from(epochs) / f64::from(DAY);
        for alert in host.alerts.drain(..) {
            println!("  false: {} {}", alert.class, alert.reason);
            for share in alert.attribution.iter().take(4) {
                println!("    {} {:.1} {:.2}", share.feature, share.value, share.share);
            }
            self.false_alerts += 1;
        }
    }

    /// After a life each grave deed is done, each on the host as it was then, alone in its tree, by
    /// a program that is known and never did it.
    fn attack(&mut self, host: &Host, seed: u64) {
        self.attack_by(host, seed, &GRAVE, |_| tool(0, 1));
    }

    fn attack_by(
        &mut self,
        host: &Host,
        seed: u64,
        deeds: &[Deed],
        who: impl Fn(&mut Host) -> Arc<Subject>,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.hedgerow");
        host.saved(&path);
        for deed in deeds.iter().copied() {
            let mut again = host.again(&path, seed);
            let (service, who) = (0, who(&mut again));
            let tid = again.does(service, &who, deed);
            self.add(deed, again.is_found(&who, tid));
        }
    }

    fn holds(&self, of: &str) {
        let (found, all) =
            self.found.values().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        let (low, high) = share_interval(found, all);
        println!("{of}: found {found} of {all} ({low:.3} to {high:.3})");
        println!(
            "{of}: {} false alerts where {:.1} were asked for",
            self.false_alerts, self.expected
        );
        let missed: Vec<_> = self.found.iter().filter(|(_, (found, all))| found < all).collect();
        assert!(f64::from(found) >= 0.95 * f64::from(all) && all >= 20, "{missed:?}");
        assert!(self.false_alerts <= at_most(self.expected), "{} told", self.false_alerts);
    }
}

#[test]
fn a_host_that_was_quiet_for_an_hour_is_attacked() {
    let mut table = Table::default();
    for seed in 0..5 {
        let mut host = Host::new(HOUR, 5.0, seed);
        host.activity = 0.02;
        host.live_until(Phase::Scoring);
        host.live_for(6 * HOUR);
        table.peace(&mut host, 6 * HOUR);
        table.attack(&host, seed);
    }
    table.holds("quiet");
}

#[test]
fn a_load_that_doubles_daily_hides_nothing_and_is_not_told_daily() {
    let mut table = Table::default();
    for seed in 0..3 {
        let mut host = Host::new(HOUR, 1.0, 10 + seed);
        host.activity = 0.2;
        host.load = 100.0;
        host.live_until(Phase::Scoring);
        for _ in 0..4 * 24 {
            host.live_for(HOUR);
            host.load *= 2f64.powf(1.0 / 24.0);
        }
        table.peace(&mut host, 4 * DAY);
        table.attack(&host, seed);
    }
    table.holds("load doubled daily");
}

/// Everything that a build host or a clumsy administrator does in an hour, in one service, and
/// bursts of work in all of them.
#[test]
fn an_hour_of_noise_hides_nothing_elsewhere() {
    let mut table = Table::default();
    for seed in 0..5 {
        let mut host = Host::new(HOUR, 5.0, 20 + seed);
        host.activity = 0.3;
        host.live_until(Phase::Scoring);
        let load = host.load;
        for _ in 0..60 {
            for deed in [Deed::ExecWritable, Deed::NewPeer, Deed::Namespace] {
                let stranger = host.stranger(2);
                host.does(2, &stranger, deed);
            }
            host.load = load * 10f64.powf(host.rng.gen_range(-0.5..1.0));
            host.live_for(MINUTE);
        }
        host.load = load;
        println!("  {} told in the hour of noise", host.alerts.len());
        host.alerts.clear();
        table.attack(&host, seed);
        host.live_for(5 * HOUR);
        table.peace(&mut host, 5 * HOUR);
    }
    table.holds("an hour of noise");
}

/// One container does all that it can, in several hours, so that what was held back is full of it: that
/// raises its own floor. At one a day single deeds of others are found as before; at one in ten days,
/// where no single deed is told, those of a program that was never seen.
#[test]
fn decoys_of_one_owner_hide_nothing_of_another() {
    for (per_day, hours, seeds) in [(1.0, 3, 40..43), (0.1, 1, 43..45), (0.1, 3, 45..47)] {
        let mut table = Table::default();
        for seed in seeds {
            let mut host = Host::new(HOUR, per_day, seed);
            host.activity = 0.05;
            host.live_until(Phase::Scoring);
            for hour in 0..hours {
                host.does_all(2);
                host.live_for(if hour + 1 < hours { HOUR } else { 8 * MINUTE });
            }
            assert!(!host.alerts.is_empty(), "a decoy is told");
            host.alerts.clear();
            let is_single = per_day >= 1.0;
            // That a program is new is of the same aspect as whom it was started by.
            let two = |deed: &Deed| is_single || deed.aspect() != Aspect::Lineage;
            let deeds: Vec<Deed> = GRAVE.into_iter().filter(two).collect();
            table.attack_by(&host, seed, &deeds, |host| match is_single {
                true => tool(0, 1),
                false => host.stranger(0),
            });
        }
        table.holds(&format!("{hours} hours of decoys at {per_day} a day"));
    }
}

/// One program does all of it once while it is learned; another one does it later.
#[test]
fn what_was_done_once_while_learning_is_found_of_others() {
    let mut table = Table::default();
    for (seed, part) in [Phase::Fill, Phase::Fit, Phase::Calibrate].into_iter().enumerate() {
        for seed in [30 + 2 * seed as u64, 31 + 2 * seed as u64] {
            let mut host = Host::new(HOUR, 5.0, seed);
            host.activity = 0.3;
            host.live_until(part);
            host.live_for(2 * MINUTE);
            for deed in GRAVE {
                host.does(0, &tool(0, 0), deed);
                host.live();
            }
            assert_eq!(host.engine.phase(), part);
            host.live_until(Phase::Scoring);
            host.live_for(3 * HOUR);
            table.peace(&mut host, 3 * HOUR);
            table.attack(&host, seed);
        }
    }
    table.holds("poisoned");
}

/// One deed each six minutes, each in another tree: jobs of at and cron, a socket that was handed
/// over, asked for one false alert in ten days, which none of them reaches by itself.
#[test]
fn a_patient_attacker_adds_up() {
    let mut table = Table::default();
    let plan = [
        (3, Deed::NewProgram),
        (2, Deed::Secret),
        (0, Deed::NewPeer),
        (1, Deed::SocketStreams),
        (2, Deed::Persistence),
        (3, Deed::Trace),
    ];
    for seed in 0..20 {
        let mut host = Host::new(HOUR, 0.1, 50 + seed);
        host.activity = 0.1;
        host.live_until(Phase::Scoring);
        // Something new now and then, as in any life.
        for _ in 0..12 {
            let service = host.rng.gen_range(0..4);
            if host.rng.gen_bool(0.3) {
                let is_new = host.rng.gen_bool(0.5);
                let who = if is_new { host.stranger(service) } else { tool(service, 1) };
                host.does(service, &who, Deed::NewPeer);
            }
            host.live_for(HOUR / 2);
        }
        table.peace(&mut host, 6 * HOUR);
        let (mut deeds, mut found) = (Vec::new(), false);
        for (service, deed) in plan {
            let stranger = host.stranger(service);
            let who = if deed == Deed::NewProgram { &stranger } else { &tool(service, 1) };
            deeds.push(host.does(service, who, deed));
            host.live_for(6 * MINUTE);
            found |= host.alerts.iter().any(|alert| {
                alert.process.as_ref().is_some_and(|process| deeds.contains(&(process.pid * 4)))
            });
        }
        table.add("patient", found);
        if seed == 0 {
            host.alerts.iter().for_each(|alert| println!("  {}", alert.reason));
        }
    }
    table.holds("patient");
}

/// A few kilobytes each half minute, by a program that always talks, to an address that it never
/// talked to: no window of any length stands out, the sum to the newcomer does.
#[test]
fn a_slow_theft_is_found_within_two_hours() {
    let mut table = Table::default();
    for seed in 0..20 {
        let mut host = Host::new(HOUR, 1.0, 80 + seed);
        host.activity = 0.1;
        host.live_until(Phase::Scoring);
        host.live_for(HOUR);
        table.peace(&mut host, HOUR);
        let (who, tid) = host.resident(0);
        let end = host.epoch + 2 * HOUR;
        while host.epoch < end {
            host.observe(&who, tid, outbound(FlowPhase::Start, "198.51.100.7", 443, 8_000));
            // Now and then, so that it is no beacon.
            let gap = host.rng.gen_range(1..MINUTE);
            host.live_for(gap);
        }
        table.add("theft", host.alerts.iter().any(|alert| alert.subject == who));
        if seed == 0 {
            host.alerts.iter().for_each(|alert| println!("  {}", alert.reason));
        }
    }
    table.holds("slow theft");
}
