#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use super::*;

const LIMIT: u64 = 8 << 20;

fn open(directory: &Path) -> (Spool, Recovered) {
    Spool::open(directory, LIMIT, Fsync::Always).unwrap()
}

fn drain(spool: &mut Spool) -> Vec<(RecordId, Vec<u8>)> {
    let mut all = Vec::new();
    for topic in Topic::ALL {
        all.extend(std::iter::from_fn(|| spool.read_next(topic).unwrap()));
    }
    all.sort();
    all
}

fn files(directory: &Path) -> Vec<PathBuf> {
    segment_files(directory).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn what_is_not_confirmed_is_read_again_in_order_by_the_next_run() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, recovered) = open(home.path());
    assert_eq!(recovered, Recovered::default());
    for number in 0..10u8 {
        spool.append(&[number]).unwrap();
    }
    spool.sync().unwrap();
    let read = drain(&mut spool);
    assert_eq!(read.len(), 10);
    // 0, 1, 2 and, out of order, 5 are confirmed.
    for index in [0, 1, 2, 5] {
        spool.confirm(read[index].0).unwrap();
    }
    assert_eq!(spool.waiting(), 6);
    spool.close().unwrap();

    let (mut spool, recovered) = open(home.path());
    let values: Vec<u8> = drain(&mut spool).iter().map(|(_, payload)| payload[0]).collect();
    // 5 comes again: only the confirmed beginning is noted.
    assert_eq!(values, [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(recovered, Recovered { records: 7, torn_bytes: 0 });
}

#[test]
fn files_are_private_and_go_when_all_is_confirmed() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("spool");
    let (mut spool, _) = open(&directory);
    let payload = vec![7; 300_000];
    for _ in 0..10 {
        spool.append(&payload).unwrap();
    }
    assert!(files(&directory).len() >= 2);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    for path in files(&directory) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for (id, _) in drain(&mut spool) {
        spool.confirm(id).unwrap();
    }
    assert_eq!((spool.waiting(), spool.bytes(), files(&directory).len()), (0, 0, 0));
    spool.append(b"later").unwrap();
    assert_eq!(drain(&mut spool).len(), 1);
}

#[test]
fn a_torn_tail_is_cut_wherever_the_crash_hit() {
    for cut in 1..20 {
        let home = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(home.path());
        spool.append(b"whole").unwrap();
        spool.append(b"half written").unwrap();
        let whole = spool.bytes();
        drop(spool);
        let path = &files(home.path())[0];
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(whole - cut).unwrap();

        let (mut spool, recovered) = open(home.path());
        assert_eq!(recovered.records, 1, "cut {cut}");
        assert_eq!(recovered.torn_bytes, 20 - cut);
        spool.append(b"after").unwrap();
        let payloads: Vec<_> = drain(&mut spool).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads, [b"whole".to_vec(), b"after".to_vec()]);
    }
}

#[test]
fn a_flipped_bit_never_reads_as_a_record() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(home.path());
    spool.append(b"first").unwrap();
    spool.append(b"second").unwrap();
    drop(spool);
    let path = files(home.path())[0].clone();
    let good = fs::read(&path).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let (mut spool, recovered) = open(home.path());
        assert!(recovered.torn_bytes > 0, "byte {byte}");
        for (_, payload) in drain(&mut spool) {
            assert_eq!(payload, b"first");
        }
        drop(spool);
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn the_limit_refuses_the_newest_and_keeps_the_oldest() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(home.path(), SPOOL_BYTES_LEAST, Fsync::Never).unwrap();
    let mut appended = 0;
    while spool.append(&[appended; 100]).is_ok() {
        appended += 1;
    }
    assert!(matches!(spool.append(&[0; 100]), Err(SinkError::SpoolFull { .. })));
    assert_eq!(u64::from(appended), SPOOL_BYTES_LEAST / 108);
    let read = drain(&mut spool);
    assert_eq!(read.len(), usize::from(appended));
    assert_eq!(read[0].1, [0; 100]);
}

#[test]
fn a_spool_has_one_owner() {
    let home = tempfile::tempdir().unwrap();
    let (spool, _) = open(home.path());
    let second = Spool::open(home.path(), LIMIT, Fsync::Always);
    assert!(matches!(second, Err(SinkError::SpoolBusy(_))));
    drop(spool);
    open(home.path());
}

#[test]
fn a_note_of_what_was_confirmed_is_good_for_one_run() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(home.path());
    spool.append(b"one").unwrap();
    spool.append(b"two").unwrap();
    let read = drain(&mut spool);
    spool.confirm(read[0].0).unwrap();
    spool.close().unwrap();
    // The next run delivers the rest and crashes; the one after begins with segment 1 again.
    let (mut spool, recovered) = open(home.path());
    assert_eq!(recovered.records, 1);
    for (id, _) in drain(&mut spool) {
        spool.confirm(id).unwrap();
    }
    drop(spool);
    let (mut spool, _) = open(home.path());
    spool.append(b"three").unwrap();
    drop(spool);
    let (mut spool, recovered) = open(home.path());
    assert_eq!(recovered.records, 1);
    assert_eq!(drain(&mut spool)[0].1, b"three");
}

#[test]
fn a_record_that_rots_is_given_up_and_holds_no_other() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(home.path());
    spool.append(b"first").unwrap();
    spool.append(b"second").unwrap();
    let path = files(home.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(spool.read_next(Topic::Findings).is_err());
    let (id, payload) = spool.read_next(Topic::Findings).unwrap().unwrap();
    assert_eq!(payload, b"second");
    spool.confirm(id).unwrap();
    assert_eq!((spool.waiting(), files(home.path()).len()), (0, 0));
}

#[test]
fn each_topic_is_read_in_its_own_order_however_far_the_others_are() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(home.path());
    let record = |topic: u8, number: u8| {
        let mut record = vec![number; 300_000];
        record[1] = topic;
        record
    };
    let numbers = |spool: &mut Spool, topic| -> Vec<u8> {
        std::iter::from_fn(|| spool.read_next(topic).unwrap())
            .map(|(_, payload)| payload[0])
            .collect()
    };
    for number in 0..10 {
        spool.append(&record(number % 3, number)).unwrap();
    }
    assert!(files(home.path()).len() > 1);
    assert_eq!(numbers(&mut spool, Topic::Health), [2, 5, 8]);
    spool.append(&record(2, 10)).unwrap();
    assert_eq!(numbers(&mut spool, Topic::Findings), [0, 3, 6, 9]);
    assert_eq!(numbers(&mut spool, Topic::Health), [10]);
    assert_eq!(numbers(&mut spool, Topic::Remediations), [1, 4, 7]);
}

#[test]
fn a_batch_is_synced_in_each_segment_that_it_was_written_to() {
    let home = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(home.path());
    for number in 0..10 {
        spool.append(&[number; 300_000]).unwrap();
    }
    assert!(spool.segments.len() > 2 && !spool.segments[0].is_synced());
    spool.sync().unwrap();
    assert!(spool.segments.iter().all(Segment::is_synced));
}

#[test]
fn a_spool_that_others_can_change_is_refused_and_nothing_of_theirs_is_cut_or_sent() {
    let home = tempfile::tempdir().unwrap();
    let (directory, victim) = (home.path().join("spool"), home.path().join("victim"));
    fs::create_dir(&directory).unwrap();
    fs::write(&victim, "theirs").unwrap();
    let segment = directory.join("0000000000000001.spool");
    let set_mode =
        |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    let refused = |why: &str| {
        let said = Spool::open(&directory, LIMIT, Fsync::Always).unwrap_err().to_string();
        assert!(said.contains(why) && said.contains(&*directory.to_string_lossy()), "{said}");
    };
    for mode in [0o777, 0o1777, 0o720] {
        set_mode(mode);
        refused("others may write to it");
    }
    set_mode(0o700);
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    assert!(Spool::open(&link, LIMIT, Fsync::Always).is_err());
    // What was put there before it was closed.
    let plants: [(&str, &dyn Fn()); 3] = [
        ("a link", &|| std::os::unix::fs::symlink(&victim, &segment).unwrap()),
        ("2 names", &|| fs::hard_link(&victim, &segment).unwrap()),
        ("a FIFO", &|| {
            let made = std::process::Command::new("mkfifo").arg(&segment).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (why, plant) in plants {
        plant();
        refused(why);
        fs::remove_file(&segment).unwrap();
    }
    assert_eq!(fs::read(&victim).unwrap(), b"theirs");
    if own::user() == 0 {
        fs::write(&segment, segment::frame(b"forged")).unwrap();
        std::os::unix::fs::chown(&segment, Some(12_345), None).unwrap();
        refused("user 12345");
        fs::remove_file(&segment).unwrap();
    }
    open(&directory).0.append(b"ours").unwrap();
}
