//! What the drain thread and its users share: maps, names, profiles, the control word.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use hedgerow_bpf::wire;
use hedgerow_event::{Epoch, Event, Subject};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::{
    Error, Result,
    flows::Flows,
    hooks::{Attached, Hook, HookStatus, Proof},
    identity::Resolver,
    loader::Loaded,
    mapping::Mapping,
    naming::{Learned, Namer},
    profiles::{Fill, Grams, Profiles},
    rows,
};

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that the kernel wrote to the rings.
    pub sent: u64,
    /// Records that came out of them.
    pub received: u64,
    /// Records that found a ring full.
    pub lost: u64,
    /// Of those, the ones that no thread could be charged with.
    pub uncharged: u64,
    /// Early signals.
    pub signals: u64,
    /// Calls of threads for which no row could be made.
    pub calls_uncounted: u64,
    /// Rows that were added to the sums of their program.
    pub spilled: u64,
    /// Programs that found no free profile.
    pub profiles_refused: u64,
    /// Packets of peers of unconnected sockets that found no room: counted, but without a name.
    pub flow_peers_refused: u64,
    /// Programs run for the marked child, by [`Hook::index`].
    pub(crate) hits: [u64; 8],
}

/// Shared between the drain thread and [`Control`].
#[derive(Debug)]
pub struct Shared {
    pub loaded: Loaded,
    pub stop: AtomicBool,
    pub received: AtomicU64,
    hooks: Mutex<Vec<Attached>>,
    flows: Mutex<Option<Flows>>,
    naming: Mutex<(Namer, Resolver)>,
    profiles: Mutex<Profiles>,
    /// Hooks of which the marked child has shown that they run.
    proved: Mutex<Vec<Hook>>,
    gone: Mutex<Vec<Hook>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn control_word(control: &Mapping<wire::wire_control>, offset: usize) -> Option<&AtomicU32> {
    let base: NonNull<wire::wire_control> = control.at(0)?;
    // SAFETY: `offset` is that of a u32 field; the mapping lives as long as the borrow, and all
    // access from here is atomic.
    Some(unsafe { AtomicU32::from_ptr(base.byte_add(offset).cast().as_ptr()) })
}

impl Shared {
    pub fn new(
        mut loaded: Loaded,
        namer: Namer,
        resolver: Resolver,
        profiles: Mapping<wire::wire_profile>,
    ) -> Self {
        Self {
            hooks: Mutex::new(std::mem::take(&mut loaded.hooks)),
            flows: Mutex::new(loaded.flows.take()),
            loaded,
            stop: AtomicBool::new(false),
            received: AtomicU64::new(0),
            naming: Mutex::new((namer, resolver)),
            profiles: Mutex::new(Profiles::new(profiles)),
            proved: Mutex::new(Vec::new()),
            gone: Mutex::new(Vec::new()),
        }
    }

    pub fn naming(&self) -> MutexGuard<'_, (Namer, Resolver)> {
        lock(&self.naming)
    }
    pub fn profiles(&self) -> MutexGuard<'_, Profiles> {
        lock(&self.profiles)
    }
    pub fn flows(&self) -> MutexGuard<'_, Option<Flows>> {
        lock(&self.flows)
    }

    fn set(&self, offset: usize, value: u32) {
        if let Some(word) = control_word(&self.loaded.control, offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// The kernel's window number.
    pub fn step(&self, epoch: Epoch) {
        let clock = std::mem::offset_of!(wire::wire_control, clock);
        self.set(clock + std::mem::offset_of!(wire::wire_clock, epoch), epoch.0);
    }

    pub fn set_closing(&self, epoch: Epoch) {
        self.set(std::mem::offset_of!(wire::wire_control, closing), epoch.0);
    }

    pub fn set_learning(&self, learning: bool) {
        self.set(std::mem::offset_of!(wire::wire_control, learning), u32::from(learning));
    }

    pub fn set_proof(&self, tgid: u32) {
        self.set(std::mem::offset_of!(wire::wire_control, proof_tgid), tgid);
        self.renew_identities();
    }

    /// Every thread looks its identity up again at its next call.
    pub fn renew_identities(&self) {
        let clock = std::mem::offset_of!(wire::wire_control, clock);
        let offset = clock + std::mem::offset_of!(wire::wire_clock, generation);
        if let Some(word) = control_word(&self.loaded.control, offset) {
            word.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Tells the kernel what naming found out; true when threads have to look again.
    pub fn learn(&self, fact: Learned) -> Result<bool> {
        match fact {
            Learned::Workload { cgroup_id, number } => {
                // Full: the cgroup's programs stay without a profile.
                let key = cgroup_id.to_ne_bytes();
                Ok(self.loaded.workloads.update(&key, &number.to_ne_bytes(), MapFlags::ANY).is_ok())
            }
            Learned::Removed { cgroup_id } => {
                let key = cgroup_id.to_ne_bytes();
                // It may never have had an entry.
                let _ = self.loaded.workloads.delete(&key);
                let _ = self.loaded.budgets.delete(&key);
                Ok(false)
            }
            Learned::Program { workload, program_id, slot, subject } => {
                self.learn_program(workload, program_id, slot, &subject)
            }
        }
    }

    /// Gives a program that the kernel gave no slot the one of its subject, or a new one when a
    /// profile waits for it: an upgraded file inherits, a restarted daemon goes on.
    fn learn_program(
        &self,
        workload: u32,
        program_id: u64,
        slot: u32,
        subject: &Arc<Subject>,
    ) -> Result<bool> {
        let mut profiles = self.profiles();
        if slot != 0 {
            profiles.assign(slot, subject);
            return Ok(false);
        }
        if program_id == 0 {
            return Ok(false);
        }
        let slot = match profiles.slots_of(subject).first() {
            Some(&slot) => Some(slot),
            None if profiles.is_preloaded(subject) => self.free_slot(),
            None => None,
        };
        let Some(slot) = slot else { return Ok(false) };
        profiles.assign(slot, subject);
        let key = [workload.to_ne_bytes(), [0; 4]].concat();
        let key = [key, program_id.to_ne_bytes().to_vec()].concat();
        let value = [slot.to_ne_bytes(), [0; 4]].concat();
        self.loaded
            .programs
            .update(&key, &value, MapFlags::NO_EXIST)
            .or_else(|error| match error.kind() {
                // The kernel was faster.
                libbpf_rs::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .map_err(Error::map("programs"))?;
        Ok(true)
    }

    fn free_slot(&self) -> Option<u32> {
        let bytes = self.loaded.free_slots.lookup_and_delete(&[]).ok()??;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// Sums the CPUs' counters.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats =
            Stats { received: self.received.load(Ordering::Relaxed), ..Stats::default() };
        for cpu in per_cpu(&self.loaded.stats)? {
            stats.sent += cpu.records;
            stats.lost += cpu.lost;
            stats.uncharged += cpu.uncharged;
            stats.signals += cpu.signals;
            stats.calls_uncounted += cpu.calls_uncounted;
            stats.spilled += cpu.spilled;
            stats.profiles_refused += cpu.profiles_refused;
            stats.flow_peers_refused += cpu.flow_peers_refused;
            for (sum, hits) in stats.hits.iter_mut().zip(cpu.hits) {
                *sum += hits;
            }
        }
        Ok(stats)
    }

    /// No program runs from here on; what has been counted can still be read.
    pub fn detach(&self) {
        lock(&self.hooks).clear();
        if let Some(flows) = &mut *self.flows() {
            flows.detach();
        }
    }

    /// Notes hooks that are no longer attached.
    pub fn watch(&self) {
        let hooks = lock(&self.hooks);
        let gone = hooks.iter().filter(|hook| !hook.is_attached()).map(|hook| hook.hook);
        let flows = self.flows();
        *lock(&self.gone) = gone.chain(flows.iter().flat_map(Flows::gone)).collect();
    }

    pub fn set_proved(&self, hooks: Vec<Hook>) {
        *lock(&self.proved) = hooks;
    }

    pub fn hooks(&self) -> Vec<HookStatus> {
        let proved = lock(&self.proved);
        let gone = lock(&self.gone);
        let flows = self.flows().is_some();
        let hooks = lock(&self.hooks);
        let loaded = |hook| {
            let flow = matches!(hook, Hook::Flow | Hook::Packet);
            hooks.iter().any(|one| one.hook == hook) || flow && flows
        };
        let proof = |hook| match hook {
            hook if !loaded(hook) => Proof::Absent,
            hook if gone.contains(&hook) => Proof::Gone,
            hook if proved.contains(&hook) => Proof::Proved,
            _ => Proof::Unproved,
        };
        Hook::ALL.map(|hook| HookStatus { hook, proof: proof(hook) }).to_vec()
    }
}

fn per_cpu(map: &MapHandle) -> Result<Vec<wire::wire_stats>> {
    let values = map
        .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(Error::map("stats"))?
        .unwrap_or_default();
    Ok(values
        .iter()
        .filter(|bytes| bytes.len() >= size_of::<wire::wire_stats>())
        // SAFETY: long enough, and any bytes are a value of a struct of integers.
        .map(|bytes| unsafe { bytes.as_ptr().cast::<wire::wire_stats>().read_unaligned() })
        .collect())
}

/// A handle to a running sensor; clones share it.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) Arc<Shared>);

impl Control {
    /// Writes what a subject's programs are known to do, and arms their early signal: now, or as
    /// soon as one of them is seen. True where one has been.
    ///
    /// # Errors
    /// The map of programs refuses.
    pub fn set_known(&self, subject: &Arc<Subject>, grams: Grams) -> Result<bool> {
        let has_slot = self.0.profiles().set_known(subject, grams);
        if !has_slot {
            self.0.naming().0.tell_programs_again();
        }
        Ok(has_slot)
    }

    /// Whether new programs get a profile at exec.
    pub fn set_learning(&self, learning: bool) {
        self.0.set_learning(learning);
    }

    /// How full each known profile is.
    pub fn fill(&self) -> Vec<Fill> {
        self.0.profiles().fill()
    }

    /// What the threads of a process have counted so far in the open windows; nothing is taken
    /// out. A zombie has none.
    ///
    /// # Errors
    /// The kernel refuses the iterator.
    pub fn rows_of(&self, tgid: u32) -> Result<Vec<Event>> {
        let rows = rows::peek(self.0.loaded.peek.as_fd(), tgid)?;
        let mut naming = self.0.naming();
        let (namer, resolver) = &mut *naming;
        Ok(rows.into_iter().filter_map(|row| namer.name(row, resolver)).collect())
    }

    /// Each hook: absent, attached, proved or gone.
    pub fn hooks(&self) -> Vec<HookStatus> {
        self.0.hooks()
    }

    /// Totals since the start.
    ///
    /// # Errors
    /// The map of counters can't be read.
    pub fn stats(&self) -> Result<Stats> {
        self.0.stats()
    }
}
