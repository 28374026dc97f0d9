//! One engine learning from several hosts: what is known of running processes stays with its host,
//! what is learned is common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hedgerow_event::Subject;
use hedgerow_features::WindowBuilder;

use crate::{
    Engine, Settings, builder,
    deeds::{Processes, lineage::Lineage},
    surprise::trees::Trees,
};

/// What an engine knows of the processes of one host since one boot, while it learns.
#[derive(Debug)]
pub struct Life {
    builder: WindowBuilder,
    lineage: Lineage,
    processes: Processes,
    trees: Trees,
    first: BTreeMap<Arc<Subject>, u64>,
    hard: BTreeMap<Arc<Subject>, BTreeSet<u32>>,
    transition: Option<u32>,
    now_boot_ns: u64,
    realtime_offset_ns: i64,
}

impl Engine {
    /// A life of which nothing is known yet.
    pub fn another_life(&self, settings: &Settings) -> Life {
        Life {
            builder: builder(settings, self.baseline.key()),
            lineage: Lineage::default(),
            processes: Processes::default(),
            trees: Trees::default(),
            first: BTreeMap::new(),
            hard: BTreeMap::new(),
            transition: None,
            now_boot_ns: 0,
            realtime_offset_ns: settings.realtime_offset_ns,
        }
    }

    /// Goes over to another life, between two epochs, and leaves the one before in its place.
    pub fn exchange(&mut self, life: &mut Life) {
        use std::mem::swap;
        swap(&mut self.builder, &mut life.builder);
        swap(&mut self.lineage, &mut life.lineage);
        self.deeds.exchange(&mut life.processes);
        swap(&mut self.trees, &mut life.trees);
        swap(&mut self.first, &mut life.first);
        swap(&mut self.hard, &mut life.hard);
        swap(&mut self.transition, &mut life.transition);
        swap(&mut self.now_boot_ns, &mut life.now_boot_ns);
        swap(&mut self.realtime_offset_ns, &mut life.realtime_offset_ns);
    }

    /// The life that is over: what its trees did is taken in.
    pub fn end_life(&mut self) {
        for (_, tree) in self.trees.drain() {
            self.take_in(tree);
        }
    }
}
