//! Detection Finding (class 2004).

use std::net::IpAddr;

use hedgerow_event::{
    Activity, Direction, Finding, FlowDirection, KnownVulnerability, Maturity, Object, Severity,
    Share,
};
use serde::{Deserialize, Serialize};

use super::object::{
    Actor, AffectedPackage, AnomalyAnalysis, ConnectionInfo, Container, Endpoint, File, Identified,
    NamedType, Observable, Observation, OcsfProcess, Outcome, Pattern, Resource, Tag, Timespan,
    User, Vulnerability,
};
use super::{Base, Class, Head, milliseconds};

/// `container` and `linux_users` (login user) are those of processes.
const PROFILES: &[&str] = &["host", "security_control", "container", "linux/linux_users"];
const CLASS: Class =
    Class { uid: 2004, name: "Detection Finding", category_uid: 2, category_name: "Findings" };

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectionFinding {
    #[serde(flatten)]
    pub base: Base,
    /// The scored window, milliseconds.
    pub start_time: i64,
    pub end_time: i64,
    pub status_id: u8,
    pub status: String,
    pub finding_info: FindingInfo,
    pub is_alert: bool,
    pub confidence_id: u8,
    pub confidence: String,
    /// 100 x (1 - p), p the probability of such within an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_score: Option<u8>,
    pub risk_level_id: u8,
    pub risk_level: String,
    /// 5 x the surprise in nats, at most 100.
    pub risk_score: u8,
    pub risk_details: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    pub anomaly_analyses: Vec<AnomalyAnalysis>,
    pub evidences: Vec<Evidence>,
    pub resources: Vec<Resource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vulnerabilities: Vec<Vulnerability>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observables: Vec<Observable>,
    pub unmapped: Unmapped,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingInfo {
    /// The same over create, update and close.
    pub uid: String,
    pub title: String,
    pub desc: String,
    pub types: Vec<String>,
    pub analytic: Analytic,
    /// `model_seed`: the seed of the model's forest; `model_digest`: the SHA-256 of the model as it was
    /// last saved or loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Of the report that creates it; `modified_time` of those that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<i64>,
    pub first_seen_time: i64,
    pub last_seen_time: i64,
}

/// `type_id` 4 is *Learning (ML/DL)*.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analytic {
    pub name: String,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: String,
    pub algorithm: String,
    /// Id of the model, the same however it goes on learning.
    pub uid: String,
}

/// One piece of evidence; `data` holds the object in Hedgerow's own terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<OcsfProcess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_info: Option<ConnectionInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Object>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unmapped {
    pub finding: Finding,
}

/// Encodes a finding as an OCSF Detection Finding.
#[must_use]
pub fn finding_to_ocsf(finding: &Finding) -> DetectionFinding {
    let severity = severity(finding.severity);
    let (status_id, status) = match finding.activity {
        Activity::Create | Activity::Update => (1, "New"),
        Activity::Close => (99, "Episode over"),
    };
    let (confidence_id, confidence) = match finding.state {
        Maturity::Learning => (1, "Low"),
        Maturity::Provisional => (2, "Medium"),
        Maturity::Mature => (3, "High"),
    };
    DetectionFinding {
        base: CLASS.base(Head {
            activity: match finding.activity {
                Activity::Create => (1, "Create"),
                Activity::Update => (2, "Update"),
                Activity::Close => (3, "Close"),
            },
            severity,
            time_ns: finding.time_ns,
            message: title(finding),
            uid: finding.report_uid(),
            correlation_uid: Some(finding.uid.clone()),
            sequence: Some(finding.sequence),
            host_id: &finding.host_id,
            boot_id: Some(&finding.boot_id),
            profiles: PROFILES,
        }),
        start_time: milliseconds(finding.window_start_ns),
        end_time: milliseconds(finding.window_end_ns),
        status_id,
        status: status.into(),
        finding_info: info(finding),
        is_alert: finding.disposition.is_alert() && finding.activity != Activity::Close,
        confidence_id,
        confidence: confidence.into(),
        confidence_score: finding.p_value.map(|p| percent(1.0 - p)),
        risk_level_id: severity.0 - 1,
        risk_level: if severity.0 == 1 { "Info" } else { severity.1 }.into(),
        risk_score: percent(finding.surprise / 20.0),
        risk_details: finding.reason.clone(),
        outcome: Outcome::observed(),
        actor: actor(finding),
        anomaly_analyses: vec![analysis(finding)],
        evidences: evidences(finding),
        resources: Resource::of(finding),
        vulnerabilities: finding.vulnerabilities.iter().map(vulnerability).collect(),
        observables: observables(finding),
        unmapped: Unmapped { finding: finding.clone() },
    }
}

fn vulnerability(known: &KnownVulnerability) -> Vulnerability {
    let uid = || Some(Identified { uid: known.id.clone() });
    let (cve, advisory) = match known.id.starts_with("CVE-") {
        true => (uid(), None),
        false => (None, uid()),
    };
    Vulnerability {
        cve,
        advisory,
        severity: known.severity.map(|known| severity(known).1.into()),
        affected_packages: vec![AffectedPackage {
            name: known.package.clone(),
            version: known.installed.clone(),
            fixed_in_version: known.fixed.clone(),
        }],
    }
}

fn severity(severity: Severity) -> (u8, &'static str) {
    let name = match severity {
        Severity::Informational => "Informational",
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    };
    (severity as u8, name)
}

fn title(finding: &Finding) -> String {
    match telling(finding) {
        Some(object) => format!("{}: {object}", finding.subject),
        None => format!("{}: unusual behaviour", finding.subject),
    }
}

/// The object of the largest share of what is told; the first where no share names one.
fn telling(finding: &Finding) -> Option<&Object> {
    let of = |share: &Share| {
        finding.objects.iter().find(|object| match object {
            Object::Count { column, .. } if *column == share.feature => true,
            object => object.deed().row().name == &*share.feature,
        })
    };
    // Each list of shares is sorted, and the one of what is told stands first.
    finding.attribution.iter().find_map(of).or_else(|| finding.objects.first())
}

fn info(finding: &Finding) -> FindingInfo {
    let created = finding.activity == Activity::Create;
    let told = milliseconds(finding.time_ns);
    FindingInfo {
        uid: finding.uid.clone(),
        title: title(finding),
        desc: finding.reason.clone(),
        types: finding.families.iter().map(ToString::to_string).collect(),
        analytic: Analytic {
            name: format!("Hedgerow {}", finding.class),
            type_id: 4,
            kind: "Learning (ML/DL)".into(),
            algorithm: "rates of deeds, isolation forest, nearest neighbours".into(),
            uid: finding.model_id.clone(),
        },
        tags: tags(finding),
        created_time: created.then_some(told),
        modified_time: (!created).then_some(told),
        first_seen_time: milliseconds(finding.window_start_ns),
        last_seen_time: milliseconds(finding.window_end_ns),
    }
}

fn tags(finding: &Finding) -> Vec<Tag> {
    let tag =
        |name: &str, value: Option<String>| value.map(|value| Tag { name: name.into(), value });
    let digest = finding.model_digest.map(|digest| digest.to_string());
    let tags = [tag("model_seed", finding.model_seed.clone()), tag("model_digest", digest)];
    tags.into_iter().flatten().collect()
}

fn analysis(finding: &Finding) -> AnomalyAnalysis {
    let window = Timespan::new(finding.window_start_ns, finding.window_end_ns);
    let surprise = Pattern {
        observation_parameter: format!("{}_surprise_nats", finding.class),
        observation_type: "Deviation Analysis".into(),
        observed_pattern: format!("told from {}", finding.floor),
        observations: vec![Observation {
            value: finding.surprise.to_string(),
            timespan: Some(window.clone()),
        }],
    };
    let score = Pattern {
        observation_parameter: "isolation_forest_score".into(),
        observation_type: "Deviation Analysis".into(),
        observed_pattern: "of the window, in (0, 1]".into(),
        observations: vec![Observation {
            value: finding.score.to_string(),
            timespan: Some(window.clone()),
        }],
    };
    let shares = finding.attribution.iter().map(|share| anomaly(share, &window));
    AnomalyAnalysis {
        analysis_targets: vec![NamedType {
            name: finding.subject.to_string(),
            kind: "program in workload".into(),
        }],
        anomalies: [surprise, score].into_iter().chain(shares).collect(),
        baselines: finding.attribution.iter().filter_map(baseline).collect(),
    }
}

fn anomaly(share: &Share, window: &Timespan) -> Pattern {
    let direction = match share.direction {
        Direction::Above => "above usual",
        Direction::Below => "below usual",
        Direction::Within => "within usual, unusual together with others",
    };
    Pattern {
        observation_parameter: share.feature.to_string(),
        observation_type: "Deviation Analysis".into(),
        observed_pattern: format!("{direction}; {:.1} % of {}", share.share * 100.0, share.of),
        observations: vec![Observation {
            value: share.value.to_string(),
            timespan: Some(window.clone()),
        }],
    }
}

/// The usual range of a feature: its 1 % and 99 % quantiles in training.
fn baseline(share: &Share) -> Option<Pattern> {
    let observation = |value: f64| Observation { value: value.to_string(), timespan: None };
    Some(Pattern {
        observation_parameter: share.feature.to_string(),
        observation_type: "Distribution Analysis".into(),
        observed_pattern: "1 % and 99 % quantile".into(),
        observations: vec![observation(share.usual_low?), observation(share.usual_high?)],
    })
}

fn actor(finding: &Finding) -> Option<Actor> {
    let process = finding.process.as_ref()?;
    let login = process
        .login_user_id
        .map(|uid| User { uid: uid.to_string(), name: process.login_user.clone() });
    Some(Actor { process: OcsfProcess::observed(process, &finding.subject.workload), user: login })
}

fn evidences(finding: &Finding) -> Vec<Evidence> {
    let workload = &finding.subject.workload;
    let process = finding.process.as_ref().map(|process| Evidence {
        name: "process".into(),
        process: Some(OcsfProcess::observed(process, workload)),
        container: Container::of(process, workload),
        ..Evidence::default()
    });
    process
        .into_iter()
        .chain(finding.objects.iter().map(|object| evidence(finding, object)))
        .collect()
}

fn evidence(finding: &Finding, object: &Object) -> Evidence {
    let (name, program) = match object {
        Object::NewProgram { subject } => ("new program", subject),
        Object::NewChild { child, .. } => ("new child", child),
        Object::NewPeer { subject, .. } => ("new peer", subject),
        Object::Privilege { subject, .. } => ("privilege change", subject),
        Object::ExecMemory { subject } => ("program from memory", subject),
        Object::ExecWritable { subject } => ("program from a writable place", subject),
        Object::Count { subject, .. } => ("count", subject),
        Object::Replaced { subject } => ("replaced program", subject),
        Object::Did { subject, deed, .. } => (deed.row().name, subject),
        Object::Tampered { subject, .. } => ("tampering", subject),
    };
    let contact = object.contact();
    let end = |direction| {
        let contact = contact.filter(|contact| contact.direction == direction)?;
        Some(Endpoint {
            ip: contact.address.to_string(),
            name: peer_pod(finding, contact.address),
            hostname: claimed_name(finding, contact.address),
            port: contact.port,
        })
    };
    Evidence {
        name: name.into(),
        file: (!subject_is_synthetic(program)).then(|| File::regular(&program.program.path)),
        connection_info: contact.as_ref().map(ConnectionInfo::of),
        src_endpoint: end(FlowDirection::Inbound),
        dst_endpoint: end(FlowDirection::Outbound),
        data: Some(object.clone()),
        ..Evidence::default()
    }
}

/// The host and merged subjects stand for no file.
fn subject_is_synthetic(subject: &hedgerow_event::Subject) -> bool {
    subject.program.path.starts_with('(')
}

/// By which name an address was asked for, where an answer said one.
pub(crate) fn claimed_name(finding: &Finding, address: IpAddr) -> Option<String> {
    let claimed = finding.claimed_names.iter().find(|claimed| claimed.address == address);
    claimed.map(|claimed| claimed.name.clone())
}

/// `NAMESPACE/POD` of an address, where the API said one.
fn peer_pod(finding: &Finding, address: IpAddr) -> Option<String> {
    let pod = finding.peer_pods.iter().find(|pod| pod.address == address);
    pod.map(|pod| format!("{}/{}", pod.namespace, pod.name))
}

fn observables(finding: &Finding) -> Vec<Observable> {
    let name = "evidences[].dst_endpoint.hostname";
    let names = finding.claimed_names.iter();
    let names = names.map(|claimed| Observable::hostname(name, claimed.name.clone()));
    finding.objects.iter().filter_map(observable).chain(names).collect()
}

fn observable(object: &Object) -> Option<Observable> {
    let contact = object.contact()?;
    let name = match contact.direction {
        FlowDirection::Inbound => "evidences[].src_endpoint.ip",
        FlowDirection::Outbound => "evidences[].dst_endpoint.ip",
    };
    Some(Observable::address(name, contact.address.to_string()))
}

/// A fraction as a whole number of percent, clamped to 0..=100.
fn percent(fraction: f64) -> u8 {
    // NaN and out-of-range values saturate; the cast itself can't overflow after the clamp.
    (fraction * 100.0).round().clamp(0.0, 100.0) as u8
}
