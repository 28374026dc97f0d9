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
const READY: &str = "listens on ";

fn sensor(flows: bool) -> Sensor {
    let options = Options {
        window: Duration::from_millis(300),
        observe_own: true,
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
    let tasks = cgroup.join("cgroup.procs");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "a_scene", "--nocapture"]).env(SCENE, scene);
    command.env(PORT, port.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: opens and writes a file, as the only thread of the child.
    unsafe { command.pre_exec(move || fs::write(&tasks, "0")) };
    command.spawn().unwrap()
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
    let cue = || std::io::stdin().read_exact(&mut [0]).unwrap();
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
        other => panic!("no scene {other}"),
    }
}

/// One thread listens and ends, another that is older starts a program.
fn in_threads(listen: impl Fn() -> TcpListener + Send) {
    std::io::stdin().read_exact(&mut [0]).unwrap();
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
