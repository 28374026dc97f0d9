//! Decoding: bytes of one record to a checked value. Pure and total.

use hedgerow_bpf::wire;
use hedgerow_event::PATH_CUT;

/// Why a record can't be decoded; such records are counted as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{0} bytes are too few for a header")]
    NoHeader(usize),
    #[error("kind {0} is unknown")]
    UnknownKind(u16),
    #[error("kind {kind} has {actual} bytes instead of {expected}")]
    Size { kind: u16, expected: usize, actual: usize },
    #[error("kind {kind}: value {value} is out of range")]
    Value { kind: u16, value: u32 },
}

/// A decoded record. Strings are lossy UTF-8 without terminator.
#[derive(Debug, Clone)]
pub enum WireEvent {
    Row(Box<wire::wire_row>),
    Exec(Box<WireExec>),
    Fork(wire::wire_fork),
    Exit(wire::wire_exit),
    Call(Box<WireCall>),
    Signal(wire::wire_signal),
    Raw(wire::wire_raw),
    Flow(Box<wire::wire_flow>),
    Cgroup(Box<WireCgroup>),
    Process(Box<wire::wire_process>),
    Used(Box<WireUsed>),
}

#[derive(Debug, Clone)]
pub struct WireExec {
    pub record: wire::wire_exec,
    pub path: String,
    /// As given to `execve`; claimed.
    pub filename: String,
    /// `argv`, separated by zero bytes; claimed.
    pub arguments: String,
}

#[derive(Debug, Clone)]
pub struct WireCall {
    pub record: wire::wire_call,
    pub path: Option<String>,
}

#[derive(Debug, Clone)]
pub struct WireCgroup {
    pub record: wire::wire_cgroup,
    pub path: String,
}

#[derive(Debug, Clone)]
pub struct WireUsed {
    pub record: wire::wire_used,
    pub path: String,
}

/// Types that consist of integers only, so that any bytes are a value.
///
/// # Safety
/// Every bit pattern of the type's size must be valid.
unsafe trait Plain: Copy {}
// SAFETY: bindgen made them from structs of integers with explicit padding.
unsafe impl Plain for wire::wire_header {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_row {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_exec {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_fork {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_exit {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_call {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_signal {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_raw {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_flow {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_cgroup {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_process {}
// SAFETY: as above.
unsafe impl Plain for wire::wire_used {}

/// The value at the head of `bytes` and what follows it.
fn head<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (value, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: `value` has the size of `T`, which takes any bit pattern; the read needs no
    // alignment.
    Some((unsafe { value.as_ptr().cast::<T>().read_unaligned() }, rest))
}

fn fixed<T: Plain>(kind: u16, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = variable(kind, bytes)?;
    if !rest.is_empty() {
        return Err(size_error::<T>(kind, bytes, 0));
    }
    Ok(value)
}

fn variable<T: Plain>(kind: u16, bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    head(bytes).ok_or_else(|| size_error::<T>(kind, bytes, 0))
}

fn size_error<T>(kind: u16, bytes: &[u8], tail: usize) -> DecodeError {
    DecodeError::Size { kind, expected: size_of::<T>() + tail, actual: bytes.len() }
}

/// Cuts `rest` into strings of the given sizes, which must fill it exactly.
fn strings<const N: usize>(rest: &[u8], sizes: [u16; N]) -> Option<[String; N]> {
    let mut rest = rest;
    let mut found = [const { String::new() }; N];
    for (out, size) in found.iter_mut().zip(sizes) {
        let (text, after) = rest.split_at_checked(usize::from(size))?;
        *out = String::from_utf8_lossy(text).into_owned();
        rest = after;
    }
    rest.is_empty().then_some(found)
}

/// A name of this size or more may have lost its end.
const WHOLE_NAME: u16 = wire::WIRE_NAME_MAX as u16 - 1;

/// A path without its head, or its end, says so itself: the rest reads like another one.
fn whole(path: String, cut: bool) -> String {
    if cut { format!("{PATH_CUT}{}", path.trim_start_matches('/')) } else { path }
}

/// Decodes one record.
///
/// # Errors
/// Short, long, unknown and out-of-range records; never panics.
pub fn decode(bytes: &[u8]) -> Result<WireEvent, DecodeError> {
    let (header, _) = head::<wire::wire_header>(bytes).ok_or(DecodeError::NoHeader(bytes.len()))?;
    let kind = header.kind;
    if usize::from(header.size) != bytes.len() {
        return Err(DecodeError::Size {
            kind,
            expected: usize::from(header.size),
            actual: bytes.len(),
        });
    }
    Ok(match u32::from(kind) {
        wire::WIRE_ROW => WireEvent::Row(Box::new(row(kind, bytes)?)),
        wire::WIRE_EXEC => WireEvent::Exec(Box::new(exec(kind, bytes)?)),
        wire::WIRE_FORK => WireEvent::Fork(fixed(kind, bytes)?),
        wire::WIRE_EXIT => WireEvent::Exit(fixed(kind, bytes)?),
        wire::WIRE_CALL => WireEvent::Call(Box::new(call(kind, bytes)?)),
        wire::WIRE_SIGNAL => WireEvent::Signal(fixed(kind, bytes)?),
        wire::WIRE_RAW => WireEvent::Raw(fixed(kind, bytes)?),
        wire::WIRE_FLOW => WireEvent::Flow(Box::new(flow(kind, bytes)?)),
        wire::WIRE_CGROUP => WireEvent::Cgroup(Box::new(cgroup(kind, bytes)?)),
        wire::WIRE_PROCESS => WireEvent::Process(Box::new(fixed(kind, bytes)?)),
        wire::WIRE_USED => WireEvent::Used(Box::new(used(kind, bytes)?)),
        _ => return Err(DecodeError::UnknownKind(kind)),
    })
}

/// The time of a record, without decoding the rest.
pub fn time_boot_ns(bytes: &[u8]) -> Option<u64> {
    head::<wire::wire_header>(bytes).map(|(header, _)| header.time_boot_ns)
}

fn at_most(kind: u16, value: u32, most: u32) -> Result<(), DecodeError> {
    if value > most { Err(DecodeError::Value { kind, value }) } else { Ok(()) }
}

fn row(kind: u16, bytes: &[u8]) -> Result<wire::wire_row, DecodeError> {
    let row: wire::wire_row = fixed(kind, bytes)?;
    at_most(kind, row.reason, wire::WIRE_ROW_EARLY)?;
    Ok(row)
}

fn exec(kind: u16, bytes: &[u8]) -> Result<WireExec, DecodeError> {
    let (record, rest): (wire::wire_exec, _) = variable(kind, bytes)?;
    let sizes = [record.path_size, record.filename_size, record.arguments_size];
    let [path, filename, arguments] = strings(rest, sizes).ok_or_else(|| {
        size_error::<wire::wire_exec>(kind, bytes, sizes.map(usize::from).iter().sum())
    })?;
    let path = whole(path, record.flags & wire::WIRE_EXEC_PATH_CUT != 0);
    let filename = whole(filename, record.filename_size >= WHOLE_NAME);
    Ok(WireExec { record, path, filename, arguments })
}

fn call(kind: u16, bytes: &[u8]) -> Result<WireCall, DecodeError> {
    let (record, rest): (wire::wire_call, _) = variable(kind, bytes)?;
    at_most(kind, u32::from(record.class), wire::WIRE_CLASSES - 1)?;
    let [path] = strings(rest, [record.path_size])
        .ok_or_else(|| size_error::<wire::wire_call>(kind, bytes, usize::from(record.path_size)))?;
    let path = (!path.is_empty()).then_some(path);
    let cut = u32::from(record.flags) & wire::WIRE_CALL_PATH_CUT != 0;
    Ok(WireCall { record, path: path.map(|path| whole(path, cut)) })
}

fn flow(kind: u16, bytes: &[u8]) -> Result<wire::wire_flow, DecodeError> {
    let flow: wire::wire_flow = fixed(kind, bytes)?;
    at_most(kind, u32::from(flow.phase), wire::WIRE_FLOW_FAILED)?;
    at_most(kind, u32::from(flow.inbound), 1)?;
    Ok(flow)
}

fn cgroup(kind: u16, bytes: &[u8]) -> Result<WireCgroup, DecodeError> {
    let (record, rest): (wire::wire_cgroup, _) = variable(kind, bytes)?;
    let [path] = strings(rest, [record.path_size]).ok_or_else(|| {
        size_error::<wire::wire_cgroup>(kind, bytes, usize::from(record.path_size))
    })?;
    Ok(WireCgroup { record, path })
}

fn used(kind: u16, bytes: &[u8]) -> Result<WireUsed, DecodeError> {
    let (record, rest): (wire::wire_used, _) = variable(kind, bytes)?;
    let [path] = strings(rest, [record.path_size])
        .ok_or_else(|| size_error::<wire::wire_used>(kind, bytes, usize::from(record.path_size)))?;
    let flags = u32::from(record.flags);
    at_most(kind, flags, wire::WIRE_USED_READ | wire::WIRE_USED_PATH_CUT)?;
    let path = whole(path, flags & wire::WIRE_USED_PATH_CUT != 0);
    Ok(WireUsed { record, path })
}
