//! From a cgroup's path to the workload it stands for. Pure: the caller reads `/proc` and the
//! container runtimes' files.

use hedgerow_event::{Workload, gate};
use sha2::{Digest, Sha256};

/// What a cgroup v2 path says about its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupOwner {
    /// The root, or a slice that holds no unit: processes of no workload.
    Host,
    /// A systemd unit, or a cgroup somebody made by hand, without instance numbers.
    Unit(String),
    /// A container; its name has to be read from its runtime.
    Container { id: String, runtime: Runtime, pod: bool },
}

/// Who made a container, and so where its description lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    /// A pod's container under the cgroupfs driver doesn't say which runtime made it.
    Unknown,
}

/// What a runtime's description says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    pub image: Option<String>,
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container: Option<String>,
}

/// How units that hold processes end.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Longest name of a workload, in bytes. What lies below a cgroup of his own somebody calls as he likes, as
/// long as he likes, and a finding has it with each of its objects.
const NAME_BYTES_MAX: usize = 512;

/// A name that is too long keeps its head, which tells below whom it stands, and has a hash of the whole
/// instead of the rest.
fn bounded(name: String) -> String {
    /// The mark of the cut, and sixteen digits.
    const TAIL: usize = 3 + 16;
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let hash = Sha256::digest(name.as_bytes());
    let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    gate::cut(&name, NAME_BYTES_MAX - TAIL) + &digits
}

/// The workload of a container that its runtime tells nothing of, or nothing yet.
pub const UNNAMED: &str = "container";

/// The cgroup v2 path among the lines of `/proc/PID/cgroup` (`0::/path`).
pub fn unified_path(lines: &str) -> Option<&str> {
    lines.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Reads a cgroup v2 path: a container inside a unit is a container. Of two the outer one counts, since
/// what lies below a container it may have made itself.
pub fn owner(path: &str) -> CgroupOwner {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
    let pod = parts.iter().any(|part| part.starts_with("kubepods"));
    for part in parts.iter().take_while(|part| !is_machine(part)) {
        if let Some((id, runtime)) = container(part, &parts, pod) {
            return CgroupOwner::Container { id, runtime, pod };
        }
    }
    unit(&parts).map_or(CgroupOwner::Host, |name| CgroupOwner::Unit(bounded(name)))
}

/// A container without an id, of LXC or systemd: all below it is its own.
fn is_machine(part: &str) -> bool {
    part == "lxc"
        || part.starts_with("lxc.payload.")
        || (part.starts_with("machine-") && part.ends_with(".scope"))
        || (part.starts_with("systemd-nspawn@") && part.ends_with(".service"))
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn container(part: &str, parts: &[&str], pod: bool) -> Option<(String, Runtime)> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let known = [
        ("docker-", Runtime::Docker),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::CriO),
        ("libpod-", Runtime::Podman),
    ];
    for (prefix, runtime) in known {
        if let Some(id) = stem.strip_prefix(prefix)
            && is_container_id(id)
        {
            return Some((id.to_owned(), runtime));
        }
    }
    // The cgroupfs driver names the directory by the bare id; containerd's systemd driver without
    // CRI writes `slice:prefix:id`.
    let bare = stem.rsplit(':').next().unwrap_or(stem);
    if !is_container_id(bare) {
        return None;
    }
    let runtime = if parts.contains(&"docker") {
        Runtime::Docker
    } else if stem.contains("cri-containerd") || parts.contains(&"default") {
        Runtime::Containerd
    } else if pod {
        Runtime::Unknown
    } else if parts.iter().any(|part| part.starts_with("libpod")) {
        Runtime::Podman
    } else {
        Runtime::Unknown
    };
    Some((bare.to_owned(), runtime))
}

/// What stands above the innermost unit, from the outermost unit or container without an id on to the
/// next slice: what lies below is its own to make, and to call as it likes. Above those only the host's
/// root makes cgroups.
fn above<'a>(parts: &[&'a str], innermost: usize) -> Vec<&'a str> {
    let own = parts[..innermost].iter().skip_while(|part| !is_unit(part) && !is_machine(part));
    own.take_while(|part| !part.ends_with(".slice")).copied().collect()
}

/// The unit's name, prefixed by the user manager, or by whatever else it runs under: so it can't have the
/// name of a unit of the host. `None` for the root and for bare slices.
fn unit(parts: &[&str]) -> Option<String> {
    if let Some(at) = parts.iter().rposition(|part| is_unit(part)) {
        let innermost = parts[at];
        let name = strip_instance(innermost);
        match above(parts, at).as_slice() {
            [] => {}
            // Of the same user all the same, whatever lies between.
            [manager, ..] if manager.starts_with("user@") => {
                return Some(format!("{manager}/{name}"));
            }
            above => {
                let above: Vec<String> = above.iter().map(|part| stripped(part)).collect();
                return Some(format!("{}/{name}", above.join("/")));
            }
        }
        if innermost.starts_with("session-") {
            let user = parts.iter().find(|part| part.starts_with("user-"));
            return Some(match user {
                Some(user) => format!("{user}/session.scope"),
                None => "session.scope".to_owned(),
            });
        }
        if innermost.starts_with("user@") {
            return Some(innermost.to_owned());
        }
        return Some(name);
    }
    if parts.is_empty() || parts.iter().all(|part| part.ends_with(".slice")) {
        return None;
    }
    // Made by hand or by another manager: the path itself, without numbers, is its name.
    Some(parts.iter().map(|part| strip_numbers(part)).collect::<Vec<_>>().join("/"))
}

/// A unit without its instance, or a part of another path without its numbers.
fn stripped(part: &str) -> String {
    if is_unit(part) { strip_instance(part) } else { strip_numbers(part) }
}

fn is_unit(part: &str) -> bool {
    UNITS.iter().any(|end| part.ends_with(end))
}

/// `getty@tty1.service` -> `getty@.service`; `run-u12.service` -> `run-u.service`;
/// `app-firefox-4242.scope` -> `app-firefox.scope`.
fn strip_instance(name: &str) -> String {
    let (stem, end) = match name.rfind('.') {
        Some(dot) => name.split_at(dot),
        None => (name, ""),
    };
    if let Some((template, _)) = stem.split_once('@') {
        return format!("{template}@{end}");
    }
    format!("{}{end}", strip_numbers(stem))
}

/// Drops every dash-separated tail of digits or of eight and more hexadecimal digits, and the
/// digits of systemd-run's `run-u12` and `run-r<hex>`.
fn strip_numbers(stem: &str) -> String {
    if let Some(rest) = stem.strip_prefix("run-u")
        && rest.bytes().all(|byte| byte.is_ascii_digit())
    {
        return "run-u".to_owned();
    }
    if let Some(rest) = stem.strip_prefix("run-r")
        && rest.len() >= 8
        && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return "run-r".to_owned();
    }
    let mut kept = stem;
    while let Some((head, tail)) = kept.rsplit_once('-') {
        let number = !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
        let hex = tail.len() >= 8 && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
        if head.is_empty() || !(number || hex) {
            break;
        }
        kept = head;
    }
    kept.to_owned()
}

/// The name of a container's workload: its place in Kubernetes, else its image, never its id.
pub fn container_workload(facts: &ContainerFacts) -> Workload {
    let name = match (&facts.namespace, &facts.pod, &facts.container) {
        (Some(namespace), Some(pod), Some(container)) => {
            format!("k8s:{namespace}/{}/{container}", pod_owner(pod))
        }
        _ => match &facts.image {
            Some(image) => format!("image:{}", strip_digest(image)),
            None => UNNAMED.to_owned(),
        },
    };
    Workload::new(bounded(name))
}

/// Whether a workload is a container's: its users are its own.
pub fn is_container(workload: &Workload) -> bool {
    let name = workload.as_str();
    let first = name.split('/').next().unwrap_or(name);
    name == UNNAMED || name.starts_with("k8s:") || name.starts_with("image:") || is_machine(first)
}

/// The owner of a pod by its name: a Deployment's pod ends in `-<hash>-<5>`, a DaemonSet's or
/// Job's in `-<5>`, a StatefulSet's in `-<ordinal>`.
pub fn pod_owner(pod: &str) -> &str {
    // The alphabet of Kubernetes' generated names (rand.SafeEncodeString): no vowels, no 0, 1, 3.
    let generated =
        |text: &str| text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    let Some((head, tail)) = pod.rsplit_once('-') else { return pod };
    if tail.len() == 5 && generated(tail) {
        if let Some((owner, hash)) = head.rsplit_once('-')
            && (6..=10).contains(&hash.len())
            && generated(hash)
        {
            return owner;
        }
        return head;
    }
    if !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit()) {
        return head;
    }
    pod
}

/// An image without `@sha256:...`; an image known only by its digest keeps twelve digits of it,
/// since that is all that names it.
fn strip_digest(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, _)) => name.to_owned(),
        None => match image.strip_prefix("sha256:") {
            Some(digest) => format!("sha256:{}", digest.get(..12).unwrap_or(digest)),
            None => image.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_name_keeps_its_head_and_is_told_from_others() {
        let of = |path: &str| match owner(path) {
            CgroupOwner::Unit(name) => name,
            other => panic!("{other:?}"),
        };
        let deep = "/\u{1}\u{e9}".repeat(1000);
        let base = "/machine.slice/machine-web.scope";
        let names = ["a", "b"].map(|end| of(&format!("{base}{deep}/{end}.service")));
        for name in &names {
            assert!(name.starts_with("machine-web.scope/") && name.len() <= NAME_BYTES_MAX);
            assert!(!Workload::new(name.as_str()).is_session());
        }
        assert_ne!(names[0], names[1]);
        let image = ContainerFacts { image: Some("i".repeat(5000)), ..Default::default() };
        assert_eq!(container_workload(&image).as_str().len(), NAME_BYTES_MAX);
    }

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(line: &str, expected: CgroupOwner) {
        let lines = line.replace("ID", ID);
        let path = unified_path(&lines).expect("a 0:: line");
        let expected = match expected {
            CgroupOwner::Container { runtime, pod, .. } => {
                CgroupOwner::Container { id: ID.to_owned(), runtime, pod }
            }
            other => other,
        };
        assert_eq!(owner(path), expected, "{line}");
    }
    fn unit(name: &str) -> CgroupOwner {
        CgroupOwner::Unit(name.to_owned())
    }
    fn container(runtime: Runtime, pod: bool) -> CgroupOwner {
        CgroupOwner::Container { id: String::new(), runtime, pod }
    }

    #[test]
    fn docker_is_named_under_both_drivers() {
        check("0::/system.slice/docker-ID.scope", container(Runtime::Docker, false));
        check("0::/docker/ID", container(Runtime::Docker, false));
        check("12:pids:/docker/ID\n0::/docker/ID", container(Runtime::Docker, false));
        check("0::/system.slice/docker-ID.scope/init.scope", container(Runtime::Docker, false));
    }

    #[test]
    fn containerd_cri_o_and_podman_are_told_apart() {
        check("0::/default/ID", container(Runtime::Containerd, false));
        check("0::/system.slice/nerdctl-ID.scope", container(Runtime::Containerd, false));
        check("0::/machine.slice/libpod-ID.scope/container", container(Runtime::Podman, false));
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            container(Runtime::Podman, false),
        );
    }

    #[test]
    fn pods_are_containers_in_pods() {
        check(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f2e3d4c_aaaa_bbbb_cccc_0123456789ab.slice/cri-containerd-ID.scope",
            container(Runtime::Containerd, true),
        );
        check(
            "0::/kubepods.slice/kubepods-pod1f2e3d4c_aaaa_bbbb_cccc_0123456789ab.slice/crio-ID.scope",
            container(Runtime::CriO, true),
        );
        check(
            "0::/kubepods/besteffort/pod1f2e3d4c-aaaa-bbbb-cccc-0123456789ab/ID",
            container(Runtime::Unknown, true),
        );
        check(
            "0::/system.slice/containerd.service/kubepods-burstable-pod1f2e.slice:cri-containerd:ID",
            container(Runtime::Containerd, true),
        );
    }

    #[test]
    fn systemd_units_lose_instances_and_numbers() {
        check("0::/", CgroupOwner::Host);
        check("0::/user.slice", CgroupOwner::Host);
        check("0::/init.scope", unit("init.scope"));
        check("0::/system.slice/nginx.service", unit("nginx.service"));
        check("0::/system.slice/system-getty.slice/getty@tty1.service", unit("getty@.service"));
        check(
            "0::/system.slice/system-postgresql.slice/postgresql@15-main.service",
            unit("postgresql@.service"),
        );
        check(
            "0::/user.slice/user-1000.slice/session-12.scope",
            unit("user-1000.slice/session.scope"),
        );
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
            unit("user@1000.service/init.scope"),
        );
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4242.scope",
            unit("user@1000.service/app-gnome-firefox.scope"),
        );
        check("0::/system.slice/run-u123.service", unit("run-u.service"));
        check("0::/system.slice/run-r0123456789abcdef0123456789abcdef.scope", unit("run-r.scope"));
        check("0::/system.slice/cron.service", unit("cron.service"));
    }

    #[test]
    fn cgroups_made_by_hand_are_named_by_their_path_without_numbers() {
        check("0::/lab-4711/service", unit("lab/service"));
        check("0::/build/job-deadbeef01", unit("build/job"));
    }

    #[test]
    fn what_lies_below_another_unit_or_a_container_cant_be_called_like_a_unit_of_the_host() {
        for (path, name) in [
            ("/system.slice/evil.service/nginx.service", "evil.service/nginx.service"),
            (
                "/system.slice/evil.service/a/system.slice/nginx.service",
                "evil.service/a/nginx.service",
            ),
            ("/system.slice/evil.service/session-1.scope", "evil.service/session.scope"),
            (
                "/system.slice/evil.service/user.slice/user-0.slice/session-1.scope",
                "evil.service/session.scope",
            ),
            (
                "/system.slice/evil.service/user@0.service/x.service",
                "evil.service/user@.service/x.service",
            ),
            ("/system.slice/evil.service/user@0.service", "evil.service/user@.service"),
            ("/system.slice/evil.service/init.scope", "evil.service/init.scope"),
            ("/lxc.payload.web-1/system.slice/nginx.service", "lxc.payload.web/nginx.service"),
            ("/lxc.payload.web/docker-ID.scope", "lxc.payload.web/docker.scope"),
            ("/lxc.payload.web/.lxc", "lxc.payload.web/.lxc"),
            ("/lxc/web/system.slice/nginx.service", "lxc/web/nginx.service"),
            (
                "/machine.slice/machine-web.scope/payload/system.slice/nginx.service",
                "machine-web.scope/payload/nginx.service",
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload/init.scope",
                "systemd-nspawn@.service/payload/init.scope",
            ),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/a.service/user@0.service",
                "user@7.service/user@.service",
            ),
            ("/lab.1/web.service", "web.service"),
            // Its own directories are no units, and say nothing.
            ("/system.slice/systemd-udevd.service/udev", "systemd-udevd.service"),
        ] {
            check(&format!("0::{path}"), unit(name));
        }
        let other = ID.replace('0', "f");
        let path = format!("0::/docker/ID/docker-{other}.scope/kubelet/{other}");
        check(&path, container(Runtime::Docker, false));
        check("0::/docker/ID/lxc/web.service", container(Runtime::Docker, false));
    }

    #[test]
    fn a_pod_is_named_by_its_owner_and_a_container_by_its_image() {
        let facts = |pod: &str| ContainerFacts {
            namespace: Some("shop".into()),
            pod: Some(pod.into()),
            container: Some("web".into()),
            image: Some("nginx:1.27".into()),
        };
        for (pod, owner) in [
            ("web-7d4b9c6f5d-x2x9z", "web"),
            ("fluentd-x7k2p", "fluentd"),
            ("db-0", "db"),
            ("plain", "plain"),
        ] {
            assert_eq!(container_workload(&facts(pod)).as_str(), format!("k8s:shop/{owner}/web"));
        }
        let image = |name: &str| ContainerFacts { image: Some(name.into()), ..Default::default() };
        assert_eq!(container_workload(&image("nginx:1.27@sha256:ab")).as_str(), "image:nginx:1.27");
        assert_eq!(container_workload(&ContainerFacts::default()).as_str(), "container");
    }
}
