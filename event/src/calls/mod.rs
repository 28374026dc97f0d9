//! What a system call means: its class, its code in the history, and the history itself. Pure
//! tables and rules; the BPF programs get the same tables and follow the same rules, so that a
//! recording of raw calls gives the same counts and n-grams as the kernel counted.

#[cfg(any(test, target_arch = "aarch64"))]
mod arm;
#[cfg(any(test, target_arch = "aarch64"))]
mod arm64;
mod class;
mod gram;
mod history;
#[cfg(any(test, target_arch = "x86_64"))]
mod i386;
#[cfg(test)]
mod tests;
mod uring;
mod x86_64;

use std::collections::HashMap;

use crate::Raw;

pub use class::{CLASS_NAMES, Class};
pub use gram::{GramHash, Order};
pub use history::{History, Push};

/// Entries of a table: numbers from here on are odd.
pub const TABLE_SIZE: usize = 512;
/// io_uring opcodes in the table.
pub const URING_SIZE: usize = 64;
/// History code of the first return in a new thread.
pub const CODE_BORN: u16 = 509;
/// History code of a call outside the tables.
pub const CODE_ODD: u16 = 510;
/// io_uring opcodes follow the system calls.
const CODE_URING: u16 = 392;
/// Number of what is no call: effective rights that grew without a call that grants any, as seen at
/// the end of one. Its arguments are the effective user before and after, and the effective
/// capabilities before and after.
pub const CREDENTIALS_GREW: i32 = -2;
/// `-ERESTARTSYS` down to `-ERESTART_RESTARTBLOCK`: the kernel will make the call again.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
const ERRORS: std::ops::RangeInclusive<i64> = -4095..=-1;

/// What the sensor does with a call; the bits of `enum wire_info_flags`.
pub mod flags {
    /// Streamed as a call record.
    pub const STREAM: u16 = 1;
    /// Streamed from a token bucket of its own, and into a ring more than half full.
    pub const EVIDENCE: u16 = 2;
    /// Streamed only where argument 2 has `PROT_EXEC`.
    pub const IF_EXEC: u16 = 4;
    /// A success returns a descriptor whose dentry names the file.
    pub const DESCRIPTOR: u16 = 8;
    /// Argument 0 points to a path.
    pub const PATH_0: u16 = 16;
    /// Argument 1 points to a path.
    pub const PATH_1: u16 = 32;
    /// A return of 0 is the child's.
    pub const FORK: u16 = 64;
    /// May change the effective user or capabilities.
    pub const CREDENTIALS: u16 = 128;
    /// Streamed only where argument 0 has `CLONE_NEW*`.
    pub const IF_NAMESPACE: u16 = 256;
    /// Streamed only where argument 3 has `MAP_ANONYMOUS`.
    pub const IF_ANONYMOUS: u16 = 512;
    /// Streamed only where argument 0 is `AF_PACKET` or `AF_XDP`.
    pub const IF_PACKET: u16 = 1024;
    /// Argument 2 points to a path.
    pub const PATH_2: u16 = 2048;
    /// Argument 3 points to a path.
    pub const PATH_3: u16 = 4096;
    /// The argument before the path is the directory that it is relative to.
    pub const AT: u16 = 8192;
    /// Maps the file behind argument 4.
    pub const MAPS: u16 = 16384;
}

/// A table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    pub class: Class,
    /// Below 512; 0 stays out of the history.
    pub code: u16,
    /// Of [`flags`].
    pub flags: u16,
}

/// What outside the tables is.
pub const ODD: Info = Info { class: Class::Odd, code: CODE_ODD, flags: 0 };

/// Calls that say nothing about order: they return at random times or repeat with load.
const UNORDERED: [&str; 10] = [
    "rt_sigreturn",
    "restart_syscall",
    "futex",
    "futex_waitv",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "sched_yield",
    "nanosleep",
    "clock_nanosleep",
];

/// What numbers mean on a kind of machine.
#[derive(Debug)]
struct Architecture {
    /// Name of each number.
    native: fn() -> Vec<(u16, &'static str)>,
    /// Native number by 32-bit number, -1 where there is none.
    compat: &'static [i16],
    /// 32-bit calls whose registers hold something else than those of the calls that they stand for.
    packed: &'static [usize],
}

#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: Architecture = Architecture {
    native: || x86_64::CALLS.iter().map(|&(number, name, ..)| (number, name)).collect(),
    compat: &i386::I386,
    packed: &i386::PACKED,
};
#[cfg(any(test, target_arch = "aarch64"))]
const ARM64: Architecture =
    Architecture { native: || arm64::NATIVE.to_vec(), compat: &arm::ARM, packed: &[] };

#[cfg(target_arch = "x86_64")]
const HERE: Architecture = X86_64;
#[cfg(target_arch = "aarch64")]
const HERE: Architecture = ARM64;

/// The tables that both sides classify by.
#[derive(Debug, Clone)]
pub struct Tables {
    pub native: [Info; TABLE_SIZE],
    /// By number of a 32-bit call.
    pub compat: [Info; TABLE_SIZE],
    /// By io_uring opcode.
    pub uring: [Info; URING_SIZE],
    names: [Option<&'static str>; TABLE_SIZE],
    /// Native number by 32-bit number.
    compat_numbers: &'static [i16],
    /// Native number by io_uring opcode.
    uring_numbers: [i32; URING_SIZE],
    /// Native number of `rt_sigreturn`, which shows as -1.
    sigreturn: i32,
}

/// One call as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub class: Class,
    /// For the history; 0 stays out of it.
    pub code: u16,
    pub compat: bool,
    pub error: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

impl Tables {
    /// The tables of this architecture.
    pub fn new() -> Self {
        Self::of(&HERE)
    }

    fn of(architecture: &Architecture) -> Self {
        let mut native = [ODD; TABLE_SIZE];
        let mut names = [None; TABLE_SIZE];
        let known: HashMap<_, _> = x86_64::CALLS.iter().map(|call| (call.1, call)).collect();
        let mut numbers = HashMap::new();
        for (number, name) in (architecture.native)() {
            let Some(&&(_, _, class, flags)) = known.get(name) else { continue };
            let code = if UNORDERED.contains(&name) { 0 } else { native_code(number) };
            native[usize::from(number)] = Info { class, code, flags };
            names[usize::from(number)] = Some(name);
            numbers.insert(name, i32::from(number));
        }
        let mut compat = [Info { class: Class::Compat, ..ODD }; TABLE_SIZE];
        for (info, &number) in compat.iter_mut().zip(architecture.compat) {
            if let Ok(number) = usize::try_from(number) {
                *info = Info { class: Class::Compat, ..native[number] };
            }
        }
        // Their arguments lie in user memory, or are another call's.
        for &number in architecture.packed {
            compat[number].flags &= !flags::STREAM;
        }
        let number_of = |name: &str| numbers.get(name).copied().unwrap_or(-1);
        let uring_numbers = uring::URING.map(|(call, _)| number_of(call));
        Self {
            uring: uring_table(&native, &uring_numbers),
            native,
            compat,
            names,
            compat_numbers: architecture.compat,
            uring_numbers,
            sigreturn: number_of("rt_sigreturn"),
        }
    }

    /// Table entry of a number as the task used it; -1 is `rt_sigreturn`.
    pub fn info(&self, number: i32, compat: bool) -> Info {
        let (number, table) = match (number, compat) {
            (-1, compat) => {
                let info = self.info(self.sigreturn, false);
                return if compat { Info { class: Class::Compat, ..info } } else { info };
            }
            (number, false) => (number, &self.native),
            (number, true) => (number, &self.compat),
        };
        let found = usize::try_from(number).ok().and_then(|index| table.get(index));
        found.copied().unwrap_or(if compat { Info { class: Class::Compat, ..ODD } } else { ODD })
    }

    /// How a system call counts; `None` for one that the kernel will restart: neither call nor
    /// error.
    pub fn step(&self, number: i32, compat: bool, result: i64) -> Option<Step> {
        let returned = number == -1;
        if !returned && RESTARTS.contains(&result) {
            return None;
        }
        let info = self.info(number, compat);
        let mut step = Step {
            class: info.class,
            code: info.code,
            compat,
            error: !returned && ERRORS.contains(&result),
        };
        if info.flags & flags::FORK != 0 && result == 0 {
            step.code = CODE_BORN;
            if !compat {
                step.class = Class::Born;
            }
        }
        Some(step)
    }

    /// How an io_uring request counts at its submission; it has no result yet.
    pub fn uring_step(&self, opcode: u8) -> Step {
        let info = self.uring.get(usize::from(opcode)).copied().unwrap_or(ODD);
        Step { class: info.class, code: info.code, compat: false, error: false }
    }

    /// How a call of the full stream counted in the kernel.
    pub fn raw_step(&self, raw: &Raw) -> Option<Step> {
        if raw.uring {
            Some(self.uring_step(u8::try_from(raw.number).unwrap_or(u8::MAX)))
        } else {
            self.step(raw.number, raw.compat, raw.result)
        }
    }

    /// Native number of a call as the task used it; -1 where none exists.
    pub fn native_number(&self, number: i32, compat: bool) -> i32 {
        let known = |number: i32| {
            let index = usize::try_from(number).ok()?;
            self.names.get(index).copied().flatten().map(|_| number)
        };
        match (number, compat) {
            (-1, _) => self.sigreturn,
            (number, false) => known(number).unwrap_or(-1),
            (number, true) => usize::try_from(number)
                .ok()
                .and_then(|index| self.compat_numbers.get(index))
                .map_or(-1, |&native| i32::from(native)),
        }
    }

    /// Native number that an io_uring opcode stands for; -1 where none does.
    pub fn uring_number(&self, opcode: u8) -> i32 {
        self.uring_numbers.get(usize::from(opcode)).copied().unwrap_or(-1)
    }

    /// Name of a native number.
    pub fn name(&self, number: i32) -> Option<&'static str> {
        self.names.get(usize::try_from(number).ok()?).copied().flatten()
    }
}

fn uring_table(native: &[Info; TABLE_SIZE], numbers: &[i32; URING_SIZE]) -> [Info; URING_SIZE] {
    let mut table = [ODD; URING_SIZE];
    let calls = numbers.iter().zip(&uring::URING).zip(CODE_URING..);
    for (info, ((&number, &(_, name)), code)) in table.iter_mut().zip(calls) {
        let same = usize::try_from(number).ok().map(|number| native[number]);
        let streamed = same.map_or(0, |same| same.flags)
            & (flags::STREAM | flags::EVIDENCE | flags::IF_EXEC | flags::DESCRIPTOR);
        // A request has none of the registers that these are told by.
        let by_register = flags::IF_NAMESPACE | flags::IF_ANONYMOUS | flags::IF_PACKET;
        let untold = same.is_some_and(|same| same.flags & by_register != 0);
        let code = if name.contains("timeout") || name.contains("futex") { 0 } else { code };
        *info = Info {
            class: same.map_or(Class::Uring, |same| same.class),
            code,
            flags: if untold { 0 } else { streamed },
        };
    }
    table
}

/// Numbers 0 to 334 and 424 to 479 without a gap, from 1.
fn native_code(number: u16) -> u16 {
    if number < 424 { number + 1 } else { number - 424 + 336 }
}
