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

use harness::{LOADER, Seen, Sensor, rows};
use hedgerow_event::Origin;
use hedgerow_probe::{Options, Positions, Shed};

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
        format!("{LOADER} /bin/true"),
        format!("{LOADER} --argv0 x /bin/ls /"),
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

#[test]
fn the_order_of_calls_of_a_quiet_program_is_not_checked_while_that_is_shed() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("quiet.sh");
    fs::write(&script, "while read line; do umask 022; done\n").unwrap();
    let options = Options {
        window: Duration::from_millis(300),
        observe_own: true,
        learning: true,
        flows: false,
        quiet_windows: 3,
        ..Options::default()
    };
    let sensor =
        Sensor::filtered(options, |event| matches!(event.origin, Origin::Exec(_) | Origin::Row(_)));
    let mut process = old(&script);
    let (pid, input) = (process.id(), process.stdin.take().unwrap());
    // What it was checked for, by window; it does the same all the time.
    let checked = |seen: &Seen, shed: bool| {
        let of_it = rows(&seen.events, move |event| event.actor.tgid == pid);
        let closed =
            |epoch| seen.closes.iter().any(|close| close.epoch == epoch && close.shed == shed);
        let rows = of_it.filter(|(event, row)| row.calls > 0 && closed(event.epoch));
        rows.map(|(_, row)| row.checked > 0).collect::<Vec<_>>()
    };
    let wait = |what: &str, done: &dyn Fn(&Seen) -> bool| {
        sensor.wait(what, |seen| {
            writeln!(&input, "x").unwrap();
            done(seen)
        });
    };
    wait("windows that are learned", &|seen| checked(seen, false).len() > 3);
    let control = sensor.control();
    let known = sensor.seen(|seen| {
        let of_it = seen.grams.iter().filter(|report| {
            report.subject.program.script.as_deref().is_some_and(|one| one.ends_with("quiet.sh"))
        });
        let mut known = BTreeMap::<_, Positions>::new();
        for report in of_it {
            let sum = known.entry(report.subject.clone()).or_default();
            sum.grams2.extend(&report.grams2);
            sum.grams3.extend(&report.grams3);
            sum.grams6.extend(&report.grams6);
        }
        known
    });
    assert_eq!(known.len(), 1);
    control.arm(known);
    let closes = sensor.seen(|seen| seen.closes.len());
    wait("quiet windows", &|seen| seen.closes.len() > closes + 6);
    control.shed(Shed { grams: true, ..Shed::default() });
    wait("windows that are shed", &|seen| checked(seen, true).len() > 3);
    control.shed(Shed::default());
    let before = sensor.seen(|seen| checked(seen, false).len());
    wait("windows that are not", &|seen| checked(seen, false).len() > before + 2);
    drop(input);
    process.wait().unwrap();
    let seen = sensor.stop();
    // What is shed is so at once, in the middle of a window.
    assert!(checked(&seen, true).into_iter().skip(1).all(|checked| !checked));
    assert!(checked(&seen, false).into_iter().skip(before + 1).all(|checked| checked));
}
