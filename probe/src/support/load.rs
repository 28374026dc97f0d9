//! Asks the kernel by loading programs of two instructions: what a list of LSMs or a version says
//! is not what a kernel accepts.

use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use libbpf_rs::libbpf_sys as sys;

/// A program of `return 0` (1 where the hook wants "go on") for one kind of hook.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tiny {
    pub program: sys::bpf_prog_type,
    pub attach: sys::bpf_attach_type,
    /// Kernel symbol, for hooks that BTF names: without libbpf's prefixes (`btf_trace_`).
    pub symbol: Option<&'static str>,
    pub returns: i32,
}

const EXIT: u8 = (sys::BPF_JMP | sys::BPF_EXIT) as u8;
const MOVE: u8 = (sys::BPF_ALU64 | sys::BPF_MOV | sys::BPF_K) as u8;

impl Tiny {
    pub(super) fn load(&self) -> io::Result<OwnedFd> {
        let mut options = sys::bpf_prog_load_opts {
            sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
            expected_attach_type: self.attach,
            ..Default::default()
        };
        if let Some(symbol) = self.symbol {
            options.attach_btf_id = btf_id(symbol, self.attach)?;
        }
        let return_value = sys::bpf_insn { code: MOVE, imm: self.returns, ..Default::default() };
        let exit = sys::bpf_insn { code: EXIT, ..Default::default() };
        let instructions = [return_value, exit];
        // SAFETY: the strings are terminated, the instructions as many as said, and the options
        // carry their own size; the kernel keeps none of the pointers.
        let fd = unsafe {
            sys::bpf_prog_load(
                self.program,
                c"hedgerow_probe".as_ptr(),
                c"GPL".as_ptr(),
                instructions.as_ptr(),
                instructions.len() as sys::size_t,
                &mut options,
            )
        };
        owned(fd)
    }
}

/// BTF id of what a program attaches to.
pub(super) fn btf_id(symbol: &str, attach: sys::bpf_attach_type) -> io::Result<u32> {
    let symbol = CString::new(symbol)?;
    // libbpf warns of each name that is not there, and here that is an answer.
    let print = libbpf_rs::set_print(None);
    // SAFETY: the string is terminated.
    let id = unsafe { sys::libbpf_find_vmlinux_btf_id(symbol.as_ptr(), attach) };
    libbpf_rs::set_print(print);
    u32::try_from(id).map_err(|_| io::Error::from_raw_os_error(-id))
}

/// Whether programs of this type may call the helper.
pub(super) fn helper(program: sys::bpf_prog_type, helper: sys::bpf_func_id) -> io::Result<()> {
    // SAFETY: no options are passed.
    answer(unsafe { sys::libbpf_probe_bpf_helper(program, helper, std::ptr::null()) })
}

pub(super) fn map_type(map: sys::bpf_map_type) -> io::Result<()> {
    // SAFETY: no options are passed.
    answer(unsafe { sys::libbpf_probe_bpf_map_type(map, std::ptr::null()) })
}

fn answer(result: i32) -> io::Result<()> {
    match result {
        1 => Ok(()),
        0 => Err(io::ErrorKind::Unsupported.into()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
