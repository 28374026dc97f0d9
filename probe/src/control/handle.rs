//! What whoever runs the sensor may ask of it and tell it.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
};

use hedgerow_event::{Digest, Epoch, Event, Subject, Tampering};
use hedgerow_hostfile::Refusals;

use super::{Shared, Stats, lock};
use crate::{
    Result, answers,
    clock::Now,
    hooks::HookStatus,
    profiles::{Fill, Positions},
    rows,
    shed::Shed,
    usage::{self, Usage},
};

/// A handle to a running sensor; clones share it.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) Arc<Shared>);

impl Control {
    /// By which name an address was asked for in a network namespace, as an answer said lately that came
    /// from port 53. Claimed.
    pub fn name_of(&self, netns: u32, address: IpAddr) -> Option<Arc<str>> {
        let now = Now::read().ok()?;
        answers::lock(&self.0.answers).of(netns, address, now.boot_ns)
    }

    /// Ends the learning: writes what subjects' programs are known to do, now or as soon as one of
    /// them is seen, and arms their early signals. All of it holds from the next epoch on, so that
    /// no window is counted half against it; where profiles hold already, at once.
    pub fn arm(&self, known: impl IntoIterator<Item = (Arc<Subject>, Positions)>) {
        self.0.set_learning(false);
        {
            let mut profiles = self.0.profiles();
            for (subject, grams) in known {
                profiles.set_known(&subject, grams);
            }
        }
        // Some may run without a slot and wait for what is known of them.
        self.0.naming().0.tell_programs_again();
        self.0.hold();
    }

    /// The first epoch in which armed profiles hold; `None` while programs are learned.
    pub fn known_since(&self) -> Option<Epoch> {
        self.0.known_since()
    }

    /// Tells with which digest a program was learned: another one at its path is a replacement.
    pub fn set_digest(&self, subject: &Subject, digest: Digest) {
        let path = subject.program.script_path().unwrap_or(&subject.program.path);
        let place = (subject.workload.clone(), path.into());
        self.0.naming().1.digests().know(place, digest);
    }

    /// Whose files are not read, because one took too long.
    pub fn refusals(&self) -> Refusals {
        self.0.naming().1.refusals()
    }

    /// Whether new programs get a profile at exec.
    pub fn set_learning(&self, learning: bool) {
        self.0.set_learning(learning);
    }

    /// What is not looked at until another word; what is again, from the next window on.
    pub fn shed(&self, shed: Shed) {
        self.0.shed(shed);
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

    /// Takes out what passed interfaces since this was last asked, but for what the open window still
    /// adds to: then it takes long enough from one step of the clock to the next.
    ///
    /// # Errors
    /// The sums can't be read.
    pub fn take_usage(&self) -> Result<Vec<Usage>> {
        // The half that is added to next.
        self.usage_of(self.0.epoch().wrapping_add(1))
    }

    /// The rest, once nothing is attached any more.
    ///
    /// # Errors
    /// The sums can't be read.
    pub fn take_last_usage(&self) -> Result<Vec<Usage>> {
        let epoch = self.0.epoch();
        let mut last = self.usage_of(epoch.wrapping_add(1))?;
        last.extend(self.usage_of(epoch)?);
        Ok(last)
    }

    fn usage_of(&self, epoch: u32) -> Result<Vec<Usage>> {
        let Some(sums) = &self.0.loaded.usage else { return Ok(Vec::new()) };
        Ok(usage::name(&sums.take(epoch)?, || self.0.naming()))
    }

    /// Each hook: absent, attached, proved or gone.
    pub fn hooks(&self) -> Vec<HookStatus> {
        self.0.hooks()
    }

    /// The attached programs, with the kernel's id of each.
    pub fn programs(&self) -> Vec<(String, u32)> {
        self.0.programs()
    }

    /// What somebody else changed of the sensor, as of the last closed window.
    pub fn tampered(&self) -> BTreeSet<Tampering> {
        lock(&self.0.watch).tampered.clone()
    }

    /// Turns of the drain thread: it stands still where this does.
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// Windows that closed although not everything of them had come.
    pub fn overdue(&self) -> u64 {
        self.0.overdue.load(Ordering::Relaxed)
    }

    /// Names that the thread aside has read, and whether some wait for it. Never waits.
    pub fn names(&self) -> (u64, bool) {
        self.0.names.progress()
    }

    /// Totals since the start.
    ///
    /// # Errors
    /// The map of counters can't be read.
    pub fn stats(&self) -> Result<Stats> {
        self.0.stats()
    }
}
