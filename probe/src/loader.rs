//! From the skeleton to attached programs and open maps. What a kernel doesn't have is left out by
//! looking for it, not by version.

use std::{
    fs::File,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use hedgerow_bpf::{
    sensor::{OpenSensorSkel, SensorProgs, SensorSkel, SensorSkelBuilder, types},
    wire,
};
use hedgerow_event::calls::{GramHash, Info, Tables};
use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, MapType, OpenObject, ProgramMut,
    btf::Btf,
    libbpf_sys,
    skel::{OpenSkel, SkelBuilder},
};

use crate::{
    Error, Result,
    flows::{self, Flows, UseHook},
    hooks::{Attached, Hook},
    identity::{cgroup::Hierarchy, program},
    mapping::Mapping,
    options::Options,
    rows, support, usage,
    wire_event::WireEvent,
};

/// Everything of a loaded sensor that is used afterwards; dropping it detaches all.
#[derive(Debug)]
pub struct Loaded {
    pub rings: Vec<MapHandle>,
    /// Through which the kernel finds them.
    pub ring_array: MapHandle,
    pub signals: MapHandle,
    pub answers: MapHandle,
    pub stats: MapHandle,
    pub workloads: MapHandle,
    pub services: MapHandle,
    pub budgets: MapHandle,
    pub programs: MapHandle,
    pub free_slots: MapHandle,
    pub spilled: MapHandle,
    pub spilled_rest: MapHandle,
    pub control: Mapping<wire::wire_control>,
    /// Taken by `Profiles`.
    pub profiles: Option<Mapping<wire::wire_profile>>,
    /// Iterator over every thread's row.
    pub close: Link,
    /// Program of the iterator over one process's rows.
    pub peek: OwnedFd,
    pub hooks: Vec<Attached>,
    pub flows: Option<Flows>,
    pub usage: Option<usage::Sums>,
    /// Processes that ran already; taken by the `Namer`.
    pub stood: Vec<WireEvent>,
}

/// Loads and attaches the sensor; `epoch` is the first window.
pub fn load(options: &Options, epoch: u32) -> Result<Loaded> {
    support::require()?;
    let btf = Btf::from_vmlinux().map_err(Error::load("its type information"))?;
    let has = |tracepoint: &str| {
        btf.type_by_name::<libbpf_rs::btf::types::Typedef<'_>>(&format!("btf_trace_{tracepoint}"))
            .is_some()
    };
    let choice = Choice {
        request: has("io_uring_submit_req"),
        entry: has("io_uring_submit_sqe"),
        cgroups: has("cgroup_mkdir"),
    };
    let hook = UseHook::detect();
    // What a kernel lists and then refuses shows in the load only. The first refusal is the one
    // that says why.
    attempt(options, epoch, &choice, hook, true).or_else(|refused| {
        let rest = [(hook, false), (UseHook::None, true), (UseHook::None, false)];
        rest.into_iter()
            .find_map(|(hook, traced)| attempt(options, epoch, &choice, hook, traced).ok())
            .ok_or(refused)
    })
}

struct Choice {
    request: bool,
    entry: bool,
    cgroups: bool,
}

/// One try: `traced` by BTF tracepoint or by raw tracepoint.
fn attempt(
    options: &Options,
    epoch: u32,
    choice: &Choice,
    hook: UseHook,
    traced: bool,
) -> Result<Loaded> {
    let mut object = MaybeUninit::<OpenObject>::uninit();
    let mut open = SensorSkelBuilder::default()
        .open(&mut object)
        .map_err(Error::load("the sensor's object"))?;
    settings(&mut open, options, epoch)?;
    let programs = &mut open.progs;
    programs.on_call_exit.set_autoload(options.calls && traced);
    programs.on_call_exit_raw.set_autoload(options.calls && !traced);
    programs.on_uring_submit_req.set_autoload(options.calls && choice.request);
    programs.on_uring_submit_sqe.set_autoload(options.calls && !choice.request && choice.entry);
    programs.on_cgroup_make.set_autoload(choice.cgroups);
    programs.on_cgroup_remove.set_autoload(choice.cgroups);
    flows::select(programs, hook);
    if !options.flows {
        for mut program in open.open_object_mut().progs_mut() {
            if program.name().to_string_lossy().starts_with("on_flow") {
                program.set_autoload(false);
            }
        }
    }
    usage::select(&mut open.progs, &mut open.maps, options.usage && options.flows)?;
    // The hook on flows sees it, too.
    open.progs.on_lineage_listen.set_autoload(!options.flows);
    let skel = open.load().map_err(Error::load("the sensor"))?;
    let rings = rings(&skel, options)?;
    free_slots(&skel, options)?;
    interpreters(&skel)?;
    attach(&skel, rings, options, hook)
}

/// For each profile, programs that may have one, and those whose rows may be summed up: where few have a
/// profile, few are kept. No fewer than [`LEAST`].
const PROGRAMS: u32 = 32;
const SPILLED: u32 = 8;
const LEAST: u32 = 512;

/// Fills what is fixed at load: tables, limits, settings.
fn settings(open: &mut OpenSensorSkel<'_>, options: &Options, epoch: u32) -> Result<()> {
    let cpus = cpus()?;
    open.maps.rings.set_max_entries(cpus).map_err(Error::map("rings"))?;
    open.maps.profiles.set_max_entries(options.profiles + 1).map_err(Error::map("profiles"))?;
    open.maps.free_slots.set_max_entries(options.profiles + 1).map_err(Error::map("slots"))?;
    let each = |of_one: u32| (options.profiles * of_one).max(LEAST);
    open.maps.programs.set_max_entries(each(PROGRAMS)).map_err(Error::map("programs"))?;
    open.maps.spilled.set_max_entries(each(SPILLED)).map_err(Error::map("spilled"))?;
    let tables = Tables::new();
    let rodata = open.maps.rodata_data.as_mut().ok_or(Error::Skeleton("rodata"))?;
    fill(&mut rodata.calls_native, &tables.native);
    fill(&mut rodata.calls_compat, &tables.compat);
    fill(&mut rodata.calls_uring, &tables.uring);
    rodata.gram_multiplier = GramHash::new(options.gram_key).multipliers();
    rodata.identity_key = options.identity_key;
    rodata.full = options.full;
    rodata.own_tgid = if options.observe_own { 0 } else { std::process::id() };
    rodata.ring_bytes = options.ring_bytes(cpus);
    rodata.task_tokens = options.task_tokens;
    rodata.cgroup_tokens = options.cgroup_tokens;
    rodata.evidence_tokens = options.evidence_tokens;
    let control = open.maps.data_control_data.as_mut().ok_or(Error::Skeleton("control"))?;
    control.control.clock.epoch = epoch;
    control.control.clock.generation = 1;
    control.control.learning = u32::from(options.learning);
    control.control.shed = options.shed.bits();
    // A profile that is given from the start on may hold from the start on.
    control.control.known_since = if options.learning { 0 } else { epoch };
    Ok(())
}

fn fill(table: &mut [types::wire_call_info], infos: &[Info]) {
    for (entry, info) in table.iter_mut().zip(infos) {
        entry.code = info.code;
        entry.flags = info.flags;
        entry.class = info.class as u8;
    }
}

pub fn cpus() -> Result<u32> {
    let cpus = libbpf_rs::num_possible_cpus().map_err(Error::load("the number of CPUs"))?;
    u32::try_from(cpus).map_err(|_| Error::Skeleton("so many CPUs"))
}

fn rings(skel: &SensorSkel<'_>, options: &Options) -> Result<Vec<MapHandle>> {
    let cpus = cpus()?;
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let mut rings = Vec::new();
    for cpu in 0..cpus {
        let bytes = options.ring_bytes(cpus);
        let ring = MapHandle::create(MapType::RingBuf, Some("ring"), 0, 0, bytes, &opts)
            .map_err(Error::map("ring"))?;
        let fd = ring.as_fd().as_raw_fd();
        skel.maps
            .rings
            .update(&cpu.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::map("rings"))?;
        rings.push(ring);
    }
    Ok(rings)
}

fn free_slots(skel: &SensorSkel<'_>, options: &Options) -> Result<()> {
    for slot in 1..=options.profiles {
        skel.maps
            .free_slots
            .update(&[], &slot.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::map("free_slots"))?;
    }
    Ok(())
}

/// Tells the kernel whose arguments name a script, and how; from then on nobody can tell it
/// otherwise.
fn interpreters(skel: &SensorSkel<'_>) -> Result<()> {
    for (name, kind) in program::kernel_interpreters() {
        let (key, value) = (name.to_ne_bytes(), kind.to_ne_bytes());
        let map = &skel.maps.interpreters;
        map.update(&key, &value, MapFlags::ANY).map_err(Error::map("interpreters"))?;
    }
    for (key, meaning) in program::kernel_words() {
        let interpreter = u64::from(key.interpreter).to_ne_bytes();
        let key = [key.word.to_ne_bytes(), interpreter].concat();
        let map = &skel.maps.interpreter_words;
        map.update(&key, &meaning.to_ne_bytes(), MapFlags::ANY)
            .map_err(Error::map("interpreter_words"))?;
    }
    let frozen = [&skel.maps.interpreters, &skel.maps.interpreter_words]
        .into_iter()
        .try_for_each(|map| MapHandle::try_from(map)?.freeze());
    frozen.map_err(Error::map("interpreters"))
}

fn attach(
    skel: &SensorSkel<'_>,
    rings: Vec<MapHandle>,
    options: &Options,
    hook: UseHook,
) -> Result<Loaded> {
    let maps = &skel.maps;
    let progs = &skel.progs;
    let handle = |map: &libbpf_rs::MapMut<'_>| {
        MapHandle::try_from(map).map_err(Error::map("a map's handle"))
    };
    let mut loaded = Loaded {
        rings,
        ring_array: handle(&maps.rings)?,
        signals: handle(&maps.signals)?,
        answers: handle(&maps.answers)?,
        stats: handle(&maps.stats)?,
        workloads: handle(&maps.workloads)?,
        services: handle(&maps.services)?,
        budgets: handle(&maps.budgets)?,
        programs: handle(&maps.programs)?,
        free_slots: handle(&maps.free_slots)?,
        spilled: handle(&maps.spilled)?,
        spilled_rest: handle(&maps.spilled_rest)?,
        control: Mapping::new(maps.data_control.as_fd(), 1).map_err(Error::io("control word"))?,
        profiles: Mapping::new(maps.profiles.as_fd(), options.profiles as usize + 1)
            .map(Some)
            .map_err(Error::io("profiles"))?,
        close: progs.on_rows_close.attach().map_err(Error::attach("row iterator"))?,
        peek: progs.on_rows_peek.as_fd().try_clone_to_owned().map_err(Error::io("row iterator"))?,
        hooks: Vec::new(),
        flows: None,
        usage: None,
        stood: Vec::new(),
    };
    // The order matters: a process must be seen forking before its calls are counted.
    for (hook, program) in [
        (Hook::Cgroup, &progs.on_cgroup_make),
        (Hook::Cgroup, &progs.on_cgroup_remove),
        (Hook::Exit, &progs.on_process_exit),
        (Hook::Fork, &progs.on_process_fork),
        (Hook::Exec, &progs.on_process_exec),
        (Hook::Exec, &progs.on_lineage_listen),
        (Hook::Uring, &progs.on_uring_submit_req),
        (Hook::Uring, &progs.on_uring_submit_sqe),
        (Hook::Calls, &progs.on_call_exit),
        (Hook::Calls, &progs.on_call_exit_raw),
    ] {
        if let Some(attached) = attach_one(hook, program)? {
            loaded.hooks.push(attached);
        }
    }
    if options.flows {
        let hierarchy = Hierarchy::open().map_err(Error::io("cgroup v2"))?;
        let root = File::open(hierarchy.mount()).map_err(Error::io("cgroup v2 root"))?;
        let flows = Flows::attach(progs, maps, hook, root.as_fd());
        loaded.flows = Some(flows.map_err(Error::attach("flow hooks"))?);
        if options.usage {
            loaded.usage = Some(usage::Sums::open(maps).map_err(Error::map("usage"))?);
            let hooks = usage::attach(progs, root.as_fd()).map_err(Error::attach("usage hooks"))?;
            loaded.hooks.extend(hooks);
        }
    }
    loaded.stood = stood_before(progs)?;
    Ok(loaded)
}

/// Generations of processes that are told apart of those that run already; what descends further
/// begins an instance of its own.
const GENERATIONS_MAX: usize = 64;

/// Tells the kernel's programs who listens already, and then where each process descends from: one
/// generation at least in each pass.
fn stood_before(progs: &SensorProgs<'_>) -> Result<Vec<WireEvent>> {
    let mut stood = Vec::new();
    run_iterator(&progs.on_lineage_descriptor, &mut stood)?;
    for _ in 0..GENERATIONS_MAX {
        let before = stood.len();
        run_iterator(&progs.on_lineage_process, &mut stood)?;
        if stood.len() == before {
            break;
        }
    }
    Ok(stood)
}

fn run_iterator(program: &ProgramMut<'_>, stood: &mut Vec<WireEvent>) -> Result<()> {
    let link = program.attach().map_err(Error::attach("processes that run already"))?;
    rows::read::<wire::wire_process>(&link, stood)
}

fn attach_one(hook: Hook, program: &ProgramMut<'_>) -> Result<Option<Attached>> {
    if !program.autoload() {
        return Ok(None);
    }
    let link = program.attach().map_err(Error::attach(hook.name()))?;
    Ok(Some(Attached::new(hook, program, link)))
}
