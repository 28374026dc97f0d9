//! Who shares an n-gram profile on the live kernel: programs of one subject, and no others. Needs
//! root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::{Seen, Sensor};
use hedgerow_event::Origin;
use hedgerow_probe::Options;

fn sensor() -> Sensor {
    let options = Options {
        window: Duration::from_millis(300),
        observe_own: true,
        learning: true,
        flows: false,
        ..Options::default()
    };
    Sensor::filtered(options, |event| matches!(event.origin, Origin::Exec(_) | Origin::Row(_)))
}

/// Subjects by the slots that their execs and rows carry.
fn subjects_of_slots(seen: &Seen) -> BTreeMap<u32, BTreeSet<String>> {
    let mut slots = BTreeMap::<u32, BTreeSet<String>>::new();
    for actor in seen.events.iter().map(|event| &event.actor).filter(|actor| actor.slot != 0) {
        slots.entry(actor.slot).or_default().insert(actor.subject.to_string());
    }
    slots
}

/// Every way to say which script is run, to the interpreters that are here.
fn commands(scripts: &Path) -> Vec<String> {
    let [one, two] = ["one.sh", "two.sh"].map(|name| scripts.join(name).display().to_string());
    let mut commands = vec![
        format!("sh {one}"),
        format!("bash {one} with arguments"),
        format!("bash --rcfile x -O extglob {two}"),
        format!("bash -e {two}"),
        "bash -c true".to_owned(),
        "bash -c :".to_owned(),
        "true".to_owned(),
        "/lib64/ld-linux-x86-64.so.2 /bin/true".to_owned(),
        "/lib64/ld-linux-x86-64.so.2 --argv0 x /bin/ls /".to_owned(),
    ];
    for (program, more) in [
        ("/usr/bin/python3", ["-m this", "-W ignore one.py", "two.py", "-c pass"]),
        ("/usr/bin/perl", ["-e 1", "-I x one.pl", "two.pl", "-v"]),
        ("/bin/busybox", ["true", "echo x", "sh -c true", "sh one.sh"]),
    ] {
        if Path::new(program).exists() {
            commands.extend(more.map(|arguments| format!("{program} {arguments}")));
        }
    }
    commands
}

#[test]
fn scripts_of_one_interpreter_have_profiles_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one.sh", "two.sh", "one.py", "two.py", "one.pl", "two.pl"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    let sensor = sensor();
    sensor.wait("first window", |seen| !seen.closes.is_empty());
    let commands = commands(directory.path());
    for command in &commands {
        let mut words = command.split(' ');
        let mut child = Command::new(words.next().unwrap());
        child.args(words).current_dir(directory.path()).stdin(Stdio::null());
        child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
    let seen = sensor.stop();
    let slots = subjects_of_slots(&seen);
    for (slot, subjects) in &slots {
        assert_eq!(subjects.len(), 1, "slot {slot} is shared by {subjects:?}");
    }
    let profiled: BTreeSet<&String> = slots.values().flatten().collect();
    for script in ["bash -c", "one.sh", "two.sh", "/bin/true", "/bin/ls"] {
        let found = profiled.iter().any(|subject| subject.ends_with(script));
        assert!(found, "`{script}` is in {profiled:#?}");
    }
}

fn old(script: &Path) -> Child {
    let mut command = Command::new("bash");
    command.arg(script).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn scripts_that_ran_before_the_sensor_have_profiles_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one.sh", "two.sh"].map(|name| directory.path().join(name));
    fs::write(&one, "while read line; do (:); done\n").unwrap();
    fs::write(&two, "while read line; do umask 022; done\n").unwrap();
    let mut processes = [old(&one), old(&two)];
    let sensor = sensor();
    let has_profile = |seen: &Seen, pid: u32| {
        seen.events.iter().any(|event| event.actor.tgid == pid && event.actor.slot != 0)
    };
    for process in &mut processes {
        let pid = process.id();
        let input = process.stdin.take().unwrap();
        sensor.wait("a profile", |seen| {
            writeln!(&input, "x").unwrap();
            has_profile(seen, pid)
        });
        drop(input);
        process.wait().unwrap();
    }
    let seen = sensor.stop();
    let slots = subjects_of_slots(&seen);
    for path in [&one, &two] {
        let of = |subjects: &&BTreeSet<String>| {
            subjects.iter().any(|subject| subject.ends_with(path.to_str().unwrap()))
        };
        let shared: Vec<_> = slots.values().filter(of).collect();
        assert!(
            !shared.is_empty() && shared.iter().all(|subjects| subjects.len() == 1),
            "{slots:?}"
        );
    }
}
