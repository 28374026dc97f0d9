//! What the kernel counts, checks and streams is what the pure tables and rules say of the same
//! calls. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use harness::{Seen, Sensor, rows};
use hedgerow_event::{
    CLASSES, Event, Origin,
    calls::{Class, GramHash, History, Order, Push, Tables},
};
use hedgerow_probe::{Options, Positions};

const KEY: u64 = 0x5eed;

fn raw(number: i64, argument: u64) -> i64 {
    // SAFETY: only called with numbers that fail or that take no pointer.
    unsafe { libc::syscall(number, argument, 0, 0, 0, 0, 0) }
}

/// A 32-bit call of a 64-bit process, which arm64 doesn't have.
#[cfg(target_arch = "aarch64")]
fn compat(_: u32) {}

#[cfg(target_arch = "x86_64")]
fn compat(number: u32) {
    // SAFETY: getpid and unknown numbers touch no memory; int 0x80 clobbers only what is listed.
    unsafe {
        asm!("int 0x80", inlateout("rax") u64::from(number) => _, out("r8") _, out("r9") _,
             out("r10") _, out("r11") _);
    }
}

/// Everything odd: numbers outside the tables, 32-bit calls, a signal frame, interrupted calls,
/// runs, calls without order, errors, a child.
fn odd_calls() {
    for number in [39, 39, 110, 1000, 511, 0x4000_0027, 0x1_0000_0027, -1, 102] {
        raw(number, 0);
    }
    for number in [20, 20, 400, 24, 2000] {
        compat(number);
    }
    raw(libc::SYS_getuid, 0);
    raw(libc::SYS_sched_yield, 0);
    raw(libc::SYS_getuid, 0);
    raw(libc::SYS_close, 9999);
    interrupted();
    // SAFETY: the child ends at once and is waited for.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            raw(libc::SYS_getgid, 0);
            libc::_exit(3);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

extern "C" fn nothing(_: i32) {}

/// A sleep that a signal cuts short: restart codes and rt_sigreturn.
fn interrupted() {
    // SAFETY: the handler does nothing; all structures are on the stack and valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        // Held back until the wait: it comes in it, however late that begins.
        let mut alarm: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut alarm);
        libc::sigaddset(&raw mut alarm, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const alarm, &raw mut before);
        let timer = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 1000 },
        };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
        let wait = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        libc::ppoll(std::ptr::null_mut(), 0, &raw const wait, &raw const before);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

/// Runs `act` in a child of its own; its process number.
fn child(act: fn()) -> u32 {
    // SAFETY: the child calls `act`, which makes system calls only, and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            act();
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        child.cast_unsigned()
    }
}

fn options() -> Options {
    Options {
        window: Duration::from_millis(300),
        observe_own: true,
        learning: true,
        full: true,
        gram_key: KEY,
        rings_bytes: 64 << 20,
        ..Options::default()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    classes: BTreeMap<usize, u64>,
    calls: u64,
    errors: u64,
    checked: u64,
    collapsed: u64,
}

/// Positions of 2-, 3- and 6-grams by slot.
type GramSets = HashMap<u32, [BTreeSet<u32>; 3]>;

/// What the pure rules make of the full stream, by thread; and the n-grams by slot.
fn recount(events: &[Event]) -> (HashMap<u32, Counts>, GramSets) {
    let tables = Tables::new();
    let hash = GramHash::new(KEY);
    let mut threads: HashMap<u32, (History, Counts)> = HashMap::new();
    let mut grams = GramSets::new();
    for event in events {
        let Origin::Raw(raw) = &event.origin else { continue };
        let (history, counts) = threads.entry(event.actor.tid).or_default();
        if raw.fresh {
            *history = History::default();
        }
        let Some(step) = tables.raw_step(raw) else { continue };
        counts.calls += 1;
        counts.errors += u64::from(step.error);
        *counts.classes.entry(step.class.index()).or_default() += 1;
        match history.push(&step) {
            Push::Skipped => {}
            Push::Collapsed => counts.collapsed += 1,
            Push::Entered if event.actor.slot == 0 => {}
            Push::Entered => {
                counts.checked += 1;
                let sets = grams.entry(event.actor.slot).or_default();
                for order in Order::ALL {
                    sets[order as usize].insert(hash.position(order, history.bits()));
                }
            }
        }
    }
    (threads.into_iter().map(|(tid, (_, counts))| (tid, counts)).collect(), grams)
}

fn counted(seen: &Seen, tid: u32) -> Counts {
    let mut counts = Counts::default();
    for (_, row) in rows(&seen.events, |event| event.actor.tid == tid) {
        counts.calls += row.calls;
        counts.errors += row.errors;
        counts.checked += row.checked;
        counts.collapsed += row.collapsed;
        for class in 0..CLASSES {
            if row.classes[class] > 0 {
                *counts.classes.entry(class).or_default() += u64::from(row.classes[class]);
            }
        }
    }
    counts
}

/// Windows of which nothing is missing, with odd calls of a child and what a shell did.
fn complete() -> Option<(Seen, u32, u32)> {
    let sensor = Sensor::start(options());
    sensor.wait("first window", |seen| !seen.closes.is_empty());
    let own = child(odd_calls);
    let shell = std::process::Command::new("sh")
        .args(["-c", "cat /etc/hostname /nonexistent; ls /; (exit 3); true"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut shell = shell.unwrap();
    let shell_tid = shell.id();
    shell.wait().unwrap();
    let seen = sensor.stop();
    let charged: u64 = rows(&seen.events, |_| true).map(|(_, row)| row.lost).sum();
    let missing = seen.closes.iter().find(|close| close.loss.lost + close.loss.late > 0);
    if charged > 0 || missing.is_some() {
        eprintln!("rows lost {charged}; {missing:?}");
        return None;
    }
    Some((seen, own, shell_tid))
}

#[test]
fn the_kernel_counts_as_the_pure_rules_do() {
    // A machine with other work may lose records.
    let (seen, own, shell_tid) =
        (0..3).find_map(|_| complete()).expect("nothing was to be lost in one of three");
    let (threads, grams) = recount(&seen.events);
    for tid in [own, shell_tid] {
        assert_eq!(counted(&seen, tid), threads[&tid]);
    }
    let counts = &threads[&own].classes;
    let class = |class: Class| counts.get(&class.index()).copied().unwrap_or(0);
    assert_eq!(class(Class::Compat), if cfg!(target_arch = "x86_64") { 5 } else { 0 });
    // On arm64 a child's first return is no end of a call.
    assert_eq!(class(Class::Born), u64::from(cfg!(target_arch = "x86_64")));
    assert_eq!(class(Class::SignalReturn), 1 + 1, "the handler's, and -1 as a number");
    assert_eq!(class(Class::Exit), 1);
    assert_eq!(class(Class::Odd), 3, "1000, 511, x32");
    every_gram_is_reported(&seen, &grams, own);
}

fn every_gram_is_reported(seen: &Seen, grams: &GramSets, tid: u32) {
    let of = seen.events.iter().find(|event| event.actor.tid == tid && event.actor.slot > 0);
    let actor = &of.unwrap().actor;
    let mut reported = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for report in seen.grams.iter().filter(|report| report.subject == actor.subject) {
        reported[0].extend(&report.grams2);
        reported[1].extend(&report.grams3);
        reported[2].extend(&report.grams6);
    }
    let expected = &grams[&actor.slot];
    for order in Order::ALL {
        let (reported, expected) = (&reported[order as usize], &expected[order as usize]);
        let missing: Vec<_> = expected.difference(reported).collect();
        let surplus: Vec<_> = reported.difference(expected).collect();
        assert!(missing.is_empty() && surplus.is_empty(), "{order:?}: {missing:?}, {surplus:?}");
    }
}

#[test]
fn what_was_learned_is_no_longer_unseen() {
    let sensor = Sensor::start(Options { full: false, ..options() });
    sensor.wait("first window", |seen| !seen.closes.is_empty());
    let unseen = |seen: &Seen, tid: u32| -> (u64, u64, u64, u64) {
        rows(&seen.events, |event| event.actor.tid == tid).fold((0, 0, 0, 0), |sum, (_, row)| {
            (sum.0 + row.checked, sum.1 + row.unseen2, sum.2 + row.unseen3, sum.3 + row.unseen6)
        })
    };
    let first = child(odd_calls);
    let closes = sensor.seen(|seen| seen.closes.len());
    sensor.wait("closed windows", |seen| seen.closes.len() > closes + 1);
    let (subject, grams) = sensor.seen(|seen| {
        let event = seen.events.iter().find(|event| event.actor.tid == first).unwrap();
        let subject = event.actor.subject.clone();
        let mut all = Positions::default();
        for report in seen.grams.iter().filter(|report| report.subject == subject) {
            all.grams2.extend(&report.grams2);
            all.grams3.extend(&report.grams3);
            all.grams6.extend(&report.grams6);
        }
        (subject, all)
    });
    let before = sensor.seen(|seen| unseen(seen, first));
    assert!(before.0 > 10 && before.1 > 10 && before.3 == before.0, "{before:?}");
    assert_eq!(sensor.control().known_since(), None);
    sensor.control().arm([(subject.clone(), grams)]);
    sensor.wait("an epoch of the armed profile", |_| sensor.control().known_since().is_some());
    let fills = sensor.control().fill();
    let fill = fills.iter().find(|fill| fill.subject == subject).unwrap();
    assert!(fill.share.iter().all(|&share| share > 0.0) && !fill.saturated, "{fill:?}");

    let again = child(odd_calls);
    let other = child(|| {
        for round in 0..160 {
            for number in [libc::SYS_getuid, libc::SYS_getppid, libc::SYS_times, libc::SYS_sync] {
                raw(if round % 2 == 0 { libc::SYS_getgid } else { number }, 0);
                raw(number, 0);
            }
            if round % 40 == 39 {
                // Another thread of the program may have had the only signal for a while.
                // SAFETY: no pointer is passed.
                unsafe { libc::usleep(60_000) };
            }
        }
    });
    let seen = sensor.stop();
    let after = unseen(&seen, again);
    assert_eq!((after.1, after.2, after.3), (0, 0, 0), "the same again, {after:?}");
    let strange = unseen(&seen, other);
    assert!(strange.1 > 20 && strange.3 >= strange.1, "a stranger's calls: {strange:?}");
    assert!(
        seen.events
            .iter()
            .any(|event| { event.actor.tid == other && matches!(event.origin, Origin::Signal(_)) }),
        "which is worth a signal"
    );
}
