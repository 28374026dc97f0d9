#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use hedgerow_event::{Deed, Program};

use super::*;

fn web() -> Workload {
    Workload::new("web.service")
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn evidence(workload: &str, path: &str) -> Evidence {
    let subject = Arc::new(Subject::new(Workload::new(workload), Program::new(path)));
    Evidence {
        surprise: 12.0,
        deeds: vec![Deed::NewProgram, Deed::NewPeer],
        complete: true,
        kernel_owned: true,
        objects: vec![Object::NewProgram { subject: subject.clone() }],
        subject,
        tgid: 5,
        start_boot_ns: 6,
        cgroup_id: 7,
        program_id: 8,
        file: None,
        of_host: None,
        peer: None,
        uid: 0,
        login_uid: None,
    }
}

#[test]
fn addresses_that_every_host_needs_are_protected() {
    let set = ProtectedSet::default();
    for protected in [
        "127.0.0.1",
        "127.255.0.9",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fd00:ec2::254",
        "168.63.129.16",
        "100.100.100.200",
        "224.0.0.251",
        "255.255.255.255",
        "fe80::1",
        "ff02::fb",
    ] {
        assert!(set.peer(&web(), address(protected), 0).is_some(), "{protected}");
    }
    for free in ["203.0.113.9", "10.1.2.3", "2001:db8::1", "128.0.0.1", "fd00::1"] {
        assert_eq!(set.peer(&web(), address(free), 0), None, "{free}");
    }
}

#[test]
fn what_the_host_names_is_protected_until_the_next_reading() {
    let mut set = ProtectedSet::default();
    for (text, length, reason) in [
        ("10.0.2.15", 32, "an own address"),
        ("10.0.2.2", 32, "a gateway"),
        ("10.0.2.3", 32, "a resolver"),
        ("10.0.2.4", 32, "the DHCP server"),
        ("192.0.2.7", 32, "a broker"),
        ("2001:db8:1::", 64, "configured"),
    ] {
        set.add_address(address(text), length, reason);
        assert_eq!(set.peer(&web(), address(text), 0).as_deref(), Some(reason));
    }
    assert!(set.peer(&web(), address("2001:db8:1::77"), 0).is_some());
    set.refresh([(address("10.0.2.16"), 32, "an own address")]);
    assert_eq!(set.peer(&web(), address("10.0.2.15"), 0), None);
    assert!(set.peer(&web(), address("10.0.2.16"), 0).is_some());
    assert!(set.peer(&web(), address("127.0.0.1"), 0).is_some());
}

#[test]
fn what_a_namespace_names_protects_who_lives_there_and_nobody_else() {
    let mut set = ProtectedSet::default();
    let named = vec![(address("203.0.113.7"), 32, "a resolver")];
    set.refresh_namespaces([(4_026_532_001, named)].into());
    let asked = |set: &ProtectedSet| set.peer(&web(), address("203.0.113.7"), 0);
    assert_eq!(asked(&set), None, "anybody can write a resolv.conf of his own");
    assert!(set.is_named_in_a_namespace(address("::ffff:203.0.113.7")));
    assert!(!set.is_named_in_a_namespace(address("203.0.113.8")));
    set.judge(vec![4_026_532_002]);
    assert_eq!(asked(&set), None);
    set.judge(vec![4_026_532_002, 4_026_532_001]);
    assert!(asked(&set).is_some_and(|why| why.contains("a resolver")));
    assert!(set.prefix(&web(), address("203.0.113.7"), 32, 0).is_some());
    set.judge(Vec::new());
    assert_eq!(asked(&set), None);
}

#[test]
fn a_prefix_that_holds_something_protected_is_protected() {
    let mut set = ProtectedSet::default();
    set.add_address(address("203.0.113.77"), 32, "a resolver");
    set.learn_peer(&web(), address("198.51.100.200"));
    set.add_admin_login(address("192.0.2.5"), 0);
    for protected in ["203.0.113.0", "198.51.100.0", "192.0.2.0", "127.0.0.0"] {
        assert!(set.prefix(&web(), address(protected), 24, 1).is_some(), "{protected}");
    }
    assert!(set.prefix(&web(), address("203.0.113.77"), 32, 1).is_some());
    assert_eq!(set.prefix(&web(), address("203.0.114.0"), 24, 1), None);
    assert_eq!(set.prefix(&web(), address("203.0.113.0"), 26, 1), None);
}

#[test]
fn a_peer_of_the_baseline_is_protected_for_its_workload() {
    let mut set = ProtectedSet::default();
    set.learn_peer(&web(), address("198.51.100.1"));
    assert!(set.peer(&web(), address("::ffff:198.51.100.1"), 0).is_some());
    assert_eq!(set.peer(&Workload::new("db"), address("198.51.100.1"), 0), None);
}

#[test]
fn a_private_address_of_three_workloads_is_infrastructure() {
    let mut set = ProtectedSet::default();
    for name in ["a", "b"] {
        set.use_peer(&Workload::new(name), address("10.9.9.9"));
        set.use_peer(&Workload::new(name), address("203.0.113.9"));
    }
    assert_eq!(set.peer(&web(), address("10.9.9.9"), 0), None);
    set.use_peer(&Workload::new("c"), address("10.9.9.9"));
    set.use_peer(&Workload::new("c"), address("203.0.113.9"));
    assert!(set.peer(&web(), address("10.9.9.9"), 0).is_some());
    assert_eq!(set.peer(&web(), address("203.0.113.9"), 0), None, "public ones don't count");
}

#[test]
fn an_admins_source_is_protected_for_thirty_days() {
    let mut set = ProtectedSet::default();
    set.add_admin_login(address("203.0.113.50"), 1000);
    assert!(set.peer(&web(), address("203.0.113.50"), 1000 + ADMIN_NS - 1).is_some());
    assert_eq!(set.peer(&web(), address("203.0.113.50"), 1000 + ADMIN_NS), None);
}

#[test]
fn programs_that_keep_the_host_reachable_are_protected_where_they_belong() {
    let mut set = ProtectedSet::default();
    for (_, paths) in PROGRAMS {
        for path in paths {
            assert!(set.subject(&evidence("any.service", path)).is_some(), "{path}");
        }
    }
    for path in ["/usr/bin/sh", "/tmp/sshd", "/usr/local/bin/apt", "sshd", ""] {
        assert_eq!(set.subject(&evidence("any.service", path)), None, "{path}");
    }
    // A memory image or a file in a writable place isn't what its path says.
    let mut fake = evidence("any.service", "/usr/sbin/sshd");
    fake.objects.push(Object::ExecWritable { subject: fake.subject.clone() });
    assert_eq!(set.subject(&fake), None);
    // Nor is what a container has at that path, nor what runs other code before its own.
    let mut elsewhere = evidence("docker:web", "/usr/bin/conmon");
    elsewhere.of_host = Some(false);
    assert_eq!(set.subject(&elsewhere), None);
    elsewhere.of_host = Some(true);
    assert!(set.subject(&elsewhere).is_some());
    set.set_own([77, 70], Some("/usr/bin/hedgerow".into()));
    assert!(set.subject(&evidence("any.service", "/usr/bin/hedgerow")).is_some());
    for tgid in [1, 70, 77] {
        assert!(set.task(tgid).is_some());
    }
    assert!(set.task(78).is_none());
}

#[test]
fn a_script_is_protected_by_its_own_path_and_not_by_its_interpreters() {
    let set = ProtectedSet::default();
    let run = |script: &str, of_host| {
        let program = Program { path: "/usr/bin/python3.11".into(), script: Some(script.into()) };
        let subject = Arc::new(Subject::new(Workload::new("apt-daily.service"), program));
        let evidence = evidence("apt-daily.service", "/usr/bin/python3.11");
        set.subject(&Evidence { subject, of_host, ..evidence }).is_some()
    };
    assert!(run("/usr/bin/unattended-upgrade", Some(true)));
    assert!(run("/usr/bin/unattended-upgrade", None));
    assert!(!run("/usr/bin/unattended-upgrade", Some(false)));
    assert!(!run("/srv/unattended-upgrade", Some(true)));
    assert!(!run("unattended-upgrade", Some(true)), "relative to anywhere");
}

#[test]
fn a_persons_own_login_session_is_protected() {
    let set = ProtectedSet::default();
    let login = |workload, login_uid| {
        set.subject(&Evidence { login_uid, ..evidence(workload, "/usr/bin/nc") }).is_some()
    };
    assert!(login("session.scope", Some(1000)));
    assert!(login("user.slice/session-4.scope", Some(1000)));
    assert!(login("user@.service", Some(1000)));
    assert!(login("login:1000", Some(1000)));
    // No login uid: no person; another workload: not the session itself.
    assert!(!login("session.scope", None));
    assert!(!login("postgresql.service", Some(1000)));
    assert!(!login("/srv/session.scope", Some(1000)), "a program that is called like one");
    assert!(!login("postgresql.service/session.scope", Some(1000)), "a unit's own cgroup");
}

#[test]
fn what_the_host_needs_is_named_to_operators_too_whichever_prefix_is_wider() {
    let mut set = ProtectedSet::default();
    set.add_address(address("10.0.2.2"), 32, "a gateway");
    set.add_admin_login(address("203.0.113.50"), 1000);
    let said = |text: &str, length| set.infrastructure(address(text), length, 1000);
    for (text, length, what) in [
        ("127.0.0.1", 32, "loopback"),
        ("10.0.2.2", 32, "a gateway"),
        ("10.0.2.0", 24, "a gateway"),
        ("::ffff:10.0.2.2", 32, "a gateway"),
        ("203.0.113.0", 24, "admin"),
        ("fe80::1", 64, "link-local"),
    ] {
        assert!(said(text, length).is_some_and(|why| why.contains(what)), "{text}/{length}");
    }
    for (text, length) in [("10.0.3.0", 24), ("203.0.113.51", 32), ("2001:db8::", 64)] {
        assert_eq!(said(text, length), None, "{text}/{length}");
    }
}
