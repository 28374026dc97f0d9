//! What is written before a record's origin, as words.

use hedgerow_event::{Actor, Epoch};

use super::trees::Tree;

/// What is read of a record to pass over it.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub time_boot_ns: u64,
    pub epoch: Epoch,
    /// Its origin's, in bytes.
    pub length: u16,
    /// Who did it, by number: whoever is new stands behind.
    pub who: u16,
}

impl Head {
    const WORDS: usize = 2;
    pub const BYTES: usize = 8 * Self::WORDS;

    pub fn words(self) -> [u64; Self::WORDS] {
        let (epoch, length) = (u64::from(self.epoch.0), u64::from(self.length));
        [self.time_boot_ns, epoch << 32 | length << 16 | u64::from(self.who)]
    }

    pub fn of([time_boot_ns, rest]: [u64; Self::WORDS]) -> Self {
        let epoch = Epoch((rest >> 32) as u32);
        Self { time_boot_ns, epoch, length: (rest >> 16) as u16, who: rest as u16 }
    }
}

/// Somebody who did something: a process or thread in one program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Who {
    pub tgid: u32,
    pub tid: u32,
    pub start_boot_ns: u64,
    pub cgroup_id: u64,
    pub program_id: u64,
    pub slot: u32,
    /// By the number in the segment's table.
    pub subject: u16,
    /// Of an exec: who called it, and the parent.
    pub called: [Option<u16>; 2],
    /// The tree that its exec told. (0, 0): none.
    pub told: Tree,
}

impl Who {
    const WORDS: usize = 7;
    pub const BYTES: usize = 8 * Self::WORDS;

    pub fn new(actor: &Actor, subject: u16) -> Self {
        let Actor { tgid, tid, start_boot_ns, cgroup_id, program_id, slot, .. } = *actor;
        Self { tgid, tid, start_boot_ns, cgroup_id, program_id, slot, subject, ..Self::default() }
    }

    /// The same process or thread in the same program, as far as it isn't its subject that says so.
    pub fn is(&self, actor: &Actor) -> bool {
        (self.tgid, self.tid, self.slot) == (actor.tgid, actor.tid, actor.slot)
            && (self.start_boot_ns, self.cgroup_id) == (actor.start_boot_ns, actor.cgroup_id)
            && self.program_id == actor.program_id
    }

    /// As the first of its tree it would name that.
    pub fn process(&self) -> Tree {
        (self.tgid, self.start_boot_ns)
    }

    pub fn told(&self) -> Option<Tree> {
        Some(self.told).filter(|told| *told != Tree::default())
    }

    pub fn words(self) -> [u64; Self::WORDS] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let called = self.called.map(|one| one.map_or(0, |number| u32::from(number) + 1));
        [
            pair(self.tgid, self.tid),
            self.start_boot_ns,
            self.cgroup_id,
            self.program_id,
            pair(self.slot, self.told.0),
            self.told.1,
            pair(called[0] << 16 | called[1], u32::from(self.subject)),
        ]
    }

    pub fn of(
        [process, start_boot_ns, cgroup_id, program_id, slot, told, rest]: [u64; Self::WORDS],
    ) -> Self {
        let (high, low) = (|pair: u64| (pair >> 32) as u32, |pair: u64| pair as u32);
        Self {
            tgid: high(process),
            tid: low(process),
            start_boot_ns,
            cgroup_id,
            program_id,
            slot: high(slot),
            subject: rest as u16,
            called: [rest >> 48, rest >> 32].map(|one| (one as u16).checked_sub(1)),
            told: (low(slot), told),
        }
    }
}

/// Writes words, and what is behind them.
pub fn put<const WORDS: usize>(words: [u64; WORDS], to: &mut [u8]) -> Option<&mut [u8]> {
    let (to, rest) = to.split_at_mut_checked(WORDS * 8)?;
    to.copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
    Some(rest)
}

/// Reads words, and goes behind them.
pub fn take<const WORDS: usize>(from: &mut &[u8]) -> Option<[u64; WORDS]> {
    let (bytes, rest) = from.split_at_checked(WORDS * 8)?;
    *from = rest;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Some(words)
}
