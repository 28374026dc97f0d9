#![allow(clippy::unwrap_used)]

use hedgerow_event::{
    Activity, Actor, Deed, Epoch, Exec, Flow, FlowDirection, FlowPhase, HostCounters, Object, Peer,
};
use hedgerow_features::Sensors;

use super::{surprise::floors::ClassPromise, *};

/// A host with a web server that is called a little more or less in each epoch.
struct Host {
    epoch: u32,
    rng: u64,
}

/// Wall time less time since boot.
const OFFSET_NS: i64 = 1_700_000_000_000_000_000;

fn settings(epochs: u64) -> Settings {
    Settings {
        host_id: "h".into(),
        boot_id: "b".into(),
        schedule: Schedule::of(epochs * EPOCH_SECONDS),
        budget_per_day: 1.0,
        seed: 7,
        sensors: Sensors::default(),
        realtime_offset_ns: OFFSET_NS,
    }
}

impl Host {
    fn new() -> Self {
        Self { epoch: 10, rng: 1 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.rng >> 33) % below
    }

    fn event(&self, program: &str, tgid: u32, origin: Origin) -> Event {
        let subject = common::subject("web.service", program);
        let mut event = common::event(&subject, self.epoch, tgid, origin);
        event.time_boot_ns = u64::from(self.epoch) * 5_000_000_000 + 1;
        event.actor = Actor {
            tgid,
            start_boot_ns: 5,
            cgroup_id: 9,
            program_id: u64::from(tgid),
            slot: 0,
            ..event.actor
        };
        event
    }

    fn row(&self, program: &str, tgid: u32, calls: &[(usize, u32)]) -> Event {
        self.event(program, tgid, common::rows(calls))
    }

    fn flow(&self, program: &str, tgid: u32, peer: [u8; 4], bytes_out: u64) -> Event {
        let peer = Peer { address: peer.into(), port: 443 };
        let flow = Flow {
            cookie: u64::from(self.epoch),
            ..common::flow(FlowPhase::Start, FlowDirection::Outbound, peer, bytes_out)
        };
        self.event(program, tgid, Origin::Flow(Box::new(flow)))
    }

    /// The exec of a program by a service that listens.
    fn exec(&self, program: &str, tgid: u32, parent: &str) -> Event {
        let exec = Exec {
            parent_tgid: 100,
            parent: Some(common::subject("web.service", parent)),
            path: program.into(),
            arguments: program.into(),
            under_listener: true,
            ..common::exec(None)
        };
        self.event(program, tgid, Origin::Exec(Box::new(exec)))
    }

    /// One epoch of ordinary life.
    fn live(&mut self, engine: &mut Engine) {
        for (program, tgid) in [("/usr/sbin/web", 100), ("/usr/bin/worker", 101)] {
            let calls = [(3, 900 + self.random(200) as u32), (4, 400 + self.random(100) as u32)];
            engine.observe(&self.row(program, tgid, &calls));
        }
        let bytes = 1000 + self.random(500);
        engine.observe(&self.flow("/usr/sbin/web", 100, [10, 0, 0, 2], bytes));
    }

    fn close(&mut self, engine: &mut Engine) -> Vec<Outcome> {
        let packets = 700 + self.random(200);
        self.close_with(engine, packets, 0, 0)
    }

    /// Closes the epoch with what the kernel counted of the network.
    fn close_with(
        &mut self,
        engine: &mut Engine,
        tcp: u64,
        closed_ports: u64,
        udp: u64,
    ) -> Vec<Outcome> {
        let close = EpochClose {
            host: HostCounters {
                syn_cookies: Some(0),
                listen_overflows: Some(0),
                closed_ports: Some(closed_ports),
                icmp_in: Some(closed_ports / 100),
                udp_in: Some(udp),
                tcp_in_segments: Some(tcp),
                packets_in: Some(tcp + udp + closed_ports),
            },
            ..common::close(self.epoch)
        };
        self.epoch += 1;
        engine.close(&close).unwrap()
    }

    fn learn(&mut self, epochs: u64) -> Engine {
        let mut engine = Engine::learning(settings(epochs)).unwrap();
        while engine.phase() != Phase::Scoring {
            self.live(&mut engine);
            self.close(&mut engine);
        }
        engine
    }
}

fn findings(outcomes: Vec<Outcome>) -> Vec<(Finding, Option<Box<Evidence>>)> {
    outcomes
        .into_iter()
        .filter_map(|outcome| match outcome {
            Outcome::Finding(finding, evidence) => Some((*finding, evidence)),
            _ => None,
        })
        .collect()
}

/// What is told of a finding adds up to its surprise, and by exact Shapley values to the forest's
/// score of its window.
fn assert_adds_up(finding: &Finding) {
    for of in [NATS, FOREST] {
        let shares = finding.attribution.iter().filter(|share| &*share.of == of);
        let total: f64 = shares.map(|share| share.share).sum();
        assert!((total - 1.0).abs() < 1e-9, "{of}: {total} {finding:?}");
    }
    let deeds = finding
        .attribution
        .iter()
        .filter(|share| hedgerow_event::CATALOGUE.iter().any(|row| row.name == &*share.feature));
    for share in deeds {
        assert!((share.value - share.share * finding.surprise).abs() < 1e-9, "{share:?}");
    }
}

#[test]
fn a_schedule_divides_time_in_order() {
    assert_eq!(Schedule::of(120), Schedule { fill: 16, fit: 4, calibrate: 4 });
    assert_eq!(Schedule::of(60).epochs(), 12);
    assert_eq!(Schedule::of(86_400).epochs(), 17_280);
}

#[test]
fn ordinary_life_goes_on_in_silence() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    assert_eq!(engine.state(), Maturity::Provisional);
    for _ in 0..60 {
        host.live(&mut engine);
        assert_eq!(findings(host.close(&mut engine)), vec![]);
    }
}

/// Hardly anything runs: what is there is learned for as long as it takes, and what comes is found.
#[test]
fn a_quiet_host_is_learned_too() {
    let mut host = Host::new();
    let mut engine = Engine::learning(settings(12)).unwrap();
    let mut epochs = 0;
    while engine.phase() != Phase::Scoring {
        host.close(&mut engine);
        epochs += 1;
        assert!(epochs < 30, "it never begins to score");
    }
    assert!(epochs > 12);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    engine.observe(&host.row("/bin/bash", 200, &[(3, 20)]));
    assert_eq!(findings(host.close(&mut engine)).len(), 1);
}

#[test]
fn a_shell_that_calls_out_is_found_early_with_its_evidence() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    let early = engine.look_early(u64::from(host.epoch) * 5_000_000_000 + 3, |_| {
        vec![host.row("/bin/bash", 200, &[(3, 20)])]
    });
    let mut early = findings(early);
    assert_eq!(early.len(), 1);
    let (finding, evidence) = early.remove(0);
    assert!(finding.early && finding.disposition.is_alert());
    assert!(finding.objects.iter().any(|object| matches!(object, Object::NewPeer { .. })));
    assert_adds_up(&finding);
    let evidence = evidence.unwrap();
    assert_eq!((evidence.tgid, evidence.cgroup_id), (200, 9));
    assert!(evidence.surprise > 8.0 && evidence.complete);
    assert_eq!(evidence.peer.unwrap().address, std::net::IpAddr::from([192, 0, 2, 9]));
    // The closed window belongs to the same episode: no second alert.
    let closed = findings(host.close(&mut engine));
    assert!(closed.iter().all(|(finding, _)| finding.activity != Activity::Create), "{closed:?}");
}

#[test]
fn a_burst_of_a_call_never_made_is_found() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
    let found = findings(host.close(&mut engine));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(&*found[0].0.subject.program.path, "/usr/bin/worker");
    assert_adds_up(&found[0].0);
    assert_eq!(&*found[0].0.attribution[0].of, NATS);
}

/// As each does that loads its settings anew.
#[test]
fn what_a_program_does_to_itself_is_no_alert() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.row("/usr/bin/worker", 101, &[(9, 5000), (32, 5000)]));
    assert_eq!(findings(host.close(&mut engine)), vec![]);
}

#[test]
fn two_hundred_megabytes_to_a_new_peer_are_found() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.flow("/usr/sbin/web", 100, [192, 0, 2, 9], 200_000_000));
    assert_eq!(findings(host.close(&mut engine)).len(), 1);
}

#[test]
fn floods_and_scans_are_found_by_the_kernels_own_counters() {
    for (closed_ports, udp) in [(20_000, 0), (0, 50_000), (1000, 0)] {
        let mut host = Host::new();
        let mut engine = host.learn(60);
        host.live(&mut engine);
        let found = findings(host.close_with(&mut engine, 800, closed_ports, udp));
        assert_eq!(found.len(), 1, "{closed_ports} {udp}");
        assert!(found[0].0.subject.is_host());
    }
}

#[test]
fn a_saved_model_judges_alike() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let saved = SavedModel::load(&path).unwrap();
    let mut again = Engine::scoring(settings(60), saved).unwrap();
    assert_eq!(again.model_id(), engine.model_id());
    let judge = |engine: &mut Engine, host: &mut Host| {
        host.live(engine);
        engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
        findings(host.close(engine)).remove(0).0
    };
    let mut twin = Host { epoch: host.epoch, rng: host.rng };
    assert_eq!(judge(&mut engine, &mut host), judge(&mut again, &mut twin));
}

#[test]
fn the_budget_asked_today_holds_with_a_saved_model() {
    let mut host = Host::new();
    let engine = host.learn(60);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let ask = |per_day: f64| {
        let settings = Settings { budget_per_day: per_day, ..settings(60) };
        Engine::scoring(settings, SavedModel::load(&path).unwrap()).unwrap().promise()
    };
    let (strict, loose) = (ask(0.1), ask(100.0));
    assert_eq!((strict.asked_per_day, loose.asked_per_day), (0.1, 100.0));
    assert!(strict.expected_per_day <= 0.1 && loose.expected_per_day <= 100.0);
    for (strict, loose) in strict.classes.iter().zip(&loose.classes) {
        let floor = |of: &ClassPromise| of.floor.unwrap_or(f64::INFINITY);
        assert!(floor(strict) > floor(loose), "{strict:?} {loose:?}");
    }
}

/// What is done after the end of an epoch, while its rows are still awaited, is looked at early in
/// the next one.
#[test]
fn a_deed_of_the_last_moment_is_looked_at_early() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    host.epoch += 1;
    let exec = host.exec("/bin/bash", 200, "/usr/sbin/web");
    engine.observe(&exec);
    host.epoch -= 1;
    assert_eq!(findings(host.close(&mut engine)).len(), 1, "the tree is judged at once");
    assert!(engine.hard.contains_key(&exec.actor.subject));
}

/// The budget is saved with the episode that it let alert; another one after the restart is not it.
#[test]
fn what_is_found_soon_after_a_restart_is_not_taken_for_what_was_found_before() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
    assert_eq!(findings(host.close(&mut engine)).len(), 1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let mut again = Engine::scoring(settings(60), SavedModel::load(&path).unwrap()).unwrap();
    host.live(&mut again);
    again.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    again.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    // In its first epoch, which has told it no wall time yet.
    let boot_ns = u64::from(host.epoch) * 5_000_000_000 + 3;
    let row = host.row("/bin/bash", 200, &[(3, 20)]);
    let found = findings(again.look_early(boot_ns, |_| vec![row.clone()]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0.activity, Activity::Create);
    assert_eq!(found[0].0.time_ns, OFFSET_NS + boot_ns.cast_signed());
    assert!(found[0].0.window_start_ns > OFFSET_NS);
}

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
    // Long enough for a forecast of what is still new, and a budget that so short a time supports.
    let mut engine =
        Engine::learning(Settings { budget_per_day: 500.0, ..settings(1000) }).unwrap();
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
            Outcome::Arm(profile) => Some(profile.programs[0].six_grams.known[0]),
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

/// What the released version wrote is read: what it holds is kept, the rest is learned in service,
/// and nothing that is a first use only because nobody learned those is told.
#[test]
fn a_model_of_the_first_version_goes_on_scoring() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/learned-1.hedgerow");
    let saved = SavedModel::load(path.as_ref()).unwrap();
    let mut engine = Engine::scoring(settings(60), saved).unwrap();
    let left = engine.relearning_epochs();
    assert_eq!(left, 17_280, "a day");
    assert_eq!((engine.phase(), engine.state()), (Phase::Scoring, Maturity::Provisional));
    let mut host = Host { epoch: 1000, rng: 9 };
    for _ in 0..30 {
        host.live(&mut engine);
        assert_eq!(findings(host.close(&mut engine)), vec![]);
    }
    let mut exec = host.exec("/memfd:x", 200, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.memory = true;
    }
    engine.observe(&exec);
    let found = findings(host.close(&mut engine));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.disposition.is_alert());
    // Saved again it is of this version.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let next = Engine::scoring(settings(60), SavedModel::load(&path).unwrap()).unwrap();
    assert_eq!(next.relearning_epochs(), left - 31, "its day is not over");
}

/// A second case of the same class and hour is listed; it counts once, however often it is judged.
#[test]
fn what_the_budget_has_no_room_for_is_counted_to_be_told() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let mut dispositions = Vec::new();
    for pid in [200, 300, 300] {
        host.live(&mut engine);
        let mut exec = host.exec(&format!("/memfd:{pid}"), pid, "/usr/sbin/web");
        if let Origin::Exec(exec) = &mut exec.origin {
            exec.memory = true;
        }
        engine.observe(&exec);
        let found = findings(host.close(&mut engine));
        dispositions.extend(found.iter().map(|(finding, _)| finding.disposition.is_alert()));
    }
    assert_eq!(dispositions.iter().filter(|told| **told).count(), 1, "{dispositions:?}");
    assert!(dispositions.len() > 1);
    assert_eq!((engine.take_listed(), engine.take_listed()), (1, 0));
}

#[test]
fn a_corrupt_model_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    std::fs::write(&path, b"not a model").unwrap();
    let why = SavedModel::load(&path).unwrap_err();
    assert!(why.to_string().contains("m.hedgerow"), "{why}");
}

/// What nobody suspects is learned when the day ends, over a restart too, and only what is merely new:
/// what is grave by itself waits for an operator.
#[test]
fn a_day_teaches_what_is_new_and_not_what_is_grave() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    // So strict that nothing is suspected.
    engine.floors.ask(1e-9);
    engine.solve();
    let new = host.flow("/usr/bin/worker", 101, [10, 0, 0, 77], 1000);
    let attach = [libc::PTRACE_ATTACH as u64, 55, 0, 0, 0, 0];
    let grave = hedgerow_event::Call {
        number: libc::SYS_ptrace as i32,
        class: 0,
        compat: false,
        result: 0,
        arguments: attach,
        path: None,
        claimed: false,
    };
    let grave = host.event("/usr/bin/worker", 101, Origin::Call(Box::new(grave)));
    engine.observe(&new);
    engine.observe(&grave);
    let subject = Arc::clone(&new.actor.subject);
    let Origin::Flow(flow) = &new.origin else { unreachable!() };
    let peer = Object::NewPeer { subject: Arc::clone(&subject), peer: flow.peer };
    let trace = Object::Did { subject, deed: Deed::Trace, what: "process 55 (attach)".into() };
    let live = |engine: &mut Engine, host: &mut Host, epochs: u32| {
        for _ in 0..epochs {
            host.live(engine);
            host.close(engine);
        }
    };
    live(&mut engine, &mut host, 70);
    assert!(!engine.knows(&peer), "its day is not over");
    assert_eq!(engine.unsuspected.len(), 1, "{:?}", engine.unsuspected);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let saved = SavedModel::load(&path).unwrap();
    let mut engine = Engine::scoring(settings(60), saved).unwrap();
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
