//! What the drain thread and its users share: maps, names, profiles, the control word.

mod handle;

use std::{
    collections::BTreeSet,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use hedgerow_bpf::wire;
use hedgerow_event::{Epoch, Tampering};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

pub use self::handle::Control;
use crate::{
    Error, Result,
    answers::{self, Names},
    flows::Flows,
    hooks::{Attached, Hook, HookStatus, Proof},
    identity::{Count, Resolver},
    loader::Loaded,
    mapping::Mapping,
    naming::Namer,
    profiles::Profiles,
    shed::Shed,
    watch::{self, Watch},
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
    /// Calls, execs and forks of threads for which no row could be made.
    pub calls_uncounted: u64,
    /// Times that the kernel skipped a hook, because it was running on that CPU already.
    pub skipped: u64,
    /// Rows that were added to the sums of their program.
    pub spilled: u64,
    /// Programs that found no free profile.
    pub profiles_refused: u64,
    /// Times that a process was the host's because there was no room for its service.
    pub services_refused: u64,
    /// Times that a workload had no profiles because there was no room for its name.
    pub workloads_refused: u64,
    /// Names of processes and containers that could not be asked for.
    pub names_refused: u64,
    /// Files of programs that could not be read or looked for, since too many were.
    pub digests_refused: u64,
    /// Packets of peers of unconnected sockets that found no room: counted, but without a name.
    pub flow_peers_refused: u64,
    /// Times that a file in use was not told: too many were, or a ring was half full.
    pub used_untold: u64,
    /// Answers of name servers that were too many or too long to be read.
    pub answers_refused: u64,
    /// Records past their workload's share of a ring that was half full: lost, or, of rows, summed up.
    pub shares_refused: u64,
    /// Packets that were counted without their peer, or not at all, for want of room.
    pub usage_refused: u64,
    /// Names of peers that made room for others before their time.
    pub peer_names_evicted: u64,
    /// Windows that closed although not everything of them had come.
    pub overdue: u64,
    /// Programs run for the marked child, by [`Hook::index`].
    pub(crate) hits: [u64; 8],
}

/// What naming had no room for, as of the last closed window.
#[derive(Debug, Default)]
pub struct Refused {
    services: AtomicU64,
    workloads: AtomicU64,
    names: AtomicU64,
    digests: AtomicU64,
}

impl Refused {
    pub fn note(&self, resolver: &mut Resolver) {
        self.services.store(resolver.services_refused(), Ordering::Relaxed);
        self.workloads.store(resolver.workloads_refused(), Ordering::Relaxed);
        self.names.store(resolver.names_refused(), Ordering::Relaxed);
        self.digests.store(resolver.digests().refused(), Ordering::Relaxed);
    }
}

/// Shared between the drain thread and [`Control`].
#[derive(Debug)]
pub struct Shared {
    pub loaded: Loaded,
    pub stop: AtomicBool,
    /// Profiles have been armed and wait for the next epoch to hold.
    arming: AtomicBool,
    /// What is shed from the next epoch on.
    shed: AtomicU32,
    pub received: AtomicU64,
    /// Turns of the drain thread, for who watches whether it goes on.
    pub turns: AtomicU64,
    pub overdue: AtomicU64,
    names: Arc<Count>,
    pub refused: Refused,
    hooks: Mutex<Vec<Attached>>,
    flows: Mutex<Option<Flows>>,
    naming: Mutex<(Namer, Resolver)>,
    /// By which names addresses were asked for.
    pub answers: Mutex<Names>,
    profiles: Mutex<Profiles>,
    /// Hooks of which the marked child has shown that they run.
    proved: Mutex<Vec<Hook>>,
    gone: Mutex<Vec<Hook>>,
    watch: Mutex<Watch>,
    /// The control word as we wrote it; held while it is written.
    written: Mutex<[u32; CONTROL_WORDS]>,
}

const CONTROL_WORDS: usize = size_of::<wire::wire_control>() / size_of::<u32>();
const CLOCK: usize = std::mem::offset_of!(wire::wire_control, clock);
const EPOCH: usize = CLOCK + std::mem::offset_of!(wire::wire_clock, epoch);
const GENERATION: usize = CLOCK + std::mem::offset_of!(wire::wire_clock, generation);
const CLOSING: usize = std::mem::offset_of!(wire::wire_control, closing);
const LEARNING: usize = std::mem::offset_of!(wire::wire_control, learning);
const KNOWN_SINCE: usize = std::mem::offset_of!(wire::wire_control, known_since);
const SHED: usize = std::mem::offset_of!(wire::wire_control, shed);
const PROOF: usize = std::mem::offset_of!(wire::wire_control, proof_tgid);

mod learn;

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
    pub fn new(mut loaded: Loaded, namer: Namer, resolver: Resolver, profiles: Profiles) -> Self {
        let word = |index: usize| {
            control_word(&loaded.control, index * size_of::<u32>())
                .map_or(0, |word| word.load(Ordering::Acquire))
        };
        let written = std::array::from_fn(word);
        Self {
            written: Mutex::new(written),
            watch: Mutex::new(Watch::default()),
            hooks: Mutex::new(std::mem::take(&mut loaded.hooks)),
            flows: Mutex::new(loaded.flows.take()),
            loaded,
            stop: AtomicBool::new(false),
            arming: AtomicBool::new(false),
            shed: AtomicU32::new(written[SHED / size_of::<u32>()]),
            received: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            names: resolver.names(),
            refused: Refused::default(),
            naming: Mutex::new((namer, resolver)),
            answers: Mutex::default(),
            profiles: Mutex::new(profiles),
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

    fn set(&self, offset: usize, value: impl FnOnce(u32) -> u32) {
        let mut written = lock(&self.written);
        let kept = &mut written[offset / size_of::<u32>()];
        *kept = value(*kept);
        if let Some(word) = control_word(&self.loaded.control, offset) {
            word.store(*kept, Ordering::Release);
        }
    }

    /// The control word as it was written; a foreign change is put right, since it can blind us.
    fn control_tampered(&self) -> Option<Tampering> {
        let written = lock(&self.written);
        let mut tampered = false;
        for (index, kept) in written.iter().enumerate() {
            let word = control_word(&self.loaded.control, index * size_of::<u32>())?;
            tampered |= word.swap(*kept, Ordering::AcqRel) != *kept;
        }
        tampered.then(|| Tampering::new("the control word", "changed, and put right"))
    }

    fn is_learning(&self) -> bool {
        lock(&self.written)[LEARNING / size_of::<u32>()] != 0
    }

    /// What is shed is so at once, what isn't any more from the next epoch on: a window is whole or said to
    /// lack something.
    pub fn shed(&self, shed: Shed) {
        self.shed.store(shed.bits(), Ordering::Release);
        self.set(SHED, |now| now | shed.bits());
    }

    /// Whether what windows are made of is shed in the open window.
    pub fn thins_windows(&self) -> bool {
        Shed::thins_windows(lock(&self.written)[SHED / size_of::<u32>()])
    }

    /// The epoch that the kernel is in.
    pub fn epoch(&self) -> u32 {
        lock(&self.written)[EPOCH / size_of::<u32>()]
    }

    /// The kernel's window number.
    pub fn step(&self, epoch: Epoch) {
        self.set(SHED, |_| self.shed.load(Ordering::Acquire));
        if self.arming.swap(false, Ordering::AcqRel) {
            self.set(KNOWN_SINCE, |since| if since == 0 { epoch.0 } else { since });
        }
        self.set(EPOCH, |_| epoch.0);
    }

    /// Armed profiles hold from the next epoch that [`Self::step`] begins, if none do already.
    fn hold(&self) {
        self.arming.store(true, Ordering::Release);
    }

    /// The first epoch in which armed profiles hold.
    pub fn known_since(&self) -> Option<Epoch> {
        let epoch = lock(&self.written)[KNOWN_SINCE / size_of::<u32>()];
        (epoch != 0).then_some(Epoch(epoch))
    }

    pub fn set_closing(&self, epoch: Epoch) {
        self.set(CLOSING, |_| epoch.0);
    }

    pub fn set_learning(&self, learning: bool) {
        self.set(LEARNING, |_| u32::from(learning));
    }

    pub fn set_proof(&self, tgid: u32) {
        self.set(PROOF, |_| tgid);
        self.renew_identities();
    }

    /// Every thread looks its identity up again at its next call.
    pub fn renew_identities(&self) {
        self.set(GENERATION, |generation| generation.wrapping_add(1));
    }

    /// Sums the CPUs' counters.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats =
            Stats { received: self.received.load(Ordering::Relaxed), ..Stats::default() };
        let flows = self.flows();
        let hooks = lock(&self.hooks);
        let of_flows = flows.iter().flat_map(|flows| flows.hooks());
        stats.skipped = hooks.iter().chain(of_flows).map(Attached::skipped).sum();
        drop((hooks, flows));
        stats.overdue = self.overdue.load(Ordering::Relaxed);
        stats.services_refused = self.refused.services.load(Ordering::Relaxed);
        stats.workloads_refused = self.refused.workloads.load(Ordering::Relaxed);
        stats.names_refused = self.refused.names.load(Ordering::Relaxed);
        stats.digests_refused = self.refused.digests.load(Ordering::Relaxed);
        stats.peer_names_evicted = answers::lock(&self.answers).evicted();
        for cpu in per_cpu(&self.loaded.stats)? {
            stats.sent += cpu.records;
            stats.lost += cpu.lost;
            stats.uncharged += cpu.uncharged;
            stats.signals += cpu.signals;
            stats.calls_uncounted += cpu.calls_uncounted;
            stats.spilled += cpu.spilled;
            stats.profiles_refused += cpu.profiles_refused;
            stats.flow_peers_refused += cpu.flow_peers_refused;
            stats.used_untold += cpu.used_untold;
            stats.answers_refused += cpu.answers_refused;
            stats.shares_refused += cpu.shares_refused;
            stats.usage_refused += cpu.usage_refused;
            for (sum, hits) in stats.hits.iter_mut().zip(cpu.hits) {
                *sum += hits;
            }
        }
        Ok(stats)
    }

    /// The attached programs, with the kernel's id of each.
    fn programs(&self) -> Vec<(String, u32)> {
        let flows = self.flows();
        let of_flows = flows.iter().flat_map(|flows| flows.hooks());
        lock(&self.hooks).iter().chain(of_flows).filter_map(Attached::program).collect()
    }

    /// No call is counted from here on. What ends still hands over what was counted of it: a thread
    /// or a flow that ends before it is read would take that along.
    pub fn detach_calls(&self) {
        lock(&self.hooks).retain(|attached| attached.hook == Hook::Exit);
    }

    /// No program runs from here on: everything that lives has been read.
    pub fn detach(&self) {
        lock(&self.hooks).clear();
        if let Some(flows) = &mut *self.flows() {
            flows.detach();
        }
    }

    /// Notes what somebody else changed: hooks that are no longer attached, maps that no longer
    /// hold what was written. `before` are the counters of the last look.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn watch(&self, before: &Stats, now: &Stats) -> Result<()> {
        let mut tampered = BTreeSet::new();
        let mut gone = Vec::new();
        let flows = self.flows();
        let of_flows = flows.iter().flat_map(|flows| flows.hooks());
        for attached in lock(&self.hooks).iter().chain(of_flows) {
            if let Some(how) = attached.tampered() {
                tampered.insert(how);
                gone.push(attached.hook);
            }
        }
        *lock(&self.gone) = gone;
        tampered.extend(self.control_tampered());
        tampered.extend(self.profiles().tampered());
        tampered.extend(watch::ran_backwards(before, now));
        let mut watch = lock(&self.watch);
        tampered.extend(watch.look(&self.loaded, self.is_learning())?);
        watch.tampered = tampered;
        Ok(())
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
