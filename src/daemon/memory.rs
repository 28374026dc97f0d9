//! What the daemon does so that it holds no more memory than it uses.

use std::ffi::{c_int, c_void};

/// What is freed goes back to the kernel: learning takes and frees much, and dozens of threads with an
/// arena each would keep what one of them once needed. Called before threads are made.
pub fn thrifty() {
    /// Threads that allocate at the same time are the loop's, the drain's and a sink's at most.
    const ARENAS_MAX: c_int = 2;
    /// Blocks from this size on are mapped by themselves, so that nothing small keeps them.
    const MAPPED_FROM: c_int = 64 << 10;
    /// What is free at the end of an arena is kept up to here.
    const KEPT: c_int = 256 << 10;
    let settings = [
        (libc::M_ARENA_MAX, ARENAS_MAX),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ];
    for (name, value) in settings {
        // SAFETY: sets numbers of the allocator; one that knows none of them goes on without.
        unsafe { libc::mallopt(name, value) };
    }
}

/// After a phase: what was freed goes, and so do pages of the program and its libraries, of which many are
/// read in that phase only (relocations, BPF objects, the code of loading and of learning). What is read
/// again comes from the cache of its file.
pub fn give_back() {
    // SAFETY: gives free pages back; takes some milliseconds, a few times in a life.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: `unmap` has that prototype, and keeps nothing of what it is handed.
    unsafe { libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut()) };
}

/// Drops the pages of one loaded object that nobody can have written to.
unsafe extern "C" fn unmap(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the C library hands over an object that stays loaded meanwhile, and so many headers of it.
    let (object, headers) = unsafe {
        let object = &*object;
        (object, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = u64::try_from(page) else { return 0 };
    let read_only = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for header in headers.iter().filter(read_only) {
        let from = object.dlpi_addr + header.p_vaddr;
        let first = from / page * page;
        let size = from + header.p_memsz - first;
        // SAFETY: a private mapping of a file that was never writable, relocations included: each page
        // is as the file has it, and comes from there when it is read again.
        unsafe { libc::madvise(first as *mut c_void, size as usize, libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    /// KiB that are resident of files.
    fn of_files() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_only_a_start_reads_is_given_back_and_all_goes_on() {
        // Tests beside this one read pages meanwhile.
        let gave = (0..20).any(|_| {
            let before = of_files();
            super::give_back();
            of_files() < before
        });
        assert!(gave);
        // Constants, code and unwinding are there as before.
        let caught = std::panic::catch_unwind(|| format!("{:?}", Some(1)).parse::<u8>().unwrap());
        assert!(caught.is_err());
    }
}
