//! The Elastic Common Schema: golden files, what the fields say, and the sinks that are asked for it.
//! `make ocsf-test` checks each field of the golden files against Elastic's own list.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use hedgerow_event::{Action, Mode};
use hedgerow_sink::{
    Format, JsonlConfig, JsonlSink, Report, Sink,
    ecs::{finding_to_ecs, remediation_to_ecs},
    ocsf::{finding_to_ocsf, remediation_to_ocsf},
};
use serde_json::Value;

#[test]
fn findings_and_remediations_are_events_of_the_schema() {
    let [create, update, close] = common::episode();
    let named = [
        ("ecs_finding", common::finding(1)),
        ("ecs_pod_create", create),
        ("ecs_pod_update", update),
        ("ecs_pod_close", close),
    ];
    for (name, finding) in named {
        let event = finding_to_ecs(&finding_to_ocsf(&finding));
        assert_eq!(event["event"]["id"], finding.report_uid());
        assert_eq!(event["hedgerow"]["finding"], serde_json::to_value(&finding).unwrap());
        common::golden(name, &event);
    }
    for (target, name) in common::targets().into_iter().zip(common::TARGETS) {
        let remediation = common::remediation(target, Action::Block);
        let event = remediation_to_ecs(&remediation_to_ocsf(&remediation));
        assert_eq!(event["event"]["type"][0], "denied");
        common::golden(&format!("ecs_remediation_{name}"), &event);
    }
}

#[test]
fn who_logged_in_is_told_beside_whom_the_process_acts_as() {
    let mut finding = common::finding(1);
    let user = |finding: &_| finding_to_ecs(&finding_to_ocsf(finding))["user"].take();
    assert_eq!(
        user(&finding),
        serde_json::json!({ "id": "1000", "name": "carol", "effective": { "id": "114", "name": "postgres" } })
    );
    let whole = finding_to_ecs(&finding_to_ocsf(&finding));
    assert_eq!(whole["related"]["user"], serde_json::json!(["postgres", "carol"]));
    finding.process.as_mut().unwrap().login_user_id = None;
    assert_eq!(user(&finding), serde_json::json!({ "id": "114", "name": "postgres" }));
    finding.process = None;
    assert_eq!(user(&finding), Value::Null);
}

#[test]
fn what_only_counts_denies_nothing_and_no_prefix_is_an_address() {
    let [peer, ..] = common::targets();
    let mut remediation = common::remediation(peer, Action::Block);
    remediation.mode = Mode::Monitor;
    let ecs = |remediation: &_| remediation_to_ecs(&remediation_to_ocsf(remediation));
    assert_eq!(ecs(&remediation)["event"]["type"][0], "info");
    assert_eq!(ecs(&remediation)["destination"]["ip"], "203.0.113.7");
    if let hedgerow_event::Target::Peer { prefix_length, .. } = &mut remediation.target {
        *prefix_length = 24;
    }
    assert_eq!(ecs(&remediation).get("destination"), None);
    remediation.action = Action::Unblock;
    assert_eq!(ecs(&remediation)["event"]["type"][0], "allowed");
}

#[test]
fn a_file_holds_the_format_that_it_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let [peer, ..] = common::targets();
    let report = Report::finding(&common::finding(1)).unwrap();
    let block = Report::remediation(&common::remediation(peer, Action::Block)).unwrap();
    for (format, marker) in [(Format::Ocsf, "/metadata/version"), (Format::Ecs, "/ecs/version")] {
        let path = home.path().join(format!("{format:?}"));
        let config = JsonlConfig { path: path.clone(), max_bytes: 1 << 20, keep: 1, format };
        let mut sink: Box<dyn Sink> = Box::new(JsonlSink::start(&config).unwrap());
        sink.take(&report).unwrap();
        sink.take(&block).unwrap();
        assert_eq!(sink.stop(Duration::from_secs(60)).delivered, 2);
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.pointer(marker).is_some()), "{text}");
    }
}
