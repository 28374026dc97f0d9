//! One file of records: length and CRC-32 of the payload, four bytes each, little endian, then the
//! payload.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use hedgerow_hostfile::own;

use super::private;
use crate::{
    SinkError,
    message::{RECORD_BYTES_LIMIT, Topic},
};

const HEAD_BYTES: usize = 8;
/// Room above the largest value for key and headers; a longer length in a file is damage.
const PAYLOAD_BYTES_LIMIT: usize = RECORD_BYTES_LIMIT + (1 << 16);

#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
    /// Of them, those that are known to be on the disk.
    synced: u64,
    file: File,
    records: Vec<Record>,
    waiting: u64,
}

#[derive(Debug)]
struct Record {
    offset: u64,
    length: usize,
    topic: Topic,
    confirmed: bool,
}

pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    out.extend(payload);
    out
}

/// Payload of the frame at the head of `bytes`, if it is whole. An empty payload is damage too: a
/// crash can leave zeros, which would read as such.
fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let payload = rest.get(..length).filter(|_| (1..=PAYLOAD_BYTES_LIMIT).contains(&length))?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

impl Segment {
    pub fn create(number: u64, path: PathBuf) -> Result<Self, SinkError> {
        let file = private(OpenOptions::new().read(true).write(true).create_new(true))
            .open(&path)
            .map_err(SinkError::io(&path))?;
        Ok(Self { number, path, bytes: 0, synced: 0, file, records: Vec::new(), waiting: 0 })
    }

    /// Opens a segment of an earlier run; returns how many bytes at its end were damaged and cut.
    pub fn open(number: u64, path: PathBuf) -> Result<(Self, u64), SinkError> {
        let mut content = Vec::new();
        let file = own::open(&path, OpenOptions::new().read(true).write(true))
            .and_then(|mut file| file.read_to_end(&mut content).map(|_| file))
            .map_err(SinkError::io(&path))?;
        let mut records = Vec::new();
        let mut offset = 0;
        while let Some(payload) = payload(&content[offset..]) {
            let (length, topic) = (payload.len(), Topic::of_encoded(payload));
            records.push(Record { offset: offset as u64, length, topic, confirmed: false });
            offset += HEAD_BYTES + length;
        }
        let torn_bytes = (content.len() - offset) as u64;
        if torn_bytes > 0 {
            file.set_len(offset as u64).map_err(SinkError::io(&path))?;
        }
        let (waiting, bytes) = (records.len() as u64, offset as u64);
        Ok((Self { number, path, bytes, synced: bytes, file, records, waiting }, torn_bytes))
    }

    pub fn records(&self) -> usize {
        self.records.len()
    }
    pub fn waiting(&self) -> u64 {
        self.waiting
    }
    /// The first of this topic at or behind that place which is not confirmed.
    pub fn next(&self, topic: Topic, from: usize) -> Option<usize> {
        let behind = self.records.iter().enumerate().skip(from);
        let mut wanted = behind.filter(|(_, record)| record.topic == topic && !record.confirmed);
        wanted.next().map(|(index, _)| index)
    }
    pub fn confirmed_prefix(&self) -> usize {
        self.records.iter().take_while(|record| record.confirmed).count()
    }

    pub fn append(&mut self, frame: &[u8]) -> Result<(), SinkError> {
        if let Err(error) = self.file.write_all_at(frame, self.bytes) {
            // What was half written would read as a torn record; if it can't be cut either, the
            // next append overwrites it and recovery cuts what remains.
            let _ = self.file.set_len(self.bytes);
            return Err(SinkError::io(&self.path)(error));
        }
        let length = frame.len() - HEAD_BYTES;
        let topic = Topic::of_encoded(&frame[HEAD_BYTES..]);
        self.records.push(Record { offset: self.bytes, length, topic, confirmed: false });
        self.bytes += frame.len() as u64;
        self.waiting += 1;
        Ok(())
    }

    pub fn read(&self, index: usize) -> Result<Vec<u8>, SinkError> {
        let record = &self.records[index];
        let mut bytes = vec![0; HEAD_BYTES + record.length];
        self.file.read_exact_at(&mut bytes, record.offset).map_err(SinkError::io(&self.path))?;
        payload(&bytes).map(<[u8]>::to_vec).ok_or_else(|| {
            SinkError::io(&self.path)(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("the record at byte {} is damaged", record.offset),
            ))
        })
    }

    pub fn confirm(&mut self, index: usize) {
        if let Some(record) = self.records.get_mut(index).filter(|record| !record.confirmed) {
            record.confirmed = true;
            self.waiting -= 1;
        }
    }

    pub fn is_synced(&self) -> bool {
        self.synced == self.bytes
    }

    pub fn sync(&mut self) -> Result<(), SinkError> {
        if !self.is_synced() {
            self.file.sync_data().map_err(SinkError::io(&self.path))?;
            self.synced = self.bytes;
        }
        Ok(())
    }
}
