//! Sequences of calls, read from directories and measured by the shipped rule.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use hedgerow_event::calls::Tables;
use hedgerow_offline::traces::{
    Trace,
    judge::{How, Judged, learn},
    life,
    mapping::{Mapping, NONE},
    read,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const HOW: How = How { calls: 64, seed: 5 };

/// A life of a service: requests, each a few calls in one of three orders.
fn ordinary(rng: &mut SmallRng) -> Vec<&'static str> {
    let mut calls = vec!["execve", "brk", "mmap", "mprotect"];
    for _ in 0..rng.gen_range(10..40) {
        calls.extend(match rng.gen_range(0..3) {
            0 => ["accept", "read", "openat", "fstat", "sendfile", "close"],
            1 => ["poll", "recvfrom", "write", "lseek", "read", "close"],
            _ => ["stat", "openat", "read", "write", "fsync", "close"],
        });
    }
    calls
}

/// The same calls, in orders that it never had.
fn strange(rng: &mut SmallRng) -> Vec<&'static str> {
    let mut calls = ordinary(rng);
    let end = calls.len();
    calls[end / 2..].reverse();
    calls
}

fn write(directory: &Path, traces: impl Iterator<Item = Vec<&'static str>>, separator: &str) {
    fs::create_dir_all(directory).unwrap();
    for (at, calls) in traces.enumerate() {
        fs::write(directory.join(format!("{at:03}.txt")), calls.join(separator)).unwrap();
    }
}

#[test]
fn strange_orders_are_measured_farther_than_ordinary_ones_and_nothing_is_learned_of_them() {
    let home = tempfile::tempdir().unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    write(&home.path().join("learn"), (0..120).map(|_| ordinary(&mut rng)), " ");
    write(&home.path().join("normal"), (0..40).map(|_| ordinary(&mut rng)), "\n");
    write(&home.path().join("attack"), (0..40).map(|_| strange(&mut rng)), "|");
    let mapping = Mapping::native();
    let of = |part: &str| read::directory(&home.path().join(part), &mapping).unwrap();
    let learned = learn(&of("learn"), HOW).unwrap();
    let judge =
        |part: &str| -> Vec<Judged> { of(part).iter().map(|trace| learned.judge(trace)).collect() };
    let (normal, attack) = (judge("normal"), judge("attack"));
    assert_eq!(normal, judge("normal"));
    let mut highest: Vec<f64> = normal.iter().map(|of| of.measure).collect();
    highest.sort_by(f64::total_cmp);
    let found = attack.iter().filter(|of| of.measure > highest[37]).count();
    assert!(found >= 36, "{found} of 40");
    assert!(attack.iter().all(|of| of.unseen6 > 0));
    assert!(normal.iter().filter(|of| of.unseen6 == 0).count() >= 36);
}

#[test]
fn numbers_of_another_architecture_are_as_their_names() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/maps/i386.csv"));
    let i386 = Mapping::read(path).unwrap();
    let tables = Tables::new();
    for number in 0..1000 {
        let native = tables.native_number(number, true);
        let wanted = if native < 0 { NONE } else { native };
        let found = i386.number(&number.to_string());
        assert!(found == Some(wanted) || (found.is_none() && wanted == NONE), "{number}");
    }
    assert_eq!(i386.number("openat"), Mapping::native().number("openat"));
    assert!(i386.number("open_the_door").is_none());
}

#[test]
fn windows_are_equal_parts_and_hold_every_call_once() {
    for (length, epochs) in [(1, 1), (90, 1), (96, 2), (640, 10), (650, 10)] {
        let trace = Trace { name: String::new(), calls: vec![0; length] };
        assert_eq!(life::epochs(&trace, 64), epochs, "{length}");
        let subject = life::subject();
        let records = life::records(&trace, 64, &subject, 1, hedgerow_event::Epoch(1));
        assert_eq!(records.count(), length + epochs as usize);
    }
}

#[test]
fn what_is_no_trace_is_refused_by_file_and_line() {
    let home = tempfile::tempdir().unwrap();
    let refused = |name: &str, content: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, content).unwrap();
        let why = read::file(&path, &Mapping::native()).unwrap_err().to_string();
        assert!(why.starts_with(&format!("{}: ", path.display())), "{why}");
        why
    };
    assert!(refused("empty", b"").ends_with("line 1: no call in it"));
    assert!(refused("blank", b" \n\n ").ends_with("line 1: no call in it"));
    assert!(refused("word", b"read\nwrite 4\nfly 5").contains("line 3: \"fly\" is not in"));
    assert!(refused("number", b"1 2\n99999999999").contains("line 2: \"99999999999\""));
    assert!(refused("bytes", b"3 \xff\xfe\x00 3").contains("line 1: "));
    let long = refused("long", &vec![b'x'; 3 << 20]);
    assert!(long.len() < 400 && long.contains("line 1: "), "{long}");
    // Calls of one line that is longer than what is held at a time.
    let path = home.path().join("line");
    fs::write(&path, "write ".repeat(500_000)).unwrap();
    let calls = read::file(&path, &Mapping::native()).unwrap();
    assert!(calls.len() == 500_000 && calls.iter().all(|call| *call == 1));
    // A gigabyte, which is not read.
    let path = home.path().join("large");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let why = read::file(&path, &Mapping::native()).unwrap_err().to_string();
    assert!(why.ends_with("large: 1024 MiB: a trace has 64 at most"), "{why}");

    let empty = tempfile::tempdir().unwrap();
    let why = read::directory(empty.path(), &Mapping::native()).unwrap_err().to_string();
    assert!(why.contains("one file a trace"), "{why}");
    let few = [Trace { name: String::new(), calls: vec![1; 100] }];
    assert!(learn(&few, HOW).unwrap_err().to_string().contains("40 are needed"));
}

#[test]
fn a_wrong_table_of_calls_is_refused_by_file_and_line() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("map.csv");
    for (text, why) in [
        ("1,read\n", "line 1: a table of calls begins with `token,name`"),
        ("token,name\n1 read\n", "line 2: `token,name` is wanted"),
        ("token,name\n1,read\n2,fly\n", "line 3: \"fly\" is no system call"),
        ("token,name\n1,read\n1,write\n", "line 3: \"1\" stands in an earlier line"),
    ] {
        fs::write(&path, text).unwrap();
        let found = Mapping::read(&path).unwrap_err().to_string();
        assert!(found.contains(why) && found.contains("map.csv"), "{found}");
    }
}
