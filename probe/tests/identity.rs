//! Who is who on the live kernel: containers, replaced files, scripts, loaders, applets, memory.
//! Needs root.
#![allow(clippy::unwrap_used)]

mod harness;
mod sandbox;

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{LIMIT, Seen, Sensor, executable};
use hedgerow_event::{Event, Exec, Origin, Subject};
use hedgerow_probe::{Options, Positions};
use sandbox::{Cgroup, Mount, busybox, image, in_container, in_memory};

fn options() -> Options {
    Options { window: Duration::from_millis(300), flows: false, ..Options::default() }
}

/// Collects execs and rows.
fn sensor() -> Sensor {
    Sensor::filtered(Options { observe_own: true, ..options() }, |event| {
        matches!(event.origin, Origin::Exec(_) | Origin::Row(_))
    })
}

/// Execs of this test's own children, whatever else runs on the host.
fn execs(seen: &Seen) -> impl Iterator<Item = (&Event, &Exec)> {
    let us = std::process::id();
    seen.events.iter().filter_map(move |event| match &event.origin {
        Origin::Exec(exec) if exec.parent_tgid == us => Some((event, &**exec)),
        _ => None,
    })
}

/// The exec whose arguments hold `mark`.
#[track_caller]
fn marked<'a>(seen: &'a Seen, mark: &str) -> (&'a Event, &'a Exec) {
    let found = execs(seen).find(|(_, exec)| exec.arguments.contains(mark));
    found.unwrap_or_else(|| panic!("no exec with {mark}"))
}

fn subject<'a>(seen: &'a Seen, mark: &str) -> &'a Arc<Subject> {
    &marked(seen, mark).0.actor.subject
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) {
    let status = Command::new(program.as_ref()).args(arguments).status().unwrap();
    assert!(status.success(), "{:?} {arguments:?}", program.as_ref());
}

/// Puts a file of other content at a path, under another inode.
fn replace(path: &Path, content: &[u8]) {
    let fresh = path.with_extension("fresh");
    executable(&fresh, content);
    fs::rename(fresh, path).unwrap();
}

/// Runs `path` until an exec of it, marked, has what `wanted` looks for.
fn run_until(sensor: &Sensor, path: &Path, mark: &str, wanted: impl Fn(&Exec) -> bool) {
    run_as_until(sensor, &[path.to_str().unwrap(), "true", mark], wanted);
}

/// The same of a command that ends with its mark.
fn run_as_until(sensor: &Sensor, command: &[&str], wanted: impl Fn(&Exec) -> bool) {
    let (path, mark) = (command[0], command[command.len() - 1]);
    let start = Instant::now();
    loop {
        run(path, &command[1..]);
        let found = |seen: &Seen| {
            execs(seen).any(|(_, exec)| exec.arguments.contains(mark) && wanted(exec))
        };
        if sensor.seen(found) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "no such exec of {path:?} in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_image_in_two_containers_is_one_file_and_a_program_of_each_workload() {
    let lower = image();
    let base = Cgroup::new("image");
    let sensor = sensor();
    let id = |digit: &str| format!("docker-{}.scope", digit.repeat(64));
    for (cgroup, mark) in
        [("a".into(), "in-a"), ("b".into(), "in-b"), (id("c"), "in-c"), (id("d"), "in-d")]
    {
        let cgroup = base.child(&cgroup);
        assert!(in_container(lower.path(), &cgroup, &["/bin/busybox", "true", mark]));
    }
    let seen = sensor.stop();
    let (first, exec) = marked(&seen, "in-a");
    let inode = fs::metadata(lower.path().join("bin/busybox")).unwrap().ino();
    assert_eq!(exec.file.inode, inode, "the file below overlayfs");
    for mark in ["in-b", "in-c", "in-d"] {
        let (event, other) = marked(&seen, mark);
        assert_eq!((other.file, event.actor.program_id), (exec.file, first.actor.program_id));
        assert_eq!(
            (&*other.path, &event.actor.subject.program),
            ("/bin/busybox", &first.actor.subject.program)
        );
    }
    let workload = |mark| subject(&seen, mark).workload.as_str().to_owned();
    assert_eq!(workload("in-a"), base.workload("a"));
    assert_eq!(workload("in-b"), base.workload("b"));
    // Containers of no known image are one workload, whatever their ids.
    assert_eq!(workload("in-c"), "container");
    assert_eq!(subject(&seen, "in-c"), subject(&seen, "in-d"));
}

#[test]
fn a_device_that_is_used_again_after_umount_holds_other_programs() {
    let place = tempfile::tempdir().unwrap();
    let content = fs::read(busybox()).unwrap();
    let other = [&content[..], b"other"].concat();
    let sensor = sensor();
    let (mut ids, start) = (Vec::new(), Instant::now());
    // Somebody else may take the number meanwhile: then once more.
    while start.elapsed() < LIMIT {
        ids.clear();
        for (content, mark) in [(&content, "before"), (&other, "after")] {
            let mount = Mount::tmpfs(place.path());
            let program = mount.path().join("busybox");
            executable(&program, content);
            run(&program, &["true", mark]);
            let metadata = fs::metadata(&program).unwrap();
            ids.push((metadata.dev(), metadata.ino()));
        }
        if ids[0] == ids[1] {
            break;
        }
    }
    assert_eq!(ids[0], ids[1], "no device number came back in {LIMIT:?}");
    let seen = sensor.stop();
    let last = |mark: &str| execs(&seen).filter(|(_, exec)| exec.arguments.contains(mark)).last();
    let (before, after) = (last("before").unwrap(), last("after").unwrap());
    assert_eq!(
        (before.1.file.device, before.1.file.inode),
        (after.1.file.device, after.1.file.inode)
    );
    assert_ne!(before.0.actor.program_id, after.0.actor.program_id);
}

#[test]
fn a_replaced_file_is_told_once_and_a_copy_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busybox");
    let content = fs::read(busybox()).unwrap();
    replace(&path, &content);
    let sensor = sensor();
    run_until(&sensor, &path, "original", |exec| exec.digest.is_some());
    replace(&path, &content);
    run_until(&sensor, &path, "copy", |exec| exec.digest.is_some());
    replace(&path, &[&content[..], b"evil"].concat());
    run_until(&sensor, &path, "evil", |exec| exec.replaced);
    run_until(&sensor, &path, "evil-again", |exec| exec.digest.is_some());
    let seen = sensor.stop();
    let told: Vec<_> = execs(&seen).filter(|(_, exec)| exec.replaced).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.arguments.contains("evil"));
    let with_digest = |mark: &str| {
        let mut of = execs(&seen).filter(|(_, exec)| exec.arguments.contains(mark));
        of.find(|(_, exec)| exec.digest.is_some()).unwrap()
    };
    let (original, copy, evil) =
        (with_digest("original"), with_digest("copy"), with_digest("evil"));
    assert_eq!(original.1.digest, copy.1.digest);
    assert_ne!(original.1.digest, evil.1.digest);
    assert_ne!(original.0.actor.program_id, copy.0.actor.program_id, "another inode");
    assert_eq!(original.0.actor.subject, evil.0.actor.subject, "the same program");
    let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(&evil.1.digest.unwrap().to_string()));
}

#[test]
fn a_replaced_script_is_told_once_however_it_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    executable(&path, b"#!/bin/sh\nexit 0\n");
    let sensor = sensor();
    run_until(&sensor, &path, "original", |exec| exec.digest.is_some());
    // By a rename: one that is written in place may be looked at while it is empty, and is replaced twice then.
    replace(&path, b"#!/bin/sh\n: evil\n");
    run_until(&sensor, &path, "evil", |exec| exec.digest.is_some());
    let by_interpreter = ["/bin/sh", path.to_str().unwrap(), "by-its-interpreter"];
    run_as_until(&sensor, &by_interpreter, |exec| exec.digest.is_some());
    let seen = sensor.stop();
    // The last exec before may have been looked at afterwards: a script is claimed.
    let told: Vec<_> = execs(&seen).filter(|(_, exec)| exec.replaced).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0.actor.subject.program.script.as_deref(), path.to_str());
    let mut by_interpreter =
        execs(&seen).filter(|(_, exec)| exec.arguments.contains("by-its-interpreter"));
    assert!(by_interpreter.any(|(_, exec)| exec.digest == told[0].1.digest));
    let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    let digest = told[0].1.digest.unwrap().to_string();
    assert!(String::from_utf8(sum).unwrap().starts_with(&digest));
}

#[test]
fn a_program_that_ran_before_the_sensor_is_known_when_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busybox");
    let content = fs::read(busybox()).unwrap();
    replace(&path, &content);
    let script = "while read x; do :; done";
    let mut old =
        Command::new(&path).args(["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let sensor = sensor();
    let pid = old.id();
    writeln!(old.stdin.as_ref().unwrap(), "x").unwrap();
    sensor.wait("row of the old process", |seen| seen.events.iter().any(|e| e.actor.tgid == pid));
    replace(&path, &[&content[..], b"evil"].concat());
    run_until(&sensor, &path, "evil", |exec| exec.replaced);
    drop(old.stdin.take());
    old.wait().unwrap();
    assert_eq!(execs(&sensor.stop()).filter(|(_, exec)| exec.replaced).count(), 1);
}

#[test]
fn a_replaced_program_inherits_its_profile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busybox");
    let content = fs::read(busybox()).unwrap();
    replace(&path, &content);
    let sensor = sensor();
    run_until(&sensor, &path, "true", |exec| exec.digest.is_some());
    let subject = sensor.seen(|seen| Arc::clone(&marked(seen, "true").0.actor.subject));
    let known = Positions { grams2: vec![1], ..Positions::default() };
    sensor.control().arm([(subject, known)]);
    let slot_of = |mark: &str| {
        let start = Instant::now();
        loop {
            run(&path, &["true", mark]);
            let slot = sensor.seen(|seen| {
                execs(seen)
                    .filter(|(_, exec)| exec.arguments.contains(mark))
                    .map(|(event, _)| event.actor.slot)
                    .find(|slot| *slot != 0)
            });
            if let Some(slot) = slot {
                return slot;
            }
            assert!(start.elapsed() < LIMIT, "no profile for {mark}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let before = slot_of("before");
    replace(&path, &[&content[..], b"new"].concat());
    assert_eq!(slot_of("after"), before);
    sensor.stop();
}

#[test]
fn looking_at_a_file_does_not_make_it_another_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busybox");
    let sensor = sensor();
    replace(&path, &fs::read(busybox()).unwrap());
    run(&path, &["true", "unseen"]);
    let changed = |path| fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let before = changed(&path);
    run(&path, &["true", "looked-at"]);
    assert_eq!(changed(&path), before);
    let seen = sensor.stop();
    let id = |mark| marked(&seen, mark).0.actor.program_id;
    assert_eq!(id("unseen"), id("looked-at"));
}

#[test]
fn a_file_overwritten_in_place_is_another_program_at_the_same_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busybox");
    executable(&path, &fs::read(busybox()).unwrap());
    let inode = fs::metadata(&path).unwrap().ino();
    let sensor = sensor();
    run(&path, &["true", "before"]);
    let append = ["-c", "printf x >>\"$0\""];
    assert!(Command::new("sh").args(append).arg(&path).status().unwrap().success());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    run(&path, &["true", "after"]);
    let seen = sensor.stop();
    let (before, after) = (marked(&seen, "before"), marked(&seen, "after"));
    assert_eq!(before.1.file, after.1.file);
    assert_ne!(before.0.actor.program_id, after.0.actor.program_id);
    assert_eq!(before.0.actor.subject, after.0.actor.subject);
}

#[test]
fn a_script_is_one_program_however_it_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    executable(&script, b"#!/bin/sh\nexit 0\n");
    let path = script.to_str().unwrap();
    let sensor = sensor();
    run(path, &["by-kernel"]);
    run("/bin/sh", &[path, "by-shell"]);
    run("/bin/sh", &["-c", "exit 0 # inline"]);
    let seen = sensor.stop();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let expected = format!("{} {path}", shell.display());
    assert_eq!(subject(&seen, "by-kernel").program.to_string(), expected);
    assert_eq!(subject(&seen, "by-kernel"), subject(&seen, "by-shell"));
    assert_ne!(subject(&seen, "by-kernel"), subject(&seen, "inline"));
}

#[test]
fn a_program_started_through_its_loader_is_itself() {
    let loader = Path::new(harness::LOADER);
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let sensor = sensor();
    run(&shell, &["-c", "exit 0 # directly"]);
    run(loader, &[shell.to_str().unwrap(), "-c", "exit 0 # through"]);
    let seen = sensor.stop();
    assert_eq!(subject(&seen, "through").program.path, subject(&seen, "directly").program.path);
    let loader = fs::canonicalize(loader).unwrap();
    assert_eq!(Path::new(&*marked(&seen, "through").1.path), loader, "the file that ran");
}

#[test]
fn applets_of_busybox_are_programs_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let busybox = busybox();
    let link = directory.path().join("echo");
    symlink(&busybox, &link).unwrap();
    let sensor = sensor();
    run(&link, &["by-link"]);
    run(&busybox, &["echo", "by-name"]);
    run(&busybox, &["true", "another"]);
    let seen = sensor.stop();
    let named =
        |applet: &str| format!("{} {applet}", fs::canonicalize(&busybox).unwrap().display());
    assert_eq!(subject(&seen, "by-link").program.to_string(), named("echo"));
    assert_eq!(subject(&seen, "by-link"), subject(&seen, "by-name"));
    assert_eq!(subject(&seen, "another").program.to_string(), named("true"));
}

#[test]
fn programs_in_memory_are_one_for_each_workload() {
    let base = Cgroup::new("memory");
    let (here, there) = (base.child("here"), base.child("there"));
    let content = fs::read(busybox()).unwrap();
    let sensor = sensor();
    in_memory(c"first", &content, &here, c"one");
    in_memory(c"second", &[&content[..], b"x"].concat(), &here, c"two");
    in_memory(c"first", &content, &there, c"three");
    let seen = sensor.stop();
    let (one, two, three) = (subject(&seen, "one"), subject(&seen, "two"), subject(&seen, "three"));
    assert_eq!((one, one.program.to_string().as_str()), (two, "memfd"));
    assert_eq!(one.program, three.program);
    assert_eq!(one.workload.as_str(), base.workload("here"));
    assert_eq!(three.workload.as_str(), base.workload("there"));
    assert!(["one", "two", "three"].iter().all(|mark| marked(&seen, mark).1.memory));
}
