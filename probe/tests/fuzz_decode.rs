//! A minute of mutated records: decoding never panics, and what it makes is bounded by what it got.
#![allow(clippy::unwrap_used)]

mod golden;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use golden::Order;
use hedgerow_probe::{
    flow_event,
    wire_event::{WireEvent, decode, time_boot_ns},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Longest record that is tried; the sensor's scratch buffer holds 2,048 bytes.
const BYTES_MAX: usize = 4096;
/// A byte that is no UTF-8 becomes the three of U+FFFD.
const TEXT_GROWTH: usize = 3;

/// Numbers that programs get wrong.
const EDGES: [u16; 9] = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff];
/// Changes made to one record.
const CHANGES_MAX: u32 = 8;

/// Makes one change to a record.
fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng, records: &[Vec<u8>]) {
    let at = rng.gen_range(0..=bytes.len());
    match rng.gen_range(0..16) {
        0..=3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.r#gen();
            }
        }
        4..=6 => {
            if let Some(two) = bytes.get_mut(at & !1..(at & !1) + 2) {
                two.copy_from_slice(&EDGES[rng.gen_range(0..EDGES.len())].to_ne_bytes());
            }
        }
        7 => bytes.truncate(at),
        8 => bytes.extend((0..rng.gen_range(1..64)).map(|_| rng.r#gen::<u8>())),
        9 => {
            let other = &records[rng.gen_range(0..records.len())];
            bytes.truncate(at.min(other.len()));
            bytes.extend_from_slice(&other[at.min(other.len())..]);
        }
        10 if bytes.len() >= 2 => {
            bytes[..2].copy_from_slice(&rng.gen_range(0..12u16).to_ne_bytes());
        }
        // The header's size says the truth again, so that the body is reached.
        _ if bytes.len() >= 4 => {
            let size = u16::try_from(bytes.len()).unwrap();
            bytes[2..4].copy_from_slice(&size.to_ne_bytes());
        }
        _ => {}
    }
    bytes.truncate(BYTES_MAX);
}

/// Bytes of text that a decoded record owns.
fn text_bytes(event: &WireEvent) -> usize {
    match event {
        WireEvent::Exec(exec) => exec.path.len() + exec.filename.len() + exec.arguments.len(),
        WireEvent::Call(call) => call.path.as_ref().map_or(0, String::len),
        WireEvent::Cgroup(cgroup) => cgroup.path.len(),
        WireEvent::Used(used) => used.path.len(),
        _ => 0,
    }
}

fn check(bytes: &[u8]) -> bool {
    let time = time_boot_ns(bytes);
    let Ok(event) = decode(bytes) else { return false };
    assert!(time.is_some(), "a record has a time");
    assert!(text_bytes(&event) <= TEXT_GROWTH * bytes.len(), "{event:?}");
    if let WireEvent::Flow(flow) = &event {
        assert!(flow_event::flow(flow).is_some(), "a decoded flow has a phase: {flow:?}");
    }
    true
}

/// Half a minute; less on an emulated CPU, where the same code only runs slower.
fn patience() -> Duration {
    let emulated = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("TCG"));
    Duration::from_secs(if emulated { 5 } else { 30 })
}

#[test]
fn a_minute_of_mutated_records_neither_panics_nor_grows() {
    let records = Order::OWN.all();
    let seed: [u8; 32] = rand::random();
    let mut rng = StdRng::from_seed(seed);
    let (until, begun) = (patience(), Instant::now());
    let (mut runs, mut decoded) = (0u64, 0u64);
    while begun.elapsed() < until {
        for _ in 0..1000 {
            let mut bytes = records[rng.gen_range(0..records.len())].clone();
            (0..rng.gen_range(0..=CHANGES_MAX))
                .for_each(|_| mutate(&mut bytes, &mut rng, &records));
            let result = catch_unwind(AssertUnwindSafe(|| check(&bytes)));
            let Ok(is_record) = result else { panic!("bytes {bytes:02x?}, seed {seed:02x?}") };
            runs += 1;
            decoded += u64::from(is_record);
        }
    }
    // Past libtest's capture: how much was tried belongs into the log of a passed test too.
    let line = format!("fuzz: {runs} records in {until:?}, {decoded} of them decoded\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    assert!(runs > 1000 && decoded > 100 && decoded < runs, "{runs} runs, {decoded} decoded");
}
