//! Findings and remediations that tests send.
#![allow(dead_code, clippy::unwrap_used)]

use std::{net::IpAddr, sync::Arc};

use hedgerow_event::{
    Action, Activity, ApiOwner, ApiPod, ClaimedName, Class, Contact, Deed, Digest, Direction,
    Disposition, Family, FileKey, Finding, FlowDirection, KnownVulnerability, Level, Loss,
    Maturity, Mode, Object, Peer, PeerPod, Process, Program, Protocol, Remediation, Rule, Scale,
    Severity, Share, Subject, Tampering, Target, Workload,
};
use serde::Serialize;

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
        first_alert: Some(true),
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
            Object::NewPeer {
                subject: shell,
                peer: Peer { address, port: 4444 },
                protocol: Some(Protocol::Tcp),
            },
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
            login_user_id: Some(1000),
            login_user: Some("carol".into()),
            ancestors: vec![
                "/usr/lib/postgresql/postgres (812)".into(),
                "/usr/lib/systemd/systemd (1)".into(),
            ],
            container: None,
            pod: None,
        }),
        loss: Loss::default(),
        model_id: "model-1".into(),
        model_digest: Some(Digest([0xa5; 32])),
        model_seed: Some("0123456789abcdef".into()),
        claimed_names: vec![ClaimedName { address, name: "c2.example.net".into() }],
        vulnerabilities: vec![
            KnownVulnerability {
                id: "CVE-2026-4242".into(),
                severity: Some(Severity::High),
                package: "dash".into(),
                installed: "0.5.12-2".into(),
                fixed: Some("0.5.12-3".into()),
                as_of_ns: 1_789_000_000_000_000_000,
            },
            KnownVulnerability {
                id: "GHSA-7777-4242".into(),
                severity: None,
                package: "dash".into(),
                installed: "0.5.12-2".into(),
                fixed: None,
                as_of_ns: 1_789_000_000_000_000_000,
            },
        ],
        pod: None,
        peer_pods: Vec::new(),
        reason: "a new child and a new peer, above every held-back window".into(),
    }
}

/// The same of another workload.
pub fn of_workload(finding: Finding, workload: &str) -> Finding {
    let program = finding.subject.program.clone();
    let subject = Arc::new(Subject::new(Workload::new(workload), program));
    Finding { subject, ..finding }
}

/// An episode in a pod, from its create to its close, with all kinds of objects.
pub fn episode() -> [Finding; 3] {
    let subject = |path: &str| {
        Arc::new(Subject::new(Workload::new("k8s:shop/web/nginx"), Program::new(path)))
    };
    let shell = subject("/bin/sh");
    let peer = Peer { address: "2001:db8::7".parse().unwrap(), port: 443 };
    let mut create = finding(2);
    create.subject = shell.clone();
    create.claimed_names = Vec::new();
    create.vulnerabilities = Vec::new();
    create.objects = vec![
        Object::NewProgram { subject: shell.clone() },
        Object::NewPeer { subject: shell.clone(), peer, protocol: Some(Protocol::Udp) },
        Object::Privilege { subject: shell.clone(), uid_from: 33, uid_to: 0 },
        Object::ExecMemory { subject: subject("memfd") },
        Object::ExecWritable { subject: subject("/tmp/x") },
        Object::Replaced { subject: subject("/usr/sbin/nginx") },
        Object::Did {
            subject: shell.clone(),
            deed: Deed::SocketStreams,
            what: "".into(),
            contact: None,
        },
        Object::Did {
            subject: shell,
            deed: Deed::NewSource,
            what: "203.0.113.5".into(),
            contact: Some(Contact {
                address: [203, 0, 113, 5].into(),
                port: None,
                direction: FlowDirection::Inbound,
                protocol: Some(Protocol::Tcp),
            }),
        },
        Object::Tampered {
            subject: Arc::new(Subject::host()),
            tampering: Tampering::new("map deny", "an entry was removed"),
        },
    ];
    if let Some(process) = &mut create.process {
        process.container = Some("0123456789ab".repeat(5));
        process.pod = Some("web-5d4f8c6b7d-q8x2z".into());
        process.ancestors = vec!["?".into(), "odd) (x)".into()];
        process.user = None;
        process.login_user = None;
    }
    let owner = |kind: &str, name: &str| Some(ApiOwner { kind: kind.into(), name: name.into() });
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    create.pod = Some(ApiPod {
        namespace: "shop".into(),
        name: Some("web-5d4f8c6b7d-q8x2z".into()),
        owner: owner("Deployment", "web"),
        labels: [label("app.kubernetes.io/name", "web"), label("pod-template-hash", "5d4f8c6b7d")]
            .into(),
        labels_more: false,
        as_of_ns: 1_790_000_000_000_000_000,
    });
    create.peer_pods = vec![PeerPod {
        address: peer.address,
        namespace: "shop".into(),
        name: "db-0".into(),
        owner: owner("StatefulSet", "db"),
        as_of_ns: 1_790_000_000_000_000_000,
    }];
    let later = |activity, sequence| {
        let time_ns = create.time_ns + 60_000_000_000 * i64::from(sequence);
        Finding { activity, sequence, first_alert: Some(false), time_ns, ..create.clone() }
    };
    let update = Finding { surprise: 30.0, ..later(Activity::Update, 1) };
    let close = later(Activity::Close, 2);
    [create, update, close]
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

/// Names of the golden files of [`targets`].
pub const TARGETS: [&str; 6] = ["peer", "task", "program", "cgroup", "program_network", "user"];

pub fn targets() -> [Target; 6] {
    let program = |network| Target::Program {
        cgroup_id: 4711,
        file: FileKey { device: 1, inode: 2, generation: 3 },
        path: "/tmp/implant".into(),
        network,
    };
    [
        Target::Peer {
            address: IpAddr::from([203, 0, 113, 7]),
            prefix_length: 32,
            cgroup_id: 4711,
            program_id: 0,
        },
        Target::TaskTree { tgid: 4711, start_boot_ns: 123_456_789 },
        program(false),
        Target::Cgroup { cgroup_id: 4711, path: "/system.slice/postgresql.service".into() },
        program(true),
        Target::User { uid: 1000 },
    ]
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it.
pub fn golden(name: &str, event: &impl Serialize) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = serde_json::to_string_pretty(event).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{path}");
}
