//! Where an executed file comes from, on the live kernel: packages of a database that the test made
//! up and layers of containers. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;
mod sandbox;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use harness::{LIMIT, Seen, Sensor, executable};
use hedgerow_event::{Exec, Origin, Provenance};
use hedgerow_probe::{
    Options,
    identity::{Resolver, provenance::Sources},
};
use md5::Digest as _;
use sandbox::{Cgroup, busybox, image, in_container, in_overlay};

fn options() -> Options {
    let window = Duration::from_millis(300);
    Options { window, flows: false, observe_own: true, ..Options::default() }
}

/// Execs of this test's own children whose arguments hold `mark`.
fn marked<'a>(seen: &'a Seen, mark: &'a str) -> impl DoubleEndedIterator<Item = &'a Exec> {
    let us = std::process::id();
    let execs = seen.events.iter().filter_map(move |event| match &event.origin {
        Origin::Exec(exec) if exec.parent_tgid == us => Some(&**exec),
        _ => None,
    });
    execs.filter(move |exec| exec.arguments.contains(mark))
}

#[track_caller]
fn last(seen: &Seen, mark: &str) -> Provenance {
    let found = marked(seen, mark).last();
    found.unwrap_or_else(|| panic!("no exec with {mark}")).provenance
}

/// A directory with a database of one package, and programs beside.
struct Host {
    place: tempfile::TempDir,
}

impl Host {
    /// `files`: what the package says that it has, by name and content.
    fn new(files: &[(&str, &[u8])]) -> Self {
        // Not below /tmp, which says something itself.
        fs::create_dir_all("/var/lib").unwrap();
        let place = tempfile::tempdir_in("/var/lib").unwrap();
        let host = Self { place };
        let info = host.at("var/lib/dpkg/info");
        fs::create_dir_all(&info).unwrap();
        let status = "Package: tool\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";
        fs::write(host.at("var/lib/dpkg/status"), status).unwrap();
        let lines = files.iter().map(|(name, content)| {
            let sum: String =
                md5::Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{sum}  {}\n", &host.at(name).to_str().unwrap()[1..])
        });
        fs::write(info.join("tool.md5sums"), lines.collect::<String>()).unwrap();
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    fn sensor(&self) -> Sensor {
        let sources = Sources {
            root: self.place.path().to_owned(),
            tree: "/".into(),
            prefix: self.at("var/lib/dpkg").to_str().unwrap().into(),
            owner: 0,
        };
        let resolver = || Resolver::with(sources).unwrap();
        Sensor::with(options(), resolver, |event| matches!(event.origin, Origin::Exec(_)))
    }
}

/// Runs a command, each time made anew by `make`, until an exec of it was told to be `wanted`; until
/// then nothing else may be told but that it isn't known.
#[track_caller]
fn run_until(sensor: &Sensor, wanted: Provenance, mark: &str, make: impl Fn() -> Vec<PathBuf>) {
    let start = Instant::now();
    loop {
        let command = make();
        let arguments = command[1..].iter().map(PathBuf::as_path).chain([Path::new(mark)]);
        let mut run = Command::new(&command[0]);
        assert!(run.args(arguments).stdout(Stdio::null()).status().unwrap().success());
        let told: Vec<_> = sensor.seen(|seen| marked(seen, mark).map(|e| e.provenance).collect());
        let other = told.iter().find(|told| **told != wanted && **told != Provenance::Unknown);
        assert_eq!(other, None, "{mark}");
        if told.contains(&wanted) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{mark} was never told to be {wanted:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn programs_of_a_package_are_told_from_what_was_changed_or_put_beside() {
    let content = fs::read(busybox()).unwrap();
    let host = Host::new(&[("true", &content), ("bin/true", b"other")]);
    fs::create_dir(host.at("bin")).unwrap();
    executable(&host.at("true"), &content);
    executable(&host.at("bin/true"), &content);
    let sensor = host.sensor();
    run_until(&sensor, Provenance::Package, "of-the-package", || vec![host.at("true")]);
    run_until(&sensor, Provenance::Modified, "of-other-content", || vec![host.at("bin/true")]);
    // Each is another file that is run once: its first exec is told.
    run_until(&sensor, Provenance::Unowned, "of-nobody", || {
        let directory = tempfile::tempdir_in(host.place.path()).unwrap().keep();
        executable(&directory.join("true"), &content);
        vec![directory.join("true")]
    });
    sensor.stop();
}

#[test]
fn a_script_is_told_by_itself_unless_what_runs_it_is_a_strangers() {
    let content = fs::read("/bin/sh").unwrap();
    let (script, other) = (b"exit 0", b"exit 0 # other");
    let host = Host::new(&[("sh", &content), ("script", script), ("changed", script)]);
    executable(&host.at("sh"), &content);
    fs::create_dir(host.at("own")).unwrap();
    executable(&host.at("own/sh"), &content);
    fs::write(host.at("script"), script).unwrap();
    fs::write(host.at("changed"), other).unwrap();
    fs::write(host.at("dropped"), script).unwrap();
    let sensor = host.sensor();
    let told = |wanted, mark, shell: &str, script: &str| {
        run_until(&sensor, wanted, mark, || vec![host.at(shell), host.at(script)]);
    };
    told(Provenance::Package, "its-script", "sh", "script");
    told(Provenance::Modified, "changed-script", "sh", "changed");
    told(Provenance::Unowned, "dropped-script", "sh", "dropped");
    told(Provenance::Unowned, "strange-shell", "own/sh", "script");
    // Text is nobody's file, and no excuse.
    let text = || vec![host.at("sh"), "-c".into(), "exit 0".into()];
    run_until(&sensor, Provenance::Unknown, "of-text", text);
    sensor.stop();
}

#[test]
fn this_machines_own_programs_are_its_packages() {
    // A guest that tests the kernel has none.
    if !Path::new("/var/lib/dpkg/info/coreutils.md5sums").exists() {
        return;
    }
    let sensor = Sensor::filtered(options(), |event| matches!(event.origin, Origin::Exec(_)));
    run_until(&sensor, Provenance::Package, "--zero", || vec!["/usr/bin/id".into(), "-g".into()]);
    let place = tempfile::tempdir_in("/var/lib").unwrap();
    executable(&place.path().join("copy"), &fs::read("/usr/bin/true").unwrap());
    run_until(&sensor, Provenance::Unowned, "copied", || vec![place.path().join("copy")]);
    sensor.stop();
}

#[test]
fn a_file_of_the_image_is_told_from_one_that_was_written_into_the_container() {
    let lower = image();
    let base = Cgroup::new("provenance");
    let sensor = Sensor::filtered(options(), |event| matches!(event.origin, Origin::Exec(_)));
    let run = |name: &str, script: &str| {
        let command = ["/bin/busybox", "sh", "-c", script];
        assert!(in_container(lower.path(), &base.child(name), &command));
    };
    run("image", "exec /bin/busybox true of-the-image");
    run("copy", "/bin/busybox cp /bin/busybox /bin/true && exec /bin/true written");
    run("touch", "/bin/busybox chmod 711 /bin/busybox && exec /bin/busybox true changed");
    // Its lower layer is whatever a user put there.
    let command = ["/bin/busybox", "true", "of-a-user"];
    assert!(in_overlay(lower.path(), &base.child("user"), true, &command));
    let seen = sensor.stop();
    assert_eq!(last(&seen, "of-the-image"), Provenance::Image);
    assert_eq!(last(&seen, "written"), Provenance::Drift);
    assert_eq!(last(&seen, "changed"), Provenance::Drift, "it was copied up");
    assert_eq!(last(&seen, "of-a-user"), Provenance::Unknown);
}
