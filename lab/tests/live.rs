//! Labs for real: they need root, and a machine with what the loads need (`scripts/setup test`).
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::{PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use hedgerow_lab::{
    Attack, End, Lab, Load, Maintenance, Outcome, Postgres, Site, User, Via, cgroup2_mount_point,
};

/// Whoever makes a lab takes away what a killed one left.
static UP: RwLock<()> = RwLock::new(());

fn lab() -> Lab {
    // SAFETY: geteuid has no preconditions.
    assert_eq!(unsafe { libc::geteuid() }, 0, "needs root");
    let _shared = UP.read().unwrap_or_else(PoisonError::into_inner);
    Lab::up().unwrap()
}

fn leftovers(name: &str) -> Vec<String> {
    let mount = cgroup2_mount_point().unwrap();
    [mount.as_path(), Path::new("/run/netns"), Path::new("/var/lib"), Path::new("/tmp")]
        .iter()
        .filter_map(|part| fs::read_dir(part).ok())
        .flatten()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.contains(name))
        .collect()
}

fn attack(lab: &Lab, attack: Attack, via: Via) -> Outcome {
    attack.run(lab, via, Duration::from_secs(4)).unwrap()
}

fn poll(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn processes(cgroup: &Path) -> usize {
    fs::read_to_string(cgroup.join("cgroup.procs")).unwrap().lines().count()
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let lab = lab();
    let name = lab.name().to_owned();
    let mut sleeper = lab.command(Site::Service, "sleep", &User::ROOT, "sleep").unwrap();
    let mut sleeper = sleeper.arg("600").spawn().unwrap();
    assert!(!leftovers(&name).is_empty());
    drop(lab);
    assert_eq!(sleeper.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(leftovers(&name), [""; 0]);
}

/// Ends a `lab run` by `signal` once its lab is up; the lab's name.
fn interrupted(signal: i32) -> String {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_lab")).arg("run").stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let line = output.lines().next().unwrap().unwrap();
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
    child.wait().unwrap();
    line.split(' ').next().unwrap().to_owned()
}

#[test]
fn an_interrupted_lab_leaves_nothing_and_a_killed_one_is_found() {
    let _lab = lab();
    assert_eq!(leftovers(&interrupted(libc::SIGINT)), [""; 0]);
    let _alone = UP.write().unwrap_or_else(PoisonError::into_inner);
    let killed = interrupted(libc::SIGKILL);
    assert!(!leftovers(&killed).is_empty());
    drop(Lab::up().unwrap());
    assert_eq!(leftovers(&killed), [""; 0]);
}

#[test]
fn attacks_through_the_service_do_what_they_say() {
    let lab = lab();
    let _app = Load::App.start(&lab).unwrap();
    for via in [Via::Child, Via::Thread] {
        let shell = attack(&lab, Attack::ReverseShell, via).transcript.unwrap();
        assert_eq!(shell.accepted.unwrap().1, Site::Service.ipv4());
        assert!(shell.bytes() > 1_000, "{} bytes", shell.bytes());
        assert_eq!(shell.end, End::Time);
    }
    for which in [Attack::DroppedShell, Attack::MemoryShell] {
        let shell = attack(&lab, which, Via::Child).transcript.unwrap();
        assert!(shell.bytes() > 1_000, "{which}: {} bytes", shell.bytes());
    }
    // A shell that outlives its attack would be found in the next one.
    poll("every shell ends", || processes(&lab.cgroup("app").unwrap()) == 1);
    let theft = attack(&lab, Attack::Exfiltrate, Via::Thread).transcript.unwrap();
    assert_eq!((theft.bytes(), theft.end), (200 << 20, End::Closed));

    attack(&lab, Attack::Rename, Via::Child);
    let tree = lab.directory().join("app-files/folder39");
    let names = fs::read_dir(tree).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(names.filter(|n| n.to_str().unwrap().ends_with(".locked")).count(), 100);

    for (which, via) in [
        (Attack::Forks, Via::Thread),
        (Attack::ScanOut, Via::Child),
        (Attack::ScanIn, Via::Child),
        (Attack::Flood, Via::Child),
    ] {
        let outcome = attack(&lab, which, via);
        assert!(outcome.ended_ns > outcome.started_ns, "{which}");
    }
}

#[test]
fn loads_work_and_repeat() {
    let lab = lab();
    let _running =
        [Load::Web, Load::Build, Load::Archive, Load::Apt].map(|load| load.start(&lab).unwrap());
    let written = |name: &str| fs::metadata(lab.directory().join(name)).ok()?.modified().ok();
    for product in ["build/program", "archive/out.tgz"] {
        poll(product, || written(product).is_some());
        let first = written(product);
        poll(product, || written(product) != first);
    }
    // The clients' requests are in the server's log, over both IP versions.
    let log = || fs::read_to_string(lab.directory().join("web.log")).unwrap_or_default();
    let v6 = Site::Clients.ipv6().to_string();
    poll("curl", || log().contains(&v6) && log().contains(&format!("{}", Site::Clients.ipv4())));
}

#[test]
fn postgres_serves_through_maintenance_and_attack() {
    let lab = lab();
    let mut postgres = Postgres::start(&lab).unwrap();
    postgres.start_clients(&lab).unwrap();
    for job in Maintenance::ALL {
        postgres.maintain(&lab, job).unwrap();
    }
    let served = postgres.served().0;
    poll("pgbench goes on after the restart", || postgres.served().0 > served + 1);
    let shell = attack(&lab, Attack::CopyShell, Via::Child).transcript.unwrap();
    assert!(shell.bytes() > 1_000, "{} bytes", shell.bytes());
    let served = postgres.served().0;
    poll("pgbench goes on after the attack", || postgres.served().0 > served + 1);
}
