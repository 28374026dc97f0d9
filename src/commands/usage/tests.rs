#![allow(clippy::unwrap_used)]
use super::*;
use crate::usage::{Interface, Who};

const NOON_NS: i64 = 1_795_867_200_000_000_000;

fn bytes(received: u64, sent: u64) -> Bytes {
    Bytes { received, sent }
}

fn row(uid: u32, program: &str, peer: Option<[u8; 4]>, sent: u64) -> Row {
    let who = Who {
        interface: "eth0".into(),
        uid,
        workload: "w".into(),
        program: program.into(),
        peer: peer.map(Into::into),
    };
    Row { who, bytes: bytes(1, sent) }
}

fn day() -> Day {
    Day {
        schema: 1,
        day: "2026-11-28".into(),
        watched: vec![Span { from_ns: NOON_NS - 3_600_000_000_000, to_ns: NOON_NS }],
        gaps_untold: 0,
        packets_refused: 0,
        rows_merged: 0,
        interfaces: vec![Interface { name: "eth0".into(), counted: bytes(10, 1000) }],
        rows: vec![
            row(0, "/bin/a", Some([192, 0, 2, 1]), 600),
            row(7, "/bin/b", None, 300),
            row(7, "/bin/b", Some([192, 0, 2, 2]), 50),
        ],
    }
}

fn asked(by: By) -> Usage {
    let state = crate::cli::State { state: None, config: None };
    Usage { by, since: None, user: None, interface: None, limit: 40, state }
}

fn lines(answer: &Answer) -> Vec<(&str, u64)> {
    answer.lines.iter().map(|line| (line.name.as_str(), line.bytes.sent)).collect()
}

#[test]
fn lines_and_other_are_what_the_interface_counted() {
    let users = Users::of("root:x:0:0::/:\ncarol:x:7:7::/:\ntoor:x:0:0::/:\n");
    for (by, told) in [
        (By::Program, vec![("/bin/a", 600), ("/bin/b", 350)]),
        (By::User, vec![("root", 600), ("carol", 350)]),
        (By::Peer, vec![("192.0.2.1", 600), (OTHER_PEERS, 300), ("192.0.2.2", 50)]),
        (By::Workload, vec![("w", 950)]),
        (By::Interface, vec![("eth0", 950)]),
        (By::Day, vec![("2026-11-28", 950)]),
    ] {
        let answer = answer(&[day()], &asked(by), &users, NOON_NS).unwrap();
        assert_eq!(lines(&answer), told);
        assert_eq!((answer.counted, answer.other), (Some(bytes(10, 1000)), Some(bytes(7, 50))));
        let gap = Span { from_ns: NOON_NS - DAY_NS / 2, to_ns: NOON_NS - 3_600_000_000_000 };
        assert_eq!(answer.gaps, [gap]);
    }
}

#[test]
fn what_a_user_had_is_told_alone_and_an_unknown_one_refused() {
    let users = Users::of("carol:x:7:7::/:\n");
    for user in ["carol", "7"] {
        let asked = Usage { user: Some(user.into()), ..asked(By::Program) };
        let answer = answer(&[day()], &asked, &users, NOON_NS).unwrap();
        assert_eq!((lines(&answer), answer.other), (vec![("/bin/b", 350)], None));
    }
    let asked = Usage { user: Some("dave".into()), ..asked(By::Program) };
    assert!(answer(&[day()], &asked, &users, NOON_NS).is_err());
}

#[test]
fn more_named_than_counted_is_no_less_than_named() {
    let mut day = day();
    day.interfaces[0].counted = bytes(0, 900);
    let answer = answer(&[day], &asked(By::Interface), &Users::default(), NOON_NS).unwrap();
    assert_eq!((answer.counted, answer.other), (Some(bytes(3, 950)), Some(bytes(0, 0))));
}

#[test]
fn amounts_read_well() {
    assert_eq!(
        [0, 999, 12_300, 1_420_000_000].map(amount),
        ["0 B", "999 B", "12.30 kB", "1.42 GB"]
    );
}
