//! What is normal for a workload besides its n-grams: what was seen, how often, and in which mix.
//!
//! Learned during *fill*, then frozen, so that windows of *fit* and *calibrate* are judged like
//! those of later life. First-seen items go on being counted after that, but aren't learned unless
//! an operator accepts them.

mod absorb;
mod known;
mod seen;

use std::{collections::BTreeMap, sync::Arc};

pub use absorb::keep_least;
use hedgerow_event::{Event, Exec, FlowDirection, Object, Origin, Subject, Workload};
pub use known::Known;
use seen::Seen;
pub use seen::{Incidence, PENDING_LIMIT, Set};
use serde::{Deserialize, Serialize};

use crate::{
    accumulate::names_a_program,
    fair,
    item::{ItemKey, known_port, path_prefix},
};

/// Workloads with sets of their own. A workload past them is judged by the host's sets. As many again came
/// after fill: what is learned of them is theirs alone, and of who has most of them those that were quiet longest
/// make room.
pub const WORKLOADS_LIMIT: usize = 256;
/// Things that learning saw but doesn't trust, kept for the operator; further ones are counted.
pub const DISTRUSTED_LIMIT: usize = 256;
/// Programs that a listening service has no business to start, by file name.
const SHELLS: &[&str] =
    &["ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Learning,
    Frozen,
}

/// First-seen sets and call mixes of each workload and of the host as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    key: ItemKey,
    /// Length of a unit of incidence: an hour in service.
    unit_ns: u64,
    phase: Phase,
    clock: Clock,
    host: Seen,
    workloads: BTreeMap<Workload, Seen>,
    /// Events of workloads past the limit, and workloads that came after fill and had to go for others.
    workloads_refused: u64,
    distrusted: Vec<Object>,
    distrusted_dropped: u64,
}

/// A workload's set, and an item of it as hash and text.
type Member = (Workload, Set, u64, String);

/// Counts the units in which anything was observed, over reboots too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    last: Option<u64>,
    units: u32,
    /// Units before the freeze.
    learned: u32,
}

impl Clock {
    /// The unit's ordinal. Records that are a little late don't open a new one.
    fn step(&mut self, unit: u64) -> u32 {
        if self.last.is_none_or(|last| unit > last || unit + 1 < last) {
            self.last = Some(unit);
            self.units += 1;
        }
        self.units - 1
    }
}

impl Baseline {
    /// `unit_ns` is the unit of incidence (an hour; shorter for a short trial), at least 1.
    pub fn new(key: ItemKey, unit_ns: u64) -> Self {
        Self {
            key,
            unit_ns: unit_ns.max(1),
            phase: Phase::Learning,
            clock: Clock::default(),
            host: Seen::default(),
            workloads: BTreeMap::new(),
            workloads_refused: 0,
            distrusted: Vec::new(),
            distrusted_dropped: 0,
        }
    }

    pub fn key(&self) -> ItemKey {
        self.key
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Learns one event during fill; afterwards it only counts what is first seen, in bounded
    /// memory, so that [`Self::incidence`] knows how much novelty normal life still brings.
    pub fn observe(&mut self, event: &Event) {
        if matches!(event.origin, Origin::Raw(_) | Origin::Signal(_)) {
            return;
        }
        let unit = self.clock.step(event.time_boot_ns / self.unit_ns);
        if self.phase == Phase::Frozen {
            visit_items(self.key, event, &mut |workload, set, hash, _| {
                let own = self.workloads.get_mut(workload);
                own.into_iter().chain([&mut self.host]).for_each(|seen| seen.note(set, hash, unit));
            });
            return;
        }
        self.distrust(event);
        self.learn_context(event);
        visit_items(self.key, event, &mut |workload, set, hash, text| {
            let own = own_sets(&mut self.workloads, &mut self.workloads_refused, workload);
            for seen in own.into_iter().chain([&mut self.host]) {
                seen.learn(set, hash, text, unit);
            }
        });
    }

    /// Ends fill: nothing is learned any more except by [`Self::accept`]. Shells that a listening
    /// program started are taken out again and stay distrusted until accepted.
    pub fn freeze(&mut self) {
        if self.phase == Phase::Frozen {
            return;
        }
        self.phase = Phase::Frozen;
        self.clock.learned = self.clock.units;
        let key = self.key;
        let mut removed = self.host.end_learning(key);
        for seen in self.workloads.values_mut() {
            removed.extend(seen.end_learning(key));
        }
        for (hash, object) in removed {
            if let Object::NewChild { child, .. } = &object
                && let Some(seen) = self.workloads.get_mut(&child.workload)
            {
                seen.forget(Set::Children, hash);
            }
            self.push_distrusted(object);
        }
    }

    /// What the workload is judged by: its own sets; where it came after fill, the host's beside them, and
    /// where nothing was learned of it the host's alone.
    /// `None` during fill, when nothing can be called unseen yet.
    pub fn known(&self, workload: &Workload) -> Option<Known<'_>> {
        let seen = self.seen(workload);
        let host = seen.late.then_some(&self.host);
        (self.phase == Phase::Frozen).then(|| Known::new(seen, host, self.key))
    }

    /// The objects in an event that its workload was never seen to have; none during fill.
    pub fn novel(&self, event: &Event) -> Vec<Object> {
        let subject = &event.actor.subject;
        let Some(known) = self.known(&subject.workload) else { return Vec::new() };
        let mut objects = Vec::new();
        match &event.origin {
            Origin::Raw(_) | Origin::Signal(_) => return objects,
            Origin::Exec(exec) => self.novel_exec(event, exec, known, &mut objects),
            Origin::Flow(flow)
                if flow.direction == FlowDirection::Outbound
                    && flow.has_peer()
                    && known.is_new(Set::Peers, self.key.address(flow.peer.address)) =>
            {
                objects.push(Object::NewPeer {
                    subject: subject.clone(),
                    peer: flow.peer,
                    protocol: Some(flow.protocol),
                });
            }
            _ => {}
        }
        let program = self.key.program(&subject.program);
        if names_a_program(&subject.program) && known.is_new(Set::Programs, program) {
            objects.push(Object::NewProgram { subject: subject.clone() });
        }
        objects
    }

    /// Adds an object to what is known of its workload. Counts and replaced files aren't members of a
    /// set; for them nothing changes.
    pub fn accept(&mut self, object: &Object) {
        self.distrusted.retain(|distrusted| distrusted != object);
        let unit = self.clock.units.saturating_sub(1);
        for (workload, set, hash, text) in self.members(object) {
            self.make_late(&workload, unit);
            let own = self.workloads.get_mut(&workload);
            own.unwrap_or(&mut self.host).accept(set, hash, &text, unit);
        }
    }

    /// Gives a workload that came after fill sets of its own: into the host's one would learn for all.
    fn make_late(&mut self, workload: &Workload, unit: u32) {
        if self.phase == Phase::Learning || self.workloads.contains_key(workload) {
            return;
        }
        let late = || self.workloads.iter().filter(|(_, seen)| seen.late);
        if late().count() >= WORKLOADS_LIMIT {
            let all = late().map(|(name, seen)| (name.owner(), seen.last_unit, name.clone()));
            for name in fair::make_room(all, fair::room(WORKLOADS_LIMIT)) {
                self.workloads.remove(&name);
                self.workloads_refused += 1;
            }
        }
        self.workloads.insert(workload.clone(), Seen::late(unit));
    }

    /// Takes back what [`Self::accept`] added.
    pub fn forget(&mut self, object: &Object) {
        for (workload, set, hash, _) in self.members(object) {
            let own = self.workloads.get_mut(&workload);
            let late = own.as_ref().is_none_or(|own| own.late);
            // Where it is judged by the host's, too, it would go on being known.
            let host = late.then_some(&mut self.host);
            own.into_iter().chain(host).for_each(|seen| seen.forget(set, hash));
        }
    }

    /// Whether an object is known of its workload; what is a member of no set never is.
    pub fn knows(&self, object: &Object) -> bool {
        let members = self.members(object);
        let known = |(workload, set, hash, _): &Member| {
            let seen = self.seen(workload);
            seen.contains(*set, *hash) || (seen.late && self.host.contains(*set, *hash))
        };
        !members.is_empty() && members.iter().all(known)
    }

    /// The sets' items that an object is.
    fn members(&self, object: &Object) -> Vec<Member> {
        let key = self.key;
        let of = |workload: &Workload, set, hash, text: String| (workload.clone(), set, hash, text);
        match object {
            Object::NewProgram { subject } => {
                let program = &subject.program;
                let hash = key.program(program);
                vec![of(&subject.workload, Set::Programs, hash, program.to_string())]
            }
            Object::ExecMemory { subject } | Object::ExecWritable { subject } => {
                let (hash, text) = (key.program(&subject.program), subject.program.to_string());
                let workload = &subject.workload;
                [Set::Programs, Set::Accepted]
                    .map(|set| of(workload, set, hash, text.clone()))
                    .into()
            }
            Object::NewChild { parent, child } => {
                let hash = key.child(&parent.program, &child.program);
                let text = format!("{} starts {}", parent.program, child.program);
                [&parent.workload, &child.workload]
                    .map(|workload| of(workload, Set::Children, hash, text.clone()))
                    .into()
            }
            Object::NewPeer { subject, peer, .. } => {
                let (workload, address) = (&subject.workload, peer.address.to_string());
                vec![
                    of(workload, Set::Peers, key.address(peer.address), address.clone()),
                    of(workload, Set::Prefixes, key.prefix(peer.address), address),
                ]
            }
            Object::Privilege { subject, uid_from, uid_to } => {
                let hash = key.privilege(&subject.program, *uid_from, *uid_to);
                let text = format!("{}: {uid_from} to {uid_to}", subject.program);
                vec![of(&subject.workload, Set::Privileges, hash, text)]
            }
            Object::Count { .. }
            | Object::Replaced { .. }
            | Object::Did { .. }
            | Object::Tampered { .. } => Vec::new(),
        }
    }

    /// What fill saw and did not learn: it waits for an operator's word.
    pub fn distrusted(&self) -> &[Object] {
        &self.distrusted
    }

    /// Distrusted objects past [`DISTRUSTED_LIMIT`].
    pub fn distrusted_dropped(&self) -> u64 {
        self.distrusted_dropped
    }

    /// Length of the units that incidence is counted in.
    pub fn unit_ns(&self) -> u64 {
        self.unit_ns
    }

    /// How often a workload's items were seen, for the forecast of what is still to come. The
    /// host's where the workload was not there in fill.
    pub fn incidence(&self, workload: &Workload) -> Incidence {
        let own = self.workloads.get(workload).filter(|own| !own.late);
        own.unwrap_or(&self.host).incidence(self.clock.learned, self.clock.units)
    }

    /// What was learned of a workload, readable: (set, item, units in which it was seen).
    pub fn learned(&self, workload: &Workload) -> impl Iterator<Item = (Set, &str, u32)> {
        self.seen(workload).learned()
    }

    /// Items, and workloads with their sets, that found no room or had to go for others.
    pub fn refused(&self) -> u64 {
        let sets = self.workloads.values().chain([&self.host]);
        sets.map(Seen::refused).sum::<u64>() + self.workloads_refused
    }

    /// Workloads with sets of their own that were there in fill.
    pub fn learned_workloads(&self) -> impl Iterator<Item = &Workload> {
        let learned = self.workloads.iter().filter(|(_, seen)| !seen.late);
        learned.map(|(workload, _)| workload)
    }

    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.keys()
    }

    fn seen(&self, workload: &Workload) -> &Seen {
        self.workloads.get(workload).unwrap_or(&self.host)
    }

    fn novel_exec(&self, event: &Event, exec: &Exec, known: Known<'_>, objects: &mut Vec<Object>) {
        let subject = &event.actor.subject;
        let program = self.key.program(&subject.program);
        let accepted = known.contains(Set::Accepted, program);
        if exec.memory && !accepted {
            objects.push(Object::ExecMemory { subject: subject.clone() });
        }
        if exec.writable && !accepted {
            objects.push(Object::ExecWritable { subject: subject.clone() });
        }
        let (uid_from, uid_to) = (exec.uid_before, exec.uid);
        if (exec.privileged || uid_from != uid_to)
            && known.is_new(Set::Privileges, self.key.privilege(&subject.program, uid_from, uid_to))
        {
            objects.push(Object::Privilege { subject: subject.clone(), uid_from, uid_to });
        }
        if let Some(parent) = parent_of(event, exec) {
            let pair = self.key.child(&parent.program, &subject.program);
            // The pair belongs to the workload whose program reached out.
            let known = self.known(&parent.workload);
            if known.is_some_and(|known| known.is_new(Set::Children, pair)) {
                let (parent, child) = (parent.clone(), subject.clone());
                objects.push(Object::NewChild { parent, child });
            }
        }
        if exec.replaced {
            objects.push(Object::Replaced { subject: subject.clone() });
        }
    }

    /// Notes what must not be learned before it is learned.
    fn distrust(&mut self, event: &Event) {
        let Origin::Exec(exec) = &event.origin else { return };
        let subject = &event.actor.subject;
        let program = self.key.program(&subject.program);
        let accepted = self.seen(&subject.workload).contains(Set::Accepted, program);
        if accepted || !(exec.memory || exec.writable) {
            return;
        }
        let own = own_sets(&mut self.workloads, &mut self.workloads_refused, &subject.workload);
        if own.is_some_and(|own| own.distrust(program)) | self.host.distrust(program) {
            self.push_distrusted(if exec.memory {
                Object::ExecMemory { subject: subject.clone() }
            } else {
                Object::ExecWritable { subject: subject.clone() }
            });
        }
    }

    /// Learns what isn't a set: mixes of calls, who listens, who started whom.
    fn learn_context(&mut self, event: &Event) {
        let subject = &event.actor.subject;
        let program = self.key.program(&subject.program);
        let parent = match &event.origin {
            Origin::Exec(exec) => parent_of(event, exec),
            _ => None,
        };
        let workload = parent.map_or(&subject.workload, |parent| &parent.workload);
        let own = own_sets(&mut self.workloads, &mut self.workloads_refused, workload);
        for seen in own.into_iter().chain([&mut self.host]) {
            match &event.origin {
                Origin::Row(row) => seen.add_mix(program, &row.classes),
                Origin::Flow(flow) if flow.direction == FlowDirection::Inbound => {
                    seen.add_listener(program);
                }
                _ => {}
            }
            if let Some(parent) = parent {
                let pair = self.key.child(&parent.program, &subject.program);
                seen.add_pair(pair, parent, subject);
            }
        }
    }

    fn push_distrusted(&mut self, object: Object) {
        if self.distrusted.contains(&object) {
            return;
        }
        if self.distrusted.len() < DISTRUSTED_LIMIT {
            self.distrusted.push(object);
        } else {
            self.distrusted_dropped += 1;
        }
    }
}

/// The sets of a workload, made while there is room.
fn own_sets<'a>(
    workloads: &'a mut BTreeMap<Workload, Seen>,
    refused: &mut u64,
    workload: &Workload,
) -> Option<&'a mut Seen> {
    if !workloads.contains_key(workload) {
        if workloads.len() >= WORKLOADS_LIMIT {
            *refused += 1;
            return None;
        }
        workloads.insert(workload.clone(), Seen::default());
    }
    workloads.get_mut(workload)
}

/// The subject that started this one: who called exec, else the parent process; `None` for a
/// program that executes itself again.
pub fn parent_of<'a>(event: &Event, exec: &'a Exec) -> Option<&'a Arc<Subject>> {
    let parent = exec.previous.as_ref().or(exec.parent.as_ref())?;
    (*parent != event.actor.subject).then_some(parent)
}

/// Whether a program is a shell, by the name of its file.
pub fn is_shell(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    SHELLS.contains(&name)
}

/// Takes an item: its workload and set, its hash, and its text where somebody wants to read it.
type Visit<'a> = dyn FnMut(&Workload, Set, u64, &dyn Fn() -> String) + 'a;

/// Calls `visit` for each item of an event.
fn visit_items(key: ItemKey, event: &Event, visit: &mut Visit<'_>) {
    let subject = &event.actor.subject;
    let workload = &subject.workload;
    if names_a_program(&subject.program) {
        let hash = key.program(&subject.program);
        visit(workload, Set::Programs, hash, &|| subject.program.to_string());
    }
    match &event.origin {
        Origin::Exec(exec) => {
            if let Some(parent) = parent_of(event, exec) {
                let hash = key.child(&parent.program, &subject.program);
                let text = || format!("{} starts {}", parent.program, subject.program);
                visit(&parent.workload, Set::Children, hash, &text);
                // The child's row asks its own workload.
                if parent.workload != *workload {
                    visit(workload, Set::Children, hash, &text);
                }
            }
            if exec.privileged || exec.uid_before != exec.uid {
                let hash = key.privilege(&subject.program, exec.uid_before, exec.uid);
                let text = || format!("{}: {} to {}", subject.program, exec.uid_before, exec.uid);
                visit(workload, Set::Privileges, hash, &text);
            }
        }
        Origin::Call(call) => {
            if let Some(path) = &call.path {
                let text = || path_prefix(path).into_owned();
                visit(workload, Set::Paths, key.path_prefix(path), &text);
            }
        }
        Origin::Flow(flow) if flow.has_peer() => {
            let (peer, protocol) = (flow.peer, flow.protocol);
            let address = || peer.address.to_string();
            let port = |port| move || format!("{protocol:?} {port}");
            if flow.direction == FlowDirection::Outbound {
                visit(workload, Set::Peers, key.address(peer.address), &address);
                visit(workload, Set::Prefixes, key.prefix(peer.address), &address);
                let known = known_port(peer.port);
                visit(workload, Set::Ports, key.port(protocol, known), &port(known));
            } else {
                visit(workload, Set::Sources, key.address(peer.address), &address);
                let known = known_port(flow.local.port);
                visit(workload, Set::Listens, key.port(protocol, known), &port(known));
            }
        }
        _ => {}
    }
}
