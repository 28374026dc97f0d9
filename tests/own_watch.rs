//! A hook that another process detaches is a finding of the top severity, on standard output and in
//! the findings' log.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use hedgerow_event::{Activity, Finding, Object, Severity};
use hedgerow_lab::{Daemon, Line};
use libbpf_rs::{
    libbpf_sys::{bpf_link_detach, bpf_link_get_fd_by_id},
    query::{LinkInfoIter, LinkTypeInfo, ProgInfoIter, ProgInfoQueryOptions},
};

const START_LIMIT: Duration = Duration::from_secs(120);
/// Some windows of five seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The daemon's own link of its packet counter, by the descriptors that it holds.
fn link(daemon: u32) -> OwnedFd {
    let held = |id: u32| {
        let descriptors = fs::read_dir(format!("/proc/{daemon}/fdinfo")).unwrap().flatten();
        let wanted = format!("link_id:\t{id}");
        descriptors
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .any(|text| text.lines().any(|line| line == wanted))
    };
    let programs = ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default());
    let counters: Vec<u32> = programs
        .filter(|info| info.name.to_str() == Some("on_flow_packet_"))
        .map(|info| info.id)
        .collect();
    let found = LinkInfoIter::default().find(|link| {
        let of_cgroup = matches!(link.info, LinkTypeInfo::Cgroup(_));
        of_cgroup && counters.contains(&link.prog_id) && held(link.id)
    });
    // SAFETY: a number; the answer is a new descriptor or negative.
    unsafe {
        let fd = bpf_link_get_fd_by_id(found.expect("the daemon counts packets").id);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// A busy host may do what is found while it is learned.
fn is_of_a_hook(finding: &Finding) -> bool {
    finding.objects.iter().any(|object| matches!(object, Object::Tampered { .. }))
}

fn next_finding(daemon: &Daemon, until: Instant) -> Option<Finding> {
    loop {
        match daemon.next(until).unwrap()? {
            Line::Finding(finding) if is_of_a_hook(&finding) => return Some(*finding),
            Line::Finding(_) | Line::Status(_) | Line::Remediation(_) => {}
        }
    }
}

#[test]
fn a_detached_hook_is_a_finding_of_the_top_severity() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let log = directory.path().join("log");
    let program = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    let arguments = ["--learn", "1h", "--state", state.to_str().unwrap()];
    let daemon = Daemon::start(program, &arguments, &log).unwrap();
    let first = daemon.next(Instant::now() + START_LIMIT).unwrap();
    assert!(matches!(first, Some(Line::Status(_))), "{first:?}");

    let link = link(daemon.id());
    // SAFETY: a link's descriptor.
    assert_eq!(unsafe { bpf_link_detach(link.as_raw_fd()) }, 0);
    let finding = next_finding(&daemon, Instant::now() + LIMIT).expect("a finding");
    assert_eq!((finding.severity, finding.disposition.is_alert()), (Severity::Critical, true));
    let [Object::Tampered { tampering, .. }] = finding.objects.as_slice() else {
        panic!("{finding:?}")
    };
    assert!(tampering.part.contains("on_flow_packet_"), "{tampering}");
    assert_eq!(&*tampering.how, "detached");
    // It is shown before it is logged.
    daemon.interrupt().unwrap();
    let log = fs::read_to_string(state.join("findings.jsonl")).unwrap();
    let logged: Vec<Finding> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|one| is_of_a_hook(one) && one.activity == Activity::Create)
        .collect();
    assert_eq!(logged, [finding], "told once");
}
