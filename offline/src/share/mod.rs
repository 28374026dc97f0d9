//! A capture as it can be given away: without arguments and, by a key, without names.
//!
//! What is replaced keeps what learning needs of it and nothing else: who is the same as whom, which
//! files lie in one directory, which addresses in one network, and what the rule itself knows by
//! name ([`names`]). A model that is learned from the shared capture judges as one that is learned
//! from the original.

mod addresses;
mod columns;
mod names;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, lchown},
    path::{Path, PathBuf},
};

use hedgerow_sink::parquet::{Damaged, ParquetConfig, ParquetFile, ParquetReader, ParquetSink};
use serde::Serialize;

pub use self::{columns::check as check_columns, names::Pseudonyms};
use crate::{
    Error, Result,
    keys::{BOOT, EARLY, HOST, RECORDS, WINDOWS},
    source::start_ns,
};

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

/// What was shared.
#[derive(Debug, Default, Serialize)]
pub struct Shared {
    pub files: u64,
    pub rows: u64,
    /// Names, addresses and users were replaced.
    pub pseudonymised: bool,
    #[serde(skip)]
    pub damaged: Vec<Damaged>,
}

/// Writes a capture anew, for its owner alone, without arguments and, where there are
/// pseudonyms, without names.
///
/// # Errors
/// `out` is there; a file can't be read or written, or has a column of which it isn't known whether
/// it names anybody; the owner can't be given. What was written until then stays.
pub fn share(
    capture: &Path,
    out: &Path,
    owner: Owner,
    pseudonyms: Option<Pseudonyms>,
    progress: &mut dyn FnMut(u64),
) -> Result<Shared> {
    let mut found = Vec::new();
    let mut shared = Shared { pseudonymised: pseudonyms.is_some(), ..Shared::default() };
    for stream in [RECORDS, EARLY, WINDOWS] {
        let directory = capture.join(stream);
        if directory.is_dir() {
            let (files, damaged) =
                hedgerow_sink::parquet::remains(&directory).map_err(Error::file)?;
            shared.damaged.extend(damaged);
            found.extend(files.into_iter().map(|file| (stream, file)));
        }
    }
    if !found.iter().any(|(stream, _)| *stream == RECORDS) {
        return Err(Error::at(
            capture,
            format!("no capture (there is no directory `{RECORDS}` with Parquet files)"),
        ));
    }
    // Whoever is there first keeps it.
    DirBuilder::new().mode(0o700).create(out).map_err(|why| Error::at(out, why))?;
    let mut columns = columns::Columns::new(pseudonyms);
    for (stream, file) in found {
        write(stream, file, out, &mut columns, &mut shared, progress)?;
    }
    give(out, owner)?;
    Ok(shared)
}

/// Writes one file anew, under the same number and time.
fn write(
    stream: &str,
    file: ParquetFile,
    out: &Path,
    columns: &mut columns::Columns,
    shared: &mut Shared,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    check_columns(&file.path, &file.schema)?;
    let path = file.path.clone();
    let metadata = columns.metadata(&file.metadata);
    let host = metadata.get(HOST).cloned().unwrap_or_default();
    let time_ns = start_ns(&path)
        .ok_or_else(|| Error::at(&path, "its name doesn't say when it was begun"))?;
    let mut config = ParquetConfig::whole(out, host);
    config.file_bytes = u64::MAX;
    let mut sink = ParquetSink::open(config).map_err(Error::file)?;
    metadata.into_iter().for_each(|(key, value)| sink.set_metadata(key, value));
    let schema = file.schema.clone();
    let mut reader = ParquetReader::of(vec![file], &schema).map_err(Error::file)?;
    for batch in reader.by_ref() {
        let batch = batch.map_err(Error::file)?;
        shared.rows += batch.num_rows() as u64;
        progress(batch.num_rows() as u64);
        let batch = columns.replace(&path, &batch)?;
        sink.write(stream, &batch, time_ns).map_err(Error::file)?;
    }
    shared.files += sink.finish().map_err(Error::file)?.files;
    shared.damaged.extend(reader.damaged().iter().cloned());
    Ok(())
}

/// Gives everything below a directory, and itself at last, to its owner: nobody else can reach into
/// it before.
fn give(directory: &Path, owner: Owner) -> Result<()> {
    for path in below(directory)?.iter().rev() {
        lchown(path, Some(owner.user), Some(owner.group)).map_err(|why| Error::at(path, why))?;
    }
    Ok(())
}

/// A directory and what is in it, outermost first.
fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(|why| Error::at(&path, why))? {
                found.push(entry.map_err(|why| Error::at(&path, why))?.path());
            }
        }
    }
    Ok(found)
}

/// Metadata that names a host or its boot.
const NAMING: [&str; 2] = [HOST, BOOT];

type Metadata = BTreeMap<String, String>;
