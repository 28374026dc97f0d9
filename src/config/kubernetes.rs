//! Whether, and how, the API of Kubernetes is asked.

use std::{env, fs, path::PathBuf};

use serde::Deserialize;

use crate::kubernetes::Settings;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKubernetes {
    /// Ask it.
    enabled: Option<bool>,
    /// As whom, and where; without it as the service account of the pod.
    kubeconfig: Option<PathBuf>,
    /// This node's name there.
    node: Option<String>,
}

/// What a DaemonSet says of the node that its pod is on (docs/installation.md).
const NODE: &str = "NODE_NAME";
/// Longest name of a node.
const NODE_BYTES_MAX: usize = 253;

impl RawKubernetes {
    /// What is wrong comes with its key.
    pub fn check(&self) -> Result<Option<Settings>, (&'static str, String)> {
        if self.kubeconfig.as_ref().is_some_and(|path| path.is_relative()) {
            return Err(("kubernetes.kubeconfig", "write the whole path, from / on".to_owned()));
        }
        let given = self.node.clone().or_else(|| env::var(NODE).ok());
        let node = given.unwrap_or_else(host_name);
        if !self.enabled.unwrap_or(false) {
            return Ok(None);
        }
        if !cfg!(feature = "full") {
            let why = "this build, for small hosts, asks no API: leave the table out".to_owned();
            return Err(("kubernetes.enabled", why));
        }
        if !is_node(&node) {
            let why = format!(
                "{} is no name of a node: write it as `kubectl get nodes` does",
                hedgerow_event::gate::cut(&node, NODE_BYTES_MAX)
            );
            return Err(("kubernetes.node", why));
        }
        Ok(Some(Settings { kubeconfig: self.kubeconfig.clone(), node }))
    }
}

/// As the kubelet names a node that is not told otherwise.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_ascii_lowercase()
}

fn is_node(name: &str) -> bool {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=NODE_BYTES_MAX).contains(&name.len()) && name.bytes().all(good)
}

/// As the file would have it.
pub fn written(settings: Option<&Settings>) -> toml::Table {
    let mut table = toml::Table::new();
    table.insert("enabled".to_owned(), settings.is_some().into());
    if let Some(settings) = settings {
        table.insert("node".to_owned(), settings.node.clone().into());
        if let Some(path) = &settings.kubeconfig {
            table.insert("kubeconfig".to_owned(), path.to_string_lossy().into_owned().into());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw(text: &str) -> Result<Option<Settings>, (&'static str, String)> {
        toml::from_str::<RawKubernetes>(text).unwrap().check()
    }

    #[test]
    fn nobody_is_asked_unless_told_and_a_node_has_a_name_that_one_can_have() {
        assert_eq!(raw("").unwrap(), None);
        let settings = raw("enabled = true\nnode = \"n-1.example\"").unwrap().unwrap();
        assert_eq!((settings.node.as_str(), settings.kubeconfig), ("n-1.example", None));
        for node in ["", "N", "a b", "a,spec.nodeName!=b", &"n".repeat(254)] {
            let (key, _) = raw(&format!("enabled = true\nnode = \"{node}\"")).unwrap_err();
            assert_eq!(key, "kubernetes.node", "{node}");
        }
        let relative = raw("kubeconfig = \"k\"").unwrap_err();
        assert_eq!(relative.0, "kubernetes.kubeconfig");
    }
}
