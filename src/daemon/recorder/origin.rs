//! What happened, as bytes: fields at their places, since to write each number as short as it is costs more
//! than all else that is done for a record.

use hedgerow_event::{
    CLASSES, Call, Digest, Exec, Exit, FileKey, Fork, Origin, Provenance, Root, Row, RowReason,
};
use serde::{Deserialize, Serialize};

use super::written::{put, take};

/// The first byte says what it is.
mod kind {
    pub const ROW: u8 = 0;
    pub const EXEC: u8 = 1;
    pub const FORK: u8 = 2;
    pub const EXIT: u8 = 3;
    pub const CALL: u8 = 4;
    pub const FLOW: u8 = 5;
    pub const SIGNAL: u8 = 6;
    pub const RAW: u8 = 7;
}

/// A row's sums.
const SUMS: usize = 9;
/// A call's result and arguments.
const NUMBERS: usize = 7;

/// What an origin says of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Fork(Fork),
    Exit(Exit),
    Other,
}

/// Writes it; its length. `None`: it doesn't fit.
pub fn write(origin: &Origin, to: &mut [u8]) -> Option<usize> {
    let room = to.len();
    let rest = match origin {
        Origin::Row(row) => write_row(row, to)?,
        Origin::Exec(exec) => write_exec(exec, to)?,
        Origin::Fork(fork) => {
            let Fork { child_tgid, child_tid, child_start_boot_ns, thread } = *fork;
            let first = u64::from(kind::FORK) | u64::from(thread) << 8;
            put([first, pair(child_tgid, child_tid), child_start_boot_ns], to)?
        }
        Origin::Exit(Exit { code, process }) => {
            put([u64::from(kind::EXIT) | u64::from(*process) << 8 | pair(*code as u32, 0)], to)?
        }
        Origin::Call(call) => write_call(call, to)?,
        Origin::Flow(flow) => write_other(kind::FLOW, flow, to)?,
        Origin::Signal(signal) => write_other(kind::SIGNAL, signal, to)?,
        Origin::Raw(raw) => write_other(kind::RAW, raw, to)?,
    };
    Some(room - rest.len())
}

/// Reads it again. An exec comes without its subjects.
pub fn read(mut from: &[u8]) -> Option<Origin> {
    Some(match *from.first()? {
        kind::ROW => Origin::Row(Box::new(read_row(from)?)),
        kind::EXEC => Origin::Exec(Box::new(read_exec(from)?)),
        kind::FORK => {
            let [first, child, child_start_boot_ns] = take(&mut from)?;
            let (child_tgid, child_tid) = (high(child), low(child));
            Origin::Fork(Fork { child_tgid, child_tid, child_start_boot_ns, thread: bit(first, 8) })
        }
        kind::EXIT => {
            let [first] = take(&mut from)?;
            Origin::Exit(Exit { code: high(first) as i32, process: bit(first, 8) })
        }
        kind::CALL => Origin::Call(Box::new(read_call(from)?)),
        kind::FLOW => Origin::Flow(read_other(from)?),
        kind::SIGNAL => Origin::Signal(read_other(from)?),
        kind::RAW => Origin::Raw(read_other(from)?),
        _ => return None,
    })
}

/// Without reading what is nothing to do with processes.
pub fn said(from: &[u8]) -> Said {
    match from.first() {
        Some(&(kind::FORK | kind::EXIT)) => match read(from) {
            Some(Origin::Fork(fork)) => Said::Fork(fork),
            Some(Origin::Exit(exit)) => Said::Exit(exit),
            _ => Said::Other,
        },
        _ => Said::Other,
    }
}

fn write_row<'a>(row: &Row, to: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let sums = sums(row);
    let counted = mask(&row.classes);
    let summed = (0..SUMS).fold(0, |all, at| all | u64::from(sums[at] != 0) << at);
    let width = width(u64::from(row.classes.iter().fold(0, |all, count| all | count)));
    let wide = self::width(sums.iter().fold(0, |all, sum| all | sum));
    let widths = (width as u64) << 16 | (wide as u64) << 24;
    let first = u64::from(kind::ROW) | (row.reason as u64) << 8 | widths | summed << 32;
    let to = put([first, counted], to)?;
    let to = put_some(counted, width, |at| u64::from(row.classes[at]), to)?;
    put_some(summed, wide, |at| sums[at], to)
}

fn read_row(mut from: &[u8]) -> Option<Row> {
    let [first, counted] = take(&mut from)?;
    let byte = |at: u32| usize::from((first >> at) as u8);
    let mut row = Row::empty(*RowReason::ALL.get(byte(8))?);
    let mut sums = [0; SUMS];
    for at in bits(counted) {
        row.classes[at] = u32::try_from(take_one(byte(16), &mut from)?).ok()?;
    }
    for at in bits(first >> 32 & ((1 << SUMS) - 1)) {
        sums[at] = take_one(byte(24), &mut from)?;
    }
    let [calls, errors, checked, unseen2, unseen3, unseen6, collapsed, lost, limited] = sums;
    Some(Row { calls, errors, checked, unseen2, unseen3, unseen6, collapsed, lost, limited, ..row })
}

fn sums(row: &Row) -> [u64; SUMS] {
    let Row { calls, errors, checked, unseen2, unseen3, unseen6, collapsed, lost, limited, .. } =
        *row;
    [calls, errors, checked, unseen2, unseen3, unseen6, collapsed, lost, limited]
}

/// A bit for each count that isn't 0. Without a branch for each: which ones are can't be guessed.
fn mask(counts: &[u32; CLASSES]) -> u64 {
    let mut some = [0; CLASSES];
    // In a loop, of which the compiler makes a few wide instructions; of `map` it makes a call for each.
    for (some, count) in some.iter_mut().zip(counts) {
        *some = u8::from(*count != 0);
    }
    // The product has the lowest bit of each of eight bytes in its highest byte.
    let eight =
        |bytes: &[u8; 8]| u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    some.as_chunks().0.iter().rev().fold(0, |all, bytes| all << 8 | eight(bytes))
}

/// The numbers of the bits that are set.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(at)
    })
}

/// Bytes that the greatest of some numbers takes, by all of their bits.
fn width(bits: u64) -> usize {
    (u64::BITS - bits.leading_zeros()).div_ceil(8) as usize
}

/// Writes those numbers whose bit is set, each in so many bytes.
fn put_some(
    mask: u64,
    width: usize,
    number: impl Fn(usize) -> u64,
    to: &mut [u8],
) -> Option<&mut [u8]> {
    let mut used = 0;
    for at in bits(mask) {
        // What is above its width is written again by the next.
        to.get_mut(used..)?.first_chunk_mut().map(|to| *to = number(at).to_le_bytes())?;
        used += width;
    }
    to.get_mut(used..)
}

fn take_one(width: usize, from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_at_checked(width)?;
    *from = rest;
    let mut word = [0; 8];
    word.get_mut(..width)?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

fn write_exec<'a>(exec: &Exec, to: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let flags = [
        exec.replaced,
        exec.memory,
        exec.writable,
        exec.privileged,
        exec.socket_io,
        exec.under_listener,
        exec.of_host.is_some(),
        exec.of_host == Some(true),
        exec.digest.is_some(),
        exec.root.is_some(),
    ];
    let flags = flags.iter().rev().fold(0, |all, flag| all << 1 | u64::from(*flag));
    let texts = [&exec.path, &exec.arguments].map(|text| u16::try_from(text.len()));
    let (path, arguments) = (u64::from(texts[0].ok()?), u64::from(texts[1].ok()?));
    let root = exec.root.unwrap_or(Root { tgid: 0, start_boot_ns: 0 });
    let words = [
        u64::from(kind::EXEC)
            | (exec.provenance as u64) << 8
            | flags << 16
            | path << 32
            | arguments << 48,
        exec.file.device,
        exec.file.inode,
        pair(exec.file.generation, exec.parent_tgid),
        pair(exec.uid_before, exec.uid),
        pair(exec.login_uid, root.tgid),
        root.start_boot_ns,
    ];
    let mut to = put(words, to)?;
    if let Some(Digest(digest)) = &exec.digest {
        to = put_bytes(digest, to)?;
    }
    put_bytes(exec.arguments.as_bytes(), put_bytes(exec.path.as_bytes(), to)?)
}

fn read_exec(mut from: &[u8]) -> Option<Exec> {
    let [first, device, inode, generation, uids, login, start_boot_ns] = take(&mut from)?;
    let flag = |at: u32| bit(first, 16 + at);
    let mut bytes = |length: usize| {
        let (bytes, rest) = from.split_at_checked(length)?;
        from = rest;
        Some(bytes)
    };
    let digest = if flag(8) { Some(Digest(bytes(32)?.try_into().ok()?)) } else { None };
    let mut text = |length: u16| std::str::from_utf8(bytes(usize::from(length))?).ok();
    let (path, arguments) = (text((first >> 32) as u16)?, text((first >> 48) as u16)?);
    Some(Exec {
        previous: None,
        file: FileKey { device, inode, generation: high(generation) },
        parent_tgid: low(generation),
        parent: None,
        uid_before: high(uids),
        uid: low(uids),
        login_uid: high(login),
        path: path.into(),
        arguments: arguments.into(),
        digest,
        replaced: flag(0),
        memory: flag(1),
        writable: flag(2),
        privileged: flag(3),
        socket_io: flag(4),
        under_listener: flag(5),
        of_host: flag(6).then_some(flag(7)),
        provenance: *Provenance::ALL.get(usize::from((first >> 8) as u8))?,
        root: flag(9).then_some(Root { tgid: low(login), start_boot_ns }),
    })
}

fn write_call<'a>(call: &Call, to: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let numbers = numbers(call);
    let some = (0..NUMBERS).fold(0, |all, at| all | u64::from(numbers[at] != 0) << at);
    let width = width(numbers.iter().fold(0, |all, number| all | number));
    let path = call.path.as_deref().map(str::as_bytes);
    let length = u16::try_from(path.map_or(0, <[u8]>::len)).ok()?;
    let flags = [call.compat, call.claimed, path.is_some()];
    let flags = flags.iter().rev().fold(0, |all, flag| all << 1 | u64::from(*flag));
    let words = [
        u64::from(kind::CALL)
            | u64::from(call.class) << 8
            | flags << 16
            | (width as u64) << 24
            | some << 32
            | u64::from(length) << 48,
        pair(0, call.number as u32),
    ];
    let to = put_some(some, width, |at| numbers[at], put(words, to)?)?;
    put_bytes(path.unwrap_or_default(), to)
}

fn read_call(mut from: &[u8]) -> Option<Call> {
    let [first, number] = take(&mut from)?;
    let byte = |at: u32| (first >> at) as u8;
    let mut numbers = [0; NUMBERS];
    for at in bits(u64::from(byte(32)) & ((1 << NUMBERS) - 1)) {
        numbers[at] = take_one(usize::from(byte(24)), &mut from)?;
    }
    let path = from.get(..usize::from((first >> 48) as u16))?;
    let [result, arguments @ ..] = numbers;
    Some(Call {
        number: low(number) as i32,
        class: byte(8),
        compat: bit(first, 16),
        result: result as i64,
        arguments,
        path: if bit(first, 18) { Some(std::str::from_utf8(path).ok()?.into()) } else { None },
        claimed: bit(first, 17),
    })
}

/// A call's result and arguments.
fn numbers(call: &Call) -> [u64; NUMBERS] {
    let [a, b, c, d, e, f] = call.arguments;
    [call.result as u64, a, b, c, d, e, f]
}

/// What comes less often.
fn write_other<'a>(kind: u8, what: &impl Serialize, to: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let (first, to) = to.split_first_mut()?;
    *first = kind;
    let used = postcard::to_slice(what, to).ok()?.len();
    to.get_mut(used..)
}

fn read_other<T: for<'a> Deserialize<'a>>(from: &[u8]) -> Option<T> {
    postcard::from_bytes(from.get(1..)?).ok()
}

fn put_bytes<'a>(bytes: &[u8], to: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let (to, rest) = to.split_at_mut_checked(bytes.len())?;
    to.copy_from_slice(bytes);
    Some(rest)
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn high(pair: u64) -> u32 {
    (pair >> 32) as u32
}

fn low(pair: u64) -> u32 {
    pair as u32
}

fn bit(word: u64, at: u32) -> bool {
    word >> at & 1 == 1
}
