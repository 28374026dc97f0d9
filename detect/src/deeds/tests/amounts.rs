use hedgerow_event::{HostCounters, calls::Class};

use super::super::amounts::{COUNTERS_MAX, PEERS_MAX};
use super::*;

const RENAME: usize = Class::Rename as usize;
const MB: u64 = 1_000_000;

fn web() -> Who {
    who("/usr/sbin/web", 7)
}

/// A host whose web server sent so much to one peer within an hour, and was called by a client.
fn learned(bytes: u64) -> Host {
    let mut host = Host::new();
    host.row(&web(), &[]);
    host.flow(&web(), outbound("10.0.0.2", bytes));
    host.flow(&web(), inbound("10.0.0.3", 80));
    host.end_learning();
    host
}

fn of(told: &[(Deed, String)], deed: Deed) -> Vec<String> {
    told.iter().filter(|(did, _)| *did == deed).map(|(_, what)| what.clone()).collect()
}

#[test]
fn much_to_a_new_peer_is_told_however_slowly_it_leaves() {
    let mut host = learned(MB);
    let mut send = |bytes| {
        host.pass(600);
        of(&host.flow(&web(), outbound("192.0.2.7", bytes)), Deed::Outflow)
    };
    for _ in 0..40 {
        assert!(send(MB / 10).is_empty());
    }
    assert_eq!(send(MB / 10), ["4100 KB to 192.0.2.7"]);
    // Told again when it doubled.
    assert!(send(MB).is_empty());
    assert_eq!(send(5 * MB), ["11 MB to 192.0.2.7"]);
}

#[test]
fn much_to_a_known_peer_or_little_to_a_new_one_is_silent() {
    let mut host = learned(MB);
    assert!(host.flow(&web(), outbound("10.0.0.2", 500 * MB)).is_empty());
    assert!(host.flow(&web(), outbound("192.0.2.7", 4 * MB)).is_empty());
    // A program that never sent anything has the floor.
    let other = who("/bin/other", 8);
    assert!(host.flow(&other, outbound("192.0.2.7", MB)).is_empty());
    assert_eq!(host.flow(&other, outbound("192.0.2.7", 1)).len(), 1);
}

#[test]
fn the_most_is_that_of_an_hour_and_of_one_peer() {
    let mut host = Host::new();
    for (peer, pause) in [("10.0.0.2", 0), ("10.0.0.2", 0), ("10.0.0.3", 3600), ("10.0.0.2", 0)] {
        host.pass(pause);
        host.flow(&web(), outbound(peer, MB));
    }
    host.end_learning();
    assert!(host.flow(&web(), outbound("192.0.2.7", 8 * MB)).is_empty());
    assert_eq!(host.flow(&web(), outbound("192.0.2.7", 1)).len(), 1);
}

#[test]
fn a_new_source_that_takes_much_is_told() {
    let mut host = learned(MB);
    let mut flow = inbound("192.0.2.7", 80);
    flow.phase = FlowPhase::Final;
    flow.bytes_out = 5 * MB;
    assert_eq!(of(&host.flow(&web(), flow.clone()), Deed::Outflow), ["5000 KB to 192.0.2.7"]);
    flow.peer.address = "10.0.0.3".parse().unwrap();
    assert!(host.flow(&web(), flow).is_empty());
}

#[test]
fn a_new_source_that_gets_far_more_for_what_it_asks_is_told() {
    let mut host = Host::new();
    host.row(&web(), &[]);
    let flow = |peer: &str, out, asked| {
        let mut flow = inbound(peer, 80);
        flow.phase = FlowPhase::Final;
        (flow.bytes_out, flow.bytes_in) = (out, asked);
        flow
    };
    // Clients get fifty bytes for each, and each of them so much that a whole table is no more.
    host.flow(&web(), flow("10.0.0.3", 50 * MB, MB));
    host.end_learning();
    let told = |host: &mut Host, peer, out, asked| {
        let told: Vec<_> = host.flow(&web(), flow(peer, out, asked));
        of(&told, Deed::Answers)
    };
    assert!(told(&mut host, "10.0.0.3", 10 * MB, 200).is_empty(), "known");
    assert!(told(&mut host, "192.0.2.7", 20 * MB, MB / 10).is_empty(), "four times as much");
    assert!(told(&mut host, "192.0.2.8", MB / 5, 100).is_empty(), "little");
    let what = "50000 times what it sent, 10 MB to 192.0.2.9";
    assert_eq!(told(&mut host, "192.0.2.9", 10 * MB, 200), [what]);
    let (subject, deed, contact) = (web().subject(), Deed::Answers, None);
    let object = Object::Did { subject, deed, what: what.into(), contact };
    host.deeds.learn(&object);
    assert!(host.deeds.knows(&object));
    assert!(told(&mut host, "192.0.2.10", 10 * MB, 200).is_empty(), "accepted");
}

#[test]
fn a_burst_of_processes_is_told_of_who_serves_connections() {
    let fork =
        Origin::Fork(Fork { child_tgid: 99, child_tid: 99, child_start_boot_ns: 9, thread: false });
    let burst = |host: &mut Host, who: &Who, times: usize| {
        let told = (0..times).flat_map(|_| host.objects(who, fork.clone()));
        let found = told.filter_map(|object| match object {
            Object::Did { deed: Deed::Forks, what, .. } => Some(what.to_string()),
            _ => None,
        });
        found.collect::<Vec<_>>()
    };
    let mut host = Host::new();
    burst(&mut host, &web(), 60);
    host.end_learning();
    host.pass(5);
    // A process for each connection is its work.
    for _ in 0..500 {
        host.flow(&web(), inbound("10.0.0.3", 80));
    }
    assert!(burst(&mut host, &web(), 740).is_empty());
    assert_eq!(burst(&mut host, &web(), 1), ["241 processes in 5 s"]);
    host.pass(5);
    assert!(burst(&mut host, &web(), 240).is_empty(), "another 5 s");
    assert!(burst(&mut host, &who("/usr/bin/make", 8), 2_000).is_empty(), "it serves nobody");
}

#[test]
fn an_amount_that_was_accepted_is_usual_from_then_on() {
    let mut host = learned(MB);
    let objects = host.objects(&web(), Origin::Flow(Box::new(outbound("192.0.2.7", 20 * MB))));
    objects.iter().for_each(|object| host.deeds.learn(object));
    assert!(host.flow(&web(), outbound("192.0.2.8", 79 * MB)).is_empty());
    assert_eq!(host.flow(&web(), outbound("192.0.2.8", 2 * MB)).len(), 1);
}

#[test]
fn much_through_name_queries_is_told_also_to_a_known_server() {
    let query = |bytes| {
        let mut flow = outbound("10.0.0.2", bytes);
        flow.protocol = Protocol::Udp;
        flow.peer.port = 53;
        flow
    };
    let mut host = Host::new();
    host.flow(&web(), query(30_000));
    host.end_learning();
    host.pass(3600);
    assert!(host.flow(&web(), query(120_000)).is_empty());
    host.pass(3600);
    assert!(host.flow(&web(), query(100_000)).is_empty(), "another hour");
    let told = host.flow(&web(), query(21_000));
    assert_eq!(told, did(Deed::DnsOutflow, "121 KB to port 53 in an hour"));
}

#[test]
fn one_new_source_that_calls_more_than_any_is_told() {
    let mut host = learned(MB);
    let call = |host: &mut Host, source, count| {
        let told = (0..count).flat_map(|_| host.flow(&web(), inbound(source, 80)));
        of(&told.collect::<Vec<_>>(), Deed::OneSource)
    };
    assert!(call(&mut host, "10.0.0.3", 500).is_empty(), "known");
    assert!(call(&mut host, "127.0.0.1", 500).is_empty(), "the host itself");
    assert!(call(&mut host, "192.0.2.7", 100).is_empty());
    host.pass(300);
    assert!(call(&mut host, "192.0.2.7", 100).is_empty(), "another five minutes");
    assert_eq!(call(&mut host, "192.0.2.7", 1), ["101 connections from 192.0.2.7 in five minutes"]);
}

#[test]
fn many_connections_that_fail_are_told_where_that_is_more_than_usual() {
    let fail = |host: &mut Host, count: u8| {
        let told = (0..count).flat_map(|last| {
            let mut flow = outbound(&format!("192.0.2.{last}"), 0);
            flow.phase = FlowPhase::Failed;
            host.flow(&web(), flow)
        });
        of(&told.collect::<Vec<_>>(), Deed::Scan)
    };
    let mut host = learned(MB);
    assert!(fail(&mut host, 50).is_empty());
    assert_eq!(fail(&mut host, 1), ["51 connections that failed in five minutes"]);
    host.pass(300);
    assert!(fail(&mut host, 50).is_empty(), "another five minutes");
    let mut host = Host::new();
    fail(&mut host, 40);
    host.end_learning();
    host.pass(300);
    assert!(fail(&mut host, 160).is_empty(), "a peer that is down is called again and again");
    assert_eq!(fail(&mut host, 1).len(), 1);
}

#[test]
fn what_nobody_took_is_told_where_that_is_more_than_usual() {
    let mut host = learned(MB);
    let key = host.baseline.key();
    let mut count = |closed_ports, learning| {
        let counters = HostCounters { closed_ports: Some(closed_ports), ..HostCounters::default() };
        let told = host.deeds.observe_counters(&counters, key, learning);
        host.pass(300);
        told.map(|object| object.to_string())
    };
    assert_eq!((count(0, false), count(500, false)), (None, None));
    let told = count(501, false).unwrap();
    assert!(told.contains("501 connections that nobody took in five minutes"), "{told}");
    assert_eq!(count(400, true), None);
    assert_eq!(count(1600, false), None, "a host that is knocked at all day");
    assert!(count(1601, false).is_some());
}

#[test]
fn a_busy_client_while_learning_sets_what_one_source_may() {
    let mut host = Host::new();
    host.row(&web(), &[]);
    for _ in 0..50 {
        host.flow(&web(), inbound("10.0.0.3", 80));
    }
    host.end_learning();
    host.pass(300);
    let told = (0..200).flat_map(|_| host.flow(&web(), inbound("192.0.2.7", 80)));
    assert!(of(&told.collect::<Vec<_>>(), Deed::OneSource).is_empty());
    assert_eq!(of(&host.flow(&web(), inbound("192.0.2.7", 80)), Deed::OneSource).len(), 1);
}

/// Calls a peer with these gaps, in milliseconds, again and again.
fn beacon(host: &mut Host, peer: &str, gaps_ms: &[u64]) -> Vec<String> {
    let gaps = gaps_ms.iter().cycle().take(9);
    let told = gaps.flat_map(|gap| {
        host.now_ns += gap * 1_000_000;
        host.flow(&web(), outbound(peer, 100))
    });
    of(&told.collect::<Vec<_>>(), Deed::Beacon)
}

#[test]
fn a_new_peer_that_is_called_by_the_clock_is_told() {
    let mut host = learned(MB);
    assert_eq!(beacon(&mut host, "192.0.2.7", &[55_000, 65_000]), ["192.0.2.7 every 60 s"]);
    assert!(beacon(&mut host, "10.0.0.2", &[60_000]).is_empty(), "known");
    assert!(beacon(&mut host, "192.0.2.8", &[10_000, 90_000]).is_empty(), "irregular");
    assert!(beacon(&mut host, "192.0.2.9", &[200]).is_empty(), "one page's connections");
}

#[test]
fn an_accepted_beacon_is_silent_and_another_is_not() {
    let mut host = learned(MB);
    let object = Object::Did {
        subject: web().subject(),
        deed: Deed::Beacon,
        what: "192.0.2.7 every 60 s".into(),
        contact: None,
    };
    host.deeds.learn(&object);
    assert!(beacon(&mut host, "192.0.2.7", &[30_000]).is_empty());
    assert_eq!(beacon(&mut host, "192.0.2.8", &[30_000]).len(), 1);
}

#[test]
fn many_renames_by_one_program_or_by_many_are_told() {
    let mut host = learned(MB);
    assert!(host.row(&web(), &[(RENAME, 100)]).is_empty());
    host.pass(300);
    assert!(host.row(&web(), &[(RENAME, 90)]).is_empty(), "another five minutes");
    let told = host.row(&web(), &[(RENAME, 11)]);
    assert_eq!(told, did(Deed::Rewrite, "101 renames in five minutes"));
    host.pass(300);
    let told: Vec<_> = (0..11)
        .flat_map(|at| host.row(&who(&format!("/bin/worker{at}"), 20 + at), &[(RENAME, 10)]))
        .collect();
    assert_eq!(told, did(Deed::Rewrite, "110 renames in five minutes by its workload"));
}

#[test]
fn a_rotation_that_learning_saw_is_silent() {
    let mut host = Host::new();
    let rotate = who("/usr/sbin/logrotate", 9);
    host.row(&rotate, &[(RENAME, 150)]);
    host.end_learning();
    host.pass(300);
    assert!(host.row(&rotate, &[(RENAME, 600)]).is_empty());
    assert_eq!(host.row(&rotate, &[(RENAME, 1)])[0].0, Deed::Rewrite);
}

#[test]
fn the_most_survives_the_model_file() {
    let mut host = learned(50 * MB);
    let mut bytes = Vec::new();
    ciborium::into_writer(&host.deeds, &mut bytes).unwrap();
    host.deeds = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert!(host.flow(&web(), outbound("192.0.2.7", 200 * MB)).is_empty());
    assert_eq!(host.flow(&web(), outbound("192.0.2.7", 1)).len(), 1);
}

#[test]
fn a_program_of_another_workload_is_judged_by_its_own_most() {
    let mut host = Host::new();
    host.flow(&web(), outbound("10.0.0.2", 100 * MB));
    host.flow(&web().of("small.service"), outbound("10.0.0.2", MB));
    host.end_learning();
    let flow = || outbound("192.0.2.7", 5 * MB);
    assert_eq!(host.flow(&web().of("small.service"), flow()).len(), 1);
    assert!(host.flow(&web().of("new.service"), flow()).is_empty(), "as the program anywhere");
}

#[test]
fn amounts_are_bounded_and_what_is_not_followed_is_counted() {
    let mut host = learned(MB);
    host.pass(300);
    let most = COUNTERS_MAX.max(PEERS_MAX) + 1;
    for address in 0..u32::try_from(most).unwrap() {
        let mut flow = inbound("192.0.2.7", 80);
        flow.peer.address = std::net::Ipv4Addr::from(0xc633_0000 + address).into();
        host.flow(&web(), flow);
    }
    // An eighth makes room at a time.
    let past = |limit: usize| (most - limit).div_ceil(limit / 8) * (limit / 8);
    assert_eq!(host.deeds.refused(), (past(COUNTERS_MAX) + past(PEERS_MAX)) as u64);
}

/// One who calls many addresses hides no theft little by little: neither another's, nor his own.
#[test]
fn many_newcomers_hide_no_slow_theft_and_no_brute_force() {
    for flooder in ["flood.service", "web.service"] {
        let mut host = learned(MB);
        host.pass(300);
        let flood = who("/opt/flood", 9).of(flooder);
        let (mut told, mut next) = (Vec::new(), 0u32);
        for round in 0..10 {
            told.extend(host.flow(&web(), outbound("192.0.2.7", MB)));
            for _ in 0..if round < 2 { 0 } else { 20 } {
                told.extend(host.flow(&web(), inbound("192.0.2.9", 80)));
            }
            for _ in 0..PEERS_MAX + 10 {
                next += 1;
                let mut flow = inbound("192.0.2.1", 80);
                flow.peer.address = std::net::Ipv4Addr::from(0x0b00_0000 + next).into();
                host.flow(&flood, flow.clone());
                if next % 2 == 0 {
                    flow.direction = FlowDirection::Outbound;
                    host.flow(&flood, flow);
                }
            }
        }
        let has = |wanted| told.iter().any(|(deed, _)| *deed == wanted);
        assert!(has(Deed::Outflow), "{flooder}: {told:?}");
        assert!(has(Deed::OneSource), "{flooder}");
    }
}
