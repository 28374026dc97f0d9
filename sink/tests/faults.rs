//! What can go wrong between Hedgerow and a real Apache Kafka 4: the network, and the disk below the
//! spool. (A broker that is killed: `kafka.rs`; a daemon that is killed: `src/daemon/outlets/killed.rs`.)
#![allow(clippy::unwrap_used)]

mod broker;
mod common;
#[path = "broker/proxy.rs"]
mod proxy;

use std::{
    collections::BTreeSet,
    ffi::CString,
    path::Path,
    time::{Duration, Instant},
};

use broker::{
    PATIENCE, Received, assert_all_arrived, assert_in_order, config, read_all, send, spool_files,
};
use hedgerow_lab::Broker;
use hedgerow_sink::kafka::{Connection, KafkaSink};
use proxy::{Line, Proxy};

#[test]
fn a_network_that_is_cut_and_a_disk_that_is_full() {
    let broker = Broker::start("faults").unwrap();
    let (own, told) = broker.behind().unwrap();
    let proxy = Proxy::start(&own, &told, Line::Passes);
    let begun = Instant::now();
    let step = |name: &str| eprintln!("{:5.1} s: {name}", begun.elapsed().as_secs_f64());
    step("a network that is cut costs nothing and repeats nothing");
    a_network_that_is_cut_costs_nothing_and_repeats_nothing(&broker, &told, &proxy);
    step("what a full disk did not lose in so many words arrives");
    // Mounts are a thread's own, and those of the threads that it makes.
    let full = || what_a_full_disk_did_not_lose_in_so_many_words_arrives(&broker, &told, &proxy);
    std::thread::scope(|scope| scope.spawn(full).join().unwrap());
    step("done");
}

fn a_network_that_is_cut_costs_nothing_and_repeats_nothing(
    broker: &Broker,
    told: &str,
    proxy: &Proxy,
) {
    const PART: u32 = 600;
    let home = tempfile::tempdir().unwrap();
    let sink = KafkaSink::start(config(told, home.path(), "cut")).unwrap();
    send(&sink, 0..PART);
    let part = |number: u32| u64::from(number * PART);
    let status = sink.wait(PATIENCE, |status| status.delivered == part(1));
    assert_eq!(status.delivered, part(1), "{status:?}");

    // Half open: what is sent is taken, and nobody answers.
    proxy.set(Line::Swallows);
    send(&sink, PART..2 * PART);
    let status = sink.wait(PATIENCE, |status| status.waiting == part(1));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((status.delivered, sink.status().delivered), (part(1), part(1)), "{status:?}");
    proxy.set(Line::Away);
    send(&sink, 2 * PART..3 * PART);
    let status = sink.wait(PATIENCE, |status| {
        status.connection == Connection::Down && status.waiting == part(2)
    });
    assert!(status.trouble().unwrap().contains("can't be reached"), "{status:?}");

    // The broker has it, and we don't know: what is sent again is the same to it.
    proxy.set(Line::Passes);
    let status = sink.wait(PATIENCE, |status| status.delivered == part(3));
    assert_eq!((status.delivered, status.waiting), (part(3), 0), "{status:?}");
    proxy.set(Line::SwallowsAnswers);
    send(&sink, 3 * PART..4 * PART);
    let arrived = || read_all(broker.address(), "cut.findings").len() as u64 > part(3);
    let deadline = Instant::now() + PATIENCE;
    while !arrived() {
        assert!(Instant::now() < deadline, "the broker gets nothing");
    }
    assert_eq!(sink.status().delivered, part(3));
    proxy.set(Line::Passes);
    let status = sink.wait(PATIENCE, |status| status.delivered == part(4));
    assert_eq!((status.delivered, status.waiting), (part(4), 0), "{status:?}");
    let status = sink.stop(PATIENCE);
    assert_eq!((status.overflow, status.rejected), (0, 0), "{status:?}");
    assert_eq!(spool_files(home.path()), 0);

    let received = read_all(broker.address(), "cut.findings");
    assert_all_arrived(&received, 0..4 * PART);
    assert_in_order(&received);
    assert_eq!(received.len() as u64, part(4), "one producer lives through it: no repeats");
}

/// A tmpfs in mounts of the calling thread's own, which go with it.
fn mount(place: &Path, kilobytes: u32, flags: libc::c_ulong) {
    let text = |text: &str| CString::new(text).unwrap();
    let (place, size) =
        (text(place.to_str().unwrap()), text(&format!("size={kilobytes}k,mode=0700")));
    // SAFETY: all strings outlive the call.
    let done = unsafe {
        libc::mount(
            c"none".as_ptr(),
            place.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            size.as_ptr().cast(),
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn own_mounts() {
    let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: the strings are constants; only this thread moves.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

fn what_a_full_disk_did_not_lose_in_so_many_words_arrives(
    broker: &Broker,
    told: &str,
    proxy: &Proxy,
) {
    own_mounts();
    let home = tempfile::tempdir().unwrap();
    mount(home.path(), 256, 0);
    proxy.set(Line::Away);
    let mut config = config(told, home.path(), "disk");
    config.in_flight_limit = 16;
    let sink = KafkaSink::start(config.clone()).unwrap();
    send(&sink, 0..400);
    let held = |status: &hedgerow_sink::kafka::KafkaStatus| status.waiting + status.overflow;
    let status = sink.wait(PATIENCE, |status| held(status) == 400);
    assert_eq!(held(&status), 400, "{status:?}");
    assert!(status.overflow > 0 && status.waiting > 16, "{status:?}");
    let lost = status.overflow;

    // Somebody makes room; the broker is still away. What waits in memory goes to the disk at the end.
    mount(home.path(), 8192, libc::MS_REMOUNT);
    send(&sink, 400..500);
    let status = sink.wait(PATIENCE, |status| held(status) == 500);
    assert_eq!((held(&status), status.overflow), (500, lost), "{status:?}");
    let status = sink.stop(Duration::ZERO);
    assert_eq!((status.waiting, status.overflow), (500 - lost, lost), "{status:?}");

    let sink = KafkaSink::start(config).unwrap();
    assert_eq!(sink.status().recovered.records, 500 - lost);
    proxy.set(Line::Passes);
    let status = sink.wait(PATIENCE, |status| status.delivered == 500 - lost);
    assert_eq!((status.delivered, status.waiting), (500 - lost, 0), "{status:?}");
    sink.stop(PATIENCE);
    let received = read_all(broker.address(), "disk.findings");
    let arrived: BTreeSet<String> = received.iter().map(Received::uid).collect();
    assert_eq!(arrived.len() as u64, 500 - lost);
    let first = common::finding(0).report_uid();
    let late = (400..500).map(|number| common::finding(number).report_uid());
    assert!(arrived.contains(&first), "the oldest are kept");
    assert!(
        late.into_iter().all(|uid| arrived.contains(&uid)),
        "and what came after there was room"
    );
}
