//! Reads the host's addresses, gateways, resolvers and DHCP servers, and those of each other
//! namespace that has a process.
//!
//! What is read in a namespace says nothing of the host: anybody can make one, and put any address
//! on its `lo` or into its `resolv.conf`. So it is kept apart, with the namespace that it is of. A
//! thread reads all of it; nobody waits for the files of others. What names stand for, another one asks.

use std::{
    collections::{HashMap, HashSet},
    env, fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hedgerow_hostfile::{Reader, Refusals, Refused, Version};

use super::{
    names::{Names, Peer},
    users::{Present, Users},
};
use tables::{dhcp_servers, gateways_v4, gateways_v6, own_v4, own_v6, resolvers};

mod logins;
mod people;
mod tables;

/// An address to protect, with why.
pub type Protected = (IpAddr, u8, &'static str);

/// All is read anew this often.
const INTERVAL: Duration = Duration::from_secs(30);
/// Namespaces that are read, the ones met first; the rest are counted.
const NAMESPACES_MAX: usize = 1024;
/// Largest `resolv.conf` and lease; a larger one is none.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// Largest table of the host's network namespace, and of another one.
const TABLE_BYTES_MAX: u64 = 16 << 20;
const OTHERS_TABLE_BYTES_MAX: u64 = 1 << 20;
/// Addresses that are kept of another namespace than the host's: whoever makes one gives it as many as
/// he likes.
const OTHERS_MAX: usize = 256;
/// Leases that are looked at, by directory.
const LEASES_MAX: usize = 256;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Of the host's own namespaces, which are those of init and of this process, and of the peers that
    /// it is to name.
    pub host: Vec<Protected>,
    /// Of each other network or mount namespace, by its inode.
    pub namespaces: HashMap<u64, Vec<Protected>>,
    /// Sources of successful logins over the network, with their wall time.
    pub logins: Vec<(IpAddr, i64)>,
    /// Namespaces past the limit.
    pub skipped: usize,
    /// A file of the host's that may name more, and why it couldn't be read: what the last whole reading
    /// found is in `host` beside what this one did.
    pub unread: Option<String>,
    /// `None` where it could not be read whole.
    pub users: Option<Users>,
}

/// What reads. The host's own files have a reader of their own: others can make a reader wait until it
/// reads no more.
#[derive(Debug)]
struct Readers {
    host: Reader,
    others: Reader,
}

impl Readers {
    fn new() -> Self {
        Self { host: Reader::new("addresses"), others: Reader::new("addresses of others") }
    }
}

/// The thread that reads; it ends with this.
#[derive(Debug)]
pub struct Gatherer {
    latest: Arc<Mutex<Option<Gathered>>>,
    refusals: [Refusals; 2],
    /// Their ends tell the threads to end.
    _stop: [Sender<()>; 2],
    /// Told at each reading.
    read: Receiver<()>,
}

impl Gatherer {
    /// Begins the first reading, which others follow; `peers` are protected as soon as
    /// somebody answers for their names.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(peers: Vec<Peer>) -> io::Result<Self> {
        let mut readers = Readers::new();
        let refusals = [readers.host.refusals(), readers.others.refusals()];
        let latest = Arc::new(Mutex::new(None));
        let (stop, wake) = channel();
        let (names, stop_names) = Names::start(peers, stop.clone())?;
        let (done, read) = channel();
        let slot = Arc::clone(&latest);
        thread::Builder::new().name("hedgerow-gather".into()).spawn(move || {
            // Of the host, as of the last reading that had all of it.
            let mut last = Vec::new();
            loop {
                let mut found = gather(&mut readers, &mut last);
                found.host.extend(names.addresses());
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                if done.send(()).is_err()
                    || wake.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Disconnected)
                {
                    return;
                }
                // Woken, it reads at once; several at a time are one.
                wake.try_iter().for_each(drop);
            }
        })?;
        Ok(Self { latest, refusals, _stop: [stop, stop_names], read })
    }

    /// The newest reading, unless it was taken.
    pub fn take(&self) -> Option<Gathered> {
        self.read.try_iter().for_each(drop);
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// As [`Self::take`], but waits for the first.
    pub fn wait(&self, limit: Duration) -> Option<Gathered> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = self.take() {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.read.recv_timeout(left).ok()?;
        }
    }

    /// Whose files are not read, because one took too long: of the host's own, and of others'.
    pub fn refusals(&self) -> &[Refusals; 2] {
        &self.refusals
    }
}

/// A reader that remembers the first file that it failed to read.
struct Noting<'a> {
    reader: &'a mut Reader,
    failed: Option<String>,
}

impl<'a> Noting<'a> {
    fn new(reader: &'a mut Reader) -> Self {
        Self { reader, failed: None }
    }

    /// The text, empty where there is none: a missing, a too large or another thing than a file is none.
    fn text(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Reader) -> Result<Vec<u8>, Refused>,
    ) -> String {
        match read(self.reader) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(Refused::NotRegular | Refused::Pseudo | Refused::TooLarge(_)) => String::new(),
            Err(Refused::Io(why)) if why.kind() == io::ErrorKind::NotFound => String::new(),
            Err(why) => {
                self.failed.get_or_insert_with(|| format!("{name}: {why}"));
                String::new()
            }
        }
    }

    fn of_host(&mut self, path: &Path) -> String {
        self.text(&path.to_string_lossy(), |reader| reader.read_host(path, TEXT_BYTES_MAX))
    }
}

/// Reads all of it once. What can't be read of others gives nothing; where something of the host can't
/// be, what the `last` whole reading found stays.
fn gather(readers: &mut Readers, last: &mut Vec<Protected>) -> Gathered {
    let mut found = Gathered { logins: logins::admin_logins(), ..Gathered::default() };
    // Init's can't be read everywhere.
    let hosts: HashSet<u64> =
        [INIT, std::process::id()].into_iter().flat_map(namespaces_of).collect();
    let (namespaces, skipped) = namespaces();
    found.skipped = skipped;
    let mut host = Noting::new(&mut readers.host);
    for (namespace, (pid, kind)) in namespaces {
        let is_host = hosts.contains(&namespace);
        if is_host {
            found.host.extend(of_namespace(&mut host, kind, pid, TABLE_BYTES_MAX));
            continue;
        }
        let mut others = Noting::new(&mut readers.others);
        let mut addresses = of_namespace(&mut others, kind, pid, OTHERS_TABLE_BYTES_MAX);
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(OTHERS_MAX);
        if !addresses.is_empty() {
            found.namespaces.insert(namespace, addresses);
        }
    }
    for path in ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"] {
        found.host.extend(resolvers(&host.of_host(Path::new(path))));
    }
    for directory in ["/run/systemd/netif/leases", "/var/lib/dhcp", "/var/lib/NetworkManager"] {
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        for file in files.take(LEASES_MAX) {
            found.host.extend(dhcp_servers(&host.of_host(&file.path())));
        }
    }
    if let Some(api) = env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok()) {
        found.host.push(whole(api, "the cluster's API"));
    }
    found.unread = host.failed;
    found.users = people::users(&mut readers.host);
    if found.unread.is_some() {
        found.host.extend_from_slice(last);
    }
    found.host.sort_unstable();
    found.host.dedup();
    if found.unread.is_none() {
        last.clone_from(&found.host);
    }
    found
}

/// The lines of the host's own passwd(5), and their version; nothing where that is still the one that is
/// `known`.
///
/// # Errors
/// They can't be read whole.
pub fn passwd(
    reader: &mut Reader,
    known: Option<Version>,
) -> Result<Option<(String, Option<Version>)>, Refused> {
    people::passwd(reader, known)
}

/// Who runs something at present.
pub fn present() -> Present {
    people::present()
}

fn processes() -> impl Iterator<Item = u32> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(number)
}

const INIT: u32 = 1;
/// Addresses and gateways are of the network namespace, resolvers of the mount namespace.
const KINDS: [&str; 2] = ["net", "mnt"];

/// The inodes of the namespaces that a process lives in; none where it is gone.
pub fn namespaces_of(pid: u32) -> Vec<u64> {
    KINDS.into_iter().filter_map(|kind| namespace_of(pid, kind)).collect()
}

fn namespace_of(pid: u32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|namespace| namespace.ino())
}

/// Each network and each mount namespace that has a process, with one of its processes, the host's first;
/// and how many more there are than are looked at.
fn namespaces() -> (HashMap<u64, (u32, &'static str)>, usize) {
    let mut found = HashMap::new();
    let mut skipped = HashSet::new();
    for pid in [INIT, std::process::id()].into_iter().chain(processes()) {
        for kind in KINDS {
            let Some(namespace) = namespace_of(pid, kind) else { continue };
            if found.len() < NAMESPACES_MAX {
                found.entry(namespace).or_insert((pid, kind));
            } else if !found.contains_key(&namespace) && skipped.len() < NAMESPACES_MAX {
                skipped.insert(namespace);
            }
        }
    }
    (found, skipped.len())
}

fn of_namespace(
    noting: &mut Noting<'_>,
    kind: &str,
    pid: u32,
    table_bytes_max: u64,
) -> Vec<Protected> {
    match kind {
        "net" => of_network(noting, pid, table_bytes_max),
        _ => of_files(noting, pid),
    }
}

fn of_network(noting: &mut Noting<'_>, pid: u32, bytes_max: u64) -> Vec<Protected> {
    let mut table = |name: &str| {
        let name = format!("net/{name}");
        noting.text(&name, |reader| reader.read_proc(pid, &name, bytes_max))
    };
    let mut found = own_v4(&table("fib_trie"));
    found.extend(own_v6(&table("if_inet6")));
    found.extend(gateways_v4(&table("route")));
    found.extend(gateways_v6(&table("ipv6_route")));
    found
}

fn of_files(noting: &mut Noting<'_>, pid: u32) -> Vec<Protected> {
    let path = "/etc/resolv.conf";
    resolvers(&noting.text(path, |reader| reader.read(pid, path, TEXT_BYTES_MAX)))
}

pub(super) fn whole(address: IpAddr, reason: &'static str) -> Protected {
    (address, if address.is_ipv4() { 32 } else { 128 }, reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_hostfile::{HUNG_MAX, Progress, Whose};

    use super::{tables::addresses, *};

    #[test]
    fn this_host_has_a_loopback_of_its_own() {
        let found = gather(&mut Readers::new(), &mut Vec::new());
        assert!(addresses(&found.host).contains(&"127.0.0.1/32".to_owned()), "{found:?}");
        assert_eq!((found.skipped, &found.unread), (0, &None));
        assert!(namespaces_of(u32::MAX).is_empty());
        // SAFETY: plain system call.
        let own = unsafe { libc::getuid() };
        assert!(found.users.unwrap().risk(own, None).is_some(), "{own} runs this");
        assert_eq!(namespaces_of(std::process::id()).len(), KINDS.len());
    }

    /// A read that never ends, for who asks for files of `whose`.
    fn hang(reader: &mut Reader, whose: &Whose) -> Sender<()> {
        let (end, ended) = channel::<()>();
        let work = move |_: &Progress| -> Result<(), Refused> {
            let _ = ended.recv();
            Ok(())
        };
        assert!(matches!(reader.run(whose, work), Err(Refused::Hung)));
        end
    }

    #[test]
    fn others_who_hang_take_nothing_from_the_host() {
        let mut readers = Readers::new();
        let refusals = readers.others.refusals();
        let ends: Vec<Sender<()>> = thread::scope(|scope| {
            let hangs: Vec<_> = (0..HUNG_MAX)
                .map(|number| {
                    let refusals = refusals.clone();
                    let whose = Whose::host(&number.to_string());
                    scope.spawn(move || hang(&mut Reader::sharing("test", refusals), &whose))
                })
                .collect();
            hangs.into_iter().map(|hang| hang.join().unwrap()).collect()
        });
        assert_eq!(refusals.hung(), HUNG_MAX);
        let found = gather(&mut readers, &mut Vec::new());
        assert!(addresses(&found.host).contains(&"127.0.0.1/32".to_owned()), "{found:?}");
        assert_eq!(found.unread, None);
        drop(ends);
    }

    #[test]
    fn what_cant_be_read_of_the_host_stays_as_it_was_and_is_told() {
        let mut readers = Readers::new();
        let gateway = whole([192, 0, 2, 77].into(), "a gateway");
        let mut before = vec![gateway];
        let end = hang(&mut readers.host, &Whose::host("/etc/resolv.conf"));
        let found = gather(&mut readers, &mut before);
        let unread = found.unread.unwrap();
        assert!(unread.starts_with("/etc/resolv.conf: "), "{unread}");
        let host = addresses(&found.host);
        for address in ["192.0.2.77/32", "127.0.0.1/32"] {
            assert!(host.contains(&address.to_owned()), "{host:?}");
        }
        assert_eq!(before, [gateway], "no whole reading");
        drop(end);
        let found = gather(&mut Readers::new(), &mut before);
        assert!(!addresses(&found.host).contains(&"192.0.2.77/32".to_owned()));
        assert_eq!(before, found.host);
    }

    #[test]
    fn the_thread_reads_and_what_was_taken_is_not_taken_again() {
        let gatherer = Gatherer::start(Vec::new()).unwrap();
        let found = gatherer.wait(Duration::from_secs(60)).unwrap();
        assert!(!found.host.is_empty());
        assert_eq!(gatherer.take(), None);
    }

    #[test]
    fn peers_of_the_configuration_are_the_hosts_as_soon_as_they_are_known() {
        let gatherer = Gatherer::start(vec![("192.0.2.7:9092".into(), "a broker")]).unwrap();
        let until = Instant::now() + INTERVAL / 2;
        let broker = whole([192, 0, 2, 7].into(), "a broker");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let found = gatherer.wait(left).expect("it is woken before its time");
            if found.host.contains(&broker) {
                return;
            }
        }
    }
}
