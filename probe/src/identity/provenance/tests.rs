#![allow(clippy::unwrap_used)]
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use md5::Digest as _;

use super::*;

/// A host that a test made up.
struct Made {
    place: tempfile::TempDir,
    ownership: Ownership,
}

fn sum(content: &str) -> Md5 {
    md5::Md5::digest(content).into()
}

fn hex(content: &str) -> String {
    sum(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn status(package: &str, state: &str, rest: &str) -> String {
    format!(
        "Package: {package}\nStatus: install ok {state}\nArchitecture: amd64\n\
         Version: 1.0-1\n{rest}\n"
    )
}

impl Made {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "usr/bin", "etc"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        let sources = Sources {
            root: place.path().to_owned(),
            tree: place.path().to_owned(),
            prefix: "/var/lib/dpkg".into(),
            owner: fs::metadata(place.path()).unwrap().uid(),
        };
        Self { ownership: Ownership::unread(sources), place }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn dpkg(&self, path: &str, content: &str) {
        self.put(&format!("var/lib/dpkg/{path}"), content);
    }

    /// A package whose files are their own paths.
    fn sums(&self, package: &str, paths: &[&str]) {
        let lines = paths.iter().map(|path| format!("{}  {path}\n", hex(path)));
        self.dpkg(&format!("info/{package}.md5sums"), &lines.collect::<String>());
    }

    /// Provenance of a file of the host's with this content.
    #[track_caller]
    fn of(&self, path: &str, content: &str) -> Provenance {
        let setting = Setting { host: true, tree: true, own: true };
        self.judged(path, content, Origin { layer: Layer::None, setting })
    }

    #[track_caller]
    fn judged(&self, path: &str, content: &str, origin: Origin) -> Provenance {
        if self.ownership.database().is_none() {
            self.ownership.renew();
        }
        self.ownership.settle(path, origin, Some(sum(content)));
        self.ownership.judge(path, origin, Some(sum(content))).unwrap()
    }
}

#[test]
fn content_decides_and_a_path_that_no_package_has_is_nobodys() {
    let host = Made::new();
    host.dpkg("status", &status("tool", "installed", ""));
    host.sums("tool", &["usr/bin/tool"]);
    assert_eq!(host.of("/usr/bin/tool", "usr/bin/tool"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/tool", "evil"), Provenance::Modified);
    assert_eq!(host.of("/usr/bin/other", "usr/bin/tool"), Provenance::Unowned);
    let origin =
        Origin { layer: Layer::None, setting: Setting { host: true, tree: true, own: true } };
    let told = |path| host.ownership.judge(path, origin, None);
    assert_eq!(told("/usr/bin/other"), Some(Provenance::Unowned), "it needn't be read");
    assert_eq!(told("/usr/bin/tool"), None);
}

#[test]
fn links_of_directories_and_diversions_are_followed() {
    let host = Made::new();
    symlink("usr/bin", host.at("bin")).unwrap();
    fs::create_dir_all(host.at("usr/lib/tool/real")).unwrap();
    symlink("../usr/lib/./tool/real", host.at("usr/link")).unwrap();
    host.dpkg("status", &[status("a", "installed", ""), status("b", "installed", "")].join("\n"));
    host.sums("a", &["bin/a", "bin/diverted", "usr/link/x"]);
    host.dpkg("info/b.md5sums", &format!("{}  bin/diverted\n", hex("of b")));
    host.dpkg("diversions", "/bin/diverted\n/bin/diverted.distrib\nb\n");
    assert_eq!(host.of("/usr/bin/a", "bin/a"), Provenance::Package);
    assert_eq!(host.of("/usr/lib/tool/real/x", "usr/link/x"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/diverted", "of b"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/diverted", "bin/diverted"), Provenance::Modified);
    assert_eq!(host.of("/usr/bin/diverted.distrib", "bin/diverted"), Provenance::Package);
}

#[test]
fn a_configuration_file_is_its_packages_while_it_is_as_it_came() {
    let host = Made::new();
    let files = |content: &str| format!("Conffiles:\n /etc/init.d/tool {}\n", hex(content));
    host.dpkg("status", &status("tool", "installed", &files("as it came")));
    host.sums("tool", &["usr/bin/tool"]);
    assert_eq!(host.of("/etc/init.d/tool", "as it came"), Provenance::Package);
    assert_eq!(host.of("/etc/init.d/tool", "edited"), Provenance::Modified);
    // A new version, noted before the status is written anew; its other files are as they were.
    host.dpkg("updates/0001", &status("tool", "half-configured", &files("as it comes")));
    assert_eq!(host.of("/etc/init.d/tool", "as it comes"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/tool", "usr/bin/tool"), Provenance::Package);
}

#[test]
fn only_packages_that_are_there_own_files() {
    let host = Made::new();
    let states = ["half-installed", "unpacked", "half-configured", "triggers-pending"];
    let mut all: Vec<String> = states.iter().map(|state| status(state, state, "")).collect();
    all.push(status("removed", "config-files", ""));
    host.dpkg("status", &all.join("\n"));
    for name in states.iter().chain(&["removed", "unheard-of"]) {
        host.sums(name, &[&format!("usr/bin/{name}")]);
    }
    let of = |name: &str| host.of(&format!("/usr/bin/{name}"), &format!("usr/bin/{name}"));
    assert!(states.iter().all(|state| of(state) == Provenance::Package));
    assert_eq!((of("removed"), of("unheard-of")), (Provenance::Unowned, Provenance::Unowned));
}

#[test]
fn packages_of_two_architectures_share_a_file() {
    let host = Made::new();
    let of = |architecture: &str| {
        format!(
            "Package: lib\nStatus: install ok installed\nArchitecture: {architecture}\n\
             Multi-Arch: same\nVersion: 1\n"
        )
    };
    host.dpkg("status", &[of("amd64"), of("i386")].join("\n"));
    host.sums("lib:amd64", &["usr/bin/lib"]);
    host.dpkg("info/lib:i386.md5sums", &format!("{}  usr/bin/lib\n", hex("other")));
    assert_eq!(host.of("/usr/bin/lib", "usr/bin/lib"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/lib", "other"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/lib", "third"), Provenance::Modified);
}

#[test]
fn digests_that_others_can_write_are_not_believed() {
    let host = Made::new();
    let packages = ["forged", "linked", "fine"].map(|name| status(name, "installed", ""));
    host.dpkg("status", &packages.join("\n"));
    for name in ["forged", "fine"] {
        host.sums(name, &[&format!("usr/bin/{name}")]);
    }
    host.dpkg("info/forged.list", "/.\n/usr/bin/forged\n");
    let open = |path: &str, mode| {
        let path = host.at(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open("var/lib/dpkg/info/forged.md5sums", 0o666);
    host.put("tmp/linked", &format!("{}  usr/bin/linked\n", hex("usr/bin/linked")));
    symlink("../../../../tmp/linked", host.at("var/lib/dpkg/info/linked.md5sums")).unwrap();
    let of = |name: &str| host.of(&format!("/usr/bin/{name}"), &format!("usr/bin/{name}"));
    assert_eq!(of("fine"), Provenance::Package);
    assert_eq!(of("forged"), Provenance::Unknown, "it is the package's, whatever is in it");
    // Nobody knows which files that package has.
    assert_eq!((of("linked"), of("stranger")), (Provenance::Unknown, Provenance::Unknown));
    // As soon as anybody may write the whole.
    open("var/lib/dpkg/info", 0o777);
    host.dpkg("status", &packages.join("\n"));
    assert_eq!(of("stranger"), Provenance::Unknown);
    host.ownership.renew();
    assert_eq!(of("fine"), Provenance::Unknown);
}

#[test]
fn a_running_upgrade_makes_no_strangers() {
    let host = Made::new();
    host.dpkg("status", &status("tool", "installed", ""));
    host.sums("tool", &["usr/bin/tool"]);
    assert_eq!(host.of("/usr/bin/tool", "usr/bin/tool"), Provenance::Package);
    // dpkg runs the new package's script, then puts its files in place, and what it says of them
    // last.
    host.dpkg("updates/0001", &status("tool", "half-installed", ""));
    let control = "Package: tool\nArchitecture: amd64\nVersion: 2.0-1\n";
    host.dpkg("tmp.ci/control", control);
    host.dpkg("tmp.ci/md5sums", &format!("{}  usr/bin/tool\n", hex("version 2")));
    host.dpkg("tmp.ci/preinst", "#!/bin/sh\n");
    assert_eq!(host.of("/var/lib/dpkg/tmp.ci/preinst", "#!/bin/sh\n"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/tool", "version 2"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/tool", "usr/bin/tool"), Provenance::Package);
    fs::remove_dir_all(host.at("var/lib/dpkg/tmp.ci")).unwrap();
    host.dpkg("info/tool.md5sums", &format!("{}  usr/bin/tool\n", hex("version 2")));
    host.ownership.renew();
    assert_eq!(host.of("/usr/bin/tool", "version 2"), Provenance::Package);
    assert_eq!(host.of("/usr/bin/tool", "usr/bin/tool"), Provenance::Modified);
    assert_eq!(host.of("/var/lib/dpkg/info/tool.postinst", "anything"), Provenance::Package);
    // A package that wasn't there before is one as soon as dpkg has noted it.
    host.sums("fresh", &["usr/bin/fresh"]);
    host.dpkg("updates/0002", &status("fresh", "unpacked", ""));
    assert_eq!(host.of("/usr/bin/fresh", "usr/bin/fresh"), Provenance::Package);
}

#[test]
fn what_changes_again_within_the_same_time_is_read_again() {
    let host = Made::new();
    host.dpkg("status", &status("tool", "installed", ""));
    // Written in place: the same inode and size, and where the clock of files stood, the same time.
    for version in 10..40 {
        let content = format!("version {version}");
        host.dpkg("info/tool.md5sums", &format!("{}  usr/bin/tool\n", hex(&content)));
        // As whatever dpkg does, it changes the directory.
        host.dpkg(&format!("info/{version}.list"), "");
        host.ownership.renew();
        assert_eq!(host.of("/usr/bin/tool", &content), Provenance::Package, "{content}");
    }
}

#[test]
fn scripts_of_the_database_are_those_that_root_put_there() {
    let host = Made::new();
    host.dpkg("status", &status("tool", "installed", ""));
    host.sums("tool", &[]);
    let of = |path: &str, own| {
        let setting = Setting { host: true, tree: true, own };
        host.judged(path, "", Origin { layer: Layer::None, setting })
    };
    assert_eq!(of("/var/lib/dpkg/info/tool.prerm", true), Provenance::Package);
    assert_eq!(of("/var/lib/dpkg/info/tool.prerm", false), Provenance::Modified);
    assert_eq!(of("/var/lib/dpkg/info/tool.evil", true), Provenance::Unowned);
    assert_eq!(of("/var/lib/dpkg/info/other.prerm", true), Provenance::Unowned);
    assert_eq!(of("/var/lib/dpkg/tmp.ci/preinst", true), Provenance::Unowned);
}

#[test]
fn a_package_that_is_in_no_list_is_told() {
    let host = Made::new();
    host.dpkg(
        "status",
        &[status("listed", "installed", ""), status("own", "installed", "")].join("\n"),
    );
    host.sums("listed", &["usr/bin/listed"]);
    host.sums("own", &["usr/bin/own"]);
    let of = |name: &str| host.of(&format!("/usr/bin/{name}"), &format!("usr/bin/{name}"));
    assert_eq!((of("listed"), of("own")), (Provenance::Package, Provenance::Package), "no lists");
    let list = "Package: listed\nArchitecture: amd64\nVersion: 1.0-1\n\n";
    let sum: String = sha2::Sha256::digest(list).iter().map(|byte| format!("{byte:02x}")).collect();
    let release = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256:\n {sum} 9 Packages\n\
         -----BEGIN PGP SIGNATURE-----\n"
    );
    host.put("var/lib/apt/lists/h_InRelease", &release);
    host.put("var/lib/apt/lists/h_Packages", list);
    host.ownership.renew();
    assert_eq!((of("listed"), of("own")), (Provenance::Package, Provenance::Unsigned));
    assert_eq!(host.of("/usr/bin/own", "evil"), Provenance::Modified);
}

#[test]
fn what_is_not_the_hosts_is_told_by_its_layer_or_by_its_content() {
    let host = Made::new();
    host.dpkg("status", &status("tool", "installed", ""));
    host.sums("tool", &["usr/bin/tool"]);
    let of = |layer, host_has, tree, path: &str, content: &str| {
        let setting = Setting { host: host_has, tree, own: true };
        host.judged(path, content, Origin { layer, setting })
    };
    let (tool, same) = ("/usr/bin/tool", "usr/bin/tool");
    assert_eq!(of(Layer::Lower, false, false, tool, "x"), Provenance::Image);
    assert_eq!(of(Layer::Upper, false, false, tool, same), Provenance::Drift);
    assert_eq!(of(Layer::Upper, true, true, tool, same), Provenance::Package, "layers of the host");
    assert_eq!(of(Layer::None, false, false, tool, same), Provenance::Package);
    assert_eq!(of(Layer::None, false, false, tool, "x"), Provenance::Unknown);
    assert_eq!(of(Layer::None, false, false, "/tmp/x", "x"), Provenance::Unknown);
    assert_eq!(of(Layer::None, false, true, "/tmp/x", "x"), Provenance::Unowned, "a private /tmp");
}

#[test]
fn a_host_without_a_database_knows_nothing() {
    let host = Made::new();
    assert_eq!(host.of("/usr/bin/tool", "x"), Provenance::Unknown);
}

#[test]
fn a_file_of_the_host_is_known_from_one_that_a_service_has_at_its_path() {
    let host = Made::new();
    host.put("usr/bin/tool", "x");
    host.put("private/tool", "x");
    let us = std::process::id();
    let of = |file: &str| {
        let metadata = fs::metadata(host.at(file)).unwrap();
        host.ownership.host().setting("/usr/bin/tool", &metadata, us, None)
    };
    let (own, private) = (of("usr/bin/tool"), of("private/tool"));
    assert!(own.host && own.tree && own.own);
    // This process' root is another than that of the host that was made up.
    assert!(!private.host && !private.tree);
    let sources = Sources { tree: Path::new("/").into(), ..Sources::host() };
    let metadata = fs::metadata(host.at("private/tool")).unwrap();
    let at =
        |path: &str, process, parent| Host::new(&sources).setting(path, &metadata, process, parent);
    let gone = u32::MAX;
    let setting = at("/usr/bin/no-such-tool", us, None);
    assert!(!setting.host && setting.tree);
    assert!(!at("/usr/bin/no-such-tool", gone, Some(us)).tree, "the parent has another tree");
    assert!(at(host.at("private/tool").to_str().unwrap(), gone, None).host);
}

fn cpu_time() -> Duration {
    // SAFETY: all zeros is a valid `timespec`, which the call fills.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    }
}

/// What reading this machine's own database takes; told, never asserted.
#[test]
fn this_machine_is_read() {
    let sources = Sources { root: "/".into(), tree: "/".into(), ..Sources::host() };
    let start = cpu_time();
    let mut loader = Loader::new(sources);
    let Ok(database) = loader.read(None) else { return };
    let first = cpu_time() - start;
    let again = loader.read(Some(&database)).unwrap();
    let second = cpu_time() - start - first;
    println!("{first:?} of CPU, again {second:?}: {}", loader.told(&database));
    assert_eq!(database.files(), again.files());
}
