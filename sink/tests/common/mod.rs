//! Findings and remediations that tests send.
#![allow(dead_code)]

use std::{net::IpAddr, sync::Arc};

use hedgerow_event::{
    Action, Activity, Class, Direction, Disposition, Family, FileKey, Finding, Level, Loss,
    Maturity, Mode, Object, Peer, Process, Program, Remediation, Rule, Scale, Severity, Share,
    Subject, Target, Workload,
};

pub fn finding(number: u32) -> Finding {
    let subject = |path: &str| {
        Arc::new(Subject::new(Workload::new("postgresql.service"), Program::new(path)))
    };
    let shell = subject("/usr/bin/dash");
    let address = IpAddr::from([203, 0, 113, 7]);
    Finding {
        uid: format!("5f2c{number:012x}"),
        activity: Activity::Create,
        sequence: 0,
        host_id: "host-a".into(),
        boot_id: "0d1c4b6e-7f31-4c52-9b52-3f1d1a4d1c11".into(),
        subject: shell.clone(),
        scale: Scale::Seconds5,
        early: true,
        window_start_ns: 1_790_000_000_000_000_000,
        window_end_ns: 1_790_000_005_000_000_000,
        time_ns: 1_790_000_001_250_000_000 + i64::from(number),
        state: Maturity::Provisional,
        severity: Severity::High,
        disposition: Disposition::Alert,
        score: 0.8125,
        class: Class::Intrinsic,
        surprise: 12.5,
        floor: 5.25,
        p_value: Some(0.0078125),
        families: vec![Family::Order, Family::Novelty],
        objects: vec![
            Object::NewChild {
                parent: subject("/usr/lib/postgresql/postgres"),
                child: shell.clone(),
            },
            Object::NewPeer { subject: shell, peer: Peer { address, port: 4444 } },
        ],
        attribution: vec![
            Share {
                feature: "order_unseen6_share".into(),
                value: 0.75,
                usual_low: Some(0.0),
                usual_high: Some(0.03125),
                direction: Direction::Above,
                share: 0.75,
                of: "path surprise (bits)".into(),
            },
            Share {
                feature: "novelty_peers_count".into(),
                value: 1.0,
                usual_low: None,
                usual_high: None,
                direction: Direction::Above,
                share: 0.25,
                of: "path surprise (bits)".into(),
            },
        ],
        process: Some(Process {
            pid: 4711,
            start_boot_ns: 123_456_789,
            path: "/usr/bin/dash".into(),
            command_line: "sh -c id".into(),
            user_id: 114,
            user: Some("postgres".into()),
            login_user_id: None,
            ancestors: vec!["postgres".into(), "systemd".into()],
            container: None,
        }),
        loss: Loss::default(),
        model_id: "model-1".into(),
        reason: "a new child and a new peer, above every held-back window".into(),
    }
}

pub fn remediation(target: Target, action: Action) -> Remediation {
    Remediation {
        uid: "entry-1".into(),
        finding_uid: Some("5f2c000000000001".into()),
        action,
        target,
        subject: None,
        rule: Rule::NewProgramNewPeer,
        mode: Mode::Enforce,
        level: Level::Prevents,
        host_id: "host-a".into(),
        time_ns: 1_790_000_001_500_000_000,
        expires_ns: 1_790_000_061_500_000_000,
        hits: 3,
        sockets_destroyed: 1,
        reason: "new program with a new peer".into(),
    }
}

pub fn targets() -> [Target; 4] {
    [
        Target::Peer {
            address: IpAddr::from([203, 0, 113, 7]),
            prefix_length: 32,
            cgroup_id: 4711,
            program_id: 0,
        },
        Target::TaskTree { tgid: 4711, start_boot_ns: 123_456_789 },
        Target::Program {
            cgroup_id: 4711,
            file: FileKey { device: 1, inode: 2, generation: 3 },
            path: "/tmp/implant".into(),
        },
        Target::Cgroup { cgroup_id: 4711, path: "/system.slice/postgresql.service".into() },
    ]
}
