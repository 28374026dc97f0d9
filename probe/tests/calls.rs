//! System calls counted by the live kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    sync::{Arc, Barrier},
    time::Duration,
};

use harness::{Sensor, rows};
use hedgerow_event::{Origin, RowReason, calls::Class};
use hedgerow_probe::{Hook, Options, Proof, Shed};

/// A call that nothing else here makes: it fails, and is of class `ipc`.
fn mark(times: usize) {
    for _ in 0..times {
        // SAFETY: an invalid identifier and no operations.
        unsafe { libc::syscall(libc::SYS_semop, -1, 0, 0) };
    }
}

/// Marks of our program's processes, whatever else runs on the host; and of those, the ones that
/// came as sums.
fn marks(seen: &harness::Seen) -> (u64, u64) {
    let ipc = Class::Ipc.index();
    let us = std::env::current_exe().unwrap();
    // A row may come before the name, and nobody else makes this call.
    let ours = move |event: &hedgerow_event::Event| {
        let path = Path::new(&*event.actor.subject.program.path);
        path == us || path == Path::new("(unknown)")
    };
    let mut total = 0;
    let mut spilled = 0;
    for (_, row) in rows(&seen.events, ours) {
        let calls = u64::from(row.classes[ipc]);
        total += calls;
        if row.reason == RowReason::Spilled {
            spilled += calls;
        }
    }
    (total, spilled)
}

fn only_rows(event: &hedgerow_event::Event) -> bool {
    matches!(event.origin, Origin::Row(_))
}

/// Threads and processes that end inside windows, while the rows are read all the time.
fn short_lives(threads: usize, processes: usize) -> u64 {
    let mut made = 0;
    for batch in 0..threads / 50 {
        let handles: Vec<_> =
            (0..50).map(|i| std::thread::spawn(move || mark(1 + (batch + i) % 7))).collect();
        made += (0..50).map(|i| 1 + (batch + i) % 7).sum::<usize>();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    }
    for process in 0..processes {
        let times = 1 + process % 5;
        // SAFETY: the child makes plain system calls and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            mark(times);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: our own child.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        made += times;
    }
    made as u64
}

/// Ten thousand threads and a thousand processes; a tenth of it on an emulated CPU.
fn many() -> (usize, usize) {
    let emulated = std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("TCG");
    if emulated { (1_000, 100) } else { (10_000, 1_000) }
}

#[test]
fn every_hook_is_proved() {
    let sensor = Sensor::start(Options::default());
    let hooks = sensor.control().hooks();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let uring = !disabled.is_ok_and(|word| word.trim() != "0");
    for hook in Hook::ALL.into_iter().filter(|&hook| hook != Hook::Uring || uring) {
        let status = hooks.iter().find(|status| status.hook == hook).unwrap();
        // Where nothing sees who uses a socket, that is told.
        let is_there = hook != Hook::Flow || hedgerow_bpf::attaches_to_functions();
        let proof = if is_there { Proof::Proved } else { Proof::Unproved };
        assert_eq!(status.proof, proof, "{hook:?} in {hooks:?}");
    }
    let seen = sensor.stop();
    let own = std::process::id();
    assert!(!seen.events.iter().any(|event| event.actor.tgid == own), "we don't see ourselves");
}

#[test]
fn calls_of_ten_thousand_short_lives_are_counted_to_the_last() {
    let options = Options {
        window: Duration::from_millis(200),
        close_delay: Duration::from_millis(20),
        observe_own: true,
        ..Options::default()
    };
    let sensor = Sensor::filtered(options, only_rows);
    let (threads, processes) = many();
    let made = short_lives(threads, processes);
    let seen = sensor.stop();
    assert!(seen.closes.len() > 3, "the iterator ran {} times", seen.closes.len());
    assert_eq!(marks(&seen).0, made);
}

#[test]
fn calls_are_counted_to_the_last_with_rings_that_nobody_drains() {
    let options = Options {
        window: Duration::from_millis(200),
        close_delay: Duration::from_millis(20),
        observe_own: true,
        rings_bytes: 8192,
        drain: false,
        ..Options::default()
    };
    let sensor = Sensor::filtered(options, only_rows);
    let (threads, processes) = many();
    let made = short_lives(threads, processes);
    let stats = sensor.control().stats().unwrap();
    let seen = sensor.stop();
    let (total, spilled) = marks(&seen);
    assert_eq!(total, made, "{stats:?}");
    assert!(spilled > made / 2, "{spilled} of {made} found a full ring");
    assert!(stats.lost > 0 && stats.received == 0, "{stats:?}");
}

/// Those that end between the last call that is counted and the reading of rows, which takes some
/// time, above all on an emulated CPU.
#[test]
fn what_threads_have_counted_that_end_while_the_sensor_stops_is_not_lost() {
    let options =
        Options { window: Duration::from_secs(30), observe_own: true, ..Options::default() };
    let sensor = Sensor::filtered(options, only_rows);
    let threads = 400;
    let marked = Arc::new(Barrier::new(threads + 1));
    let handles: Vec<_> = (0..threads)
        .map(|i| {
            let marked = Arc::clone(&marked);
            std::thread::spawn(move || {
                mark(1);
                marked.wait();
                std::thread::sleep(Duration::from_micros(500) * i as u32);
            })
        })
        .collect();
    marked.wait();
    let seen = sensor.stop();
    assert_eq!(marks(&seen).0, threads as u64);
    handles.into_iter().for_each(|handle| handle.join().unwrap());
}

#[test]
fn every_record_is_received_or_counted_as_lost() {
    let options = Options {
        window: Duration::from_millis(200),
        observe_own: true,
        rings_bytes: 128 << 10,
        full: true,
        ..Options::default()
    };
    let sensor = Sensor::filtered(options, only_rows);
    for _ in 0..200_000 {
        // SAFETY: no arguments.
        unsafe { libc::getppid() };
    }
    let control = sensor.control();
    let seen = sensor.stop();
    let stats = control.stats().unwrap();
    assert_eq!(stats.sent, stats.received, "{stats:?}");
    assert!(stats.lost > 0, "the rings were to overflow: {stats:?}");
    let charged: u64 = rows(&seen.events, |_| true).map(|(_, row)| row.lost).sum();
    assert_eq!(charged + stats.uncharged, stats.lost, "{stats:?}");
}

#[test]
fn what_the_token_bucket_holds_back_is_limited_and_not_lost() {
    let options = Options {
        window: Duration::from_secs(30),
        observe_own: true,
        task_tokens: 10,
        ..Options::default()
    };
    let sensor = Sensor::start(options);
    let opens = 1000;
    let worker = std::thread::spawn(move || {
        for _ in 0..opens {
            // SAFETY: a valid path; the descriptor isn't used.
            unsafe {
                libc::close(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY));
            }
        }
        // SAFETY: no arguments.
        unsafe { libc::gettid() }
    });
    let tid = worker.join().unwrap().cast_unsigned();
    let seen = sensor.stop();
    let mine = |event: &hedgerow_event::Event| event.actor.tid == tid;
    let streamed = seen
        .events
        .iter()
        .filter(|event| mine(event) && matches!(event.origin, Origin::Call(_)))
        .count();
    let limited: u64 = rows(&seen.events, mine).map(|(_, row)| row.limited).sum();
    let lost: u64 = rows(&seen.events, mine).map(|(_, row)| row.lost).sum();
    assert_eq!((streamed, limited, lost), (10, opens - 10, 0));
}

/// Opens of a file by a thread of its own, told as calls in the order that they came.
fn told(seen: &harness::Seen, path: &Path) -> Vec<u64> {
    let calls = seen.events.iter().filter_map(|event| match &event.origin {
        Origin::Call(call) if call.path.as_deref().map(Path::new) == Some(path) => Some(call),
        _ => None,
    });
    calls.map(|call| call.arguments[2] & (libc::O_ACCMODE | libc::O_CREAT) as u64).collect()
}

#[test]
fn of_opens_that_are_shed_what_writes_or_reads_what_is_kept_from_others_is_told_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    // What is in a directory that others may not enter is kept from them, whatever its own mode.
    fs::create_dir(home.join("all")).unwrap();
    let [open, kept, inside, made, lacking] =
        ["all/open.py", "all/kept.py", "inside.py", "made.py", "lacking.py"]
            .map(|name| home.join(name));
    let memory = Path::new("/dev/shm").join(format!("hedgerow-{}.py", std::process::id()));
    for (path, mode) in [(&home, 0o700), (&home.join("all"), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, mode) in [(&open, 0o644), (&kept, 0o640), (&inside, 0o644), (&memory, 0o644)] {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let is_in_memory = |path: &Path| {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a valid path, and room for what is told; zeroes are a valid one.
        let mut told: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::statfs(path.as_ptr(), &raw mut told) }, 0);
        told.f_type == libc::TMPFS_MAGIC
    };
    let shed = Shed { used: true, reads: true, ..Shed::default() };
    let window = Duration::from_millis(300);
    let sensor = Sensor::start(Options { window, observe_own: true, shed, ..Options::default() });
    let at = |path: &Path, flags: i32| {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a valid path, and a descriptor that nobody else has.
        unsafe { libc::close(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o644)) };
    };
    at(&open, libc::O_RDONLY);
    at(&lacking, libc::O_RDONLY);
    at(&open, libc::O_WRONLY);
    [&kept, &inside, &memory].into_iter().for_each(|path| at(path, libc::O_RDONLY));
    at(&made, libc::O_RDONLY | libc::O_CREAT);
    // SAFETY: no memory is passed; the group stays what it is.
    unsafe { libc::syscall(libc::SYS_setregid, -1, -1) };
    sensor.wait("a window of it", |seen| seen.closes.len() > 1);
    sensor.control().shed(Shed::default());
    sensor.wait("a window without", |seen| seen.closes.last().is_some_and(|close| !close.shed));
    at(&open, libc::O_RDONLY);
    let seen = sensor.stop();
    let [read, write] = [libc::O_RDONLY, libc::O_WRONLY].map(|flags| flags as u64);
    let all = [read, write, read];
    assert_eq!(told(&seen, &open), all[usize::from(!is_in_memory(&open))..]);
    assert_eq!(told(&seen, &kept), [read]);
    assert_eq!(told(&seen, &inside), [read]);
    assert_eq!(told(&seen, &memory), [read][usize::from(!is_in_memory(&memory))..]);
    fs::remove_file(&memory).unwrap();
    assert_eq!(told(&seen, &made), [read | libc::O_CREAT as u64]);
    assert!(told(&seen, &lacking).is_empty());
    let number = |number: i64| {
        move |event: &&hedgerow_event::Event| {
            let us = event.actor.tgid == std::process::id();
            us && matches!(&event.origin, Origin::Call(call) if i64::from(call.number) == number)
        }
    };
    assert_eq!(seen.events.iter().filter(number(libc::SYS_setregid)).count(), 1);
    let shed: Vec<bool> = seen.closes.iter().map(|close| close.shed).collect();
    assert!(shed[0] && shed.is_sorted_by(|a, b| a >= b), "{shed:?}");
    let used: Vec<_> = seen.used.iter().filter(|used| used.path.ends_with(".py")).collect();
    assert_eq!(used.len(), 1, "only once files in use are told again: {used:?}");
    let mine = |event: &hedgerow_event::Event| event.actor.tgid == std::process::id();
    let limited: u64 = rows(&seen.events, mine).map(|(_, row)| row.limited).sum();
    assert!(limited >= 1, "{limited}");
}
