#![allow(clippy::unwrap_used)]
use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
};

use super::*;
use crate::{
    control::{Arm, Remove, Which, call, readers_socket},
    exit::Failure,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_request_is_answered_and_a_refusal_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let control = Control::listen(&socket, None).unwrap();
    let requests = control.requests.clone();
    let daemon = thread::spawn(move || {
        let mut callers = Vec::new();
        for reply in [Ok(serde_json::json!({"armed": true})), Err("no such entry".to_owned())] {
            let claimed = requests.recv().unwrap().claim().unwrap();
            callers.push(claimed.by);
            claimed.answer(reply);
        }
        callers
    });
    assert!(call(&socket, &Arm {}).unwrap().armed);
    let remove = Remove { which: Which::Uid("u".into()), wrong: false };
    assert_eq!(call(&socket, &remove).unwrap_err().to_string(), "no such entry");
    let callers = daemon.join().unwrap();
    // SAFETY: it only reads.
    let uid = unsafe { libc::geteuid() };
    assert!(callers.iter().all(|by| by.uid == uid && by.pid == std::process::id()));
    drop(control);
    assert!(!socket.exists());
    let gone = call(&socket, &Arm {}).unwrap_err();
    assert!(matches!(gone.downcast_ref(), Some(Failure::NoDaemon(_))));
}

#[test]
fn where_there_is_no_room_for_a_socket_it_is_made_later() {
    let directory = tempfile::tempdir().unwrap();
    let mount = |command: &mut std::process::Command| {
        assert!(command.arg(directory.path()).status().unwrap().success());
    };
    let full = ["-t", "tmpfs", "-o", "nr_inodes=3", "none"];
    mount(std::process::Command::new("mount").args(full));
    let (socket, other) = (directory.path().join("s"), directory.path().join("o"));
    fs::write(&other, "").unwrap();
    fs::write(directory.path().join("p"), "").unwrap();
    let readers = Readers { socket: readers_socket(directory.path()), group: 54_321 };
    let control = Control::listen(&socket, Some(readers)).unwrap();
    let requests = control.requests.clone();
    let daemon = thread::spawn(move || {
        let entries = serde_json::to_value(crate::control::Entries::default()).unwrap();
        requests.recv().unwrap().claim().unwrap().answer(Ok(entries));
    });
    call(&socket, &crate::control::GetEntries {}).unwrap();
    daemon.join().unwrap();
    let why = call(&socket, &Arm {}).unwrap_err().to_string();
    assert!(why.contains("root's own socket"), "{why}");
    fs::remove_file(&other).unwrap();
    let until = std::time::Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(std::time::Instant::now() < until, "nobody listens");
        thread::sleep(Duration::from_millis(50));
    }
    drop(control);
    mount(&mut std::process::Command::new("umount"));
}

#[test]
fn a_request_that_was_refused_for_time_is_never_executed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let control = Control::listen_for(&socket, None, Duration::from_millis(50)).unwrap();
    // Nobody takes it in time.
    let refused = call(&socket, &Arm {}).unwrap_err();
    assert!(refused.to_string().contains("not executed"), "{refused}");
    let late = control.requests.recv_timeout(PATIENCE).unwrap();
    assert!(late.claim().is_none());
}

#[test]
fn a_request_whose_client_has_gone_is_never_executed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let control = Control::listen_for(&socket, None, PATIENCE).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let body = r#"{"request":"arm"}"#;
    write!(
        client,
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let waiting = control.requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!(waiting.request, Request::Arm(Arm {}));
    drop(client);
    let until = std::time::Instant::now() + PATIENCE;
    while waiting.state.load(Ordering::Acquire) == WAITING {
        assert!(std::time::Instant::now() < until, "it still waits");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(waiting.claim().is_none());
}

#[test]
fn readers_hold_no_more_places_than_theirs_and_send_no_more_than_a_request() {
    // SAFETY: it only reads.
    assert_eq!(unsafe { libc::geteuid() }, 0, "needs root");
    let directory = tempfile::tempdir().unwrap();
    let readers = Readers { socket: directory.path().join("readers/s"), group: 54_321 };
    let own = directory.path().join("s");
    let control = Control::listen(&own, Some(readers.clone())).unwrap();
    let requests = control.requests.clone();
    let daemon = thread::spawn(move || {
        let answer = serde_json::to_value(crate::control::Entries::default()).unwrap();
        while let Ok(pending) = requests.recv() {
            pending.claim().unwrap().answer(Ok(answer.clone()));
        }
    });
    let connect = |socket: &Path| {
        let client = std::os::unix::net::UnixStream::connect(socket).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };
    let post = |socket: &Path, bytes: usize| {
        let mut client = connect(socket);
        let head = "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n";
        let body = " ".repeat(bytes);
        // Who is refused early may be hung up on.
        let _ = write!(client, "{head}content-length: 1000000\r\n\r\n{body}");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(post(&readers.socket, READERS.body_bytes + 1), "413");
    let idle: Vec<_> = (0..READERS.connections).map(|_| connect(&readers.socket)).collect();
    call(&readers.socket, &crate::control::GetEntries {}).unwrap();
    assert_eq!((&idle[0]).read(&mut [0]).unwrap(), 0, "who came first made room");
    call(&own, &crate::control::GetEntries {}).unwrap();
    drop((idle, control));
    daemon.join().unwrap();
}

#[test]
fn what_readers_ask_again_at_once_is_not_asked_of_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("readers/s");
    let readers = Readers { socket: socket.clone(), group: 54_321 };
    let own = directory.path().join("s");
    let control = Control::listen(&own, Some(readers)).unwrap();
    let requests = control.requests.clone();
    let daemon = thread::spawn(move || {
        let answer = serde_json::to_value(crate::control::Entries::default()).unwrap();
        let mut begun = Vec::new();
        while let Ok(pending) = requests.recv() {
            begun.push(Instant::now());
            let claimed = pending.claim().unwrap();
            // Whoever hangs up has done so.
            thread::sleep(Duration::from_millis(50));
            claimed.answer(Ok(answer.clone()));
        }
        begun
    });
    let hang_up = || {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let head = "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n";
        let body = r#"{"request":"get_entries"}"#;
        write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        thread::sleep(Duration::from_millis(20));
    };
    hang_up();
    call(&socket, &crate::control::GetEntries {}).unwrap();
    let until = Instant::now() + 2 * KEPT;
    while Instant::now() < until {
        hang_up();
        call(&socket, &crate::control::GetEntries {}).unwrap();
    }
    // Root is told what is so now.
    (0..2).for_each(|_| drop(call(&own, &crate::control::GetEntries {}).unwrap()));
    drop(control);
    let begun = daemon.join().unwrap();
    let gaps: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let of_readers = gaps.len() - 2;
    assert!(gaps[..of_readers].iter().all(|gap| *gap >= KEPT), "{gaps:?}");
    assert!(begun.len() >= 4, "{gaps:?}");
}

/// What a thread is told that is of this user and group alone.
fn as_user<T: Send + 'static>(uid: u32, group: u32, ask: impl FnOnce() -> T + Send + 'static) -> T {
    let asked = thread::spawn(move || {
        // SAFETY: system calls without memory but one readable group; unlike those of the C
        // library they are about this thread alone, which ends.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 1, &raw const group), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, uid, uid, uid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        ask()
    });
    asked.join().unwrap()
}

#[test]
fn members_of_the_group_read_and_nobody_else_does_and_only_root_steers() {
    // SAFETY: it only reads.
    assert_eq!(unsafe { libc::geteuid() }, 0, "needs root");
    let directory = tempfile::tempdir().unwrap();
    // Others can pass, as through /run.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let readers = Readers { socket: directory.path().join("readers/s"), group: 54_321 };
    let own = directory.path().join("s");
    let control = Control::listen(&own, Some(readers.clone())).unwrap();
    let requests = control.requests.clone();
    let daemon = thread::spawn(move || {
        let entries = serde_json::to_value(crate::control::Entries::default()).unwrap();
        while let Ok(pending) = requests.recv() {
            pending.claim().unwrap().answer(Ok(entries.clone()));
        }
    });
    let ask = |socket: &Path| {
        let socket = socket.to_owned();
        move || {
            let read = call(&socket, &crate::control::GetEntries {}).map(drop);
            let logs = [FINDINGS, LEDGER].map(|name| crate::control::client::log_of(&socket, name));
            assert!(logs.iter().all(|log| log.is_ok() == read.is_ok()), "{logs:?}");
            let steered = call(&socket, &Arm {}).map(drop);
            (read.map_err(|why| why.to_string()), steered.map_err(|why| why.to_string()))
        }
    };
    let (read, steered) = as_user(54_322, 54_321, ask(&readers.socket));
    assert_eq!(read, Ok(()));
    assert!(steered.unwrap_err().contains("only root may steer"));
    let (read, steered) = as_user(54_322, 54_323, ask(&readers.socket));
    assert!(read.unwrap_err().contains("not allowed"), "another group");
    assert!(steered.unwrap_err().contains("not allowed"));
    let (read, _) = as_user(54_322, 54_321, ask(&own));
    assert!(read.unwrap_err().contains("not allowed"), "the socket is root's");
    drop(control);
    daemon.join().unwrap();
    assert!(!directory.path().join("readers").exists(), "nothing is left");
}
