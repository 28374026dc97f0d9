//! The daemon's handle, against a shell script in the daemon's place.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Error, Line, executable};

fn program(name: &str, script: &str) -> (PathBuf, PathBuf) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("program");
    executable(&path, format!("#!/bin/sh\n{script}").as_bytes()).unwrap();
    (path, directory)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn lines_are_read_and_a_drop_interrupts() {
    let script = "trap 'echo interrupted >&2; exit' INT\n\
                  echo noise\n\
                  echo '{\"status\": {\"phase\": \"'\"$*\"'\"}}'\n\
                  while :; do sleep 0.1; done\n";
    let (program, directory) = program("interrupted", script);
    let log = directory.join("log");
    let daemon = Daemon::start(&program, &["--learn", "2m"], &log).unwrap();
    match daemon.next(soon()).unwrap() {
        Some(Line::Status(status)) => assert_eq!(status["phase"], "run --json --learn 2m"),
        other => panic!("{other:?}"),
    }
    assert!(daemon.next(Instant::now()).unwrap().is_none());
    drop(daemon);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("noise") && log.contains("interrupted"), "{log}");
}

#[test]
fn an_end_is_an_error_with_what_was_said() {
    let (program, directory) = program("ended", "echo 'not root' >&2; exit 3\n");
    let daemon = Daemon::start(&program, &[], &directory.join("log")).unwrap();
    match daemon.next(soon()) {
        Err(Error::Command { output, .. }) => assert!(output.contains("not root"), "{output}"),
        other => panic!("{other:?}"),
    }
}
