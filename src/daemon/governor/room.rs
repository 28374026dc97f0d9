//! A budget of memory: the flight recorder has what the rest leaves.

use super::memory;
use crate::{daemon::recorder::Recorder, exit::Failure, text::size};

/// Looked at once in so many windows: a minute.
const LOOKS: u32 = 12;
const MIB: u64 = 1 << 20;

#[derive(Debug)]
pub struct Room {
    bytes: u64,
    held: u64,
    windows: u32,
    /// It was told that too much is held.
    over: bool,
}

impl Room {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, held: 0, windows: 0, over: false }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn held(&self) -> u64 {
        self.held
    }

    /// Everything is attached and opened, and nothing recorded yet.
    ///
    /// # Errors
    /// That alone is more than may be held, and the start `refuses` that. Else it is told: what was learned since
    /// the first start keeps none of a later one.
    pub fn start(&mut self, refuses: bool) -> Result<String, Failure> {
        self.held = memory::used().unwrap_or(self.held);
        let (budget, held) = (size(self.bytes), mib(self.held));
        if self.held > self.bytes {
            self.over = true;
            let why = format!(
                "governor.memory: {budget} is less than the {held} that Hedgerow holds here with nothing recorded; \
                 ring_mib is the largest part that can be made smaller"
            );
            return if refuses { Err(Failure::Usage(why)) } else { Ok(why) };
        }
        Ok(format!("{budget} of memory may be held; {held} are without the flight recorder"))
    }

    /// Gives the recorder what is left, once a minute; what is to be said.
    pub fn hold(&mut self, recorder: &mut Recorder) -> Option<String> {
        self.windows += 1;
        if self.windows % LOOKS != 1 {
            return None;
        }
        self.held = memory::used().unwrap_or(self.held);
        let rest = self.held.saturating_sub(recorder.held() as u64);
        recorder.limit(usize::try_from(self.bytes.saturating_sub(rest)).unwrap_or(usize::MAX));
        let (over, was) = (rest > self.bytes, self.over);
        self.over = over;
        let (budget, rest) = (size(self.bytes), mib(rest));
        match (was, over) {
            (false, true) => Some(format!(
                "{rest} of memory are held, of {budget} that may be, with nothing recorded: what was learned needs \
                 it; a restart gives back what is only kept"
            )),
            (true, false) => Some(format!("{rest} of memory are held: within {budget} again")),
            _ => None,
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}
