//! What the deeds of the catalogue rest on, as the kernel tells it. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;
mod kernel_memory;

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{Seen, Sensor, executable};
use hedgerow_event::{Call, Event, Exec, Origin, PATH_CUT, calls::CREDENTIALS_GREW};
use hedgerow_probe::Options;

fn options() -> Options {
    Options { window: Duration::from_millis(300), observe_own: true, ..Options::default() }
}

/// The calls that a thread does in `work`, which runs on one of its own.
fn calls_of<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (T, Vec<Call>) {
    let sensor = Sensor::start(options());
    let worker = std::thread::spawn(move || {
        let done = work();
        // SAFETY: no arguments.
        (unsafe { libc::gettid() }.cast_unsigned(), done)
    });
    let (tid, done) = worker.join().unwrap();
    (done, calls(&sensor.stop(), |event| event.actor.tid == tid))
}

fn calls(seen: &Seen, of: impl Fn(&Event) -> bool) -> Vec<Call> {
    let found = seen.events.iter().filter(|event| of(event));
    found
        .filter_map(|event| match &event.origin {
            Origin::Call(call) => Some((**call).clone()),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn numbered(calls: &[Call], number: i64) -> Vec<&Call> {
    calls.iter().filter(|call| i64::from(call.number) == number).collect()
}

/// A process of its own, which ends with the work; that makes system calls only.
fn begun(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: as the caller says.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            work();
            libc::_exit(0);
        }
        assert!(child > 0);
        child
    }
}

fn ended(child: libc::pid_t) {
    // SAFETY: our child.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}

fn child(work: impl FnOnce()) -> libc::pid_t {
    let child = begun(work);
    ended(child);
    child
}

fn terminated(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[track_caller]
fn descriptor(result: libc::c_long) -> OwnedFd {
    let descriptor = i32::try_from(result).unwrap();
    assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a call returned it to us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn openat2(path: &Path, flags: i32) -> OwnedFd {
    let path = terminated(path);
    // SAFETY: plain numbers, for which zeroes are a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    // SAFETY: a terminated path, and a structure of the size that is passed.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })
}

#[test]
fn openat2_tells_how_its_file_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    fs::write(&path, "x").unwrap();
    let opened = path.clone();
    let ((), calls) = calls_of(move || {
        drop(openat2(&opened, libc::O_RDONLY));
        drop(openat2(&opened, libc::O_WRONLY | libc::O_APPEND));
    });
    let found = numbered(&calls, libc::SYS_openat2);
    let [read, write] = found[..] else { panic!("{found:?}") };
    for call in [read, write] {
        assert_eq!((call.path.as_deref(), call.claimed), (path.to_str(), false));
    }
    let access = |call: &Call| (call.openat2_flags() as i32) & (libc::O_ACCMODE | libc::O_APPEND);
    assert_eq!(access(read), libc::O_RDONLY);
    assert_eq!(access(write), libc::O_WRONLY | libc::O_APPEND);
}

#[test]
fn renames_and_links_tell_the_new_name_in_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    fs::write(path.join("a"), "x").unwrap();
    let ((), calls) = calls_of(move || {
        let directory = File::open(&path).unwrap();
        let at = directory.as_raw_fd();
        let full = terminated(&path.join("c"));
        // SAFETY: terminated strings and an open directory.
        unsafe {
            assert_eq!(libc::renameat(at, c"a".as_ptr(), at, c"b".as_ptr()), 0);
            assert_eq!(libc::linkat(at, c"b".as_ptr(), at, full.as_ptr(), 0), 0);
            assert_eq!(libc::symlinkat(c"/nowhere".as_ptr(), at, c"d".as_ptr()), 0);
        }
    });
    for (number, name) in
        [(libc::SYS_renameat, "b"), (libc::SYS_linkat, "c"), (libc::SYS_symlinkat, "d")]
    {
        let found = numbered(&calls, number);
        let [call] = found[..] else { panic!("{number}: {found:?}") };
        assert_eq!(call.path.as_deref(), directory.path().join(name).to_str());
        assert!(call.claimed);
    }
}

#[test]
fn a_name_in_the_working_directory_is_told_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x"), "x").unwrap();
    let path = terminated(directory.path());
    let sensor = Sensor::start(options());
    let child = child(|| {
        // SAFETY: terminated strings; the working directory is the child's own.
        unsafe {
            libc::chdir(path.as_ptr());
            libc::unlinkat(libc::AT_FDCWD, c"x".as_ptr(), 0);
        }
    });
    let calls = calls(&sensor.stop(), |event| event.actor.tgid == child.cast_unsigned());
    let found = numbered(&calls, libc::SYS_unlinkat);
    let [call] = found[..] else { panic!("{found:?}") };
    assert_eq!(call.path.as_deref(), directory.path().join("x").to_str());
    assert!(call.claimed && !directory.path().join("x").exists());
}

#[test]
fn clone3_tells_the_namespaces_that_the_child_has() {
    let (child, calls) = calls_of(|| {
        let clone = |flags: libc::c_int| {
            // SAFETY: plain numbers, for which zeroes are a value.
            let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
            arguments.flags = flags as u64;
            arguments.exit_signal = libc::SIGCHLD as u64;
            // SAFETY: as a fork; the child ends at once.
            unsafe {
                let child = libc::syscall(
                    libc::SYS_clone3,
                    &raw const arguments,
                    size_of::<libc::clone_args>(),
                );
                if child == 0 {
                    libc::_exit(0);
                }
                assert!(child > 0);
                libc::waitpid(child as i32, std::ptr::null_mut(), 0);
                child
            }
        };
        clone(0);
        clone(libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWUSER)
    });
    let found = numbered(&calls, libc::SYS_clone3);
    let [call] = found[..] else { panic!("{found:?}") };
    let made = libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWUSER;
    assert_eq!((call.arguments[0], call.result), (made as u64, child));
}

#[test]
fn anonymous_executable_memory_is_told_and_a_library_is_not() {
    let ((), calls) = calls_of(|| {
        let map = |protection, flags, file: Option<&File>| {
            let descriptor = file.map_or(-1, AsRawFd::as_raw_fd);
            // SAFETY: new memory, which is given back.
            unsafe {
                let at = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, descriptor, 0);
                assert_ne!(at, libc::MAP_FAILED);
                libc::munmap(at, 4096);
            }
        };
        let library = File::open("/proc/self/exe").unwrap();
        let (read, execute) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_EXEC);
        map(execute, libc::MAP_PRIVATE, Some(&library));
        map(read, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None);
        map(execute, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None);
    });
    let found = numbered(&calls, libc::SYS_mmap);
    let [call] = found[..] else { panic!("{found:?}") };
    assert_eq!(call.arguments[2], (libc::PROT_READ | libc::PROT_EXEC) as u64);
}

#[test]
fn packet_sockets_are_told_and_others_are_not() {
    let ((), calls) = calls_of(|| {
        for (family, kind) in
            [(libc::AF_INET, libc::SOCK_STREAM), (libc::AF_PACKET, libc::SOCK_RAW)]
        {
            // SAFETY: numbers.
            drop(descriptor(unsafe { libc::socket(family, kind, 0) }.into()));
        }
    });
    let found = numbered(&calls, libc::SYS_socket);
    let [call] = found[..] else { panic!("{found:?}") };
    assert_eq!(call.arguments[0], libc::AF_PACKET as u64);
}

extern "C" fn nothing(_: libc::c_int) {}

/// A connection to a listener that takes no more, which a signal interrupts whose handler restarts
/// nothing.
fn interrupted_connect() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: numbers; a smaller queue than the standard library asks for.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let full: Vec<_> = (0..4)
        .map_while(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok())
        .collect();
    // SAFETY: a handler that does nothing, for this signal alone.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    // SAFETY: no arguments.
    let thread = unsafe { libc::pthread_self() };
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let signals = std::thread::spawn(move || {
        // Again and again, until one comes while the call waits.
        while wait.recv_timeout(Duration::from_millis(20)).is_err() {
            // SAFETY: the thread waits for this one to end.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        }
    });
    // SAFETY: plain numbers, and a name of the size that is passed.
    let connected = unsafe {
        let socket = descriptor(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into());
        let mut name: libc::sockaddr_in = std::mem::zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = address.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        libc::connect(
            socket.as_raw_fd(),
            (&raw const name).cast(),
            size_of::<libc::sockaddr_in>() as u32,
        )
    };
    done.send(()).unwrap();
    signals.join().unwrap();
    assert_eq!(connected, -1, "nobody was let in");
    drop(full);
}

#[test]
fn a_connect_that_a_signal_interrupts_is_told() {
    let ((), calls) = calls_of(interrupted_connect);
    let interrupted = numbered(&calls, libc::SYS_connect);
    assert!(interrupted.iter().any(|call| (-516..=-512).contains(&call.result)), "{interrupted:?}");
}

const ENDS: usize = 30;

/// Run by the next test, as a program of its own: its threads end at once.
#[test]
#[ignore = "it is the program of another test"]
fn ends_with_its_threads() {
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(17));
    for _ in 0..16 {
        let barrier = std::sync::Arc::clone(&barrier);
        std::thread::spawn(move || {
            barrier.wait();
            loop {
                std::hint::spin_loop();
            }
        });
    }
    barrier.wait();
    std::process::exit(0);
}

#[test]
fn threads_that_end_at_once_end_their_process_once() {
    let sensor = Sensor::filtered(options(), |event| matches!(event.origin, Origin::Exit(_)));
    let mut children = Vec::new();
    for _ in 0..ENDS {
        let mut child = this_program("ends_with_its_threads").spawn().unwrap();
        assert!(child.wait().unwrap().success());
        children.push(child.id());
    }
    let seen = sensor.stop();
    for child in children {
        let ends = seen.events.iter().filter(|event| {
            event.actor.tgid == child && matches!(&event.origin, Origin::Exit(exit) if exit.process)
        });
        assert_eq!(ends.count(), 1, "{child}");
    }
}

/// This program, made to run one of the tests that are none.
fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test]).stdout(std::process::Stdio::null());
    command
}

/// `/tmp/..., a directory with a long name, .../usr/bin/psql`.
fn deep(directory: &Path) -> PathBuf {
    let place = directory.join("d".repeat(250)).join("usr/bin");
    fs::create_dir_all(&place).unwrap();
    place.join("psql")
}

#[test]
fn a_path_that_is_too_long_names_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let program = deep(directory.path());
    let sensor = Sensor::start(options());
    executable(&program, &fs::read("/proc/self/exe").unwrap());
    let mut child = Command::new(&program)
        .args(["--list", "--exact", "none"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let opened = program.clone();
    let opener = std::thread::spawn(move || {
        drop(File::open(opened).unwrap());
        // SAFETY: no arguments.
        unsafe { libc::gettid() }.cast_unsigned()
    });
    let tid = opener.join().unwrap();
    let seen = sensor.stop();
    let exec = |event: &Event| match &event.origin {
        Origin::Exec(exec) if event.actor.tgid == child.id() => {
            Some((event.actor.subject.program.path.clone(), Exec::clone(exec)))
        }
        _ => None,
    };
    let (named, exec) = seen.events.iter().find_map(exec).unwrap();
    assert!(named.starts_with(PATH_CUT) && named.ends_with("/usr/bin/psql"), "{named}");
    assert!(exec.path.starts_with(PATH_CUT), "{}", exec.path);
    let calls = calls(&seen, |event| event.actor.tid == tid);
    let paths = || calls.iter().filter_map(|call| call.path.as_deref());
    assert!(paths().any(|path| path.starts_with(PATH_CUT) && path.ends_with("/psql")));
    assert!(!paths().any(|path| path.starts_with('/') && path.ends_with("bin/psql")));
}

#[test]
fn rights_that_change_by_calls_are_none_that_grew() {
    let sensor = Sensor::start(options());
    let child = child(|| {
        // SAFETY: numbers; the child's own rights.
        unsafe {
            for _ in 0..3 {
                libc::setresuid(u32::MAX, 1000, u32::MAX);
                libc::getppid();
                libc::setresuid(u32::MAX, 0, u32::MAX);
                libc::getppid();
                libc::setfsuid(1000);
                libc::setfsuid(0);
                libc::getppid();
            }
            libc::setresuid(1000, 1000, 1000);
            libc::unshare(libc::CLONE_NEWUSER);
            libc::getppid();
        }
    });
    let seen = sensor.stop();
    let told = calls(&seen, |event| event.actor.tgid == child.cast_unsigned());
    let grew = numbered(&told, CREDENTIALS_GREW.into());
    assert!(grew.is_empty(), "{grew:?}");
    assert!(numbered(&told, libc::SYS_setresuid).len() >= 7, "it was looked at");
}

#[test]
fn rights_that_grow_without_a_call_are_told() {
    let sensor = Sensor::start(options());
    let (mut told, tell) = std::io::pipe().unwrap();
    let (waits, mut go) = std::io::pipe().unwrap();
    let (wait, tell) = (waits.as_raw_fd(), tell.as_raw_fd());
    let child = begun(|| {
        let mut byte = 0u8;
        // SAFETY: one byte of the child's own.
        unsafe {
            libc::getppid();
            libc::write(tell, (&raw const byte).cast(), 1);
            libc::read(wait, (&raw mut byte).cast(), 1);
            libc::getppid();
        }
    });
    let mut byte = [0];
    told.read_exact(&mut byte).unwrap();
    // As if it had had other rights until now: nobody can write into a task's credentials from here,
    // but what the sensor keeps of them is as good.
    kernel_memory::forget_rights(child);
    go.write_all(&byte).unwrap();
    ended(child);
    let calls = calls(&sensor.stop(), |event| event.actor.tgid == child.cast_unsigned());
    let grew = numbered(&calls, CREDENTIALS_GREW.into());
    let [call] = grew[..] else { panic!("{grew:?}") };
    assert_eq!(call.arguments[..3], [1000, 0, 0]);
    assert_ne!(call.arguments[3], 0);
}

/// Where io_uring may be used at all.
fn has_uring() -> bool {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    !disabled.is_ok_and(|word| word.trim() != "0")
}

const OPENED: &str = "HEDGEROW_TEST_OPENED";
const ROUNDS: usize = 40;

/// Run by the next test, as a program of its own: opens a file again and again by a ring that a
/// thread of the kernel's polls, with no call of its own.
#[test]
#[ignore = "it is the program of another test"]
fn opens_by_a_polled_ring() {
    let path = PathBuf::from(std::env::var_os(OPENED).unwrap());
    let directory = File::open(path.parent().unwrap()).unwrap();
    let name = terminated(Path::new(path.file_name().unwrap()));
    let mut ring: io_uring::IoUring =
        io_uring::IoUring::builder().setup_sqpoll(10_000).build(8).unwrap();
    for _ in 0..ROUNDS {
        let at = io_uring::types::Fd(directory.as_raw_fd());
        let open = io_uring::opcode::OpenAt::new(at, name.as_ptr()).flags(libc::O_WRONLY).build();
        // SAFETY: the name outlives the request, which is waited for.
        unsafe { ring.submission().push(&open).unwrap() };
        ring.submit_and_wait(1).unwrap();
        let opened = ring.completion().next().unwrap().result();
        drop(descriptor(opened.into()));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_open_by_io_uring_tells_its_name_and_a_polling_thread_is_of_its_program() {
    if !has_uring() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("opened");
    fs::write(&path, "x").unwrap();
    let sensor = Sensor::start(Options { learning: true, ..options() });
    let mut child = this_program("opens_by_a_polled_ring").env(OPENED, &path).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let seen = sensor.stop();
    let of_it = || seen.events.iter().filter(|event| event.actor.tgid == child.id());
    let opened = |event: &&Event| match &event.origin {
        Origin::Call(call) => {
            i64::from(call.number) == libc::SYS_openat
                && call.path.as_deref() == path.to_str()
                && call.arguments[2] as i32 & libc::O_ACCMODE == libc::O_WRONLY
        }
        _ => false,
    };
    let opens: Vec<_> = of_it().filter(opened).collect();
    assert_eq!(opens.len(), ROUNDS, "each is told");
    let poller = opens[0].actor.tid;
    let exec = of_it().find(|event| matches!(event.origin, Origin::Exec(_))).unwrap();
    assert!(opens.iter().all(|event| {
        let actor = &event.actor;
        (actor.tid, actor.program_id) == (poller, exec.actor.program_id)
            && actor.subject.program == exec.actor.subject.program
    }));
    // It gets its profile once its workload is named.
    let slot = opens[ROUNDS - 1].actor.slot;
    assert_ne!(slot, 0);
    let mut others = of_it().filter(|event| event.actor.tid != poller);
    assert!(others.any(|event| event.actor.slot == slot), "the same as the others have");
}

#[test]
fn programs_have_ids_that_nobody_can_compute_without_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    executable(&script, b"#!/bin/sh\nexit 0\n");
    let ids = |identity_key| {
        let sensor = Sensor::start(Options { identity_key, ..options() });
        let mut ids = Vec::new();
        for mut command in [this_program("none"), Command::new(&script)] {
            let mut child = command.spawn().unwrap();
            assert!(child.wait().unwrap().success());
            ids.push(child.id());
        }
        let seen = sensor.stop();
        let of = |child| {
            let mut execs = seen.events.iter().filter(|event| {
                event.actor.tgid == child && matches!(event.origin, Origin::Exec(_))
            });
            execs.next().unwrap().actor.program_id
        };
        [of(ids[0]), of(ids[1])]
    };
    let [one, again, other] = [[1, 2], [1, 2], [1, 3]].map(ids);
    assert_eq!(one, again, "it outlasts a restart");
    assert!(one[0] != other[0] && one[1] != other[1]);
    assert!(!one.contains(&0) && one[0] != one[1]);
}
