//! What can become evidence: paths, programs, parents, as the kernel holds them. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{Sensor, executable, rows};
use hedgerow_event::{Call, Event, Exec, Origin, calls::Class};
use hedgerow_probe::Options;

/// So long both files may take to be opened.
const RACE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options {
        window: Duration::from_millis(300),
        observe_own: true,
        task_tokens: 1 << 20,
        cgroup_tokens: 1 << 20,
        ..Options::default()
    }
}

fn calls(events: &[Event], tid: u32) -> impl Iterator<Item = &Call> {
    events.iter().filter(move |event| event.actor.tid == tid).filter_map(|event| {
        match &event.origin {
            Origin::Call(call) => Some(&**call),
            _ => None,
        }
    })
}

/// Execs of this test's own children, whatever else runs on the host.
fn execs(events: &[Event]) -> impl Iterator<Item = (&Event, &Exec)> {
    let us = std::process::id();
    events.iter().filter_map(move |event| match &event.origin {
        Origin::Exec(exec) if exec.parent_tgid == us => Some((event, &**exec)),
        _ => None,
    })
}

/// Both names were opened.
fn is_run(truth: &[String]) -> bool {
    ["/zaaa", "/aaaa"].iter().all(|name| truth.iter().any(|path| path.ends_with(name)))
}

/// Opens what `buffer` says while another thread rewrites it; the thread's number, and what it
/// really opened each time.
fn open_while_rewritten(
    buffer: &Arc<Vec<AtomicU8>>,
    stop: &AtomicBool,
    rounds: usize,
) -> (u32, Vec<String>) {
    let mut truth: Vec<String> = Vec::new();
    let until = Instant::now() + RACE;
    while truth.len() < rounds || !is_run(&truth) && Instant::now() < until {
        if truth.len() >= rounds {
            // The other one has not been let run yet.
            std::thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: a terminated string that only changes one letter; the descriptor is closed.
        unsafe {
            let fd = libc::open(buffer.as_ptr().cast(), libc::O_RDONLY);
            assert!(fd >= 0);
            let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            truth.push(link.to_string_lossy().into_owned());
            libc::close(fd);
        }
    }
    stop.store(true, Ordering::Relaxed);
    // SAFETY: no arguments.
    (unsafe { libc::gettid() }.cast_unsigned(), truth)
}

#[test]
fn a_rewritten_path_buffer_deceives_nobody() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["aaaa", "zaaa"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let path = CString::new(directory.path().join("aaaa").as_os_str().as_bytes()).unwrap();
    let flipped = path.as_bytes().len() - 4;
    let buffer: Arc<Vec<AtomicU8>> =
        Arc::new(path.as_bytes_with_nul().iter().map(|&byte| AtomicU8::new(byte)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let sensor = Sensor::start(options());
    let (tid, truth) = {
        let rewriter = {
            let (buffer, stop) = (Arc::clone(&buffer), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for letter in [b'z', b'a'] {
                        buffer[flipped].store(letter, Ordering::Relaxed);
                        (0..100).for_each(|_| std::hint::spin_loop());
                    }
                }
            })
        };
        let opener = {
            let (buffer, stop) = (Arc::clone(&buffer), Arc::clone(&stop));
            std::thread::spawn(move || open_while_rewritten(&buffer, &stop, 3000))
        };
        let opened = opener.join().unwrap();
        rewriter.join().unwrap();
        opened
    };
    let seen = sensor.stop();
    assert!(is_run(&truth), "the race was run");
    let prefix = directory.path().to_str().unwrap();
    let told: Vec<String> = calls(&seen.events, tid)
        .filter(|call| call.path.as_deref().is_some_and(|path| path.starts_with(prefix)))
        .inspect(|call| assert!(!call.claimed && call.result >= 0))
        .filter_map(|call| call.path.as_deref().map(str::to_owned))
        .collect();
    assert_eq!(told, truth);
}

#[test]
fn a_failed_open_and_an_unlink_are_only_claimed() {
    let sensor = Sensor::start(options());
    let worker = std::thread::spawn(|| {
        let _ = fs::File::open("/nonexistent/claimed");
        let _ = fs::remove_file("/nonexistent/unlinked");
        // SAFETY: no arguments.
        unsafe { libc::gettid() }.cast_unsigned()
    });
    let tid = worker.join().unwrap();
    let seen = sensor.stop();
    for (path, class) in
        [("/nonexistent/claimed", Class::Open), ("/nonexistent/unlinked", Class::Unlink)]
    {
        let call = calls(&seen.events, tid).find(|call| call.path.as_deref() == Some(path));
        let call = call.unwrap();
        assert!(call.claimed && call.result == -2 && usize::from(call.class) == class.index());
    }
}

#[test]
fn an_exec_tells_program_script_parent_and_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    executable(&script, b"#!/bin/sh\nexit 0\n");
    let binary = directory.path().join("copied");
    executable(&binary, &fs::read(fs::canonicalize("/bin/sh").unwrap()).unwrap());
    let sensor = Sensor::start(options());
    assert!(Command::new(&script).arg("one").status().unwrap().success());
    assert!(Command::new(&binary).args(["-c", "exit 0"]).status().unwrap().success());
    let seen = sensor.stop();

    let shell = fs::canonicalize("/bin/sh").unwrap();
    let of = |wanted: &str| {
        execs(&seen.events).find(|(_, exec)| exec.arguments.contains(wanted)).unwrap()
    };
    let (event, exec) = of("script");
    assert_eq!(Path::new(&*exec.path), shell);
    assert!(exec.arguments.ends_with("script one"), "{}", exec.arguments);
    assert_eq!(event.actor.subject.program.script.as_deref(), script.to_str());
    assert_eq!(exec.parent_tgid, std::process::id());
    let us = std::env::current_exe().unwrap();
    assert_eq!(exec.previous.as_ref().map(|subject| &*subject.program.path), us.to_str());
    assert_eq!(exec.parent.as_ref().map(|subject| &*subject.program.path), us.to_str());
    assert!(!exec.memory && !exec.privileged);

    let (_, exec) = of("exit 0");
    assert_eq!(Path::new(&*exec.path), binary);
    let (shell_key, copy_key) = (of("script").1.file, exec.file);
    assert_ne!(shell_key, copy_key, "another file is another key");
}

#[test]
fn a_program_in_memory_is_told_as_such() {
    let sensor = Sensor::start(options());
    let image = fs::read(fs::canonicalize("/bin/sh").unwrap()).unwrap();
    // SAFETY: a valid name, our own bytes; the child execs or ends.
    let child = unsafe {
        let fd = libc::memfd_create(c"hidden".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        assert_eq!(
            libc::write(fd, image.as_ptr().cast(), image.len()),
            isize::try_from(image.len()).unwrap()
        );
        let child = libc::fork();
        if child == 0 {
            let argv = [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 0".as_ptr(), std::ptr::null()];
            libc::fexecve(fd, argv.as_ptr(), [std::ptr::null()].as_ptr());
            libc::_exit(9);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        libc::close(fd);
        child.cast_unsigned()
    };
    let seen = sensor.stop();
    let found = execs(&seen.events).find(|(event, _)| event.actor.tgid == child).unwrap();
    assert!(found.1.memory, "{:?}", found.1);
    assert!(found.1.path.contains("memfd:hidden"), "{:?}", found.1);
}

#[test]
fn rows_of_one_process_are_read_early_and_not_taken() {
    let sensor = Sensor::start(Options { window: Duration::from_secs(20), ..options() });
    let (done, wait) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let worker = std::thread::spawn(move || {
        for _ in 0..77 {
            // SAFETY: an invalid identifier and no operations.
            unsafe { libc::syscall(libc::SYS_semop, -1, 0, 0) };
        }
        done.0.send(()).unwrap();
        wait.1.recv().unwrap();
    });
    done.1.recv().unwrap();
    let early = sensor.control().rows_of(std::process::id()).unwrap();
    let marks = |events: &[Event]| -> u64 {
        let ours = rows(events, |event| event.actor.tgid == std::process::id());
        ours.map(|(_, row)| u64::from(row.classes[Class::Ipc.index()])).sum()
    };
    assert_eq!(marks(&early), 77);
    assert!(early.iter().all(|event| event.actor.tgid == std::process::id()));
    wait.0.send(()).unwrap();
    worker.join().unwrap();
    assert_eq!(marks(&sensor.stop().events), 77, "still there");
}
