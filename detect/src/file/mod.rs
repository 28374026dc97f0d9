//! The model file: everything that was learned, in one versioned, checksummed file.
//!
//! A file is a list of named sections ([`container`] has the bytes), each with a version of its
//! own, encoded with [postcard](https://docs.rs/postcard). It is replaced atomically
//! ([`ModelFile::save`]) and checked in full before anything is made of it ([`ModelFile::load`]):
//! lengths, checksums, and every invariant of what it holds. Memory is bounded by a small multiple
//! of the file, and the file by [`container::MAX_FILE_BYTES`].
//!
//! # Older and newer files
//! - Another *major* format version is refused, with the advice to upgrade or to train again.
//! - Any *minor* version is read.
//! - An unknown section, or a known one of a newer version, is refused if it is marked *required*;
//!   else it is kept as it is, and written back by the next save.
//! - An older version of a known section is read by the code kept for it, or refused by name.
//! - A file without `summary` or `schema` is refused; other missing sections are empty.
//!
//! postcard is positional, so a type that is stored never changes in place: adding a field means a
//! new section version (and enum variants are only ever appended).
//!
//! ```no_run
//! use hedgerow_detect::file::{FileError, ModelFile};
//!
//! let mut model = ModelFile::load("/var/lib/hedgerow/model".as_ref())?;
//! model.summary.ended_unix_s = 1_700_000_000;
//! model.save("/var/lib/hedgerow/model".as_ref())?;
//! # Ok::<(), FileError>(())
//! ```

mod bitmap;
pub mod container;
mod error;
mod profile;
mod summary;

pub use bitmap::Bitmap;
pub use container::Section;
pub use error::FileError;
pub use profile::{
    GramSet, MAX_PROGRAMS, Profile, ProgramProfile, SIX_GRAM_BITS, THREE_GRAM_BITS, TWO_GRAM_BITS,
};
pub use summary::{SchemaId, TrainingSummary};

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    sync::Arc,
};

use hedgerow_event::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// Everything that was learned; the caller attaches what is its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFile {
    /// What the model was trained on.
    pub summary: TrainingSummary,
    /// The feature columns that it reads.
    pub schema: SchemaId,
    /// System-call profiles of programs.
    pub profile: Arc<Profile>,
    /// Sections of the caller's own, and optional ones that this version does not know.
    others: Vec<Section>,
}

/// Names and versions of the sections that this version writes.
const SUMMARY: (&str, u16) = ("summary", 1);
const SCHEMA: (&str, u16) = ("schema", 1);
const PROFILE: (&str, u16) = ("profile", 1);
const KNOWN: [(&str, u16); 3] = [SUMMARY, SCHEMA, PROFILE];
/// Required sections of older files, of which nothing is read any more.
const RETIRED: [&str; 4] = ["vectorisers", "estimators", "calibrations", "budget"];

impl ModelFile {
    /// Writes the model to `path`, replacing what was there atomically: after a crash at any point
    /// there is the old file or the new one, whole. The file is readable by its owner only.
    ///
    /// # Errors
    /// [`FileError::Io`], or [`FileError::TooLarge`]; the old file is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let failed = |source| FileError::Io { action: "writing", path: path.to_owned(), source };
        hedgerow_hostfile::replace(path, &self.to_bytes()?).map_err(failed)
    }

    /// Reads a model.
    ///
    /// # Errors
    /// Says what is wrong with the file; nothing is made of a file that is wrong in any part.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::from_bytes(&read(path)?)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`FileError::TooLarge`] or [`FileError::TooManySections`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        let mut sections = vec![
            section(SUMMARY, true, &self.summary)?,
            section(SCHEMA, true, &self.schema)?,
            section(PROFILE, true, &*self.profile)?,
        ];
        // A section of a newer version gives way to the one that this version writes.
        let written: Vec<String> = sections.iter().map(|s| s.name.clone()).collect();
        let others = self.others.iter().filter(|s| !written.contains(&s.name));
        sections.extend(others.cloned());
        container::encode(&sections)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let mut sections = container::decode(bytes)?;
        sections.retain(|section| !RETIRED.contains(&section.name.as_str()));
        let summary = take(&mut sections, SUMMARY)?.ok_or(FileError::Missing(SUMMARY.0))?;
        let schema = take(&mut sections, SCHEMA)?.ok_or(FileError::Missing(SCHEMA.0))?;
        let model = ModelFile {
            summary,
            schema,
            profile: Arc::new(take(&mut sections, PROFILE)?.unwrap_or_default()),
            others: sections,
        };
        match model.others.iter().find(|s| s.required) {
            Some(unknown) => Err(FileError::UnknownRequired {
                name: unknown.name.clone(),
                version: unknown.version,
            }),
            None => Ok(model),
        }
    }

    /// Attaches a section of the caller's own, optional for readers, replacing one of that name.
    ///
    /// # Errors
    /// [`FileError::BadName`] if the name is not allowed or one of the file's own.
    pub fn attach<T: Serialize>(
        &mut self,
        name: &str,
        version: u16,
        value: &T,
    ) -> Result<(), FileError> {
        let taken = KNOWN.iter().any(|&(known, _)| known == name) || RETIRED.contains(&name);
        if taken || !container::is_section_name(name) {
            return Err(FileError::BadName(name.to_owned()));
        }
        let section = section((name, version), false, value)?;
        self.others.retain(|s| s.name != name);
        self.others.push(section);
        Ok(())
    }

    /// Takes a section of the caller's own away.
    pub fn detach(&mut self, name: &str) {
        self.others.retain(|section| section.name != name);
    }

    /// Reads a section of the caller's own; `None` if there is none of this name and version.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it does not hold a `T`.
    pub fn attached<T: DeserializeOwned>(
        &self,
        name: &str,
        version: u16,
    ) -> Result<Option<T>, FileError> {
        let found = self.others.iter().find(|s| s.name == name && s.version == version);
        found.map(read_section).transpose()
    }

    /// SHA-256 of what windows and deeds are judged by: the schema, the profile and a section of the
    /// caller's own, as they are in the file. What else it holds (who wrote it, parts) changes nothing.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if a section can't be encoded.
    pub fn digest(&self, name: &str) -> Result<Digest, FileError> {
        let own = [section(SCHEMA, true, &self.schema)?, section(PROFILE, true, &*self.profile)?];
        let attached = self.others.iter().filter(|section| section.name == name);
        let mut hasher = Sha256::new();
        for section in own.iter().chain(attached) {
            hasher.update((section.name.len() as u64).to_le_bytes());
            hasher.update(section.name.as_bytes());
            hasher.update(section.version.to_le_bytes());
            hasher.update((section.payload.len() as u64).to_le_bytes());
            hasher.update(&section.payload);
        }
        Ok(Digest(hasher.finalize().into()))
    }

    /// Names and versions of the sections that are neither the file's own nor read by this version.
    pub fn other_sections(&self) -> impl Iterator<Item = (&str, u16)> {
        self.others.iter().map(|s| (s.name.as_str(), s.version))
    }
}

fn section<T: Serialize>(
    (name, version): (&str, u16),
    required: bool,
    value: &T,
) -> Result<Section, FileError> {
    let payload = postcard::to_stdvec(value).map_err(|e| malformed(name, &e))?;
    Ok(Section { name: name.to_owned(), version, required, payload })
}

/// Takes a section that this version reads out of the list. One of a newer version stays there: it
/// is then refused if required, and kept if not.
fn take<T: DeserializeOwned>(
    sections: &mut Vec<Section>,
    (name, version): (&'static str, u16),
) -> Result<Option<T>, FileError> {
    let Some(at) = sections.iter().position(|s| s.name == name) else { return Ok(None) };
    match sections[at].version {
        newer if newer > version => Ok(None),
        same if same == version => read_section(&sections.remove(at)).map(Some),
        older => {
            let reason = format!("version {older} is too old to be read: train again");
            Err(FileError::Malformed { name: name.to_owned(), reason })
        }
    }
}

fn read_section<T: DeserializeOwned>(section: &Section) -> Result<T, FileError> {
    match postcard::take_from_bytes(&section.payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(FileError::Malformed {
            name: section.name.clone(),
            reason: format!("{} bytes too many", rest.len()),
        }),
        Err(e) => Err(malformed(&section.name, &e)),
    }
}

fn malformed(name: &str, error: &postcard::Error) -> FileError {
    FileError::Malformed { name: name.to_owned(), reason: error.to_string() }
}

/// Reads a regular file of at most [`container::MAX_FILE_BYTES`].
fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let io = |action| move |source| FileError::Io { action, path: path.to_owned(), source };
    // Asked before opening: opening a FIFO would wait for a writer.
    let about = fs::metadata(path).map_err(io("opening"))?;
    if !about.is_file() {
        return Err(FileError::NotAModelFile);
    }
    if about.len() > container::MAX_FILE_BYTES {
        return Err(FileError::TooLarge(about.len()));
    }
    let file = File::open(path).map_err(io("opening"))?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(container::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io("reading"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
