//! Findings and remediations as OCSF 1.8 events in JSON.
//!
//! The structs hold just the attributes that Hedgerow fills, in the schema's names
//! (<https://schema.ocsf.io/1.8.0>). Times are milliseconds since the Unix epoch, as the schema's
//! `timestamp_t`. What has no attribute of its own travels whole under `unmapped`.

mod finding;
mod object;
mod remediation;

pub(crate) use finding::claimed_name;
pub use finding::{DetectionFinding, finding_to_ocsf};
pub(crate) use object::{Ancestor, Pod, base_name, iana, image};
pub use remediation::{RemediationActivity, remediation_to_ocsf};

use serde::{Deserialize, Serialize};

/// The version of the schema that every event names in `metadata.version`.
pub const OCSF_VERSION: &str = "1.8.0";

/// Attributes that every class shares: what happened, when, how bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    pub activity_id: u8,
    pub activity_name: String,
    pub category_uid: u32,
    pub category_name: String,
    pub class_uid: u32,
    pub class_name: String,
    /// `class_uid` x 100 + `activity_id`.
    pub type_uid: u32,
    pub type_name: String,
    pub severity_id: u8,
    pub severity: String,
    /// When the report was made, milliseconds.
    pub time: i64,
    pub message: String,
    pub metadata: Metadata,
    pub device: object::Device,
}

/// Whom the event comes from; `uid` is the id by which consumers deduplicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub version: String,
    pub uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    pub product: object::Product,
    pub profiles: Vec<String>,
}

/// A class of the schema.
struct Class {
    uid: u32,
    name: &'static str,
    category_uid: u32,
    category_name: &'static str,
}

/// What differs between events of one class.
struct Head<'a> {
    activity: (u8, &'static str),
    severity: (u8, &'static str),
    time_ns: i64,
    message: String,
    uid: String,
    correlation_uid: Option<String>,
    sequence: Option<u32>,
    host_id: &'a str,
    boot_id: Option<&'a str>,
    /// Of the schema, whose attributes are used.
    profiles: &'a [&'a str],
}

impl Class {
    fn base(&self, head: Head<'_>) -> Base {
        let (activity_id, activity_name) = head.activity;
        Base {
            activity_id,
            activity_name: activity_name.into(),
            category_uid: self.category_uid,
            category_name: self.category_name.into(),
            class_uid: self.uid,
            class_name: self.name.into(),
            type_uid: self.uid * 100 + u32::from(activity_id),
            type_name: format!("{}: {activity_name}", self.name),
            severity_id: head.severity.0,
            severity: head.severity.1.into(),
            time: milliseconds(head.time_ns),
            message: head.message,
            metadata: Metadata {
                version: OCSF_VERSION.into(),
                uid: head.uid,
                correlation_uid: head.correlation_uid,
                sequence: head.sequence,
                product: object::Product::hedgerow(),
                profiles: head.profiles.iter().map(|name| (*name).into()).collect(),
            },
            device: object::Device {
                uid: head.host_id.into(),
                type_id: 0,
                boot_uid: head.boot_id.map(Into::into),
            },
        }
    }
}

fn milliseconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(1_000_000)
}
