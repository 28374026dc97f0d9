//! n-gram profiles: the slots of the mapped array, who has which, and what was seen in a window.

use std::{
    collections::{BTreeMap, HashMap},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use hedgerow_bpf::wire::{wire_grams, wire_profile};
use hedgerow_event::{Epoch, GramReport, Subject, Tampering, calls::Order};

use crate::mapping::Mapping;

/// Share of set bits from which a bitmap takes too many strangers for known.
pub const SATURATED: f64 = 0.3;

/// Subjects that are known to use a slot: many scripts may share their interpreter's. A further one
/// goes on using it, and is not told apart.
const SUBJECTS_MAX: usize = 4096;

/// Positions of n-grams in the bitmaps, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Below 2^14.
    pub grams2: Vec<u32>,
    /// Below 2^15.
    pub grams3: Vec<u32>,
    /// Below 2^17.
    pub grams6: Vec<u32>,
}

/// How full a profile is.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    pub subject: Arc<Subject>,
    pub slot: u32,
    /// Shares of set bits of the 2-, 3- and 6-gram bitmaps.
    pub share: [f64; 3],
    pub saturated: bool,
}

/// Where the words of one order begin within a `wire_grams`.
fn words(grams: NonNull<wire_grams>, order: Order) -> (NonNull<u64>, usize) {
    let offset = match order {
        Order::Two => std::mem::offset_of!(wire_grams, gram2),
        Order::Three => std::mem::offset_of!(wire_grams, gram3),
        Order::Six => std::mem::offset_of!(wire_grams, gram6),
    };
    // SAFETY: the offset of a field within the same value.
    (unsafe { grams.byte_add(offset) }.cast(), order.words())
}

/// A word that BPF programs change at the same time.
fn word<'a>(base: NonNull<u64>, index: usize) -> &'a AtomicU64 {
    // SAFETY: callers keep `index` below the number of words, the mapping outlives the borrow
    // within this module, and all access to it is atomic.
    unsafe { AtomicU64::from_ptr(base.add(index).as_ptr()) }
}

fn flag<'a>(profile: NonNull<wire_profile>, offset: usize) -> &'a AtomicU32 {
    // SAFETY: as above; `offset` is that of a u32 field.
    unsafe { AtomicU32::from_ptr(profile.byte_add(offset).cast().as_ptr()) }
}

fn grams_at(profile: NonNull<wire_profile>, offset: usize) -> NonNull<wire_grams> {
    // SAFETY: the offset of a field of that type within the same value.
    unsafe { profile.byte_add(offset).cast() }
}

fn pending(
    profile: NonNull<wire_profile>,
    epoch: Epoch,
) -> (NonNull<wire_grams>, &'static AtomicU32) {
    let half = (epoch.0 & 1) as usize;
    let grams = std::mem::offset_of!(wire_profile, pending) + half * size_of::<wire_grams>();
    let dirty = std::mem::offset_of!(wire_profile, dirty) + half * size_of::<u32>();
    (grams_at(profile, grams), flag(profile, dirty))
}

/// The mapped array with the names of its slots.
#[derive(Debug)]
pub struct Profiles {
    slots: Mapping<wire_profile>,
    owners: Vec<Option<Arc<Subject>>>,
    by_subject: HashMap<Arc<Subject>, Vec<u32>>,
    /// Known n-grams of subjects that have no slot yet.
    preloaded: HashMap<Arc<Subject>, Positions>,
    /// Checksums of what the slots know, as we wrote it.
    written: Vec<u64>,
    /// Windows since anything unseen was seen, by slot.
    calm: Vec<u32>,
    /// So many make a slot quiet.
    quiet_windows: u32,
}

impl Profiles {
    pub fn new(slots: Mapping<wire_profile>, quiet_windows: u32) -> Self {
        let owners = vec![None; slots.len()];
        let empty = slots.at(0).map_or(0, checksum);
        let written = vec![empty; slots.len()];
        let calm = vec![0; slots.len()];
        let (by_subject, preloaded) = (HashMap::new(), HashMap::new());
        Self { slots, owners, by_subject, preloaded, written, calm, quiet_windows }
    }

    /// Slots of a subject.
    pub fn slots_of(&self, subject: &Subject) -> &[u32] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Whether `subject` waits for a slot with what it knows.
    pub fn is_preloaded(&self, subject: &Subject) -> bool {
        self.preloaded.contains_key(subject)
    }

    /// A program was seen with this slot. Its profile, if preloaded, is written.
    pub fn assign(&mut self, slot: u32, subject: &Arc<Subject>) {
        let Some(owner) = self.owners.get_mut(slot as usize) else { return };
        if slot == 0 || owner.as_ref() == Some(subject) {
            return;
        }
        if owner.is_none() {
            *owner = Some(Arc::clone(subject));
        }
        let full = self.by_subject.len() >= SUBJECTS_MAX;
        if full && !self.by_subject.contains_key(subject) && !self.is_preloaded(subject) {
            return;
        }
        let slots = self.by_subject.entry(Arc::clone(subject)).or_default();
        if !slots.contains(&slot) {
            slots.push(slot);
        }
        if let Some(grams) = self.preloaded.get(subject).cloned() {
            self.write(slot, &grams);
        }
    }

    /// Writes what a subject knows and arms it, now or once it has a slot.
    pub fn set_known(&mut self, subject: &Arc<Subject>, grams: Positions) {
        for slot in self.slots_of(subject).to_vec() {
            self.write(slot, &grams);
        }
        if self.preloaded.len() < SUBJECTS_MAX || self.is_preloaded(subject) {
            self.preloaded.insert(Arc::clone(subject), grams);
        }
    }

    /// Adds to what the slot knows: it may be shared by subjects that the kernel can't tell apart.
    fn write(&mut self, slot: u32, grams: &Positions) {
        let Some(profile) = self.slots.at(slot as usize) else { return };
        let known = grams_at(profile, std::mem::offset_of!(wire_profile, known));
        for (order, positions) in
            Order::ALL.into_iter().zip([&grams.grams2, &grams.grams3, &grams.grams6])
        {
            let (base, count) = words(known, order);
            for &position in positions {
                let index = position as usize / 64;
                if index < count {
                    word(base, index).fetch_or(1 << (position % 64), Ordering::Relaxed);
                }
            }
        }
        flag(profile, std::mem::offset_of!(wire_profile, armed)).store(1, Ordering::Release);
        self.written[slot as usize] = checksum(profile);
    }

    /// Whether somebody else wrote into what programs are known to do.
    pub fn tampered(&self) -> Option<Tampering> {
        let subject = self.owners.iter().enumerate().find_map(|(slot, owner)| {
            let owner = owner.as_ref()?;
            (checksum(self.slots.at(slot)?) != self.written[slot]).then_some(owner)
        })?;
        Some(Tampering::new("map profiles", format!("what {subject} is known to do was changed")))
    }

    /// Takes out what was unseen in a closed epoch: one report for each subject, in their order.
    pub fn take(&mut self, epoch: Epoch) -> Vec<GramReport> {
        let mut reports = BTreeMap::<Arc<Subject>, Positions>::new();
        for (slot, owner) in self.owners.iter().enumerate() {
            let (Some(subject), Some(profile)) = (owner, self.slots.at(slot)) else { continue };
            let (grams, dirty) = pending(profile, epoch);
            let is_dirty = dirty.swap(0, Ordering::Acquire) != 0;
            let calm = &mut self.calm[slot];
            *calm = if is_dirty { 0 } else { calm.saturating_add(1) };
            let quiet = flag(profile, std::mem::offset_of!(wire_profile, quiet));
            quiet.store(u32::from(*calm >= self.quiet_windows), Ordering::Relaxed);
            if !is_dirty {
                continue;
            }
            let [grams2, grams3, grams6] = Order::ALL.map(|order| drain(grams, order));
            let sum = reports.entry(Arc::clone(subject)).or_default();
            merge(&mut sum.grams2, grams2);
            merge(&mut sum.grams3, grams3);
            merge(&mut sum.grams6, grams6);
        }
        let report = |(subject, Positions { grams2, grams3, grams6 })| GramReport {
            epoch,
            subject,
            grams2,
            grams3,
            grams6,
        };
        reports.into_iter().map(report).collect()
    }

    /// How full the known bitmaps are.
    pub fn fill(&self) -> Vec<Fill> {
        let used = self.owners.iter().enumerate();
        used.filter_map(|(slot, owner)| {
            let profile = self.slots.at(slot)?;
            let known = grams_at(profile, std::mem::offset_of!(wire_profile, known));
            let share = Order::ALL.map(|order| {
                let (base, count) = words(known, order);
                let set: u32 =
                    (0..count).map(|i| word(base, i).load(Ordering::Relaxed).count_ones()).sum();
                f64::from(set) / (count * 64) as f64
            });
            Some(Fill {
                subject: Arc::clone(owner.as_ref()?),
                slot: u32::try_from(slot).ok()?,
                share,
                saturated: share.iter().any(|&share| share > SATURATED),
            })
        })
        .collect()
    }
}

/// Of what a slot knows, and whether it is armed.
fn checksum(profile: NonNull<wire_profile>) -> u64 {
    let known = grams_at(profile, std::mem::offset_of!(wire_profile, known));
    let armed = flag(profile, std::mem::offset_of!(wire_profile, armed));
    let mut sum = u64::from(armed.load(Ordering::Acquire));
    for order in Order::ALL {
        let (base, count) = words(known, order);
        for index in 0..count {
            // The constant of splitmix64: odd, so that every word counts.
            let mixed = (sum ^ word(base, index).load(Ordering::Relaxed)).rotate_left(23);
            sum = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    sum
}

/// A subject may have several slots: its program was replaced, or is a file in memory.
fn merge(positions: &mut Vec<u32>, more: Vec<u32>) {
    if positions.is_empty() {
        *positions = more;
    } else {
        positions.extend(more);
        positions.sort_unstable();
        positions.dedup();
    }
}

/// Reads and clears one bitmap of the pending half.
fn drain(grams: NonNull<wire_grams>, order: Order) -> Vec<u32> {
    let (base, count) = words(grams, order);
    let mut positions = Vec::new();
    for index in 0..count {
        let word = word(base, index);
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut bits = word.swap(0, Ordering::Relaxed);
        while bits != 0 {
            positions.push(index as u32 * 64 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
    positions
}
