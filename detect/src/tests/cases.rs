//! Cases: what is part of one, and what is another one.

use std::collections::BTreeSet;

use hedgerow_event::Class;

use super::*;
use crate::episodes::Case;

/// The worker's window of an epoch.
fn worker(outcomes: Vec<Outcome>) -> Window {
    let windows = outcomes.into_iter().find_map(|outcome| match outcome {
        Outcome::Windows(windows) => Some(windows),
        _ => None,
    });
    let of_worker = |window: &Window| window.subject.program.path == "/usr/bin/worker".into();
    windows.unwrap().into_iter().find(of_worker).unwrap()
}

/// Windows of a program as they are judged at some minutes, with so much surprise each.
fn judged(engine: &mut Engine, window: &Window, at: &[(u64, f64)]) -> Vec<(Activity, String)> {
    let scored = engine.scored(Scale::Seconds5, &[window]).remove(0);
    let begun = engine.now_boot_ns;
    let mut outcomes = Vec::new();
    for (minute, nats) in at {
        let (scored, now) =
            (Scored { nats: Some(*nats), ..scored.clone() }, begun + minute * 60_000_000_000);
        engine.judge_window(window, &scored, now, &mut outcomes);
        engine.episodes.expire(now);
    }
    findings(outcomes).into_iter().map(|(finding, _)| (finding.activity, finding.uid)).collect()
}

/// Whoever is loud now and then, and told of, hides nothing in his case: neither what is far louder, nor what
/// comes an hour later.
#[test]
fn a_case_of_amounts_covers_what_is_like_it_for_an_hour() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    engine.set_budget(1e4);
    host.live(&mut engine);
    let window = &worker(host.close(&mut engine));
    engine.episodes.drain();
    let floor = engine.floors.floor(Class::Measure);
    let loud: Vec<(u64, f64)> = (0..31).map(|at| (2 * at, floor + 1.0)).collect();
    let told = judged(&mut engine, window, &loud);
    assert_eq!(told.iter().map(|one| one.0).collect::<Vec<_>>(), [Activity::Create; 2]);
    assert_ne!(told[0].1, told[1].1);
    let graver =
        judged(&mut engine, window, &[(61, floor + 3.5), (62, floor + 4.1), (63, floor + 4.5)]);
    assert_eq!(graver.iter().map(|one| one.0).collect::<Vec<_>>(), [Activity::Create]);
    assert_ne!(graver[0].1, told[1].1);
    // Nor in that of a tree that it is part of.
    let number = libc::SYS_process_vm_writev.try_into().unwrap();
    let trace = Origin::Call(Box::new(Call::of(number, [1; 6], None)));
    engine.episodes.drain();
    host.live(&mut engine);
    engine.observe(&host.event("/usr/bin/worker", 101, trace));
    let (tree, _) = findings(host.close(&mut engine)).remove(0);
    engine.episodes.end(&Case::Amounts(window.subject.workload.clone(), false));
    let measured =
        judged(&mut engine, window, &[(0, tree.surprise + 2.5), (1, tree.surprise + 3.5)]);
    assert_eq!(measured.iter().map(|one| one.0).collect::<Vec<_>>(), [Activity::Create]);
    assert_ne!(measured[0].1, tree.uid);
}

/// An early row that went farther than the window as a whole takes nothing of what the window shows besides.
#[test]
fn a_window_keeps_the_order_of_its_calls_beside_an_early_row_of_more() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    let window = worker(host.close(&mut engine));
    let closed = engine.scored(Scale::Seconds5, &[&window]).remove(0);
    for measure in [closed.measure - 1.0, closed.measure + 1.0] {
        let early = Scored { amounts: closed.amounts + 1.0, measure, ..closed.clone() };
        engine.early.insert(Arc::clone(&window.subject), early);
        let scored = engine.scored(Scale::Seconds5, &[&window]).remove(0);
        assert_eq!(scored.amounts, closed.amounts + 1.0);
        assert_eq!(scored.measure, measure.max(closed.measure));
    }
}

/// A campaign is a case of its own, whoever did more just now: a bystander's tree may be part of another one.
#[test]
fn a_campaign_is_the_case_of_those_who_make_it() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    engine.floors.ask(1e-9);
    engine.floors.set_campaign_floor(f64::INFINITY);
    host.live(&mut engine);
    engine.observe(&host.flow("/usr/bin/worker", 101, [192, 0, 2, 77], 10));
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    host.close(&mut engine);
    let mut trees: Vec<_> = (0..100).filter_map(|id| engine.trees.get(id).cloned()).collect();
    for tree in &mut trees {
        let subject =
            Subject::new(Workload::new("other.service"), hedgerow_event::Program::new("/bin/a"));
        tree.done.truncate(1);
        (tree.done[0].nats, tree.done[0].witness.subject) = (100.0, Arc::new(subject));
    }
    assert_eq!(trees.len(), 2);
    engine.floors.set_campaign_floor(150.0);
    let mut told = |ids: [u64; 2]| {
        for (id, tree) in ids.into_iter().zip(&trees) {
            engine.campaign.add(id, tree, engine.now_boot_ns / HOUR_NS);
        }
        host.live(&mut engine);
        // One of another workload's, each time by the same tree.
        let address = [192, 0, 2, ids[0] as u8];
        engine.observe(&host.flow("/usr/bin/worker", 101, address, 10));
        let found = findings(host.close(&mut engine));
        let found = found.into_iter().find(|(one, _)| one.surprise >= 150.0).unwrap().0;
        (found.activity, engine.episodes.get(&Case::Campaign(ids[1])).unwrap().uid.clone())
    };
    let (first, second) = (told([190, 191]), told([192, 193]));
    assert_eq!([first.0, second.0], [Activity::Create; 2]);
    assert_ne!(first.1, second.1);
}

/// Reports are told apart by the uid of their case: two of one uid would be one to whoever reads them.
#[test]
fn cases_of_one_subject_that_begin_in_one_moment_have_names_of_their_own() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    for tgid in [201, 202] {
        let grew = Call::of(CREDENTIALS_GREW, [33, 0, 0, 0x1ff, 0, 0], None);
        engine.observe(&host.event("/usr/bin/worker", tgid, Origin::Call(Box::new(grew))));
    }
    let found = findings(host.close(&mut engine));
    let created = found.iter().filter(|(finding, _)| finding.activity == Activity::Create);
    let uids: BTreeSet<_> = created.map(|(finding, _)| finding.report_uid()).collect();
    assert_eq!(uids.len(), 2, "{found:?}");
}
