//! Nameable things that somebody did, with who did it.

use std::{collections::BTreeSet, sync::Arc};

use hedgerow_event::{
    Actor, Aspect, Event, Family, FileKey, Object, Origin, Peer, Provenance, Subject,
};
use hedgerow_features::Baseline;

use crate::{
    deeds::Deeds,
    lineage::Lineage,
    maturity::{Incidence, MIN_UNITS},
};

/// An object with the process that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Witness {
    pub object: Object,
    /// What the process is.
    pub subject: Arc<Subject>,
    pub time_boot_ns: u64,
    pub tgid: u32,
    pub parent_tgid: u32,
    pub start_boot_ns: u64,
    pub cgroup_id: u64,
    pub program_id: u64,
    pub file: Option<FileKey>,
    pub of_host: Option<bool>,
    pub peer: Option<Peer>,
    pub uid: u32,
    pub login_uid: Option<u32>,
    pub arguments: Arc<str>,
}

impl Witness {
    pub fn new(event: &Event, object: Object, lineage: &Lineage) -> Self {
        let Actor { subject, tgid, start_boot_ns, cgroup_id, program_id, .. } = &event.actor;
        let image = lineage.image((*tgid, *start_boot_ns));
        let peer = match &event.origin {
            Origin::Flow(flow) => Some(flow.peer),
            _ => None,
        };
        Self {
            object,
            subject: Arc::clone(subject),
            time_boot_ns: event.time_boot_ns,
            tgid: *tgid,
            parent_tgid: image.map_or(0, |image| image.parent_tgid),
            start_boot_ns: *start_boot_ns,
            cgroup_id: *cgroup_id,
            program_id: *program_id,
            file: image.map(|image| image.file),
            of_host: image.and_then(|image| image.of_host),
            peer,
            uid: image.map_or(u32::MAX, |image| image.uid),
            login_uid: image.and_then(|image| image.login_uid),
            arguments: image.map_or_else(|| "".into(), |image| Arc::clone(&image.arguments)),
        }
    }
}

impl Witness {
    /// The kernel's own counters: no process did it.
    pub fn of_kernel(object: Object, time_boot_ns: u64) -> Self {
        Self {
            subject: Arc::clone(object.subject()),
            object,
            time_boot_ns,
            tgid: 0,
            parent_tgid: 0,
            start_boot_ns: 0,
            cgroup_id: 0,
            program_id: 0,
            file: None,
            of_host: None,
            peer: None,
            uid: u32::MAX,
            login_uid: None,
            arguments: "".into(),
        }
    }
}

/// The objects in an event. While fill learns, nothing can be new; what is grave by itself is told
/// all the same, so that its rate is known. `learning` is about first uses.
pub fn objects(
    event: &Event,
    baseline: &Baseline,
    deeds: &mut Deeds,
    fill: bool,
    learning: bool,
) -> Vec<Object> {
    let mut found = deeds.observe(event, baseline, learning);
    if !fill {
        found.extend(baseline.novel(event).into_iter().filter(|object| !is_excused(event, object)));
    } else if let Origin::Exec(exec) = &event.origin {
        let subject = || Arc::clone(&event.actor.subject);
        if exec.memory {
            found.push(Object::ExecMemory { subject: subject() });
        } else if exec.writable {
            found.push(Object::ExecWritable { subject: subject() });
        }
    }
    found
}

/// A file that a package holds with this content is no replacement: it was upgraded.
fn is_excused(event: &Event, object: &Object) -> bool {
    let Origin::Exec(exec) = &event.origin else { return false };
    matches!(object, Object::Replaced { .. }) && exec.provenance == Provenance::Package
}

/// How much that was never seen a workload still brings: as what was learned foretells it or, where
/// that were too few hours for a forecast, as it was counted since.
pub fn incidence(seen: &hedgerow_features::Incidence) -> Incidence {
    if u64::from(seen.units_learned) >= MIN_UNITS {
        return Incidence {
            units: u64::from(seen.units_learned),
            once: seen.once,
            total: seen.items,
        };
    }
    Incidence {
        units: u64::from(seen.units_frozen),
        once: seen.first_seen,
        total: seen.items + seen.first_seen,
    }
}

/// The family of features that an object is evidence of.
pub fn family(object: &Object) -> Family {
    match object {
        Object::Count { column, .. } => hedgerow_features::column_index(column)
            .map_or(Family::Volume, |index| hedgerow_features::COLUMNS[index].family),
        other => match other.deed().aspect() {
            Aspect::Peer | Aspect::Source | Aspect::Outflow => Family::Flows,
            Aspect::Files | Aspect::Secrets | Aspect::Persistence => Family::Files,
            _ => Family::Processes,
        },
    }
}

/// Families of objects, each once.
pub fn families(objects: &BTreeSet<Object>) -> Vec<Family> {
    objects.iter().map(family).collect::<BTreeSet<_>>().into_iter().collect()
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
