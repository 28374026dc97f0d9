#![allow(clippy::unwrap_used)]
use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;
use crate::report::Severity;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn meant(manager: Manager, package: &str, path: Option<&str>) -> Vulnerability {
    Vulnerability {
        id: "CVE-2026-1".into(),
        aliases: Vec::new(),
        severity: Severity::High,
        package: package.into(),
        version: "1".into(),
        fixed: Vec::new(),
        manager,
        path: path.map(String::from),
        purl: None,
    }
}

fn paths(package: &Package) -> Vec<&str> {
    package.files.as_ref().unwrap().paths.iter().map(String::as_str).collect()
}

#[test]
fn dpkg_is_asked_by_binary_and_source_name_through_diversions_and_merged_usr() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    write(
        root,
        "var/lib/dpkg/status",
        "Package: libx1\nStatus: install ok installed\n\
        Architecture: amd64\nMulti-Arch: same\nSource: x (1.0-1)\nVersion: 1.0-1+b1\n\n\
        Package: x-tools\nStatus: install ok installed\nSource: x\nVersion: 1.0-1\n\n\
        Package: x-old\nStatus: deinstall ok config-files\nSource: x\nVersion: 0.9\n\n\
        Package: ../../evil\nStatus: install ok installed\nVersion: 1\n\n\
        Package: lost\nStatus: install ok installed\nVersion: 1\n",
    );
    write(root, "var/lib/dpkg/info/libx1:amd64.list", "/.\n/lib\n/lib/libx.so.1\n");
    write(root, "var/lib/dpkg/info/x-tools.list", "/.\n/usr/bin/x\n");
    write(root, "var/lib/dpkg/diversions", "/usr/bin/x\n/usr/bin/x.orig\ny\n");
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    let mut databases = Databases::new(Tree::new(root).unwrap());
    let found = databases.find(&meant(Manager::Dpkg, "x", None)).unwrap();
    assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["libx1", "x-tools"]);
    assert_eq!(paths(&found[0]), ["/usr/lib", "/usr/lib/libx.so.1"]);
    assert_eq!(paths(&found[1]), ["/usr/bin/x.orig"]);
    let found = databases.find(&meant(Manager::Dpkg, "libx1", None)).unwrap();
    assert_eq!((found.len(), found[0].version.as_str()), (1, "1.0-1+b1"));
    assert_eq!(found[0].source_version.as_deref(), Some("1.0-1"));
    assert!(databases.find(&meant(Manager::Dpkg, "lost", None)).unwrap()[0].files.is_err());
    for unknown in ["x-old", "../../evil", "nothing"] {
        assert!(databases.find(&meant(Manager::Dpkg, unknown, None)).is_err(), "{unknown}");
    }
}

#[test]
fn a_database_that_leads_out_of_its_root_or_is_none_is_not_read() {
    let home = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "status", "Package: a\nStatus: install ok installed\nVersion: 1\n");
    fs::create_dir_all(home.path().join("var/lib")).unwrap();
    symlink(outside.path(), home.path().join("var/lib/dpkg")).unwrap();
    let mut databases = Databases::new(Tree::new(home.path()).unwrap());
    assert!(databases.find(&meant(Manager::Dpkg, "a", None)).is_err());
    assert!(databases.find(&meant(Manager::Rpm, "a", None)).unwrap_err().contains("not read"));
    fs::create_dir_all(home.path().join("lib/apk/db/installed")).unwrap();
    assert!(databases.find(&meant(Manager::Apk, "a", None)).is_err());
}

#[test]
fn links_stay_in_the_tree_and_a_magic_link_is_its_root() {
    let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = home.path().canonicalize().unwrap();
    write(outside.path(), "secret", "");
    write(&root, "srv/tool", "");
    symlink("/srv", root.join("absolute")).unwrap();
    symlink(outside.path(), root.join("out")).unwrap();
    // As `/proc/PID/root` does, it reads as a path that isn't the way there.
    let directory = fs::File::open(&root).unwrap();
    let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory));
    for way in [root.clone(), magic.into()] {
        let mut tree = Tree::new(&way).unwrap();
        assert_eq!(tree.root(), root);
        assert_eq!(tree.names("/absolute"), ["tool"]);
        assert!(tree.stat("/absolute/tool").is_some());
        assert!(tree.names("/out").is_empty() && tree.stat("/out/secret").is_none());
    }
}

/// Of a process with other mounts than ours: its root reads as a path that is the host's here. Needs root.
#[test]
fn the_root_of_another_mount_namespace_is_not_the_hosts() {
    let script = "mount -t tmpfs none /mnt && mkdir /mnt/hedgerow-own && echo up && exec sleep 100";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", script]).stdout(std::process::Stdio::piped());
    let mut child = unshare.spawn().unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    let way = format!("/proc/{}/root/mnt", child.id());
    let found =
        Tree::new(Path::new(&way)).map(|mut tree| (tree.root().to_owned(), tree.names("/")));
    child.kill().unwrap();
    child.wait().unwrap();
    let (root, names) = found.unwrap();
    assert_eq!(
        (root.to_str().unwrap(), names.as_slice()),
        (&*way, &["hedgerow-own".to_owned()][..])
    );
}

#[test]
fn one_list_in_the_place_of_many_is_read_once_and_a_name_has_so_many_packages() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    let stanza = |number| {
        format!("Package: p{number}\nStatus: install ok installed\nSource: x\nVersion: 1\n\n")
    };
    let status = |count| (0..count).map(stanza).collect::<String>();
    write(root, "var/lib/dpkg/status", &status(PACKAGES_MAX));
    write(root, "var/lib/dpkg/info/p0.list", "/usr/bin/x\n");
    let mut databases = Databases::new(Tree::new(root).unwrap());
    let of = |databases: &mut Databases, name| databases.find(&meant(Manager::Dpkg, name, None));
    let found = of(&mut databases, "x").unwrap();
    assert_eq!(found.len(), PACKAGES_MAX);
    fs::remove_file(root.join("var/lib/dpkg/info/p0.list")).unwrap();
    assert_eq!(of(&mut databases, "p0").unwrap()[0].files, found[0].files);
    write(root, "var/lib/dpkg/status", &status(PACKAGES_MAX + 1));
    let mut databases = Databases::new(Tree::new(root).unwrap());
    assert!(of(&mut databases, "x").unwrap_err().contains("more than"));
    assert!(of(&mut databases, "p7").is_ok());
}

#[test]
fn paths_of_a_database_have_an_end() {
    let mut room = Room::default();
    let each = PATHS_BYTES_MAX / 4 - PATH_BYTES;
    assert!((0..4).all(|_| room.take(each).is_ok()));
    assert!(room.take(0).is_err());
    // A directory's name counts with each file in it.
    let home = tempfile::tempdir().unwrap();
    let files = "R:a\n".repeat(300);
    let installed = format!("P:x\nV:1\nF:{}\n{files}\n", "d".repeat(1 << 20));
    write(home.path(), "lib/apk/db/installed", &installed);
    let mut databases = Databases::new(Tree::new(home.path()).unwrap());
    let why = databases.find(&meant(Manager::Apk, "x", None)).unwrap_err();
    assert!(why.contains("bytes of paths"), "{why}");
}

#[test]
fn apk_has_directories_and_files_below_them() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        "lib/apk/db/installed",
        "C:Q1\nP:musl\nV:1.2-r0\no:musl-src\nF:lib\n\
        R:ld-musl.so.1\na:0:0:755\nF:usr/bin\nR:ldd\n\nP:other\nV:1\n",
    );
    let mut databases = Databases::new(Tree::new(home.path()).unwrap());
    let found = databases.find(&meant(Manager::Apk, "musl-src", None)).unwrap();
    assert_eq!(paths(&found[0]), ["/lib/ld-musl.so.1", "/usr/bin/ldd"]);
    assert_eq!(found[0].version, "1.2-r0");
}

#[test]
fn python_and_node_are_found_by_place_and_by_name() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    let site = "usr/lib/python3.11/site-packages";
    write(
        root,
        &format!("{site}/My_Pack-2.0.dist-info/RECORD"),
        "my_pack/__init__.py,sha256=x,1\n\"my_pack/a,b.py\",,\n../../../bin/my,,\n",
    );
    write(root, "app/node_modules/@s/thing/package.json", "{\"version\":\"3.1.0\"}");
    write(root, "usr/share/nodejs/bad/package.json", "{\"version\":7}");
    let mut databases = Databases::new(Tree::new(root).unwrap());
    let found = databases.find(&meant(Manager::Python, "my.pack", None)).unwrap();
    let expected = [
        "/usr/bin/my",
        &format!("/{site}/my_pack/__init__.py"),
        &format!("/{site}/my_pack/a,b.py"),
    ];
    assert_eq!(paths(&found[0]), expected);
    let by_place = format!("{site}/My_Pack-2.0.dist-info/METADATA");
    assert_eq!(databases.find(&meant(Manager::Python, "My_Pack", Some(&by_place))).unwrap(), found);
    for path in ["app/node_modules/@s/thing/package.json", "/app/package-lock.json"] {
        let found = databases.find(&meant(Manager::Node, "@s/thing", Some(path))).unwrap();
        assert_eq!(found[0].files.as_ref().unwrap().under, ["/app/node_modules/@s/thing/"]);
        assert_eq!(found[0].version, "3.1.0");
    }
    assert!(databases.find(&meant(Manager::Node, "bad", None)).is_err());
}

#[test]
fn a_lock_file_is_no_archive() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "app/core-1.jar", "");
    write(home.path(), "app/go.mod", "");
    let mut databases = Databases::new(Tree::new(home.path()).unwrap());
    let nested = Some("app/core-1.jar:BOOT-INF/lib/x.jar");
    let found = databases.find(&meant(Manager::Java, "x", nested)).unwrap();
    assert_eq!(paths(&found[0]), ["/app/core-1.jar"]);
    for path in [Some("/app/go.mod"), Some("/app/none.jar"), None] {
        assert!(databases.find(&meant(Manager::Other, "x", path)).is_err());
    }
}
