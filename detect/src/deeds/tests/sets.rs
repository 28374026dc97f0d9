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

/// What was done longest ago is told again; no kind of deed ends by how many of it there are.
#[test]
fn a_full_set_goes_on_telling() {
    let mut host = Host::new();
    host.baseline.freeze();
    let did = |host: &mut Host, program: &str| {
        let who = who(program, 7);
        let mount = host.call(&who, libc::SYS_mount, &[]);
        let ran = host.exec(&who, |exec| exec.provenance = Provenance::Unowned);
        mount.len() + ran.len()
    };
    for program in 0..FIRSTS_MAX {
        did(&mut host, &format!("/opt/{program}"));
    }
    did(&mut host, "/opt/0");
    did(&mut host, "/opt/another");
    assert!(host.deeds.refused() > 0);
    host.end_learning();
    assert_eq!(did(&mut host, "/opt/last"), 2);
    assert_eq!(did(&mut host, "/opt/1"), 2, "long ago");
    assert_eq!(did(&mut host, "/opt/0") + did(&mut host, "/opt/another"), 0);
}

/// Whoever calls from many addresses for days is no less of a newcomer with the next one.
#[test]
fn sources_that_fill_their_set_let_no_brute_force_pass() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.flow(&web, inbound("10.0.0.2", 80));
    host.end_learning();
    for source in 0..FIRSTS_MAX as u32 + 1 {
        let mut flow = inbound("192.0.2.7", 80);
        flow.peer.address = std::net::Ipv4Addr::from(0xc633_0000 + source).into();
        let objects = host.objects(&web, Origin::Flow(Box::new(flow)));
        assert_eq!(objects.len(), 1);
        objects.iter().for_each(|object| host.deeds.learn(object));
    }
    host.pass(300);
    let told = |host: &mut Host| -> Vec<Deed> {
        let calls = (0..200).flat_map(|_| host.flow(&web, inbound("192.0.2.7", 80)));
        calls.map(|(deed, _)| deed).collect()
    };
    assert!(told(&mut host).contains(&Deed::OneSource));
}

/// Whoever makes up names of workloads learns for nobody else, and takes no room of who was there.
#[test]
fn what_came_after_learning_learns_for_itself() {
    let mut host = Host::learned();
    let mount = |host: &mut Host, workload: &'static str| {
        let objects = host.objects(&who("/bin/mount", 7).of(workload), call_of_mount());
        objects.iter().for_each(|object| host.deeds.learn(object));
        objects.len()
    };
    let names: Vec<&'static str> =
        (0..300).map(|at| &*String::leak(format!("{at}.scope"))).collect();
    for name in &names {
        assert_eq!((mount(&mut host, name), mount(&mut host, name)), (1, 0), "{name}");
    }
    assert_eq!((mount(&mut host, "web.service"), mount(&mut host, "web.service")), (1, 0));
    assert_eq!((mount(&mut host, names[299]), mount(&mut host, names[0])), (0, 1));
    assert!(host.deeds.refused() >= 300 - 256);
}

fn call_of_mount() -> Origin {
    Origin::Call(Box::new(call(libc::SYS_mount, &[], None)))
}

/// Whoever starts many that sleep makes nobody forget who serves, neither in another workload nor in his own.
#[test]
fn sleeping_processes_hide_no_server() {
    let mut host = Host::learned();
    let php = who("/usr/sbin/php", 1).script("/srv/www/index.php");
    host.exec(&php, |_| ());
    host.flow(&php, inbound("10.0.0.2", 80));
    for tgid in 10..10 + PROCESSES_MAX as u32 * 2 {
        host.exec(&who("/bin/sleep", tgid).of("job.service"), |_| ());
        if tgid % 100 == 0 {
            host.row(&php, &[]);
        }
    }
    let wrote = host.open(&php, "/srv/www/shell.php", libc::O_WRONLY | libc::O_CREAT);
    assert_eq!(wrote[0].0, Deed::WroteCode);
    for tgid in 100_000..100_000 + PROCESSES_MAX as u32 * 2 {
        host.exec(&who("/bin/sleep", tgid), |_| ());
        if tgid % 100 == 0 {
            host.row(&php, &[]);
        }
    }
    let wrote = host.open(&php, "/srv/www/other/shell.php", libc::O_WRONLY | libc::O_CREAT);
    assert_eq!(wrote[0].0, Deed::WroteCode);
}

/// Files that are run by the thousand keep no later one from being followed.
#[test]
fn what_is_run_later_is_followed_too() {
    let mut host = Host::learned();
    for at in 0..RAN_MAX as u32 {
        host.exec(&who(&format!("/opt/{at}/x"), 9).of("job.service"), |_| ());
    }
    let app = who("/srv/app/run", 7);
    host.exec(&app, |_| ());
    host.open(&app, "/srv/app/run", libc::O_WRONLY);
    let replaced = host.exec(&app, |exec| {
        exec.replaced = true;
        exec.provenance = Provenance::Unowned;
    });
    assert!(replaced.iter().any(|(deed, _)| *deed == Deed::ReplacedWithin), "{replaced:?}");
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
