//! What the Kubernetes API says of pods, where it is asked (`[kubernetes]`). Evidence for people: workloads are
//! named by what the node itself knows, and no automatic denial rests on it. A thread of its own asks; who tells
//! findings looks up what it knows, and waits for a moment at most.

#[cfg_attr(not(feature = "full"), path = "unasked.rs")]
mod asking;
pub mod cgroups;
#[cfg(feature = "full")]
mod client;
mod objects;
mod selector;
mod table;
#[cfg(all(test, feature = "full"))]
mod tests;
mod trouble;

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Finding, Object, PeerPod};
use hedgerow_responder::now;
use tokio::sync::mpsc;

pub use self::{asking::peer, trouble::Settings};
use self::{
    objects::{Change, Controller, Page},
    selector::Selector,
    table::{Ask, Said, Table, Who},
    trouble::Trouble,
};
use crate::{control::KubernetesNow, exit::Failure};

/// Questions that wait for the thread. Full: what is asked then is not, and is told without; it is counted.
const ASKS_MAX: usize = 256;
/// Owners and peers of one finding that are asked for.
const ASKS_OF_ONE: usize = 16;
/// A batch of findings waits so long for what was asked for it, and not at all where the API is away or the
/// batch before waited in vain.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_AGAIN: Duration = Duration::from_secs(10);
/// An outage is told once it lasts so long: an API that starts anew is back before.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// Who tells findings, and who answers commands, have one each.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
}

/// Pods as somebody names them.
#[derive(Debug, Clone, Copy)]
pub enum Chosen<'a> {
    /// `NAMESPACE/NAME`
    Pod(&'a str),
    Selector {
        selector: &'a str,
        namespace: &'a str,
    },
}

/// A pod that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenPod {
    /// In the names of its cgroups.
    pub cgroup_uid: String,
    /// `NAMESPACE/NAME`
    pub name: String,
}

#[derive(Debug)]
struct Shared {
    node: String,
    known: Mutex<Known>,
    /// Something was answered.
    answered: Condvar,
}

#[derive(Debug)]
struct Known {
    table: Table,
    /// Why it is away; `None` while it is there.
    down: Option<String>,
    down_since: Instant,
    /// The outage was told.
    told: bool,
    times_up: u64,
    /// Wall time when it was last heard of; 0: never.
    heard_ns: i64,
    /// What it does not let be asked.
    missing: Option<String>,
    asked: HashSet<Ask>,
    asks_refused: u64,
    /// Nobody waits before.
    wait_after: Instant,
}

impl Shared {
    fn new(node: String) -> Self {
        let now = Instant::now();
        let known = Known {
            table: Table::default(),
            down: Some("it was not asked yet".to_owned()),
            down_since: now,
            told: false,
            times_up: 0,
            heard_ns: 0,
            missing: None,
            asked: HashSet::new(),
            asks_refused: 0,
            wait_after: now,
        };
        Self { node, known: Mutex::new(known), answered: Condvar::new() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times_up(&self) -> u64 {
        self.known().times_up
    }

    /// It is heard of.
    fn heard(&self) {
        self.known().heard_ns = now().wall_ns;
    }

    fn listed(&self, page: Page) {
        let mut known = self.known();
        known.heard_ns = now().wall_ns;
        known.table.replace(page.items);
        known.table.refused += page.refused;
        known.down = None;
        known.missing = None;
        known.times_up += 1;
    }

    fn changed(&self, change: Change) {
        let mut known = self.known();
        known.heard_ns = now().wall_ns;
        match change {
            Change::Is(pod) => known.table.put(pod),
            Change::Gone(pod) => known.table.remove(&pod),
            Change::Nothing | Change::Ended(..) => {}
        }
    }

    fn down(&self, trouble: &Trouble) {
        let mut known = self.known();
        if known.down.is_none() {
            known.down_since = Instant::now();
        }
        known.down = Some(trouble.to_string());
        // The one that was being asked has no answer, and those that wait get theirs all the same.
        known.asked.clear();
        drop(known);
        self.answered.notify_all();
    }

    fn knows(&self, ask: &Ask) -> bool {
        self.known().table.knows(ask, Instant::now())
    }

    fn above(&self, owned: &Controller) -> Option<Controller> {
        self.known().table.above(owned)
    }

    /// `None`: it was known already.
    fn answered(&self, ask: &Ask, said: Option<Said>) {
        let mut known = self.known();
        if let Some(said) = said {
            known.heard_ns = now().wall_ns;
            known.table.answered(ask, said);
        }
        known.asked.remove(ask);
        drop(known);
        self.answered.notify_all();
    }

    /// It is not asked again for a while.
    fn unanswered(&self, ask: &Ask, trouble: &Trouble) {
        let nothing = match ask {
            Ask::Owner(..) => Said::Owner(None),
            Ask::Address(_) => Said::Pod(None),
        };
        let mut known = self.known();
        known.table.answered(ask, nothing);
        known.asked.remove(ask);
        known.missing = Some(trouble.to_string());
        drop(known);
        self.answered.notify_all();
    }
}

impl Kubernetes {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can't be a thread.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::new(settings.node.clone()));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::host)?;
        let own = Arc::clone(&shared);
        // Nobody waits for it: what it knows is of use to nobody once the daemon ends.
        let thread = thread::Builder::new().name("kubernetes".into());
        let run = move || runtime.block_on(asking::run(settings, own, asked));
        thread.spawn(run).map_err(Failure::host)?;
        Ok(Self { shared, asks })
    }

    /// Asks for what findings have to tell, and waits for a moment for the answers.
    pub fn prepare<'a>(&self, findings: impl Iterator<Item = &'a Finding>) {
        let mut waits = Vec::new();
        {
            let mut known = self.shared.known();
            for finding in findings {
                for ask in known.asks_of(finding) {
                    if known.asked.contains(&ask) {
                        waits.push(ask);
                    } else if self.asks.try_send(ask.clone()).is_ok() {
                        known.asked.insert(ask.clone());
                        waits.push(ask);
                    } else {
                        known.asks_refused += 1;
                    }
                }
            }
        }
        self.wait(&waits);
    }

    fn wait(&self, waits: &[Ask]) {
        let begun = Instant::now();
        let mut known = self.shared.known();
        if waits.is_empty() || begun < known.wait_after {
            return;
        }
        loop {
            let left = WAIT.saturating_sub(begun.elapsed());
            if known.down.is_some() || !waits.iter().any(|ask| known.asked.contains(ask)) {
                return;
            }
            if left.is_zero() {
                known.wait_after = Instant::now() + WAIT_AGAIN;
                return;
            }
            let waited = self.shared.answered.wait_timeout(known, left);
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Puts beside a finding what is known of its pod and of peers that are pods.
    pub fn tell(&self, finding: &mut Finding) {
        let mut known = self.shared.known();
        let as_of_ns = known.as_of_ns();
        let pods = known.table.meant(&who(finding));
        // What was told before stands where nothing better is known.
        finding.pod = known.table.told(&pods, as_of_ns).or(finding.pod.take());
        let at = Instant::now();
        let peers = peers(finding).into_iter();
        let told: Vec<PeerPod> =
            peers.filter_map(|address| known.table.peer(address, at)).collect();
        if !told.is_empty() {
            finding.peer_pods = told;
        }
    }

    /// The pods of this node that somebody's words mean.
    ///
    /// # Errors
    /// The API is away, so that it isn't known who they are now; or none is meant.
    pub fn chosen(&self, whom: &Chosen<'_>) -> Result<Vec<ChosenPod>, String> {
        let known = self.shared.known();
        if let Some(why) = &known.down {
            return Err(format!(
                "the Kubernetes API is not there, so it is not known which pods are meant now: {why}; name a --workload"
            ));
        }
        let meant: Vec<&objects::Meta> = match whom {
            Chosen::Pod(text) => {
                let (namespace, name) = text.split_once('/').ok_or("write --pod NAMESPACE/NAME")?;
                let is = |pod: &&objects::Meta| pod.namespace == namespace && pod.name == name;
                known.table.pods().filter(is).collect()
            }
            Chosen::Selector { selector, namespace } => {
                let selector = Selector::parse(selector)?;
                let mut of: Vec<&objects::Meta> =
                    known.table.pods().filter(|pod| pod.namespace == *namespace).collect();
                // What is not kept of its labels may be what decides.
                if let Some(pod) = of.iter().find(|pod| pod.labels_more) {
                    let (name, most) = (&pod.name, objects::LABELS_MAX);
                    return Err(format!(
                        "pod {namespace}/{name} has more than {most} labels, or such as none can have, so \
                         that no selector is sure of it; name pods by --pod"
                    ));
                }
                if known.table.refused > 0 {
                    return Err(
                        "not all pods of this node are known, so that no selector is sure of \
                                them; name pods by --pod"
                            .to_owned(),
                    );
                }
                of.retain(|pod| selector.selects(&pod.labels));
                of
            }
        };
        if meant.is_empty() {
            let node = &self.shared.node;
            return Err(format!(
                "no pod of node {node} is meant by that; {} of it are known, and those of other nodes are \
                 denied there",
                known.table.len()
            ));
        }
        // Who makes a pod chooses its annotations, and may have written another one's there.
        let is_anothers = |pod: &&&objects::Meta| {
            let mut all = known.table.pods();
            pod.cgroup_uid != pod.uid
                && all.any(|one| {
                    one.uid != pod.uid && [&one.uid, &one.cgroup_uid].contains(&&pod.cgroup_uid)
                })
        };
        if let Some(pod) = meant.iter().find(is_anothers) {
            return Err(format!(
                "pod {}/{} says by {} that it runs where another one does, so that it is not sure which is \
                 meant; name a --workload",
                pod.namespace,
                pod.name,
                objects::STATIC
            ));
        }
        let chosen = meant.into_iter().map(|pod| ChosenPod {
            cgroup_uid: pod.cgroup_uid.clone(),
            name: format!("{}/{}", pod.namespace, pod.name),
        });
        Ok(chosen.collect())
    }

    /// How it fares.
    pub fn now(&self) -> KubernetesNow {
        let known = self.shared.known();
        KubernetesNow {
            node: self.shared.node.clone(),
            pods: known.table.len(),
            down: known.down.clone(),
            missing: known.missing.clone(),
            heard_ns: (known.heard_ns > 0).then_some(known.heard_ns),
            pods_refused: known.table.refused,
            asks_refused: known.asks_refused,
        }
    }

    /// What an operator should hear: that it is away for some time, and that it is back.
    pub fn take_untold(&self) -> Option<String> {
        let mut known = self.shared.known();
        match (&known.down, known.told) {
            (Some(why), false) if known.down_since.elapsed() >= TELL_AFTER => {
                let said = format!(
                    "the Kubernetes API is not there: {why}; pods have the names that the container runtime says"
                );
                known.told = true;
                Some(said)
            }
            (None, true) => {
                known.told = false;
                Some("the Kubernetes API is there again".to_owned())
            }
            _ => None,
        }
    }
}

impl Known {
    /// Now, while it is there.
    fn as_of_ns(&self) -> i64 {
        if self.down.is_none() { now().wall_ns } else { self.heard_ns }
    }

    /// What is not known that a finding would tell.
    fn asks_of(&self, finding: &Finding) -> Vec<Ask> {
        if self.down.is_some() {
            return Vec::new();
        }
        let pods = self.table.meant(&who(finding));
        let owners = pods.into_iter().filter_map(|pod| {
            let owned = pod.controller?;
            objects::path_of(&pod.namespace, &owned.kind)?;
            Some(Ask::Owner(pod.namespace, owned))
        });
        let peers = peers(finding).into_iter().map(Ask::Address);
        let mut seen = HashSet::new();
        let at = Instant::now();
        let unknown = owners.chain(peers).filter(|ask| !self.table.knows(ask, at));
        unknown.filter(|ask| seen.insert(ask.clone())).take(ASKS_OF_ONE).collect()
    }
}

/// Whom it is of, as the node knows.
fn who(finding: &Finding) -> Who<'_> {
    let name = finding.process.as_ref().and_then(|process| process.pod.as_deref());
    Who { workload: &finding.subject.workload, name }
}

/// Its peers that may be pods, each once.
fn peers(finding: &Finding) -> Vec<IpAddr> {
    let mut peers: Vec<IpAddr> = Vec::new();
    for contact in finding.objects.iter().filter_map(Object::contact) {
        let address = contact.address.to_canonical();
        let is_none = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        if !is_none && !peers.contains(&address) && peers.len() < ASKS_OF_ONE {
            peers.push(address);
        }
    }
    peers
}

/// What the API lets be asked, right by right; for `hedgerow doctor`.
pub fn rights(settings: &Settings) -> Result<Vec<(&'static str, Option<String>)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    runtime.block_on(asking::rights(settings)).map_err(|why| why.to_string())
}
