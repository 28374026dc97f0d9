//! What each entry is, beside it in the kernel: a ledger line that a crash or a full disk has lost is
//! written anew by the responder that adopts the entry.
//!
//! User space alone reads and writes the map. It is pinned with the others, so that a note lives as
//! long as its entry.

use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::{
    Kernel,
    maps::{delete, put_bytes},
};
use crate::{Error, entry::Entry};

/// Name of the pin.
pub(super) const NOTES: &str = "deny_notes";
/// Longest note. The reason is cut where it would be longer; an entry whose target alone is, such as a
/// program with a path of thousands of letters, has none.
const NOTE_BYTES: usize = 4096;
/// Length of the JSON text, which follows.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Opens the pinned notes under `directory`, or makes and pins an empty map.
pub(super) fn open(directory: &Path, entries: u32) -> Result<MapHandle, Error> {
    let pin = directory.join(NOTES);
    if pin.exists() {
        return MapHandle::from_pinned_path(&pin).map_err(Error::bpf("can't open the notes"));
    }
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        // Most entries are never there: each note is allocated with its entry.
        map_flags: libbpf_sys::BPF_F_NO_PREALLOC,
        ..Default::default()
    };
    let (key, value) = (size_of::<u64>() as u32, NOTE_BYTES as u32);
    let made = MapHandle::create(MapType::Hash, Some(NOTES), key, value, entries, &options);
    let mut notes = made.map_err(Error::bpf("can't make the notes"))?;
    notes.pin(&pin).map_err(Error::bpf("can't pin the notes"))?;
    Ok(notes)
}

/// An entry as bytes of the map; `None` where it doesn't fit.
fn encode(entry: &Entry) -> Option<Vec<u8>> {
    let text = |entry: &Entry| serde_json::to_vec(entry).ok();
    let room = NOTE_BYTES - LENGTH_BYTES;
    let text = text(entry).filter(|text| text.len() <= room).or_else(|| {
        text(&Entry { reason: String::new(), ..entry.clone() }).filter(|text| text.len() <= room)
    })?;
    let mut bytes = u32::try_from(text.len()).ok()?.to_ne_bytes().to_vec();
    bytes.extend(text);
    bytes.resize(NOTE_BYTES, 0);
    Some(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let (length, text) = bytes.split_at_checked(LENGTH_BYTES)?;
    let length = u32::from_ne_bytes(length.try_into().ok()?);
    serde_json::from_slice(text.get(..usize::try_from(length).ok()?)?).ok()
}

impl Kernel {
    /// Notes what an entry is. One that can't be noted is as live, and explained by the ledger alone.
    pub(super) fn note(&self, entry: &Entry) {
        if let Some(note) = encode(entry) {
            let _ = put_bytes(&self.notes, &entry.id.to_ne_bytes(), &note);
        }
    }

    pub(super) fn forget_note(&self, id: u64) -> Result<(), Error> {
        delete(&self.notes, &id.to_ne_bytes())
    }

    /// What an entry was noted to be; of another id, or of what can't be read, nothing.
    pub fn noted(&self, id: u64) -> Result<Option<Entry>, Error> {
        let found = self.notes.lookup(&id.to_ne_bytes(), MapFlags::ANY);
        let found = found.map_err(Error::bpf("can't read the notes"))?;
        Ok(found.as_deref().and_then(decode).filter(|entry| entry.id == id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::entry::tests::entry;

    #[test]
    fn a_note_is_read_back_and_a_long_reason_is_left_out() {
        let short = Entry { finding_uid: Some("f00d".into()), ..entry() };
        assert_eq!(decode(&encode(&short).unwrap()), Some(short.clone()));
        let long = Entry { reason: "x".repeat(NOTE_BYTES), ..short.clone() };
        assert_eq!(decode(&encode(&long).unwrap()).unwrap().finding_uid, short.finding_uid);
        let longer = Entry { uid: "x".repeat(NOTE_BYTES), ..short };
        assert_eq!(encode(&longer), None);
        for bytes in [&[][..], &[1, 0, 0, 0], &[0xff; NOTE_BYTES]] {
            assert_eq!(decode(bytes), None);
        }
    }
}
