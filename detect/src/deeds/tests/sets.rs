//! How what was done is remembered.

use super::super::{
    files::{RAN_MAX, WRITTEN_MAX},
    firsts::FIRSTS_MAX,
    processes::PROCESSES_MAX,
};
use super::*;

#[test]
fn a_new_listener_is_told_by_its_port() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.flow(&web, inbound("10.0.0.2", 80));
    host.flow(&web, inbound("10.0.0.2", 40_000));
    host.end_learning();
    assert!(host.flow(&web, inbound("10.0.0.2", 80)).is_empty());
    assert!(host.flow(&web, inbound("10.0.0.2", 40_001)).is_empty());
    let shell = who("/bin/nc", 8);
    let told = host.flow(&shell, inbound("10.0.0.2", 4444));
    assert_eq!(told, did(Deed::NewListener, "port 4444/tcp"));
    // Ephemeral ports are known by who opened one.
    assert_eq!(host.flow(&shell, inbound("10.0.0.2", 40_001))[0].0, Deed::NewListener);
}

#[test]
fn a_new_source_is_told_unless_it_is_the_host_itself() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.flow(&web, inbound("10.0.0.2", 80));
    host.end_learning();
    assert!(host.flow(&web, inbound("10.0.0.2", 80)).is_empty());
    assert!(host.flow(&web, inbound("127.0.0.1", 80)).is_empty());
    assert_eq!(host.flow(&web, inbound("10.0.0.9", 80)), did(Deed::NewSource, "10.0.0.9"));
    assert!(host.flow(&web, outbound("10.0.0.9", 1)).is_empty());
}

/// Who called has another port each time, so that its port would make another object of each call.
#[test]
fn what_was_done_with_one_peer_names_its_end_of_the_connection() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.flow(&web, inbound("10.0.0.2", 80));
    host.end_learning();
    let mut contacts = |flow| {
        let objects = host.objects(&web, Origin::Flow(Box::new(flow)));
        objects.iter().map(|object| (object.deed(), object.contact())).collect::<Vec<_>>()
    };
    let contact = |address: &str, port, direction| {
        let (address, protocol) = (address.parse().unwrap(), Some(Protocol::Tcp));
        Some(Contact { address, port, direction, protocol })
    };
    let caller = contact("10.0.0.9", None, FlowDirection::Inbound);
    let told = contacts(inbound("10.0.0.9", 4444));
    assert_eq!(told, [(Deed::NewListener, None), (Deed::NewSource, caller)]);
    let called = contact("192.0.2.7", Some(443), FlowDirection::Outbound);
    assert_eq!(contacts(outbound("192.0.2.7", 20_000_000)), [(Deed::Outflow, called)]);
}

/// Whatever was told is silent once its object was learned, and another twin of it isn't.
#[test]
fn what_was_accepted_is_silent_in_its_workload() {
    let mut host = Host::new();
    host.row(&who("/usr/sbin/web", 1), &[]);
    host.row(&who("/usr/sbin/db", 1).of("db.service"), &[]);
    host.end_learning();
    let write = |path| {
        Origin::Call(Box::new(call(libc::SYS_openat, &[0, 0, libc::O_WRONLY as u64], Some(path))))
    };
    let mount = || Origin::Call(Box::new(call(libc::SYS_mount, &[], None)));
    let cp = who("/bin/cp", 7);
    for origin in [
        write("/etc/cron.d/x"),
        mount(),
        Origin::Flow(Box::new(inbound("10.0.0.9", 4444))),
        Origin::Flow(Box::new(inbound("10.0.0.9", 44_444))),
    ] {
        let objects = host.objects(&cp, origin.clone());
        assert!(!objects.is_empty());
        objects.iter().for_each(|object| host.deeds.learn(object));
        assert!(host.objects(&cp, origin.clone()).is_empty(), "{objects:?}");
        assert!(!host.objects(&cp.clone().of("db.service"), origin).is_empty());
    }
    assert_eq!(host.event(&cp, write("/etc/sudoers.d/x")).len(), 1);
}

#[test]
fn a_workload_that_learning_never_saw_is_judged_by_the_host() {
    let mut host = Host::new();
    let mount = |host: &mut Host, workload| {
        host.call(&who("/bin/mount", 7).of(workload), libc::SYS_mount, &[]).is_empty()
    };
    assert!(mount(&mut host, "backup.service"));
    host.row(&who("/usr/sbin/web", 1), &[]);
    host.end_learning();
    assert!(mount(&mut host, "new.service"));
    assert!(!mount(&mut host, "web.service"));
}

#[test]
fn what_was_learned_survives_the_model_file_and_older_files_have_none() {
    let mut host = Host::new();
    assert!(host.deeds.is_empty());
    host.call(&who("/bin/mount", 7), libc::SYS_mount, &[]);
    host.deeds.close(host.now_ns, true);
    host.end_learning();
    let mut bytes = Vec::new();
    ciborium::into_writer(&host.deeds, &mut bytes).unwrap();
    host.deeds = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert!(!host.deeds.is_empty());
    assert!(host.call(&who("/bin/mount", 7), libc::SYS_mount, &[]).is_empty());
    assert_eq!(host.call(&who("/bin/umount", 7), libc::SYS_mount, &[]).len(), 1);
}

#[test]
fn a_full_set_goes_on_telling_what_is_intrinsic_and_not_what_is_new() {
    let mut host = Host::new();
    host.baseline.freeze();
    for program in 0..=FIRSTS_MAX {
        let who = who(&format!("/opt/{program}"), 7);
        host.call(&who, libc::SYS_mount, &[]);
        host.exec(&who, |exec| exec.provenance = Provenance::Unowned);
    }
    assert!(host.deeds.refused() > 0);
    host.end_learning();
    let last = who("/opt/last", 7);
    assert_eq!(host.call(&last, libc::SYS_mount, &[]).len(), 1);
    assert!(host.exec(&last, |exec| exec.provenance = Provenance::Unowned).is_empty());
}

#[test]
fn what_runs_and_what_is_written_is_bounded() {
    let mut host = Host::learned();
    let count = u32::try_from(PROCESSES_MAX.max(RAN_MAX) + 2).unwrap();
    for tgid in 0..count {
        let who = who(&format!("/opt/{tgid}"), tgid);
        host.exec(&who, |_| ());
        if tgid as usize <= WRITTEN_MAX {
            host.open(&who, &format!("/opt/{tgid}"), libc::O_WRONLY);
        }
    }
    assert!(host.deeds.refused() >= 3);
}
