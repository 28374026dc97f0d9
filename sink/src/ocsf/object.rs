//! Objects of the schema that events are made of.

use std::net::IpAddr;

use hedgerow_event::{Contact, Finding, FlowDirection, Process, Protocol, Workload};
use serde::{Deserialize, Serialize};

use super::milliseconds;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    pub name: String,
    pub vendor_name: String,
    pub version: String,
}

impl Product {
    pub(super) fn hedgerow() -> Self {
        Self {
            name: "Hedgerow".into(),
            vendor_name: "Hedgerow".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// The host; `type_id` 0 is *unknown*.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub uid: String,
    pub type_id: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_uid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file; `type_id` 1 is a regular file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    pub name: String,
    pub path: String,
    pub type_id: u8,
}

impl File {
    pub(super) fn regular(path: &str) -> Self {
        Self { name: base_name(path).into(), path: path.into(), type_id: 1 }
    }
}

/// A container. In Kubernetes its workload names it, its pod's owner and their namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<String>,
}

impl Container {
    /// Of a process in a workload; nothing where neither tells of one.
    pub(super) fn of(process: &Process, workload: &Workload) -> Option<Self> {
        let pod = Pod::of(workload);
        let name = pod.map(|pod| pod.container).or_else(|| image(workload));
        if process.container.is_none() && name.is_none() {
            return None;
        }
        Some(Self {
            uid: process.container.clone(),
            name: name.map(Into::into),
            orchestrator: pod.map(|_| "Kubernetes".into()),
        })
    }
}

/// Where a workload stands in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pod<'a> {
    pub namespace: &'a str,
    pub owner: &'a str,
    pub container: &'a str,
}

impl<'a> Pod<'a> {
    /// Of `k8s:NAMESPACE/OWNER/CONTAINER`.
    pub(crate) fn of(workload: &'a Workload) -> Option<Self> {
        let mut parts = workload.as_str().strip_prefix("k8s:")?.splitn(3, '/');
        let (namespace, owner, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { namespace, owner, container })
    }
}

/// The image that a container outside of Kubernetes is named by.
pub(crate) fn image(workload: &Workload) -> Option<&str> {
    workload.as_str().strip_prefix("image:")
}

/// An ancestor; told as `PATH (PID)`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ancestor {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Ancestor {
    pub(crate) fn told(text: &str) -> Self {
        let told = text.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
        let numbered = told.and_then(|(path, pid)| Some((path, pid.parse().ok()?)));
        let (path, pid) = numbered.map_or((text, None), |(path, pid)| (path, Some(pid)));
        Self {
            name: base_name(path).into(),
            pid,
            path: path.starts_with('/').then(|| path.to_owned()),
        }
    }
}

/// Who acted: the process, and the user who logged in, whom a change of user doesn't change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    pub process: OcsfProcess,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedType {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// What was concerned; `namespace` is Kubernetes'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels of a pod, as the API of Kubernetes says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

impl Resource {
    /// The workload, and in Kubernetes what its pod belongs to, and the pod where its name is known; then what
    /// the API says that the pod belongs to, by its kind.
    pub(super) fn of(finding: &Finding) -> Vec<Self> {
        let (workload, process) = (&finding.subject.workload, finding.process.as_ref());
        let resource = |name: &str, kind: &str, namespace: Option<&str>| Self {
            name: name.into(),
            kind: kind.into(),
            namespace: namespace.map(Into::into),
            tags: Vec::new(),
        };
        let pod = Pod::of(workload);
        let namespace = pod.map(|pod| pod.namespace);
        let mut resources = vec![resource(workload.as_str(), "workload", namespace)];
        resources.extend(pod.map(|pod| resource(pod.owner, "pod owner", namespace)));
        let told = finding.pod.as_ref();
        let name = process.and_then(|process| process.pod.as_deref());
        let name = name.or_else(|| told.and_then(|told| told.name.as_deref()));
        let labels = told.into_iter().flat_map(|told| &told.labels);
        let tags: Vec<Tag> =
            labels.map(|(name, value)| Tag { name: name.clone(), value: value.clone() }).collect();
        resources.extend(name.map(|name| Self { tags, ..resource(name, "pod", namespace) }));
        let owner = told.and_then(|told| told.owner.as_ref());
        resources.extend(owner.map(|owner| resource(&owner.name, &owner.kind, namespace)));
        resources
    }
}

/// A process; `uid` is its pid and its start time since boot, which name it for good.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OcsfProcess {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd_line: Option<String>,
    /// Login (audit) user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_process: Option<Ancestor>,
    /// Parent first, up to init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestry: Vec<Ancestor>,
}

impl OcsfProcess {
    pub(super) fn task(pid: u32, start_boot_ns: u64) -> Self {
        Self { pid: Some(pid), uid: Some(format!("{pid}-{start_boot_ns}")), ..Self::default() }
    }
    /// Of no process in particular: `uid` names what its processes have in common.
    pub(super) fn any(uid: String, name: &str) -> Self {
        Self { name: Some(name.into()), uid: Some(uid), ..Self::default() }
    }
    pub(super) fn program(path: &str) -> Self {
        Self {
            name: Some(base_name(path).into()),
            path: Some(path.into()),
            file: Some(File::regular(path)),
            ..Self::default()
        }
    }
    pub(super) fn observed(process: &Process, workload: &Workload) -> Self {
        let ancestry: Vec<_> = process.ancestors.iter().map(|text| Ancestor::told(text)).collect();
        Self {
            cmd_line: Some(process.command_line.clone()),
            auid: process.login_user_id,
            user: Some(User { uid: process.user_id.to_string(), name: process.user.clone() }),
            container: Container::of(process, workload),
            // The schema's process has a number; what only has a name is an ancestor all the same.
            parent_process: ancestry.first().filter(|parent| parent.pid.is_some()).cloned(),
            ancestry,
            pid: Some(process.pid),
            uid: Some(format!("{}-{}", process.pid, process.start_boot_ns)),
            ..Self::program(&process.path)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: String,
    /// `NAMESPACE/POD`, as the API of Kubernetes said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As an answer from port 53 claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// `direction_id` 0 is *unknown*: an entry refuses both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    pub direction_id: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// IANA number and name, where both are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_num: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_name: Option<String>,
    /// IP version: 4 or 6.
    pub protocol_ver_id: u8,
}

/// IANA's number and name of a protocol to an address; `None` of what is neither TCP, UDP nor ICMP.
pub(crate) fn iana(protocol: Protocol, address: IpAddr) -> Option<(u8, &'static str)> {
    match (protocol, address) {
        (Protocol::Tcp, _) => Some((6, "tcp")),
        (Protocol::Udp, _) => Some((17, "udp")),
        (Protocol::Icmp, IpAddr::V4(_)) => Some((1, "icmp")),
        (Protocol::Icmp, IpAddr::V6(_)) => Some((58, "ipv6-icmp")),
        (Protocol::Other, _) => None,
    }
}

impl ConnectionInfo {
    pub(super) fn with(address: IpAddr) -> Self {
        let protocol_ver_id = if address.is_ipv4() { 4 } else { 6 };
        Self {
            direction_id: 0,
            direction: None,
            protocol_num: None,
            protocol_name: None,
            protocol_ver_id,
        }
    }

    pub(super) fn of(contact: &Contact) -> Self {
        let Contact { address, direction, protocol, .. } = *contact;
        let (direction_id, direction) = match direction {
            _ if address.is_loopback() => (4, "Local"),
            FlowDirection::Inbound => (1, "Inbound"),
            FlowDirection::Outbound => (2, "Outbound"),
        };
        let iana = protocol.and_then(|protocol| iana(protocol, address));
        Self {
            direction_id,
            direction: Some(direction.into()),
            protocol_num: iana.map(|(number, _)| number),
            protocol_name: iana.map(|(_, name)| name.into()),
            ..Self::with(address)
        }
    }
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    pub name: String,
    pub value: String,
}

/// A known vulnerability of a package that a program of the finding uses; claimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vulnerability {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cve: Option<Identified>,
    /// Of what has another id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advisory: Option<Identified>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    pub affected_packages: Vec<AffectedPackage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identified {
    pub uid: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AffectedPackage {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_in_version: Option<String>,
}

/// Something to look up elsewhere; `type_id` 1 is a host name, 2 an IP address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observable {
    pub name: String,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

impl Observable {
    pub(super) fn hostname(name: &str, value: String) -> Self {
        Self { name: name.into(), type_id: 1, kind: "Hostname".into(), value }
    }
    pub(super) fn address(name: &str, value: String) -> Self {
        Self { name: name.into(), type_id: 2, kind: "IP Address".into(), value }
    }
}

/// What a security control did (profile `security_control`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub action_id: u8,
    pub action: String,
    pub disposition_id: u8,
    pub disposition: String,
}

impl Outcome {
    pub(super) fn observed() -> Self {
        Self::new((3, "Observed"), (15, "Detected"))
    }
    pub(super) fn denied() -> Self {
        Self::new((2, "Denied"), (2, "Blocked"))
    }
    pub(super) fn allowed() -> Self {
        Self::new((1, "Allowed"), (1, "Allowed"))
    }
    fn new(action: (u8, &str), disposition: (u8, &str)) -> Self {
        Self {
            action_id: action.0,
            action: action.1.into(),
            disposition_id: disposition.0,
            disposition: disposition.1.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timespan {
    pub start_time: i64,
    pub end_time: i64,
}

impl Timespan {
    pub(super) fn new(start_ns: i64, end_ns: i64) -> Self {
        Self { start_time: milliseconds(start_ns), end_time: milliseconds(end_ns) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timespan: Option<Timespan>,
}

/// An anomaly or a baseline: the schema gives both the same attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    pub observation_parameter: String,
    pub observation_type: String,
    pub observed_pattern: String,
    pub observations: Vec<Observation>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyAnalysis {
    pub analysis_targets: Vec<NamedType>,
    pub anomalies: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Pattern>,
}

/// The last component of a path; the path itself where it has none (`memfd`).
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}
