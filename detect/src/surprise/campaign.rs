//! What several trees did within two hours of the clock. Who waits for longer than five minutes, or
//! has each deed done by another service (a job of cron or at, a socket that was handed over), makes
//! a tree of each; one by one they may all lie below their floors.
//!
//! A campaign is as surprising as the sum over aspects of the most surprising deed, where each tree
//! counts with one deed alone: what one tree did was judged by itself. Trees that were told are none
//! of it. It is told of the owners of workloads that make it so surprising, by the most surprising deed
//! of an aspect: what others did meanwhile goes on being learned, and being followed.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_event::Aspect;
use hedgerow_features::fair;

use super::tree::{Done, Tree};

/// Hours of the clock that a campaign is followed for, the running one among them.
pub const HOURS: u64 = 2;
/// Trees followed; past them the least surprising goes, of the aspect that has most.
const TREES_MAX: usize = 256;
/// One aspect is no campaign.
const ASPECTS_LEAST: usize = 2;

/// The most surprising deed of each tree of late, with the tree's number and the hour.
#[derive(Debug, Default)]
pub struct Campaign(BTreeMap<u64, (u64, Done)>);

impl Campaign {
    /// Takes in what a tree did so far, in an hour since boot.
    pub fn add(&mut self, tree: u64, of: &Tree, hour: u64) {
        self.0.retain(|_, (then, _)| *then + HOURS > hour);
        let Some(top) = of.done.iter().max_by(|a, b| a.nats.total_cmp(&b.nats)) else { return };
        self.0.insert(tree, (hour, top.clone()));
        if self.0.len() > TREES_MAX {
            let all = self.0.iter().map(|(tree, (_, done))| {
                // Floats that are not negative are ordered as their bits are.
                (done.deed().aspect(), done.nats.max(0.0).to_bits(), *tree)
            });
            for tree in fair::make_room(all, 1) {
                self.0.remove(&tree);
            }
        }
    }

    /// A tree that is told is no part of it.
    pub fn remove(&mut self, tree: u64) {
        self.0.remove(&tree);
    }

    /// Owners with the most surprising deed of an aspect.
    fn makers(&self) -> BTreeSet<String> {
        let mut best: BTreeMap<Aspect, &Done> = BTreeMap::new();
        for (_, done) in self.0.values() {
            let best = best.entry(done.deed().aspect()).or_insert(done);
            if done.nats > best.nats {
                *best = done;
            }
        }
        best.into_values().map(|done| owner(done).to_owned()).collect()
    }

    /// What those did who make it so surprising, as if one tree had.
    pub fn whole(&self) -> Tree {
        let makers = self.makers();
        let done = self.0.values().map(|(_, done)| done);
        Tree::of(done.filter(|done| makers.contains(owner(done))).cloned().collect())
    }

    /// It was told: what they did is part of no other. Gives their trees.
    pub fn take(&mut self) -> Vec<u64> {
        let makers = self.makers();
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, (_, done))| makers.contains(owner(done)));
        self.0 = left;
        taken.into_keys().collect()
    }
}

fn owner(done: &Done) -> &str {
    done.witness.subject.workload.owner()
}

/// The surprise of a campaign, by the most surprising deed of each tree; 0 where it is none.
pub fn nats(tops: impl Iterator<Item = (Aspect, f64)>) -> f64 {
    let mut highest: BTreeMap<Aspect, f64> = BTreeMap::new();
    for (aspect, nats) in tops {
        let highest = highest.entry(aspect).or_default();
        *highest = highest.max(nats);
    }
    if highest.len() < ASPECTS_LEAST { 0.0 } else { highest.values().sum() }
}

/// Width of a step of [`Expected`], in nats, and steps; what is beyond counts as the last.
const STEP: f64 = 0.25;
const STEPS: usize = 400;

/// How probable campaigns of some surprise are, in normal life, by the rates of deeds.
#[derive(Debug, Clone)]
pub struct Expected {
    none: f64,
    /// By the sum in steps: of one aspect, of several.
    one: Vec<f64>,
    several: Vec<f64>,
}

impl Default for Expected {
    fn default() -> Self {
        Self { none: 1.0, one: vec![0.0; STEPS], several: vec![0.0; STEPS] }
    }
}

impl Expected {
    /// Adds an aspect, by the surprise of its deeds and how many an hour there are of each: the most
    /// surprising of them counts.
    pub fn add(&mut self, masses: &[super::rates::Mass]) {
        let mut rates = vec![0.0; STEPS];
        for (nats, rate) in masses {
            rates[((nats / STEP) as usize).min(STEPS - 1)] += rate * HOURS as f64;
        }
        let (mut none, mut aspect) = (1.0, vec![0.0; STEPS]);
        for at in (0..STEPS).rev() {
            // None above, and one here.
            aspect[at] = none * -(-rates[at]).exp_m1();
            none -= aspect[at];
        }
        let mut several: Vec<f64> = self.several.iter().map(|p| p * none).collect();
        for (by, p) in aspect.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            for from in 0..STEPS {
                several[(from + by).min(STEPS - 1)] += (self.one[from] + self.several[from]) * p;
            }
        }
        for (one, p) in self.one.iter_mut().zip(&aspect) {
            *one = *one * none + self.none * p;
        }
        self.none *= none;
        self.several = several;
    }

    /// The probability of one that is worth so many nats or more.
    pub fn reach(&self, nats: f64) -> f64 {
        self.several.iter().skip((nats.max(0.0) / STEP) as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Object, Peer, Program, Subject, Workload};

    use super::{
        super::rates::{Context, Minutes},
        *,
    };
    use crate::objects::Witness;

    #[test]
    fn several_aspects_are_a_campaign_and_one_is_none() {
        let tops = [(Aspect::Image, 8.0), (Aspect::Image, 9.0)];
        assert_eq!(nats(tops.into_iter()), 0.0);
        assert_eq!(nats(tops.into_iter().chain([(Aspect::Peer, 3.0)])), 12.0);
    }

    fn tree(workload: &str, object: fn(Arc<Subject>) -> Object, nats: f64) -> Tree {
        let subject = Arc::new(Subject::new(Workload::new(workload), Program::new("/bin/a")));
        let context = Context::new(&subject, 1);
        let (witness, minutes) = (Witness::of_kernel(object(subject), 1), Minutes::of(0));
        Tree::of(vec![Done { witness, context, nats, minutes, again: Vec::new() }])
    }

    fn memory(subject: Arc<Subject>) -> Object {
        Object::ExecMemory { subject }
    }

    fn peer(subject: Arc<Subject>) -> Object {
        let peer = Peer { address: [192, 0, 2, 9].into(), port: 443 };
        Object::NewPeer { subject, peer, protocol: None }
    }

    /// Whoever is loud enough to be told takes nobody else along: neither is what others did suspected, nor
    /// forgotten.
    #[test]
    fn a_campaign_is_of_those_who_make_it() {
        let mut campaign = Campaign::default();
        campaign.add(0, &tree("web.service", peer, 3.0), 0);
        campaign.add(1, &tree("user@1.service/a", memory, 9.0), 0);
        campaign.add(2, &tree("user@1.service/b", peer, 4.0), 0);
        campaign.add(3, &tree("user@1.service/c", peer, 3.5), 0);
        campaign.add(4, &tree("db.service", memory, 8.0), 0);
        let whole = campaign.whole();
        assert_eq!(whole.done.len(), 3);
        assert!(whole.done.iter().all(|done| owner(done) == "user@1.service"));
        assert_eq!(campaign.take(), [1, 2, 3]);
        // What is left may be one of its own.
        assert_eq!(campaign.whole().done.len(), 2);
        assert_eq!(campaign.take(), [0, 4]);
        assert!(campaign.whole().done.is_empty());
    }

    /// Nor are many decoys of one kind a way to be forgotten.
    #[test]
    fn many_trees_of_one_aspect_push_out_no_others() {
        let mut campaign = Campaign::default();
        campaign.add(0, &tree("web.service", peer, 3.0), 0);
        for at in 1..=2 * TREES_MAX as u64 {
            campaign.add(at, &tree("web.service", memory, 4.0), 0);
        }
        let whole = campaign.whole();
        assert_eq!(whole.done.len(), TREES_MAX);
        assert!(whole.done.iter().any(|done| done.deed().aspect() == Aspect::Peer));
    }

    #[test]
    fn what_is_expected_adds_up() {
        let mut expected = Expected::default();
        expected.add(&[(8.0, 0.05), (2.0, 0.5)]);
        assert_eq!(expected.reach(0.0), 0.0, "one aspect is none");
        expected.add(&[(3.0, 0.25)]);
        let any = |per_hour: f64| -(-per_hour * HOURS as f64).exp_m1();
        let both = any(0.55) * any(0.25);
        assert!((expected.reach(0.0) - both).abs() < 1e-12);
        assert!((expected.reach(6.0) - any(0.05) * any(0.25)).abs() < 1e-12);
        assert_eq!(expected.reach(20.0), 0.0);
    }
}
