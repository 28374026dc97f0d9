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
    let (many, one) = (parent(9), parent(0));
    for (pid, most) in [(many.0, 4), (one.0, 1)] {
        deny_tree(&mut bench, pid);
        assert_eq!(members(&bench, pid), most, "its root is one of them");
    }
    assert!(bench.responder.doomed() >= 6, "{}", bench.responder.doomed());
    let pid = one.0;
    drop(one);
    assert_eq!(members(&bench, pid), 0, "it has exited");
}

/// What comes out of maps of another layout is in the table before there is anything to count it in.
#[test]
fn a_tree_that_is_carried_over_has_its_share_and_no_more() {
    let sizes = Sizes { tasks: 8, ..Sizes::default() };
    let mut bench = Bench::new("carried", sizes, Limits::default());
    let (goes_on, go_on) = std::io::pipe().unwrap();
    let tree = Forked::new(move || {
        for _ in 0..2 {
            forked(|| {});
        }
        let mut byte = 0u8;
        for _ in 0..2 {
            // SAFETY: a plain system call; the byte outlives it.
            unsafe { libc::read(goes_on.as_raw_fd(), (&raw mut byte).cast(), 1) };
            forked(|| {});
        }
    });
    wait_for_children(&tree, 2);
    deny_tree(&mut bench, tree.0);
    assert_eq!(members(&bench, tree.0), 3);
    let (control, word) = (pins::pinned(&bench.options.directory, "deny_control").unwrap(), 0u32);
    let mut kept: hedgerow_bpf::wire::deny_control =
        maps::get(&control, &word.to_ne_bytes()).unwrap().unwrap();
    kept.layout += 1;
    maps::put(&control, &word.to_ne_bytes(), &kept).unwrap();
    let loaded = Responder::load_sized(&bench.options, sizes).unwrap();
    bench.responder = Responder::with(loaded, bench.options.clone()).unwrap();
    assert_eq!(members(&bench, tree.0), 3, "as many as came over");
    (&go_on).write_all(b"x").unwrap();
    until(|| members(&bench, tree.0) == 4);
    assert_eq!(bench.responder.doomed(), 0);
    (&go_on).write_all(b"x").unwrap();
    until(|| bench.responder.doomed() == 1);
    assert_eq!(members(&bench, tree.0), 4, "half of the table");
    let pid = tree.0;
    drop(tree);
    until(|| members(&bench, pid) <= 0);
    assert_eq!(members(&bench, pid), 0, "all have exited");
}

fn parent(children: usize) -> Forked {
    let parent = Forked::new(move || {
        for _ in 0..children {
            forked(|| {});
        }
    });
    wait_for_children(&parent, children);
    parent
}

fn wait_for_children(parent: &Forked, children: usize) {
    let path = format!("/proc/{0}/task/{0}/children", parent.0);
    let are_there = |list: String| list.split_whitespace().count() >= children;
    until(|| std::fs::read_to_string(&path).map_or(true, are_there));
}

fn until(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn deny_tree(bench: &mut Bench, pid: libc::pid_t) {
    let tgid = pid as u32;
    let start_boot_ns = bench.responder.start_of(tgid).unwrap().unwrap();
    let tree = Target::TaskTree { tgid, start_boot_ns };
    bench.responder.deny(request(tree, Rule::Operator)).unwrap();
}

/// Processes that the kernel counts for the tree of this root.
fn members(bench: &Bench, pid: libc::pid_t) -> i64 {
    let of =
        |target: &Target| matches!(target, Target::TaskTree { tgid, .. } if *tgid == pid as u32);
    let entries = bench.responder.entries();
    bench.responder.counted_members(entries.iter().find(|entry| of(&entry.target)).unwrap().id)
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
