#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn names_without_a_process_make_room_and_who_found_none_has_one_by_the_next_window() {
    let mut resolver = Resolver::open().unwrap();
    let mut namer = Namer::new(Epoch(1));
    let subject = Arc::new(Subject::host());
    let key = |cgroup_id, tgid| ProcessKey {
        tgid,
        start_boot_ns: 1,
        program_id: 5,
        cgroup_id,
        root: Root::default(),
    };
    let (first, late) = (1 << 40, 1 << 41);
    resolver.made(first, "/system.slice/first.service".into());
    namer.remember(key(first, 7), 0, 5, &subject, &mut resolver);
    let numbers = |namer: &mut Namer, of: u64| -> Vec<u32> {
        let number = |fact: &Learned| match fact {
            Learned::Workload { cgroup_id, number } if *cgroup_id == of => Some(*number),
            _ => None,
        };
        namer.learned.iter().filter_map(number).collect()
    };
    let of_first = numbers(&mut namer, first);
    assert_eq!(of_first.len(), 1);
    // More directories than there are numbers, each a workload by its name.
    let letters = |n: u64| [n / 676, n / 26 % 26, n % 26].map(|c| (b'a' + c as u8) as char);
    for n in 0..1100 {
        let name: String = letters(n).iter().collect();
        resolver.made(u64::MAX - n, format!("/user.slice/{name}.scope"));
        namer.workload(u64::MAX - n, 0, &mut resolver);
    }
    resolver.made(late, "/system.slice/late.service".into());
    namer.remember(key(late, 8), 0, 5, &subject, &mut resolver);
    assert!(numbers(&mut namer, late).is_empty(), "all are taken");
    assert!(resolver.workloads_refused() > 0);
    namer.close(Epoch(2), &mut resolver);
    let of_late = numbers(&mut namer, late);
    assert_eq!(of_late.len(), 1);
    assert_ne!(of_late, of_first);
    assert_eq!(numbers(&mut namer, first), of_first, "who has a process keeps its number");
    let told = namer.take_learned();
    let forgotten = |fact: &Learned| match fact {
        Learned::Forgotten { numbers } => numbers.len(),
        _ => 0,
    };
    assert!(told.iter().map(forgotten).sum::<usize>() > 1000);
    let runs = |fact: &Learned| matches!(fact, Learned::Program { workload, .. } if *workload == of_late[0]);
    assert!(told.iter().any(runs), "its program is told under the new number");
}

#[test]
fn caches_stay_bounded() {
    let mut resolver = Resolver::open().unwrap();
    let mut namer = Namer::new(Epoch(1));
    for number in 0..(CGROUPS_MAX + 10) as u64 {
        // No such cgroups: their removal was never heard of.
        namer.workload(u64::MAX - number, 0, &mut resolver);
    }
    assert!(namer.workloads.len() <= CGROUPS_MAX);
    let subject = Arc::new(Subject::host());
    for tgid in 1..(PROCESSES_MAX + 10) as u32 {
        let key = ProcessKey {
            tgid,
            start_boot_ns: 1,
            program_id: tgid.into(),
            cgroup_id: 1,
            root: Root::default(),
        };
        namer.remember(key, 0, tgid.into(), &subject, &mut resolver);
    }
    assert!(namer.processes.len() <= PROCESSES_MAX);
    assert!(namer.programs.len() <= PROCESSES_MAX);
}

#[test]
fn whom_nobody_asked_for_is_unknown_and_is_not_asked_for_by_who_uses_how_much() {
    let mut resolver = Resolver::open().unwrap();
    let mut namer = Namer::new(Epoch(1));
    let (seen, unseen) = (1 << 40, 1 << 41);
    let key = |cgroup_id, program_id| ProcessKey {
        // It has a cgroup that could be read.
        tgid: std::process::id(),
        start_boot_ns: 1,
        program_id,
        cgroup_id,
        root: Root::default(),
    };
    for cgroup in [seen, unseen] {
        resolver.made(cgroup, "/system.slice/web.service".into());
    }
    namer.workload(seen, 0, &mut resolver);
    let whom = |namer: &Namer, resolver: &Resolver, cgroup_id| {
        let subject = namer.whom(&key(cgroup_id, 9), resolver);
        (subject.workload.to_string(), subject.program.to_string())
    };
    let unknown = || "(unknown)".to_owned();
    assert_eq!(whom(&namer, &resolver, seen), ("web.service".into(), unknown()));
    assert_eq!(whom(&namer, &resolver, unseen), (unknown(), unknown()));
    namer.workload(unseen, 0, &mut resolver);
    assert_eq!(whom(&namer, &resolver, unseen), ("web.service".into(), unknown()));
}
