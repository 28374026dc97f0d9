//! One lab: its name, namespaces, cgroups, working directory, and what runs in them.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    cgroup,
    cleanup::Guard,
    error::{At, Error, Result},
    network::{self, Site},
};

/// Labs are told from everything else on the host by this prefix.
const PREFIX: &str = "hedgerow-lab";
/// The lab of `lab up`: it has no owner and is removed by `lab down` alone.
const SHARED: &str = "hedgerow-lab.shared";
/// Not under /tmp: programs of a service don't live in a place that others can write to.
const WORK_ROOT: &str = "/var/lib";
/// What [`Lab::shield`] covers.
const SHIELDED: [&str; 4] = ["/etc/cron.d", "/etc/systemd/system", "/var/spool/cron", "/root/.ssh"];

static SEQUENCE: AtomicU32 = AtomicU32::new(0);

/// Namespaces, cgroups and a directory of their own; an owned lab takes them along when it goes.
#[derive(Debug)]
pub struct Lab {
    name: String,
    cgroup: PathBuf,
    directory: PathBuf,
    /// Mounts of its own, where [`Lab::shield`] made them.
    mounts: Option<File>,
    _cleanup: Option<Guard>,
}

impl Lab {
    /// Makes a lab that is removed on drop, on panic, and on SIGINT, SIGTERM and SIGHUP. Labs that
    /// a killed process left behind are removed first.
    pub fn up() -> Result<Self> {
        require_root()?;
        remove_stale()?;
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let owner = process::id();
        let started = start_ticks(owner).unwrap_or(0);
        let name = format!("{PREFIX}.{owner}.{started}.{sequence}");
        let guarded = name.clone();
        let guard = Guard::new(move || report(&guarded, remove(&guarded)));
        Self::create(name, Some(guard))
    }

    /// Gives the lab mounts of its own, in which directories of the lab lie over those where the
    /// machine keeps jobs and units: what is written there is written for nobody.
    pub fn shield(&mut self) -> Result<()> {
        let mut over = Vec::new();
        for place in SHIELDED {
            let name = place.trim_matches('/').replace('/', "-");
            let own = self.subdirectory(&name, &User::ROOT)?;
            fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).at("chmod", &own)?;
            if Path::new(place).exists() {
                let text = |path: &str| CString::new(path).unwrap_or_default();
                over.push((text(&own.display().to_string()), text(place)));
            }
        }
        let mount = move || {
            let none = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            // SAFETY: system calls on strings that live in this closure.
            let made = unsafe {
                libc::unshare(libc::CLONE_NEWNS) == 0
                    && libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
                    && over.iter().all(|(own, place)| {
                        let bind = libc::MS_BIND;
                        libc::mount(own.as_ptr(), place.as_ptr(), none, bind, none.cast()) == 0
                    })
            };
            if made { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        let mut holder = Command::new("/bin/sleep");
        holder.arg("60");
        // SAFETY: `mount` makes system calls only and allocates nothing.
        unsafe { holder.pre_exec(mount) };
        let mut holder = holder.spawn().at("start", "/bin/sleep")?;
        let path = PathBuf::from(format!("/proc/{}/ns/mnt", holder.id()));
        // An open descriptor keeps the namespace.
        let mounts = File::open(&path).at("open", &path);
        let _ = holder.kill();
        let _ = holder.wait();
        self.mounts = Some(mounts?);
        Ok(())
    }

    /// Makes the lab that stays until [`Lab::remove_shared`], for use by hand.
    pub fn create_shared() -> Result<Self> {
        require_root()?;
        remove(SHARED)?;
        Self::create(SHARED.to_owned(), None)
    }

    /// The lab that [`Lab::create_shared`] made.
    pub fn shared() -> Result<Self> {
        require_root()?;
        let lab = Self::named(SHARED.to_owned(), None)?;
        if lab.cgroup.exists() { Ok(lab) } else { Err(Error::NotUp) }
    }

    pub fn remove_shared() -> Result<()> {
        require_root()?;
        remove(SHARED)
    }

    fn named(name: String, cleanup: Option<Guard>) -> Result<Self> {
        let cgroup = cgroup::mount_point()?.join(&name);
        let directory = Path::new(WORK_ROOT).join(&name);
        Ok(Self { name, cgroup, directory, mounts: None, _cleanup: cleanup })
    }

    fn create(name: String, cleanup: Option<Guard>) -> Result<Self> {
        let lab = Self::named(name, cleanup)?;
        fs::create_dir(&lab.cgroup).at("create", &lab.cgroup)?;
        fs::create_dir(&lab.directory).at("create", &lab.directory)?;
        fs::set_permissions(&lab.directory, fs::Permissions::from_mode(0o755))
            .at("chmod", &lab.directory)?;
        network::create(&lab.name)?;
        Ok(lab)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory of this lab, readable by all, removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes `name` in the lab's directory, owned by `user`.
    pub(crate) fn subdirectory(&self, name: &str, user: &User) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).at("create", &path)?;
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).at("chown", &path)?;
        Ok(path)
    }

    /// A directory below /tmp, where anybody can write, that also goes with the lab.
    pub(crate) fn dropped(&self) -> PathBuf {
        dropped(&self.name)
    }

    /// The workload that processes of `unit` belong to: their cgroup is named like a systemd unit.
    pub fn workload(unit: &str) -> String {
        format!("lab-{unit}.service")
    }

    /// The cgroup of `unit`, made when it is not there.
    pub fn cgroup(&self, unit: &str) -> Result<PathBuf> {
        self.child_cgroup(&Self::workload(unit))
    }

    /// Has a unit stand still, or go on.
    pub(crate) fn freeze(&self, unit: &str, still: bool) -> Result<()> {
        let path = self.cgroup(unit)?.join("cgroup.freeze");
        fs::write(&path, if still { "1" } else { "0" }).at("write", &path)
    }

    fn child_cgroup(&self, name: &str) -> Result<PathBuf> {
        let path = self.cgroup.join(name);
        fs::create_dir_all(&path).at("create", &path)?;
        Ok(path)
    }

    /// A command that will run at `site`, in the cgroup of `unit`, as `user`, as the leader of a
    /// session of its own and with a small fixed environment.
    pub fn command(&self, site: Site, unit: &str, user: &User, program: &str) -> Result<Command> {
        self.command_in(self.cgroup(unit)?, site, user, program)
    }

    /// The same as root, in a cgroup that no unit has its name from.
    pub(crate) fn command_outside_units(
        &self,
        site: Site,
        name: &str,
        program: &str,
    ) -> Result<Command> {
        self.command_in(self.child_cgroup(name)?, site, &User::ROOT, program)
    }

    fn command_in(
        &self,
        cgroup: PathBuf,
        site: Site,
        user: &User,
        program: &str,
    ) -> Result<Command> {
        let tasks_path = cgroup.join("cgroup.procs");
        let tasks = OpenOptions::new().write(true).open(&tasks_path).at("open", &tasks_path)?;
        let space_path = network::namespace_path(&self.name, site.name());
        let space = File::open(&space_path).at("open", &space_path)?;
        let mounts = self.mounts.as_ref().map(File::try_clone).transpose();
        let mounts = mounts.at("share", "the lab's mounts")?;
        let (uid, gid) = (user.uid, user.gid);
        let enter = move || {
            if let Some(mounts) = &mounts {
                enter_mounts(mounts)?;
            }
            // SAFETY: async-signal-safe calls only; both descriptors live in this closure.
            let failed = unsafe {
                libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1
                    || libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) != 0
                    || libc::setsid() < 0
                    || libc::setgroups(0, std::ptr::null()) != 0
                    || libc::setgid(gid) != 0
                    || libc::setuid(uid) != 0
            };
            if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.directory)
            .env("LC_ALL", "C")
            .current_dir(&self.directory);
        // SAFETY: `enter` makes async-signal-safe system calls only and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }
}

/// Moves into other mounts, to the same working directory.
fn enter_mounts(mounts: &File) -> io::Result<()> {
    let mut cwd = [0; 4096];
    // SAFETY: async-signal-safe system calls; `cwd` is as long as it is said to be.
    let moved = unsafe {
        !libc::getcwd(cwd.as_mut_ptr(), cwd.len()).is_null()
            && libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS) == 0
            && libc::chdir(cwd.as_ptr()) == 0
    };
    if moved { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A local user to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Looks `name` up in `/etc/passwd`.
    pub fn named(name: &str) -> Result<Self> {
        let text = fs::read_to_string("/etc/passwd").at("read", "/etc/passwd")?;
        let find = |line: &str| {
            let mut fields = line.split(':');
            let matches = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            matches.then_some(Self { uid, gid })
        };
        text.lines().find_map(find).ok_or_else(|| Error::NoUser(name.to_owned()))
    }
}

fn require_root() -> Result<()> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 { Ok(()) } else { Err(Error::NotRoot) }
}

/// Kills, unmounts and deletes all that belongs to the lab called `name`.
fn remove(name: &str) -> Result<()> {
    let cgroup = cgroup::mount_point()?.join(name);
    cgroup::remove(&cgroup).at("remove", cgroup)?;
    network::remove(name)?;
    for directory in [Path::new(WORK_ROOT).join(name), dropped(name)] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at("remove", directory);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dropped(name: &str) -> PathBuf {
    Path::new("/tmp").join(name)
}

fn report(name: &str, result: Result<()>) {
    if let Err(error) = result {
        eprintln!("lab: {name} could not be removed: {error}");
    }
}

/// Removes every lab whose owner is gone. A lab shows in any of its three parts.
fn remove_stale() -> Result<()> {
    let parts = [cgroup::mount_point()?, WORK_ROOT.into(), "/run/netns".into()];
    let mut names: Vec<String> = parts
        .iter()
        .filter_map(|part| fs::read_dir(part).ok())
        .flatten()
        .filter_map(|entry| stale_name(entry.ok()?.file_name().to_str()?))
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        report(&name, remove(&name));
    }
    Ok(())
}

/// `hedgerow-lab.PID.START.N[.PLACE]` to the lab's name, if its owner is gone.
fn stale_name(entry: &str) -> Option<String> {
    let mut parts = entry.split('.');
    if parts.next()? != PREFIX {
        return None;
    }
    let owner: u32 = parts.next()?.parse().ok()?;
    let started: u64 = parts.next()?.parse().ok()?;
    let sequence: u32 = parts.next()?.parse().ok()?;
    // A pid comes round again; a pid with its start time does not.
    (start_ticks(owner) != Some(started)).then(|| format!("{PREFIX}.{owner}.{started}.{sequence}"))
}

/// Start time of a process in clock ticks since boot, field 22 of `/proc/PID/stat`.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold spaces.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_labs_without_an_owner_are_stale() {
        let own = process::id();
        let started = start_ticks(own).unwrap();
        assert_eq!(stale_name(&format!("{PREFIX}.{own}.{started}.0")), None);
        let reused = format!("{PREFIX}.{own}.{}.3", started + 1);
        assert_eq!(stale_name(&format!("{reused}.service")), Some(reused));
        assert_eq!(stale_name(SHARED), None);
        assert_eq!(stale_name("hedgerow-label.1.2.3"), None);
    }

    #[test]
    fn root_is_found_by_name() {
        assert_eq!(User::named("root").unwrap(), User::ROOT);
        assert!(matches!(User::named("no-such-user"), Err(Error::NoUser(_))));
    }
}
