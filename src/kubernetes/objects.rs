//! What the API says of objects, read within bounds. Who made them chose most of it.

use std::collections::BTreeMap;

use hedgerow_event::{ApiOwner, gate};
use serde::Deserialize;

/// Longest name, namespace or uid: Kubernetes' own are no longer.
const NAME_BYTES_MAX: usize = 253;
/// Longest name of a label, with its prefix, and longest value.
const LABEL_NAME_BYTES_MAX: usize = 317;
const LABEL_BYTES_MAX: usize = 63;
/// Labels of a pod that are kept, in the order of their names. More: the others are left out, and no selector is
/// decided on such a pod.
pub const LABELS_MAX: usize = 64;

/// The kubelet's own name for a pod that it runs of a file: its cgroups have it, and the API another one.
pub const STATIC: &str = "kubernetes.io/config.hash";

/// Metadata of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub uid: String,
    /// Empty for what is of no namespace.
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// There are labels that are not among them.
    pub labels_more: bool,
    pub controller: Option<Controller>,
    /// Of the pod in names of cgroups.
    pub cgroup_uid: String,
}

/// Who made an object, and makes another one in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl Controller {
    pub fn told(&self) -> ApiOwner {
        ApiOwner { kind: gate::text(&self.kind), name: gate::text(&self.name) }
    }
}

/// As it stands in JSON; what else an object has is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    uid: String,
    namespace: String,
    name: String,
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawOwner {
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

/// Whether a text is such a name as the API lets objects have: what is not is nobody's name, and not kept.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
}

fn is_label((name, value): &(String, String)) -> bool {
    let good = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
    };
    name.len() <= LABEL_NAME_BYTES_MAX
        && value.len() <= LABEL_BYTES_MAX
        && good(name)
        && good(value)
}

impl RawMeta {
    /// `None`: it has no name, or one that no object can have.
    fn check(self) -> Option<Meta> {
        if !(is_name(&self.uid) && is_name(&self.name)) {
            return None;
        }
        if !(self.namespace.is_empty() || is_name(&self.namespace)) {
            return None;
        }
        let labels = self.labels.unwrap_or_default();
        let count = labels.len();
        let labels: BTreeMap<String, String> =
            labels.into_iter().filter(is_label).take(LABELS_MAX).collect();
        let controller = self.owner_references.unwrap_or_default().into_iter().find(|one| {
            one.controller && is_name(&one.kind) && is_name(&one.name) && is_name(&one.uid)
        });
        let controller =
            controller.map(|RawOwner { kind, name, uid, .. }| Controller { kind, name, uid });
        let own = self.annotations.unwrap_or_default().remove(STATIC).filter(|uid| is_name(uid));
        Some(Meta {
            cgroup_uid: own.unwrap_or_else(|| self.uid.clone()),
            uid: self.uid,
            namespace: self.namespace,
            name: self.name,
            labels_more: labels.len() < count,
            labels,
            controller,
        })
    }
}

#[derive(Debug, Deserialize)]
struct RawObject {
    metadata: RawMeta,
}

/// One object.
pub fn object(json: &[u8]) -> Result<Option<Meta>, serde_json::Error> {
    Ok(serde_json::from_slice::<RawObject>(json)?.metadata.check())
}

/// A list; nothing is asked for in parts.
#[derive(Debug, Default)]
pub struct Page {
    pub items: Vec<Meta>,
    /// Objects without a name that one can have.
    pub refused: u64,
    pub version: String,
}

#[derive(Debug, Deserialize)]
struct RawPage {
    #[serde(default)]
    metadata: RawPageMeta,
    #[serde(default)]
    items: Vec<RawObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPageMeta {
    resource_version: String,
}

/// # Errors
/// It is no list of objects.
pub fn page(json: &[u8]) -> Result<Page, serde_json::Error> {
    let raw: RawPage = serde_json::from_slice(json)?;
    let count = raw.items.len();
    let items: Vec<Meta> =
        raw.items.into_iter().filter_map(|object| object.metadata.check()).collect();
    Ok(Page {
        refused: (count - items.len()) as u64,
        items,
        version: raw.metadata.resource_version,
    })
}

/// A line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, as it is now.
    Is(Meta),
    Gone(Meta),
    /// Nothing changed up to the version that comes with it.
    Nothing,
    /// The API ends the watch, for this reason; what it can't tell any more has to be listed.
    Ended(u16, String),
}

#[derive(Debug, Deserialize)]
struct RawChange {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// A change, and the version after it; an object without a name is no change.
///
/// # Errors
/// It is no line of a watch.
pub fn change(line: &[u8]) -> Result<(Change, String), serde_json::Error> {
    let raw: RawChange = serde_json::from_slice(line)?;
    if raw.kind == "ERROR" {
        let status = Status::of(&raw.object);
        return Ok((Change::Ended(status.code, status.message), String::new()));
    }
    let meta = serde_json::from_value::<RawObject>(raw.object)?.metadata;
    let version = meta.resource_version.clone();
    let change = match (raw.kind.as_str(), meta.check()) {
        ("ADDED" | "MODIFIED", Some(meta)) => Change::Is(meta),
        ("DELETED", Some(meta)) => Change::Gone(meta),
        _ => Change::Nothing,
    };
    Ok((change, version))
}

/// Why the API refuses something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: u16,
    pub message: String,
}

/// Longest reason that is told.
const REASON_BYTES_MAX: usize = 300;

impl Status {
    fn of(json: &serde_json::Value) -> Self {
        let field = |name: &str| json.get(name);
        let code = field("code").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let message = field("message").and_then(|text| text.as_str()).unwrap_or_default();
        Self { code: u16::try_from(code).unwrap_or(0), message: reason(message) }
    }

    /// Of the body of an answer with this code, which may be anything.
    pub fn read(code: u16, body: &[u8]) -> Self {
        let said = serde_json::from_slice(body).map(|json| Self::of(&json)).unwrap_or_default();
        let message = match said.message.is_empty() {
            true => "it says no more".to_owned(),
            false => said.message,
        };
        Self { code, message }
    }
}

/// Where objects of a kind are asked for that somebody else may have made.
pub fn path_of(namespace: &str, kind: &str) -> Option<String> {
    match kind {
        "ReplicaSet" => Some(format!("/apis/apps/v1/namespaces/{namespace}/replicasets")),
        "Job" => Some(format!("/apis/batch/v1/namespaces/{namespace}/jobs")),
        _ => None,
    }
}

/// What the other side says, as it may be told: without secrets, on one line, and not long.
pub fn reason(text: &str) -> String {
    gate::cut(&gate::shown(&gate::text(text)), REASON_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn of(metadata: serde_json::Value) -> Option<Meta> {
        object(
            json!({ "kind": "PartialObjectMetadata", "metadata": metadata }).to_string().as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_labels_and_the_one_who_made_it() {
        let pod = of(json!({
            "uid": "u-1", "namespace": "shop", "name": "web-1", "resourceVersion": "7",
            "labels": { "app": "web", "tier": "" }, "managedFields": [{}],
            "ownerReferences": [
                { "kind": "Node", "name": "n", "uid": "x" },
                { "kind": "ReplicaSet", "name": "web-5d", "uid": "r-1", "controller": true },
            ],
        }))
        .unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "web-1"));
        assert_eq!(pod.labels["app"], "web");
        assert!(!pod.labels_more);
        assert_eq!(pod.cgroup_uid, "u-1");
        let made = pod.controller.unwrap();
        assert_eq!((made.kind.as_str(), made.name.as_str()), ("ReplicaSet", "web-5d"));
    }

    #[test]
    fn a_pod_of_a_file_has_the_kubelets_name_in_its_cgroups() {
        let annotations = json!({ "kubernetes.io/config.hash": "abc" });
        let pod = of(json!({ "uid": "u-1", "name": "p", "annotations": annotations })).unwrap();
        assert_eq!(pod.cgroup_uid, "abc");
    }

    #[test]
    fn what_no_object_can_be_called_is_nobodys_and_labels_are_bounded() {
        for name in ["", "\u{1b}[31m", "a b", "../x", &"x".repeat(254)] {
            assert_eq!(of(json!({ "uid": "u", "name": name })), None, "{name}");
            assert_eq!(of(json!({ "uid": name, "name": "p" })), None, "{name}");
        }
        let labels: BTreeMap<String, String> = (0..LABELS_MAX + 1)
            .map(|number| (format!("l{number:03}"), "v".to_owned()))
            .chain([("bad\n".to_owned(), "v".to_owned())])
            .collect();
        let pod = of(json!({ "uid": "u", "name": "p", "labels": labels })).unwrap();
        assert!(pod.labels_more && pod.labels.len() == LABELS_MAX);
        assert!(!pod.labels.contains_key("bad\n"));
    }

    #[test]
    fn a_watch_tells_what_is_what_is_gone_and_why_it_ends() {
        let line = |kind: &str, object: serde_json::Value| {
            change(json!({ "type": kind, "object": object }).to_string().as_bytes()).unwrap()
        };
        let meta = json!({ "metadata": { "uid": "u", "name": "p", "resourceVersion": "9" } });
        assert!(matches!(line("ADDED", meta.clone()), (Change::Is(_), version) if version == "9"));
        assert!(matches!(line("DELETED", meta).0, Change::Gone(_)));
        let bookmark = json!({ "metadata": { "resourceVersion": "10" } });
        assert_eq!(line("BOOKMARK", bookmark), (Change::Nothing, "10".to_owned()));
        let status = json!({ "code": 410, "message": "too old\u{1b}[31m" });
        let ended = Change::Ended(410, "too old\\x1b[31m".to_owned());
        assert_eq!(line("ERROR", status).0, ended);
        assert!(change(b"{\"type\":\"ADDED\"").is_err());
        let told = Status::read(403, b"<html>");
        assert_eq!((told.code, told.message.as_str()), (403, "it says no more"));
    }
}
