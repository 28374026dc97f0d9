#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use hedgerow_lab::Disk;

use super::*;

fn line(time_ns: i64) -> Line {
    let target = Target::Peer {
        address: "192.0.2.1".parse().unwrap(),
        prefix_length: 32,
        cgroup_id: 7,
        program_id: 9,
    };
    let reason = "it is the gateway".to_owned();
    let decision =
        Decision::Refuse { target, rule: Rule::NewProgramNewPeer, finding_uid: None, reason };
    Line { time_ns, boot_id: "b".into(), by: None, decision }
}

#[test]
fn a_torn_line_is_healed_and_the_file_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.jsonl");
    Ledger::open(&path, 1 << 20).unwrap().append(&line(1));
    let whole = fs::read(&path).unwrap();
    let mut torn = whole.clone();
    torn.extend(&whole[..20]);
    fs::write(&path, torn).unwrap();
    let ledger = Ledger::open(&path, 1 << 20).unwrap();
    assert_eq!(ledger.written().healed, 20);
    ledger.append(&line(2));
    drop(ledger);
    assert_eq!(Ledger::read(&path).unwrap(), (vec![line(1), line(2)], 0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Ledger::open(&path, 1 << 20).unwrap().written().healed, 0);
}

#[test]
fn its_size_is_capped_by_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.jsonl");
    let ledger = Ledger::open(&path, 1000).unwrap();
    for time in 0..100 {
        ledger.append(&line(time));
        // One by one: a batch is never divided.
        eventually("it is written", || ledger.written().waiting == 0);
    }
    drop(ledger);
    let (lines, _) = Ledger::read(&path).unwrap();
    assert_eq!(lines.last(), Some(&line(99)));
    assert!(lines.windows(2).all(|pair| pair[0].time_ns + 1 == pair[1].time_ns));
    let size: u64 = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!((1000..3000).contains(&size), "{size}");
    // Who opens it reads both of its files afterwards.
    drop(Ledger::open(&path, 1).unwrap());
    assert_eq!(Ledger::read(&path).unwrap().0, lines);
}

#[test]
fn a_full_disk_holds_nobody_up_and_lines_come_when_there_is_room() {
    let disk = Disk::mount("mode=700,size=1m,nr_inodes=64").unwrap();
    let path = disk.path().join("ledger.jsonl");
    let ledger = Ledger::open(&path, 1 << 20).unwrap();
    ledger.append(&line(0));
    eventually("the first line", || ledger.written().waiting == 0);
    let filler = disk.take_room().unwrap();
    // More than a batch, and more than a page that may be left.
    let count = 3 * BATCH as i64;
    (1..count).for_each(|time| ledger.append(&line(time)));
    eventually("it is told", || ledger.written().failure.is_some());
    assert!(ledger.written().waiting > 0);
    assert_eq!(Ledger::read(&path).unwrap().0.first(), Some(&line(0)));
    fs::remove_file(filler).unwrap();
    eventually("there is room", || ledger.written().waiting == 0);
    assert_eq!(ledger.written(), Written::default());
    let whole = (0..count).map(line).collect::<Vec<_>>();
    assert_eq!(Ledger::read(&path).unwrap(), (whole, 0), "all of them, and none is torn");
}

#[test]
fn a_new_file_that_can_not_be_made_costs_no_line_and_no_file_before() {
    let disk = Disk::mount("mode=700,size=1m,nr_inodes=64").unwrap();
    let path = disk.path().join("ledger.jsonl");
    let ledger = Ledger::open(&path, 1).unwrap();
    ledger.append(&line(0));
    eventually("the first line", || ledger.written().waiting == 0);
    let fillers = disk.take_files();
    ledger.append(&line(1));
    eventually("it is told", || ledger.written().failure.is_some());
    // More tries than one.
    thread::sleep(RETRY + RETRY / 2);
    assert_eq!(ledger.written().waiting, 1);
    assert!(path.is_file(), "who starts now has a file");
    fillers.into_iter().for_each(|filler| fs::remove_file(filler).unwrap());
    eventually("there is room", || ledger.written().waiting == 0);
    drop(ledger);
    assert_eq!(Ledger::read(&path).unwrap(), (vec![line(0), line(1)], 0));
}

#[test]
fn few_long_lines_take_no_more_memory_than_many_short_ones() {
    let disk = Disk::mount("mode=700,size=1m").unwrap();
    let path = disk.path().join("ledger.jsonl");
    let ledger = Ledger::open(&path, 1 << 20).unwrap();
    disk.take_room().unwrap();
    let finding_uid = "f".into();
    let decision = Decision::Report { finding_uid, reason: "a".repeat(100_000) };
    let long = Line { decision, ..line(0) };
    (0..400).for_each(|_| ledger.append(&long));
    let Written { waiting, waiting_bytes, lost, .. } = ledger.written();
    assert!(waiting_bytes <= WAITING_BYTES && waiting > 1, "{waiting_bytes} bytes of {waiting}");
    assert_eq!(waiting + lost as usize, 400);
}

#[test]
fn a_file_that_can_not_be_opened_is_opened_later_whether_a_line_comes_or_not() {
    // The directory itself is one.
    let disk = Disk::mount("mode=700,nr_inodes=1").unwrap();
    let path = disk.path().join("ledger.jsonl");
    let ledger = Ledger::open(&path, 1 << 20).unwrap();
    let why = ledger.written().failure.unwrap();
    assert!(why.contains("ledger.jsonl"), "{why}");
    disk.remount("nr_inodes=2").unwrap();
    eventually("it is opened", || ledger.written().failure.is_none());
    drop(ledger);
    fs::remove_file(&path).unwrap();
    disk.remount("nr_inodes=1").unwrap();
    let ledger = Ledger::open(&path, 1 << 20).unwrap();
    (0..9).for_each(|time| ledger.append(&line(time)));
    assert_eq!(ledger.written().waiting, 9);
    disk.remount("nr_inodes=2").unwrap();
    eventually("there is a file", || ledger.written().waiting == 0);
    drop(ledger);
    assert_eq!(Ledger::read(&path).unwrap(), ((0..9).map(line).collect(), 0));
}

#[test]
fn past_its_room_lines_are_counted() {
    let disk = Disk::mount("mode=700,size=1m,nr_inodes=64").unwrap();
    let ledger = Ledger::open(&disk.path().join("ledger.jsonl"), 1 << 20).unwrap();
    disk.take_room().unwrap();
    let count = (WAITING_MAX + 3 * BATCH) as i64;
    (0..count).for_each(|time| ledger.append(&line(time)));
    let Written { waiting, lost, .. } = ledger.written();
    assert!(lost > 0 && waiting <= WAITING_MAX + BATCH, "{waiting} wait, {lost} are lost");
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
