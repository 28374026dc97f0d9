//! What the drain thread must not wait for, live: needs root, FUSE, cgroup v2.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    ffi::CString,
    fs::{self, File},
    os::fd::{AsRawFd, IntoRawFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use harness::Sensor;
use hedgerow_event::Origin;
use hedgerow_probe::{Options, identity::cgroup::Hierarchy};

/// Where podman describes its containers.
const DESCRIPTIONS: &str = "/run/containers/storage/overlay-containers";

/// This thread, and who it starts from here on, sees a file system that never answers there.
fn silence() -> File {
    let done = |result: libc::c_int| {
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    };
    let mount = |from: &str, at: &str, kind: &str, flags, data: &str| {
        let [from, at, kind, data] = [from, at, kind, data].map(|text| CString::new(text).unwrap());
        // SAFETY: terminated strings that outlive the call.
        done(unsafe {
            libc::mount(from.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
        });
    };
    // SAFETY: changes the mount namespace of this thread only.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) });
    mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE, "");
    mount("none", "/run", "tmpfs", 0, "");
    fs::create_dir_all(DESCRIPTIONS).unwrap();
    let fuse = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
    mount("silent", DESCRIPTIONS, "fuse", 0, &data);
    fuse
}

/// A cgroup with a process in it, which go when it is dropped.
struct Inhabited {
    directory: PathBuf,
    child: Child,
}

impl Inhabited {
    fn new(name: &str) -> Self {
        let directory = Hierarchy::open().unwrap().mount().join(name);
        fs::create_dir(&directory).unwrap();
        let enter = format!("echo $$ >{}/cgroup.procs; exec sleep 1000", directory.display());
        let child = Command::new("sh").args(["-c", &enter]).spawn().unwrap();
        Self { directory, child }
    }
    fn id(&self) -> u64 {
        let name = self.directory.file_name().unwrap().to_str().unwrap();
        Hierarchy::open().unwrap().id(name).unwrap()
    }
}

impl Drop for Inhabited {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
        let mut removed = fs::remove_dir(&self.directory);
        while removed.as_ref().is_err_and(|why| why.raw_os_error() == Some(libc::EBUSY)) {
            std::thread::sleep(Duration::from_millis(5));
            removed = fs::remove_dir(&self.directory);
        }
    }
}

#[test]
fn windows_close_while_a_containers_description_never_comes() {
    if !Path::new("/dev/fuse").exists() {
        // A guest without FUSE has nothing that could hang so.
        return;
    }
    let fuse = silence();
    let window = Duration::from_millis(300);
    let sensor = Sensor::start(Options { window, observe_own: true, ..Options::default() });
    let container = Inhabited::new(&format!("libpod-{:064x}.scope", std::process::id()));
    let id = container.id();
    sensor.wait("exec in the container", |seen| {
        seen.events.iter().any(|event| {
            event.actor.cgroup_id == id && matches!(event.origin, Origin::Row(_) | Origin::Exec(_))
        })
    });
    let closed = sensor.seen(|seen| seen.closes.len());
    sensor.wait("windows", |seen| seen.closes.len() > closed + 5);
    let seen = sensor.stop();
    let of_it = seen.events.iter().filter(|event| event.actor.cgroup_id == id);
    assert!(of_it.into_iter().all(|event| event.actor.subject.workload.as_str() == "container"));
    // Whoever hangs is let go, and nothing was held up behind it.
    drop(container);
    // SAFETY: our own descriptor.
    unsafe { libc::close(fuse.into_raw_fd()) };
}
