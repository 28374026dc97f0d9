#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use hedgerow_event::{Program, Subject, Workload};
use hedgerow_probe::{
    host_counters::{Counted, Device},
    usage::{Usage, Way},
};

use super::*;

const HOST: u32 = 1;
/// Noon of 2026-11-28.
const NOON_NS: i64 = 1_795_867_200_000_000_000;

fn used(device: &str, netns: u32, sent: Way) -> Usage {
    let program = Program::new("/usr/bin/curl");
    Usage {
        subject: Arc::new(Subject::new(Workload::new("web.service"), program)),
        uid: 33,
        netns,
        device: device.into(),
        peer: Some([192, 0, 2, 1].into()),
        received: Way::default(),
        sent,
    }
}

fn way(bytes: u64, extra: u64, segments: u64) -> Way {
    Way { bytes, extra, segments }
}

fn device(name: &str, netns: u32, bytes: u64, packets: u64) -> Device {
    let sent = Counted { bytes, packets };
    Device { netns, name: name.into(), received: Counted::default(), sent }
}

#[test]
fn headers_of_segments_count_where_the_interface_counts_them() {
    // 64 packets of 45 segments; one counts each, the other the whole.
    for (counted, packets, told) in [(1_150_000, 2900, 1_146_000), (1_001_000, 70, 1_000_000)] {
        let mut meter = Meter::new(Some(HOST));
        meter.measure(Vec::new(), &[device("eth0", HOST, 5_000_000, 5000)], false);
        let now = device("eth0", HOST, 5_000_000 + counted, 5000 + packets);
        let measured =
            meter.measure(vec![used("eth0", HOST, way(1_000_000, 146_000, 2880))], &[now], true);
        assert_eq!(measured.rows[0].1.sent, told);
        assert_eq!(measured.counted, [("eth0".into(), Bytes { received: 0, sent: counted })]);
    }
}

#[test]
fn of_a_window_in_which_bytes_were_not_summed_up_the_interface_counts_and_nothing_is_made_of_how() {
    let mut meter = Meter::new(Some(HOST));
    let mut at = |whole: bool, sent: Way, bytes: u64, packets: u64| {
        let now = device("eth0", HOST, bytes, packets);
        meter.measure(vec![used("eth0", HOST, sent)], &[now], whole)
    };
    at(false, way(0, 0, 0), 0, 0);
    // It counts the whole of what is cut.
    at(true, way(1_000_000, 146_000, 2880), 1_001_000, 70);
    let shed = at(false, way(1000, 0, 1), 9_001_000, 60_070);
    assert_eq!(shed.counted[0].1.sent, 8_000_000);
    let after = at(true, way(1_000_000, 146_000, 2880), 10_002_000, 60_140);
    assert_eq!(after.rows[0].1.sent, 1_000_000);
}

#[test]
fn an_interface_that_is_new_moved_here_or_gone_makes_no_jump() {
    let mut meter = Meter::new(Some(HOST));
    let sent = |measured: Measured| measured.counted[0].1.sent;
    // It was made since, and all that it counted may have passed meanwhile.
    let made = device("eth0", 7, 1050, 12);
    assert_eq!(sent(meter.measure(vec![used("eth0", 7, way(1000, 0, 10))], &[made], true)), 1050);
    // It stood elsewhere before, as a card that is given to a container.
    let moved = device("eth1", 7, 9_000_000, 9000);
    let measured = meter.measure(vec![used("eth1", 7, way(1000, 0, 10))], &[moved], true);
    assert_eq!(measured.counted, [("eth1@web.service".into(), Bytes { received: 0, sent: 1000 })]);
    // Begins again at nothing.
    let again = device("eth1", 7, 1080, 11);
    assert_eq!(sent(meter.measure(vec![used("eth1", 7, way(1000, 0, 10))], &[again], true)), 1080);
    assert_eq!(sent(meter.measure(vec![used("eth1", 7, way(500, 0, 5))], &[], true)), 500);
}

fn rows(number: u32) -> Vec<(Who, Bytes)> {
    let who = |at: u32| Who {
        interface: "eth0".into(),
        uid: at % 2,
        workload: "web.service".into(),
        program: "/usr/bin/curl".into(),
        peer: Some(std::net::Ipv4Addr::from_bits(at).into()),
    };
    (0..number).map(|at| (who(at), Bytes { received: 1, sent: u64::from(at) })).collect()
}

#[test]
fn many_peers_are_bounded_whole_in_sum_and_the_largest_keep_their_names() {
    let mut table = Table::new("2026-11-28".into());
    let counted = Bytes { received: 20_000, sent: (0..20_000).sum() };
    let measured = Measured { rows: rows(20_000), counted: vec![("eth0".into(), counted)] };
    table.add(measured, 3);
    for over in [false, true] {
        let bytes = table.write(over).unwrap();
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let day = Day::parse(&bytes).unwrap();
        assert!(day.rows.len() <= if over { ROWS_KEPT } else { ROWS_MAX });
        let mut sum = Bytes::default();
        day.rows.iter().for_each(|row| sum += row.bytes);
        assert_eq!(sum, counted);
        assert!(day.rows.contains(&Row {
            who: rows(20_000)[19_999].0.clone(),
            bytes: Bytes { received: 1, sent: 19_999 }
        }));
        assert_eq!((day.packets_refused, day.rows_merged > 15_000), (3, true));
    }
}

#[test]
fn more_programs_than_there_is_room_for_leave_the_smallest_to_nobody() {
    let mut table = Table::new("2026-11-28".into());
    let of = |(at, (who, bytes)): (usize, (Who, Bytes))| {
        (Who { program: format!("/bin/{at}"), peer: None, ..who }, bytes)
    };
    let rows = rows(6000).into_iter().enumerate().map(of).collect();
    let counted = vec![("eth0".to_owned(), Bytes { received: 6000, sent: (0..6000).sum() })];
    table.add(Measured { rows, counted: counted.clone() }, 0);
    let day = Day::parse(&table.write(false).unwrap()).unwrap();
    assert!(day.rows.len() <= ROWS_MAX);
    assert_eq!(day.interfaces[0].counted, counted[0].1);
}

#[test]
fn times_that_follow_each_other_are_one_and_gaps_stay() {
    let mut table = Table::new("2026-11-28".into());
    let second = 1_000_000_000;
    table.watched(NOON_NS, NOON_NS + 5 * second);
    table.watched(NOON_NS + 5 * second, NOON_NS + 10 * second);
    table.watched(NOON_NS + 60 * second, NOON_NS + 65 * second);
    let from_to = |span: &Span| [span.from_ns, span.to_ns].map(|ns| (ns - NOON_NS) / second);
    let spans: Vec<_> = table.watched.iter().map(from_to).collect();
    assert_eq!(spans, [[0, 10], [60, 65]]);
    for at in 2..200 {
        table.watched(NOON_NS + at * 60 * second, NOON_NS + (at * 60 + 5) * second);
    }
    assert_eq!((table.watched.len(), table.gaps_untold), (SPANS_MAX, 200 - SPANS_MAX as u64));
    let day = Day::parse(&table.write(false).unwrap()).unwrap();
    assert_eq!(
        Table::of(day.clone()).write(false).unwrap().len(),
        table.write(false).unwrap().len()
    );
    assert_eq!((day_of(NOON_NS).0, start_ns("2026-11-28")), (day.day, Some(NOON_NS - DAY_NS / 2)));
}

#[test]
fn what_is_no_day_is_refused() {
    let day = Table::new("2026-11-28".into()).write(false).unwrap();
    let text = String::from_utf8(day).unwrap();
    for (from, to) in
        [("\"schema\":1", "\"schema\":2"), ("2026-11-28", "../../etc"), ("rows", "row")]
    {
        assert!(Day::parse(text.replace(from, to).as_bytes()).is_err(), "{from}");
    }
    assert!(Day::parse(b"").is_err() && Day::parse(text.as_bytes()).is_ok());
}
