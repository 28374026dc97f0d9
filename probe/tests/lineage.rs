//! Where processes descend from, and what they were given, as the kernel holds it. Needs root.
//!
//! The scenes are played by this test's own binary, each in a cgroup of its own: there nothing of
//! what the tests themselves descend from counts.
#![allow(clippy::unwrap_used)]

mod harness;
mod sandbox;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use harness::{Seen, Sensor};
use hedgerow_event::{Event, Exec, Origin};
use hedgerow_probe::Options;
use sandbox::Cgroup;

const SCENE: &str = "HEDGEROW_SCENE";
const PORT: &str = "HEDGEROW_PORT";
/// What the supervisor's child runs before it ends.
const CHILD: &str = "exit 0 # of-child";
const READY: &str = "listens on ";

fn sensor(flows: bool) -> Sensor {
    let options = Options {
        window: Duration::from_millis(300),
        observe_own: true,
        learning: true,
        profiles: 1024,
        flows,
        ..Options::default()
    };
    Sensor::filtered(options, |event| matches!(event.origin, Origin::Exec(_)))
}

/// The exec whose arguments end with `mark`.
fn marked<'a>(seen: &'a Seen, mark: &str) -> Option<(&'a Event, &'a Exec)> {
    seen.events.iter().find_map(|event| match &event.origin {
        Origin::Exec(exec) if exec.arguments.ends_with(&format!("exit 0 # {mark}")) => {
            Some((event, &**exec))
        }
        _ => None,
    })
}

#[track_caller]
fn exec(sensor: &Sensor, mark: &str) -> Exec {
    sensor.wait(mark, |seen| marked(seen, mark).is_some());
    sensor.seen(|seen| marked(seen, mark).unwrap().1.clone())
}

/// A shell that ends at once, by whose arguments it is found.
fn shell(mark: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exit 0 # {mark}")]);
    command
}

fn run(mark: &str) {
    assert!(shell(mark).status().unwrap().success());
}

/// Starts a scene in a cgroup; it goes on when a line is written to it, and ends by itself.
fn play(scene: &str, cgroup: &Path, port: u16) -> Child {
    start(Command::new(env::current_exe().unwrap()), scene, cgroup, port)
}

fn start(mut command: Command, scene: &str, cgroup: &Path, port: u16) -> Child {
    let tasks = cgroup.join("cgroup.procs");
    command.args(["--exact", "a_scene", "--nocapture"]).env(SCENE, scene);
    command.env(PORT, port.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: opens and writes a file, as the only thread of the child.
    unsafe { command.pre_exec(move || fs::write(&tasks, "0")) };
    command.spawn().unwrap()
}

/// The same as a program that is called `/usr/sbin/sshd` where it runs: in a mount namespace of its
/// own.
fn start_as_sshd(scene: &str, cgroup: &Path) -> Child {
    let script = "mount -t tmpfs -o mode=755 none /usr/sbin && cp \"$0\" /usr/sbin/sshd && \
                  exec /usr/sbin/sshd \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(env::current_exe().unwrap());
    // SAFETY: system calls only, as the only thread of the child.
    unsafe {
        command.pre_exec(|| {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let root = c"/".as_ptr();
            let failed = libc::unshare(libc::CLONE_NEWNS) < 0
                || libc::mount(root, root, root, private, std::ptr::null()) < 0;
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        })
    };
    start(command, scene, cgroup, 0)
}

/// A shell that is run as soon as its user has logged in.
fn run_as(login_uid: u32, mark: &str) {
    let mut command = shell(mark);
    // SAFETY: opens and writes a file, as the only thread of the child.
    unsafe {
        command.pre_exec(move || fs::write("/proc/self/loginuid", login_uid.to_string()));
    }
    assert!(command.status().unwrap().success());
}

/// Runs a shell over and over until the cue comes.
fn run_until_cue(mark: &str, cue: impl Fn() + Send + Sync) {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            cue();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            run(mark);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

fn become_subreaper() {
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

fn go_on(child: &mut Child) {
    writeln!(child.stdin.take().unwrap()).unwrap();
}

/// The port on which a scene says that it listens.
fn port_of(child: &mut Child) -> u16 {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut ports = lines.filter_map(|line| line.unwrap().strip_prefix(READY)?.parse().ok());
    ports.next().unwrap()
}

/// Plays what the environment names, and is nothing else.
#[test]
fn a_scene() {
    let Ok(scene) = env::var(SCENE) else { return };
    let listen = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        eprintln!("{READY}{}", listener.local_addr().unwrap().port());
        listener
    };
    // The end of the input is a cue, too: a test that fails leaves no scene behind.
    let cue = || drop(std::io::stdin().read_exact(&mut [0]));
    match scene.as_str() {
        "listener" => {
            let _listener = listen();
            cue();
            run("of-listener");
            let again = "setsid sh -c 'sleep .05; exec sh -c \"exit 0 # of-daemon\"' &";
            assert!(Command::new("/bin/sh").args(["-c", again]).status().unwrap().success());
        }
        "old-listener" => {
            let _listener = listen();
            let later = "read x; exec sh -c 'exit 0 # of-old-listener'";
            let child = Command::new("/bin/sh").args(["-c", later]).spawn().unwrap();
            child.wait_with_output().unwrap();
        }
        "thread" => in_threads(listen),
        "heir" => {
            let _listener = listen();
            cue();
            // The thread takes the place of the leader, which listens.
            std::thread::spawn(|| panic!("{}", shell("of-heir").exec())).join().unwrap();
        }
        "client" => {
            cue();
            let port: u16 = env::var(PORT).unwrap().parse().unwrap();
            let _stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            run("of-client");
        }
        "datagrams" => {
            cue();
            let _socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            run("of-datagrams");
        }
        "supervisor" => {
            become_subreaper();
            cue();
            let orphan = "exit 0 # of-orphan";
            let daemon = format!("setsid sh -c 'sleep .1; sh -c \"{orphan}\"; :' &");
            let both = format!("{daemon} sh -c '{CHILD}'; exit 0 # of-supervisor");
            assert!(Command::new("/bin/sh").args(["-c", &both]).status().unwrap().success());
        }
        "service" => {
            let _listener = listen();
            become_subreaper();
            run_until_cue("of-service", cue);
        }
        "loops" => run_until_cue("of-loop", cue),
        "logins" => {
            let _listener = listen();
            cue();
            run("without-login");
            run_as(4242, "of-login");
            run_as(4242, "of-login-again");
        }
        "claims" => {
            cue();
            run_as(4242, "of-claim");
        }
        "server-claims" => {
            let _listener = listen();
            cue();
            run_as(4242, "of-server");
        }
        other => panic!("no scene {other}"),
    }
}

/// One thread listens and ends, another that is older starts a program.
fn in_threads(listen: impl Fn() -> TcpListener + Send) {
    drop(std::io::stdin().read_exact(&mut [0]));
    let (told, wait) = mpsc::channel::<()>();
    let starter = std::thread::spawn(move || {
        wait.recv().unwrap();
        run("of-thread");
    });
    std::thread::scope(|scope| {
        let listener = scope.spawn(listen).join().unwrap();
        told.send(()).unwrap();
        starter.join().unwrap();
        drop(listener);
    });
}

fn inet(family: i32, kind: i32) -> OwnedFd {
    // SAFETY: plain numbers; the descriptor is ours alone.
    unsafe { OwnedFd::from_raw_fd(libc::socket(family, kind | libc::SOCK_CLOEXEC, 0)) }
}

#[test]
fn a_socket_among_the_standard_streams_is_told_and_other_files_are_not() {
    let sensor = sensor(false);
    let with = |mark: &str, set: &dyn Fn(&mut Command)| {
        let mut command = shell(mark);
        set(&mut command);
        assert!(command.status().unwrap().success());
        exec(&sensor, mark).socket_io
    };
    let stream = || inet(libc::AF_INET, libc::SOCK_STREAM);
    assert!(with("tcp-in", &|command| {
        command.stdin(stream());
    }));
    assert!(with("tcp6-out", &|command| {
        command.stdout(inet(libc::AF_INET6, libc::SOCK_STREAM));
    }));
    assert!(with("udp-error", &|command| {
        command.stderr(inet(libc::AF_INET, libc::SOCK_DGRAM));
    }));
    assert!(!with("pipe", &|command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }));
    assert!(!with("unix", &|command| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        command.stdin(OwnedFd::from(theirs));
    }));
    assert!(!with("fourth", &|command| {
        use std::os::fd::AsRawFd;
        let socket = stream();
        // SAFETY: makes a copy of a descriptor that the closure keeps open.
        unsafe {
            command.pre_exec(move || {
                let failed = libc::dup2(socket.as_raw_fd(), 9) < 0;
                if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            })
        };
    }));
    sensor.stop();
}

fn under_listeners(flows: bool) {
    let base = Cgroup::new(if flows { "flows" } else { "lineage" });
    let mut before = play("listener", &base.child("listener"), 0);
    let mut old = play("old-listener", &base.child("old-listener"), 0);
    port_of(&mut old);
    let port = port_of(&mut before);
    let sensor = sensor(flows);
    let scenes = ["client", "datagrams", "thread", "heir"];
    let mut children =
        scenes.map(|scene| play(scene, &base.child(scene), port)).into_iter().collect::<Vec<_>>();
    children.iter_mut().for_each(go_on);
    for mark in ["of-client", "of-datagrams"] {
        assert!(!exec(&sensor, mark).under_listener, "{mark}");
    }
    children.extend([before, old]);
    children.iter_mut().skip(scenes.len()).for_each(go_on);
    for mark in ["of-listener", "of-daemon", "of-old-listener", "of-thread", "of-heir"] {
        assert!(exec(&sensor, mark).under_listener, "{mark}");
    }
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    sensor.stop();
}

#[test]
fn who_descends_from_a_listener_is_told_through_double_forks_threads_and_time() {
    under_listeners(false);
}

#[test]
fn the_hook_on_flows_tells_who_listens_as_well() {
    under_listeners(true);
}

fn workload(sensor: &Sensor, mark: &str) -> String {
    sensor.wait(mark, |seen| marked(seen, mark).is_some());
    sensor.seen(|seen| marked(seen, mark).unwrap().0.actor.subject.workload.as_str().to_owned())
}

fn tgid(sensor: &Sensor, mark: &str) -> u32 {
    sensor.seen(|seen| marked(seen, mark).unwrap().0.actor.tgid)
}

/// How a shell with its text in the arguments is called.
fn inline_shell() -> String {
    format!("{} -c", fs::canonicalize("/bin/sh").unwrap().display())
}

fn us() -> String {
    env::current_exe().unwrap().to_str().unwrap().to_owned()
}

fn end(mut children: Vec<Child>) {
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn what_a_supervisor_starts_is_an_instance_of_its_own_and_stays_it() {
    let base = Cgroup::new("supervisor");
    let sensor = sensor(false);
    let mut scene = play("supervisor", &base.child("of-it"), 0);
    go_on(&mut scene);
    let shell = exec(&sensor, "of-supervisor").root.unwrap();
    assert_eq!(shell.tgid, tgid(&sensor, "of-supervisor"));
    assert_eq!(exec(&sensor, "of-child").root.unwrap(), shell);
    let orphan = exec(&sensor, "of-orphan");
    assert_eq!(orphan.root.unwrap(), shell, "who adopted it says nothing");
    end(vec![scene]);
    sensor.stop();
}

#[test]
fn a_service_in_no_unit_is_called_by_the_program_at_its_root() {
    let base = Cgroup::slice("services");
    let sensor = sensor(false);
    let mut service = play("service", base.path(), 0);
    let pid = service.id();
    let found = exec(&sensor, "of-service");
    // It listens: what makes itself its children's reaper makes no strangers of them.
    assert_eq!(found.root.unwrap().tgid, pid);
    assert!(found.under_listener);
    assert_eq!(workload(&sensor, "of-service"), us());
    let mut supervisor = play("supervisor", base.path(), 0);
    go_on(&mut supervisor);
    assert_eq!(workload(&sensor, "of-supervisor"), inline_shell());
    assert_eq!(workload(&sensor, "of-orphan"), inline_shell());
    go_on(&mut service);
    end(vec![service, supervisor]);
    sensor.stop();
}

#[test]
fn the_kernel_knows_the_numbers_of_services_and_their_programs_have_profiles() {
    let base = Cgroup::slice("profiles");
    let sensor = sensor(false);
    let slots = |mark: &str, workload: &str| -> Option<u32> {
        sensor.seen(|seen| {
            let mut execs = seen.events.iter().filter(|event| match &event.origin {
                Origin::Exec(exec) => exec.arguments.ends_with(&format!("exit 0 # {mark}")),
                _ => false,
            });
            let event = execs.find(|event| event.actor.slot != 0)?;
            assert_eq!(event.actor.subject.workload.as_str(), workload);
            Some(event.actor.slot)
        })
    };
    let mut first = play("loops", base.path(), 0);
    let start = std::time::Instant::now();
    let slot = loop {
        if let Some(slot) = slots("of-loop", &us()) {
            break slot;
        }
        assert!(start.elapsed() < harness::LIMIT, "no profile");
        std::thread::sleep(Duration::from_millis(20));
    };
    go_on(&mut first);
    // Another instance is the same service from its first program on.
    let before = sensor.seen(|seen| seen.events.len());
    let mut again = play("loops", base.path(), 0);
    let pid = again.id();
    let of_again = |seen: &Seen| {
        let mut execs = seen.events[before..].iter().filter_map(|event| match &event.origin {
            Origin::Exec(exec) if exec.parent_tgid == pid => Some(event.actor.slot),
            _ => None,
        });
        execs.next()
    };
    sensor.wait("the second instance", |seen| of_again(seen).is_some());
    assert_eq!(sensor.seen(of_again), Some(slot));
    go_on(&mut again);
    end(vec![first, again]);
    sensor.stop();
}

#[test]
fn a_login_under_sshd_is_its_users_and_others_claim_it_in_vain() {
    if fs::read("/proc/self/loginuid").is_err() {
        eprintln!("no login uids on this kernel");
        return;
    }
    let base = Cgroup::slice("logins");
    let sensor = sensor(false);
    let mut sshd = start_as_sshd("logins", base.path());
    let mut other = play("claims", base.path(), 0);
    go_on(&mut sshd);
    go_on(&mut other);
    assert_eq!(workload(&sensor, "without-login"), "/usr/sbin/sshd");
    assert!(exec(&sensor, "without-login").under_listener);
    for mark in ["of-login", "of-login-again"] {
        assert_eq!(workload(&sensor, mark), "login:4242");
        assert!(!exec(&sensor, mark).under_listener, "a session is a service of its own");
    }
    assert_eq!(workload(&sensor, "of-claim"), us());
    end(vec![sshd, other]);
    sensor.stop();
}

/// In a unit, too, where the workload doesn't tell of the login: whoever has no login uid may write
/// himself one.
#[test]
fn a_login_uid_is_told_of_who_logged_in_and_not_of_a_service_that_wrote_itself_one() {
    if fs::read("/proc/self/loginuid").is_err() {
        eprintln!("no login uids on this kernel");
        return;
    }
    let base = Cgroup::new("login-uids");
    let sensor = sensor(false);
    let mut sshd = start_as_sshd("logins", &base.child("ssh.service"));
    let mut server = play("server-claims", &base.child("web.service"), 0);
    go_on(&mut sshd);
    go_on(&mut server);
    assert_eq!(exec(&sensor, "of-login").login_uid, 4242);
    let claimed = exec(&sensor, "of-server");
    assert!(claimed.under_listener);
    assert_eq!(claimed.login_uid, u32::MAX);
    end(vec![sshd, server]);
    sensor.stop();
}
