//! What a daemon needs to know of its host.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};
use hedgerow_probe::support;
use hedgerow_responder::{DIRECTORY, STANDING};
use sha2::{Digest, Sha256};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{cli::STATE_DIRECTORY, exit::Failure, findings::FINDINGS, text};

/// Name of the model in the state directory.
pub const MODEL: &str = "model.hedgerow";
/// Name of what operators said of findings in the state directory.
pub const ORDERS: &str = "orders.json";
/// Name of the responder's ledger in the state directory.
pub const LEDGER: &str = "ledger.jsonl";

/// Names that make findings of this host and boot unique.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/etc/machine-id`, or the host's name where there is none.
    pub id: String,
    pub boot_id: String,
    pub name: String,
    /// Wall time less time since boot, as it was at the start.
    pub realtime_offset_ns: i64,
}

impl Host {
    pub fn read() -> anyhow::Result<Self> {
        let line = |path: &str| -> Option<String> {
            let text = fs::read_to_string(path).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let name = line("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned());
        let boot_id = line("/proc/sys/kernel/random/boot_id")
            .context("can't read /proc/sys/kernel/random/boot_id; is /proc mounted?")
            .map_err(Failure::host)?;
        let id = line("/etc/machine-id").unwrap_or_else(|| name.clone());
        let now = hedgerow_responder::now();
        let realtime_offset_ns = now.wall_ns.saturating_sub_unsigned(now.boot_ns);
        Ok(Self { id, boot_id, name, realtime_offset_ns })
    }
}

/// How long a lock is waited for: a child that is on its way to exec holds it for an instant.
const LOCK: Duration = Duration::from_secs(1);
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// Name of the lock in the state directory.
const LOCK_NAME: &str = "lock";

/// The state directory, for root and for one daemon alone, until this is dropped.
#[derive(Debug)]
pub struct State {
    /// The directory, and the file in it that earlier versions lock, where there is room for one.
    _locks: (File, Option<File>),
}

impl State {
    /// Makes the directory where there is none, and locks it.
    ///
    /// # Errors
    /// It is a link, or others may change what lies in it: they could swap what root trusts. Another
    /// daemon has locked it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("can't make the state directory {}", path.display()))
            .map_err(Failure::file)?;
        private(path).map_err(|why| Failure::File(format!("{}: {why}", path.display())))?;
        let opened = |found: io::Result<File>, name: &Path| {
            let found = found.with_context(|| format!("can't open {}", name.display()));
            found.map_err(Failure::file)
        };
        let directory = opened(File::open(path), path)?;
        let name = path.join(LOCK_NAME);
        let mut options = File::options();
        options.create(true).read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = match options.open(&name) {
            Err(why) if is_full(&why) => None,
            found => Some(opened(found, &name)?),
        };
        if !locked(&directory) || lock.as_ref().is_some_and(|lock| !locked(lock)) {
            let mut holder = String::new();
            // Who it is helps; that it is suffices.
            drop(lock.map(|lock| lock.take(32).read_to_string(&mut holder)));
            return Err(Failure::Host(format!(
                "another hedgerow daemon (process {}) works with {}; stop it, or give this one \
                 another --state",
                holder.trim(),
                path.display()
            ))
            .into());
        }
        // For the one that is refused. On a full disk it is not told the number.
        if let Some(mut lock) = lock.as_ref() {
            drop(lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())));
        }
        Ok(Self { _locks: (directory, lock) })
    }
}

/// No room, or no inode, is left: by and by there may be.
fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Name of the key in the state directory.
const KEY_NAME: &str = "identity.key";
const KEY_BYTES: usize = 16;
/// A key that found no room is written again after this time.
const KEY_RETRY: Duration = Duration::from_secs(1);

/// The secret behind the kernel's ids of programs. It is made once, so that an id means the same
/// after a restart: entries that an earlier daemon left are about programs. Where there is no room for the
/// file it is told, and made later.
///
/// # Errors
/// The file can't be read or made, or is none of ours.
pub fn identity_key(state: &Path) -> anyhow::Result<[u64; 2]> {
    let path = state.join(KEY_NAME);
    let mut options = File::options();
    let found = options.read(true).custom_flags(libc::O_NOFOLLOW).open(&path).and_then(|file| {
        let mut found = Vec::new();
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut found)?;
        Ok(found)
    });
    let bytes = match found {
        Ok(bytes) => bytes,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            let key: [u8; KEY_BYTES] = rand::random();
            match write_key(&path, key) {
                Err(why) if is_full(&why) => write_key_later(path.clone(), key, &why)?,
                written => written
                    .with_context(|| format!("can't write {}", path.display()))
                    .map_err(Failure::file)?,
            }
            key.into()
        }
        Err(why) => return Err(Failure::File(format!("{}: {why}", path.display())).into()),
    };
    let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| {
        Failure::File(format!(
            "{} is no key of {KEY_BYTES} bytes; remove it to have a new one made (entries about \
             programs then match nothing until they expire)",
            path.display()
        ))
    })?;
    let key = u128::from_le_bytes(key);
    Ok([key as u64, (key >> 64) as u64])
}

/// Has a thread write the key once there is room.
fn write_key_later(path: PathBuf, key: [u8; KEY_BYTES], why: &io::Error) -> anyhow::Result<()> {
    text::note(&format!(
        "hedgerow: warning: can't write {} ({why}): until it is, entries about programs that this run \
         leaves match nothing after a restart",
        path.display()
    ));
    let write = move || {
        while write_key(&path, key).is_err() {
            thread::sleep(KEY_RETRY);
        }
        text::note(&format!("{} is written by now.", path.display()));
    };
    support::lowered(|| thread::Builder::new().name("identity-key".into()).spawn(write))??;
    Ok(())
}

/// Half a key after a crash would be another one.
fn write_key(path: &Path, key: [u8; KEY_BYTES]) -> io::Result<()> {
    hedgerow_hostfile::replace(path, &key)
}

fn locked(lock: &File) -> bool {
    let deadline = Instant::now() + LOCK;
    loop {
        // SAFETY: a system call on an open descriptor; the lock goes with its last copy.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOCK_LOOK);
    }
}

/// Makes the directory of a capture where there is none.
///
/// # Errors
/// Others may change what lies in it: they could choose what is learned from it.
pub fn make_capture(path: &Path) -> anyhow::Result<()> {
    let failed = |why: String| Failure::File(format!("{}: {why}", path.display()));
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|why| failed(format!("can't make it: {why}")))?;
    Ok(unchangeable(path).map_err(failed)?)
}

/// By one of these a state directory is known.
const OURS: [&str; 7] = [LOCK_NAME, KEY_NAME, MODEL, LEDGER, FINDINGS, STANDING, ORDERS];

/// Whether nobody but root can change what a name in the directory leads to, and whether nobody else
/// can read it, which is mended; why not, and the way out.
fn private(path: &Path) -> Result<(), String> {
    unchangeable(path)?;
    let mode = fs::symlink_metadata(path).map_err(|why| why.to_string())?.mode();
    if mode & 0o055 != 0 {
        let held = fs::read_dir(path).map_err(|why| why.to_string())?;
        let held: Vec<_> = held.flatten().collect();
        // A log, say, is no reason; a directory that others live by is.
        let is_foreign = |one: &fs::DirEntry| {
            one.file_name() != "lost+found"
                && one.metadata().is_ok_and(|told| !told.is_file() || told.uid() != 0)
        };
        let is_ours = |one: &fs::DirEntry| OURS.iter().any(|ours| one.file_name() == *ours);
        if held.iter().any(is_foreign) && !held.iter().any(is_ours) {
            return Err(
                "others may read it, and it holds what is not Hedgerow's; use another, or \
                        `chmod go-rwx` it"
                    .to_owned(),
            );
        }
        let closed = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        closed.map_err(|why| format!("others may read it, and it can't be closed: {why}"))?;
    }
    Ok(())
}

/// Whether nobody but root can change what a name in the directory leads to; why not, and the way
/// out.
pub fn unchangeable(path: &Path) -> Result<(), String> {
    hedgerow_hostfile::own::unchangeable(path, 0)
}

/// Where the deny programs of the daemon with this state directory are pinned: daemons with states
/// of their own must not share live entries.
pub fn pins(state: &Path) -> PathBuf {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if whole(state) == whole(Path::new(STATE_DIRECTORY)) {
        return DIRECTORY.into();
    }
    // Names on a BPF file system hold no dots.
    let digest = Sha256::digest(whole(state).as_os_str().as_encoded_bytes());
    let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{DIRECTORY}-{name}").into()
}

/// Ctrl-C: whoever stops the daemon by hand wants nothing refused afterwards. A service manager's
/// SIGTERM may be a restart, and leaves entries to their expiry.
pub fn is_by_hand(signal: i32) -> bool {
    signal == SIGINT
}

/// Where other daemons' deny programs are pinned.
pub fn other_pins(own: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (own.parent(), Path::new(DIRECTORY).file_name()) else {
        return Vec::new();
    };
    let name = name.as_encoded_bytes();
    let all = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = all.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(name));
    ours.map(|entry| entry.path()).filter(|path| path != own).collect()
}

/// Delivers SIGHUP, SIGINT and SIGTERM.
pub fn signals() -> anyhow::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, receiver) = bounded(4);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{chown, symlink};

    use hedgerow_lab::Disk;

    use super::*;

    #[track_caller]
    fn refused(path: &Path, why: &str) {
        let told = State::take(path).unwrap_err().to_string();
        assert!(told.contains(why) && told.contains(&*path.to_string_lossy()), "{told}");
    }

    #[test]
    fn a_state_directory_that_others_can_touch_is_refused_with_the_way_out() {
        let home = tempfile::tempdir().unwrap();
        let made = home.path().join("a/b");
        drop(State::take(&made).unwrap());
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        let link = home.path().join("link");
        symlink(&made, &link).unwrap();
        refused(&link, "a link");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o770)).unwrap();
        refused(&made, "others may write");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        drop(State::take(&made).unwrap());
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700, "it is closed");
        chown(&made, Some(12_345), None).unwrap();
        refused(&made, "user 12345");
        chown(&made, Some(0), None).unwrap();
        chown(home.path().join("a"), Some(12_345), None).unwrap();
        refused(&made, "may change");
        chown(home.path().join("a"), Some(0), None).unwrap();
        // The lock is not followed either.
        fs::remove_file(made.join(LOCK_NAME)).unwrap();
        symlink("/dev/null", made.join(LOCK_NAME)).unwrap();
        refused(&made, "can't open");
    }

    #[test]
    fn without_an_inode_a_state_has_one_owner_all_the_same_and_its_key_is_kept_later() {
        // The directory itself is one.
        let disk = Disk::mount("mode=700,nr_inodes=1").unwrap();
        let first = State::take(disk.path()).unwrap();
        refused(disk.path(), "another hedgerow daemon");
        let key = identity_key(disk.path()).unwrap();
        disk.remount("nr_inodes=8").unwrap();
        refused(disk.path(), "another hedgerow daemon");
        drop(first);
        drop(State::take(disk.path()).unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        while !disk.path().join(KEY_NAME).exists() {
            assert!(Instant::now() < until, "it is not written");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(identity_key(disk.path()).unwrap(), key);
    }

    #[test]
    fn a_capture_is_made_only_where_nobody_else_chooses_what_is_learned() {
        let home = tempfile::tempdir().unwrap();
        let made = home.path().join("a/capture");
        make_capture(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        let refused = |why: &str| {
            let told = make_capture(&made).unwrap_err().to_string();
            assert!(told.contains(why) && told.contains(&*made.to_string_lossy()), "{told}");
        };
        // As whoever came first to a place that all may write to.
        chown(&made, Some(12_345), None).unwrap();
        refused("user 12345");
        chown(&made, Some(0), None).unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o1777)).unwrap();
        refused("others may write");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        make_capture(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o755, "who may read it is left");
    }

    #[test]
    fn the_key_is_made_once_for_root_alone_and_another_file_is_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(KEY_NAME);
        let key = identity_key(home.path()).unwrap();
        assert_eq!(identity_key(home.path()).unwrap(), key, "it outlasts the daemon");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(identity_key(other.path()).unwrap(), key, "each host has its own");
        for bad in [&b""[..], &[7; 17]] {
            fs::write(&path, bad).unwrap();
            let said = identity_key(home.path()).unwrap_err().to_string();
            assert!(said.contains(KEY_NAME) && said.contains("remove it"), "{said}");
        }
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(identity_key(home.path()).is_err(), "links are not followed");
    }

    #[test]
    fn a_directory_that_others_live_by_is_not_closed() {
        let home = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let open = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let theirs = open("theirs");
        fs::create_dir(theirs.join("lib")).unwrap();
        let why = private(&theirs).unwrap_err();
        assert!(why.contains("use another"), "{why}");
        assert_eq!(mode(&theirs), 0o755);
        for (name, held) in [("empty", None), ("log", Some("daemon.log")), ("ours", Some(LEDGER))] {
            let path = open(name);
            held.iter().for_each(|held| fs::write(path.join(held), "").unwrap());
            if name == "ours" {
                fs::create_dir(path.join("kafka")).unwrap();
            }
            private(&path).unwrap();
            assert_eq!(mode(&path), 0o700, "{name}");
        }
    }

    #[test]
    fn one_daemon_has_it_and_the_other_is_told_which() {
        let home = tempfile::tempdir().unwrap();
        let first = State::take(home.path()).unwrap();
        refused(home.path(), &format!("process {}", std::process::id()));
        drop(first);
        State::take(home.path()).unwrap();
    }
}
