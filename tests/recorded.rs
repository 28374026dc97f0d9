//! What led to each attack lies beside its finding: the flight recorder against a capture of everything.

#![allow(clippy::unwrap_used)]

mod lived;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    thread,
    time::Duration,
};

use hedgerow_event::{Activity, Event, Finding, Origin};
use hedgerow_lab::{Attack, Via};
use hedgerow_offline::keys::OFFSET;
use hedgerow_sink::parquet::ParquetReader;
use lived::{Lived, events, findings, is_of_attack, run};

/// Every attack that begins in the service, by a program of its own and by the service's own thread.
const ATTACKS: [(Attack, Via); 9] = [
    (Attack::ReverseShell, Via::Child),
    (Attack::ReverseShell, Via::Thread),
    (Attack::DroppedShell, Via::Child),
    (Attack::MemoryShell, Via::Child),
    (Attack::MemoryShell, Via::Thread),
    (Attack::ScanOut, Via::Child),
    (Attack::Rename, Via::Child),
    (Attack::Forks, Via::Child),
    (Attack::Exfiltrate, Via::Thread),
];
/// Findings of those that alert, at least: each brings several, and what alerts is not the question here.
const ALERTS_MIN: usize = 6;
const LIMIT: Duration = Duration::from_secs(3);
/// Between two, so that each has windows of its own.
const PAUSE: Duration = Duration::from_secs(6);
/// What the flight recorder goes back, but for its last sweep.
const RECORDED_NS: u64 = 29_000_000_000;
const WANTED_PERCENT: usize = 95;

#[test]
fn what_led_to_each_attack_lies_beside_its_finding() {
    // So much may be told that each attack's first case is.
    let more = ["--budget", "2000"];
    let lived = Lived::live_through(&more, |lab, _| {
        for (attack, via) in ATTACKS {
            attack.run(lab, via, LIMIT).unwrap();
            thread::sleep(PAUSE);
        }
    });
    assert_eq!(lived.not_captured, 0);
    let captured = events(&lived.path("capture/records"));
    let mut sums = (0, 0);
    let mut alerts = 0;
    for opened in findings(&lived.path("state/findings.jsonl")) {
        let opens = opened.activity == Activity::Create && opened.disposition.is_alert();
        if !opens || !is_of_attack(&opened) {
            continue;
        }
        let (kept, all) = recorded(&lived, &captured, &opened);
        println!("{kept} of {all} records: {}", opened.reason);
        sums = (sums.0 + kept, sums.1 + all);
        alerts += 1;
    }
    println!("{} of {} records of {alerts} alerts lie beside them", sums.0, sums.1);
    assert!(alerts >= ALERTS_MIN, "{alerts} alerts");
    assert!(sums.0 * 100 >= sums.1 * WANTED_PERCENT, "{sums:?}");
}

/// How many of the records that led to a finding lie beside it, and how many the capture has: whatever
/// processes of its tree did in the half minute before it.
fn recorded(lived: &Lived, captured: &[Event], opened: &Finding) -> (usize, usize) {
    let file = lived.path(&format!("state/records/{}.parquet", opened.uid));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let recorded = events(&file);
    let offset: i64 = ParquetReader::open(&file, None).unwrap().metadata()[OFFSET].parse().unwrap();
    let found_ns = u64::try_from(opened.time_ns - offset).unwrap();
    let tree = match &opened.process {
        Some(process) => tree_of(captured, process.pid),
        // Of an amount: the tree that was recorded.
        None => tree_of(captured, recorded.first().unwrap().actor.tgid),
    };
    let is_deed = |event: &&Event| {
        tree.contains(&event.actor.tgid)
            && (found_ns - RECORDED_NS..=found_ns).contains(&event.time_boot_ns)
            // Counts of a window that is still open.
            && !matches!(event.origin, Origin::Row(_))
    };
    let deeds: Vec<&Event> = captured.iter().filter(is_deed).collect();
    assert!(!deeds.is_empty(), "{}", opened.reason);
    let kept = deeds.iter().filter(|event| recorded.contains(event)).count();
    let state = lived.text("state");
    let said = run(&["findings", "show", &opened.uid, "--record", "--state", &state]);
    assert!(said.lines().count() > kept / 2, "{said}");
    (kept, deeds.len())
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
