//! The flow hooks of the sensor, loaded and attached for one test, with every record they made in
//! a network namespace of the test's own.
// Every test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    cell::RefCell,
    fs,
    mem::MaybeUninit,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    process::Command,
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hedgerow_bpf::{
    sensor::{SensorSkel, SensorSkelBuilder},
    wire::{self, wire_flow, wire_stats},
};
use hedgerow_probe::{
    flows::{Flows, UseHook, select},
    support,
};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, MapType, OpenObject, RingBuffer, RingBufferBuilder,
    skel::{OpenSkel, SkelBuilder},
};

/// How long a test waits for what must come.
pub const LIMIT: Duration = Duration::from_secs(20);
const RING_BYTES: u32 = 1 << 20;

/// Loaded once, since that takes far longer than a test, and attached by one test at a time, since
/// the hooks are of the whole system.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

pub const PHASE_START: u8 = wire::WIRE_FLOW_START as u8;
pub const PHASE_INTERIM: u8 = wire::WIRE_FLOW_INTERIM as u8;
pub const PHASE_FINAL: u8 = wire::WIRE_FLOW_FINAL as u8;
pub const PHASE_FAILED: u8 = wire::WIRE_FLOW_FAILED as u8;

/// Sums of a flow's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub bytes_out: u64,
    pub bytes_in: u64,
}

pub fn sum<'a>(records: impl IntoIterator<Item = &'a wire_flow>) -> Sum {
    records.into_iter().fold(Sum::default(), |sum, record| Sum {
        bytes_out: sum.bytes_out + record.bytes_out,
        bytes_in: sum.bytes_in + record.bytes_in,
    })
}

/// The records of the accepting (receiving) or the opening end.
pub fn side(records: &[wire_flow], inbound: bool) -> Vec<wire_flow> {
    records.iter().filter(|record| (record.inbound == 1) == inbound).copied().collect()
}

pub fn phases(records: &[wire_flow]) -> Vec<u8> {
    records.iter().map(|record| record.phase).collect()
}

pub fn finals(records: &[wire_flow]) -> usize {
    records.iter().filter(|record| record.phase == PHASE_FINAL).count()
}

pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

struct Loaded {
    skel: SensorSkel<'static>,
    hook: UseHook,
    rings: RingBuffer<'static>,
    records: Rc<RefCell<Vec<wire_flow>>>,
}

// SAFETY: libbpf's objects belong to no thread, and one thread at a time, which holds the lock,
// uses them and the records.
unsafe impl Send for Loaded {}

pub struct Harness {
    flows: Flows,
    pub netns: u32,
    refused_before: u64,
    loaded: MutexGuard<'static, Option<Loaded>>,
}

/// Moves the calling thread into a new network namespace and gives its inode.
fn enter_namespace() -> u32 {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32
}

fn parse(bytes: &[u8]) -> wire_flow {
    assert_eq!(bytes.len(), size_of::<wire_flow>());
    // SAFETY: the sizes are equal and every bit pattern is a valid `wire_flow`.
    unsafe { bytes.as_ptr().cast::<wire_flow>().read_unaligned() }
}

impl Harness {
    /// Moves the calling thread into a new network namespace, which ends with the thread.
    pub fn new() -> Self {
        Self::after(|| ()).0
    }

    /// The same after `before`, of which nothing is observed.
    pub fn after<T>(before: impl FnOnce() -> T) -> (Self, T) {
        let mut guard = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = guard.get_or_insert_with(Loaded::new);
        let netns = enter_namespace();
        let made = before();
        loaded.rings.consume().unwrap();
        loaded.records.take();
        loaded.skel.maps.data_control_data.as_mut().unwrap().control.clock.epoch = 7;
        let root = fs::File::open(support::require().unwrap()).unwrap();
        let skel = &loaded.skel;
        let flows = Flows::attach(&skel.progs, &skel.maps, loaded.hook, root.as_fd()).unwrap();
        let refused_before = loaded.refused();
        (Self { flows, netns, refused_before, loaded: guard }, made)
    }

    fn loaded(&mut self) -> &mut Loaded {
        self.loaded.as_mut().unwrap()
    }

    pub fn set_epoch(&mut self, epoch: u32) {
        let data = self.loaded().skel.maps.data_control_data.as_mut().unwrap();
        data.control.closing = data.control.clock.epoch;
        data.control.clock.epoch = epoch;
    }

    /// Records that came by ring since the last call.
    pub fn drain(&mut self) -> Vec<wire_flow> {
        let loaded = self.loaded();
        loaded.rings.consume().unwrap();
        let records = loaded.records.take();
        self.mine(records)
    }

    /// Records of the open flows.
    pub fn interim(&mut self) -> Vec<wire_flow> {
        let mut records = Vec::new();
        self.flows
            .interim(|bytes| records.extend(bytes.chunks(size_of::<wire_flow>()).map(parse)))
            .unwrap();
        self.mine(records)
    }

    /// Packets of peers that found no room, on all CPUs.
    pub fn refused(&self) -> u64 {
        self.loaded.as_ref().unwrap().refused() - self.refused_before
    }

    fn mine(&self, records: Vec<wire_flow>) -> Vec<wire_flow> {
        let mut mine: Vec<wire_flow> =
            records.into_iter().filter(|record| record.netns == self.netns).collect();
        // Each CPU's ring is in order, not all of them together.
        mine.sort_by_key(|record| record.header.time_boot_ns);
        mine
    }

    /// Drains until `enough` says so.
    pub fn wait(&mut self, enough: impl Fn(&[wire_flow]) -> bool) -> Vec<wire_flow> {
        let start = Instant::now();
        let mut records = self.drain();
        while !enough(&records) {
            assert!(start.elapsed() < LIMIT, "only {records:#?}");
            std::thread::sleep(Duration::from_millis(2));
            records.extend(self.drain());
        }
        records.sort_by_key(|record| record.header.time_boot_ns);
        records
    }
}

impl Loaded {
    fn new() -> Self {
        let object: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = SensorSkelBuilder::default().open(object).unwrap();
        let hook = UseHook::detect();
        for mut program in open.open_object_mut().progs_mut() {
            let flow = program.name().to_string_lossy().starts_with("on_flow");
            program.set_autoload(flow);
        }
        select(&mut open.progs, hook);
        let cpus = libbpf_rs::num_possible_cpus().unwrap() as u32;
        open.maps.rings.set_max_entries(cpus).unwrap();
        let skel = open.load().unwrap();

        let records = Rc::new(RefCell::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let handles: Vec<MapHandle> = (0..cpus).map(|cpu| ring(&skel, cpu)).collect();
        for ring in &handles {
            let records = Rc::clone(&records);
            builder
                .add(ring, move |bytes: &[u8]| {
                    records.borrow_mut().push(parse(bytes));
                    0
                })
                .unwrap();
        }
        let rings = builder.build().unwrap();
        Self { skel, hook, rings, records }
    }

    fn refused(&self) -> u64 {
        let values = self.skel.maps.stats.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY);
        let read = |bytes: &Vec<u8>| {
            assert_eq!(bytes.len(), size_of::<wire_stats>());
            // SAFETY: the size is right, and any bytes are valid counters.
            unsafe { bytes.as_ptr().cast::<wire_stats>().read_unaligned() }
        };
        values.unwrap().unwrap().iter().map(|bytes| read(bytes).flow_peers_refused).sum()
    }
}

/// A ring for this CPU.
fn ring(skel: &SensorSkel<'_>, cpu: u32) -> MapHandle {
    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let ring =
        MapHandle::create(MapType::RingBuf, Some("ring"), 0, 0, RING_BYTES, &options).unwrap();
    let fd = ring.as_fd().as_raw_fd();
    skel.maps.rings.update(&cpu.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY).unwrap();
    ring
}
