#![allow(clippy::unwrap_used)]

use hedgerow_event::{
    Activity, Actor, Call, DENIAL_NATS, Deed, Disposition, Epoch, Exec, Flow, FlowDirection,
    FlowPhase, Fork, HostCounters, Maturity, Object, Peer, calls::CREDENTIALS_GREW,
};
use hedgerow_features::Sensors;

use super::*;

mod cases;
mod holding;
mod learning_on;
mod saved;

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

    fn fork(&self, program: &str, tgid: u32, child_tgid: u32) -> Event {
        let fork =
            Fork { child_tgid, child_tid: child_tgid, child_start_boot_ns: 5, thread: false };
        self.event(program, tgid, Origin::Fork(fork))
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

/// By way of its model file, as a daemon that ends and starts again.
fn restarted(engine: &Engine) -> Engine {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    Engine::scoring(settings(60), SavedModel::load(&path).unwrap()).unwrap()
}

fn findings(outcomes: Vec<Outcome>) -> Vec<(Finding, Option<Box<Evidence>>)> {
    outcomes
        .into_iter()
        .filter_map(|outcome| match outcome {
            Outcome::Finding(finding, evidence) => {
                Some((*finding, evidence.into_iter().next().map(Box::new)))
            }
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
    let listed = engine.take_listed();
    assert_eq!((listed.no_room, listed.cases(), engine.take_listed().cases()), (1, 1, 0));
}

/// The level of a denial is its own: where a noisy past, or a small budget, lets nothing be told, the
/// tree is listed, and the responder is asked.
#[test]
fn what_is_below_its_floor_is_still_put_to_the_responder() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    engine.floors.ask(1e-9);
    host.live(&mut engine);
    findings(host.close(&mut engine));
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    engine.observe(&host.row("/bin/bash", 200, &[(3, 20)]));
    let found = findings(host.close(&mut engine));
    assert_eq!(found.len(), 1, "{found:?}");
    let (finding, evidence) = &found[0];
    assert_eq!(finding.disposition, Disposition::Suppressed);
    assert!(finding.reason.contains("went to the responder only"), "{}", finding.reason);
    assert_eq!(engine.take_listed().below_floor, 1);
    assert!(evidence.as_ref().is_some_and(|evidence| evidence.surprise >= DENIAL_NATS));
}

/// Who was refused tries again: neither six minutes later nor the day after is it what this program does.
#[test]
fn what_was_put_to_the_responder_from_below_its_floor_is_not_learned() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    engine.floors.ask(1e-9);
    host.live(&mut engine);
    findings(host.close(&mut engine));
    for (tgid, day_ends) in [(200, false), (300, true), (400, false)] {
        engine.observe(&host.exec("/bin/bash", tgid, "/usr/sbin/web"));
        engine.observe(&host.flow("/bin/bash", tgid, [192, 0, 2, 9], 10));
        engine.observe(&host.row("/bin/bash", tgid, &[(3, 20)]));
        let found = findings(host.close(&mut engine));
        let asked = found.into_iter().filter_map(|(_, evidence)| evidence);
        let asked: Vec<_> = asked.map(|of| (of.tgid, of.surprise >= DENIAL_NATS)).collect();
        assert_eq!(asked, [(tgid, true)]);
        for _ in 0..72 {
            host.live(&mut engine);
            let found = findings(host.close(&mut engine));
            assert!(found.iter().all(|(_, evidence)| evidence.is_none()), "after {tgid}");
        }
        if day_ends {
            engine.day = 17_279;
            host.live(&mut engine);
            host.close(&mut engine);
            assert_eq!(engine.day, 0);
        }
    }
}

/// An operator's word takes what an attack did out of what floors are solved over: while its tree is open,
/// later, after a restart, and once.
#[test]
fn what_was_confirmed_to_be_an_attack_is_not_held_back() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let mut attack = |engine: &mut Engine, tgid| {
        host.live(engine);
        engine.observe(&host.exec("/bin/bash", tgid, "/usr/sbin/web"));
        engine.observe(&host.flow("/bin/bash", tgid, [192, 0, 2, 9], 10));
        let uid = findings(host.close(engine))[0].0.uid.clone();
        let word = (tgid == 200).then(|| engine.confirm([uid.as_str()]));
        for _ in 0..72 {
            host.live(engine);
            host.close(engine);
        }
        (uid, word)
    };
    let (open, word) = attack(&mut engine, 200);
    assert_eq!(word, Some(1), "its tree is open");
    let (over, _) = attack(&mut engine, 300);
    let mut again = restarted(&engine);
    assert_eq!(engine.confirm([over.as_str(), open.as_str()]), 1);
    assert_eq!(engine.confirm([over.as_str(), open.as_str()]), 0);
    assert_eq!(again.confirm([open.as_str()]), 0);
    assert_eq!(again.confirm([over.as_str()]), 1);
}

/// Maintenance is no normal life: what is done in it is told, and neither learned, in any part of
/// learning, nor held back, also where its tree is over later.
#[test]
fn what_is_done_in_maintenance_teaches_nothing() {
    let pause = |engine: &mut Engine, all| engine.pause(Paused { all, ..Paused::default() });
    let number = libc::SYS_process_vm_writev.try_into().unwrap();
    let trace = || Origin::Call(Box::new(Call::of(number, [1; 6], None)));
    let mut host = Host::new();
    let mut engine = Engine::learning(settings(600)).unwrap();
    pause(&mut engine, true);
    engine.observe(&host.event("/usr/bin/worker", 101, trace()));
    host.close(&mut engine);
    pause(&mut engine, false);
    while engine.phase() != Phase::Calibrate {
        host.live(&mut engine);
        host.close(&mut engine);
    }
    pause(&mut engine, true);
    host.live(&mut engine);
    host.close(&mut engine);
    assert_eq!(engine.held_back, 0);
    pause(&mut engine, false);
    while engine.phase() != Phase::Scoring {
        host.live(&mut engine);
        host.close(&mut engine);
    }
    for maintenance in [true, false] {
        pause(&mut engine, maintenance);
        host.live(&mut engine);
        engine.observe(&host.event("/usr/bin/worker", 101, trace()));
        let found = findings(host.close(&mut engine));
        assert_eq!(found.len(), 1, "{found:?}");
        pause(&mut engine, false);
        for _ in 0..72 {
            host.live(&mut engine);
            host.close(&mut engine);
        }
        let held_back = engine.confirm([found[0].0.uid.as_str()]);
        assert_eq!(held_back, usize::from(!maintenance));
    }
}

/// A case that is listed before somebody is told of it is one case still: only its first report makes it,
/// and only one is its first alert.
#[test]
fn a_case_that_is_listed_alerted_and_added_to_is_created_once() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let mut reports = Vec::new();
    let mut tell = |host: &mut Host, engine: &mut Engine| {
        host.live(engine);
        reports.extend(findings(host.close(engine)).into_iter().map(|(finding, _)| finding));
    };
    engine.floors.ask(1e-9);
    tell(&mut host, &mut engine);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    tell(&mut host, &mut engine);
    engine.floors.ask(1.0);
    tell(&mut host, &mut engine);
    let mut exec = host.exec("/memfd:x", 200, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.memory = true;
    }
    engine.observe(&exec);
    tell(&mut host, &mut engine);
    let grew = Call::of(CREDENTIALS_GREW, [33, 0, 0, 0x1ff, 0, 0], None);
    engine.observe(&host.event("/memfd:x", 200, Origin::Call(Box::new(grew))));
    tell(&mut host, &mut engine);
    for _ in 0..62 {
        tell(&mut host, &mut engine);
    }
    let told: Vec<_> = reports
        .iter()
        .map(|one| (one.activity as u8, one.sequence, one.disposition, one.is_first_alert()))
        .collect();
    let (alert, listed) = (Disposition::Alert, Disposition::Suppressed);
    let expected =
        [(1, 0, listed, false), (2, 1, alert, true), (2, 2, alert, false), (3, 3, alert, false)];
    assert_eq!(told, expected, "{reports:?}");
    assert!(reports.iter().all(|one| one.uid == reports[0].uid));
}

/// What a tree did may be told as part of a campaign; no denial rests on that, and none is lost by it.
#[test]
fn a_campaign_takes_no_tree_from_the_responder() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    engine.floors.ask(1e-9);
    host.live(&mut engine);
    findings(host.close(&mut engine));
    engine.floors.set_campaign_floor(1.0);
    engine.observe(&host.flow("/usr/bin/worker", 101, [192, 0, 2, 77], 10));
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    engine.observe(&host.row("/bin/bash", 200, &[(3, 20)]));
    let found = findings(host.close(&mut engine));
    let asked = found.iter().filter_map(|(_, evidence)| evidence.as_ref());
    assert_eq!(asked.map(|evidence| evidence.tgid).collect::<Vec<_>>(), [200]);
    assert!(found.iter().any(|(finding, _)| finding.disposition.is_alert()), "{found:?}");
}

/// Who the responder was asked about, finding by finding.
fn asked(outcomes: Vec<Outcome>) -> Vec<Vec<u32>> {
    let of = |outcome| match outcome {
        Outcome::Finding(_, evidence) | Outcome::Again(_, evidence) => {
            Some(evidence.iter().map(|of| of.tgid).collect())
        }
        _ => None,
    };
    outcomes.into_iter().filter_map(of).collect()
}

/// The gravest process of a tree may have exited, and the tree may be too surprising already for one
/// more shell to add to that: each process that a denial could rest on is asked about, once.
#[test]
fn every_offender_of_a_tree_is_asked_about_for_what_it_did_itself_and_once() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    assert_eq!(asked(host.close(&mut engine)), [[200]]);
    // The second does what the first did; the third talks to nobody, and goes with who started it; the
    // fourth is a new program with a new peer, as a service is that is started anew.
    for (child, program, memory, calls) in [
        (300, "/memfd:x", true, true),
        (301, "/memfd:x", true, true),
        (302, "/memfd:y", true, false),
        (303, "/usr/bin/java", false, true),
    ] {
        host.live(&mut engine);
        engine.observe(&host.fork("/bin/bash", 200, child));
        let mut exec = host.exec(program, child, "/bin/bash");
        if let Origin::Exec(exec) = &mut exec.origin {
            (exec.memory, exec.under_listener) = (memory, memory);
        }
        engine.observe(&exec);
        if calls {
            engine.observe(&host.flow(program, child, [192, 0, 2, 10], 10));
        }
        let asked = asked(host.close(&mut engine)).concat();
        let others: Vec<u32> = asked.into_iter().filter(|tgid| *tgid != 200).collect();
        let due: &[u32] = if memory && calls { &[child] } else { &[] };
        assert_eq!(others, due, "{child}");
    }
}
