//! Files in use are told once: mapped executable, or read by a name of program text.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use harness::Sensor;
use hedgerow_event::{Use, Used};
use hedgerow_probe::Options;

fn of<'a>(used: &'a [Used], path: &Path) -> Vec<&'a Used> {
    used.iter().filter(|used| Path::new(&*used.path) == path).collect()
}

#[test]
fn what_is_mapped_executable_and_what_an_interpreter_reads_is_told_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let path = |name: &str| home.join(name);
    for name in ["a.so", "data.so", "m.py", "m.txt"] {
        fs::write(path(name), [0; 4096]).unwrap();
    }
    let text = "import mmap, sys\n\
                d = sys.argv[1]\n\
                def use(name, prot):\n  \
                    with open(d + name, 'rb') as f: mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, prot)\n\
                for _ in range(3): use('/a.so', 5); use('/data.so', 1)\n\
                for name in ['/m.py', '/m.txt', '/m.py']: open(d + name).close()\n\
                open(d + '/w.py', 'w').close()\n";
    let sensor = Sensor::start(Options { flows: false, observe_own: true, ..Options::default() });
    let run = Command::new("python3").args(["-c", text]).arg(&home).status().unwrap();
    assert!(run.success());
    let last = path("m.py");
    sensor.wait("the file that was read", |seen| !of(&seen.used, &last).is_empty());
    sensor.seen(|seen| {
        let mapped = of(&seen.used, &path("a.so"));
        assert_eq!(mapped.len(), 1);
        assert_eq!(mapped[0].how, Use::Mapped);
        assert_eq!(mapped[0].file.inode, fs::metadata(path("a.so")).unwrap().ino());
        assert!(mapped[0].actor.subject.program.path.contains("python3"));
        let read = of(&seen.used, &path("m.py"));
        assert_eq!(read.iter().map(|used| used.how).collect::<Vec<_>>(), [Use::Read]);
        for name in ["data.so", "m.txt", "w.py"] {
            assert!(of(&seen.used, &path(name)).is_empty(), "{name}");
        }
        assert!(seen.used.iter().any(|used| used.path.contains("libc.so")));
    });
    assert_eq!(sensor.control().stats().unwrap().used_untold, 0);
}
