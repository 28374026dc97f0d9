//! What one workload can't do to the others: pass for a program of the host's, or take the room that
//! their evidence needs. Live: root.
#![allow(clippy::unwrap_used)]

mod harness;
mod sandbox;

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::{Arc, Condvar, Mutex},
};

use harness::{Seen, Sensor, executable, rows};
use hedgerow_event::{Event, Exec, Origin};
use hedgerow_probe::Options;
use sandbox::{Cgroup, busybox, image, in_container};

fn exec_of<'a>(seen: &'a Seen, mark: &str) -> Option<&'a Exec> {
    seen.events.iter().find_map(|event| match &event.origin {
        Origin::Exec(exec) if exec.arguments.split(' ').any(|word| word == mark) => Some(&**exec),
        _ => None,
    })
}

#[test]
fn a_path_is_what_it_says_in_the_hosts_root_only_run_by_root_and_without_other_code() {
    let options = Options { observe_own: true, ..Options::default() };
    let sensor = Sensor::filtered(options, |event| matches!(event.origin, Origin::Exec(_)));
    let told = |mark: &str| {
        sensor.wait(mark, |seen| exec_of(seen, mark).is_some());
        sensor.seen(|seen| exec_of(seen, mark).unwrap().of_host)
    };
    let run = |mark: &str, program: &Path, variables: &BTreeMap<String, String>, uid: u32| {
        let mut command = Command::new(program);
        if program == busybox() {
            command.arg("true");
        }
        command.arg(mark).env_clear().envs(variables).uid(uid).current_dir("/");
        assert!(command.status().unwrap().success(), "{mark}");
        told(mark)
    };
    let variables = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    // Long ones of every size around that of a piece, as LS_COLORS is.
    let mut usual = variables(&[("PATH", "/bin"), ("OLD_LD_PRELOAD", "x"), ("PYTHONPATH", "/x")]);
    usual.extend((240..300).map(|size| (format!("V{size}"), "x".repeat(size))));
    usual.insert("LS_COLORS".into(), "x".repeat(3000));
    let with = |name: &str| {
        let mut all = usual.clone();
        all.insert(name.into(), "/x".into());
        all
    };
    let program = busybox();
    assert_eq!(run("empty", &program, &BTreeMap::new(), 0), Some(true));
    assert_eq!(run("usual", &program, &usual, 0), Some(true));
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH"] {
        assert_eq!(run(name, &program, &with(name), 0), Some(false), "{name}");
    }
    assert_eq!(run("nobody", &program, &usual, 65534), Some(false));
    let many = (0..600).map(|number| (format!("V{number}"), "x".to_owned())).collect();
    assert_eq!(run("many", &program, &many, 0), Some(false), "nobody looks that far");

    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    executable(&script, format!("#!{} true\n", program.display()).as_bytes());
    let plain = variables(&[("PATH", "/bin")]);
    assert_eq!(run("script", &script, &plain, 0), Some(true));
    for name in ["PYTHONPATH", "PERL5LIB", "BASH_ENV"] {
        assert_eq!(run(name, &script, &variables(&[(name, "/x")]), 0), Some(false), "{name}");
    }

    let cgroup = Cgroup::new("tenants-path");
    let root = image();
    let place = cgroup.child("web");
    assert!(in_container(root.path(), &place, &["/bin/busybox", "true", "container"]));
    assert_eq!(told("container"), Some(false), "it has a root directory of its own");
}

/// Holds the collector up until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn set(&self, shut: bool) {
        *self.0.lock().unwrap() = shut;
        self.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.lock().unwrap();
        drop(self.1.wait_while(shut, |shut| *shut).unwrap());
    }
}

/// What this thread starts from here on runs on one CPU.
fn stay_on_one_cpu() {
    // SAFETY: plain C data, for which zeroes are a value, and calls that only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

/// Runs a shell's command in a cgroup.
fn in_cgroup(cgroup: &Path, command: &str) {
    let command = format!("echo 0 > {}/cgroup.procs && {command}", cgroup.display());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

#[test]
fn one_workloads_flood_leaves_the_evidence_of_the_others_its_room() {
    const RUNS: usize = 5;
    let gate = Arc::new(Gate::default());
    let (passes, cgroup) = (Arc::clone(&gate), Cgroup::new("tenants-flood"));
    let options =
        Options { observe_own: true, rings_bytes: 4 << 20, queue: 1, ..Options::default() };
    let sensor = Sensor::filtered(options, move |_| {
        passes.pass();
        true
    });
    let (noisy, quiet) = (cgroup.child("noisy"), cgroup.child("quiet"));
    let program = busybox();
    let run = |mark: &str| format!("exec {} true {mark}", program.display());
    // Each has a number, and with it a share, once its name is known, which a busy machine is late with.
    for (place, mark) in [(&noisy, "noisy"), (&quiet, "quiet")] {
        let name = cgroup.workload(mark);
        sensor.wait(mark, |seen| {
            in_cgroup(place, &run(mark));
            seen.events.iter().any(|event| {
                matches!(event.origin, Origin::Exec(_))
                    && event.actor.subject.workload.as_str() == name
            })
        });
    }
    gate.set(true);
    stay_on_one_cpu();
    // More than a ring holds; nobody takes anything out of it. What else the machine does meanwhile is
    // far less.
    in_cgroup(&noisy, "i=0; while [ $i -lt 8000 ]; do (:); i=$((i+1)); done");
    for number in 0..RUNS {
        in_cgroup(&quiet, &run(&format!("quiet-{number}")));
    }
    let refused = sensor.control().stats().unwrap().shares_refused;
    gate.set(false);
    let seen = sensor.stop();
    for number in 0..RUNS {
        assert!(exec_of(&seen, &format!("quiet-{number}")).is_some(), "{number}");
    }
    let lost = |workload: &str| {
        let name = cgroup.workload(workload);
        let of = |event: &Event| event.actor.subject.workload.as_str() == name;
        rows(&seen.events, of).map(|(_, row)| row.lost).sum::<u64>()
    };
    assert!(refused > 0 && lost("noisy") > 1000, "{refused}, {}", lost("noisy"));
    assert_eq!(lost("quiet"), 0);
}
