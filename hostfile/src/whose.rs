//! Whose file it is, so that one who makes readers wait is refused, and nobody else.

use std::{
    fmt::{self, Display},
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
};

/// `NS_GET_OWNER_UID` (ioctl_ns(2)): who made a user namespace.
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

/// The owner of a file: the process through whose root it is reached, or a path on the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// Of the mount namespace, where it isn't the host's.
    namespace: Option<u64>,
    /// Where it isn't root. Of a process in a user namespace, who made that.
    user: Option<u32>,
    /// The service or container in whose cgroup it is, where root made its user namespace: root of a container
    /// makes as many as he likes, with a mount namespace each.
    unit: Option<String>,
    /// Of what is neither: root's own on the host.
    place: String,
}

impl Whose {
    /// A file that is reached through a process; `place` names it where the process is root's own on
    /// the host. Asks the kernel only, never a file system.
    pub fn process(process: u32, place: &str) -> Self {
        let inode = |pid: &str, name: &str| {
            fs::metadata(format!("/proc/{pid}/ns/{name}")).map(|found| found.ino()).ok()
        };
        let pid = process.to_string();
        // Init's are the host's, and so are our own: init's can't be read everywhere.
        let host = |name, own| ["1", "self"].into_iter().any(|pid| inode(pid, name) == Some(own));
        let foreign = |name| inode(&pid, name).filter(|own| !host(name, *own));
        let made = foreign("user").is_some();
        let user = match made {
            true => maker(process),
            false => fs::metadata(format!("/proc/{pid}")).map(|found| found.uid()).ok(),
        };
        let user = user.filter(|user| *user != 0);
        let read = || fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
        let cgroup = if made && user.is_none() { read() } else { None };
        Self {
            namespace: foreign("mnt"),
            unit: cgroup.as_deref().and_then(unit),
            user,
            place: place.to_owned(),
        }
    }

    /// A file of the host itself.
    pub fn host(place: &str) -> Self {
        Self { namespace: None, user: None, unit: None, place: place.to_owned() }
    }

    /// Whether what one of them did is to be held against the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |a: Option<u64>, b| a.is_some() && a == b;
        let nobody = |whose: &Self| whose.namespace.is_none() && whose.user.is_none();
        same(self.namespace, other.namespace)
            || same(self.user.map(u64::from), other.user.map(u64::from))
            || (self.unit.is_some() && self.unit == other.unit)
            || (nobody(self) && nobody(other) && self.place == other.place)
    }
}

impl Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.namespace, self.user) {
            (Some(namespace), None) => write!(f, "mount namespace {namespace}"),
            (Some(namespace), Some(user)) => {
                write!(f, "mount namespace {namespace} and user {user}")
            }
            (None, Some(user)) => write!(f, "user {user}"),
            (None, None) => write!(f, "{:?}", self.place),
        }
    }
}

/// The cgroup of a service or container, by the lines of `/proc/PID/cgroup`: what lies below it, its own root
/// makes.
fn unit(lines: &str) -> Option<String> {
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let is_unit = |part: &str| {
        let is_container = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        part.ends_with(".service")
            || part.ends_with(".scope")
            || is_container
            || part.starts_with("lxc.")
    };
    let parts: Vec<&str> = path.split('/').collect();
    let last = parts.iter().position(|part| is_unit(part));
    let last = last.or_else(|| parts.iter().position(|part| !part.ends_with(".slice")));
    Some(parts[..=last?].join("/")).filter(|unit| !unit.is_empty())
}

fn maker(process: u32) -> Option<u32> {
    let path = format!("/proc/{process}/ns/user");
    let namespace = File::options().read(true).custom_flags(libc::O_CLOEXEC).open(path).ok()?;
    let mut user: libc::uid_t = 0;
    // SAFETY: the descriptor is open, and the call writes one uid.
    let done = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut user) };
    (done == 0).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_by_namespace_then_user_then_place() {
        let of = |namespace, user, place: &str| Whose {
            namespace,
            user,
            unit: None,
            place: place.into(),
        };
        let container = of(Some(7), None, "/a");
        assert!(container.is_same(&of(Some(7), None, "/b")));
        assert!(!container.is_same(&of(Some(8), None, "/a")));
        assert!(!container.is_same(&Whose::host("/a")));
        // A user who makes one namespace after the other is one owner.
        assert!(of(Some(7), Some(1000), "/a").is_same(&of(Some(9), Some(1000), "/b")));
        assert!(of(Some(7), Some(1000), "/a").is_same(&of(None, Some(1000), "/b")));
        assert!(Whose::host("/a").is_same(&Whose::host("/a")));
        assert!(!Whose::host("/a").is_same(&Whose::host("/b")));
    }

    #[test]
    fn the_namespaces_of_one_containers_root_are_one_owner() {
        let id = "a".repeat(64);
        let below = format!("0::/kubepods/burstable/pod7/{id}/x.service\n");
        let whole = format!("kubepods/burstable/pod7/{id}");
        for (lines, expected) in [
            (below.as_str(), Some(whole.as_str())),
            (
                "1:name=systemd:/x\n0::/system.slice/docker-1.scope/a\n",
                Some("system.slice/docker-1.scope"),
            ),
            ("0::/lxc.payload.c1/system.slice/b.service\n", Some("lxc.payload.c1")),
            ("0::/user.slice/made/by/anybody\n", Some("user.slice/made")),
            ("0::/user.slice\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(lines).as_deref(), expected, "{lines}");
        }
        let of = |namespace, unit: Option<&str>| Whose {
            namespace: Some(namespace),
            user: None,
            unit: unit.map(str::to_owned),
            place: "/a".into(),
        };
        assert!(of(7, Some("c")).is_same(&of(8, Some("c"))));
        assert!(!of(7, Some("c")).is_same(&of(8, Some("d"))) && !of(7, None).is_same(&of(8, None)));
    }

    #[test]
    fn init_is_the_host_and_so_are_we() {
        assert_eq!(Whose::process(1, "/x"), Whose::host("/x"));
        assert_eq!(Whose::process(std::process::id(), "/x").namespace, None);
    }
}
