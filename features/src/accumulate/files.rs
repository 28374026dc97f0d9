//! Streamed security-relevant calls: files, and what was refused.

use hedgerow_event::{Call, calls::Class};

use crate::{item::ItemKey, places::is_sensitive, sketch::Sketch};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Streamed calls of every kind.
    pub streamed: u64,
    /// Of those, refused with EPERM or EACCES.
    pub denied: u64,
    pub opens: u64,
    pub opens_failed: u64,
    /// Successful opens for writing.
    pub opens_write: u64,
    /// Successful calls that make memory executable or a file in memory.
    pub code: u64,
    /// Calls on a sensitive path, successful or not.
    pub sensitive: u64,
    /// Paths of streamed calls.
    pub paths: Sketch,
    /// First two components of those.
    pub prefixes: Sketch,
}

impl FileCounts {
    pub fn observe(&mut self, call: &Call, key: ItemKey) {
        self.streamed += 1;
        let denied = [-i64::from(libc::EPERM), -i64::from(libc::EACCES)];
        self.denied += u64::from(denied.contains(&call.result));
        let code = [Class::Protect.index(), Class::MemoryFile.index()];
        self.code += u64::from(call.result >= 0 && code.contains(&usize::from(call.class)));
        if let Some(write) = open_for_writing(call) {
            self.opens += 1;
            if call.result < 0 {
                self.opens_failed += 1;
            } else {
                self.opens_write += u64::from(write);
            }
        }
        if let Some(path) = &call.path {
            self.sensitive += u64::from(is_sensitive(path));
            self.paths.add(key.path(path), 1);
            self.prefixes.add(key.path_prefix(path), 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.streamed += other.streamed;
        self.denied += other.denied;
        self.opens += other.opens;
        self.opens_failed += other.opens_failed;
        self.opens_write += other.opens_write;
        self.code += other.code;
        self.sensitive += other.sensitive;
        self.paths.merge(&other.paths);
        self.prefixes.merge(&other.prefixes);
    }
}

/// Whether the call opens a file, and if so whether for writing.
fn open_for_writing(call: &Call) -> Option<bool> {
    let flags = match i64::from(call.number) {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => call.arguments[1],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => return Some(true),
        libc::SYS_openat => call.arguments[2],
        libc::SYS_openat2 => call.openat2_flags(),
        _ => return None,
    };
    Some(flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64)
}
