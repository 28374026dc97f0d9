//! From decoded records to events: numbers become names, late records are counted.

mod exec;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hedgerow_bpf::wire;
use hedgerow_event::{
    Actor, Call, Epoch, Event, Exit, FileKey, Fork, Loss, Origin, Raw, Signal, Subject, Use, Used,
    calls::{self, Tables},
};

use crate::{
    facts::{actor, counts, process_key, reason, stranger_profile_id},
    flow_event,
    held::Awaited,
    identity::{Changed, ProcessKey, Resolver, Root, ServiceId},
    wire_event::{WireCall, WireEvent, WireUsed},
};

/// Processes remembered; past it all are forgotten and named anew.
const PROCESSES_MAX: usize = 65_536;
/// Cgroups whose number was told, with the same policy: a removal whose record was lost leaves one.
const CGROUPS_MAX: usize = 16_384;

/// A cgroup's path of this size or more may have lost its end.
const WHOLE_PATH: u16 = wire::WIRE_PATH_MAX as u16 - 1;

/// What naming has to tell the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// A cgroup's workload has this number.
    Workload { cgroup_id: u64, number: u32 },
    /// A program runs in a workload; the kernel's id of its profile, and that one's slot, 0 for
    /// none.
    Program { workload: u32, profile_id: u64, slot: u32, subject: Arc<Subject> },
    /// The number of a service in cgroups that hold no unit; `None` once it is forgotten.
    Service { id: ServiceId, number: Option<u32> },
    /// The cgroup is gone, or its workload has no number any more.
    Removed { cgroup_id: u64 },
    /// These numbers of workloads name nobody any more.
    Forgotten { numbers: HashSet<u32> },
}

#[derive(Debug)]
struct Process {
    key: ProcessKey,
    slot: u32,
    /// 0 where it is not known.
    profile_id: u64,
    subject: Arc<Subject>,
}

/// Names records; one per drain thread.
#[derive(Debug)]
pub struct Namer {
    tables: Tables,
    processes: HashMap<u32, Process>,
    /// Lineages of processes that stood before the sensor and were not seen yet: the full stream
    /// tells none.
    stood: HashMap<u32, (u64, Root)>,
    /// Processes that ended in this window and the one before, with their starts: their last rows
    /// may still come.
    ended: [Vec<(u32, u64)>; 2],
    workloads: HashMap<u64, u32>,
    programs: HashSet<(u32, u64, u32)>,
    learned: Vec<Learned>,
    used: Vec<Used>,
    /// What is still being found out of the last exec's files.
    awaited: Awaited,
    /// The oldest epoch that is open: what is older is late.
    oldest: Epoch,
    loss: Loss,
}

impl Namer {
    pub fn new(oldest: Epoch) -> Self {
        Self {
            tables: Tables::new(),
            processes: HashMap::new(),
            stood: HashMap::new(),
            ended: [Vec::new(), Vec::new()],
            workloads: HashMap::new(),
            programs: HashSet::new(),
            learned: Vec::new(),
            used: Vec::new(),
            awaited: Awaited::default(),
            oldest,
            loss: Loss::default(),
        }
    }

    /// What was found out since the last call.
    pub fn take_learned(&mut self) -> Vec<Learned> {
        std::mem::take(&mut self.learned)
    }

    /// Files that were told as used since the last call.
    pub fn take_used(&mut self) -> Vec<Used> {
        std::mem::take(&mut self.used)
    }

    /// What the event named last should wait for.
    pub fn take_awaited(&mut self) -> Awaited {
        std::mem::take(&mut self.awaited)
    }

    /// Tells of each program again when it is next seen: a profile may wait for it.
    pub fn tell_programs_again(&mut self) {
        self.programs.clear();
    }

    /// Counts a record that could not be decoded.
    pub fn undecodable(&mut self) {
        self.loss.lost += 1;
    }

    /// Closes an epoch: the loss that no thread was charged with.
    pub fn close(&mut self, oldest: Epoch, resolver: &mut Resolver) -> Loss {
        self.oldest = oldest;
        for (tgid, start_boot_ns) in std::mem::take(&mut self.ended[1]) {
            // Another process may have its number by now.
            let ended = |known: &Process| known.key.start_boot_ns == start_boot_ns;
            if self.processes.get(&tgid).is_some_and(ended) {
                self.processes.remove(&tgid);
            }
        }
        self.ended.swap(0, 1);
        if resolver.is_full_of_services() {
            let used = self.processes.values().map(|process| process.key.root.id()).collect();
            resolver.retain_services(&used);
            self.tell_services(resolver);
        }
        if resolver.is_full_of_workloads() {
            self.forget_workloads(resolver);
        }
        std::mem::take(&mut self.loss)
    }

    /// Takes the numbers from workloads without a process, for who found none; who comes back has
    /// another one.
    fn forget_workloads(&mut self, resolver: &mut Resolver) {
        let lives = |process: &Process| resolver.known_number(&process.key);
        let used: HashSet<u32> = self.processes.values().filter_map(lives).collect();
        let waits = |process: &&Process| self.workloads.get(&process.key.cgroup_id) == Some(&0);
        let waiting = self.processes.values().filter(waits);
        let waiting: Vec<_> =
            waiting.map(|one| (one.key, one.slot, one.profile_id, one.subject.clone())).collect();
        let numbers = resolver.retain_workloads(&used);
        let told = |_: &u64, number: &mut u32| *number == 0 || numbers.contains(number);
        let gone = self.workloads.extract_if(told);
        self.learned.extend(gone.map(|(cgroup_id, _)| Learned::Removed { cgroup_id }));
        self.programs.retain(|(number, ..)| !numbers.contains(number));
        if !numbers.is_empty() {
            self.learned.push(Learned::Forgotten { numbers });
        }
        for (key, slot, profile_id, subject) in waiting {
            self.remember(key, slot, profile_id, &subject, resolver);
        }
    }

    /// A record as an event; `None` for what is no event.
    pub fn name(&mut self, record: WireEvent, resolver: &mut Resolver) -> Option<Event> {
        match record {
            WireEvent::Row(row) => self.row(&row, resolver),
            WireEvent::Exec(exec) => self.exec(&exec, resolver),
            WireEvent::Fork(fork) => self.fork(&fork, resolver),
            WireEvent::Exit(exit) => self.exit(&exit, resolver),
            WireEvent::Call(call) => self.call(*call, resolver),
            WireEvent::Signal(signal) => self.signal(&signal, resolver),
            WireEvent::Raw(raw) => self.raw(&raw, resolver),
            WireEvent::Flow(flow) => self.flow(&flow, resolver),
            WireEvent::Process(process) => {
                let actor = &process.actor;
                if self.stood.len() < PROCESSES_MAX {
                    let lineage = (actor.start_boot_ns, Root::from(&actor.root));
                    self.stood.insert(actor.tgid, lineage);
                }
                None
            }
            WireEvent::Used(used) => {
                self.use_of(*used, resolver);
                None
            }
            WireEvent::Cgroup(cgroup) => {
                let id = cgroup.record.id;
                if cgroup.record.removed != 0 {
                    resolver.removed(id);
                    self.workloads.remove(&id);
                    self.learned.push(Learned::Removed { cgroup_id: id });
                } else {
                    // It may be gone by now, and others asked for it in vain before.
                    if cgroup.record.path_size < WHOLE_PATH {
                        resolver.made(id, cgroup.path);
                    } else {
                        resolver.made_deep(id, cgroup.path);
                    }
                    self.workload(id, 0, resolver);
                }
                None
            }
        }
    }

    fn event(&mut self, header: &wire::wire_header, actor: Actor, origin: Origin) -> Option<Event> {
        let mut epoch = Epoch(header.epoch);
        // Epochs are compared as they wrap.
        if epoch.0.wrapping_sub(self.oldest.0).cast_signed() < 0 {
            self.loss.late += 1;
            epoch = self.oldest;
        }
        Some(Event { epoch, time_boot_ns: header.time_boot_ns, actor, origin })
    }

    fn workload(&mut self, cgroup_id: u64, tgid: u32, resolver: &mut Resolver) -> u32 {
        if let Some(&number) = self.workloads.get(&cgroup_id) {
            return number;
        }
        let (_, number) = resolver.workload(cgroup_id, tgid);
        if self.workloads.len() >= CGROUPS_MAX {
            self.workloads.clear();
        }
        self.workloads.insert(cgroup_id, number);
        if number != 0 {
            self.learned.push(Learned::Workload { cgroup_id, number });
        }
        number
    }

    /// The actor of a record; `None` for the child that proves the hooks, which is nobody's.
    fn actor(&mut self, wire: &wire::wire_actor, resolver: &mut Resolver) -> Option<Actor> {
        if wire.flags & wire::WIRE_ACTOR_PROOF != 0 {
            return None;
        }
        let mut key = process_key(wire);
        let known = self.processes.get(&wire.tgid);
        let known = known.filter(|known| known.key.start_boot_ns == key.start_boot_ns);
        if !key.root.is_known() {
            let stood = self.stood.get(&key.tgid).filter(|stood| stood.0 == key.start_boot_ns);
            let root = known.map(|known| known.key.root).or_else(|| stood.map(|stood| stood.1));
            key.root = root.unwrap_or(key.root);
        }
        let subject = match known {
            Some(known) if known.key == key && known.slot == wire.slot => {
                Arc::clone(&known.subject)
            }
            // A socket that was made and never used tells its owner, but not the program.
            Some(known) if wire.program_id == 0 => Arc::clone(&known.subject),
            known => {
                let profile_id = match known {
                    Some(known) if known.key.program_id == key.program_id => known.profile_id,
                    // Its exec was lost.
                    Some(_) => 0,
                    None => stranger_profile_id(key.program_id, key.tgid),
                };
                let subject = match known {
                    // It only got a profile.
                    Some(known) if known.key == key => Arc::clone(&known.subject),
                    _ => resolver.subject(key, None),
                };
                self.remember(key, wire.slot, profile_id, &subject, resolver);
                subject
            }
        };
        Some(actor(wire, subject))
    }

    /// Who a process is, as far as anybody has asked before; nothing is remembered, nor found out.
    pub fn whom(&self, key: &ProcessKey, resolver: &Resolver) -> Arc<Subject> {
        let known = self.processes.get(&key.tgid);
        let known = known.filter(|known| known.key.start_boot_ns == key.start_boot_ns);
        match known {
            Some(known) if [0, known.key.program_id].contains(&key.program_id) => {
                Arc::clone(&known.subject)
            }
            _ => resolver.known(key),
        }
    }

    fn remember(
        &mut self,
        key: ProcessKey,
        slot: u32,
        profile_id: u64,
        subject: &Arc<Subject>,
        resolver: &mut Resolver,
    ) {
        if self.processes.len() >= PROCESSES_MAX {
            self.processes.clear();
        }
        if key.tgid != 0 {
            let subject = Arc::clone(subject);
            self.processes.insert(key.tgid, Process { key, slot, profile_id, subject });
        }
        self.stood.remove(&key.tgid);
        self.workload(key.cgroup_id, key.tgid, resolver);
        let (_, workload) = resolver.place(&key);
        self.tell_services(resolver);
        let profiled = workload != 0 && profile_id != 0;
        if profiled && self.programs.insert((workload, profile_id, slot)) {
            if self.programs.len() >= PROCESSES_MAX {
                self.programs.clear();
            }
            self.learned.push(Learned::Program {
                workload,
                profile_id,
                slot,
                subject: Arc::clone(subject),
            });
        }
    }

    /// Gives those their name of whom one has come that was waited for too long.
    pub fn rename(&mut self, resolver: &mut Resolver) {
        for changed in resolver.take_changed() {
            let is_it = |key: &ProcessKey| match changed {
                Changed::Process(process) => *key == process,
                Changed::Cgroup(id) => key.cgroup_id == id,
                Changed::Service(id) => key.root.id() == id,
            };
            if let Changed::Cgroup(id) = changed
                && self.workloads.remove(&id).is_some()
            {
                self.workload(id, 0, resolver);
            }
            let found = self.processes.values().filter(|known| is_it(&known.key));
            let found: Vec<_> = found
                .map(|known| (known.key, known.slot, known.profile_id, known.subject.clone()))
                .collect();
            for (key, slot, profile_id, subject) in found {
                let subject = match changed {
                    Changed::Process(_) => resolver.subject(key, None),
                    _ => resolver.moved(key, &subject),
                };
                self.remember(key, slot, profile_id, &subject, resolver);
            }
        }
    }

    fn tell_services(&mut self, resolver: &mut Resolver) {
        let numbered = resolver.take_numbered().into_iter();
        self.learned.extend(numbered.map(|(id, number)| Learned::Service { id, number }));
    }

    fn row(&mut self, row: &wire::wire_row, resolver: &mut Resolver) -> Option<Event> {
        let actor = self.actor(&row.actor, resolver)?;
        let origin = Origin::Row(Box::new(counts(&row.counts, reason(row.reason))));
        self.event(&row.header, actor, origin)
    }

    fn known(&self, tgid: u32, start_boot_ns: u64) -> Option<Arc<Subject>> {
        let process = self.processes.get(&tgid)?;
        (process.key.start_boot_ns == start_boot_ns).then(|| Arc::clone(&process.subject))
    }

    fn fork(&mut self, fork: &wire::wire_fork, resolver: &mut Resolver) -> Option<Event> {
        let actor = self.actor(&fork.actor, resolver)?;
        let thread = fork.child_tgid == actor.tgid;
        if !thread {
            let key = ProcessKey {
                tgid: fork.child_tgid,
                start_boot_ns: fork.child_start_boot_ns,
                ..process_key(&fork.actor)
            };
            let parent = self.processes.get(&actor.tgid);
            let profile_id = parent.map_or(0, |parent| parent.profile_id);
            let subject = Arc::clone(&actor.subject);
            self.remember(key, actor.slot, profile_id, &subject, resolver);
        }
        let origin = Origin::Fork(Fork {
            child_tgid: fork.child_tgid,
            child_tid: fork.child_tid,
            child_start_boot_ns: fork.child_start_boot_ns,
            thread,
        });
        self.event(&fork.header, actor, origin)
    }

    fn exit(&mut self, exit: &wire::wire_exit, resolver: &mut Resolver) -> Option<Event> {
        let actor = self.actor(&exit.actor, resolver)?;
        let process = exit.process != 0;
        if process {
            // Past the limit they go when all are forgotten.
            if self.ended[0].len() < PROCESSES_MAX {
                self.ended[0].push((actor.tgid, actor.start_boot_ns));
            }
            if self.stood.get(&actor.tgid).is_some_and(|stood| stood.0 == actor.start_boot_ns) {
                self.stood.remove(&actor.tgid);
            }
            resolver.forget(&process_key(&exit.actor));
        }
        self.event(&exit.header, actor, Origin::Exit(Exit { code: exit.code, process }))
    }

    fn call(&mut self, call: WireCall, resolver: &mut Resolver) -> Option<Event> {
        let wire = &call.record;
        let actor = self.actor(&wire.actor, resolver)?;
        let flag = |bit: u32| u32::from(wire.flags) & bit != 0;
        let compat = flag(wire::WIRE_CALL_COMPAT);
        let mut arguments = wire.arguments;
        let number = if flag(wire::WIRE_CALL_CREDENTIALS) {
            calls::CREDENTIALS_GREW
        } else if flag(wire::WIRE_CALL_URING) {
            self.tables.uring_number(u8::try_from(wire.number).unwrap_or(u8::MAX))
        } else {
            self.tables.native_number(wire.number, compat)
        };
        if i64::from(number) == libc::SYS_openat2 && !flag(wire::WIRE_CALL_URING) {
            arguments[2] = wire.file_flags.into();
        }
        let origin = Origin::Call(Box::new(Call {
            number,
            class: wire.class,
            compat,
            result: wire.result,
            arguments,
            path: call.path.map(Arc::from),
            claimed: flag(wire::WIRE_CALL_CLAIMED),
        }));
        self.event(&wire.header, actor, origin)
    }

    /// Not an event: nothing is counted by it, and it waits for nothing.
    fn use_of(&mut self, used: WireUsed, resolver: &mut Resolver) {
        let wire = &used.record;
        let Some(actor) = self.actor(&wire.actor, resolver) else { return };
        let read = u32::from(wire.flags) & wire::WIRE_USED_READ != 0;
        let file = FileKey {
            device: wire.file.device,
            inode: wire.file.inode,
            generation: wire.file.generation,
        };
        let how = if read { Use::Read } else { Use::Mapped };
        self.used.push(Used { actor, how, path: used.path.into(), file });
    }

    fn signal(&mut self, signal: &wire::wire_signal, resolver: &mut Resolver) -> Option<Event> {
        let actor = self.actor(&signal.actor, resolver)?;
        let origin = Origin::Signal(Signal { unseen6: signal.unseen6, calls: signal.calls });
        self.event(&signal.header, actor, origin)
    }

    fn raw(&mut self, raw: &wire::wire_raw, resolver: &mut Resolver) -> Option<Event> {
        let proof = u32::from(raw.flags) & wire::WIRE_CALL_PROOF != 0;
        let wire = wire::wire_actor {
            start_boot_ns: raw.start_boot_ns,
            cgroup_id: raw.cgroup_id,
            program_id: raw.program_id,
            tgid: raw.tgid,
            tid: raw.tid,
            slot: raw.slot.into(),
            flags: if proof { wire::WIRE_ACTOR_PROOF } else { 0 },
            root: wire::wire_root::default(),
        };
        let actor = self.actor(&wire, resolver)?;
        let flag = |bit: u32| u32::from(raw.flags) & bit != 0;
        let origin = Origin::Raw(Raw {
            number: raw.number,
            compat: flag(wire::WIRE_CALL_COMPAT),
            uring: flag(wire::WIRE_CALL_URING),
            fresh: flag(wire::WIRE_CALL_FRESH),
            streamed: flag(wire::WIRE_CALL_STREAMED),
            result: raw.result,
        });
        self.event(&raw.header, actor, origin)
    }

    fn flow(&mut self, flow: &wire::wire_flow, resolver: &mut Resolver) -> Option<Event> {
        let actor = self.actor(&flow.actor, resolver)?;
        let origin = Origin::Flow(Box::new(flow_event::flow(flow)?));
        self.event(&flow.header, actor, origin)
    }
}

#[cfg(test)]
mod tests;
