//! A spool that is opened later where it can't be at once: a disk without room, or without an inode, for it
//! keeps nothing from a working broker, and nobody from watching the host.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Fsync, RecordId, Recovered, Spool};
use crate::{SinkError, message::Topic};

/// A spool that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// A [`Spool`]; as long as it could not be opened it takes nothing and holds nothing.
#[derive(Debug)]
pub struct PatientSpool {
    directory: PathBuf,
    limit_bytes: u64,
    fsync: Fsync,
    /// Or why not.
    spool: Result<Spool, String>,
    tried: Instant,
}

impl PatientSpool {
    /// Opens it, and tells what an earlier run left; where it can't be, see [`Self::failure`].
    ///
    /// # Errors
    /// Another process has it open.
    pub fn open(
        directory: &Path,
        limit_bytes: u64,
        fsync: Fsync,
    ) -> Result<(Self, Recovered), SinkError> {
        let (spool, recovered) = match Spool::open(directory, limit_bytes, fsync) {
            Ok((spool, recovered)) => (Ok(spool), recovered),
            Err(why @ SinkError::SpoolBusy(_)) => return Err(why),
            Err(why) => (Err(why.to_string()), Recovered::default()),
        };
        let directory = directory.to_owned();
        Ok((Self { directory, limit_bytes, fsync, spool, tried: Instant::now() }, recovered))
    }

    /// Tries to open it where that failed, and is long enough ago; once it is open, what an earlier run
    /// left.
    pub fn retry(&mut self) -> Option<Recovered> {
        let is_due = self.spool.is_err() && self.tried.elapsed() >= RETRY;
        is_due.then(|| self.reopen()).flatten()
    }

    /// The same at once.
    pub fn reopen(&mut self) -> Option<Recovered> {
        if self.spool.is_ok() {
            return None;
        }
        self.tried = Instant::now();
        match Spool::open(&self.directory, self.limit_bytes, self.fsync) {
            Ok((spool, recovered)) => {
                self.spool = Ok(spool);
                Some(recovered)
            }
            Err(why) => {
                self.spool = Err(why.to_string());
                None
            }
        }
    }

    /// Why it is not open.
    pub fn failure(&self) -> Option<&str> {
        self.spool.as_ref().err().map(String::as_str)
    }

    /// As [`Spool::append`], or [`Spool::append_listed`].
    pub fn append(&mut self, payload: &[u8], is_listed: bool) -> Result<(), SinkError> {
        match &mut self.spool {
            Ok(spool) if is_listed => spool.append_listed(payload),
            Ok(spool) => spool.append(payload),
            Err(why) => Err(SinkError::SpoolShut(why.clone())),
        }
    }

    /// As [`Spool::sync`].
    pub fn sync(&mut self) -> Result<(), SinkError> {
        self.spool.as_mut().map_or(Ok(()), Spool::sync)
    }

    /// As [`Spool::read_next`].
    pub fn read_next(&mut self, topic: Topic) -> Result<Option<(RecordId, Vec<u8>)>, SinkError> {
        self.spool.as_mut().map_or(Ok(None), |spool| spool.read_next(topic))
    }

    /// As [`Spool::confirm`].
    pub fn confirm(&mut self, id: RecordId) -> Result<(), SinkError> {
        self.spool.as_mut().map_or(Ok(()), |spool| spool.confirm(id))
    }

    pub fn waiting(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::waiting)
    }

    pub fn bytes(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::bytes)
    }

    /// As [`Spool::close`].
    pub fn close(self) -> Result<(), SinkError> {
        self.spool.map_or(Ok(()), Spool::close)
    }
}
