//! What the container runtimes of a host write about their containers, read from their files.

use std::path::Path;

use hedgerow_hostfile::{Progress, Reader, Whose, content, inside};

use super::workload::{ContainerFacts, Runtime};

/// No description of a container is larger than this; a larger file is not read.
const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;

/// What the runtime says of a container, read by a thread that is left behind when its file hangs.
pub fn facts_of(reader: &mut Reader, id: &str, runtime: Runtime) -> ContainerFacts {
    // One owner for all: who can write there is root.
    let whose = Whose::host("descriptions of containers");
    let id = id.to_owned();
    reader.run(&whose, move |_| Ok(describe(Path::new("/"), &id, runtime))).unwrap_or_default()
}

/// Reads the description of container `id` below `root` (`/` on a host). Every field that can't be
/// found stays empty: an unnamed container is still a workload of its own kind.
pub fn describe(root: &Path, id: &str, runtime: Runtime) -> ContainerFacts {
    let candidates: &[Runtime] = match runtime {
        Runtime::Unknown => &[Runtime::Containerd, Runtime::CriO, Runtime::Docker, Runtime::Podman],
        ref one => std::slice::from_ref(one),
    };
    candidates
        .iter()
        .filter_map(|runtime| files(*runtime, id).iter().find_map(|file| read(root, file)))
        .next()
        .unwrap_or_default()
}

fn files(runtime: Runtime, id: &str) -> Vec<String> {
    match runtime {
        Runtime::Docker => vec![format!("var/lib/docker/containers/{id}/config.v2.json")],
        Runtime::Containerd => ["k8s.io", "default", "moby"]
            .iter()
            .map(|space| {
                format!("run/containerd/io.containerd.runtime.v2.task/{space}/{id}/config.json")
            })
            .collect(),
        Runtime::CriO | Runtime::Podman => ["run/containers/storage", "var/lib/containers/storage"]
            .iter()
            .map(|base| format!("{base}/overlay-containers/{id}/userdata/config.json"))
            .collect(),
        Runtime::Unknown => Vec::new(),
    }
}

fn read(root: &Path, path: &str) -> Option<ContainerFacts> {
    let file = inside(root, Path::new(path)).ok()?;
    let text = content(file, DESCRIPTION_BYTES_MAX, &Progress::default()).ok()?;
    Some(facts(&serde_json::from_slice(&text).ok()?))
}

/// What runtimes call the container that holds a pod's namespaces. containerd gives it no name, so it
/// gets the one that it has at CRI-O and Docker.
const SANDBOXES: [&str; 2] = ["sandbox", "podsandbox"];

/// Reads Docker's `config.v2.json` (`Config.Image`) or an OCI bundle's annotations, as containerd's
/// CRI plugin, CRI-O and podman write them.
fn facts(value: &serde_json::Value) -> ContainerFacts {
    let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
    let labels = value.pointer("/Config/Labels");
    let annotations = value.get("annotations");
    let find = |names: &[&str]| {
        names.iter().find_map(|name| {
            text(annotations.and_then(|all| all.get(name)))
                .or_else(|| text(labels.and_then(|all| all.get(name))))
        })
    };
    let kind = find(&[
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.ContainerType",
        "io.kubernetes.docker.type",
    ]);
    let sandbox = || "POD".to_owned();
    ContainerFacts {
        image: text(value.pointer("/Config/Image")).or_else(|| {
            find(&[
                "io.kubernetes.cri.image-name",
                "io.kubernetes.cri-o.ImageName",
                "org.opencontainers.image.base.name",
                "io.podman.annotations.image",
                "nerdctl/image",
            ])
        }),
        namespace: find(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
        pod: find(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        container: find(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"])
            .or_else(|| kind.is_some_and(|kind| SANDBOXES.contains(&kind.as_str())).then(sandbox)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::identity::workload::container_workload;

    fn written(path: &str, json: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, json).unwrap();
        root
    }

    #[test]
    fn docker_names_its_image() {
        let root = written(
            "var/lib/docker/containers/ab/config.v2.json",
            r#"{"Name":"/web","Config":{"Image":"nginx:1.27","Labels":{}}}"#,
        );
        let facts = describe(root.path(), "ab", Runtime::Docker);
        assert_eq!(facts.image.as_deref(), Some("nginx:1.27"));
        assert_eq!(facts.pod, None);
    }

    #[test]
    fn a_pod_of_unknown_runtime_is_found_at_containerd() {
        let root = written(
            "run/containerd/io.containerd.runtime.v2.task/k8s.io/ab/config.json",
            r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"shop",
                "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.container-name":"c"}}"#,
        );
        let facts = describe(root.path(), "ab", Runtime::Unknown);
        assert_eq!(facts.namespace.as_deref(), Some("shop"));
        assert_eq!(facts.pod.as_deref(), Some("web-0"));
        assert_eq!(facts.container.as_deref(), Some("c"));
    }

    #[test]
    fn the_container_that_holds_a_pods_namespaces_is_named_as_that() {
        let root = written(
            "run/containerd/io.containerd.runtime.v2.task/k8s.io/ab/config.json",
            r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox",
                "io.kubernetes.cri.sandbox-namespace":"shop",
                "io.kubernetes.cri.sandbox-name":"web-5d4f8c6b7d-q8x2z"}}"#,
        );
        let facts = describe(root.path(), "ab", Runtime::Containerd);
        assert_eq!(container_workload(&facts).as_str(), "k8s:shop/web/POD");
        let root = written(
            "run/containerd/io.containerd.runtime.v2.task/k8s.io/ab/config.json",
            r#"{"annotations":{"io.kubernetes.cri.container-type":"container"}}"#,
        );
        assert_eq!(describe(root.path(), "ab", Runtime::Containerd).container, None);
    }

    #[test]
    fn a_missing_or_broken_description_names_nothing() {
        let root = written("var/lib/docker/containers/ab/config.v2.json", "{");
        assert_eq!(describe(root.path(), "ab", Runtime::Docker), ContainerFacts::default());
        assert_eq!(describe(root.path(), "cd", Runtime::Docker), ContainerFacts::default());
    }
}
