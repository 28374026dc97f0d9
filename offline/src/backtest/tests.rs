#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use hedgerow_event::{
    Activity, Actor, Class, Deed, Disposition, Epoch, Event, Evidence, Finding, Flow,
    FlowDirection, Fork, Loss, Maturity, Object, Origin, Peer, Process, Program, Scale, Severity,
    Subject, Workload,
};

use super::*;
use crate::labels::Label;

const SECOND: u64 = 1_000_000_000;
const OFFENDER: u32 = 100;
const CHILD: u32 = 101;
const OTHER: u32 = 200;

fn subject(program: &str) -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new("web.service"), Program::new(program)))
}

fn event(tgid: u32, program: &str, second: u64, origin: Origin) -> Event {
    Event {
        epoch: Epoch(1),
        time_boot_ns: second * SECOND,
        actor: Actor {
            subject: subject(program),
            tgid,
            tid: tgid,
            start_boot_ns: u64::from(tgid),
            cgroup_id: 7,
            program_id: 9,
            slot: 0,
        },
        origin,
    }
}

fn flow(tgid: u32, program: &str, second: u64, address: &str) -> Event {
    let end = |address: &str| Peer { address: address.parse().unwrap(), port: 80 };
    let flow = Flow {
        cookie: second,
        ..Flow::start(FlowDirection::Outbound, end("10.0.0.1"), end(address))
    };
    event(tgid, program, second, Origin::Flow(Box::new(flow)))
}

fn finding(uid: &str, second: u64) -> Finding {
    let time_ns = (second * SECOND) as i64;
    Finding {
        uid: uid.to_owned(),
        activity: Activity::Create,
        sequence: 0,
        first_alert: None,
        host_id: "a".to_owned(),
        boot_id: String::new(),
        subject: subject("/tmp/x"),
        scale: Scale::Seconds5,
        early: false,
        window_start_ns: time_ns,
        window_end_ns: time_ns + 1,
        time_ns,
        state: Maturity::Provisional,
        severity: Severity::High,
        disposition: Disposition::Alert,
        score: 0.5,
        class: Class::Intrinsic,
        surprise: 20.0,
        floor: 8.0,
        p_value: None,
        families: Vec::new(),
        objects: Vec::new(),
        attribution: Vec::new(),
        process: None,
        loss: Loss::default(),
        model_digest: None,
        model_id: String::new(),
        model_seed: None,
        claimed_names: Vec::new(),
        vulnerabilities: Vec::new(),
        pod: None,
        peer_pods: Vec::new(),
        reason: String::new(),
    }
}

/// What somebody did.
fn finding_of(uid: &str, second: u64, tgid: u32) -> Finding {
    let of = Process { pid: tgid, start_boot_ns: u64::from(tgid), ..Process::default() };
    Finding { process: Some(of), ..finding(uid, second) }
}

fn evidence() -> Evidence {
    Evidence {
        surprise: 20.0,
        deeds: vec![Deed::ExecMemory, Deed::NewPeer],
        complete: true,
        kernel_owned: true,
        objects: vec![Object::ExecMemory { subject: subject("/tmp/x") }],
        subject: subject("/tmp/x"),
        tgid: OFFENDER,
        start_boot_ns: u64::from(OFFENDER),
        cgroup_id: 7,
        program_id: 9,
        file: None,
        of_host: None,
        peer: None,
        uid: 33,
        login_uid: None,
    }
}

fn policy(enforce_provisional: bool) -> Policy {
    Policy { enforce_provisional, ..Policy::default() }
}

/// An offender that is denied at second 10, tries at 20, forks at 21, whose child tries at 22 and is
/// found again at 23; somebody else goes on.
fn lived(policy: &Policy, labels: Option<&[Label]>) -> Backtest {
    let mut simulation = Simulation::new(policy, "a", labels).unwrap();
    simulation.observe(&flow(OTHER, "/bin/web", 5, "192.0.2.1"), true);
    simulation.observe(&flow(OFFENDER, "/tmp/x", 9, "192.0.2.9"), true);
    simulation.observe(&flow(OFFENDER, "/tmp/x", 10, "192.0.2.8"), true);
    simulation.found(finding_of("first", 10, OFFENDER), &[evidence()]);
    simulation.observe(&flow(OFFENDER, "/tmp/x", 20, "192.0.2.9"), true);
    let fork = Fork {
        child_tgid: CHILD,
        child_tid: CHILD,
        child_start_boot_ns: u64::from(CHILD),
        thread: false,
    };
    simulation.observe(&event(OFFENDER, "/tmp/x", 21, Origin::Fork(fork)), true);
    simulation.observe(&flow(CHILD, "/tmp/x", 22, "192.0.2.7"), true);
    let mut again = evidence();
    (again.tgid, again.start_boot_ns) = (CHILD, u64::from(CHILD));
    simulation.found(finding_of("second", 23, CHILD), &[again]);
    simulation.observe(&flow(OTHER, "/bin/web", 30, "192.0.2.1"), true);
    simulation.observe(&flow(OTHER, "/bin/web", 4000, "192.0.2.1"), true);
    let mut answer = Backtest::default();
    simulation.end(&mut answer);
    answer
}

#[test]
fn an_entry_stands_while_it_is_tried_and_tells_whom_it_would_have_cut() {
    let told = lived(&policy(true), None);
    assert_eq!(told.findings[0].entry, Some(0));
    let entry = &told.entries[0];
    assert_eq!((entry.mode, entry.from_ns), (Mode::Enforce, 10 * SECOND as i64));
    // A minute, and two more since it was tried.
    assert_eq!((entry.hits, entry.seconds), (2, 180.0));
    let who: Vec<_> =
        entry.cuts.iter().map(|cut| (cut.tgid, cut.hits, cut.benign_by_past)).collect();
    assert_eq!(who, [(OFFENDER, 1, true), (CHILD, 1, false)]);
    assert!(!told.findings[0].counterfactual && told.findings[1].counterfactual);
    // Its tree is denied already, as the responder would say.
    assert_eq!(told.entries.len(), 1);
    assert!(told.findings[1].reason.as_deref().unwrap().contains("entry 0 already stops it"));
    let text = told.text(chrono_tz::Tz::UTC);
    assert!(text.contains("counterfactual") && text.contains("cut web.service:/tmp/x"), "{text}");
}

#[test]
fn what_no_label_explains_is_benign() {
    let label = Label {
        start_ns: 0,
        end_ns: 21 * SECOND as i64,
        host: "a".to_owned(),
        workload: None,
        program: None,
        tree: None,
        class: "shell".to_owned(),
    };
    let told = lived(&policy(true), Some(&[label]));
    let benign: Vec<_> = told.entries[0].cuts.iter().map(|cut| cut.benign_by_labels).collect();
    assert_eq!(benign, [Some(0), Some(1)]);
    assert_eq!(told.findings[0].label.as_deref(), Some("shell"));
    assert_eq!(told.findings[1].label, None);
}

fn of_tree(tree: u32) -> Label {
    Label {
        start_ns: 0,
        end_ns: 9000 * SECOND as i64,
        host: "a".to_owned(),
        workload: None,
        program: None,
        tree: Some(tree),
        class: "shell".to_owned(),
    }
}

#[test]
fn a_labelled_tree_means_who_descends_from_it_and_no_others() {
    let told = |tree: u32| {
        let told = lived(&policy(true), Some(&[of_tree(tree)]));
        let benign: Vec<_> = told.entries[0].cuts.iter().map(|cut| cut.benign_by_labels).collect();
        let labels: Vec<_> = told.findings.iter().map(|found| found.label.is_some()).collect();
        (benign, labels)
    };
    assert_eq!(told(OFFENDER), (vec![Some(0), Some(0)], vec![true, true]));
    assert_eq!(told(CHILD), (vec![Some(1), Some(0)], vec![false, true]));
    assert_eq!(told(OTHER), (vec![Some(1), Some(1)], vec![false, false]));
}

#[test]
fn findings_are_marked_that_hang_on_what_is_missing() {
    let policy = policy(true);
    let marks = |missing: &'static [Missing]| -> Vec<Vec<Missing>> {
        let mut simulation = Simulation::new(&policy, "a", None).unwrap();
        simulation.misses(missing);
        simulation.found(finding_of("deed", 10, OFFENDER), &[]);
        simulation.found(Finding { class: Class::Measure, ..finding("amount", 11) }, &[]);
        let early = Finding { early: true, ..finding_of("early", 12, OFFENDER) };
        simulation.found(early, &[]);
        let mut told = Backtest::default();
        simulation.end(&mut told);
        told.findings.into_iter().map(|decided| decided.hangs_on).collect()
    };
    let nothing = vec![Vec::new(); 3];
    assert_eq!(marks(Missing::of(true, Rows::Recorded)), nothing);
    let looks = vec![vec![Missing::Looks], Vec::new(), Vec::new()];
    assert_eq!(marks(Missing::of(false, Rows::Recomputed)), looks);
    let both = vec![vec![Missing::Looks], vec![Missing::Order], Vec::new()];
    assert_eq!(marks(Missing::of(false, Rows::Unordered)), both);
}

#[test]
fn two_policies_differ_in_what_each_would_have_done() {
    let (first, second) = (lived(&policy(true), None), lived(&policy(false), None));
    assert!(second.entries.iter().all(|entry| entry.mode == Mode::Monitor), "held at monitor");
    assert!(second.findings.iter().all(|decided| !decided.counterfactual), "nothing was cut");
    let difference = Difference::of(&first, &second);
    assert!(difference.findings_only_first.is_empty());
    assert!(
        !difference.entries_only_first.is_empty() && !difference.entries_only_second.is_empty()
    );
    assert_eq!(Difference::of(&first, &first), Difference::default());
    let observe = Policy { mode: Mode::Observe, ..policy(true) };
    let none = lived(&observe, None);
    assert!(none.entries.is_empty());
    assert!(none.findings[0].reason.as_deref().unwrap().contains("observe"));
}

#[test]
fn a_policy_is_read_with_its_faults_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("policy.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Policy::read(&path)
    };
    let text =
        "mode = \"monitor\"\nallow = [\"192.0.2.0/24\"]\n[modes]\n\"web.service\" = \"enforce\"\n";
    let policy = read(text).unwrap();
    assert_eq!(policy.mode(&Workload::new("web.service")), Mode::Enforce);
    assert_eq!(policy.mode(&Workload::new("other")), Mode::Monitor);
    for (text, told) in [
        ("mood = 1", "line 1"),
        ("mode = \"observe\"\nallow = [\"host\"]", "allow: `host`"),
        ("protect = [\"192.0.2.0/33\"]", "protect: `192.0.2.0/33`"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("policy.toml"), "{error}");
    }
}

#[test]
fn a_workload_that_is_denied_too_often_gets_nothing_wide_and_leaves_room_to_others() {
    let policy = policy(true);
    let mut simulation = Simulation::new(&policy, "a", None).unwrap();
    for number in 0..200u32 {
        let mut offender = evidence();
        (offender.tgid, offender.start_boot_ns) = (1000 + number, u64::from(1000 + number));
        offender.file = Some(hedgerow_event::FileKey { device: 1, inode: 2, generation: 3 });
        simulation.observe(&flow(1000 + number, "/tmp/x", 10, "192.0.2.9"), true);
        simulation.found(finding(&format!("f{number}"), 10), &[offender]);
    }
    let mut told = Backtest::default();
    simulation.end(&mut told);
    let narrow = told.entries.iter().filter(|entry| !entry.wide).count();
    let wide = told.entries.len() - narrow;
    assert_eq!(told.entries.len(), 128, "half of all places");
    assert!(wide >= 1, "before the breaker tripped");
    let last = told.findings.last().unwrap();
    assert!(last.entry.is_none() && last.reason.as_deref().unwrap().contains("places"), "{last:?}");
}

/// What was tried for its whole hour is opened again by a fresh finding only, as in the daemon.
#[test]
fn an_entry_that_had_its_hour_waits_for_a_fresh_finding() {
    let policy = policy(true);
    let mut simulation = Simulation::new(&policy, "a", None).unwrap();
    simulation.observe(&flow(OFFENDER, "/tmp/x", 10, "192.0.2.9"), true);
    simulation.found(finding("first", 10), &[evidence()]);
    for second in 11..3700 {
        simulation.observe(&flow(OFFENDER, "/tmp/x", second, "192.0.2.9"), true);
    }
    simulation.found(finding("first", 3700), &[evidence()]);
    simulation.observe(&flow(OFFENDER, "/tmp/x", 3701, "192.0.2.9"), true);
    simulation.found(finding("second", 3702), &[evidence()]);
    let mut told = Backtest::default();
    simulation.end(&mut told);
    let whose: Vec<_> = told.entries.iter().map(|entry| entry.finding_uid.as_str()).collect();
    assert_eq!(whose, ["first", "second"]);
    assert_eq!(told.entries[0].seconds, 3600.0);
}

/// Who is refused one peer and takes the next loses his network, and needs no further entry then.
#[test]
fn a_second_peer_costs_the_network() {
    let policy = policy(true);
    let mut simulation = Simulation::new(&policy, "a", None).unwrap();
    for (second, last) in [(10, 9), (20, 10), (30, 11)] {
        let address = format!("192.0.2.{last}");
        simulation.observe(&flow(OFFENDER, "/tmp/x", second, &address), true);
        let peer = Peer { address: address.parse().unwrap(), port: 80 };
        let subject = subject("/tmp/x");
        let mut evidence = Evidence { peer: Some(peer), ..evidence() };
        evidence.objects.push(Object::NewProgram { subject: Arc::clone(&subject) });
        evidence.objects.push(Object::NewPeer { subject, peer, protocol: None });
        simulation.found(finding("first", second), &[evidence]);
    }
    let mut told = Backtest::default();
    simulation.end(&mut told);
    let tree = Target::TaskTree { tgid: OFFENDER, start_boot_ns: u64::from(OFFENDER) };
    let targets: Vec<_> = told.entries.iter().map(|entry| entry.target == tree).collect();
    assert_eq!(targets, [false, false, true], "{:?}", told.entries);
}
