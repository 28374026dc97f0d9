//! Flows as the running probe delivers them: named, in their windows, adding up. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    process::Command,
    time::Duration,
};

use harness::Sensor;
use hedgerow_event::{Event, Flow, FlowDirection, FlowPhase, Origin};
use hedgerow_probe::Options;

const ROUNDS: u64 = 20;
/// On a slow machine the first records may come before the name of who stood before the sensor: it goes on
/// so long at most.
const ROUNDS_MAX: u64 = 200;
const CHUNK: usize = 10_000;
/// A program whose name was not read yet.
const UNKNOWN: &str = "(unknown)";

fn options() -> Options {
    Options {
        window: Duration::from_millis(200),
        calls: false,
        observe_own: true,
        ..Options::default()
    }
}

/// Moves the calling thread into a network namespace of its own.
fn enter_namespace() -> u32 {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32
}

fn flows(events: &[Event], netns: u32) -> Vec<(&Event, &Flow)> {
    events
        .iter()
        .filter_map(|event| match &event.origin {
            Origin::Flow(flow) if flow.netns == netns => Some((event, &**flow)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_flow_over_many_windows_is_named_and_adds_up() {
    let netns = enter_namespace();
    let sensor = Sensor::start(options());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut body = vec![0; CHUNK];
    let is_named = |event: &Event| &*event.actor.subject.program.path != UNKNOWN;
    let (mut rounds, named) = (0, Cell::new(false));
    while rounds < ROUNDS || !named.get() && rounds < ROUNDS_MAX {
        rounds += 1;
        client.write_all(&body).unwrap();
        accepted.read_exact(&mut body).unwrap();
        // What is late sees several windows close at once.
        let sent = |(_, flow): &(&Event, &Flow)| flow.direction == FlowDirection::Outbound;
        sensor.wait("the bytes of this round", |seen| {
            let told = flows(&seen.events, netns);
            let bytes: u64 =
                told.iter().filter(|told| sent(told)).map(|told| told.1.bytes_out).sum();
            // Both ends' newest.
            named.set(told.iter().rev().take(2).all(|(event, _)| is_named(event)));
            bytes == rounds * CHUNK as u64
        });
    }
    drop((client, accepted));
    let is_final = |flow: &Flow| flow.phase == FlowPhase::Final;
    sensor.wait("final records", |seen| {
        flows(&seen.events, netns).iter().filter(|(_, flow)| is_final(flow)).count() == 2
    });
    let seen = sensor.stop();
    let executable = std::env::current_exe().unwrap();
    for direction in [FlowDirection::Outbound, FlowDirection::Inbound] {
        let records: Vec<_> = flows(&seen.events, netns)
            .into_iter()
            .filter(|(_, flow)| flow.direction == direction)
            .collect();
        let (out, into) = records
            .iter()
            .fold((0, 0), |sum, (_, flow)| (sum.0 + flow.bytes_out, sum.1 + flow.bytes_in));
        let payload = rounds * CHUNK as u64;
        let expected =
            if direction == FlowDirection::Outbound { (payload, 0) } else { (0, payload) };
        assert_eq!((out, into), expected);
        let phases: Vec<_> = records.iter().map(|(_, flow)| flow.phase).collect();
        assert_eq!(phases.first(), Some(&FlowPhase::Start));
        assert_eq!(phases.last(), Some(&FlowPhase::Final));
        let interim = phases.iter().filter(|phase| **phase == FlowPhase::Interim).count() as u64;
        assert_eq!(interim, phases.len() as u64 - 2);
        assert!(interim >= ROUNDS / 2, "{phases:?}");
        // Every window has its bytes: none holds much more than a round.
        assert!(records.iter().all(|(_, flow)| flow.bytes_out <= 2 * CHUNK as u64));
        let early = records.iter().take_while(|(event, _)| !is_named(event)).count();
        assert!(early < records.len(), "never named");
        for (event, _) in &records {
            assert_eq!(event.actor.tgid, std::process::id());
        }
        for (event, _) in &records[early..] {
            assert_eq!(&*event.actor.subject.program.path, executable.to_str().unwrap());
            assert_ne!(event.actor.program_id, 0);
        }
        let mut epochs: Vec<_> = records.iter().map(|(event, _)| event.epoch).collect();
        assert!(epochs.is_sorted());
        epochs.dedup();
        assert!(epochs.len() as u64 >= ROUNDS / 2);
    }
    let lost: u64 = seen.closes.iter().map(|close| close.loss.lost).sum();
    assert_eq!(lost, 0);
}

/// Those that end between the last record of an open flow and the end of the hooks.
#[test]
fn what_flows_have_moved_that_end_while_the_sensor_stops_is_not_lost() {
    let netns = enter_namespace();
    let sensor = Sensor::start(Options { window: Duration::from_secs(30), ..options() });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let pairs: Vec<_> = (0..200)
        .map(|_| {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            client.write_all(&[7; 100]).unwrap();
            accepted.read_exact(&mut [0; 100]).unwrap();
            (client, accepted)
        })
        .collect();
    let moved = 100 * pairs.len() as u64;
    let closer = std::thread::spawn(move || {
        for pair in pairs {
            drop(pair);
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let seen = sensor.stop();
    closer.join().unwrap();
    let (out, into) = flows(&seen.events, netns)
        .iter()
        .fold((0, 0), |sum, (_, flow)| (sum.0 + flow.bytes_out, sum.1 + flow.bytes_in));
    assert_eq!((out, into), (moved, moved));
}
