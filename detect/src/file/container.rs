//! The bytes of a model file: named, checksummed sections. Pure; knows nothing of their meaning.
//!
//! Little-endian throughout:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic: `\x89HDGR\r\n\x1a` (shows text-mode damage, as PNG's does) |
//! | 8 | 2 | major version of the format |
//! | 10 | 2 | minor version of the format |
//! | 12 | 4 | number of sections, at most [`MAX_SECTIONS`] |
//! | 16 | 48 each | table: name (32, padded with zeros), version (2), flags (2), CRC-32 of the payload (4), length of the payload (8) |
//! | | 4 | CRC-32 of everything before |
//! | | | payloads, in the table's order, without gaps; then the file ends |

use super::FileError;
use std::collections::BTreeSet;

/// First bytes of a model file.
pub const MAGIC: [u8; 8] = *b"\x89HDGR\r\n\x1a";

/// Format that is written, and the only major version that is read.
pub const FORMAT_MAJOR: u16 = 1;
/// Minor version that is written. Raised when an optional section is added.
pub const FORMAT_MINOR: u16 = 0;

/// Largest model file, bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Most sections of a file.
pub const MAX_SECTIONS: usize = 64;

/// Longest name of a section, bytes.
pub const MAX_NAME_BYTES: usize = 32;

const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 48;
const FLAG_REQUIRED: u16 = 1;

/// One named run of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// 1 to [`MAX_NAME_BYTES`] bytes of `a-z`, `0-9`, `-`, `_`, `.`.
    pub name: String,
    /// Version of the payload's layout.
    pub version: u16,
    /// A reader that does not know the section must refuse the file.
    pub required: bool,
    /// The section's bytes.
    pub payload: Vec<u8>,
}

/// Whether a section may have this name.
pub fn is_section_name(name: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// Writes sections into one run of bytes.
///
/// # Errors
/// If a name is not allowed or appears twice, or there are too many sections or bytes.
pub fn encode(sections: &[Section]) -> Result<Vec<u8>, FileError> {
    if sections.len() > MAX_SECTIONS {
        return Err(FileError::TooManySections(sections.len()));
    }
    let mut names = BTreeSet::new();
    let payload_bytes: usize = sections.iter().map(|s| s.payload.len()).sum();
    let table_end = HEADER_BYTES + sections.len() * ENTRY_BYTES;
    let total = table_end + 4 + payload_bytes;
    if total as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge(total as u64));
    }
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
    bytes.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
    bytes.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    for section in sections {
        if !is_section_name(&section.name) || !names.insert(section.name.as_str()) {
            return Err(FileError::BadName(section.name.clone()));
        }
        let mut name = [0; MAX_NAME_BYTES];
        name[..section.name.len()].copy_from_slice(section.name.as_bytes());
        let flags = if section.required { FLAG_REQUIRED } else { 0 };
        bytes.extend_from_slice(&name);
        bytes.extend_from_slice(&section.version.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&section.payload).to_le_bytes());
        bytes.extend_from_slice(&(section.payload.len() as u64).to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    for section in sections {
        bytes.extend_from_slice(&section.payload);
    }
    Ok(bytes)
}

/// Reads the sections of a file, after every length and checksum has been checked. Allocates no
/// more than the file's own size and the table.
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Section>, FileError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge(bytes.len() as u64));
    }
    let mut reader = Reader { rest: bytes };
    // A short file that does not even begin like a model file is another kind of file.
    let begins_alike = bytes.iter().zip(&MAGIC).all(|(a, b)| a == b);
    if !begins_alike || bytes.is_empty() {
        return Err(FileError::NotAModelFile);
    }
    reader.array::<8>()?;
    let major = u16::from_le_bytes(reader.array()?);
    let minor = u16::from_le_bytes(reader.array()?);
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if major != FORMAT_MAJOR {
        return Err(FileError::Format { major, minor });
    }
    if count > MAX_SECTIONS {
        return Err(FileError::TooManySections(count));
    }
    let table = reader.take(count * ENTRY_BYTES)?;
    let checked = &bytes[..HEADER_BYTES + table.len()];
    if u32::from_le_bytes(reader.array()?) != crc32fast::hash(checked) {
        return Err(FileError::Checksum("table of sections".into()));
    }
    let mut names = BTreeSet::new();
    let mut sections = Vec::with_capacity(count);
    let mut table = Reader { rest: table };
    for _ in 0..count {
        let section = read_section(&mut table, &mut reader)?;
        if !names.insert(section.name.clone()) {
            return Err(FileError::BadName(section.name));
        }
        sections.push(section);
    }
    if !reader.rest.is_empty() {
        return Err(FileError::TrailingBytes(reader.rest.len()));
    }
    Ok(sections)
}

fn read_section(table: &mut Reader<'_>, payloads: &mut Reader<'_>) -> Result<Section, FileError> {
    let padded: [u8; MAX_NAME_BYTES] = table.array()?;
    let version = u16::from_le_bytes(table.array()?);
    let flags = u16::from_le_bytes(table.array()?);
    let crc = u32::from_le_bytes(table.array()?);
    let length = u64::from_le_bytes(table.array()?);
    let end = padded.iter().position(|&b| b == 0).unwrap_or(MAX_NAME_BYTES);
    let name = String::from_utf8_lossy(&padded[..end]).into_owned();
    if !is_section_name(&name) || padded[end..].iter().any(|&b| b != 0) {
        return Err(FileError::BadName(name));
    }
    if flags & !FLAG_REQUIRED != 0 {
        return Err(FileError::BadFlags { name, flags });
    }
    let length = usize::try_from(length).map_err(|_| FileError::Truncated)?;
    let payload = payloads.take(length)?;
    if crc32fast::hash(payload) != crc {
        return Err(FileError::Checksum(name));
    }
    let required = flags & FLAG_REQUIRED != 0;
    Ok(Section { name, version, required, payload: payload.to_vec() })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FileError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FileError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FileError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}
