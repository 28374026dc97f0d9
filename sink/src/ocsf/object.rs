//! Objects of the schema that events are made of.

use hedgerow_event::Process;
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedType {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
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
    pub container: Option<Named>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestry: Vec<Named>,
}

impl OcsfProcess {
    pub(super) fn task(pid: u32, start_boot_ns: u64) -> Self {
        Self { pid: Some(pid), uid: Some(format!("{pid}-{start_boot_ns}")), ..Self::default() }
    }
    pub(super) fn program(path: &str) -> Self {
        Self {
            name: Some(base_name(path).into()),
            path: Some(path.into()),
            file: Some(File::regular(path)),
            ..Self::default()
        }
    }
    pub(super) fn observed(process: &Process) -> Self {
        Self {
            cmd_line: Some(process.command_line.clone()),
            auid: process.login_user_id,
            user: Some(User { uid: process.user_id.to_string(), name: process.user.clone() }),
            container: process.container.clone().map(|name| Named { name }),
            ancestry: process.ancestors.iter().map(|name| Named { name: name.clone() }).collect(),
            pid: Some(process.pid),
            uid: Some(format!("{}-{}", process.pid, process.start_boot_ns)),
            ..Self::program(&process.path)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Something to look up elsewhere; `type_id` 2 is an IP address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observable {
    pub name: String,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

impl Observable {
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
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}
