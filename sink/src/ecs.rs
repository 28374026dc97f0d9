//! Reports as the Elastic Common Schema has them (<https://www.elastic.co/docs/reference/ecs>).
//!
//! Made of the OCSF event, which carries the report whole, so that only sinks that ask for it pay for
//! it. What has no field of its own travels whole under `hedgerow`.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use chrono::{DateTime, SecondsFormat};
use hedgerow_event::{
    Action, Activity, Contact, Finding, FlowDirection, Level, Mode, Object, Process, Remediation,
    Target, gate,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Message, SinkError, Topic,
    ocsf::{
        Ancestor, DetectionFinding, Pod, RemediationActivity, base_name, claimed_name, iana, image,
    },
};

/// The version of the schema that every event names in `ecs.version`.
pub const ECS_VERSION: &str = "9.4.0";

/// How a sink encodes reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OCSF 1.8.
    #[default]
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
}

impl Format {
    /// A report in this format; heartbeats have one of their own.
    ///
    /// # Errors
    /// It can't be encoded, or is too large.
    pub(crate) fn of(self, message: &Message) -> Result<Cow<'_, Message>, SinkError> {
        match (self, message.topic) {
            (Self::Ocsf, _) | (Self::Ecs, Topic::Health) => Ok(Cow::Borrowed(message)),
            (Self::Ecs, Topic::Findings) => {
                let event: DetectionFinding = serde_json::from_slice(&message.value)?;
                recoded(message, "finding", &finding_to_ecs(&event)).map(Cow::Owned)
            }
            (Self::Ecs, Topic::Remediations) => {
                let event: RemediationActivity = serde_json::from_slice(&message.value)?;
                recoded(message, "remediation", &remediation_to_ecs(&event)).map(Cow::Owned)
            }
        }
    }
}

fn recoded(message: &Message, schema: &str, event: &Value) -> Result<Message, SinkError> {
    let mut headers = vec![
        ("content-type".into(), "application/json".into()),
        ("ecs-version".into(), ECS_VERSION.into()),
        ("schema-id".into(), format!("ecs:{ECS_VERSION}:{schema}")),
    ];
    let model = message.headers.iter().find(|(name, _)| name == "model-id");
    headers.extend(model.cloned());
    let value = gate::json(event)?.into_bytes();
    Message::checked(message.topic, message.key.clone(), headers, value)
}

fn network(contact: &Contact) -> Value {
    let iana = contact.protocol.and_then(|protocol| iana(protocol, contact.address));
    json!({
        "direction": match contact.direction {
            FlowDirection::Inbound => "ingress",
            FlowDirection::Outbound => "egress",
        },
        "type": if contact.address.is_ipv4() { "ipv4" } else { "ipv6" },
        "transport": iana.map(|(_, name)| name),
        "iana_number": iana.map(|(number, _)| number.to_string()),
    })
}

/// What names its new peers were asked for by, and those of pods that the API of Kubernetes has for them.
fn hosts(finding: &Finding) -> Option<Vec<String>> {
    let names = finding.claimed_names.iter().map(|claimed| claimed.name.clone());
    let pods = finding.peer_pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name));
    let names: Vec<String> = names.chain(pods).collect();
    (!names.is_empty()).then_some(names)
}

/// The pod, as far as it is known, with what the API of Kubernetes says of it.
fn resource(finding: &Finding, pod: Pod<'_>) -> Value {
    let told = finding.pod.as_ref();
    let name = finding.process.as_ref().and_then(|process| process.pod.as_ref());
    let mut resource = match name.or_else(|| told.and_then(|told| told.name.as_ref())) {
        Some(name) => json!({ "name": name, "type": "pod" }),
        None => json!({ "name": pod.owner }),
    };
    let Some(told) = told else { return resource };
    let labels: Vec<String> =
        told.labels.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    resource["label"] = if labels.is_empty() { Value::Null } else { json!(labels) };
    resource["parent"] = json!({ "type": told.owner.as_ref().map(|owner| &owner.kind) });
    resource
}

/// All of its peers, each once.
fn addresses(finding: &Finding) -> Option<Vec<IpAddr>> {
    let contacts = finding.objects.iter().filter_map(Object::contact);
    let addresses: BTreeSet<IpAddr> = contacts.map(|contact| contact.address).collect();
    (!addresses.is_empty()).then(|| addresses.into_iter().collect())
}

/// Encodes a Detection Finding.
#[must_use]
pub fn finding_to_ecs(event: &DetectionFinding) -> Value {
    let finding = &event.unmapped.finding;
    let process = finding.process.as_ref();
    // One event has room for one: a new peer first, whom a denial may be of.
    let is_peer = |object: &&Object| matches!(object, Object::NewPeer { .. });
    let peer = finding.objects.iter().find(is_peer).and_then(Object::contact);
    let contact = peer.or_else(|| finding.objects.iter().find_map(Object::contact));
    let end = |direction| {
        let contact = contact.filter(|contact| contact.direction == direction)?;
        let domain = claimed_name(finding, contact.address);
        Some(json!({ "ip": contact.address, "port": contact.port, "domain": domain }))
    };
    let mut categories = vec!["intrusion_detection"];
    categories.extend(process.map(|_| "process"));
    categories.extend(contact.map(|_| "network"));
    let pod = Pod::of(&finding.subject.workload);
    pruned(json!({
        "@timestamp": time(finding.time_ns),
        "ecs": { "version": ECS_VERSION },
        "message": event.base.message,
        "agent": agent(),
        "event": {
            "kind": if event.is_alert { "alert" } else { "event" },
            "category": categories,
            "type": ["info"],
            "module": "hedgerow",
            "dataset": "hedgerow.findings",
            "provider": "hedgerow",
            "id": finding.report_uid(),
            "action": match finding.activity {
                Activity::Create => "finding-created",
                Activity::Update => "finding-updated",
                Activity::Close => "finding-closed",
            },
            "sequence": finding.sequence,
            "start": time(finding.window_start_ns),
            "end": time(finding.window_end_ns),
            "severity": event.base.severity_id,
            "risk_score": event.risk_score,
            "reason": finding.reason,
        },
        "rule": {
            "id": finding.uid,
            "name": event.finding_info.analytic.name,
            "category": finding.class.name(),
            "version": finding.model_id,
        },
        "host": { "id": finding.host_id, "boot": { "id": finding.boot_id } },
        "service": { "name": finding.subject.workload },
        "orchestrator": pod.map(|pod| json!({
            "type": "kubernetes",
            "namespace": pod.namespace,
            "resource": resource(finding, pod),
        })),
        "container": {
            "id": process.and_then(|process| process.container.as_ref()),
            "name": pod.map(|pod| pod.container),
            "image": { "name": image(&finding.subject.workload) },
        },
        "process": process.map(process_fields),
        "user": process.map(user),
        "source": end(FlowDirection::Inbound),
        "destination": end(FlowDirection::Outbound),
        "network": contact.as_ref().map(network),
        "vulnerability": event.vulnerabilities.first().zip(finding.vulnerabilities.first()).map(
            |(known, one)| json!({ "id": one.id, "severity": known.severity }),
        ),
        "related": {
            "ip": addresses(finding),
            "hosts": hosts(finding),
            "user": process.and_then(users),
        },
        "hedgerow": { "finding": finding },
    }))
}

/// Encodes a remediation activity.
#[must_use]
pub fn remediation_to_ecs(event: &RemediationActivity) -> Value {
    let remediation = &event.unmapped.remediation;
    let (category, about) = match remediation.target {
        Target::Peer { .. } => ("network", "destination"),
        Target::User { .. } => ("network", "user"),
        _ => ("process", "process"),
    };
    let mut whole = json!({
        "@timestamp": time(remediation.time_ns),
        "ecs": { "version": ECS_VERSION },
        "message": event.base.message,
        "agent": agent(),
        "event": {
            "kind": "event",
            "category": ["intrusion_detection", category],
            "type": [kind(remediation)],
            "module": "hedgerow",
            "dataset": "hedgerow.remediations",
            "provider": "hedgerow",
            "id": remediation.report_uid(),
            "action": match remediation.action {
                Action::Block => "block",
                Action::Unblock => "unblock",
            },
            "outcome": "success",
            "reason": remediation.reason,
        },
        "rule": { "id": remediation.finding_uid, "uuid": remediation.uid, "name": remediation.rule },
        "host": { "id": remediation.host_id },
        "service": { "name": remediation.subject.as_ref().map(|subject| &subject.workload) },
        "hedgerow": { "remediation": remediation },
    });
    whole[about] = target(&remediation.target);
    pruned(whole)
}

/// Only an enforced entry that really refuses denies.
fn kind(remediation: &Remediation) -> &'static str {
    match (remediation.action, remediation.mode, remediation.level) {
        (Action::Unblock, ..) => "allowed",
        (Action::Block, _, Level::Counts) => "info",
        (Action::Block, Mode::Enforce, _) => "denied",
        (Action::Block, ..) => "info",
    }
}

/// An address only where it is one host's; what is wider stands under `hedgerow`.
fn target(target: &Target) -> Value {
    match target {
        Target::Peer { address, prefix_length, .. } => {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            json!({ "ip": (*prefix_length == whole).then_some(address) })
        }
        Target::TaskTree { tgid, start_boot_ns } => {
            json!({ "pid": tgid, "entity_id": format!("{tgid}-{start_boot_ns}") })
        }
        Target::Program { path, .. } => json!({ "executable": path, "name": base_name(path) }),
        Target::User { uid } => json!({ "id": uid.to_string() }),
        Target::Cgroup { .. } => Value::Null,
    }
}

fn agent() -> Value {
    json!({ "type": "hedgerow", "version": env!("CARGO_PKG_VERSION") })
}

fn process_fields(process: &Process) -> Value {
    let parent = process.ancestors.first().map(|text| Ancestor::told(text));
    json!({
        "pid": process.pid,
        "entity_id": format!("{}-{}", process.pid, process.start_boot_ns),
        "name": base_name(&process.path),
        "executable": process.path,
        "command_line": process.command_line,
        "user": { "id": process.user_id.to_string(), "name": process.user },
        "parent": parent.map(|parent| json!({
            "pid": parent.pid, "name": parent.name, "executable": parent.path,
        })),
    })
}

/// Who logged in, and as whom the process acts; where nobody did these are the same.
fn user(process: &Process) -> Value {
    let acting = json!({ "id": process.user_id.to_string(), "name": process.user });
    match process.login_user_id {
        Some(login) if login != process.user_id => {
            json!({
                "id": login.to_string(), "name": process.login_user, "effective": acting,
            })
        }
        _ => acting,
    }
}

/// The names of both.
fn users(process: &Process) -> Option<Vec<&str>> {
    let names = [&process.user, &process.login_user].into_iter().flatten();
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.dedup();
    (!names.is_empty()).then_some(names)
}

fn time(unix_ns: i64) -> String {
    DateTime::from_timestamp_nanos(unix_ns).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Without what is null or empty; `hedgerow` stays as it is.
fn pruned(event: Value) -> Value {
    let Value::Object(fields) = event else { return event };
    let prune = |(name, value): (String, Value)| {
        let value = if name == "hedgerow" { value } else { pruned(value) };
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        (!empty).then_some((name, value))
    };
    Value::Object(fields.into_iter().filter_map(prune).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(topic: Topic, value: &str) -> Message {
        let headers =
            vec![("ocsf-version".into(), "1.8.0".into()), ("model-id".into(), "m".into())];
        Message { topic, key: "host-a".into(), headers, value: value.into() }
    }

    #[test]
    fn a_record_keeps_its_topic_and_key_and_names_the_schema_that_it_is_in() {
        let golden = include_str!("../tests/golden/finding_create.json");
        let ocsf = message(Topic::Findings, golden);
        assert_eq!(*Format::Ocsf.of(&ocsf).unwrap(), ocsf);
        let ecs = Format::Ecs.of(&ocsf).unwrap();
        assert_eq!((ecs.topic, &*ecs.key), (Topic::Findings, "host-a"));
        let header = |wanted: &str| {
            let found = ecs.headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(header("schema-id"), Some("ecs:9.4.0:finding"));
        assert_eq!(header("model-id"), Some("m"));
        assert_eq!(header("ocsf-version"), None);
        let event: Value = serde_json::from_slice(&ecs.value).unwrap();
        let expected: Value =
            serde_json::from_str(include_str!("../tests/golden/ecs_finding.json")).unwrap();
        assert_eq!(event, expected);
    }

    #[test]
    fn a_heartbeat_stays_as_it_is_and_what_is_no_report_is_an_error() {
        let heartbeat = message(Topic::Health, "{}");
        assert_eq!(*Format::Ecs.of(&heartbeat).unwrap(), heartbeat);
        assert!(Format::Ecs.of(&message(Topic::Remediations, "{}")).is_err());
    }
}
