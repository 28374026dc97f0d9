//! Windows lose nothing, count nothing twice, and show what an intruder does.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use hedgerow_event::{Event, FlowDirection, FlowPhase, Object, Origin, Scale, Signal, Subject};
use hedgerow_features::{
    Baseline, Config, ItemKey, Set, Window, WindowBuilder, fair, from_batch, matrix, matrix_names,
    to_batch,
};
use proptest::prelude::*;

const KEY: ItemKey = ItemKey(42);
const HOUR_NS: u64 = 3_600_000_000_000;

fn builder(activity_min: u64, subjects_max: usize) -> WindowBuilder {
    let mut config = Config::new("host-1");
    config.activity_min = activity_min;
    config.subjects_max = subjects_max;
    WindowBuilder::new(config, KEY)
}

/// A baseline that learned these events, frozen.
fn baseline(events: &[Event]) -> Baseline {
    let mut baseline = Baseline::new(KEY, HOUR_NS);
    events.iter().for_each(|event| baseline.observe(event));
    baseline.freeze();
    baseline
}

fn find<'a>(windows: &'a [Window], subject: &Subject) -> &'a Window {
    windows.iter().find(|window| *window.subject == *subject).unwrap()
}

fn one_window(events: &[Event], baseline: &Baseline, of: &Subject) -> Window {
    let mut builder = builder(0, 512);
    events.iter().for_each(|event| builder.observe(event));
    let windows = builder.close(&close(1), baseline);
    find(&windows, of).clone()
}

#[test]
fn a_shell_under_a_service_that_connects_out_shows_on_both() {
    let (postgres, shell) = (
        subject("postgresql.service", "/usr/bin/postgres"),
        subject("postgresql.service", "/bin/sh"),
    );
    let normal = [
        event(&postgres, 0, 8, rows(&[(1, 900), (2, 100)])),
        event(&postgres, 0, 8, outbound(FlowPhase::Start, "10.0.0.9", 5432, 100)),
    ];
    let baseline = baseline(&normal);
    assert!(normal.iter().all(|event| baseline.novel(event).is_empty()));
    let attack = [
        event(&shell, 1, 40, Origin::Exec(Box::new(exec(Some(&postgres))))),
        event(&shell, 1, 40, outbound(FlowPhase::Start, "203.0.113.5", 4444, 300)),
    ];
    let objects: Vec<Object> = attack.iter().flat_map(|event| baseline.novel(event)).collect();
    assert!(objects.iter().any(|object| matches!(object, Object::NewChild { .. })));
    assert!(objects.iter().any(|object| matches!(object, Object::NewPeer { .. })));
    assert!(objects.iter().any(|object| matches!(object, Object::NewProgram { .. })));
    let service = one_window(&attack, &baseline, &postgres);
    assert_eq!(service.value("novelty_children_count"), Some(1.0));
    assert_eq!(service.value("processes_children_count"), Some(1.0));
    assert_eq!(service.records, 0, "the exec is the shell's own record");
    let window = one_window(&attack, &baseline, &shell);
    assert_eq!(window.value("novelty_parents_count"), Some(1.0));
    assert_eq!(window.value("novelty_programs_count"), Some(1.0));
    assert_eq!(window.value("novelty_peers_count"), Some(1.0));
    assert_eq!(window.value("novelty_ports_count"), Some(1.0));
    assert_eq!(window.value("novelty_peer_out_bytes"), Some(300.0));
    assert_eq!(window.value("processes_execs_count"), Some(1.0));
}

#[test]
fn bytes_to_a_new_peer_are_told_from_bytes_to_a_known_one() {
    let backup = subject("backup.service", "/usr/bin/rsync");
    let known = event(&backup, 1, 4, outbound(FlowPhase::Interim, "10.0.0.9", 873, 50_000_000));
    let baseline = baseline(std::slice::from_ref(&known));
    let new = event(&backup, 1, 4, outbound(FlowPhase::Interim, "198.51.100.7", 873, 200_000_000));
    let window = one_window(&[known, new], &baseline, &backup);
    assert_eq!(window.value("novelty_peer_out_bytes"), Some(200e6));
    assert_eq!(window.value("flows_out_bytes"), Some(250e6));
    assert_eq!(window.value("flows_peer_out_bytes"), Some(200e6));
    assert!(window.value("flows_out_share").unwrap() > 0.99);
}

#[test]
fn a_port_scan_shows_as_ports_and_failures() {
    let nmap = subject("host", "/usr/bin/nmap");
    let baseline = baseline(&[event(&nmap, 0, 4, rows(&[(1, 1)]))]);
    let scan: Vec<Event> = (1..=300)
        .map(|port| event(&nmap, 1, 4, outbound(FlowPhase::Failed, "10.0.0.2", port, 0)))
        .collect();
    let window = one_window(&scan, &baseline, &nmap);
    assert_eq!(window.value("flows_ports_count"), Some(300.0));
    assert_eq!(window.value("flows_failed_count"), Some(300.0));
    assert_eq!(window.value("flows_failed_share"), Some(1.0));
    assert_eq!(window.value("flows_peers_count"), Some(1.0));
}

#[test]
fn a_burst_of_forks_and_short_lived_threads_is_counted_in_full() {
    let bomb = subject("cron.service", "/usr/sbin/cron");
    let baseline = baseline(&[]);
    let mut events = Vec::new();
    for child in 0..500 {
        events.push(event(&bomb, 1, 4, fork(1_000 + child)));
        let mut short = row(&[(3, 7)]);
        short.reason = hedgerow_event::RowReason::Exit;
        events.push(event(&bomb, 1, 4_000 + 4 * child, Origin::Row(Box::new(short))));
        events.push(event(&bomb, 1, 4_000 + 4 * child, exit(9)));
    }
    let window = one_window(&events, &baseline, &bomb);
    assert_eq!(window.value("processes_forks_count"), Some(500.0));
    assert_eq!(window.value("volume_processes_count"), Some(500.0));
    assert_eq!(window.value("volume_calls_count"), Some(3_500.0));
    assert_eq!(window.value("errors_signals_count"), Some(500.0));
}

#[test]
fn unavailable_is_not_zero() {
    let idle = subject("a.service", "/a");
    let learning = Baseline::new(KEY, HOUR_NS);
    let events = [event(&idle, 1, 4, fork(5))];
    let window = one_window(&events, &learning, &idle);
    for column in [
        "novelty_peers_count",
        "order_unseen6_share",
        "errors_calls_share",
        "shape_entropy_bits",
        "flows_beacon_share",
        "host_in_packets",
    ] {
        assert_eq!(window.value(column), None, "{column}");
    }
    assert_eq!(window.value("flows_opened_count"), Some(0.0));
    let window = one_window(&events, &learning, &Subject::host());
    assert_eq!(window.value("host_in_packets"), Some(100.0));
    assert_eq!(window.value("host_closed_ports_share"), Some(0.03));
    assert_eq!(window.value("host_udp_in_packets"), None, "the kernel has no such counter");
    assert_eq!(window.value("host_subjects_count"), Some(1.0));
}

#[test]
fn a_sensor_that_does_not_deliver_leaves_its_columns_empty() {
    let a = subject("a.service", "/a");
    let mut config = Config::new("h");
    config.sensors.flows = false;
    config.activity_min = 0;
    let mut builder = WindowBuilder::new(config, KEY);
    builder.observe(&event(&a, 1, 4, rows(&[(1, 30)])));
    let windows = builder.close(&close(1), &baseline(&[]));
    let window = find(&windows, &a);
    assert_eq!(window.value("flows_opened_count"), None);
    assert_eq!(window.value("volume_calls_rate"), Some(6.0));
}

#[test]
fn order_needs_a_profile_and_a_strange_thread_is_not_diluted() {
    let a = subject("a.service", "/a");
    let checked = |unseen6, tid| {
        let mut row = row(&[(1, 100)]);
        (row.checked, row.unseen6) = (100, unseen6);
        event(&a, 1, tid, Origin::Row(Box::new(row)))
    };
    let events = [checked(0, 4), checked(0, 8), checked(60, 12)];
    let window = one_window(&events, &baseline(&[]), &a);
    assert_eq!(window.value("order_unseen6_share"), Some(0.2));
    assert_eq!(window.value("order_unseen6_thread_count"), Some(60.0));
    let unprofiled = [event(&a, 1, 4, rows(&[(1, 100)]))];
    let window = one_window(&unprofiled, &baseline(&[]), &a);
    assert_eq!(window.value("order_unseen6_share"), None);
}

#[test]
fn a_suspend_leaves_counts_and_takes_rates() {
    let a = subject("a.service", "/a");
    let mut builder = builder(0, 512);
    builder.observe(&event(&a, 1, 4, rows(&[(1, 100)])));
    let mut closing = close(1);
    closing.suspended_ns = 2_000_000_000;
    let windows = builder.close(&closing, &baseline(&[]));
    let window = find(&windows, &a);
    assert_eq!(window.value("volume_calls_rate"), None);
    assert_eq!(window.value("volume_calls_count"), Some(100.0));
    assert!(!window.time.is_valid());
}

#[test]
fn a_late_event_goes_to_the_next_window_and_says_so() {
    let a = subject("a.service", "/a");
    let known = baseline(&[]);
    let mut builder = builder(0, 512);
    builder.observe(&event(&a, 1, 4, rows(&[(1, 10)])));
    let first = builder.close(&close(1), &known);
    builder.observe(&event(&a, 1, 4, rows(&[(1, 5)])));
    let second = builder.close(&close(2), &known);
    assert_eq!(find(&first, &a).loss.late, 0);
    assert_eq!(find(&second, &a).loss.late, 1);
    assert_eq!(find(&second, &a).value("volume_calls_count"), Some(5.0));
    assert!(!find(&second, &a).is_complete());
    assert!(builder.close(&close(2), &known).is_empty(), "closing again gives nothing");
}

#[test]
fn small_subjects_merge_into_other_but_never_one_with_a_hard_signal() {
    let known = baseline(&[]);
    let mut builder = builder(16, 4);
    let names: Vec<_> = (0..10).map(|i| subject("w.service", &format!("/bin/p{i}"))).collect();
    for (i, subject) in names.iter().enumerate() {
        let calls = if i < 6 { 100 + u32::try_from(i).unwrap() } else { 3 };
        builder.observe(&event(subject, 1, 4, rows(&[(1, calls)])));
    }
    builder.observe(&event(&names[9], 1, 4, Origin::Signal(Signal { unseen6: 9, calls: 20 })));
    builder.mark_hard(&names[8], hedgerow_event::Epoch(1));
    let windows = builder.close(&close(1), &known);
    let kept: Vec<&str> = windows.iter().map(|window| &*window.subject.program.path).collect();
    assert!(kept.contains(&"/bin/p9") && kept.contains(&"/bin/p8"));
    let other = find(&windows, &Subject::other(names[0].workload.clone()));
    assert_eq!(windows.len() - 2, 4 - 1, "host and other apart, {kept:?}");
    assert_eq!(other.programs, 7);
    let total: f64 = windows.iter().filter_map(|window| window.value("volume_calls_count")).sum();
    assert_eq!(total, 615.0 + 12.0);
    assert_eq!(find(&windows, &Subject::host()).value("host_merged_count"), Some(7.0));
}

#[test]
fn a_million_subjects_give_no_more_windows_than_the_limit_and_none_of_their_calls_is_lost() {
    const SUBJECTS: u32 = 1_000_000;
    let known = baseline(&[]);
    let mut builder = builder(16, 64);
    let mut one = event(&subject("w.service", "/bin/p"), 1, 4, rows(&[(1, 20)]));
    for number in 0..SUBJECTS {
        one.actor.subject = subject("w.service", &format!("/bin/{number}"));
        builder.observe(&one);
    }
    let windows = builder.close(&close(1), &known);
    assert!(windows.len() <= 64 + 2, "host and other apart: {}", windows.len());
    let total: f64 = windows.iter().filter_map(|window| window.value("volume_calls_count")).sum();
    assert_eq!(total, 20.0 * f64::from(SUBJECTS));
}

#[test]
fn early_rows_are_numbered_and_close_nothing() {
    let a = subject("a.service", "/a");
    let known = baseline(&[]);
    let mut builder = builder(0, 512);
    let now = EPOCH_NS + 250_000_000;
    assert!(builder.early(&a, now, &[], &known).is_none());
    builder.observe(&event(&a, 1, 4, rows(&[(1, 10)])));
    let live = [
        event(&a, 1, 8, rows(&[(1, 40)])),
        event(&a, 0, 8, rows(&[(1, 7)])),
        event(&subject("b", "/b"), 1, 8, rows(&[(1, 9)])),
    ];
    let first = builder.early(&a, now, &live, &known).unwrap();
    let second = builder.early(&a, now + 250_000_000, &[], &known).unwrap();
    assert_eq!((first.early, second.early), (Some(0), Some(1)));
    assert_eq!(first.value("volume_calls_count"), Some(50.0));
    assert_eq!(first.value("volume_calls_rate"), Some(10.0));
    assert_eq!(second.value("volume_calls_count"), Some(10.0));
    let closed = builder.close(&close(1), &known);
    assert_eq!(find(&closed, &a).value("volume_calls_count"), Some(10.0));
    assert_eq!(find(&closed, &a).early, None);
    // Rows of the new epoch alone, before anything of it was delivered.
    let live = [event(&a, 2, 8, rows(&[(1, 3)])), event(&a, 1, 8, rows(&[(1, 90)]))];
    let third = builder.early(&a, now + EPOCH_NS, &live, &known).unwrap();
    assert_eq!((third.early, third.time.epoch.0), (Some(0), 2));
    assert_eq!(third.value("volume_calls_count"), Some(3.0));
    assert!(builder.early(&a, now + EPOCH_NS, &[], &known).unwrap().early == Some(1));
}

#[test]
fn a_minute_with_fewer_than_ten_parts_is_not_valid() {
    let known = baseline(&[]);
    let a = subject("a.service", "/a");
    for (parts, valid) in [(9, false), (10, true)] {
        let mut builder = builder(0, 512);
        let mut minutes = Vec::new();
        for epoch in 12 + (12 - parts)..24 {
            builder.observe(&event(&a, epoch, 4, rows(&[(1, 10)])));
            minutes.extend(
                builder
                    .close(&close(epoch), &known)
                    .into_iter()
                    .filter(|window| window.time.scale == Scale::Minute),
            );
        }
        let minute = find(&minutes, &a);
        assert_eq!(minute.time.epoch.0, 12);
        assert_eq!((minute.time.parts, minute.time.is_valid()), (parts, valid));
    }
}

/// An event of any kind by a few subjects over a few epochs.
fn any_event() -> impl Strategy<Value = Event> {
    let names = ["/bin/a", "/bin/b", "/bin/c", "/bin/d"];
    let subjects: Vec<Arc<Subject>> = names
        .iter()
        .flat_map(|name| [subject("w.service", name), subject("v.service", name)])
        .collect();
    let origin = prop_oneof![
        (0usize..64, 1u32..50).prop_map(|row| rows(&[row])),
        Just(()).prop_map(|()| Origin::Exec(Box::new(exec(None)))),
        (0u32..50).prop_map(fork),
        (0i32..512).prop_map(exit),
        "/[a-c]{1,2}/[a-c]{1,2}/x".prop_map(|path| call(257, 3, &path)),
        (0u8..5, 1u16..600, 0u64..1_000).prop_map(|(host, port, out)| {
            outbound(FlowPhase::Start, &format!("10.0.{host}.1"), port, out)
        }),
    ];
    (prop::sample::select(subjects), 1u32..25, 0u32..40, origin)
        .prop_map(|(subject, epoch, tid, origin)| event(&subject, epoch, tid, origin))
}

fn calls_of(event: &Event) -> u64 {
    if let Origin::Row(row) = &event.origin { row.calls } else { 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the order of arrival and of closing, with merging or without.
    #[test]
    fn no_event_is_lost_or_counted_twice(
        events in prop::collection::vec(any_event(), 0..400),
        closes in prop::collection::vec(1u32..25, 0..10),
        small in any::<bool>(),
    ) {
        let known = baseline(&[]);
        let mut builder = if small { builder(16, 2) } else { builder(0, 512) };
        let mut windows = Vec::new();
        let step = events.len() / (closes.len() + 1) + 1;
        for (i, event) in events.iter().enumerate() {
            builder.observe(event);
            if i % step == step - 1 {
                windows.extend(builder.close(&close(closes[i / step % closes.len().max(1)]), &known));
            }
        }
        (20..32).for_each(|epoch| windows.extend(builder.close(&close(epoch), &known)));
        let of = |scale| windows.iter().filter(move |window| window.time.scale == scale);
        let records: u64 = of(Scale::Seconds5).map(|window| window.records).sum();
        prop_assert_eq!(records, events.len() as u64);
        let calls: f64 =
            of(Scale::Seconds5).filter_map(|window| window.value("volume_calls_count")).sum();
        prop_assert_eq!(calls as u64, events.iter().map(calls_of).sum::<u64>());
        // Roll-ups hold the same events once more.
        let minutes: u64 = of(Scale::Minute).map(|window| window.records).sum();
        let running: u64 = builder.finish(&known).iter().map(|window| window.records).sum();
        prop_assert_eq!(minutes + running, events.len() as u64);
    }

    /// Twelve windows of 5 s are the minute that would have come from one window of their events.
    #[test]
    fn twelve_parts_merge_to_the_minute(
        mut events in prop::collection::vec(any_event(), 1..400),
    ) {
        let known = baseline(&[]);
        for event in &mut events {
            event.epoch.0 = 12 + event.epoch.0 % 12;
        }
        let mut parts = builder(0, 512);
        let mut minutes = Vec::new();
        let mut sorted: Vec<&Event> = events.iter().collect();
        sorted.sort_by_key(|event| event.epoch);
        let mut rest = sorted.into_iter().peekable();
        for epoch in 12..24 {
            while let Some(event) = rest.next_if(|event| event.epoch.0 == epoch) {
                parts.observe(event);
            }
            minutes.extend(parts.close(&close(epoch), &known));
        }
        minutes.retain(|window| window.time.scale == Scale::Minute);
        // The same events as one epoch, each with its own time.
        let mut whole = builder(0, 512);
        for event in &events {
            let mut event = event.clone();
            event.epoch.0 = 12;
            whole.observe(&event);
        }
        let whole = whole.close(&close(12), &known);
        for minute in &minutes {
            let whole = find(&whole, &minute.subject);
            prop_assert_eq!(minute.records, whole.records);
            for (at, column) in hedgerow_features::COLUMNS.iter().enumerate() {
                // A minute lasts twelve times as long, its busiest epoch is shorter, and the
                // host's counters are those of twelve epochs.
                let per_epoch = ["volume_calls_rate"].contains(&&*column.name);
                if per_epoch || column.name.starts_with("host_") {
                    continue;
                }
                let (a, b) = (minute.values[at], whole.values[at]);
                prop_assert!(a == b || a.is_nan() && b.is_nan(), "{}: {a} {b}", column.name);
            }
        }
        prop_assert_eq!(minutes.len(), whole.len());
    }

    #[test]
    fn order_of_arrival_changes_nothing(
        events in prop::collection::vec(any_event(), 0..200),
        seed in any::<u64>(),
    ) {
        let known = baseline(&[]);
        let mut shuffled = events.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (state >> 33) as usize % (i + 1));
        }
        let run = |events: &[Event]| {
            let mut builder = builder(16, 5);
            for event in events {
                let mut event = event.clone();
                event.epoch.0 = 1;
                builder.observe(&event);
            }
            builder.close(&close(1), &known)
        };
        prop_assert_eq!(run(&events), run(&shuffled));
    }

    #[test]
    fn a_batch_gives_its_windows_back(events in prop::collection::vec(any_event(), 0..200)) {
        let known = baseline(&events[..events.len() / 2]);
        let mut builder = builder(0, 512);
        events.iter().for_each(|event| builder.observe(event));
        let mut windows = builder.close(&close(24), &known);
        windows.extend(builder.early(&subject("w.service", "/bin/a"), 9, &[], &known));
        let batch = to_batch(&windows).unwrap();
        let back = from_batch(&batch).unwrap();
        prop_assert_eq!(&back, &windows);
        let values = matrix(&back);
        prop_assert_eq!(values.dim(), (windows.len(), matrix_names().len()));
    }
}

#[test]
fn the_baseline_survives_its_text_and_an_accept() {
    let (nginx, shell) =
        (subject("web.service", "/usr/sbin/nginx"), subject("web.service", "/bin/sh"));
    let mut inbound = flow(
        FlowPhase::Start,
        hedgerow_event::FlowDirection::Inbound,
        peer("192.0.2.1", 50_000),
        0,
    );
    inbound.local.port = 443;
    let shell_exec = event(&shell, 0, 4, Origin::Exec(Box::new(exec(Some(&nginx)))));
    let memory = {
        let mut exec = exec(Some(&nginx));
        exec.memory = true;
        event(&subject("web.service", "memfd"), 0, 4, Origin::Exec(Box::new(exec)))
    };
    let mut learned = baseline(&[
        shell_exec.clone(),
        memory.clone(),
        event(&memory.actor.subject, 0, 4, rows(&[(1, 50)])),
        event(&nginx, 0, 4, Origin::Flow(Box::new(inbound))),
    ]);
    assert_eq!(learned.distrusted().len(), 3, "{:?}", learned.distrusted());
    let json = serde_json::to_string(&learned).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&json).unwrap(), learned);
    let novel = learned.novel(&shell_exec);
    assert!(matches!(novel[..], [Object::NewChild { .. }]), "{novel:?}");
    learned.accept(&novel[0]);
    assert!(learned.novel(&shell_exec).is_empty());
    let novel = learned.novel(&memory);
    assert_eq!(novel.len(), 3, "{novel:?}");
    novel.iter().for_each(|object| learned.accept(object));
    assert!(learned.novel(&memory).is_empty());
    assert!(learned.distrusted().is_empty());
}

/// Whoever fills a set of his workload has things told again that were seen longest ago, and no kind of
/// deed ends by it.
#[test]
fn a_full_set_forgets_what_was_seen_longest_ago_and_goes_on_telling() {
    let web = subject("web.service", "/usr/bin/crawler");
    let visit = |hour: u64, i: u32| {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + i).to_string();
        let mut event = event(&web, 1, 4, outbound(FlowPhase::Start, &address, 443, 10));
        event.time_boot_ns = hour * HOUR_NS;
        event
    };
    let limit = u32::try_from(Set::Peers.limit()).unwrap();
    let mut known = Baseline::new(KEY, HOUR_NS);
    (0..limit).for_each(|i| known.observe(&visit(1, i)));
    (0..100).for_each(|i| known.observe(&visit(2, i)));
    known.observe(&visit(2, limit));
    known.freeze();
    assert!((0..100).all(|i| known.novel(&visit(3, i)).is_empty()), "seen lately");
    let told = (100..limit).filter(|i| !known.novel(&visit(3, *i)).is_empty()).count();
    assert_eq!(told, limit as usize / 8);
    let stranger = visit(3, 1 << 20);
    let novel = known.novel(&stranger);
    assert_eq!(novel.len(), 1);
    let window = one_window(&[stranger], &known, &web);
    assert_eq!(window.value("novelty_peers_count"), Some(1.0));
    assert_eq!(known.incidence(&web.workload).refused, u64::from(limit) / 8);
    // A day teaches on: what was learned long ago makes room.
    known.accept(&novel[0]);
    assert!(known.knows(&novel[0]));
}

/// What one of those teaches that came after fill is known of him alone.
#[test]
fn who_came_after_fill_learns_for_himself_beside_what_the_host_knows() {
    let web = subject("web.service", "/usr/bin/web");
    let mut known = baseline(&[event(&web, 1, 4, outbound(FlowPhase::Start, "10.0.0.2", 443, 1))]);
    let call = |workload: &str, address: &str| {
        let web = subject(workload, "/usr/bin/web");
        let mut event = event(&web, 1, 4, outbound(FlowPhase::Start, address, 443, 1));
        event.time_boot_ns = 9 * HOUR_NS;
        event
    };
    let [one, other] = ["one.service", "other.service"];
    assert!(known.novel(&call(one, "10.0.0.2")).is_empty(), "by the host's");
    let novel = known.novel(&call(one, "192.0.2.7"));
    assert_eq!(novel.len(), 1);
    known.accept(&novel[0]);
    assert!(known.novel(&call(one, "192.0.2.7")).is_empty() && known.knows(&novel[0]));
    assert!(known.novel(&call(one, "10.0.0.2")).is_empty(), "by the host's, still");
    assert_eq!(known.novel(&call(other, "192.0.2.7")).len(), 1);
    assert_eq!(known.novel(&call("web.service", "192.0.2.7")).len(), 1);
    // Who makes many names takes no room of those that were learned, nor ends anybody's telling.
    let refused = known.refused();
    for at in 0..hedgerow_features::WORKLOADS_LIMIT {
        let many = call(&format!("{at}.scope"), "192.0.2.9");
        known.observe(&many);
        known.novel(&many).iter().for_each(|object| known.accept(object));
    }
    let room = fair::room(hedgerow_features::WORKLOADS_LIMIT) as u64;
    assert_eq!(known.refused(), refused + room, "those that were quiet longest");
    assert_eq!(known.novel(&call(one, "192.0.2.7")).len(), 1, "told again");
    assert_eq!(known.novel(&call("web.service", "192.0.2.9")).len(), 1);
    assert!(known.novel(&call("web.service", "10.0.0.2")).is_empty());
    known.forget(&novel[0]);
    assert!(!known.knows(&novel[0]));
    // Nor do many names that are one owner's end what another learned for himself.
    let kept = call("kept.service", "192.0.2.8");
    known.novel(&kept).iter().for_each(|object| known.accept(object));
    for at in 0..hedgerow_features::WORKLOADS_LIMIT {
        let many = call(&format!("user@1000.service/{at}.scope"), "192.0.2.9");
        known.novel(&many).iter().for_each(|object| known.accept(object));
    }
    assert!(known.novel(&kept).is_empty());
}

#[test]
fn incidence_counts_hours_and_goes_on_after_the_freeze() {
    let a = subject("a.service", "/a");
    let at = |hour: u64, peer: &str| {
        let mut event = event(&a, 1, 4, outbound(FlowPhase::Start, peer, 443, 1));
        event.time_boot_ns = hour * HOUR_NS;
        event
    };
    let mut known = Baseline::new(KEY, HOUR_NS);
    let learned = [at(0, "10.0.0.2"), at(0, "10.0.0.2"), at(1, "10.0.0.2"), at(2, "10.0.0.3")];
    learned.iter().for_each(|event| known.observe(event));
    known.freeze();
    let incidence = known.incidence(&a.workload);
    // The program in three hours, one address in two and one in one; port and prefix don't count.
    assert_eq!((incidence.units_learned, incidence.items), (3, 3));
    assert_eq!(incidence.once, 1);
    let frozen = [at(3, "10.0.0.2"), at(4, "10.0.0.4"), at(4, "10.0.0.4")];
    frozen.iter().for_each(|event| known.observe(event));
    // Clients come as they please.
    for client in 0..9 {
        let from = format!("10.9.0.{client}");
        let accepted = flow(FlowPhase::Start, FlowDirection::Inbound, peer(&from, 443), 1);
        let mut came = event(&a, 1, 4, Origin::Flow(Box::new(accepted)));
        came.time_boot_ns = 4 * HOUR_NS;
        known.observe(&came);
    }
    let incidence = known.incidence(&a.workload);
    assert_eq!((incidence.units_frozen, incidence.first_seen), (2, 1));
}
