//! Trees in a table that is too small for them.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
};

use super::*;

/// A child of a denied process that finds no room in the table is refused and killed all the same.
#[test]
fn a_child_without_room_is_refused_and_dies_at_its_next_exec() {
    let (said, doomed) = child_without_room("doomed", Mode::Enforce);
    assert_eq!(said, "137", "the child of the shell was killed");
    assert!(doomed >= 1);
}

#[test]
fn a_monitored_tree_without_room_is_neither_refused_nor_killed() {
    assert_eq!(child_without_room("spared", Mode::Monitor), ("0".to_owned(), 0));
}

/// What a denied shell says of its child, for which the table had no room, and how many such there
/// were.
fn child_without_room(name: &str, mode: Mode) -> (String, u64) {
    let sizes = Sizes { tasks: 1, ..Sizes::default() };
    let mut bench = Bench::new(name, sizes, Limits::default());
    // A shell that forks a child, which tries to run something.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "echo up; read go; (/bin/true; exit $?); echo $?; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It says "Killed" there, in the middle of a line of whoever runs the tests.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Whoever spawned it goes on before its exec is over, which the entry would refuse.
    assert_eq!(first_line(&mut shell), "up");
    let start_boot_ns = bench.responder.start_of(shell.id()).unwrap().unwrap();
    let tree = Target::TaskTree { tgid: shell.id(), start_boot_ns };
    let request = Request { mode: Some(mode), ..request(tree, Rule::Operator) };
    bench.responder.deny(request).unwrap();
    bench.responder.take_notices();
    shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let said = first_line(&mut shell);
    shell.kill().unwrap();
    shell.wait().unwrap();
    let notices = bench.responder.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("the kernel's table")), "{notices:?}");
    assert!(bench.responder.take_notices().is_empty(), "told once");
    (said, bench.responder.doomed())
}

/// A table of eight for a tree of ten: half is the most that one tree gets, the rest of it is doomed.
#[test]
fn one_tree_leaves_room_for_others() {
    let sizes = Sizes { tasks: 8, ..Sizes::default() };
    let mut bench = Bench::new("share", sizes, Limits::default());
    let parent = |children: u8| {
        Forked::new(move || {
            for _ in 0..children {
                forked(|| {});
            }
        })
    };
    let (many, one) = (parent(9), parent(0));
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", many.0);
        std::fs::read_to_string(path).map_or(9, |read| read.split_whitespace().count())
    };
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while children() < 9 {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let members = |bench: &Bench, pid: libc::pid_t| {
        let of = |target: &Target| matches!(target, Target::TaskTree { tgid, .. } if *tgid == pid as u32);
        let entries = bench.responder.entries();
        bench.responder.counted_members(entries.iter().find(|entry| of(&entry.target)).unwrap().id)
    };
    for (pid, most) in [(many.0, 4), (one.0, 1)] {
        let tgid = pid as u32;
        let start_boot_ns = bench.responder.start_of(tgid).unwrap().unwrap();
        let tree = Target::TaskTree { tgid, start_boot_ns };
        bench.responder.deny(request(tree, Rule::Operator)).unwrap();
        assert_eq!(members(&bench, pid), most, "its root is one of them");
    }
    assert!(bench.responder.doomed() >= 6, "{}", bench.responder.doomed());
    let pid = one.0;
    drop(one);
    assert_eq!(members(&bench, pid), 0, "it has exited");
}

/// A process that nobody has waited for is listed, and the hook of exits has passed.
#[test]
fn who_has_exited_dooms_no_later_process_of_its_number() {
    let sizes = Sizes { tasks: 1, ..Sizes::default() };
    let mut bench = Bench::new("zombie", sizes, Limits::default());
    let (mut told, tells) = std::io::pipe().unwrap();
    let parent = Forked::new(|| {
        // SAFETY: plain system calls; the bytes have the length that is passed.
        unsafe {
            let zombie = libc::fork();
            if zombie == 0 {
                libc::_exit(0);
            }
            let bytes = zombie.to_ne_bytes();
            libc::write(tells.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        }
    });
    let mut zombie = [0; 4];
    told.read_exact(&mut zombie).unwrap();
    let zombie = i32::from_ne_bytes(zombie);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(format!("/proc/{zombie}/stat")).unwrap().contains(") Z ") {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let tgid = parent.0 as u32;
    let start_boot_ns = bench.responder.start_of(tgid).unwrap().unwrap();
    let tree = Target::TaskTree { tgid, start_boot_ns };
    bench.responder.deny(request(tree, Rule::Operator)).unwrap();
    assert_eq!(bench.responder.doomed(), 0);
}

fn first_line(child: &mut Child) -> String {
    let mut text = String::new();
    let mut byte = [0; 1];
    let output = child.stdout.as_mut().unwrap();
    while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        text.push(byte[0] as char);
    }
    text
}
