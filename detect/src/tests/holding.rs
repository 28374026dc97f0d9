//! Who is asked about once more, and whom noise hides.

use super::*;

/// Whom the responder was asked about, by process and the last octet of the peer.
fn asked_peers(outcomes: Vec<Outcome>) -> Vec<(u32, u8)> {
    let of = |outcome| match outcome {
        Outcome::Finding(_, evidence) | Outcome::Again(_, evidence) => evidence,
        _ => Vec::new(),
    };
    let last = |address| match address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    let all = outcomes.into_iter().flat_map(of);
    all.map(|of| (of.tgid, of.peer.map_or(0, |peer| last(peer.address)))).collect()
}

/// A shell under the web server calls out.
fn called_out() -> (Host, Engine) {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    assert_eq!(asked_peers(host.close(&mut engine)), [(200, 9)]);
    (host, engine)
}

/// Epochs in which nobody does anything of it.
fn wait(host: &mut Host, engine: &mut Engine, epochs: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for _ in 0..epochs {
        host.live(engine);
        outcomes.extend(host.close(engine));
    }
    outcomes
}

fn calls(host: &mut Host, engine: &mut Engine, tgid: u32, peer: u8) -> Vec<Outcome> {
    host.live(engine);
    engine.observe(&host.flow("/bin/bash", tgid, [192, 0, 2, peer], 10));
    host.close(engine)
}

/// An entry is over after a minute in which nobody tried: who waits for that, within the same tree, is
/// asked about again, and the case says nothing more.
#[test]
fn who_does_it_again_once_his_entry_is_over_is_asked_about_again() {
    let (mut host, mut engine) = called_out();
    for (epochs, due) in [(6, false), (7, true), (1, false), (13, true)] {
        assert_eq!(asked_peers(wait(&mut host, &mut engine, epochs)), []);
        let outcomes = calls(&mut host, &mut engine, 200, 9);
        assert!(!outcomes.iter().any(|one| matches!(one, Outcome::Finding(..))), "{outcomes:?}");
        let expected: &[_] = if due { &[(200, 9)] } else { &[] };
        assert_eq!(asked_peers(outcomes), expected, "after {epochs}");
    }
}

/// Each time by a process of its own: an entry for the peer is the program's. It is asked for by the
/// process that was asked about, so that it costs no other more.
#[test]
fn another_process_of_the_program_that_does_it_again_is_asked_about_by_the_first() {
    let (mut host, mut engine) = called_out();
    for child in 300..312 {
        wait(&mut host, &mut engine, 13);
        engine.observe(&host.fork("/bin/bash", 200, child));
        let mut flow = host.flow("/bin/bash", child, [192, 0, 2, 9], 10);
        flow.actor.program_id = 200;
        engine.observe(&flow);
        let asked = asked_peers(host.close(&mut engine));
        assert!(asked.contains(&(200, 9)), "{child}: {asked:?}");
    }
}

/// Who is denied one address takes the next.
#[test]
fn the_next_peer_of_who_was_asked_about_is_asked_about_too() {
    let (mut host, mut engine) = called_out();
    assert_eq!(asked_peers(calls(&mut host, &mut engine, 200, 10)), [(200, 10)]);
    // There is no room for more in this minute, and the third is not forgotten for it.
    assert_eq!(asked_peers(calls(&mut host, &mut engine, 200, 11)), []);
    assert_eq!(asked_peers(wait(&mut host, &mut engine, 12)), [(200, 11)]);
    // Two at once.
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    for peer in [9, 10] {
        engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, peer], 10));
    }
    assert_eq!(asked_peers(host.close(&mut engine)), [(200, 9), (200, 10)]);
}

/// Evidence is complete by the records of who is to be denied, whoever else's there are: what is lost of a
/// child takes nothing from it, and where he has no window what was charged to nobody may be his.
#[test]
fn evidence_has_the_holes_of_who_is_to_be_denied() {
    let complete = |outcomes: Vec<Outcome>, tgid| {
        let of = |outcome| match outcome {
            Outcome::Finding(_, evidence) | Outcome::Again(_, evidence) => evidence,
            _ => Vec::new(),
        };
        let mut all = outcomes.into_iter().flat_map(of).filter(|of| of.tgid == tgid);
        all.next().map(|of| of.complete)
    };
    for (lost, of_parent) in [(None, true), (Some(200), false), (Some(201), true)] {
        let (mut host, mut engine) = called_out();
        host.live(&mut engine);
        engine.observe(&host.fork("/bin/bash", 200, 201));
        let mut exec = host.exec("/memfd:x", 201, "/bin/bash");
        if let Origin::Exec(exec) = &mut exec.origin {
            (exec.memory, exec.parent_tgid) = (true, 200);
        }
        engine.observe(&exec);
        engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 10], 10));
        if let Some(tgid) = lost {
            let program = if tgid == 200 { "/bin/bash" } else { "/memfd:x" };
            let mut row = host.row(program, tgid, &[(3, 2)]);
            if let Origin::Row(row) = &mut row.origin {
                row.lost = 5;
            }
            engine.observe(&row);
        }
        assert_eq!(complete(host.close(&mut engine), 200), Some(of_parent), "{lost:?}");
    }
    // The third peer waits for its minute, when he who called it does nothing.
    for lost in [0, 5] {
        let (mut host, mut engine) = called_out();
        calls(&mut host, &mut engine, 200, 10);
        calls(&mut host, &mut engine, 200, 11);
        let mut asked = Vec::new();
        for _ in 0..12 {
            host.live(&mut engine);
            let mut close = common::close(host.epoch);
            close.loss.lost = lost;
            host.epoch += 1;
            asked.extend(complete(engine.close(&close).unwrap(), 200));
        }
        assert_eq!(asked, [lost == 0]);
    }
}

/// What was asked about him before he called anybody takes no peer's place.
#[test]
fn who_is_asked_about_before_he_calls_is_asked_about_with_two_peers_all_the_same() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    let mut exec = host.exec("/memfd:x", 200, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.memory = true;
    }
    engine.observe(&exec);
    let mut asked = asked_peers(host.close(&mut engine));
    assert_eq!(asked, [(200, 0)]);
    for peer in [9, 10] {
        asked = asked_peers(calls_by(&mut host, &mut engine, "/memfd:x", peer));
        assert!(asked.contains(&(200, peer)), "{peer}: {asked:?}");
    }
}

/// In monitor mode nothing stops him from alternating.
#[test]
fn three_peers_in_turn_are_two_questions_a_minute() {
    let (mut host, mut engine) = called_out();
    let mut times = vec![host.epoch];
    for turn in 0..60 {
        let outcomes = calls(&mut host, &mut engine, 200, 9 + turn % 3);
        times.extend(asked_peers(outcomes).iter().map(|_| host.epoch));
    }
    let most = times
        .iter()
        .map(|from| times.iter().filter(|time| (*from..*from + 12).contains(time)).count());
    assert!(most.max() <= Some(2), "{times:?}");
    assert!(times.len() >= 4, "and they go on: {times:?}");
}

/// Behind a tree that names as many deeds as it can, too.
#[test]
fn no_peer_is_free_behind_many_others() {
    let (mut host, mut engine) = called_out();
    for peer in 10..110 {
        engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, peer], 10));
    }
    host.close(&mut engine);
    wait(&mut host, &mut engine, 26);
    let asked = asked_peers(calls(&mut host, &mut engine, 200, 200));
    assert!(asked.contains(&(200, 200)), "{asked:?}");
}

/// A service that is started anew is a new program with new peers: the first may be asked about with what
/// its tree did, and no further one.
#[test]
fn what_is_merely_new_speaks_for_no_further_peer() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    let mut exec = host.exec("/usr/bin/java", 200, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.under_listener = false;
    }
    engine.observe(&exec);
    let mut asked = Vec::new();
    for peer in 9..12 {
        asked.extend(asked_peers(calls_by(&mut host, &mut engine, "/usr/bin/java", peer)));
    }
    assert!(asked.iter().all(|(_, peer)| *peer == 9), "{asked:?}");
}

fn calls_by(host: &mut Host, engine: &mut Engine, program: &str, peer: u8) -> Vec<Outcome> {
    host.live(engine);
    engine.observe(&host.flow(program, 200, [192, 0, 2, peer], 10));
    host.close(engine)
}

/// Doing the same again prolongs no case, and is one of its own once an hour at most.
#[test]
fn who_goes_on_is_told_once_an_hour() {
    let (mut host, mut engine) = called_out();
    let begun = host.epoch;
    let mut told = Vec::new();
    let mut asked = 0;
    // Each 70 to 120 s for some three hours: what is regular is a deed of its own.
    for number in 0..110 {
        let mut outcomes = wait(&mut host, &mut engine, 13 + number * number % 11);
        outcomes.extend(calls(&mut host, &mut engine, 200, 9));
        for outcome in &outcomes {
            if let Outcome::Finding(finding, _) = outcome {
                told.push((host.epoch - begun, finding.activity, finding.uid.clone()));
            }
        }
        asked += asked_peers(outcomes).len();
    }
    assert_eq!(asked, 110, "each time");
    // That he does it so often is one thing more, and told when it is; from then on once an hour.
    let made: Vec<_> = told.iter().filter(|(_, what, _)| *what == Activity::Create).collect();
    assert!(made.len() == 3 && made.windows(2).all(|two| two[1].0 - two[0].0 >= 720), "{told:?}");
    assert_ne!(made[1].2, made[2].2);
    let first = told.iter().find(|(_, what, _)| *what == Activity::Close).unwrap();
    assert!(first.0 < 80, "five minutes after it was told last: {told:?}");
}

/// Many novelties of others, and of the same workload, come before: what a denial could rest on is looked at
/// at once.
#[test]
fn noise_keeps_nobody_from_being_looked_at_early() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    let other = common::subject("job.service", "/x");
    for noise in 0..1500 {
        let mut exec = host.exec(&format!("/usr/bin/{noise}"), 1000 + noise, "/usr/sbin/web");
        if let Origin::Exec(exec) = &mut exec.origin {
            exec.under_listener = false;
        }
        if noise % 2 == 0 {
            let program = exec.actor.subject.program.clone();
            exec.actor.subject = Arc::new(Subject::new(other.workload.clone(), program));
        }
        engine.observe(&exec);
    }
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    let now = u64::from(host.epoch) * 5_000_000_000 + 3;
    let mut looked = 0;
    let early = engine.look_early(now, |tgid| {
        looked += 1;
        vec![host.row("/bin/bash", tgid, &[(3, 20)])]
    });
    assert_eq!(asked(early).concat(), [200]);
    assert!(looked <= 64, "{looked}");
    assert!(engine.hard.len() <= 1024);
}

/// Processes that are looked at at a time.
fn looked_at(host: &Host, engine: &mut Engine, at: u64) -> Vec<u32> {
    let mut looked = Vec::new();
    engine.look_early(u64::from(host.epoch) * 5_000_000_000 + at, |tgid| {
        looked.push(tgid);
        vec![host.row("/bin/x", tgid, &[(3, 20)])]
    });
    looked
}

/// A program that is merely new, in a unit.
fn started(host: &Host, engine: &mut Engine, unit: &str, tgid: u32) {
    let mut exec = host.exec(&format!("/usr/bin/{tgid}"), tgid, "/usr/sbin/web");
    exec.actor.subject = common::subject(unit, &format!("/usr/bin/{tgid}"));
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.under_listener = false;
    }
    engine.observe(&exec);
}

/// In however many units of his own somebody is loud, he is one.
#[test]
fn who_has_many_units_of_his_own_is_looked_at_as_one() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    for unit in 0..1024 {
        started(&host, &mut engine, &format!("user@1000.service/{unit}.service"), 1000 + unit);
    }
    started(&host, &mut engine, "web.service", 200);
    assert!(looked_at(&host, &mut engine, 3).contains(&200));
}

/// Whoever was judged comes behind who has a signal and was never looked at.
#[test]
fn who_has_a_signal_and_no_deed_is_looked_at_behind_many_that_were_judged() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    for tgid in 1000..1100 {
        started(&host, &mut engine, "web.service", tgid);
    }
    let first = looked_at(&host, &mut engine, 3);
    let second = looked_at(&host, &mut engine, 4);
    assert_eq!((first.len(), second.iter().filter(|one| !first.contains(one)).count()), (64, 36));
    let signal = Origin::Signal(hedgerow_event::Signal { unseen6: 9, calls: 10 });
    engine.observe(&host.event("/usr/bin/worker", 101, signal));
    assert!(looked_at(&host, &mut engine, 5).contains(&101));
}
