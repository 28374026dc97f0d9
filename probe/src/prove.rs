//! Proof of the hooks: a marked child does what each hook watches, and the hooks' counters must
//! show it. The child is our own process otherwise, so nothing else sees it.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use crate::{control::Shared, hooks::Hook, identity::cgroup::Hierarchy};

/// How long the child may take; then it is killed, and what it hasn't shown stays unproved.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that exits with 0: ELF header, one loadable segment, its code.
const PROGRAM: [u8; 132] = program();

/// mov $60, %eax; xor %edi, %edi; syscall; ud2
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 12] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x0f, 0x0b, 0x90];
#[cfg(target_arch = "x86_64")]
const MACHINE: u8 = 62;
/// mov x8, #93; mov x0, #0; svc #0
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 12] = [0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
#[cfg(target_arch = "aarch64")]
const MACHINE: u8 = 183;

const fn program() -> [u8; 132] {
    let mut elf = [0u8; 132];
    let head: [u8; 20] =
        [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, MACHINE, 0];
    let mut i = 0;
    while i < head.len() {
        elf[i] = head[i];
        i += 1;
    }
    elf[20] = 1; // e_version
    elf[24] = 0x78; // e_entry = 0x400078
    elf[26] = 0x40;
    elf[32] = 64; // e_phoff
    elf[52] = 64; // e_ehsize
    elf[54] = 56; // e_phentsize
    elf[56] = 1; // e_phnum
    elf[64] = 1; // PT_LOAD
    elf[68] = 5; // R+X
    elf[82] = 0x40; // p_vaddr = 0x400000
    elf[90] = 0x40; // p_paddr
    elf[96] = 132; // p_filesz
    elf[104] = 132; // p_memsz
    elf[114] = 1; // p_align = 0x10000, the largest page
    i = 0;
    while i < CODE.len() {
        elf[120 + i] = CODE[i];
        i += 1;
    }
    elf
}

/// Runs the marked child and notes which hooks saw it.
pub fn hooks(shared: &Shared) {
    let before = shared.stats().map(|stats| stats.hits).unwrap_or_default();
    // A child that can't be made proves nothing, and that is what the status says.
    let _ = run_child(shared);
    let after = shared.stats().map(|stats| stats.hits).unwrap_or_default();
    let proved = Hook::ALL.into_iter().filter(|hook| after[hook.index()] > before[hook.index()]);
    shared.set_proved(proved.collect());
    shared.set_proof(0);
}

fn run_child(shared: &Shared) -> io::Result<()> {
    let image = image()?;
    let cgroup = cgroup();
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are new descriptors of ours.
    let [wait, go] = pipe.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: the child makes async-signal-safe calls only, and ends by exec or _exit.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: in the child; the descriptors are valid there.
        unsafe { act(wait.as_raw_fd(), image.as_raw_fd(), &cgroup) };
    }
    shared.set_proof(child.cast_unsigned());
    let byte = [0u8];
    // SAFETY: one byte of ours into our pipe.
    unsafe { libc::write(go.as_raw_fd(), byte.as_ptr().cast(), 1) };
    reap(child)
}

/// Where the child makes a cgroup for a moment; nowhere if there is no hierarchy.
fn cgroup() -> CString {
    let path = Hierarchy::open().map(|hierarchy| {
        let name = format!("hedgerow-proof-{}", std::process::id());
        hierarchy.mount().join(name).into_os_string().into_encoded_bytes()
    });
    path.ok().and_then(|path| CString::new(path).ok()).unwrap_or_default()
}

/// A memfd with [`PROGRAM`].
fn image() -> io::Result<OwnedFd> {
    const NAME: &CStr = c"hedgerow-proof";
    // SAFETY: a valid name; the result is a new descriptor.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let image = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the bytes are ours.
    let written = unsafe { libc::write(image.as_raw_fd(), PROGRAM.as_ptr().cast(), PROGRAM.len()) };
    if usize::try_from(written) != Ok(PROGRAM.len()) {
        return Err(io::Error::last_os_error());
    }
    Ok(image)
}

/// What the hooks watch, each once: calls, a cgroup, an io_uring request, a datagram to itself, a
/// fork, an exit, an exec.
///
/// # Safety
/// For a forked child only; never returns.
unsafe fn act(wait: i32, image: i32, cgroup: &CStr) -> ! {
    const ARGV0: &CStr = c"hedgerow-proof";
    // SAFETY: async-signal-safe calls on descriptors and stack memory of this process.
    unsafe {
        let mut byte = 0u8;
        libc::read(wait, (&raw mut byte).cast(), 1);
        libc::getppid();
        if libc::mkdir(cgroup.as_ptr(), 0o755) == 0 {
            libc::rmdir(cgroup.as_ptr());
        }
        request();
        datagram();
        let grandchild = libc::fork();
        if grandchild == 0 {
            libc::_exit(0);
        }
        libc::waitpid(grandchild, std::ptr::null_mut(), 0);
        let argv = [ARGV0.as_ptr(), std::ptr::null()];
        let envp = [std::ptr::null()];
        libc::fexecve(image, argv.as_ptr(), envp.as_ptr());
        libc::_exit(1);
    }
}

/// One io_uring request that does nothing.
///
/// # Safety
/// As [`act`].
unsafe fn request() {
    /// `struct io_uring_params`, include/uapi/linux/io_uring.h, with its offsets of the queue.
    #[repr(C)]
    struct Params {
        head: [u32; 10],
        /// head, tail, ring_mask, ring_entries, flags, dropped, array, and two more.
        submission: [u32; 10],
        completion: [u32; 10],
    }
    const ENTRIES: usize = 1;
    const REQUEST_BYTES: usize = 64;
    const OFFSET_REQUESTS: libc::off_t = 0x1000_0000;
    // SAFETY: system calls only; the queue's words are written where the kernel said they are, and
    // a request of zeroes is IORING_OP_NOP.
    unsafe {
        let mut params: Params = std::mem::zeroed();
        let ring = libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut params) as i32;
        if ring < 0 {
            return;
        }
        let [_, tail, _, _, _, _, array, ..] = params.submission;
        let bytes = array as usize + ENTRIES * size_of::<u32>();
        let map = |bytes, offset| {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, ring, offset)
        };
        let queue = map(bytes, 0);
        if queue == libc::MAP_FAILED || map(REQUEST_BYTES, OFFSET_REQUESTS) == libc::MAP_FAILED {
            return;
        }
        queue.byte_add(array as usize).cast::<u32>().write_volatile(0);
        queue.byte_add(tail as usize).cast::<u32>().write_volatile(1);
        libc::syscall(libc::SYS_io_uring_enter, ring, 1, 0, 0, 0, 0);
    }
}

/// One datagram over loopback from a socket to itself.
///
/// # Safety
/// As [`act`].
unsafe fn datagram() {
    // SAFETY: async-signal-safe calls; the address is valid for its length.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        let mut size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let at: *mut libc::sockaddr = (&raw mut address).cast();
        libc::bind(socket, at, size);
        libc::getsockname(socket, at, &raw mut size);
        let byte = 0u8;
        libc::sendto(socket, (&raw const byte).cast(), 1, libc::MSG_DONTWAIT, at, size);
        libc::close(socket);
    }
}

fn reap(child: i32) -> io::Result<()> {
    let start = Instant::now();
    loop {
        // SAFETY: our own child; no status is asked for.
        match unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } {
            0 if start.elapsed() > PATIENCE => {
                // SAFETY: our own child, not reaped yet.
                unsafe {
                    libc::kill(child, libc::SIGKILL);
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
                return Err(io::ErrorKind::TimedOut.into());
            }
            0 => std::thread::sleep(Duration::from_micros(200)),
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok(()),
        }
    }
}
