//! What was told of pods, as the rest of the daemon sees it: filled by the thread that asks the API, read by
//! whoever tells findings. Every part has a limit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use hedgerow_event::{ApiOwner, ApiPod, PeerPod, Workload, gate};
use hedgerow_probe::identity::workload::pod_owner;
use lru::LruCache;

use super::objects::{Controller, Meta};

/// Pods of this node that are kept: the kubelet runs no more than some hundred. Full: what comes is counted and
/// not kept; it has the name that the container runtime says.
pub const PODS_MAX: usize = 1024;
/// Owners, and addresses, that are remembered. Full: what was used longest ago goes, and is asked for again.
const OWNERS_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// So long an answer about an address is believed, and none about an owner or an address is asked for again: an
/// address goes from pod to pod.
const ADDRESS_KEPT: Duration = Duration::from_secs(60);
/// Labels that are told with a finding, in the order of their names.
const LABELS_TOLD: usize = 16;

/// What is to be asked of the API, since somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Whose a ReplicaSet or a Job of a namespace is.
    Owner(String, Controller),
    /// Which pod has the address.
    Address(IpAddr),
}

/// An answer, or that there was none.
#[derive(Debug, Clone)]
struct Answer<T> {
    at: Instant,
    said: Option<T>,
}

impl<T> Answer<T> {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.at) < ADDRESS_KEPT
    }
}

#[derive(Debug)]
pub struct Table {
    /// By uid, those of this node.
    pods: HashMap<String, Meta>,
    /// What came since everything was listed, and found no room or had no name.
    pub refused: u64,
    /// By uid of what is owned.
    owners: LruCache<String, Answer<Controller>>,
    addresses: LruCache<IpAddr, Answer<PeerPod>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            refused: 0,
            owners: LruCache::new(OWNERS_MAX),
            addresses: LruCache::new(ADDRESSES_MAX),
        }
    }
}

impl Table {
    pub fn pods(&self) -> impl Iterator<Item = &Meta> {
        self.pods.values()
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Takes a pod as it is now.
    pub fn put(&mut self, pod: Meta) {
        if self.pods.len() >= PODS_MAX && !self.pods.contains_key(&pod.uid) {
            self.refused += 1;
            return;
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove(&mut self, pod: &Meta) {
        self.pods.remove(&pod.uid);
    }

    /// Everything that there is; what was there before and isn't is gone.
    pub fn replace(&mut self, pods: Vec<Meta>) {
        self.pods.clear();
        self.refused = 0;
        pods.into_iter().for_each(|pod| self.put(pod));
    }

    /// Notes an answer, or that there is none for a while.
    pub fn answered(&mut self, ask: &Ask, said: Said) {
        let at = Instant::now();
        match (ask, said) {
            (Ask::Owner(_, owned), Said::Owner(said)) => {
                drop(self.owners.put(owned.uid.clone(), Answer { at, said }));
            }
            (Ask::Address(address), Said::Pod(said)) => {
                drop(self.addresses.put(*address, Answer { at, said }));
            }
            _ => {}
        }
    }

    /// Whether nothing need be asked.
    pub fn knows(&self, ask: &Ask, now: Instant) -> bool {
        match ask {
            // Who made an object is so for good; that nobody could be asked is not.
            Ask::Owner(_, owned) => self
                .owners
                .peek(&owned.uid)
                .is_some_and(|known| known.said.is_some() || known.is_fresh(now)),
            Ask::Address(address) => {
                self.addresses.peek(address).is_some_and(|known| known.is_fresh(now))
            }
        }
    }

    /// Which pod has an address, as was said within the last minute.
    pub fn peer(&mut self, address: IpAddr, now: Instant) -> Option<PeerPod> {
        self.addresses.get(&address).filter(|known| known.is_fresh(now))?.said.clone()
    }

    /// Who made what made pods, where somebody did.
    pub fn above(&mut self, owned: &Controller) -> Option<Controller> {
        self.owners.get(&owned.uid).and_then(|known| known.said.clone())
    }

    /// The owner of a pod in the end; the nearest one that is known.
    fn owner(&mut self, pod: &Meta) -> Option<ApiOwner> {
        let nearest = pod.controller.as_ref()?;
        Some(self.above(nearest).unwrap_or_else(|| nearest.clone()).told())
    }

    /// The pods that a finding may be of: the one of its name; of a process that is gone those of its workload's,
    /// which pods of one owner share.
    pub fn meant(&self, who: &Who<'_>) -> Vec<Meta> {
        let Some((namespace, owner)) = place(who.workload) else { return Vec::new() };
        let here = self.pods.values().filter(|pod| pod.namespace == namespace);
        match who.name {
            Some(name) => here.filter(|pod| pod.name == name).take(1).cloned().collect(),
            None => here.filter(|pod| pod_owner(&pod.name) == owner).cloned().collect(),
        }
    }

    /// What is told of the pods that are meant: what all of them have.
    pub fn told(&mut self, pods: &[Meta], as_of_ns: i64) -> Option<ApiPod> {
        let first = pods.first()?;
        let owners: BTreeSet<Option<ApiOwner>> = pods.iter().map(|pod| self.owner(pod)).collect();
        let owner = owners.first().cloned().flatten().filter(|_| owners.len() == 1);
        let shared = |(name, value): &(&String, &String)| {
            pods.iter().all(|pod| pod.labels.get(*name) == Some(value))
        };
        let shared: Vec<(&String, &String)> = first.labels.iter().filter(shared).collect();
        let labels: BTreeMap<String, String> = shared
            .iter()
            .take(LABELS_TOLD)
            .map(|(name, value)| (gate::text(name), hidden(name, value)))
            .collect();
        Some(ApiPod {
            namespace: first.namespace.clone(),
            name: (pods.len() == 1).then(|| first.name.clone()),
            owner,
            labels_more: shared.len() > labels.len() || pods.iter().any(|pod| pod.labels_more),
            labels,
            as_of_ns,
        })
    }
}

/// The value of a label; one that is called as a secret is, or looks like one, is none of anybody's.
fn hidden(name: &str, value: &str) -> String {
    let pair = format!("{name}={value}");
    let told = gate::text(&pair);
    told.strip_prefix(&format!("{name}=")).unwrap_or(gate::HIDDEN).to_owned()
}

/// What the API said to an [`Ask`].
#[derive(Debug)]
pub enum Said {
    Owner(Option<Controller>),
    Pod(Option<PeerPod>),
}

/// Whom a finding is of, as the node itself knows.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    pub workload: &'a Workload,
    /// Of its pod.
    pub name: Option<&'a str>,
}

/// Namespace and owner of `k8s:NAMESPACE/OWNER/CONTAINER`.
fn place(workload: &Workload) -> Option<(&str, &str)> {
    let mut parts = workload.as_str().strip_prefix("k8s:")?.splitn(3, '/');
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(name: &str, app: &str, owner: Option<(&str, &str)>) -> Meta {
        let labels = [("app".to_owned(), app.to_owned()), ("name".to_owned(), name.to_owned())];
        Meta {
            uid: format!("uid-{name}"),
            namespace: "shop".into(),
            name: name.into(),
            labels: labels.into(),
            labels_more: false,
            controller: owner.map(|(kind, name)| Controller {
                kind: kind.into(),
                name: name.into(),
                uid: format!("uid-{name}"),
            }),
            cgroup_uid: format!("uid-{name}"),
        }
    }

    fn who<'a>(workload: &'a Workload, name: Option<&'a str>) -> Who<'a> {
        Who { workload, name }
    }

    #[test]
    fn of_a_process_that_is_gone_what_all_pods_of_its_owner_share_is_told() {
        let mut table = Table::default();
        let set = Some(("ReplicaSet", "web-5d4f8c6b7d"));
        for name in ["web-5d4f8c6b7d-q8x2z", "web-5d4f8c6b7d-b8x2c"] {
            table.put(pod(name, "web", set));
        }
        table.put(pod("db-0", "db", Some(("StatefulSet", "db"))));
        let workload = Workload::new("k8s:shop/web/nginx");
        let meant = table.meant(&who(&workload, None));
        let told = table.told(&meant, 7).unwrap();
        assert_eq!((told.name, told.as_of_ns), (None, 7));
        assert_eq!(told.labels, [("app".to_owned(), "web".to_owned())].into());
        assert_eq!(told.owner.unwrap().name, "web-5d4f8c6b7d");

        let owned = meant[0].controller.clone().unwrap();
        let ask = Ask::Owner("shop".into(), owned);
        assert!(!table.knows(&ask, Instant::now()));
        let deployment =
            Controller { kind: "Deployment".into(), name: "web".into(), uid: "d".into() };
        table.answered(&ask, Said::Owner(Some(deployment)));
        assert!(table.knows(&ask, Instant::now() + Duration::from_secs(3600)));
        let meant = table.meant(&who(&workload, Some("web-5d4f8c6b7d-q8x2z")));
        let told = table.told(&meant, 7).unwrap();
        assert_eq!(told.name.as_deref(), Some("web-5d4f8c6b7d-q8x2z"));
        assert_eq!(told.owner.unwrap(), ApiOwner { kind: "Deployment".into(), name: "web".into() });
        let other = Workload::new("image:nginx");
        assert!(table.meant(&who(&other, Some("db-0"))).is_empty());
        let elsewhere = Workload::new("k8s:other/db/db");
        assert!(table.meant(&who(&elsewhere, Some("db-0"))).is_empty());
    }

    #[test]
    fn a_full_table_takes_no_more_and_counts_it_and_secrets_are_none() {
        let mut table = Table::default();
        (0..PODS_MAX + 3).for_each(|number| table.put(pod(&format!("p{number}"), "a", None)));
        assert_eq!((table.len(), table.refused), (PODS_MAX, 3));
        table.put(pod("p0", "b", None));
        assert_eq!(table.refused, 3, "it is there already");
        table.replace(vec![pod("x", "a", None)]);
        assert_eq!(table.len(), 1);
        assert_eq!(hidden("password", "hunter2"), gate::HIDDEN);
        assert_eq!(hidden("app", "web"), "web");
    }

    #[test]
    fn an_address_is_a_pods_for_a_minute() {
        let mut table = Table::default();
        let address = IpAddr::from([10, 0, 0, 7]);
        let ask = Ask::Address(address);
        let peer = PeerPod {
            address,
            namespace: "shop".into(),
            name: "db-0".into(),
            owner: None,
            as_of_ns: 1,
        };
        table.answered(&ask, Said::Pod(Some(peer.clone())));
        let now = Instant::now();
        assert_eq!(table.peer(address, now), Some(peer));
        let later = now + ADDRESS_KEPT;
        assert!(table.peer(address, later).is_none() && !table.knows(&ask, later));
    }
}
