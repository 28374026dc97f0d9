//! Workloads of processes in no unit: the service at the root of a process's lineage, or a login
//! session.

use std::collections::{HashMap, HashSet};

use hedgerow_bpf::wire;
use hedgerow_event::{Program, Workload};

use super::aside::Running;

/// Distinct services and logins that get a name of their own as long as the sensor runs. All others
/// are the host's, and counted.
pub const SERVICES_MAX: usize = 256;
/// Kernel ids of services that are remembered, as many as the kernel has room for. When all are
/// taken, those that no process has are forgotten; when there are none, further ones are the
/// host's, and counted.
const IDS_MAX: usize = 4096;

/// Programs whose children's login sessions are workloads of their own. Others that set a login uid
/// (cron) only say in whose name they work.
const LOGINS: [&str; 6] = [
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/libexec/sshd-session",
    "/bin/login",
    "/usr/bin/login",
];

/// What the kernel keeps of a process's lineage; all 0 where it told nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Root {
    pub tgid: u32,
    pub start_boot_ns: u64,
    /// The kernel's id of what names the service; 0 for none.
    pub service: u64,
    /// Who logged in since the instance began, as of the last program that the process itself
    /// executed; `u32::MAX` for nobody.
    pub login_uid: u32,
}

impl From<&wire::wire_root> for Root {
    fn from(root: &wire::wire_root) -> Self {
        Self {
            tgid: root.tgid,
            start_boot_ns: root.start_boot_ns,
            service: root.service,
            login_uid: root.login_uid,
        }
    }
}

impl Root {
    pub fn is_known(&self) -> bool {
        self.start_boot_ns != 0
    }
    /// What has a workload: sessions of one login are one, whatever they run.
    pub fn id(&self) -> ServiceId {
        ServiceId { service: self.service, login_uid: self.login_uid }
    }
}

/// Key of a service's number in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceId {
    pub service: u64,
    pub login_uid: u32,
}

/// The program that an id stands for, and whether its children may log in.
#[derive(Debug)]
struct Named {
    program: Program,
    admits: bool,
}

/// Names of services by their ids.
#[derive(Debug)]
pub struct Services {
    programs: HashMap<u64, Named>,
    workloads: HashMap<ServiceId, Workload>,
    /// The host's among them.
    names: HashSet<Workload>,
    /// Services that found no room.
    refused: u64,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            programs: HashMap::new(),
            workloads: HashMap::new(),
            names: HashSet::from([Workload::host()]),
            refused: 0,
        }
    }
}

impl Services {
    /// Times that a service was the host's because all names or ids were taken.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a service goes by this name, or did.
    pub fn is_named(&self, workload: &Workload) -> bool {
        self.names.contains(workload)
    }

    /// The workload of what is known already.
    pub fn known(&self, root: &Root) -> Option<&Workload> {
        self.workloads.get(&root.id())
    }

    /// A program was executed that has this id: so is the service called whose root runs it.
    /// `trusted` tells that only root can have put the file there.
    pub fn executed(&mut self, service: u64, program: &Program, trusted: bool) {
        if service == 0 || !names(program) || self.programs.len() >= IDS_MAX {
            return;
        }
        let admits = trusted && LOGINS.contains(&&*program.path);
        let named = || Named { program: program.clone(), admits };
        self.programs.entry(service).or_insert_with(named);
    }

    /// Whether the children of the program that an id stands for may log in; `None` where nobody saw it
    /// executed.
    pub fn admits(&self, service: u64) -> Option<bool> {
        self.programs.get(&service).map(|named| named.admits)
    }

    /// Whether nobody saw what the root executed, and it is to be looked at.
    pub fn wants(&self, root: &Root) -> bool {
        let known = self.workloads.contains_key(&root.id());
        !known && root.service != 0 && !self.programs.contains_key(&root.service)
    }

    /// Names the service of a root, by what was executed or by what it runs. What can't be named is
    /// the host's, and stays so: its processes have one workload all their life. `None`: nothing is
    /// known of it, or there is no room even for that.
    pub fn name(&mut self, root: &Root, running: Option<Running>) -> Option<Workload> {
        if let Some(known) = self.workloads.get(&root.id()) {
            return Some(known.clone());
        }
        if root.service == 0 {
            return None;
        }
        if self.workloads.len() >= IDS_MAX {
            self.refused += 1;
            return None;
        }
        let mut workload = self.read(root, running).unwrap_or_else(Workload::host);
        if !self.names.contains(&workload) && self.names.len() > SERVICES_MAX {
            self.refused += 1;
            workload = Workload::host();
        }
        self.names.insert(workload.clone());
        self.workloads.insert(root.id(), workload.clone());
        Some(workload)
    }

    fn read(&mut self, root: &Root, running: Option<Running>) -> Option<Workload> {
        if !self.programs.contains_key(&root.service) {
            let Running { program, trusted, .. } = running?;
            self.executed(root.service, &program, trusted);
        }
        let named = self.programs.get(&root.service)?;
        if named.admits && root.login_uid != u32::MAX {
            return Some(Workload::login(root.login_uid));
        }
        Some(Workload::new(named.program.to_string()))
    }

    /// Whether it is time to forget what is no longer used.
    pub fn is_full(&self) -> bool {
        self.workloads.len() >= IDS_MAX || self.programs.len() >= IDS_MAX
    }

    /// Forgets the ids that no process has; returns those that the kernel should forget.
    pub fn retain(&mut self, used: &HashSet<ServiceId>) -> Vec<ServiceId> {
        let services: HashSet<u64> = used.iter().map(|id| id.service).collect();
        self.programs.retain(|service, _| services.contains(service));
        let gone: Vec<_> = self.workloads.keys().filter(|id| !used.contains(id)).copied().collect();
        self.workloads.retain(|id, _| used.contains(id));
        gone
    }
}

/// A service is called by a path: what has none (a file in memory, a relative name that a loader
/// was given) could call itself like a unit.
fn names(program: &Program) -> bool {
    program.path.starts_with('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::aside::tests::this_process;

    fn root(service: u64, login_uid: u32) -> Root {
        Root { tgid: u32::MAX, start_boot_ns: 1, service, login_uid }
    }

    fn name(services: &mut Services, service: u64, login_uid: u32) -> Option<String> {
        let root = root(service, login_uid);
        services.name(&root, None).map(|workload| workload.as_str().to_owned())
    }

    #[test]
    fn a_service_is_called_by_its_program_and_a_login_by_its_user() {
        let mut services = Services::default();
        let mut script = Program::new("/usr/bin/python3");
        script.script = Some("/srv/app.py".into());
        services.executed(1, &Program::new("/usr/sbin/nginx"), true);
        services.executed(2, &script, true);
        services.executed(3, &Program::new("/usr/sbin/sshd"), true);
        services.executed(4, &Program::new("/usr/sbin/sshd"), false);
        services.executed(5, &Program::new("memfd"), true);
        services.executed(6, &Program::new("nginx.service"), true);
        let unset = u32::MAX;
        for (service, login_uid, expected) in [
            (1, unset, Some("/usr/sbin/nginx")),
            (1, 0, Some("/usr/sbin/nginx")),
            (2, unset, Some("/usr/bin/python3 /srv/app.py")),
            (3, unset, Some("/usr/sbin/sshd")),
            (3, 1000, Some("login:1000")),
            (4, 1000, Some("/usr/sbin/sshd")),
            (5, unset, Some("host")),
            (6, unset, Some("host")),
            (7, unset, Some("host")),
            (0, unset, None),
        ] {
            assert_eq!(name(&mut services, service, login_uid).as_deref(), expected, "{service}");
        }
        let admits = [1, 3, 4, 7].map(|service| services.admits(service));
        assert_eq!(admits, [Some(false), Some(true), Some(false), None]);
    }

    #[test]
    fn a_name_stands_and_what_finds_no_room_is_counted() {
        let mut services = Services::default();
        for service in 1..=SERVICES_MAX as u64 + 1 {
            services.executed(service, &Program::new(format!("/bin/{service}")), true);
            let named = name(&mut services, service, u32::MAX).unwrap();
            assert_eq!(named != "host", service <= SERVICES_MAX as u64, "{named}");
        }
        assert_eq!(services.refused(), 1);
        services.executed(1, &Program::new("/bin/other"), true);
        assert_eq!(name(&mut services, 1, u32::MAX).as_deref(), Some("/bin/1"));
    }

    #[test]
    fn ids_that_nobody_has_make_room() {
        let mut services = Services::default();
        let program = Program::new("/bin/upgraded");
        for service in 1..=IDS_MAX as u64 {
            services.executed(service, &program, true);
            assert!(name(&mut services, service, u32::MAX).is_some());
        }
        assert!(services.is_full());
        let used = HashSet::from([root(7, u32::MAX).id()]);
        assert_eq!(services.retain(&used).len(), IDS_MAX - 1);
        assert!(!services.is_full() && services.known(&root(7, u32::MAX)).is_some());
        assert!(services.known(&root(8, u32::MAX)).is_none());
    }

    #[test]
    fn a_root_that_runs_is_named_by_what_it_runs() {
        let mut services = Services::default();
        let us = root(1, u32::MAX);
        assert!(services.wants(&us));
        let name = services.name(&us, Some(this_process())).unwrap();
        assert!(name.as_str().starts_with(std::env::current_exe().unwrap().to_str().unwrap()));
        assert!(!services.wants(&us) && !services.wants(&root(0, u32::MAX)));
        assert_eq!(services.name(&root(2, u32::MAX), None), Some(Workload::host()), "it is gone");
    }
}
