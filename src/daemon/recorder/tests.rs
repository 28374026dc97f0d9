#![allow(clippy::unwrap_used)]
use hedgerow_event::{
    Actor, Call, Digest, Epoch, Exec, Exit, FileKey, Flow, FlowDirection, Fork, Origin, Peer,
    Program, Provenance, Raw, Root, Row, RowReason, Signal, Workload,
};

use super::{trees::PROCESSES_MAX, *};

fn event(workload: &str, tgid: u32, time_s: u64, origin: Origin) -> Event {
    let subject = Subject::new(Workload::new(workload), Program::new("/bin/x"));
    let actor = Actor {
        subject: Arc::new(subject),
        tgid,
        tid: tgid,
        start_boot_ns: u64::from(tgid),
        cgroup_id: 7,
        program_id: 8,
        slot: 0,
    };
    Event { epoch: Epoch(1), time_boot_ns: time_s * 1_000_000_000, actor, origin }
}

fn quiet(workload: &str, tgid: u32, time_s: u64) -> Event {
    event(workload, tgid, time_s, Origin::Signal(Signal { unseen6: 0, calls: 0 }))
}

fn fork(tgid: u32, child: u32) -> Event {
    let fork = Fork { child_tgid: child, child_tid: child, child_start_boot_ns: 0, thread: false };
    event("w", tgid, 1, Origin::Fork(fork))
}

fn who(events: &[Event]) -> Vec<u32> {
    events.iter().map(|event| event.actor.tgid).collect()
}

fn of_process(recorder: &mut Recorder, tgid: u32) -> Vec<Event> {
    recorder.of_process(tgid).iter().flat_map(Past::events).collect()
}

fn all(recorder: &mut Recorder, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| recorder.observe(&event));
}

#[test]
fn a_tree_is_taken_whole_and_no_other_with_it() {
    let mut recorder = Recorder::new(1 << 20);
    let begun = [fork(10, 11), fork(11, 12), quiet("w", 12, 2), quiet("w", 20, 2)];
    all(&mut recorder, begun);
    // It goes on in another service, which is another tree; and its exec is the kernel's word.
    let root = Some(Root { tgid: 10, start_boot_ns: 10 });
    let exec = Exec { root, ..Exec::of("/bin/y") };
    all(&mut recorder, [quiet("v", 11, 3), event("w", 30, 4, Origin::Exec(exec.into()))]);
    assert_eq!(who(&of_process(&mut recorder, 12)), [10, 11, 12, 30]);
    all(&mut recorder, [quiet("w", 12, 5)]);
    assert_eq!(who(&of_process(&mut recorder, 10)), [10, 11, 12, 30, 12]);
    assert_eq!(who(&of_process(&mut recorder, 11)), [11]);
    assert_eq!(who(&of_process(&mut recorder, 20)), [20]);
    let subject = quiet("w", 0, 0).actor.subject;
    let busiest: Vec<Event> = recorder.of_subject(&subject).iter().flat_map(Past::events).collect();
    assert_eq!(who(&busiest), [10, 11, 12, 30, 12]);
    let gone = Origin::Exit(Exit { code: 0, process: true });
    recorder.observe(&event("w", 20, 5, gone));
    recorder.sweep(6_000_000_000);
    assert!(of_process(&mut recorder, 99).is_empty(), "nobody knows it");
    assert_eq!(who(&of_process(&mut recorder, 20)), [20, 20], "it ended a moment ago");
    recorder.sweep(40_000_000_000);
    assert!(recorder.trees.of_process(20).is_none() && recorder.trees.of_process(12).is_some());
    assert_eq!(recorder.recorded(), Recorded::default());
}

#[test]
fn who_is_heard_of_before_his_fork_is_of_his_parents_tree() {
    let mut recorder = Recorder::new(1 << 20);
    all(&mut recorder, [quiet("w", 12, 1), fork(10, 12), fork(12, 13), quiet("w", 13, 2)]);
    for tgid in [10, 12, 13] {
        assert_eq!(who(&of_process(&mut recorder, tgid)), [12, 10, 12, 13], "{tgid}");
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    let address = std::net::IpAddr::from([192, 0, 2, 1]);
    let peer = Peer { address, port: 443 };
    let mut row = Row::empty(RowReason::Exit);
    (row.classes[0], row.classes[63], row.calls) = (7, u32::MAX, 1 << 40);
    let subject = |path: &str| {
        let program = Program { script: Some("/x.py".into()), ..Program::new(path) };
        Some(Arc::new(Subject::new(Workload::new("w"), program)))
    };
    let exec = Exec {
        previous: subject("/bin/a"),
        parent: subject("/bin/b"),
        digest: Some(Digest([7; 32])),
        arguments: "-x \u{fffd}".into(),
        ..Exec::of("/bin/c")
    };
    let raw =
        Raw { number: -1, compat: true, uring: false, fresh: true, streamed: false, result: -516 };
    let origins = [
        Origin::Row(row.into()),
        Origin::Exec(exec.into()),
        Origin::Exit(Exit { code: -1, process: false }),
        Origin::Call(Call::of(257, [u64::MAX, 1, 2, 3, 4, 5], Some("/etc/shadow")).into()),
        Origin::Flow(Flow::start(FlowDirection::Outbound, peer, peer).into()),
        Origin::Signal(Signal { unseen6: 9, calls: 10 }),
        Origin::Raw(raw),
    ];
    let mut events = vec![fork(5, 6)];
    events.extend((2..).zip(origins).map(|(second, origin)| event("w", 5, second, origin)));
    let mut recorder = Recorder::new(1 << 20);
    all(&mut recorder, events.clone());
    assert_eq!(of_process(&mut recorder, 6), events);
    // And where others were made to give room, too.
    all(&mut recorder, (0..20_000).map(|second| quiet("noisy", 2, second)));
    assert!(recorder.recorded().dropped > 0);
    assert_eq!(of_process(&mut recorder, 6), events);
}

/// Written and read again; and what is read of a part of it ends nothing.
fn again(origin: &Origin) -> Origin {
    let mut bytes = [0xff; 4096];
    let length = origin::write(origin, &mut bytes).unwrap();
    (0..length).for_each(|part| drop(origin::read(&bytes[..part])));
    let read = origin::read(&bytes[..length]).unwrap();
    assert_eq!(origin::write(origin, &mut bytes[..length - 1]), None, "it needs its room");
    read
}

#[test]
fn every_field_of_rows_and_execs_comes_back() {
    let mut origins = Vec::new();
    for bits in 0..64 {
        let mut row = Row::empty(RowReason::ALL[bits % RowReason::ALL.len()]);
        row.classes[bits] = 1 << (bits % 32);
        row.classes[63 - bits] = 3;
        (row.calls, row.limited) = (1 << bits, 5);
        let sums = [&mut row.errors, &mut row.checked, &mut row.unseen2, &mut row.unseen3];
        *sums.into_iter().nth(bits % 4).unwrap() = u64::MAX >> bits;
        let sums = [&mut row.unseen6, &mut row.collapsed, &mut row.lost];
        *sums.into_iter().nth(bits % 3).unwrap() = 7;
        origins.push(Origin::Row(row.into()));
    }
    let full = Row { classes: [u32::MAX; 64], calls: u64::MAX, ..Row::empty(RowReason::Exec) };
    origins.push(Origin::Row(full.into()));
    let flags: [fn(&mut Exec); 12] = [
        |exec| exec.replaced = true,
        |exec| exec.memory = true,
        |exec| exec.writable = true,
        |exec| exec.privileged = true,
        |exec| exec.socket_io = true,
        |exec| exec.under_listener = true,
        |exec| exec.of_host = Some(true),
        |exec| exec.of_host = Some(false),
        |exec| exec.digest = Some(Digest([0xfe; 32])),
        |exec| exec.root = Some(Root { tgid: 1, start_boot_ns: 2 }),
        |exec| exec.file = FileKey { device: 1, inode: 2, generation: 3 },
        |exec| (exec.parent_tgid, exec.uid_before, exec.uid, exec.login_uid) = (4, 5, 6, 7),
    ];
    for (set, provenance) in flags.iter().zip(Provenance::ALL.iter().cycle()) {
        let mut exec =
            Exec { provenance: *provenance, arguments: "ä b".into(), ..Exec::of("/bin/c") };
        set(&mut exec);
        origins.push(Origin::Exec(exec.into()));
    }
    for (at, path) in [None, Some(""), Some("/ä"), Some("/etc/shadow")].into_iter().enumerate() {
        let mut call = Call::of(at as i32 - 1, [0, 1, 1 << 40, 0, u64::MAX, 3], path);
        (call.class, call.compat, call.claimed) = (63, at == 1, at == 2);
        call.result = [0, -13, 7, i64::MIN][at];
        origins.push(Origin::Call(call.into()));
        origins.push(Origin::Call(Call::of(at as i32, [0; 6], path).into()));
    }
    let fork = Fork { child_tgid: 1, child_tid: 2, child_start_boot_ns: 3, thread: true };
    origins.extend([Origin::Fork(fork), Origin::Exit(Exit { code: i32::MIN, process: true })]);
    for origin in origins {
        assert_eq!(again(&origin), origin);
    }
}

#[test]
fn a_noisy_tree_loses_its_own_past_and_is_counted() {
    // Every record has a subject of its own here, which takes more than the record.
    let mut recorder = Recorder::new(64 << 10);
    all(&mut recorder, (1..=3).map(|second| quiet("w", 1, second)));
    for second in 0..20_000 {
        recorder.observe(&quiet("noisy", 2, second));
        assert!(recorder.recorded().bytes <= 64 << 10, "{second}");
    }
    assert_eq!(of_process(&mut recorder, 1).len(), 3);
    let second = |event: &Event| event.time_boot_ns / 1_000_000_000;
    let times: Vec<u64> = of_process(&mut recorder, 2).iter().map(second).collect();
    assert_eq!(times, (recorder.recorded().dropped..20_000).collect::<Vec<u64>>(), "the newest");
    assert!(times.len() > 100, "{}", times.len());
}

#[test]
fn a_past_stays_as_it_was_when_it_was_taken() {
    let mut recorder = Recorder::new(64 << 10);
    all(&mut recorder, (1..=3).map(|second| quiet("w", 1, second)));
    let past = recorder.of_process(1).unwrap();
    all(&mut recorder, (1..=10_000).map(|tgid| quiet("w", tgid, u64::from(tgid))));
    recorder.sweep(100_000_000_000_000);
    assert_eq!(recorder.recorded().bytes, 0);
    assert_eq!(who(&past.events().collect::<Vec<Event>>()), [1, 1, 1]);
}

#[test]
fn whoever_forks_most_is_forgotten_and_nobody_else() {
    let mut recorder = Recorder::new(1 << 20);
    all(&mut recorder, [fork(1, 2), fork(3, 4)]);
    all(&mut recorder, (0..200_000).map(|child| fork(3, 10 + child)));
    assert!(recorder.trees.count() <= PROCESSES_MAX, "{}", recorder.trees.count());
    assert!(recorder.recorded().forgotten > 0);
    assert!(recorder.trees.of_process(1).is_some() && recorder.trees.of_process(2).is_some());
    // Where nobody has many it is some of all.
    all(&mut recorder, (0..200_000).map(|tgid| quiet("w", 1_000_000 + tgid, 1)));
    assert!(recorder.trees.count() <= PROCESSES_MAX, "{}", recorder.trees.count());
}

#[test]
fn of_many_small_trees_the_oldest_records_go() {
    let mut recorder = Recorder::new(64 << 10);
    all(&mut recorder, (1..=10_000).map(|tgid| quiet("w", tgid, u64::from(tgid))));
    let told = recorder.recorded();
    assert!(told.bytes <= 64 << 10 && told.dropped > 0, "{told:?}");
    let gone = told.dropped as u32;
    assert!(of_process(&mut recorder, 1).is_empty() && of_process(&mut recorder, gone).is_empty());
    assert_eq!(of_process(&mut recorder, gone + 1).len(), 1);
    assert_eq!(of_process(&mut recorder, 10_000).len(), 1);
}

#[test]
fn what_is_older_than_half_a_minute_is_forgotten_and_off_is_off() {
    let mut recorder = Recorder::new(1 << 20);
    all(&mut recorder, [5, 34, 36].map(|second| quiet("w", 1, second)));
    recorder.sweep(65_000_000_000);
    assert_eq!(of_process(&mut recorder, 1).len(), 1);
    recorder.observe(&quiet("w", 2, 36));
    recorder.sweep(100_000_000_000);
    assert_eq!(recorder.recorded(), Recorded::default());
    let mut off = Recorder::new(0);
    off.observe(&quiet("w", 1, 1));
    assert!(off.of_process(1).is_none());
}

#[test]
fn memory_is_used_again() {
    let mut recorder = Recorder::new(64 << 10);
    let fill = |recorder: &mut Recorder, second: u64| {
        (1..=5000).for_each(|tgid| recorder.observe(&quiet("w", tgid, second)));
        recorder.segments.len() + recorder.spare.len() + 1
    };
    let segments = fill(&mut recorder, 1);
    // Where each record is of a tree of its own, these take a part.
    assert!((SEGMENTS * 7 / 8..SEGMENTS + 4).contains(&segments), "{segments}");
    for second in [40, 80, 120] {
        recorder.sweep(second * 1_000_000_000);
        assert!(recorder.segments.is_empty() && recorder.spare.len() >= SEGMENTS * 7 / 8);
        assert!(fill(&mut recorder, second).abs_diff(segments) <= 1);
    }
}

#[test]
fn what_does_not_fit_at_all_is_counted() {
    let mut recorder = Recorder::new(64 << 10);
    let exec = Exec::of("/x".repeat(1 << 10));
    recorder.observe(&event("w", 1, 1, Origin::Exec(exec.into())));
    assert_eq!(recorder.recorded(), Recorded { dropped: 1, ..Recorded::default() });
}

#[test]
fn a_smaller_limit_holds_at_once_and_a_larger_one_than_was_asked_for_never() {
    let mut recorder = Recorder::new(2 << 20);
    let fill = |recorder: &mut Recorder, times: u32| {
        all(recorder, (0..times).map(|at| quiet("w", 1 + at % 100, 1)));
    };
    fill(&mut recorder, 100_000);
    assert!(recorder.held() > 1 << 20, "{}", recorder.held());
    let dropped = recorder.recorded().dropped;
    recorder.limit(1 << 20);
    assert!(recorder.held() <= 1 << 20 && recorder.recorded().dropped > dropped);
    fill(&mut recorder, 100_000);
    // And the one that is written to.
    let segment = (2 << 20) / SEGMENTS;
    let within =
        |recorder: &Recorder, most: usize| (most / 2..=most + segment).contains(&recorder.held());
    assert!(within(&recorder, 1 << 20), "{}", recorder.held());
    recorder.limit(usize::MAX);
    fill(&mut recorder, 200_000);
    assert!(within(&recorder, 2 << 20), "{}", recorder.held());
    // Less than is worth it keeps nothing.
    recorder.limit(LEAST - 1);
    recorder.sweep(100_000_000_000);
    fill(&mut recorder, 1000);
    assert!(recorder.bytes() == 0 && recorder.held() <= segment, "{}", recorder.held());
}

#[test]
fn while_it_is_paused_nothing_is_kept_and_it_goes_on_with_its_limit() {
    let mut recorder = Recorder::new(4 << 20);
    recorder.limit(2 << 20);
    all(&mut recorder, [fork(10, 11), quiet("w", 11, 2)]);
    recorder.pause(true);
    all(&mut recorder, [quiet("w", 11, 3)]);
    assert_eq!((recorder.held(), of_process(&mut recorder, 11).len()), (0, 0));
    recorder.pause(false);
    all(&mut recorder, [quiet("w", 11, 4)]);
    assert_eq!(who(&of_process(&mut recorder, 11)), [11]);
    assert_eq!((recorder.bytes_max, recorder.bytes_asked), (2 << 20, 4 << 20));
}
