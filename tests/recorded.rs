//! What led to each attack lies beside its finding: the flight recorder against a capture of everything.

#![allow(clippy::unwrap_used)]

mod lived;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Event, Finding, Origin};
use hedgerow_lab::{Attack, Daemon, Line, Via};
use hedgerow_offline::keys::OFFSET;
use hedgerow_sink::parquet::ParquetReader;
use lived::{Lived, PROGRAM, events, is_of_attack, run};

/// Every attack that begins in the service, by a program of its own and by the service's own thread.
const ATTACKS: [(Attack, Via); 8] = [
    (Attack::ReverseShell, Via::Child),
    (Attack::DroppedShell, Via::Child),
    (Attack::MemoryShell, Via::Child),
    (Attack::MemoryShell, Via::Thread),
    (Attack::ScanOut, Via::Child),
    (Attack::Rename, Via::Child),
    (Attack::Forks, Via::Child),
    (Attack::Exfiltrate, Via::Thread),
];
/// Of those that alert, at least: what alerts is not the question here.
const ALERTS_MIN: usize = 6;
const LIMIT: Duration = Duration::from_secs(3);
const STARTED: Duration = Duration::from_secs(120);
const FINDING: Duration = Duration::from_secs(60);
/// What the flight recorder goes back, but for its last sweep.
const RECORDED_NS: u64 = 29_000_000_000;
const WANTED_PERCENT: usize = 95;

/// Each attack is met by a daemon of its own, with what another one learned: within an hour a second case
/// of the same service would be an update of the first.
#[test]
fn what_led_to_each_attack_lies_beside_its_finding() {
    let mut sums = (0, 0);
    let mut alerts = 0;
    Lived::live_through(&[], |lab, _, directory| {
        // It is written aside.
        let model = directory.join("state/model.hedgerow");
        let until = Instant::now() + STARTED;
        while !model.exists() && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        for (at, (attack, via)) in ATTACKS.into_iter().enumerate() {
            let state = directory.join(format!("state.{at}"));
            fs::create_dir(&state).unwrap();
            fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
            fs::copy(&model, state.join("model.hedgerow")).unwrap();
            let capture = directory.join(format!("capture.{at}"));
            // So much that amounts are told, too.
            let [to, of] = [&state, &capture].map(|path| path.to_str().unwrap());
            let arguments = ["--budget", "2000", "--state", to, "--capture", of];
            let log = directory.join(format!("log.{at}"));
            let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
            // What runs before it watches belongs to nobody's tree.
            let scores =
                |line: &Line| matches!(line, Line::Status(told) if told["phase"] == "scoring");
            daemon.wait_for("scoring", STARTED, scores).unwrap();
            attack.run(lab, via, LIMIT).unwrap();
            let finds = |line: &Line| matches!(line, Line::Finding(finding) if opens(finding));
            let found = daemon.wait_for("finding of the attack", FINDING, finds);
            // What was under way is written at the next sweep.
            thread::sleep(Duration::from_secs(2));
            daemon.interrupt().unwrap();
            let Ok(Line::Finding(opened)) = found else {
                println!("{attack} by {via:?} did not alert");
                continue;
            };
            let (kept, all) = recorded(&state, &capture, &opened);
            assert!(kept * 100 >= all * WANTED_PERCENT, "{kept} of {all}: {attack} by {via:?}");
            println!("{kept} of {all} records: {attack} by {via:?}: {}", opened.reason);
            sums = (sums.0 + kept, sums.1 + all);
            alerts += 1;
        }
    });
    println!("{} of {} records of {alerts} alerts lie beside them", sums.0, sums.1);
    assert!(alerts >= ALERTS_MIN, "{alerts} alerts");
}

fn opens(finding: &Finding) -> bool {
    finding.is_first_alert() && is_of_attack(finding)
}

/// How many of the records that led to a finding lie beside it, and how many the capture has: whatever
/// processes of its tree did in the half minute before it.
fn recorded(state: &Path, capture: &Path, opened: &Finding) -> (usize, usize) {
    let captured = events(&capture.join("records"));
    let file = state.join(format!("records/{}.parquet", opened.uid));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let recorded = events(&file);
    let offset: i64 = ParquetReader::open(&file, None).unwrap().metadata()[OFFSET].parse().unwrap();
    let found_ns = u64::try_from(opened.time_ns - offset).unwrap();
    let is_past = |event: &Event| (found_ns - RECORDED_NS..=found_ns).contains(&event.time_boot_ns);
    let tree = match &opened.process {
        Some(process) => tree_of(&captured, process.pid),
        // Of an amount: that in which its program did most.
        None => {
            tree_of_most(&captured, |event| event.actor.subject == opened.subject && is_past(event))
        }
    };
    let is_deed = |event: &&Event| {
        tree.contains(&event.actor.tgid)
            && is_past(event)
            // Counts of a window that is still open.
            && !matches!(event.origin, Origin::Row(_))
    };
    let deeds: Vec<&Event> = captured.iter().filter(is_deed).collect();
    assert!(!deeds.is_empty(), "{}", opened.reason);
    let kept = deeds.iter().filter(|event| recorded.contains(event)).count();
    let state = state.to_str().unwrap();
    let said = run(&["findings", "show", &opened.uid, "--record", "--state", state]);
    assert!(said.lines().count() > kept / 2, "{said}");
    (kept, deeds.len())
}

/// The tree that did most of this.
fn tree_of_most(captured: &[Event], is_of: impl Fn(&Event) -> bool) -> BTreeSet<u32> {
    let mut left: Vec<u32> =
        captured.iter().filter(|event| is_of(event)).map(|event| event.actor.tgid).collect();
    let mut most = (0, BTreeSet::new());
    while let Some(tgid) = left.first() {
        let tree = tree_of(captured, *tgid);
        let before = left.len();
        left.retain(|tgid| !tree.contains(tgid));
        if before - left.len() > most.0 {
            most = (before - left.len(), tree);
        }
    }
    most.1
}

/// A process, those that it comes from as far as they are known, and all that come from these.
fn tree_of(captured: &[Event], pid: u32) -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    for event in captured {
        if let Origin::Fork(fork) = &event.origin
            && !fork.thread
        {
            parents.insert(fork.child_tgid, event.actor.tgid);
        }
    }
    let mut first = pid;
    while let Some(parent) = parents.get(&first) {
        first = *parent;
    }
    let mut tree = BTreeSet::from([first]);
    for event in captured {
        if let Origin::Fork(fork) = &event.origin
            && tree.contains(&event.actor.tgid)
        {
            tree.insert(fork.child_tgid);
        }
    }
    tree
}
