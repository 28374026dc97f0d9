#![allow(clippy::unwrap_used)]
use super::*;
use crate::identity::aside::tests::started;

fn key(tgid: u32, program_id: u64, cgroup_id: u64) -> ProcessKey {
    ProcessKey { tgid, start_boot_ns: 1, program_id, cgroup_id, root: Root::default() }
}

#[test]
fn this_process_is_named_by_proc() {
    let mut resolver = Resolver::open().unwrap();
    let id = resolver.hierarchy.id("/").unwrap();
    let tgid = std::process::id();
    let start_boot_ns = started(tgid);
    let us = ProcessKey { start_boot_ns, ..key(tgid, 7, id) };
    let mut subject = resolver.subject(us, None);
    // On a loaded machine the answer may come late.
    while subject.program == Program::new("(unknown)") {
        resolver.take_changed();
        subject = resolver.subject(us, None);
    }
    let exe = std::env::current_exe().unwrap();
    assert_eq!(&*subject.program.path, exe.to_str().unwrap());
    assert!(Arc::ptr_eq(&subject, &resolver.subject(key(1, 7, id), None)), "one allocation");
}

#[test]
fn a_process_whose_workload_is_named_before_its_program_is_has_its_name_all_the_same() {
    let mut resolver = Resolver::open().unwrap();
    let id = resolver.hierarchy.id("/").unwrap();
    let tgid = std::process::id();
    let us = ProcessKey { start_boot_ns: started(tgid), ..key(tgid, 7, id) };
    let unknown = Subject::new(Workload::host(), Program::new(UNKNOWN));
    assert_eq!(*resolver.moved(us, &unknown), unknown);
    let is_named = |resolver: &mut Resolver| {
        resolver.take_changed();
        resolver.subject(us, None).program != unknown.program
    };
    // On a loaded machine the answer may come late.
    assert!((0..100).any(|_| is_named(&mut resolver)));
    let another = key(u32::MAX, 7, id);
    assert_ne!(resolver.subject(another, None).program, unknown.program, "it runs the same");
}

#[test]
fn an_exec_renews_what_was_known_and_a_gone_process_keeps_its_programs_name() {
    let mut resolver = Resolver::open().unwrap();
    let facts = |path| ExecFacts {
        path,
        arguments: &["x"],
        script: None,
        memory: false,
        service: 0,
        writable: false,
    };
    let gone = u32::MAX;
    let first = resolver.subject(key(gone, 1, 1), Some(facts("/bin/a")));
    assert_eq!(&*first.program.path, "/bin/a");
    let second = resolver.subject(key(gone, 2, 1), Some(facts("/bin/b")));
    assert_eq!(&*second.program.path, "/bin/b");
    assert_eq!(resolver.subject(key(gone - 1, 1, 1), None), first);
    let unknown = resolver.subject(key(gone, 3, 1), None);
    assert_eq!(&*unknown.program.path, "(unknown)");
}

#[test]
fn a_cgroup_that_is_gone_keeps_the_name_that_its_making_told() {
    let mut resolver = Resolver::open().unwrap();
    let name = |resolver: &mut Resolver, id| resolver.workload(id, u32::MAX).0.as_str().to_owned();
    resolver.made(u64::MAX, "/system.slice/backup.service".into());
    resolver.removed(u64::MAX);
    assert_eq!(name(&mut resolver, u64::MAX), "backup.service");
    assert_eq!(name(&mut resolver, u64::MAX - 1), "host", "nobody told of it");
    let head = format!("/system.slice/deep.service/{}", "x".repeat(228));
    resolver.made_deep(u64::MAX - 2, head);
    resolver.removed(u64::MAX - 2);
    assert_eq!(name(&mut resolver, u64::MAX - 2), "deep.service");
    // Those that live stay, whatever comes and goes.
    resolver.made(1 << 40, "/system.slice/lives.service".into());
    for id in 2..2 * CGROUPS_MAX as u64 {
        resolver.made(u64::MAX - 1 - id, format!("/system.slice/run-u{id}.service"));
        assert_eq!(name(&mut resolver, u64::MAX - 1 - id), "run-u.service");
        resolver.removed(u64::MAX - 1 - id);
    }
    assert_eq!(name(&mut resolver, 1 << 40), "lives.service");
    assert!(resolver.paths.len() <= CGROUPS_MAX && resolver.cgroups.len() <= CGROUPS_MAX);
    assert_eq!(resolver.forgotten(), 0);
}

#[test]
fn a_login_uid_counts_below_sshd_and_in_a_session_and_nowhere_else() {
    let mut resolver = Resolver::open().unwrap();
    resolver.services.executed(1, &Program::new("/usr/sbin/nginx"), true);
    resolver.services.executed(2, &Program::new("/usr/sbin/sshd"), true);
    let root = |service, login_uid| Root { tgid: u32::MAX, start_boot_ns: 1, service, login_uid };
    for (workload, root, expected) in [
        ("nginx.service", root(1, 1000), false),
        ("ssh.service", root(2, 1000), true),
        ("ssh.service", root(2, u32::MAX), false),
        ("web.service", root(3, 1000), false),
        ("web.service", root(0, 1000), false),
        ("user-7.slice/session.scope", root(1, u32::MAX), true),
        ("web.service/session.scope", root(1, 1000), false),
    ] {
        let found = resolver.is_of_login(&Workload::new(workload), &root);
        assert_eq!(found, expected, "{workload} {root:?}");
    }
}

#[test]
fn caches_stay_bounded() {
    let mut resolver = Resolver::open().unwrap();
    let facts = ExecFacts {
        path: "/bin/a",
        arguments: &[],
        script: None,
        memory: false,
        service: 0,
        writable: false,
    };
    for id in 0..SUBJECTS_MAX as u64 + 10 {
        resolver.subject(key(u32::MAX, id, 1), Some(facts));
    }
    assert!(resolver.processes.len() <= SUBJECTS_MAX);
    assert!(resolver.programs.len() <= SUBJECTS_MAX);
    assert!(resolver.forgotten() > 0);
}
