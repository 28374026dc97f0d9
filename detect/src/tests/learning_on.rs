//! Learning on: probation, and what a day teaches.

use super::*;

/// A mature program whose file is replaced is judged as provisional from that exec on, and as before
/// once the kernel knows what the new one does.
#[test]
fn a_replaced_program_relearns_on_probation() {
    let mut host = Host::new();
    let worker = Arc::clone(&host.row("/usr/bin/worker", 101, &[]).actor.subject);
    let does = |gram: u32| GramReport {
        epoch: Epoch(0),
        subject: Arc::clone(&worker),
        grams2: vec![gram],
        grams3: vec![gram],
        grams6: vec![gram],
    };
    // Long enough for a forecast of what is still new. That so short a time supports no budget of alerts
    // has no part in it.
    let mut engine = Engine::learning(Settings { budget_per_day: 0.1, ..settings(1000) }).unwrap();
    while engine.phase() != Phase::Scoring {
        host.live(&mut engine);
        engine.grams(&does(1));
        host.close(&mut engine);
    }
    assert_eq!(engine.state_of(&worker), Maturity::Mature);
    let mut exec = host.exec("/usr/bin/worker", 102, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.replaced = true;
    }
    engine.observe(&exec);
    assert_eq!(engine.state_of(&worker), Maturity::Provisional);
    host.live(&mut engine);
    let begun = host.close(&mut engine).into_iter().find_map(|outcome| match outcome {
        Outcome::Replaced { subject, windows } => Some((subject, windows)),
        _ => None,
    });
    assert_eq!(begun, Some((Arc::clone(&worker), 600)), "the windows of fill");
    for window in 0.. {
        assert!(window < 700, "it never ends");
        assert_eq!(engine.state_of(&worker), Maturity::Provisional);
        host.live(&mut engine);
        engine.grams(&does(2));
        let outcomes = host.close(&mut engine);
        let armed = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Arm(profile) => Some(profile.programs[0].six_grams.known.word(0)),
            _ => None,
        });
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Relearned { .. })) {
            assert!(window >= 599, "{window}");
            assert_eq!(armed, Some(0b110));
            break;
        }
        assert_eq!(armed, None);
    }
    assert_eq!((engine.on_probation(), engine.state_of(&worker)), (0, Maturity::Mature));
}

/// Whoever brings more new things in a day than can wait for its end keeps nobody else's from being learned.
#[test]
fn who_does_much_that_is_new_keeps_others_from_learning_nothing() {
    let mut engine = Host::new().learn(60);
    let new = |workload: &str, at: usize| {
        let program = hedgerow_event::Program::new(format!("/opt/{at}"));
        Object::NewProgram { subject: Arc::new(Subject::new(Workload::new(workload), program)) }
    };
    (0..5000).for_each(|at| engine.wait(new("flood.service", at)));
    (0..20).for_each(|at| engine.wait(new("job.service", at)));
    (5000..9000).for_each(|at| engine.wait(new("flood.service", at)));
    let refused = engine.deeds_refused();
    assert!((9020 - 4096..9020 - 4096 + 512).contains(&(refused as usize)), "{refused}");
    assert!((0..20).all(|at| engine.unsuspected.contains(&new("job.service", at))));
}

/// What nobody suspects is learned when the day ends, over a restart too, and only what is merely new:
/// what is grave by itself waits for an operator.
#[test]
fn a_day_teaches_what_is_new_and_not_what_is_grave() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    // So strict that nothing is told; in one tree the two would be put to the responder.
    engine.set_budget(1e-9);
    let new = host.flow("/usr/sbin/web", 100, [10, 0, 0, 77], 1000);
    let attach = [libc::PTRACE_ATTACH as u64, 55, 0, 0, 0, 0];
    let grave = hedgerow_event::Call::of(libc::SYS_ptrace as i32, attach, None);
    let grave = host.event("/usr/bin/worker", 101, Origin::Call(Box::new(grave)));
    engine.observe(&new);
    engine.observe(&grave);
    let subject = Arc::clone(&new.actor.subject);
    let Origin::Flow(flow) = &new.origin else { unreachable!() };
    let peer = Object::NewPeer { subject, peer: flow.peer, protocol: Some(flow.protocol) };
    let what = "process 55 (attach)".into();
    let subject = Arc::clone(&grave.actor.subject);
    let trace = Object::Did { subject, deed: Deed::Trace, what, contact: None };
    let live = |engine: &mut Engine, host: &mut Host, epochs: u32| {
        for _ in 0..epochs {
            host.live(engine);
            host.close(engine);
        }
    };
    live(&mut engine, &mut host, 70);
    assert!(!engine.knows(&peer), "its day is not over");
    assert_eq!(engine.unsuspected.len(), 1, "{:?}", engine.unsuspected);
    let mut engine = restarted(&engine);
    assert_eq!(engine.day, 70);
    engine.day = 17_280 - 10;
    live(&mut engine, &mut host, 9);
    assert!(!engine.knows(&peer));
    live(&mut engine, &mut host, 1);
    assert!(engine.knows(&peer) && !engine.knows(&trace));
    assert!(engine.rates.has_done(Deed::Trace, &engine.context(trace.subject())), "it is counted");
    assert_eq!((engine.day, engine.unsuspected.len()), (0, 0));
}

#[test]
fn rows_that_nobody_suspects_are_kept_for_the_forest() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let kept = |engine: &Engine| {
        engine.learned[&Scale::Seconds5].recent.as_ref().map_or(0, |kept| kept.len())
    };
    host.live(&mut engine);
    host.close(&mut engine);
    assert_eq!(kept(&engine), 3, "two programs and the kernel");
    host.live(&mut engine);
    engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
    host.close(&mut engine);
    assert_eq!(kept(&engine), 5, "all but the one that is told");
    engine.pause(Paused { all: true, ..Paused::default() });
    host.live(&mut engine);
    host.close(&mut engine);
    assert_eq!(kept(&engine), 5);
}

/// What a program does now and then, and was not seen to do while it was learned, is known from the
/// next day on: the kernel gets to know it. What it did on a day on which it was suspected isn't.
#[test]
fn a_day_teaches_sequences_of_calls_that_nobody_suspects() {
    let mut host = Host::new();
    let [web, worker] = ["/usr/sbin/web", "/usr/bin/worker"]
        .map(|program| Arc::clone(&host.row(program, 1, &[]).actor.subject));
    let does = |subject: &Arc<Subject>, gram: u32| GramReport {
        epoch: Epoch(0),
        subject: Arc::clone(subject),
        grams2: vec![gram],
        grams3: vec![gram],
        grams6: vec![gram],
    };
    let mut engine = Engine::learning(settings(60)).unwrap();
    while engine.phase() != Phase::Scoring {
        host.live(&mut engine);
        engine.grams(&does(&web, 1));
        engine.grams(&does(&worker, 1));
        host.close(&mut engine);
    }
    engine.day = 17_280 - 4;
    host.live(&mut engine);
    engine.grams(&does(&web, 2));
    engine.grams(&does(&worker, 2));
    host.close(&mut engine);
    let mut engine = restarted(&engine);
    host.live(&mut engine);
    engine.grams(&does(&web, 2));
    engine.grams(&does(&web, 3));
    engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
    assert_eq!(findings(host.close(&mut engine)).len(), 1);
    host.live(&mut engine);
    engine.grams(&does(&worker, 3));
    host.close(&mut engine);
    host.live(&mut engine);
    let armed = host.close(&mut engine).into_iter().find_map(|outcome| match outcome {
        Outcome::Arm(profile) => Some(profile),
        _ => None,
    });
    let known = |profile: &Profile, of: &Arc<Subject>| {
        let program = profile.programs.iter().find(|program| grams::is_of(program, of)).unwrap();
        let sets = [&program.two_grams, &program.three_grams, &program.six_grams];
        sets.map(|set| set.known.word(0))
    };
    let armed = armed.expect("the day is over");
    assert_eq!(known(&armed, &web), [0b1110; 3]);
    assert_eq!(known(&armed, &worker), [0b10; 3]);
    let engine = restarted(&engine);
    assert_eq!(known(engine.profile().unwrap(), &web), [0b1110; 3]);
}

/// What was not looked at is not learned to be rare, in a minute of which only a part was shed neither.
#[test]
fn of_a_window_of_which_a_part_was_shed_nothing_is_learned() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let tails = |engine: &Engine| -> Vec<_> {
        engine.learned.values().map(|learned| learned.tails.clone()).collect()
    };
    let mut end = |engine: &mut Engine, shed: bool| {
        host.live(engine);
        let close = EpochClose { shed, ..common::close(host.epoch) };
        host.epoch += 1;
        let outcomes = engine.close(&close).unwrap();
        outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Windows(windows) => Some(windows),
            _ => None,
        })
    };
    let minute = Scale::Minute.epochs();
    let before = tails(&engine);
    let hours = |engine: &Engine| (engine.floors.watched(), engine.floors.whole());
    let (watched, whole) = hours(&engine);
    for _ in 0..2 * minute {
        let windows = end(&mut engine, true).unwrap();
        for window in windows.iter().filter(|window| window.time.scale == Scale::Seconds5) {
            assert!(window.time.shed && window.value("files_opens_count").is_none());
            assert!(window.subject.is_host() || window.value("volume_calls_count").is_some());
        }
    }
    assert_eq!(tails(&engine), before);
    assert!(hours(&engine).0 > watched && (hours(&engine).1 - whole).abs() < 1e-9);
    for _ in 0..minute {
        let windows = end(&mut engine, false).unwrap();
        let longer = windows.iter().filter(|window| window.time.scale == Scale::Minute);
        longer.for_each(|window| assert!(window.time.shed && !engine.learns_of(window)));
    }
    assert_ne!(tails(&engine), before);
}
