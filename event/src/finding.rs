//! What is reported: findings and what they say about themselves.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Class, Deed, Digest, Flow, FlowDirection, Loss, Peer, Protocol, Scale, Subject};

/// How sure the learning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    Learning,
    Provisional,
    Mature,
}

impl fmt::Display for Maturity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learning => "learning",
            Self::Provisional => "provisional",
            Self::Mature => "mature",
        })
    }
}

/// A family of features; evidence of two that agree weighs more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Volume,
    Errors,
    Classes,
    Shape,
    Order,
    Processes,
    Files,
    Flows,
    Novelty,
    Host,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volume => "volume",
            Self::Errors => "errors",
            Self::Classes => "classes",
            Self::Shape => "shape",
            Self::Order => "order",
            Self::Processes => "processes",
            Self::Files => "files",
            Self::Flows => "flows",
            Self::Novelty => "novelty",
            Self::Host => "host",
        })
    }
}

/// A nameable thing that makes a deviation more than a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Object {
    /// A program never seen in its workload.
    NewProgram { subject: Arc<Subject> },
    /// A parent never seen starting this child.
    NewChild { parent: Arc<Subject>, child: Arc<Subject> },
    /// A peer never seen in its workload, which the workload reached out to.
    NewPeer {
        subject: Arc<Subject>,
        peer: Peer,
        /// `None` in what was written before it was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protocol: Option<Protocol>,
    },
    /// A process gained privileges in a way never seen.
    Privilege { subject: Arc<Subject>, uid_from: u32, uid_to: u32 },
    /// A program ran from memory (memfd, deleted file).
    ExecMemory { subject: Arc<Subject> },
    /// A program ran from a place that others can write to.
    ExecWritable { subject: Arc<Subject> },
    /// A count above ten times its largest held-back value.
    Count { subject: Arc<Subject>, column: Arc<str>, value: u64, largest: u64 },
    /// The digest at a known path changed.
    Replaced { subject: Arc<Subject> },
    /// Any other deed of the catalogue; `what` says to, of or from what.
    Did {
        subject: Arc<Subject>,
        deed: Deed,
        what: Arc<str>,
        /// Where it was done with one peer; absent in what was written before it was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contact: Option<Contact>,
    },
    /// Somebody else changed a part of Hedgerow in the kernel; the subject is the host.
    Tampered { subject: Arc<Subject>, tampering: Tampering },
}

/// The other end of what was done over the network, and who began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    pub address: IpAddr,
    /// Of who was called; who calls has another one each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub direction: FlowDirection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

impl Contact {
    pub fn of(flow: &Flow) -> Self {
        let Flow { peer, direction, protocol, .. } = *flow;
        let port = (direction == FlowDirection::Outbound).then_some(peer.port);
        Self { address: peer.address, port, direction, protocol: Some(protocol) }
    }
}

/// A part of Hedgerow in the kernel (a hook, a map) that is no longer as it was left, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tampering {
    pub part: Arc<str>,
    pub how: Arc<str>,
}

impl Tampering {
    pub fn new(part: impl Into<Arc<str>>, how: impl Into<Arc<str>>) -> Self {
        Self { part: part.into(), how: how.into() }
    }
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.how)
    }
}

impl Object {
    /// The kind of deed that made it.
    pub fn deed(&self) -> Deed {
        match self {
            Self::NewProgram { .. } => Deed::NewProgram,
            Self::NewChild { .. } => Deed::NewChild,
            Self::NewPeer { .. } => Deed::NewPeer,
            Self::Privilege { .. } => Deed::Privilege,
            Self::ExecMemory { .. } => Deed::ExecMemory,
            Self::ExecWritable { .. } => Deed::ExecWritable,
            Self::Count { .. } => Deed::Measure,
            Self::Replaced { .. } => Deed::Replaced,
            Self::Did { deed, .. } => *deed,
            Self::Tampered { .. } => Deed::Tampered,
        }
    }

    /// The peer that it was done with, where it was one.
    pub fn contact(&self) -> Option<Contact> {
        match self {
            Self::NewPeer { peer, protocol, .. } => Some(Contact {
                address: peer.address,
                port: Some(peer.port),
                direction: FlowDirection::Outbound,
                protocol: *protocol,
            }),
            Self::Did { contact, .. } => *contact,
            _ => None,
        }
    }

    /// Who did it; the parent where it started something.
    pub fn subject(&self) -> &Arc<Subject> {
        match self {
            Self::NewProgram { subject }
            | Self::NewPeer { subject, .. }
            | Self::Privilege { subject, .. }
            | Self::ExecMemory { subject }
            | Self::ExecWritable { subject }
            | Self::Count { subject, .. }
            | Self::Replaced { subject }
            | Self::Did { subject, .. }
            | Self::Tampered { subject, .. } => subject,
            Self::NewChild { parent, .. } => parent,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewProgram { subject } => write!(f, "new program {subject}"),
            Self::NewChild { parent, child } => {
                write!(f, "{} first started {}", parent.program, child.program)
            }
            Self::NewPeer { subject, peer, protocol } => {
                write!(f, "new peer {peer} ")?;
                match protocol {
                    None | Some(Protocol::Tcp) => {}
                    Some(protocol) => write!(f, "({protocol}) ")?,
                }
                write!(f, "of {}", subject.program)
            }
            Self::Privilege { subject, uid_from, uid_to } => {
                write!(f, "{} went from uid {uid_from} to {uid_to}", subject.program)
            }
            Self::ExecMemory { subject } => write!(f, "{} ran from memory", subject.program),
            Self::ExecWritable { subject } => {
                write!(f, "{} ran from a writable place", subject.program)
            }
            Self::Count { column, value, largest, .. } => {
                write!(f, "{column} {value}, at most {largest} before")
            }
            Self::Replaced { subject } => write!(f, "{} was replaced", subject.program),
            Self::Did { subject, deed, what, .. } if what.is_empty() => {
                write!(f, "{} {}", subject.program, deed.row().words)
            }
            Self::Did { subject, deed, what, .. } => {
                write!(f, "{} {}: {what}", subject.program, deed.row().words)
            }
            Self::Tampered { tampering, .. } => write!(f, "tampered with, {tampering}"),
        }
    }
}

/// Which way a feature deviates from its usual range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Above,
    Below,
    /// Inside its usual range, unusual only together with others.
    Within,
}

/// One feature's part in a score. The shares of a finding add up to the whole of `of`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub feature: Arc<str>,
    pub value: f64,
    /// Training quantiles (1 % and 99 %); `None` where the training data had none.
    pub usual_low: Option<f64>,
    pub usual_high: Option<f64>,
    pub direction: Direction,
    /// Fraction of the total, 0 to 1.
    pub share: f64,
    /// The quantity that the shares divide, such as `path surprise (bits)`.
    pub of: Arc<str>,
}

/// What became of a finding under the alert budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    Alert,
    /// Alerted although the day's cap was reached, because of what it is.
    AlertOverBudget,
    /// Kept and counted, not alerted.
    Suppressed,
}

impl Disposition {
    pub fn is_alert(self) -> bool {
        self != Self::Suppressed
    }
}

/// OCSF severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
    Critical = 5,
}

/// OCSF activity of a detection finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    Create = 1,
    Update = 2,
    Close = 3,
}

/// The process that stands for a finding, as far as it could be read; secrets already redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub start_boot_ns: u64,
    pub path: String,
    pub command_line: String,
    pub user_id: u32,
    pub user: Option<String>,
    /// Login uid; `None` when unset.
    pub login_user_id: Option<u32>,
    /// Its name, where the host has one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_user: Option<String>,
    /// Parent first, up to init.
    pub ancestors: Vec<String>,
    pub container: Option<String>,
    /// Its pod's name, as the container runtime says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// By which name an address was asked for, as an answer said that came from port 53. Claimed: whoever
/// sends it says what he likes. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedName {
    pub address: IpAddr,
    pub name: String,
}

/// What the Kubernetes API says of the pod that a finding is of. Evidence for people: workloads are named by
/// what the node itself knows, and nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiPod {
    pub namespace: String,
    /// Its name; `None` where only its owner is known to be meant, as of a process that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it belongs to in the end: the Deployment, not the ReplicaSet between them, the CronJob, not the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ApiOwner>,
    /// Of the pod; where several may be meant, those that all of them have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// It has others, which found no room here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_more: bool,
    /// When the API was last heard of before that was told, UTC.
    pub as_of_ns: i64,
}

/// An owner of pods, as the API names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApiOwner {
    pub kind: String,
    pub name: String,
}

/// Whose an address of a finding's peer was, as the Kubernetes API said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPod {
    pub address: IpAddr,
    pub namespace: String,
    pub name: String,
    /// The nearest one that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ApiOwner>,
    /// When it was asked, UTC.
    pub as_of_ns: i64,
}

/// A known vulnerability of a package that a program uses, as a scanner's report and a package database
/// said when they were asked last. Claimed; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownVulnerability {
    pub id: String,
    /// `None` where the report says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    pub package: String,
    pub installed: String,
    /// Versions that have the fix, where some are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// When it was asked, UTC.
    pub as_of_ns: i64,
}

/// One report of an episode of anomalous windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Hash of (host, boot id, subject, kind of case, class, scale, process, when it began): one case's alone, and
    /// stable over create, update and close.
    pub uid: String,
    pub activity: Activity,
    /// Counts the reports of this uid from 0; `uid`, `activity` and `sequence` make the id by
    /// which consumers deduplicate.
    pub sequence: u32,
    /// The first report of this uid that alerts: a case may be listed before. `None` in what was written
    /// before it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_alert: Option<bool>,
    pub host_id: String,
    pub boot_id: String,
    pub subject: Arc<Subject>,
    pub scale: Scale,
    /// Scored before its window closed.
    pub early: bool,
    /// Wall time, Unix nanoseconds.
    pub window_start_ns: i64,
    pub window_end_ns: i64,
    pub time_ns: i64,
    pub state: Maturity,
    pub severity: Severity,
    pub disposition: Disposition,
    /// The isolation forest's score of the window, in (0, 1] (Liu 2008).
    pub score: f64,
    /// What notified: deeds that are grave by themselves, new things, or amounts.
    #[serde(default = "measure")]
    pub class: Class,
    /// How surprising it is, in nats: -ln of the probability of such within an hour.
    #[serde(default)]
    pub surprise: f64,
    /// The surprise from which its class notifies.
    #[serde(default)]
    pub floor: f64,
    /// exp(-surprise).
    pub p_value: Option<f64>,
    pub families: Vec<Family>,
    pub objects: Vec<Object>,
    pub attribution: Vec<Share>,
    pub process: Option<Process>,
    pub loss: Loss,
    pub model_id: String,
    /// SHA-256 of the model as it was last saved or loaded ([`Self::model_id`] only names it): the same
    /// wherever that file is. `None` in what was written before it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<Digest>,
    /// The seed of the model's forest, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_seed: Option<String>,
    /// One sentence for a person: why this alerts or not.
    pub reason: String,
    /// Names of its new peers; absent where none was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_names: Vec<ClaimedName>,
    /// Of the packages that its programs use, the gravest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vulnerabilities: Vec<KnownVulnerability>,
    /// Its pod, where the Kubernetes API is asked and knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ApiPod>,
    /// Its peers that are pods, as that says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peer_pods: Vec<PeerPod>,
}

/// The class of findings that were written before there were classes.
fn measure() -> Class {
    Class::Measure
}

impl Finding {
    /// The id by which consumers deduplicate: unique for each report.
    pub fn report_uid(&self) -> String {
        format!("{}-{}-{}", self.uid, self.activity as u8, self.sequence)
    }

    /// Whether somebody is alerted of this case for the first time. Each report up to that one was a
    /// create in what was written before it was told.
    pub fn is_first_alert(&self) -> bool {
        self.first_alert.unwrap_or(self.activity == Activity::Create && self.disposition.is_alert())
    }
}
