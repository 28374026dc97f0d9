use super::*;

const WRITE: i32 = libc::O_WRONLY | libc::O_CREAT;

#[test]
fn writing_where_it_is_decided_what_runs_is_told_and_reading_it_is_not() {
    let mut host = Host::learned();
    let cp = who("/bin/cp", 7);
    assert!(host.open(&cp, "/etc/cron.d/x", libc::O_RDONLY).is_empty());
    assert!(host.open(&cp, "/etc/hosts", WRITE).is_empty());
    assert_eq!(host.open(&cp, "/etc/cron.d/x", WRITE), did(Deed::Persistence, "/etc/cron.d/x"));
    assert_eq!(host.open(&cp, "/home/a/.bashrc", libc::O_RDWR)[0].0, Deed::Persistence);
}

#[test]
fn a_claimed_or_failed_open_is_no_evidence() {
    let mut host = Host::learned();
    let mut open = call(libc::SYS_openat, &[0, 0, WRITE as u64], Some("/etc/cron.d/x"));
    open.claimed = true;
    assert!(host.event(&who("/bin/cp", 7), Origin::Call(Box::new(open.clone()))).is_empty());
    open.claimed = false;
    open.result = -13;
    assert!(host.event(&who("/bin/cp", 7), Origin::Call(Box::new(open))).is_empty());
}

#[test]
fn places_are_learned_one_by_one() {
    let mut host = Host::new();
    let agent = who("/usr/bin/agent", 7);
    host.open(&agent, "/etc/cron.d/agent", WRITE);
    host.end_learning();
    assert!(host.open(&agent, "/etc/cron.d/other", WRITE).is_empty());
    assert_eq!(host.open(&agent, "/etc/ld.so.preload", WRITE).len(), 1);
    assert_eq!(host.open(&who("/bin/cp", 8), "/etc/cron.d/agent", WRITE).len(), 1);
}

#[test]
fn a_package_manager_writes_units_and_its_namesake_is_told() {
    let package = |exec: &mut Exec| exec.provenance = Provenance::Package;
    let unit = "/usr/lib/systemd/system/x.service";
    let mut host = Host::learned();
    let dpkg = who("/usr/bin/dpkg", 7);
    host.exec(&dpkg, package);
    assert!(host.open(&dpkg, unit, WRITE).is_empty());
    // What it starts is not it, and a script of that name isn't either.
    host.fork(&dpkg, 8);
    assert_eq!(host.open(&who("/bin/sh", 8), unit, WRITE).len(), 1);
    assert_eq!(host.open(&who("/usr/bin/dpkg", 9), unit, WRITE).len(), 1, "never seen to start");
    let false_dpkg = who("/tmp/dpkg", 10);
    host.exec(&false_dpkg, package);
    assert_eq!(host.open(&false_dpkg, unit, WRITE).len(), 1);
    host.exit(&dpkg);
    assert_eq!(host.open(&dpkg, unit, WRITE).len(), 1, "another process with its id");
}

#[test]
fn reading_secrets_is_told_unless_it_is_the_program_s_trade() {
    let mut host = Host::learned();
    let read = libc::O_RDONLY;
    assert!(host.open(&who("/usr/sbin/sshd", 5), "/etc/ssh/ssh_host_rsa_key", read).is_empty());
    assert!(host.open(&who("/usr/bin/sudo", 6), "/etc/shadow", read).is_empty());
    let cat = who("/bin/cat", 7);
    assert!(host.open(&cat, "/etc/passwd", read).is_empty());
    assert!(host.open(&cat, "/etc/shadow", libc::O_PATH).is_empty());
    assert!(host.open(&cat, "/etc/letsencrypt/live", libc::O_DIRECTORY).is_empty());
    assert_eq!(host.open(&cat, "/etc/shadow", read), did(Deed::Secret, "/etc/shadow"));
    let sudo = who("/usr/bin/sudo", 8);
    host.exec(&sudo, |exec| exec.provenance = Provenance::Modified);
    assert!(host.open(&sudo, "/etc/shadow", read).contains(&(Deed::Secret, "/etc/shadow".into())));
}

#[test]
fn a_secret_that_a_program_always_reads_is_silent() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.open(&web, "/etc/ssl/private/web.key", libc::O_RDONLY);
    host.end_learning();
    assert!(host.open(&web, "/etc/ssl/private/new.key", libc::O_RDONLY).is_empty());
    assert_eq!(host.open(&web, "/root/.ssh/id_rsa", libc::O_RDONLY).len(), 1);
}

#[test]
fn memory_of_another_process_is_told_and_one_s_own_is_not() {
    let mut host = Host::learned();
    let x = who("/usr/bin/x", 7);
    assert!(host.open(&x, "/proc/7/mem", libc::O_RDWR).is_empty());
    assert!(host.open(&x, "/proc/7/environ", libc::O_RDONLY).is_empty());
    let told = host.open(&x, "/proc/8/mem", libc::O_WRONLY);
    assert_eq!(told, did(Deed::Trace, "process 8 (memory)"));
    assert_eq!(host.open(&x, "/proc/8/environ", libc::O_RDONLY)[0].0, Deed::Secret);
}

#[test]
fn a_script_written_by_a_service_is_told_and_one_written_after_a_login_is_not() {
    let mut host = Host::learned();
    let worker = who("/usr/sbin/php-fpm", 7);
    assert!(host.open(&worker, "/srv/www/a.php", WRITE).is_empty(), "it serves nobody yet");
    assert!(host.call(&worker, libc::SYS_listen, &[3, 128]).is_empty());
    assert!(host.open(&worker, "/srv/www/a.log", WRITE).is_empty());
    assert!(host.open(&worker, "/srv/www/a.php", libc::O_RDONLY).is_empty());
    let told = host.open(&worker, "/srv/www/a.php", WRITE);
    assert_eq!(told, did(Deed::WroteCode, "/srv/www/a.php"));
    // Its children serve as it does, until somebody logs in.
    host.fork(&worker, 8);
    assert_eq!(host.open(&who("/usr/sbin/php-fpm", 8), "/srv/www/b.php", WRITE).len(), 1);
    host.fork(&worker, 9);
    let editor = who("/usr/bin/vim", 9);
    host.exec(&editor, |exec| exec.login_uid = 1000);
    assert!(host.open(&editor, "/srv/www/b.php", WRITE).is_empty());
}

#[test]
fn what_was_run_as_a_script_is_one_whatever_its_name() {
    let mut host = Host::learned();
    let web = who("/usr/sbin/web", 7);
    host.call(&web, libc::SYS_listen, &[3, 128]);
    assert!(host.open(&web, "/srv/bin/task", WRITE).is_empty());
    host.exec(&who("/bin/sh", 9).script("/srv/bin/task"), |_| ());
    assert_eq!(host.open(&web, "/srv/bin/task", WRITE), did(Deed::WroteCode, "/srv/bin/task"));
}

#[test]
fn scripts_are_learned_by_their_directory() {
    let mut host = Host::new();
    let web = who("/usr/sbin/web", 7);
    host.call(&web, libc::SYS_listen, &[3, 128]);
    host.open(&web, "/srv/cache/ab/12/x.php", WRITE);
    host.end_learning();
    assert!(host.open(&web, "/srv/cache/cd/34/y.php", WRITE).is_empty());
    assert_eq!(host.open(&web, "/srv/www/y.php", WRITE).len(), 1);
}

#[test]
fn a_file_that_is_renamed_or_linked_to_where_it_is_decided_what_runs_is_told() {
    for number in [
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_rename,
        libc::SYS_linkat,
        libc::SYS_link,
        libc::SYS_symlinkat,
        libc::SYS_symlink,
    ] {
        let mut host = Host::learned();
        let program = who("/usr/bin/x", 7);
        let mut named = |name, result| {
            let mut call = call(number, &[], Some(name));
            (call.claimed, call.result) = (true, result);
            host.event(&program, Origin::Call(Box::new(call)))
        };
        assert!(named("/srv/www/x", 0).is_empty());
        assert!(named("/etc/cron.d/x", -1).is_empty(), "it failed");
        assert!(named("etc/cron.d/x", 0).is_empty(), "it may be anywhere");
        let told = named("/etc/cron.d/x", 0);
        assert_eq!(told, did(Deed::Persistence, "/etc/cron.d/x (claimed)"));
    }
}

#[test]
fn a_deed_that_was_learned_of_a_rename_is_known_of_an_open() {
    let mut host = Host::new();
    let editor = who("/usr/bin/editor", 7);
    let mut renamed = call(libc::SYS_rename, &[], Some("/etc/cron.d/x"));
    renamed.claimed = true;
    host.event(&editor, Origin::Call(Box::new(renamed)));
    host.end_learning();
    assert!(host.open(&editor, "/etc/cron.d/y", libc::O_WRONLY).is_empty());
}

#[test]
fn openat2_writes_where_its_file_says_so() {
    let mut host = Host::learned();
    let program = who("/usr/bin/x", 7);
    let open = |flags| {
        let call = call(libc::SYS_openat2, &[0, 0, flags], Some("/etc/cron.d/x"));
        Origin::Call(Box::new(call))
    };
    assert!(host.event(&program, open(libc::O_RDONLY as u64)).is_empty());
    // An older capture has an address there.
    assert!(host.event(&program, open(0x7fff_0000_0001)).is_empty());
    let told = host.event(&program, open(libc::O_RDWR as u64));
    assert_eq!(told, did(Deed::Persistence, "/etc/cron.d/x"));
}
