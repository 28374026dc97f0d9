//! The reference of what is written is what is written.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use hedgerow_event::{
    Activity, ApiOwner, ApiPod, ClaimedName, Class, Digest, Direction, Disposition, Family,
    Finding, KnownVulnerability, Loss, Maturity, Object, PeerPod, Process, Program, Scale,
    Severity, Share, Subject, Workload,
};
use hedgerow_offline::schema::{FINDING, markdown};
use serde_json::Value;

/// A finding with all that one can have.
fn whole() -> Finding {
    let program = Program { path: "/usr/bin/python3".into(), script: Some("/srv/x.py".into()) };
    let subject = Arc::new(Subject::new(Workload::new("web.service"), program));
    let owner = || ApiOwner { kind: "Deployment".into(), name: "web".into() };
    Finding {
        uid: "1".into(),
        activity: Activity::Create,
        sequence: 0,
        first_alert: Some(true),
        host_id: "a".into(),
        boot_id: "b".into(),
        subject: Arc::clone(&subject),
        scale: Scale::Seconds5,
        early: false,
        window_start_ns: 1,
        window_end_ns: 2,
        time_ns: 3,
        state: Maturity::Mature,
        severity: Severity::High,
        disposition: Disposition::Alert,
        score: 0.7,
        class: Class::Novelty,
        surprise: 9.0,
        floor: 8.0,
        p_value: Some(0.1),
        families: vec![Family::Files],
        objects: vec![Object::NewProgram { subject }],
        attribution: vec![Share {
            feature: "calls_count".into(),
            value: 1.0,
            usual_low: Some(0.0),
            usual_high: Some(1.0),
            direction: Direction::Above,
            share: 1.0,
            of: "x".into(),
        }],
        process: Some(Process {
            user: Some("carol".into()),
            login_user_id: Some(1000),
            login_user: Some("carol".into()),
            ancestors: vec!["/sbin/init".into()],
            container: Some("c".into()),
            pod: Some("p".into()),
            ..Process::default()
        }),
        loss: Loss::default(),
        model_id: "m".into(),
        model_digest: Some(Digest([7; 32])),
        model_seed: Some("s".into()),
        claimed_names: vec![ClaimedName { address: [192, 0, 2, 1].into(), name: "n".into() }],
        vulnerabilities: vec![KnownVulnerability {
            id: "i".into(),
            severity: Some(Severity::High),
            package: "p".into(),
            installed: "1".into(),
            fixed: Some("2".into()),
            as_of_ns: 1,
        }],
        pod: Some(ApiPod {
            namespace: "n".into(),
            name: Some("p".into()),
            owner: Some(owner()),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            labels_more: true,
            as_of_ns: 1,
        }),
        peer_pods: vec![PeerPod {
            address: [192, 0, 2, 1].into(),
            namespace: "n".into(),
            name: "p".into(),
            owner: Some(owner()),
            as_of_ns: 1,
        }],
        reason: "r".into(),
    }
}

/// Paths of a JSON value with their types; below an object of a finding only its kind is a field.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<(String, &'static str)>) {
    match value {
        Value::Object(fields_of) => {
            let known = |(name, _): &(&String, &Value)| path != "objects[]" || *name == "kind";
            for (name, value) in fields_of.iter().filter(known) {
                let dot = if path.is_empty() { "" } else { "." };
                // What labels are called is whoever runs the pod's to say.
                let name = if path == "pod.labels" { "*" } else { name };
                fields(value, &format!("{path}{dot}{name}"), into);
            }
        }
        Value::Array(values) => {
            values.iter().for_each(|value| fields(value, &format!("{path}[]"), into));
        }
        Value::String(_) => drop(into.insert((path.to_owned(), "string"))),
        Value::Number(_) => drop(into.insert((path.to_owned(), "number"))),
        Value::Bool(_) => drop(into.insert((path.to_owned(), "boolean"))),
        Value::Null => panic!("{path} is null"),
    }
}

#[test]
fn every_field_of_a_finding_is_told_with_its_type() {
    let mut found = BTreeSet::new();
    fields(&serde_json::to_value(whole()).unwrap(), "", &mut found);
    let told: BTreeSet<(String, &str)> = FINDING
        .iter()
        .map(|(path, kind, _)| ((*path).to_owned(), kind.trim_end_matches(" or null")))
        .collect();
    assert_eq!(found, told);
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema.md");
    if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == markdown(),
        "docs/schema.md is out of date: HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-offline \
         --test verbs"
    );
}
