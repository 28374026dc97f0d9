//! A container host: small containers of busybox in mount, process and host-name namespaces and a
//! cgroup of their own, on an overlay of one image that is their root, started and ended by a loop.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::repeat;
use crate::{
    error::{At, Error, Result},
    lab::{Lab, User},
    process::{Running, executable},
};

/// Each lives for some seconds and does a little. What lies in the volume as `hole` is run: somebody
/// found a way in.
const JOB: &str = "\
i=0
while [ $i -lt 12 ]; do
	i=$((i + 1))
	if [ -f /volume/hole ]; then mv /volume/hole /volume/taken; sh -c \"$(cat /volume/taken)\"; rm -f /volume/taken; fi
	date > /tmp/now
	ls -l / > /tmp/list
	md5sum /tmp/list > /tmp/sum
	sleep 1
done
";
const LOOP: &str = "\
while :; do for n in 0 1; do
mkdir -p c$n/upper c$n/work c$n/root @CGROUP@/box$n
sh -c 'echo $$ > @CGROUP@/box'$n'/cgroup.procs; exec unshare -m -p -u --fork sh -c \"mount -t overlay \
overlay -o lowerdir=image,upperdir=c'$n'/upper,workdir=c'$n'/work c'$n'/root && mount --bind volume \
c'$n'/root/volume && cd c'$n'/root && pivot_root . mnt && umount -l /mnt && exec chroot . /bin/sh /job\"'
rm -rf c$n; rmdir @CGROUP@/box$n; done; done";
const APPLETS: [&str; 25] = [
    "sh",
    "ls",
    "cat",
    "date",
    "mv",
    "rm",
    "cp",
    "chmod",
    "md5sum",
    "sleep",
    "id",
    "mount",
    "umount",
    "unshare",
    "nsenter",
    "nc",
    "wget",
    "mkdir",
    "echo",
    "touch",
    "ln",
    "ps",
    "chroot",
    "grep",
    "setuidgid",
];

pub(super) fn start(lab: &Lab) -> Result<Running> {
    let directory = lab.subdirectory("containers", &User::ROOT)?;
    let image = directory.join("image");
    for part in ["bin", "tmp", "proc", "dev", "etc", "mnt", "volume"] {
        let path = image.join(part);
        fs::create_dir_all(&path).at("create", path)?;
    }
    let busybox =
        ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| fs::exists(p).is_ok_and(|e| e));
    let busybox =
        busybox.ok_or_else(|| Error::Missing("busybox (package busybox-static)".into()))?;
    executable(&image.join("bin/busybox"), &fs::read(busybox).at("read", busybox)?)?;
    for applet in APPLETS {
        let path = image.join("bin").join(applet);
        symlink("busybox", &path).at("link", path)?;
    }
    for (name, text) in [
        ("job", JOB),
        ("etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
    ] {
        let path = image.join(name);
        fs::write(&path, text).at("write", path)?;
    }
    let volume = directory.join("volume");
    fs::create_dir_all(&volume).at("create", &volume)?;
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).at("chmod", &volume)?;
    let cgroup = lab.cgroup("containers")?.display().to_string();
    repeat(lab, "containers", &LOOP.replace("@CGROUP@", &cgroup))
}
