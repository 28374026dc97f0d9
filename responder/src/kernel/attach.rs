//! Which programs of the table are loaded, and how they get to their hooks.

use std::{fs, os::fd::AsRawFd, path::Path};

use hedgerow_bpf::deny::{DenySkel, OpenDenySkel};
use libbpf_rs::{
    Link, ProgramMut, btf,
    skel::{OpenSkel, Skel},
};

use super::{host, pins::fresh_name};
use crate::{
    Error,
    hooks::{Attach, Hook, Hooks, Needs},
};

/// What this kernel has of the table.
pub(super) fn available() -> Hooks {
    let lsm = host::lsm_refusal();
    Hooks::by(|needs| match needs {
        Needs::Nothing => None,
        Needs::Lsm => lsm.clone(),
        Needs::Tracepoint(name) => {
            (!has_tracepoint(name)).then(|| format!("the kernel has no tracepoint {name}"))
        }
    })
}

/// By the type that the kernel describes a tracepoint with.
fn has_tracepoint(name: &str) -> bool {
    let Ok(kernel) = btf::Btf::from_vmlinux() else { return false };
    kernel.type_by_name::<btf::types::Typedef<'_>>(&format!("btf_trace_{name}")).is_some()
}

/// Leaves out what this kernel doesn't have.
pub(super) fn choose(open: &mut OpenDenySkel<'_>, hooks: &Hooks) {
    for mut program in open.open_object_mut().progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        // Iterators are no hooks: they are always there.
        if Hook::of(&name).is_some() && !hooks.has(&name) {
            program.set_autoload(false);
        }
    }
}

/// Attaches every hook, in the order of the table, and pins its link.
pub(super) fn attach(skel: &DenySkel<'_>, links: &Path, hooks: &Hooks) -> Result<(), Error> {
    let root = host::cgroup_root()?;
    let cgroup = fs::File::open(&root)
        .map_err(Error::io(format!("can't open cgroup {}", root.display())))?;
    for hook in hooks.loaded() {
        let path = links.join(hook.name);
        let program = skel.object().progs_mut().find(|program| program.name() == hook.program);
        let program = program.ok_or(Error::Malformed("a program of the table is not there"))?;
        match hook.attach {
            Attach::Section => replace(&path, || program.attach())?,
            Attach::Cgroup if update(&path, &program)? => {}
            Attach::Cgroup => replace(&path, || program.attach_cgroup(cgroup.as_raw_fd()))?,
        }
    }
    drop_others(links, hooks)
}

/// Detaches what an earlier version had, and this one or this kernel doesn't.
fn drop_others(links: &Path, hooks: &Hooks) -> Result<(), Error> {
    let failed = || Error::io(format!("can't read {}", links.display()));
    for entry in fs::read_dir(links).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if !hooks.loaded().iter().any(|hook| entry.file_name() == hook.name) {
            fs::remove_file(entry.path())
                .map_err(Error::io(format!("can't remove {}", entry.path().display())))?;
        }
    }
    Ok(())
}

/// Puts the program into a pinned link without a gap; false where there is no link.
fn update(path: &Path, program: &ProgramMut<'_>) -> Result<bool, Error> {
    if !path.exists() {
        return Ok(false);
    }
    let mut link = Link::open(path).map_err(Error::bpf("can't open a pinned link"))?;
    link.update_prog(program).map_err(Error::bpf("can't update a pinned link"))?;
    Ok(true)
}

/// Attaches a program beside the one that is pinned at `path`, if any, then drops that one: both
/// deny meanwhile.
fn replace(path: &Path, attach: impl FnOnce() -> libbpf_rs::Result<Link>) -> Result<(), Error> {
    let fresh = fresh_name(path);
    if fresh.exists() {
        fs::remove_file(&fresh).map_err(Error::io(format!("can't remove {}", fresh.display())))?;
    }
    let mut link = attach().map_err(Error::bpf("can't attach a deny program"))?;
    link.pin(&fresh).map_err(Error::bpf("can't pin a link"))?;
    fs::rename(&fresh, path).map_err(Error::io(format!("can't pin {}", path.display())))
}
