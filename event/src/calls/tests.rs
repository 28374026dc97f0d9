#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use super::*;
use crate::CLASSES;

fn pushed(calls: &[(i32, bool, i64)]) -> (History, Vec<Push>) {
    let tables = Tables::of(&X86_64);
    let mut history = History::default();
    let pushes = calls
        .iter()
        .filter_map(|&(number, compat, result)| tables.step(number, compat, result))
        .map(|step| history.push(&step))
        .collect();
    (history, pushes)
}

#[test]
fn classes_have_distinct_names_in_order() {
    assert_eq!(Class::System.index(), CLASSES - 1);
    let mut names = CLASS_NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CLASSES);
    assert_eq!(Class::Open.name(), "open");
    assert_eq!(Class::PositionalRead.name(), "positional_read");
}

#[test]
fn codes_are_distinct_and_fit_nine_bits() {
    let tables = Tables::of(&X86_64);
    let mut codes: Vec<u16> = tables
        .native
        .iter()
        .chain(&tables.uring)
        .map(|info| info.code)
        .filter(|&code| code != 0 && code != CODE_ODD)
        .collect();
    let count = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), count);
    assert!(codes.iter().all(|&code| code < CODE_BORN));
}

#[test]
fn read_is_not_an_empty_history() {
    let (history, _) = pushed(&[(0, false, 1)]);
    assert_eq!(history.codes(), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn the_sigreturn_number_is_never_an_error_nor_a_restart() {
    let tables = Tables::of(&X86_64);
    for result in [-14, -512, -516, 0, 7] {
        let step = tables.step(-1, false, result).unwrap();
        assert_eq!((step.class, step.code, step.error), (Class::SignalReturn, 0, false));
    }
}

#[test]
fn restarts_are_neither_errors_nor_calls() {
    let tables = Tables::of(&X86_64);
    for result in -516..=-512 {
        assert_eq!(tables.step(0, false, result), None);
    }
    assert!(tables.step(0, false, -511).unwrap().error);
    assert!(tables.step(0, false, -4095).unwrap().error);
    assert!(!tables.step(0, false, -4096).unwrap().error);
}

#[test]
fn numbers_outside_the_table_are_odd() {
    let tables = Tables::of(&X86_64);
    for number in [512, 1000, -2, i32::MIN, i32::MAX, 0x4000_0027, 400, 500] {
        let step = tables.step(number, false, -38).unwrap();
        assert_eq!((step.class, step.code, step.error), (Class::Odd, CODE_ODD, true), "{number}");
    }
}

#[test]
fn a_child_is_born_not_forking() {
    let tables = Tables::of(&X86_64);
    for number in [56, 57, 58, 435] {
        assert_eq!(tables.step(number, false, 0).unwrap().class, Class::Born);
        assert_eq!(tables.step(number, false, 0).unwrap().code, CODE_BORN);
        assert_eq!(tables.step(number, false, 77).unwrap().class, Class::Clone);
    }
}

#[test]
fn runs_collapse_and_waiting_stays_out() {
    let (history, pushes) = pushed(&[
        (0, false, 1),   // read
        (0, false, 1),   // read again
        (202, false, 0), // futex
        (35, false, 0),  // nanosleep
        (24, false, 0),  // sched_yield
        (219, false, 0), // restart_syscall
        (0, false, 1),   // read, still a run
        (1, false, 1),   // write
    ]);
    use Push::*;
    assert_eq!(
        pushes,
        [Entered, Collapsed, Skipped, Skipped, Skipped, Skipped, Collapsed, Entered]
    );
    assert_eq!(history.codes(), [0, 0, 0, 0, 1, 2]);
}

#[test]
fn thirty_two_bit_calls_are_mapped_and_a_stream_of_their_own() {
    let tables = Tables::of(&X86_64);
    let step = tables.step(3, true, 5).unwrap(); // i386 read
    assert_eq!((step.class, step.code), (Class::Compat, 1));
    assert_eq!(tables.native_number(3, true), 0);
    assert_eq!(tables.native_number(252, true), 231);
    assert_eq!(tables.native_number(3, false), 3);
    assert_eq!(tables.native_number(1000, false), -1);
    assert_eq!(tables.step(2, true, 0).unwrap().code, CODE_BORN);
    let (history, _) = pushed(&[(1, false, 1), (0, false, 1), (3, true, 1)]);
    assert_eq!(history.codes(), [0, 0, 0, 0, 0, 1], "begun anew");
    let (back, pushes) = pushed(&[(3, true, 1), (0, false, 1), (0, false, 1)]);
    assert_eq!(back.codes(), [0, 0, 0, 0, 0, 1]);
    assert_eq!(pushes[2], Push::Collapsed);
}

#[test]
fn io_uring_requests_count_as_what_they_do() {
    let tables = Tables::of(&X86_64);
    let open = tables.uring_step(18);
    assert_eq!((open.class, open.code), (Class::Open, CODE_URING + 18));
    assert_eq!(tables.uring_step(16).class, Class::Connect);
    assert_eq!(tables.uring_step(0).class, Class::Uring);
    assert_eq!(tables.uring_step(11).code, 0, "timeouts stay out of the history");
    assert_eq!(tables.uring_step(200).class, Class::Odd);
    assert_eq!(tables.uring_number(18), 257);
}

#[test]
fn names_follow_the_kernels_table() {
    let tables = Tables::of(&X86_64);
    assert_eq!(tables.name(59), Some("execve"));
    assert_eq!(tables.name(469), Some("file_setattr"));
    assert_eq!(tables.name(400), None);
}

/// Numbers by name as a header has them; none where there is no such header.
fn header(path: &str) -> HashMap<String, i32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

#[test]
fn numbers_are_the_kernels() {
    let headers = [
        (&X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        (&ARM64, "/usr/include/asm-generic/unistd.h"),
    ];
    for (architecture, path) in headers {
        let tables = Tables::of(architecture);
        for (name, number) in header(path) {
            // A range for what one architecture alone has, one that some have instead of
            // another, and the end.
            if ["arch_specific_syscall", "sync_file_range2", "syscalls"].contains(&&*name) {
                continue;
            }
            // What 32-bit machines alone have, and what is newer.
            match tables.name(number) {
                None => assert!(name.contains("time") || number > 469, "{name} is missing"),
                known => assert_eq!(known, Some(&*name), "{number} in {path}"),
            }
        }
    }
}

#[test]
fn each_architecture_has_its_own_numbers_for_the_same_calls() {
    let (here, there) = (Tables::of(&X86_64), Tables::of(&ARM64));
    for number in 0..TABLE_SIZE as i32 {
        let Some(name) = there.name(number) else { continue };
        let same = (0..TABLE_SIZE as i32).find(|&number| here.name(number) == Some(name)).unwrap();
        let (one, other) = (here.info(same, false), there.info(number, false));
        assert_eq!((one.class, one.flags), (other.class, other.flags), "{name}");
    }
    assert_eq!(there.step(-1, false, 0).unwrap().class, Class::SignalReturn);
    assert_eq!(there.step(220, false, 0).unwrap().code, CODE_BORN);
    for (ours, theirs) in here.uring.iter().zip(&there.uring) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(there.uring_number(18), 56, "openat");
    let arm = |number| there.name(there.native_number(number, true));
    let calls = [(2, "clone"), (5, "openat"), (11, "execve"), (192, "mmap"), (281, "socket")];
    assert!(calls.iter().all(|&(number, name)| arm(number) == Some(name)));
    assert_eq!((arm(-1), arm(86)), (Some("rt_sigreturn"), None));
}

#[test]
fn six_codes_are_kept() {
    let calls: Vec<_> = (1..=8).map(|number| (number, false, 0)).collect();
    let (history, _) = pushed(&calls);
    assert_eq!(history.codes(), [4, 5, 6, 7, 8, 9]);
    assert!(!history.is_empty());
}
