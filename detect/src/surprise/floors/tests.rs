#![allow(clippy::unwrap_used)]
use super::*;

fn context(program: u64) -> Context {
    Context { workload: Workload::new("web.service"), program }
}

fn rates(hours: f64) -> Rates {
    let mut rates = Rates::default();
    rates.know((0..5).map(|at| (Workload::new(format!("s{at}")), 3)).collect());
    rates.watch(hours, true);
    rates
}

#[test]
fn a_grave_deed_notifies_from_the_first_minute_and_a_new_program_does_not() {
    let rates = rates(0.02);
    let mut floors = Floors::new(1.0);
    floors.watch(0, 0.02, false);
    floors.solve(&rates, Measured { programs: 20, hours: 0.02 });
    let memory = rates.surprise(Deed::ExecMemory, &context(1), 0.0);
    assert!(memory >= floors.floor(Class::Intrinsic), "{memory} {floors:?}");
    let program = rates.surprise(Deed::NewProgram, &context(1), 0.0);
    assert!(program < floors.floor(Class::Novelty), "{program} {floors:?}");
    let promise = floors.promise();
    assert!(promise.expected_per_day <= 1.0, "{promise:?}");
    assert!(!floors.supports(Class::Intrinsic));
}

#[test]
fn hours_above_the_floor_raise_it_until_the_rate_is_kept() {
    let (rates, web) = (rates(400.0), Workload::new("web.service"));
    let mut floors = Floors::new(1.0);
    for hour in 0..400u64 {
        floors.watch(hour, 1.0, false);
        floors.hold_back_measure(&web, hour as f64 / 40.0);
    }
    floors.rescore_all(&rates);
    floors.solve(&rates, Measured { programs: 1, hours: 400.0 });
    let floor = floors.floor_for(Class::Measure, &web);
    let above = (0..400).filter(|at| f64::from(*at) / 40.0 >= floor).count();
    // A fifth of one a day is one hour of 120, of those that were watched and the prior's.
    assert!((1..=3).contains(&above), "{floor}");
    assert!(floors.supports(Class::Measure));
    let raised = {
        let mut less = floors.clone();
        less.ask(0.1);
        less.solve(&rates, Measured { programs: 1, hours: 400.0 });
        less.floor_for(Class::Measure, &web)
    };
    assert!(raised > floor);
}

#[test]
fn work_that_nobody_has_seen_yet_is_expected_while_little_is_known() {
    let floors = |per_day: f64, watched: u64, hours: f64| {
        let mut floors = Floors::new(per_day);
        (0..watched).for_each(|hour| floors.watch(hour, 1.0, false));
        floors.solve(&rates(400.0), Measured { programs: 20, hours });
        assert!(floors.floor(Class::Measure).is_finite());
        assert!(floors.tells(Class::Intrinsic, 0.0));
        floors
    };
    let tells =
        |per_day, watched, hours, own| floors(per_day, watched, hours).tells(Class::Measure, own);
    assert!(!tells(1.0, 24, 24.0, 24.0) && tells(1.0, 100, 100.0, 100.0));
    // A quarter of an hour that is lived again and again stays one; who asks for more is told sooner.
    assert!(!tells(1.0, 168, 1.0, 168.0) && tells(24.0, 6, 6.0, 6.0));
    // A program of yesterday is not known by what its host is.
    assert!(!tells(1.0, 400, 400.0, 5.0));
    for (watched, hours) in [(0, 0.0), (24, 24.0), (400, 5.0)] {
        let missing = floors(1.0, watched, hours).hours_missing(hours).ceil();
        let after = |more: f64| tells(1.0, watched + more as u64, hours + more, hours + more);
        assert!(after(missing) && !after(missing - 2.0), "{missing} h after {watched}");
    }
    assert_eq!(floors(1.0, 100, 100.0).hours_missing(100.0), 0.0);
}

#[test]
fn conjunction_adds_within_a_tree_and_measures_stay_apart() {
    let deeds = [(Deed::NewProgram, 2.0), (Deed::NewPeer, 3.0), (Deed::SocketStreams, 7.0)];
    let found = by_class(deeds.into_iter());
    assert_eq!(found[&Class::Intrinsic], 12.0);
    assert_eq!(found[&Class::Novelty], 5.0);
    assert!(!found.contains_key(&Class::Measure));
}

fn told(workload: &str, deeds: &[Deed]) -> Told {
    let context = Context { workload: Workload::new(workload), program: 1 };
    let deeds = deeds.iter().map(|deed| (*deed, context.clone(), 1.0)).collect();
    Told { deeds, workload: None, cases: vec![format!("case of {workload}")], counted: true }
}

const LOUD: [Deed; 5] =
    [Deed::ExecMemory, Deed::Privilege, Deed::Trace, Deed::Secret, Deed::Persistence];

/// Floors after some hours, in the first of which each of some workloads did all that it could.
fn after(per_day: f64, hours: u64, loud: &[(&str, u64)]) -> (Floors, Rates) {
    let rates = rates(hours as f64);
    let mut floors = Floors::new(per_day);
    for hour in 0..hours {
        floors.watch(hour, 1.0, false);
        for (workload, _) in loud.iter().filter(|(_, of)| hour < *of) {
            floors.hold_back(60.0, told(workload, &LOUD));
        }
    }
    floors.rescore_all(&rates);
    floors.solve(&rates, Measured { programs: 20, hours: hours as f64 });
    (floors, rates)
}

/// Decoys raise the floor of who does them, of those whom he names, and of nobody else.
#[test]
fn who_does_decoys_raises_his_own_floor() {
    for (per_day, hours) in [(0.1, 2), (0.1, 400), (1.0, 2), (1.0, 24), (1.0, 168), (5.0, 24)] {
        let floor =
            |floors: &Floors, of: &str| floors.floor_for(Class::Intrinsic, &Workload::new(of));
        let (quiet, _) = after(per_day, hours, &[]);
        let mut decoys = vec![("user@1.service/a", hours), ("user@1.service/b", hours)];
        let (loud, _) = after(per_day, hours, &decoys);
        let (before, now) = (floor(&quiet, "web.service"), floor(&loud, "web.service"));
        assert_eq!(now, before, "{per_day} {hours}");
        assert!(floor(&loud, "user@1.service/c") > 30.0, "{per_day} {hours}");
        assert_eq!(now, loud.floor(Class::Intrinsic));
        // What the victim had itself once, a day after learning, doesn't lend it another's floor.
        decoys.push(("web.service", 1));
        let (both, rates) = after(per_day, hours, &decoys);
        let own: f64 = LOUD
            .iter()
            .map(|deed| rates.surprise(*deed, &told("web.service", &LOUD).deeds[0].1, 0.0))
            .sum();
        assert!(floor(&both, "web.service") < own + 1e-3, "{per_day} {hours}");
    }
}

/// Whatever one owner measures, in however many workloads of his: the floor of the others' measures is as it was.
#[test]
fn who_is_loud_raises_the_floor_of_his_own_measures() {
    let measured = Measured { programs: 20, hours: 400.0 };
    for (per_day, loud) in [(0.1, 2), (0.1, 400), (1.0, 24), (1.0, 400), (5.0, 400)] {
        let rates = rates(400.0);
        let (mut quiet, mut noisy) = (Floors::new(per_day), Floors::new(per_day));
        for hour in 0..400u64 {
            for floors in [&mut quiet, &mut noisy] {
                floors.watch(hour, 1.0, false);
                floors.hold_back_measure(&Workload::new("web.service"), (hour % 10) as f64);
            }
            if hour < loud {
                for name in 0..2 * MEASURES_MAX {
                    let job = Workload::new(format!("user@1.service/{name}.service"));
                    noisy.hold_back_measure(&job, 60.0);
                }
            }
        }
        for floors in [&mut quiet, &mut noisy] {
            floors.rescore_all(&rates);
            floors.solve(&rates, measured);
        }
        let floor =
            |floors: &Floors, of: &str| floors.floor_for(Class::Measure, &Workload::new(of));
        assert_eq!(floor(&noisy, "web.service"), floor(&quiet, "web.service"), "{per_day} {loud}");
        assert!(floor(&noisy, "user@1.service/other") > 9.0 || loud < 24, "{per_day} {loud}");
    }
    // As many owners as there may be: who was least surprising makes room.
    let mut floors = Floors::new(1.0);
    floors.watch(0, 1.0, false);
    (0..2 * MEASURES_MAX).for_each(|at| {
        floors.hold_back_measure(&Workload::new(format!("{at}.service")), (at / 2) as f64);
    });
    let kept = &floors.hours[0].measures;
    assert_eq!(kept.len(), MEASURES_MAX);
    assert!(kept.values().all(|nats| *nats >= (MEASURES_MAX / 2) as f64));
}

/// What an older version saved is anybody's: it holds up the floor of all.
#[test]
fn measures_that_were_saved_without_owners_count_for_all() {
    let (mut floors, rates) = after(1.0, 200, &[]);
    for hour in &mut floors.hours {
        hour.measure = 20.0;
    }
    floors.rescore_all(&rates);
    floors.solve(&rates, Measured { programs: 20, hours: 200.0 });
    assert!(floors.floor_for(Class::Measure, &Workload::new("web.service")) > 20.0);
}

#[test]
fn hours_of_which_something_was_shed_are_told_in_and_support_nothing() {
    let of = |shed: bool| {
        let mut floors = Floors::new(1.0);
        (0..400).for_each(|hour| floors.watch(hour, 1.0, shed));
        floors.solve(&rates(400.0), Measured { programs: 20, hours: 400.0 });
        floors
    };
    let (whole, shed) = (of(false), of(true));
    assert_eq!((&shed.floors, shed.watched()), (&whole.floors, 400.0));
    for class in Class::ALL {
        assert!(whole.supports(class) && !shed.supports(class));
    }
    assert!(whole.tells(Class::Measure, 100.0) && !shed.tells(Class::Measure, 100.0));
    assert!(shed.hours_missing(100.0) > 0.0);
}

#[test]
fn what_was_confirmed_to_be_an_attack_decides_no_floor() {
    let (mut floors, rates) = after(1.0, 24, &[("web.service", 3), ("db.service", 1)]);
    let (quiet, _) = after(1.0, 24, &[("db.service", 1)]);
    let cases = BTreeSet::from(["case of web.service", "another"]);
    assert_eq!(floors.confirm(&cases, &rates), 3);
    assert_eq!(floors.confirm(&cases, &rates), 0, "once");
    floors.solve(&rates, Measured { programs: 20, hours: 24.0 });
    assert_eq!(floors.raised, quiet.raised);
    assert_eq!(floors.floors, quiet.floors);
    assert_eq!(floors.watched(), 24.0, "it was watched all the same");
}

/// An hour is rescored without what was counted of it, as far as that is remembered: not without what never
/// was, nor without more than there is.
#[test]
fn an_hour_is_rescored_without_its_own_part_alone() {
    let who = context(1);
    let of = |minutes: f64, counted| Told {
        deeds: vec![(Deed::Trace, who.clone(), minutes)],
        counted,
        ..told("web.service", &[])
    };
    let mut rates = rates(400.0);
    rates.count(Deed::Trace, &who, 7);
    let mut floors = Floors::new(1.0);
    floors.watch(0, 1.0, false);
    floors.hold_back(9.0, of(1.0, false));
    floors.rescore_all(&rates);
    let highest = |floors: &Floors, at: usize| floors.hours[at].highest(Class::Intrinsic, None);
    assert_eq!(highest(&floors, 0), rates.surprise(Deed::Trace, &who, 0.0));
    // A long tree of a month ago, and another one of today.
    let mut rates = self::rates(800.0);
    let mut floors = Floors::new(1.0);
    for (hour, minutes) in [(0, 40), (700, 15)] {
        floors.watch(hour, 1.0, false);
        floors.hold_back(9.0, of(minutes as f64, true));
        (0..minutes).for_each(|minute| rates.count(Deed::Trace, &who, 60 * hour + minute));
        for hour in hour + 1..700 {
            floors.watch(hour, 1.0, false);
            rates.watch(1.0, true);
        }
    }
    floors.rescore_all(&rates);
    let never = rates.surprise(Deed::Trace, &context(2), 0.0);
    assert!(highest(&floors, 0) < never - 3.0, "{} {never}", highest(&floors, 0));
}

#[test]
fn a_flood_of_trees_drops_those_of_who_floods() {
    let mut floors = Floors::new(1.0);
    floors.watch(0, 1.0, false);
    floors.hold_back(9.0, told("web.service", &[Deed::Trace]));
    (0..100).for_each(|at| floors.hold_back(50.0 + f64::from(at), told("job.service", &LOUD)));
    let kept = &floors.hours[0].trees;
    assert_eq!(kept.len(), TREES_MAX);
    assert!(kept.iter().any(|(_, told)| told.owner() == "web.service"));
    assert!(kept.iter().any(|(nats, _)| *nats == 149.0));
}
