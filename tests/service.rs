//! What a service manager is told, and what a reload says. The binary itself, live.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::OpenOptionsExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
/// A start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A reader that went would have been noticed by then.
const LOOK: Duration = Duration::from_secs(3);

/// Past what a stage stands still for until it is told.
const STILL: Duration = Duration::from_secs(14);

/// Killed where a test fails.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a message that holds the text; what came before is passed over.
fn told(manager: &UnixDatagram, text: &str) -> String {
    let until = Instant::now() + PATIENCE;
    let mut all = String::new();
    while Instant::now() < until {
        let mut bytes = [0; 4096];
        let Ok(length) = manager.recv(&mut bytes) else { continue };
        let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if message.contains(text) {
            return message;
        }
        all += &message;
    }
    panic!("{text} was not told: {all}");
}

#[test]
fn a_service_manager_is_told_of_start_health_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let manager = UnixDatagram::bind(path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let state = path("state").to_str().unwrap().to_owned();
    fs::write(path("h.toml"), format!("state = {state:?}\nno_syscalls = true\n")).unwrap();
    let log = fs::File::create(path("log")).unwrap();
    let (journal, output) = UnixStream::pair().unwrap();
    let child = Command::new(PROGRAM)
        .args(["run", "--config", path("h.toml").to_str().unwrap()])
        .env("NOTIFY_SOCKET", path("notify"))
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(output))
        .stderr(log)
        .spawn()
        .unwrap();
    let mut daemon = Daemon(child);
    let pid = daemon.0.id().cast_signed();
    // SAFETY: the child is not reaped yet.
    let signal = |number| assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    told(&manager, "READY=1");
    told(&manager, "WATCHDOG=1");
    let status = told(&manager, "STATUS=");
    assert!(status.contains("scores in") && status.contains("observe"), "{status}");
    // The journal is restarted: what goes on below shows that the daemon does.
    drop(journal);
    std::thread::sleep(LOOK);
    fs::create_dir(path("conf.d")).unwrap();
    for (text, said) in [
        ("budget = 2.0\n", "SIGHUP: from now on at most 2 alerts a day\n"),
        ("budget = 2.0\n", "SIGHUP: the configuration is as it was\n"),
        ("budget = 3.0\nring_mib = 4\n", "at most 3 alerts a day; restart to change ring_mib\n"),
        ("budget = 0.0\n", "conf.d/1.toml: budget: 0 is not a number"),
    ] {
        fs::write(path("conf.d/1.toml"), text).unwrap();
        signal(libc::SIGHUP);
        assert!(told(&manager, "RELOADING=1").contains("MONOTONIC_USEC="));
        told(&manager, "READY=1");
        let until = Instant::now() + PATIENCE;
        while !fs::read_to_string(path("log")).unwrap().contains(said) {
            assert!(Instant::now() < until, "{}", fs::read_to_string(path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // What was wrong changed nothing.
    let asked = ["status", "--json", "--state", &state];
    let status = Command::new(PROGRAM).args(asked).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["budget"]["asked_per_day"], 3.0, "{status}");
    signal(libc::SIGINT);
    told(&manager, "STOPPING=1");
    assert!(daemon.0.wait().unwrap().success());
    let removed =
        Command::new(PROGRAM).args(["disarm", "--remove", "--state", &state]).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
}

#[test]
fn a_standard_error_that_stalls_stops_no_sign_of_life() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let manager = UnixDatagram::bind(path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let state = path("state").to_str().unwrap().to_owned();
    fs::write(path("h.toml"), format!("state = {state:?}\nno_syscalls = true\n")).unwrap();
    let (unread, journal) = io::pipe().unwrap();
    let child = Command::new(PROGRAM)
        .args(["run", "--config", path("h.toml").to_str().unwrap()])
        .env("NOTIFY_SOCKET", path("notify"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(journal.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(child);
    let pid = daemon.0.id().cast_signed();
    told(&manager, "WATCHDOG=1");
    // Opened anew, so that the daemon's own end goes on waiting.
    let mut options = fs::OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut filler = options.open(format!("/proc/self/fd/{}", journal.as_raw_fd())).unwrap();
    while filler.write(b".").is_ok() {}
    // SAFETY: the child is not reaped yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    let until = Instant::now() + STILL;
    while Instant::now() < until {
        told(&manager, "WATCHDOG=1");
    }
    let status = || {
        let asked = ["status", "--json", "--state", &state];
        let status = Command::new(PROGRAM).args(asked).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&status.stdout).unwrap()
    };
    assert_eq!(status()["stands_still"], serde_json::json!(["the terminal"]));
    // Still so, once that is to be said.
    let from = Instant::now();
    while from.elapsed() < LOOK {
        told(&manager, "WATCHDOG=1");
    }
    drop((unread, filler, journal));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    assert!(daemon.0.wait().unwrap().success());
    let removed =
        Command::new(PROGRAM).args(["disarm", "--remove", "--state", &state]).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
}
