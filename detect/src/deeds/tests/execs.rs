use hedgerow_event::calls::Class;

use super::*;

#[test]
fn standard_streams_on_a_socket_are_told_unless_the_program_always_had_them() {
    let mut host = Host::new();
    let service = who("/usr/lib/openssh/sshd-session", 4);
    assert!(host.exec(&service, |exec| exec.socket_io = true).is_empty());
    host.end_learning();
    assert!(host.exec(&service, |exec| exec.socket_io = true).is_empty());
    let shell = who("/bin/bash", 7);
    assert!(host.exec(&shell, |_| ()).is_empty());
    for _ in 0..2 {
        let told = host.exec(&shell, |exec| exec.socket_io = true);
        assert_eq!(told, did(Deed::SocketStreams, "/usr/sbin/web"));
    }
}

#[test]
fn what_a_service_starts_is_told_and_what_a_login_starts_is_not() {
    let mut host = Host::new();
    let usual = who("/usr/bin/convert", 4);
    host.exec(&usual, |exec| exec.under_listener = true);
    host.end_learning();
    assert!(host.exec(&usual, |exec| exec.under_listener = true).is_empty());
    let shell = who("/bin/sh", 7);
    let login = |exec: &mut Exec| {
        exec.under_listener = true;
        exec.login_uid = 1000;
    };
    assert!(host.exec(&shell, login).is_empty());
    let told = host.exec(&shell, |exec| exec.under_listener = true);
    assert_eq!(told, did(Deed::UnderListener, "/usr/sbin/web"));
    // Another parent is another pair.
    let told = host.exec(&usual, |exec| {
        exec.under_listener = true;
        exec.parent = Some(who("/bin/sh", 9).subject());
    });
    assert_eq!(told, did(Deed::UnderListener, "/bin/sh"));
}

/// PHP behind a web server listens on a socket of the file system, which the kernel's word for a
/// listener doesn't tell of.
#[test]
fn what_a_program_starts_that_serves_for_a_living_is_told() {
    let calls =
        |accepted: bool| [(Class::Read.index(), 40), (Class::Accept.index(), u32::from(accepted))];
    let started_by = |host: &mut Host, parent: &Who, child: &str| {
        host.exec(&who(child, 7), |exec| exec.parent = Some(parent.subject()))
    };
    let mut host = Host::new();
    let (php, daemon) = (who("/usr/sbin/php-fpm", 4), who("/usr/sbin/daemon", 5));
    for epoch in 1..=40 {
        host.epoch = epoch;
        // Several threads of an epoch are one; a control socket is asked now and then.
        (0..2).for_each(|_| drop(host.row(&php, &calls(epoch % 3 == 0))));
        (0..9).for_each(|_| drop(host.row(&daemon, &calls(epoch % 20 == 0))));
    }
    started_by(&mut host, &php, "/usr/bin/convert");
    host.end_learning();
    assert!(started_by(&mut host, &php, "/usr/bin/convert").is_empty());
    let told = started_by(&mut host, &php, "/bin/sh");
    assert_eq!(told, did(Deed::UnderListener, "/usr/sbin/php-fpm"));
    assert!(started_by(&mut host, &daemon, "/bin/sh").is_empty());
    let elsewhere = php.of("other.service");
    assert!(started_by(&mut host, &elsewhere, "/bin/sh").is_empty(), "another workload's");
}

#[test]
fn where_a_file_comes_from_is_told_once_it_is_known_to_be_strange() {
    let mut host = Host::learned();
    for (provenance, deed) in [
        (Provenance::Drift, Deed::ExecDrift),
        (Provenance::Modified, Deed::ExecModified),
        (Provenance::Unsigned, Deed::ExecUnsigned),
        (Provenance::Unowned, Deed::ExecUnowned),
    ] {
        let told = host.exec(&who("/usr/bin/x", 7), |exec| exec.provenance = provenance);
        assert_eq!(told, did(deed, "/usr/bin/x"));
    }
    for provenance in [Provenance::Unknown, Provenance::Package, Provenance::Image] {
        assert!(host.exec(&who("/usr/bin/x", 7), |exec| exec.provenance = provenance).is_empty());
    }
}

#[test]
fn a_provenance_that_learning_saw_is_silent_for_its_program_only() {
    let mut host = Host::new();
    let unowned = |exec: &mut Exec| exec.provenance = Provenance::Unowned;
    host.exec(&who("/opt/app", 7), unowned);
    host.end_learning();
    assert!(host.exec(&who("/opt/app", 8), unowned).is_empty());
    assert_eq!(host.exec(&who("/opt/b", 8), unowned), did(Deed::ExecUnowned, "/opt/b"));
}

fn replaced(exec: &mut Exec) {
    exec.replaced = true;
}

#[test]
fn a_script_that_its_own_service_rewrote_is_told_and_one_that_another_wrote_is_not() {
    let write = libc::O_WRONLY | libc::O_TRUNC;
    let app = who("/usr/bin/python3", 7).script("/srv/app/run.py");
    for (writer, within) in [(who("/usr/sbin/web", 3), true), (who("/bin/cp", 4).of("host"), false)]
    {
        let mut host = Host::learned();
        assert!(host.exec(&app, |_| ()).is_empty());
        assert!(host.exec(&app, replaced).is_empty(), "nobody wrote it");
        host.open(&writer, "/srv/app/run.py", write);
        let told = host.exec(&app, replaced);
        let expected = did(Deed::ReplacedWithin, "/srv/app/run.py");
        assert_eq!(told, if within { expected } else { Vec::new() });
        host.now_ns += 3601 * SECOND_NS;
        assert!(host.exec(&app, replaced).is_empty(), "too long ago");
    }
}

#[test]
fn a_file_renamed_into_its_place_is_a_rewritten_one() {
    let app = who("/usr/bin/python3", 7).script("/srv/app/run.py");
    let sed = who("/usr/bin/sed", 9);
    let create = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    for directory in ["/srv/app", "/tmp"] {
        let mut host = Host::learned();
        host.exec(&app, |_| ());
        host.open(&sed, &format!("{directory}/sedX1"), create);
        host.call(&sed, libc::SYS_renameat2, &[]);
        let told = host.exec(&app, replaced);
        assert_eq!(told.is_empty(), directory == "/tmp", "{directory}");
    }
}

#[test]
fn what_a_package_brings_is_not_rewritten() {
    let mut host = Host::learned();
    let app = who("/usr/bin/app", 7);
    host.exec(&app, |_| ());
    host.open(&who("/usr/bin/dpkg", 3), "/usr/bin/app", libc::O_WRONLY);
    let told = host.exec(&app, |exec| {
        exec.replaced = true;
        exec.provenance = Provenance::Package;
    });
    assert!(told.is_empty());
}

#[test]
fn a_path_that_was_cut_is_told_and_is_no_other_programs() {
    let mut host = Host::learned();
    let hidden = who(".../usr/bin/psql", 7);
    let told = host.exec(&hidden, |_| {});
    assert!(told.contains(&(Deed::ExecCut, ".../usr/bin/psql".into())), "{told:?}");
    assert!(host.exec(&who("/usr/bin/psql", 8), |_| {}).is_empty());
}
