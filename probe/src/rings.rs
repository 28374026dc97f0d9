//! Draining the rings of all CPUs, and where they stand.

use std::{cell::RefCell, rc::Rc};

use libbpf_rs::{AsRawLibbpf, MapHandle, RingBuffer, RingBufferBuilder, libbpf_sys};

use crate::{
    Error, Result,
    wire_event::{WireEvent, decode},
};

/// Records taken from one ring before the next has its turn.
const TURN: u64 = 4096;

/// What was drained.
#[derive(Debug, Default)]
pub struct Drained {
    pub records: Vec<WireEvent>,
    pub received: u64,
    pub undecodable: u64,
}

/// The rings of all CPUs; stays on the thread that made it.
#[derive(Debug)]
pub struct Rings {
    buffer: RingBuffer<'static>,
    count: u32,
    drained: Rc<RefCell<Drained>>,
}

impl Rings {
    pub fn new(maps: &[MapHandle]) -> Result<Self> {
        let drained = Rc::new(RefCell::new(Drained::default()));
        let mut builder = RingBufferBuilder::new();
        for map in maps {
            let drained = Rc::clone(&drained);
            builder
                .add(map, move |bytes: &[u8]| {
                    let mut drained = drained.borrow_mut();
                    drained.received += 1;
                    match decode(bytes) {
                        Ok(record) => drained.records.push(record),
                        Err(_) => drained.undecodable += 1,
                    }
                    0
                })
                .map_err(Error::map("ring"))?;
        }
        let buffer = builder.build().map_err(Error::map("rings"))?;
        let count = u32::try_from(maps.len()).unwrap_or(u32::MAX);
        Ok(Self { buffer, count, drained })
    }

    fn ring(&self, index: u32) -> *mut libbpf_sys::ring {
        // SAFETY: the buffer is alive; libbpf answers NULL for an index out of range.
        unsafe { libbpf_sys::ring_buffer__ring(self.buffer.as_libbpf_object().as_ptr(), index) }
    }

    /// Takes a turn at every ring.
    pub fn drain(&self) -> Drained {
        for index in 0..self.count {
            let ring = self.ring(index);
            if !ring.is_null() {
                // SAFETY: a ring of our buffer.
                unsafe { libbpf_sys::ring__consume_n(ring, TURN) };
            }
        }
        self.drained.take()
    }

    /// Where each ring's producer stands.
    pub fn produced(&self) -> Vec<u64> {
        // SAFETY: a ring of our buffer.
        (0..self.count).map(|i| unsafe { libbpf_sys::ring__producer_pos(self.ring(i)) }).collect()
    }

    /// Whether every ring has been read up to `marks`.
    pub fn reached(&self, marks: &[u64]) -> bool {
        (0..self.count).zip(marks).all(|(index, &mark)| {
            // SAFETY: a ring of our buffer.
            unsafe { libbpf_sys::ring__consumer_pos(self.ring(index)) >= mark }
        })
    }
}

/// The small ring of signals, which wakes its reader.
#[derive(Debug)]
pub struct Signals {
    buffer: RingBuffer<'static>,
    drained: Rc<RefCell<Vec<WireEvent>>>,
}

impl Signals {
    pub fn new(map: &MapHandle) -> Result<Self> {
        let drained = Rc::new(RefCell::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let into = Rc::clone(&drained);
        builder
            .add(map, move |bytes: &[u8]| {
                into.borrow_mut().extend(decode(bytes));
                0
            })
            .map_err(Error::map("signals"))?;
        Ok(Self { buffer: builder.build().map_err(Error::map("signals"))?, drained })
    }

    /// Sleeps until a signal comes, or for `timeout`.
    pub fn wait(&self, timeout: std::time::Duration) -> Vec<WireEvent> {
        // An interrupted wait is as good as a finished one.
        let _ = self.buffer.poll_raw(timeout);
        self.drained.take()
    }
}
