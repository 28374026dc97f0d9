//! Files in use are told once: mapped executable, or read by a name of program text.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    process::Command,
};

use harness::Sensor;
use hedgerow_event::{Use, Used};
use hedgerow_probe::Options;

fn of<'a>(used: &'a [Used], path: &Path) -> Vec<&'a Used> {
    used.iter().filter(|used| Path::new(&*used.path) == path).collect()
}

fn map(path: &Path, protection: i32) {
    let file = File::open(path).unwrap();
    // SAFETY: a new private mapping of a page of our own file, which nobody touches.
    unsafe {
        let (null, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        let at = libc::mmap(null, 4096, protection, libc::MAP_PRIVATE, fd, 0);
        assert_ne!(at, libc::MAP_FAILED);
        assert_eq!(libc::munmap(at, 4096), 0);
    }
}

#[test]
fn what_is_mapped_executable_and_what_an_interpreter_reads_is_told_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let path = |name: &str| home.join(name);
    for name in ["a.so", "data.so", "m.py", "m.txt", "w.py", "last.mjs"] {
        fs::write(path(name), [0; 4096]).unwrap();
    }
    let options = Options { flows: false, observe_own: true, ..Options::default() };
    let sensor = Sensor::start(options);
    for _ in 0..3 {
        map(&path("a.so"), libc::PROT_READ | libc::PROT_EXEC);
        map(&path("data.so"), libc::PROT_READ);
        for name in ["m.py", "m.txt"] {
            drop(File::open(path(name)).unwrap());
        }
        drop(File::options().write(true).open(path("w.py")).unwrap());
    }
    assert!(Command::new("bash").args(["-c", ":"]).status().unwrap().success());
    drop(File::open(path("last.mjs")).unwrap());
    sensor.wait("the library of a program", |seen| {
        seen.used.iter().any(|used| used.path.contains("/libc.so") && used.how == Use::Mapped)
    });
    sensor.wait("the last file", |seen| !of(&seen.used, &path("last.mjs")).is_empty());
    sensor.seen(|seen| {
        let mapped = of(&seen.used, &path("a.so"));
        assert_eq!(mapped.len(), 1);
        assert_eq!(mapped[0].how, Use::Mapped);
        assert_eq!(mapped[0].file.inode, fs::metadata(path("a.so")).unwrap().ino());
        assert_eq!(mapped[0].actor.tgid, std::process::id());
        let read = of(&seen.used, &path("m.py"));
        assert_eq!(read.iter().map(|used| used.how).collect::<Vec<_>>(), [Use::Read]);
        for name in ["data.so", "m.txt", "w.py"] {
            assert!(of(&seen.used, &path(name)).is_empty(), "{name}");
        }
    });
}
