use super::*;

#[test]
fn set_id_bits_are_told_and_other_modes_are_not() {
    let mut host = Host::learned();
    let cp = who("/usr/bin/chmod", 7);
    assert!(host.call(&cp, libc::SYS_fchmod, &[3, 0o755]).is_empty());
    let told = host.call(&cp, libc::SYS_fchmod, &[3, 0o4755]);
    assert_eq!(told, did(Deed::SetIdBit, "set-user-id on an open file"));
    let mut claimed = call(libc::SYS_fchmodat, &[0, 0, 0o6755], Some("/tmp/sh"));
    claimed.claimed = true;
    let told = host.event(&cp, Origin::Call(Box::new(claimed.clone())));
    assert_eq!(told, did(Deed::SetIdBit, "set-user-id on /tmp/sh (claimed)"));
    claimed.result = -1;
    assert!(host.event(&cp, Origin::Call(Box::new(claimed))).is_empty());
}

#[test]
fn a_file_may_be_made_with_a_set_id_bit() {
    let mut host = Host::learned();
    let flags = (libc::O_CREAT | libc::O_WRONLY) as u64;
    let open = |mode| {
        let call = call(libc::SYS_openat, &[0, 0, flags, mode], Some("/tmp/sh"));
        Origin::Call(Box::new(call))
    };
    assert!(host.event(&who("/bin/cp", 7), open(0o755)).is_empty());
    let told = host.event(&who("/bin/cp", 7), open(0o4755));
    assert_eq!(told, did(Deed::SetIdBit, "set-user-id on /tmp/sh"));
}

#[test]
fn directories_that_pass_on_their_group_excuse_no_set_user_id() {
    let mut host = Host::new();
    let install = who("/usr/bin/install", 7);
    host.call(&install, libc::SYS_fchmod, &[3, 0o2755]);
    host.end_learning();
    assert!(host.call(&install, libc::SYS_fchmod, &[3, 0o2775]).is_empty());
    assert_eq!(host.call(&install, libc::SYS_fchmod, &[3, 0o4755]).len(), 1);
}

#[test]
fn a_package_manager_makes_set_id_files_where_its_file_is_its_package_s() {
    for (provenance, uid, silent) in [
        (Provenance::Package, 0, true),
        (Provenance::Unknown, 0, false),
        (Provenance::Package, 1000, false),
    ] {
        let mut host = Host::learned();
        let dpkg = who("/usr/bin/dpkg", 7);
        host.exec(&dpkg, |exec| {
            exec.provenance = provenance;
            exec.uid = uid;
        });
        let told = host.call(&dpkg, libc::SYS_fchmod, &[3, 0o4755]);
        assert_eq!(told.is_empty(), silent, "{provenance:?} {uid}");
    }
}

#[test]
fn reaching_into_another_process_is_told_and_being_traced_is_not() {
    let gdb = who("/usr/bin/gdb", 7);
    let trace_me = 0;
    for request in [libc::PTRACE_ATTACH, libc::PTRACE_SEIZE, libc::PTRACE_POKETEXT] {
        let mut host = Host::learned();
        assert!(host.call(&gdb, libc::SYS_ptrace, &[trace_me, 0]).is_empty());
        assert_eq!(host.call(&gdb, libc::SYS_ptrace, &[u64::from(request), 77])[0].0, Deed::Trace);
    }
    let mut host = Host::learned();
    let told = host.call(&gdb, libc::SYS_process_vm_writev, &[77]);
    assert_eq!(told, did(Deed::Trace, "process 77 (write memory)"));
    assert!(host.call(&gdb, libc::SYS_process_vm_writev, &[7]).is_empty(), "its own");
}

#[test]
fn a_tracer_that_learning_saw_is_silent() {
    let mut host = Host::new();
    let gdb = who("/usr/bin/gdb", 7);
    host.call(&gdb, libc::SYS_process_vm_readv, &[77]);
    host.end_learning();
    assert!(host.call(&gdb, libc::SYS_process_vm_readv, &[78]).is_empty());
    assert_eq!(host.call(&who("/tmp/x", 9), libc::SYS_process_vm_readv, &[78]).len(), 1);
}

#[test]
fn namespaces_and_mounts_are_told_by_what_was_done() {
    let new_user = u64::try_from(libc::CLONE_NEWUSER).unwrap();
    let files = u64::try_from(libc::CLONE_FILES).unwrap();
    let mut host = Host::new();
    let sandbox = who("/usr/bin/bwrap", 7);
    host.call(&sandbox, libc::SYS_clone, &[new_user]);
    host.end_learning();
    assert!(host.call(&sandbox, libc::SYS_clone, &[new_user]).is_empty());
    assert_eq!(host.call(&sandbox, libc::SYS_setns, &[3, 0]), did(Deed::Namespace, "setns"));
    let mounts = [libc::SYS_mount, libc::SYS_move_mount, libc::SYS_fsmount];
    for number in mounts {
        assert_eq!(host.call(&sandbox, number, &[]), did(Deed::Namespace, "mount"));
    }
    let unshare = who("/usr/bin/unshare", 8);
    assert!(host.call(&unshare, libc::SYS_unshare, &[files]).is_empty());
    assert!(host.call(&unshare, libc::SYS_open_tree, &[0, 0, 0]).is_empty());
    assert_eq!(
        host.call(&unshare, libc::SYS_unshare, &[new_user]),
        did(Deed::Namespace, "unshare")
    );
}

#[test]
fn a_service_manager_makes_namespaces_unless_it_was_written_into_a_container() {
    for (provenance, silent) in [(Provenance::Unknown, true), (Provenance::Drift, false)] {
        let mut host = Host::learned();
        let systemd = who("/usr/lib/systemd/systemd", 1);
        host.exec(&systemd, |exec| exec.provenance = provenance);
        assert_eq!(host.call(&systemd, libc::SYS_mount, &[]).is_empty(), silent);
    }
    let mut host = Host::learned();
    assert_eq!(host.call(&who("/tmp/systemd", 7), libc::SYS_mount, &[]).len(), 1);
}

#[test]
fn code_for_the_kernel_is_told_and_its_maps_are_not() {
    let mut host = Host::learned();
    let tool = who("/usr/sbin/tool", 7);
    let (map_create, map_lookup, program_load) = (0, 1, 5);
    assert!(host.call(&tool, libc::SYS_bpf, &[map_create]).is_empty());
    assert!(host.call(&tool, libc::SYS_bpf, &[map_lookup]).is_empty());
    assert_eq!(host.call(&tool, libc::SYS_bpf, &[program_load]), did(Deed::Kernel, "bpf"));
    assert_eq!(host.call(&tool, libc::SYS_finit_module, &[3]), did(Deed::Kernel, "module"));
    assert_eq!(host.call(&tool, libc::SYS_kexec_file_load, &[3]), did(Deed::Kernel, "kexec"));
}

#[test]
fn io_uring_is_told_by_its_set_up_or_by_its_requests() {
    let uring = hedgerow_event::calls::Class::Uring.index();
    let mut host = Host::new();
    let database = who("/usr/bin/database", 6);
    host.row(&database, &[(uring, 3)]);
    host.end_learning();
    assert!(host.call(&database, libc::SYS_io_uring_setup, &[8]).is_empty());
    let other = who("/usr/bin/other", 7);
    assert!(host.row(&other, &[(uring + 1, 3)]).is_empty());
    assert_eq!(host.row(&other, &[(uring, 3)])[0].0, Deed::IoUring);
    assert_eq!(host.call(&other, libc::SYS_io_uring_setup, &[8]), did(Deed::IoUring, "set-up"));
}

#[test]
fn calls_outside_the_table_are_none() {
    let mut host = Host::learned();
    for number in [-1, 511, 512, i64::from(i32::MAX)] {
        assert!(host.call(&who("/bin/x", 7), number, &[]).is_empty());
    }
}

#[test]
fn a_child_in_namespaces_of_its_own_is_told_whichever_call_made_it() {
    for number in [libc::SYS_clone, libc::SYS_clone3] {
        let mut host = Host::learned();
        let program = who("/usr/bin/x", 7);
        assert!(host.call(&program, number, &[0]).is_empty());
        let told = host.call(&program, number, &[libc::CLONE_NEWUSER as u64]);
        assert_eq!(told, did(Deed::Namespace, "clone"));
    }
}

#[test]
fn memory_that_becomes_executable_is_told_of_who_never_did() {
    let (read, execute) = (libc::PROT_READ as u64, libc::PROT_EXEC as u64);
    for number in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        let mut host = Host::new();
        let jit = who("/usr/bin/java", 7);
        host.call(&jit, number, &[0, 4096, read | execute, 0x22]);
        host.end_learning();
        assert!(host.call(&jit, number, &[0, 4096, read | execute, 0x22]).is_empty());
        let plain = who("/usr/bin/cat", 8);
        assert!(host.call(&plain, number, &[0, 4096, read, 0x22]).is_empty());
        let told = host.call(&plain, number, &[0, 4096, read | execute, 0x22]);
        assert_eq!(told, did(Deed::RuntimeCode, ""));
    }
}

#[test]
fn packets_past_the_network_stack_are_told() {
    let mut host = Host::learned();
    let sniffer = who("/usr/bin/sniffer", 7);
    assert!(host.call(&sniffer, libc::SYS_socket, &[libc::AF_INET as u64]).is_empty());
    let told = host.call(&sniffer, libc::SYS_socket, &[libc::AF_PACKET as u64]);
    assert_eq!(told, did(Deed::Packets, "AF_PACKET"));
}

#[test]
fn rights_that_grew_without_a_call_that_grants_any_are_told() {
    let grew = i64::from(hedgerow_event::calls::CREDENTIALS_GREW);
    let mut host = Host::learned();
    let told = host.call(&who("/usr/bin/x", 7), grew, &[1000, 0, 0, 0x1ff]);
    assert_eq!(told, did(Deed::Credentials, "user 1000 became 0"));
    let told = host.call(&who("/usr/bin/y", 8), grew, &[1000, 1000, 1, 7]);
    assert_eq!(told, did(Deed::Credentials, "2 capabilities more"));
}
