//! Draining the rings of all CPUs, and where they stand.

use std::{cell::RefCell, rc::Rc};

use libbpf_rs::{AsRawLibbpf, MapHandle, RingBuffer, RingBufferBuilder, libbpf_sys};

use crate::{
    Error, Result,
    wire_event::{WireEvent, decode, time_boot_ns},
};

/// Records taken from one ring before the next has its turn.
const TURN: u64 = 4096;

/// What was drained.
#[derive(Debug, Default)]
pub struct Drained {
    /// In the order of their times, so that a thread's records are in the order of its doings
    /// whatever CPUs it ran on, and a child's come after its fork.
    pub records: Vec<WireEvent>,
    pub received: u64,
    pub undecodable: u64,
    /// A ring has more than its turn: the next one must follow at once.
    pub more: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    /// With their times; what is newer than the last drain's start is held back.
    records: Vec<(u64, WireEvent)>,
    received: u64,
    undecodable: u64,
}

/// The rings of all CPUs; stays on the thread that made it.
#[derive(Debug)]
pub struct Rings {
    buffer: RingBuffer<'static>,
    count: u32,
    inbox: Rc<RefCell<Inbox>>,
}

impl Rings {
    pub fn new(maps: &[MapHandle]) -> Result<Self> {
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let mut builder = RingBufferBuilder::new();
        for map in maps {
            let inbox = Rc::clone(&inbox);
            builder
                .add(map, move |bytes: &[u8]| {
                    let mut inbox = inbox.borrow_mut();
                    inbox.received += 1;
                    match (time_boot_ns(bytes), decode(bytes)) {
                        (Some(time), Ok(record)) => inbox.records.push((time, record)),
                        _ => inbox.undecodable += 1,
                    }
                    0
                })
                .map_err(Error::map("ring"))?;
        }
        let buffer = builder.build().map_err(Error::map("rings"))?;
        let count = u32::try_from(maps.len()).unwrap_or(u32::MAX);
        Ok(Self { buffer, count, inbox })
    }

    fn ring(&self, index: u32) -> *mut libbpf_sys::ring {
        // SAFETY: the buffer is alive; libbpf answers NULL for an index out of range.
        unsafe { libbpf_sys::ring_buffer__ring(self.buffer.as_libbpf_object().as_ptr(), index) }
    }

    /// Takes a turn at every ring, which began at `now_ns` (`CLOCK_BOOTTIME`).
    ///
    /// A thread that changed its CPU may have written to a ring that was read already, and then to
    /// one that is read next. So what is newer than the turn, or than the last record of a ring
    /// that was not emptied, waits for the next turn.
    pub fn drain(&self, now_ns: u64) -> Drained {
        let mut until = now_ns;
        let mut more = false;
        for index in 0..self.count {
            let ring = self.ring(index);
            if ring.is_null() {
                continue;
            }
            // SAFETY: a ring of our buffer.
            let taken = unsafe { libbpf_sys::ring__consume_n(ring, TURN) };
            if u64::try_from(taken) == Ok(TURN) {
                more = true;
                let last = self.inbox.borrow().records.last().map(|(time, _)| *time);
                until = last.map_or(until, |last| until.min(last));
            }
        }
        let mut inbox = self.inbox.borrow_mut();
        inbox.records.sort_by_key(|(time, _)| *time);
        let ready = inbox.records.partition_point(|(time, _)| *time <= until);
        let held = inbox.records.split_off(ready);
        let ready = std::mem::replace(&mut inbox.records, held);
        Drained {
            records: ready.into_iter().map(|(_, record)| record).collect(),
            received: std::mem::take(&mut inbox.received),
            undecodable: std::mem::take(&mut inbox.undecodable),
            more,
        }
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
