//! The encoding against the schema's required attributes, the crate `ocsf-types` and golden files, which
//! `make ocsf-test` checks against the schema itself.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use hedgerow_event::{
    Action, Activity, Disposition, Level, Mode, Object, Program, Protocol, Share, Subject, Workload,
};
use hedgerow_sink::{
    JsonlSink, RECORD_BYTES_LIMIT, Report, Sink,
    ocsf::{DetectionFinding, RemediationActivity, finding_to_ocsf, remediation_to_ocsf},
};
use serde::Serialize;
use serde_json::{Value, json};

/// Required in every class of the schema's base event.
const BASE: [&str; 9] = [
    "/activity_id",
    "/category_uid",
    "/class_uid",
    "/type_uid",
    "/severity_id",
    "/time",
    "/metadata/version",
    "/metadata/product",
    "/device/type_id",
];

fn require(event: &Value, pointers: &[&str]) {
    for pointer in BASE.iter().chain(pointers) {
        let value = event.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
        assert!(!value.is_null(), "{pointer} is null");
    }
}

/// Everything that was written must be known to the schema's types and survive them.
fn survives<T: serde::de::DeserializeOwned + Serialize>(event: &Value) {
    let typed: T = serde_json::from_value(event.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), event);
}

#[test]
fn a_finding_is_a_detection_finding_of_the_schema() {
    let finding = common::finding(1);
    let encoded = finding_to_ocsf(&finding);
    let event = serde_json::to_value(&encoded).unwrap();
    require(
        &event,
        &[
            "/finding_info/uid",
            "/finding_info/title",
            "/finding_info/analytic/type_id",
            "/anomaly_analyses/0/analysis_targets/0/name",
            "/anomaly_analyses/0/anomalies/0/observation_parameter",
            "/anomaly_analyses/0/anomalies/0/observations/0/value",
            "/anomaly_analyses/0/baselines/0/observations/1/value",
        ],
    );
    assert_eq!(event["type_uid"], 200_401);
    assert_eq!(event["finding_info"]["analytic"]["type_id"], 4);
    assert_eq!(event["finding_info"]["uid"], finding.uid);
    assert_eq!(event["actor"]["user"]["uid"], "1000");
    assert_eq!(event["actor"]["user"]["name"], "carol");
    assert_eq!(event["actor"]["process"]["auid"], 1000);
    assert_eq!(event["actor"]["process"]["parent_process"]["pid"], 812);
    let connection = &event["evidences"][2]["connection_info"];
    assert_eq!(connection["protocol_ver_id"], 4);
    assert_eq!(
        (&connection["protocol_num"], &connection["protocol_name"]),
        (&6.into(), &"tcp".into())
    );
    assert_eq!(
        (&connection["direction_id"], &connection["direction"]),
        (&2.into(), &"Outbound".into())
    );
    let tags = serde_json::json!([
        { "name": "model_seed", "value": "0123456789abcdef" },
        { "name": "model_digest", "value": "a5".repeat(32) },
    ]);
    assert_eq!(event["finding_info"]["tags"], tags);
    assert_eq!(event["metadata"]["uid"], finding.report_uid());
    assert_eq!(event["time"], 1_790_000_001_250_i64);
    survives::<ocsf_types::DetectionFinding>(&event);
    common::golden("finding_create", &encoded);
    let back: DetectionFinding = serde_json::from_value(event).unwrap();
    assert_eq!(back.unmapped.finding, finding);
}

#[test]
fn a_finding_is_named_after_the_object_of_its_largest_share() {
    let mut finding = common::finding(1);
    let any = finding.attribution[0].clone();
    let share = |feature: &str, share| Share { feature: feature.into(), share, ..any.clone() };
    finding.attribution = vec![share("new_peer", 0.53), share("new_child", 0.13)];
    let report = Report::finding(&finding).unwrap();
    let said = "postgresql.service:/usr/bin/dash: new peer 203.0.113.7:4444 of /usr/bin/dash";
    assert_eq!(report.summary, said);
    assert_eq!(finding_to_ocsf(&finding).finding_info.title, said);
    let subject = finding.subject.clone();
    let count = |column: &str| Object::Count {
        subject: subject.clone(),
        column: column.into(),
        value: 90,
        largest: 8,
    };
    finding.objects = vec![count("files_opens_count"), count("flows_out_bytes")];
    finding.attribution = vec![share("flows_out_bytes", 0.9), share("files_opens_count", 0.1)];
    let said = finding_to_ocsf(&finding).base.message;
    assert!(said.ends_with("flows_out_bytes 90, at most 8 before"), "{said}");
}

#[test]
fn an_episode_in_a_pod_is_created_updated_and_closed() {
    let names = ["pod_create", "pod_update", "pod_close"];
    let events = common::episode().map(|finding| finding_to_ocsf(&finding));
    for ((name, encoded), activity) in names.into_iter().zip(&events).zip(1..) {
        let event = serde_json::to_value(encoded).unwrap();
        assert_eq!(event["activity_id"], activity);
        assert_eq!(event["type_uid"], 200_400 + activity);
        assert_eq!(event["resources"][0]["namespace"], "shop");
        assert_eq!(event["resources"][1]["name"], "web");
        assert_eq!(event["resources"][2]["name"], "web-5d4f8c6b7d-q8x2z");
        assert_eq!(event["evidences"][0]["container"]["name"], "nginx");
        let info = &event["finding_info"];
        assert_eq!(info.get("created_time").is_some(), activity == 1);
        assert_eq!(info.get("modified_time").is_some(), activity != 1);
        survives::<ocsf_types::DetectionFinding>(&event);
        common::golden(name, encoded);
    }
    let [create, update, close] = events;
    assert!(create.is_alert && update.is_alert && !close.is_alert);
    assert_eq!(create.finding_info.uid, close.finding_info.uid);
    assert_ne!(create.base.metadata.uid, update.base.metadata.uid);
}

#[test]
fn nobody_keeps_a_finding_about_himself_from_being_sent_by_what_he_calls_things() {
    let long = "\u{1}".repeat(4096);
    let subject = |number: usize| {
        let mut program = Program::new(format!("/{number}{long}"));
        program.script = Some(long.as_str().into());
        Arc::new(Subject::new(Workload::new(long.as_str()), program))
    };
    let mut finding = common::finding(1);
    finding.subject = subject(0);
    finding.reason = long.repeat(30);
    let pair = |number| Object::NewChild { parent: subject(number), child: subject(number + 1) };
    finding.objects.extend((0..64).map(pair));
    finding.attribution = vec![finding.attribution[0].clone(); 64];
    finding.claimed_names = vec![finding.claimed_names[0].clone(); 64];
    for claimed in &mut finding.claimed_names {
        claimed.name.clone_from(&long);
    }
    let process = finding.process.as_mut().unwrap();
    (process.path, process.command_line) = (long.clone(), long.clone());
    process.ancestors = vec![format!("/{long} (7)"); 16];
    let report = Report::finding(&finding).unwrap();
    let bytes = report.message.value.len();
    assert!((100_000..RECORD_BYTES_LIMIT).contains(&bytes), "{bytes}");
    let event: DetectionFinding = serde_json::from_slice(&report.message.value).unwrap();
    assert_eq!((report.uid, event.is_alert), (finding.report_uid(), true));
    assert!(event.risk_details.contains("shortened") && event.risk_details.contains(&finding.uid));
    assert_eq!(event.unmapped.finding.objects.len(), 16);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ecs.jsonl");
    let config = json!({ "path": path, "format": "ecs" });
    let mut sink = JsonlSink::start(&serde_json::from_value(config).unwrap()).unwrap();
    sink.take(&Report::finding(&finding).unwrap()).unwrap();
}

#[test]
fn what_is_suppressed_or_over_is_no_alert() {
    let mut finding = common::finding(1);
    assert!(finding_to_ocsf(&finding).is_alert);
    finding.disposition = Disposition::Suppressed;
    assert!(!finding_to_ocsf(&finding).is_alert);
    finding.disposition = Disposition::AlertOverBudget;
    finding.activity = Activity::Close;
    let close = finding_to_ocsf(&finding);
    assert!(!close.is_alert);
    assert_eq!(close.base.type_uid, 200_403);
    finding.p_value = None;
    finding.process = None;
    finding.objects.clear();
    survives::<ocsf_types::DetectionFinding>(
        &serde_json::to_value(finding_to_ocsf(&finding)).unwrap(),
    );
}

#[test]
fn peers_are_network_remediations_and_all_else_is_process_remediations() {
    for (target, name) in common::targets().into_iter().zip(common::TARGETS) {
        let remediation = common::remediation(target, Action::Block);
        let encoded = remediation_to_ocsf(&remediation);
        let event = serde_json::to_value(&encoded).unwrap();
        if name == "peer" {
            require(&event, &["/command_uid", "/connection_info/direction_id"]);
            assert_eq!(event["type_uid"], 700_401);
            survives::<ocsf_types::NetworkRemediationActivity>(&event);
        } else {
            // The schema wants a number or an id of every process.
            require(&event, &["/command_uid", "/process/uid"]);
            assert_eq!(event["type_uid"], 700_301);
            survives::<ocsf_types::ProcessRemediationActivity>(&event);
        }
        assert_eq!(event["metadata"]["uid"], remediation.report_uid());
        common::golden(&format!("remediation_{name}"), &encoded);
        let lifted = common::remediation(remediation.target.clone(), Action::Unblock);
        common::golden(&format!("remediation_{name}_lifted"), &remediation_to_ocsf(&lifted));
        let back: RemediationActivity = serde_json::from_value(event).unwrap();
        assert_eq!(back.unmapped.remediation, remediation);
    }
}

#[test]
fn the_outcome_says_what_the_kernel_really_does() {
    let [peer, _, program, ..] = common::targets();
    let outcome = |mode, level, action| {
        let mut remediation = common::remediation(program.clone(), action);
        remediation.mode = mode;
        remediation.level = level;
        let event = remediation_to_ocsf(&remediation);
        (event.base.activity_name, event.outcome.action)
    };
    let expect = |activity: &str, action: &str| (activity.to_owned(), action.to_owned());
    assert_eq!(
        outcome(Mode::Enforce, Level::KillsBeforeFirstInstruction, Action::Block),
        expect("Evict", "Denied")
    );
    assert_eq!(outcome(Mode::Monitor, Level::Counts, Action::Block), expect("Isolate", "Observed"));
    assert_eq!(outcome(Mode::Enforce, Level::Counts, Action::Block), expect("Isolate", "Observed"));
    assert_eq!(
        outcome(Mode::Enforce, Level::Prevents, Action::Unblock),
        expect("Restore", "Allowed")
    );
    let unblock = remediation_to_ocsf(&common::remediation(peer, Action::Unblock));
    assert_eq!(unblock.base.type_uid, 700_403);
}

#[test]
fn a_new_peer_tells_its_protocol_and_where_it_is() {
    let told = |address: &str, protocol| {
        let mut finding = common::finding(1);
        let Some(Object::NewPeer { peer, protocol: own, .. }) = finding.objects.last_mut() else {
            panic!("its last object is a peer")
        };
        (peer.address, *own) = (address.parse().unwrap(), protocol);
        let info = finding_to_ocsf(&finding).evidences.pop().unwrap().connection_info.unwrap();
        (info.direction_id, info.protocol_num, info.protocol_name.unwrap_or_default())
    };
    assert_eq!(told("192.0.2.1", Some(Protocol::Udp)), (2, Some(17), "udp".into()));
    assert_eq!(told("192.0.2.1", Some(Protocol::Icmp)), (2, Some(1), "icmp".into()));
    assert_eq!(told("2001:db8::1", Some(Protocol::Icmp)), (2, Some(58), "ipv6-icmp".into()));
    assert_eq!(told("2001:db8::1", Some(Protocol::Other)), (2, None, String::new()));
    assert_eq!(told("::1", Some(Protocol::Tcp)), (4, Some(6), "tcp".into()));
    // As an older version wrote it.
    assert_eq!(told("192.0.2.1", None), (2, None, String::new()));
    let old = r#"{"kind":"new_peer","subject":{"workload":"w","program":{"path":"/p"}},"peer":{"address":"192.0.2.1","port":1}}"#;
    let old: Object = serde_json::from_str(old).unwrap();
    assert!(matches!(old, Object::NewPeer { protocol: None, .. }));
}
