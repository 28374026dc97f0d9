//! What a pod of the DaemonSet, or a daemon that asks the Kubernetes API, lacks, and the way out.

use std::{env, fs, path::Path};

use serde::Serialize;

use crate::{
    cli,
    config::Config,
    kubernetes::{Settings, rights},
    text,
};

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub what: &'static str,
    pub good: bool,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub way_out: String,
}

/// The kernel's own number of the first namespace of a kind (`include/linux/proc_ns.h`).
const FIRST_PID: &str = "pid:[4026531836]";
const FIRST_CGROUP: &str = "cgroup:[4026531835]";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Paths of the node that the manifest mounts, what for, and how it calls them.
const MOUNTS: [(&[&str], &str, &str); 4] = [
    (&["/var/lib/hedgerow"], "state that outlasts the pod", "state"),
    (&["/sys/fs/bpf"], "what is refused outlasts the pod", "bpf"),
    (&["/etc/machine-id"], "the node's id", "machine-id"),
    (
        &["/run/containerd", "/run/containers", "/var/lib/docker", "/var/lib/containers"],
        "names of containers and pods",
        "containerd and containers",
    ),
];

/// Checks of the pod that this runs in, and of the API where it is asked; nothing on any other host.
pub fn checks(config: Option<&Path>) -> Vec<Check> {
    let is_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let run = cli::Run { config: config.map(Path::to_owned), ..cli::Run::default() };
    let asked = Config::load(&run, false);
    let mut checks = if is_pod { of_pod(&Facts::read()) } else { Vec::new() };
    match asked {
        Ok(config) => match config.kubernetes {
            Some(settings) => checks.extend(of_api(&settings)),
            None if is_pod => checks.push(Check {
                what: "the API is asked",
                good: false,
                way_out: "it is not told to: findings have neither labels nor owners of pods; set \
                          `[kubernetes] enabled = true` in the ConfigMap"
                    .to_owned(),
            }),
            None => {}
        },
        Err(why) if is_pod => checks.push(Check {
            what: "the configuration",
            good: false,
            way_out: format!("{why:#}; `hedgerow config check` says more"),
        }),
        Err(_) => {}
    }
    checks
}

/// What decides about a pod.
#[derive(Debug, Default)]
struct Facts {
    pid: String,
    cgroup: String,
    /// Of this process, and of the first one that it sees.
    networks: [String; 2],
    mountinfo: String,
    has_token: bool,
}

impl Facts {
    fn read() -> Self {
        let link = |path: &str| {
            fs::read_link(path).map(|told| told.to_string_lossy().into_owned()).unwrap_or_default()
        };
        Self {
            pid: link("/proc/self/ns/pid"),
            cgroup: link("/proc/self/ns/cgroup"),
            networks: [link("/proc/self/ns/net"), link("/proc/1/ns/net")],
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            has_token: Path::new(TOKEN).exists(),
        }
    }

    /// Whether something is mounted right there.
    fn is_mounted(&self, path: &str) -> bool {
        self.mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(path))
    }
}

fn of_pod(facts: &Facts) -> Vec<Check> {
    let check = |what, good: bool, way_out: &str| Check {
        what,
        good,
        way_out: if good { String::new() } else { way_out.to_owned() },
    };
    let shares = facts.pid == FIRST_PID;
    let mut checks = vec![
        check(
            "the node's processes",
            shares,
            "set hostPID: true; without it processes have other numbers",
        ),
        check(
            "the node's cgroups",
            facts.cgroup == FIRST_CGROUP,
            "set securityContext.privileged: true, since runtimes give the node's cgroup namespace to no other; \
             without it no workload has its name",
        ),
        // Without the node's processes the first one that is seen is the pod's own.
        check(
            "the node's network",
            shares && facts.networks[0] == facts.networks[1],
            "set hostNetwork: true; without it addresses and interfaces are the pod's",
        ),
    ];
    for (paths, what, volume) in MOUNTS {
        let way_out = format!(
            "mount {} of the node: volume {volume} of packaging/kubernetes/daemonset.yaml",
            paths.join(" or ")
        );
        checks.push(check(what, paths.iter().any(|path| facts.is_mounted(path)), &way_out));
    }
    checks.push(check(
        "a token for the API",
        facts.has_token,
        "set serviceAccountName: hedgerow (packaging/kubernetes/rbac.yaml), and not \
         automountServiceAccountToken: false; without it findings have neither labels nor owners of pods",
    ));
    checks
}

fn of_api(settings: &Settings) -> Vec<Check> {
    let reached = |good, way_out| Check { what: "the API is reached", good, way_out };
    match rights(settings) {
        Err(why) => vec![reached(false, why)],
        Ok(rights) => {
            let rights = rights.into_iter().map(|(what, why)| Check {
                what,
                good: why.is_none(),
                way_out: why.unwrap_or_default(),
            });
            [reached(true, String::new())].into_iter().chain(rights).collect()
        }
    }
}

pub fn print(checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    text::out("\nKubernetes (docs/installation.md)");
    for Check { what, good, way_out } in checks {
        text::say(&format!("  {} {what}", if *good { "yes" } else { "no " }));
        if !good {
            text::say(&format!("      {way_out}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_the_manifest_lacks_nothing_and_a_bare_one_is_told_each_way_out() {
        let mounts = ["/var/lib/hedgerow", "/sys/fs/bpf", "/etc/machine-id", "/run/containerd"];
        let whole = Facts {
            pid: FIRST_PID.into(),
            cgroup: FIRST_CGROUP.into(),
            networks: ["net:[1]".into(), "net:[1]".into()],
            mountinfo: mounts.map(|path| format!("1 2 0:3 / {path} rw - ext4 x rw\n")).concat(),
            has_token: true,
        };
        let checks = of_pod(&whole);
        assert!(checks.iter().all(|check| check.good && check.way_out.is_empty()), "{checks:?}");
        let bare = of_pod(&Facts { pid: "pid:[9]".into(), ..Facts::default() });
        assert_eq!(bare.len(), checks.len());
        assert!(bare.iter().all(|check| !check.good && !check.way_out.is_empty()), "{bare:?}");
        let said: String = bare.into_iter().map(|check| check.way_out).collect();
        for told in
            ["hostPID: true", "hostNetwork: true", "privileged: true", "rbac.yaml", "volume bpf"]
        {
            assert!(said.contains(told), "{told} in {said}");
        }
    }
}
