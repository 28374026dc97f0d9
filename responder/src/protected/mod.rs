//! What is never denied automatically. Pure; [`gather`] reads the host's own part of it.

pub mod facts;
mod files;
pub mod gather;
mod names;
pub(crate) mod remembered;
pub mod users;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use hedgerow_event::{Evidence, FileKey, Object, Subject, Workload, gate};

use self::{
    files::Files,
    gather::Protected,
    users::{Present, Users},
};
use crate::target::{mask, plain};

/// Workloads that use a private address before it counts as infrastructure.
const SHARED_BY: usize = 3;
/// A successful admin login protects its source for so long: 30 days.
const ADMIN_NS: i64 = 30 * 24 * 3600 * 1_000_000_000;
/// Addresses of the baseline that are remembered over all workloads. When full, every peer of a
/// workload that has more is protected.
const BASELINE_MAX: usize = 65_536;
/// Private addresses whose users are counted. When full, further ones count as shared.
const SHARED_MAX: usize = 16_384;
/// What each takes as it is written, at most. Full: as above, and past the workloads with more peers than
/// are remembered, every workload counts as one of them.
const BASELINE_BYTES_MAX: usize = 16 << 20;
const OVERFLOWED_BYTES_MAX: usize = 4 << 20;
const PRIVATE_BYTES_MAX: usize = 12 << 20;
/// The most that is written of an address.
const ADDRESS_BYTES: usize = 48;

/// Programs that keep the host reachable and repairable: refusing them locks the operator out. They
/// are named by full path, never by name, and only while they are where they belong.
const PROGRAMS: [(&str, &[&str]); 7] = [
    ("init", &["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"]),
    (
        "a login",
        &[
            "/usr/sbin/sshd",
            "/usr/lib/openssh/sshd-session",
            "/usr/libexec/openssh/sshd-session",
            "/usr/lib/openssh/sshd-auth",
            "/usr/bin/login",
            "/bin/login",
            "/usr/sbin/agetty",
            "/sbin/agetty",
            "/usr/sbin/getty",
            "/sbin/getty",
            "/usr/lib/systemd/systemd-logind",
            "/lib/systemd/systemd-logind",
        ],
    ),
    (
        "a package manager",
        &[
            "/usr/bin/apt",
            "/usr/bin/apt-get",
            "/usr/lib/apt/methods/http",
            "/usr/lib/apt/methods/https",
            "/usr/bin/dpkg",
            "/usr/bin/unattended-upgrade",
            "/usr/bin/dnf",
            "/usr/bin/dnf5",
            "/usr/bin/yum",
            "/usr/bin/rpm",
            "/usr/bin/zypper",
            "/usr/bin/pacman",
            "/sbin/apk",
            "/usr/lib/snapd/snapd",
        ],
    ),
    (
        "a container runtime",
        &[
            "/usr/bin/containerd",
            "/usr/bin/containerd-shim-runc-v2",
            "/usr/bin/dockerd",
            "/usr/bin/runc",
            "/usr/sbin/runc",
            "/usr/bin/crun",
            "/usr/bin/crio",
            "/usr/bin/conmon",
            "/usr/bin/podman",
        ],
    ),
    ("kubelet", &["/usr/bin/kubelet", "/usr/local/bin/kubelet", "/usr/local/bin/k3s"]),
    (
        "a cloud agent",
        &[
            "/usr/bin/amazon-ssm-agent",
            "/usr/bin/cloud-init",
            "/usr/sbin/waagent",
            "/usr/bin/google_guest_agent",
            "/usr/bin/google_osconfig_agent",
            "/usr/bin/oracle-cloud-agent",
        ],
    ),
    ("bpftool", &["/usr/sbin/bpftool", "/usr/bin/bpftool"]),
];

/// Peers, programs and processes that no automatic entry may name.
#[derive(Debug, Clone)]
pub struct ProtectedSet {
    /// Prefixes with the reason, from the host and from the configuration.
    addresses: Vec<Protected>,
    /// What was found in a namespace, by its inode: it protects who lives there, and nobody else.
    namespaces: HashMap<u64, Vec<Protected>>,
    /// Namespaces of the offender that is being judged.
    offender: Vec<u64>,
    baseline: HashMap<Workload, HashSet<IpAddr>>,
    baseline_size: usize,
    baseline_bytes: usize,
    overflowed: HashSet<Workload>,
    overflowed_bytes: usize,
    /// There were more than there was room for.
    all_overflowed: bool,
    private_users: HashMap<IpAddr, HashSet<Workload>>,
    private_bytes: usize,
    /// As above.
    private_overflowed: bool,
    files: Files,
    /// Something was seen that was not known.
    changed: bool,
    /// Wall time of the last successful admin login from there.
    admin_logins: HashMap<IpAddr, i64>,
    /// Hedgerow's process and those above it.
    own: HashSet<u32>,
    /// Hedgerow's own path.
    own_path: Option<String>,
    /// Who is who on the host; `None` until it was read.
    users: Option<Users>,
}

impl Default for ProtectedSet {
    /// What holds on every host.
    fn default() -> Self {
        let mut set = Self {
            addresses: Vec::new(),
            namespaces: HashMap::new(),
            offender: Vec::new(),
            baseline: HashMap::new(),
            baseline_size: 0,
            baseline_bytes: 0,
            overflowed: HashSet::new(),
            overflowed_bytes: 0,
            all_overflowed: false,
            private_users: HashMap::new(),
            private_bytes: 0,
            private_overflowed: false,
            files: Files::default(),
            changed: false,
            admin_logins: HashMap::new(),
            own: HashSet::from([1]),
            own_path: None,
            users: None,
        };
        set.reset_addresses();
        set
    }
}

impl ProtectedSet {
    fn reset_addresses(&mut self) {
        use std::net::{Ipv4Addr, Ipv6Addr};
        self.addresses.clear();
        let v4 = |a, b, c, d| IpAddr::from(Ipv4Addr::new(a, b, c, d));
        for (address, length, reason) in [
            (v4(127, 0, 0, 0), 8, "loopback"),
            (v4(0, 0, 0, 0), 8, "this host"),
            (v4(169, 254, 0, 0), 16, "link-local (the metadata service)"),
            (v4(224, 0, 0, 0), 4, "multicast"),
            (v4(255, 255, 255, 255), 32, "broadcast"),
            (IpAddr::from(Ipv6Addr::LOCALHOST), 128, "loopback"),
            (IpAddr::from(Ipv6Addr::UNSPECIFIED), 128, "this host"),
            (IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, "link-local"),
            (IpAddr::from(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast"),
            (
                IpAddr::from(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
                128,
                "the metadata service",
            ),
            // Alibaba, Oracle and Azure have theirs outside of link-local.
            (v4(100, 100, 100, 200), 32, "the metadata service"),
            (v4(192, 0, 0, 192), 32, "the metadata service"),
            (v4(168, 63, 129, 16), 32, "the metadata service"),
        ] {
            self.addresses.push((address, length, reason));
        }
    }

    /// Protects a prefix: a broker, a cluster's API, what the configuration names.
    pub fn add_address(&mut self, address: IpAddr, prefix_length: u8, reason: &'static str) {
        let address = plain(address);
        let entry = (mask(address, prefix_length), prefix_length, reason);
        if !self.addresses.contains(&entry) {
            self.addresses.push(entry);
        }
    }

    /// Replaces what the host and the configuration named by a fresh reading.
    pub fn refresh(&mut self, addresses: impl IntoIterator<Item = Protected>) {
        self.reset_addresses();
        for (address, prefix_length, reason) in addresses {
            self.add_address(address, prefix_length, reason);
        }
    }

    /// Replaces what was found in namespaces that are not the host's.
    pub fn refresh_namespaces(&mut self, namespaces: HashMap<u64, Vec<Protected>>) {
        self.namespaces = namespaces;
    }

    /// Whether an address is protected in any namespace: only then does it matter where an offender
    /// lives.
    pub fn is_named_in_a_namespace(&self, address: IpAddr) -> bool {
        self.namespaces.values().flatten().any(|named| is_in(named, plain(address)))
    }

    /// Says in which namespaces the offender lives about whom is asked next; nothing is what is known
    /// of one that is gone.
    pub fn judge(&mut self, namespaces: Vec<u64>) {
        self.offender = namespaces;
    }

    /// A peer of the learned baseline.
    pub fn learn_peer(&mut self, workload: &Workload, address: IpAddr) {
        let address = plain(address);
        let known = self.baseline.get(workload);
        if !known.is_some_and(|known| known.contains(&address)) {
            let bytes = ADDRESS_BYTES + known.map_or_else(|| name_bytes(workload), |_| 0);
            if self.baseline_size < BASELINE_MAX
                && take_room(&mut self.baseline_bytes, bytes, BASELINE_BYTES_MAX)
            {
                self.baseline.entry(workload.clone()).or_default().insert(address);
                self.baseline_size += 1;
                self.changed = true;
            } else {
                self.overflow(workload);
            }
        }
        self.use_peer(workload, address);
    }

    /// The workload has a peer for which there was no room.
    fn overflow(&mut self, workload: &Workload) {
        if self.overflowed.contains(workload) {
            return;
        }
        let bytes = name_bytes(workload);
        if take_room(&mut self.overflowed_bytes, bytes, OVERFLOWED_BYTES_MAX) {
            self.overflowed.insert(workload.clone());
            self.changed = true;
        } else {
            self.changed |= !std::mem::replace(&mut self.all_overflowed, true);
        }
    }

    /// A peer that a workload used, learned or not: shared private addresses are infrastructure.
    pub fn use_peer(&mut self, workload: &Workload, address: IpAddr) {
        let address = plain(address);
        if !is_private(address) {
            return;
        }
        let users = self.private_users.get(&address);
        if users.is_some_and(|users| users.len() >= SHARED_BY || users.contains(workload)) {
            return;
        }
        if users.is_none() && self.private_users.len() >= SHARED_MAX {
            return;
        }
        let bytes = name_bytes(workload) + users.map_or(ADDRESS_BYTES, |_| 0);
        if take_room(&mut self.private_bytes, bytes, PRIVATE_BYTES_MAX) {
            self.private_users.entry(address).or_default().insert(workload.clone());
            self.changed = true;
        } else {
            // Whose users find no room is one of too many.
            self.changed |= self.private_users.remove(&address).is_some();
            self.changed |= !std::mem::replace(&mut self.private_overflowed, true);
        }
    }

    /// A file that a workload ran.
    pub fn use_file(&mut self, file: FileKey, workload: &Workload) {
        self.changed |= self.files.add(file, workload);
    }

    /// No other workload has run the file, as far as is known.
    pub fn is_exclusive(&self, file: FileKey, workload: &Workload) -> bool {
        self.files.is_exclusive(file, workload)
    }

    /// Files that made room for others.
    pub fn files_forgotten(&self) -> u64 {
        self.files.forgotten()
    }

    /// An admin logged in from there.
    pub fn add_admin_login(&mut self, source: IpAddr, wall_ns: i64) {
        self.admin_logins.retain(|_, last| wall_ns.saturating_sub(*last) < ADMIN_NS);
        let last = self.admin_logins.entry(plain(source)).or_insert(wall_ns);
        *last = (*last).max(wall_ns);
    }

    /// Hedgerow itself: its process, the ones above it, and its program.
    pub fn set_own(&mut self, tgids: impl IntoIterator<Item = u32>, path: Option<String>) {
        self.own = tgids.into_iter().chain([1]).collect();
        self.own_path = path;
    }

    /// Why a peer's address may not be denied to a workload.
    pub fn peer(&self, workload: &Workload, address: IpAddr, now_wall_ns: i64) -> Option<String> {
        let address = plain(address);
        if let Some((_, _, reason)) = self.addresses.iter().find(|named| is_in(named, address)) {
            return Some((*reason).to_owned());
        }
        let around = self.offender.iter().filter_map(|namespace| self.namespaces.get(namespace));
        if let Some((_, _, reason)) = around.flatten().find(|named| is_in(named, address)) {
            return Some(format!("{reason} in the offender's namespace"));
        }
        if self.baseline.get(workload).is_some_and(|known| known.contains(&address)) {
            return Some("a peer of the baseline".into());
        }
        if self.all_overflowed || self.overflowed.contains(workload) {
            return Some("a peer of a workload with too many to remember".into());
        }
        if is_private(address) {
            match self.private_users.get(&address) {
                Some(users) if users.len() >= SHARED_BY => {
                    return Some(format!("a private address that {SHARED_BY} workloads use"));
                }
                None if self.private_overflowed || self.private_users.len() >= SHARED_MAX => {
                    return Some("one of too many private addresses to count".into());
                }
                _ => {}
            }
        }
        let login = self.admin_logins.get(&address)?;
        (now_wall_ns.saturating_sub(*login) < ADMIN_NS)
            .then(|| "the source of an admin's login".into())
    }

    /// Why a prefix may not be denied to a workload: it is, holds, or lies in something protected.
    pub fn prefix(
        &self,
        workload: &Workload,
        address: IpAddr,
        prefix_length: u8,
        now_wall_ns: i64,
    ) -> Option<String> {
        let inside = |other: IpAddr| {
            other.is_ipv4() == address.is_ipv4()
                && mask(other, prefix_length) == mask(address, prefix_length)
        };
        let named = self.addresses.iter().find(|(prefix, ..)| inside(*prefix));
        if let Some((_, _, reason)) = named {
            return Some((*reason).to_owned());
        }
        let known = self.baseline.get(workload).into_iter().flatten();
        let mut others = known.chain(self.private_users.keys()).chain(self.admin_logins.keys());
        let whole = if address.is_ipv4() { 32 } else { 128 };
        if prefix_length == whole {
            return self.peer(workload, address, now_wall_ns);
        }
        others
            .find_map(|other| {
                inside(*other).then(|| self.peer(workload, *other, now_wall_ns)).flatten()
            })
            .or_else(|| self.peer(workload, address, now_wall_ns))
    }

    /// What the host itself needs, where a prefix is, holds, or lies in such: also an operator's entry
    /// could lock everybody out.
    pub fn infrastructure(
        &self,
        address: IpAddr,
        prefix_length: u8,
        now_wall_ns: i64,
    ) -> Option<String> {
        let address = plain(address);
        let meets = |other: IpAddr, length: u8| {
            let shorter = length.min(prefix_length);
            other.is_ipv4() == address.is_ipv4() && mask(other, shorter) == mask(address, shorter)
        };
        let named = self.addresses.iter().find(|(prefix, length, _)| meets(*prefix, *length));
        if let Some((_, _, reason)) = named {
            return Some((*reason).to_owned());
        }
        let recent = |(source, time): (&IpAddr, &i64)| {
            meets(*source, 128) && now_wall_ns.saturating_sub(*time) < ADMIN_NS
        };
        let login = self.admin_logins.iter().any(recent);
        login.then(|| "the source of an admin's login".to_owned())
    }

    /// Why the offender may not be denied at all.
    pub fn subject(&self, evidence: &Evidence) -> Option<String> {
        if evidence.login_uid.is_some() && evidence.subject.workload.is_session() {
            return Some("a login session".into());
        }
        if self.own.contains(&evidence.tgid) {
            return Some("Hedgerow, or init".into());
        }
        // What lies where others can write is not the package manager that its path claims.
        let untrusted = |object: &Object| {
            matches!(object, Object::ExecMemory { .. } | Object::ExecWritable { .. })
        };
        if evidence.objects.iter().any(untrusted) {
            return None;
        }
        // Whoever has a root directory of his own, or names code that is loaded before the program's,
        // calls anything by that path. Where nobody saw the exec, the path is all there is.
        if evidence.of_host == Some(false) {
            return None;
        }
        self.program(&evidence.subject)
    }

    fn program(&self, subject: &Subject) -> Option<String> {
        let path = &*subject.program.path;
        if self.own_path.as_deref() == Some(path) {
            return Some("Hedgerow".into());
        }
        let script = subject.program.script_path();
        [Some(path), script]
            .into_iter()
            .flatten()
            .find_map(|path| named(path).map(|what| format!("{what} ({path})")))
    }

    /// Takes over who is who on the host.
    pub fn set_users(&mut self, users: Users) {
        self.users = Some(users);
    }

    /// Who runs something now; the rest stays as it was read.
    pub fn set_present(&mut self, present: Present) {
        if let Some(users) = &mut self.users {
            users.present = present;
        }
    }

    pub fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// Why a process and its children may not be denied.
    pub fn task(&self, tgid: u32) -> Option<&'static str> {
        self.own.contains(&tgid).then_some("it is Hedgerow, above it, or init")
    }
}

/// What the host stands on that has this path.
pub fn named(path: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(_, paths)| paths.contains(&path)).map(|(what, _)| *what)
}

/// The most that is written of a workload's name.
fn name_bytes(workload: &Workload) -> usize {
    /// Quotes, and what stands around a list of its own.
    const AROUND: usize = 8;
    gate::json_bytes(workload.as_str()) + AROUND
}

/// Takes so many bytes, where that is room for them.
fn take_room(taken: &mut usize, bytes: usize, most: usize) -> bool {
    let room = bytes <= most.saturating_sub(*taken);
    *taken += if room { bytes } else { 0 };
    room
}

fn is_in((prefix, length, _): &Protected, address: IpAddr) -> bool {
    prefix.is_ipv4() == address.is_ipv4() && mask(address, *length) == mask(*prefix, *length)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // RFC 6598, shared address space, is used as private by clouds and clusters.
            v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests;
