//! Maps of the kernel in our own address space.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

/// `count` values of `T` of an mmapable array map (or of one global data section), shared with the
/// BPF programs.
#[derive(Debug)]
pub struct Mapping<T> {
    base: NonNull<T>,
    count: usize,
    bytes: usize,
}

// SAFETY: the memory is shared with the kernel anyway; all access is by volatile or atomic
// operations on integers, through raw pointers.
unsafe impl<T> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// Maps the values of an array map whose value size is `T`'s.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new(fd: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = (size_of::<T>() * count).next_multiple_of(4096);
        // SAFETY: a new shared mapping of a map that we hold; no existing memory is touched.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap at 0"))?;
        Ok(Self { base, count, bytes })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Pointer to a value, valid as long as the mapping.
    pub fn at(&self, index: usize) -> Option<NonNull<T>> {
        // SAFETY: within the mapping.
        (index < self.count).then(|| unsafe { self.base.add(index) })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no reference is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
