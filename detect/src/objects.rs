//! Nameable things that were never seen: gathered by subject, with who did it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::maturity::{Incidence, MIN_UNITS};
use hedgerow_event::{
    Actor, Epoch, Event, Family, FileKey, Object, Origin, Peer, Subject, Workload,
};
use hedgerow_features::Baseline;
use serde::{Deserialize, Serialize};

/// Objects kept for a subject in an epoch; further ones are of kinds already there.
const OBJECTS_MAX: usize = 64;
/// Subjects with objects in the open epochs; those past them are judged without.
const SUBJECTS_MAX: usize = 4096;
/// Processes whose exec facts are remembered; the oldest are forgotten.
const PROCESSES_MAX: usize = 16_384;

/// An object with the process that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Witness {
    pub object: Object,
    pub epoch: Epoch,
    pub time_boot_ns: u64,
    pub tgid: u32,
    pub parent_tgid: u32,
    pub start_boot_ns: u64,
    pub cgroup_id: u64,
    pub program_id: u64,
    pub file: Option<FileKey>,
    pub peer: Option<Peer>,
    pub uid: u32,
    pub login_uid: Option<u32>,
    pub arguments: Arc<str>,
}

/// What an exec said of a process.
#[derive(Debug, Clone)]
struct Image {
    parent_tgid: u32,
    file: FileKey,
    uid: u32,
    login_uid: Option<u32>,
    arguments: Arc<str>,
}

/// Witnesses of the open epochs, and the processes they may come from.
#[derive(Debug, Default)]
pub struct Objects {
    witnesses: BTreeMap<Arc<Subject>, Vec<Witness>>,
    images: BTreeMap<(u32, u64), Image>,
    order: VecDeque<(u32, u64)>,
}

impl Objects {
    /// Notes what is new in an event; tells whether anything is.
    pub fn observe(&mut self, event: &Event, baseline: &Baseline) -> bool {
        self.remember(event);
        let novel = baseline.novel(event);
        let found = !novel.is_empty();
        for object in novel {
            self.add(event, object);
        }
        found
    }

    fn remember(&mut self, event: &Event) {
        let actor = &event.actor;
        let key = (actor.tgid, actor.start_boot_ns);
        match &event.origin {
            Origin::Exec(exec) => {
                let image = Image {
                    parent_tgid: exec.parent_tgid,
                    file: exec.file,
                    uid: exec.uid,
                    login_uid: (exec.login_uid != u32::MAX).then_some(exec.login_uid),
                    arguments: Arc::clone(&exec.arguments),
                };
                self.insert(key, image);
            }
            Origin::Fork(fork) if !fork.thread => {
                if let Some(image) = self.images.get(&key) {
                    let image = Image { parent_tgid: actor.tgid, ..image.clone() };
                    self.insert((fork.child_tgid, fork.child_start_boot_ns), image);
                }
            }
            _ => {}
        }
    }

    fn insert(&mut self, key: (u32, u64), image: Image) {
        if self.images.insert(key, image).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > PROCESSES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.images.remove(&oldest);
            }
        }
    }

    fn add(&mut self, event: &Event, object: Object) {
        let Actor { subject, tgid, start_boot_ns, cgroup_id, program_id, .. } = &event.actor;
        if self.witnesses.len() >= SUBJECTS_MAX && !self.witnesses.contains_key(subject) {
            return;
        }
        let list = self.witnesses.entry(Arc::clone(subject)).or_default();
        let known = list.iter().any(|known| known.object == object);
        if known || list.len() >= OBJECTS_MAX {
            return;
        }
        let image = self.images.get(&(*tgid, *start_boot_ns));
        let peer = match &event.origin {
            Origin::Flow(flow) => Some(flow.peer),
            _ => None,
        };
        list.push(Witness {
            object,
            epoch: event.epoch,
            time_boot_ns: event.time_boot_ns,
            tgid: *tgid,
            parent_tgid: image.map_or(0, |image| image.parent_tgid),
            start_boot_ns: *start_boot_ns,
            cgroup_id: *cgroup_id,
            program_id: *program_id,
            file: image.map(|image| image.file),
            peer,
            uid: image.map_or(u32::MAX, |image| image.uid),
            login_uid: image.and_then(|image| image.login_uid),
            arguments: image.map_or_else(|| "".into(), |image| Arc::clone(&image.arguments)),
        });
    }

    /// What a subject did that was new, in its open epochs.
    pub fn of(&self, subject: &Subject) -> &[Witness] {
        self.witnesses.get(subject).map_or(&[], Vec::as_slice)
    }

    /// When a subject's first new thing was seen; later than all others where there is none.
    pub fn first_of(&self, subject: &Subject) -> u64 {
        self.of(subject).iter().map(|witness| witness.time_boot_ns).min().unwrap_or(u64::MAX)
    }

    /// Subjects with something new.
    pub fn subjects(&self) -> impl Iterator<Item = &Arc<Subject>> {
        self.witnesses.keys()
    }

    /// Forgets what belongs to a closed epoch and those before it.
    pub fn close(&mut self, epoch: Epoch) {
        self.witnesses.retain(|_, list| {
            list.retain(|witness| witness.epoch.0 > epoch.0);
            !list.is_empty()
        });
    }
}

/// How often each kind of first-seen thing came up in a workload while its windows were held back:
/// where it does in normal life it is no evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSeen(BTreeMap<Workload, BTreeMap<String, u32>>);

impl FirstSeen {
    pub fn count(&mut self, object: &Object) {
        let kinds = self.0.entry(object.subject().workload.clone()).or_default();
        *kinds.entry(object.deed().to_string()).or_default() += 1;
    }

    /// The workload's normal life brought nothing of this kind while it was held back.
    pub fn is_rare(&self, object: &Object) -> bool {
        self.0
            .get(&object.subject().workload)
            .and_then(|kinds| kinds.get(object.deed().row().name))
            .is_none()
    }
}

/// How much that was never seen a workload still brings: as what was learned foretells it or, where
/// that were too few hours for a forecast, as it was counted since.
pub fn incidence(seen: &hedgerow_features::Incidence) -> Incidence {
    if u64::from(seen.units_learned) >= MIN_UNITS {
        return Incidence {
            units: u64::from(seen.units_learned),
            once: seen.once,
            twice: seen.twice,
            total: seen.items,
        };
    }
    Incidence {
        units: u64::from(seen.units_frozen),
        once: seen.first_seen,
        twice: 0,
        total: seen.items + seen.first_seen,
    }
}

/// The family of features that an object is evidence of, so that a program and a peer agree.
pub fn family(object: &Object) -> Family {
    match object {
        Object::NewPeer { .. } => Family::Flows,
        Object::Count { column, .. } => hedgerow_features::column_index(column)
            .map_or(Family::Volume, |index| hedgerow_features::COLUMNS[index].family),
        _ => Family::Processes,
    }
}

/// Objects without their witnesses, each once, in a fixed order.
pub fn distinct<'a>(witnesses: impl Iterator<Item = &'a Witness>) -> BTreeSet<Object> {
    witnesses.map(|witness| witness.object.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_learning_is_judged_by_what_came_after_it() {
        let mut seen = hedgerow_features::Incidence {
            units_learned: 14,
            once: 50,
            items: 100,
            units_frozen: 60,
            ..Default::default()
        };
        assert!(incidence(&seen).forecast().is_none());
        seen.units_frozen = 120;
        seen.first_seen = 6;
        let forecast = incidence(&seen).forecast().map(|forecast| forecast.new_per_unit);
        assert_eq!(forecast, Some(0.05));
        // A week of learning foretells it by itself.
        seen.units_learned = 100;
        let forecast = incidence(&seen).forecast().map(|forecast| forecast.new_per_unit);
        assert_eq!(forecast, Some(0.5));
    }
}
