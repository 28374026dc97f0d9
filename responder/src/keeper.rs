//! A file that is written on a thread of its own, so that no loop waits for a disk.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Writes the whole file.
type Write<E> = Box<dyn FnOnce() -> Result<(), E> + Send>;

/// One file: written once at a time; of what comes meanwhile the newest is written next. Where no thread
/// can be had it waits for one.
pub struct Keeper<E> {
    writing: Option<Receiver<Result<(), E>>>,
    next: Option<Write<E>>,
}

impl<E> Default for Keeper<E> {
    fn default() -> Self {
        Self { writing: None, next: None }
    }
}

impl<E> fmt::Debug for Keeper<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("writing", &self.writing.is_some()).finish_non_exhaustive()
    }
}

impl<E: Send + 'static> Keeper<E> {
    /// Has the file written. Never waits.
    pub fn put(&mut self, write: impl FnOnce() -> Result<(), E> + Send + 'static) {
        self.next = Some(Box::new(write));
        self.begin();
    }

    /// Nothing is being written, and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.writing.is_none() && self.next.is_none()
    }

    /// What came of the last write, once. Never waits; to be called now and then, since it begins the
    /// next one, too.
    pub fn poll(&mut self) -> Option<Result<(), E>> {
        let done = match self.writing.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => None,
            Some(done) => {
                self.writing = None;
                done.ok()
            }
        };
        self.begin();
        done
    }

    /// Waits for all that was put so far, and no longer than that; what came of the last of it.
    pub fn settle(&mut self, longest: Duration) -> Option<Result<(), E>> {
        let until = Instant::now() + longest;
        let mut last = None;
        self.begin();
        while let Some(writing) = &self.writing {
            match writing.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => return None,
                done => {
                    self.writing = None;
                    last = done.ok();
                }
            }
            self.begin();
        }
        last
    }

    /// The same at the end, when nothing else is to be done: writes here what no thread could be had for.
    pub fn finish(&mut self, longest: Duration) -> Option<Result<(), E>> {
        let done = self.settle(longest);
        match self.next.take().filter(|_| self.writing.is_none()) {
            Some(write) => Some(write()),
            None => done,
        }
    }

    fn begin(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let Some(write) = self.next.take() else { return };
        let slot = Arc::new(Mutex::new(Some(write)));
        let taken = Arc::clone(&slot);
        let take = |slot: &Mutex<Option<Write<E>>>| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let (sender, done) = sync_channel(1);
        let thread = thread::Builder::new().name("keep".into()).spawn(move || {
            if let Some(write) = take(&taken) {
                // Nobody may listen any more.
                drop(sender.send(write()));
            }
        });
        match thread {
            Ok(_) => self.writing = Some(done),
            Err(_) => self.next = take(&slot),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn who_puts_waits_for_nothing_and_the_newest_is_written_last() {
        let mut keeper = Keeper::<u8>::default();
        assert!(keeper.is_idle() && keeper.settle(LONG).is_none());
        let (go, gone) = sync_channel::<()>(0);
        let (told, said) = sync_channel(8);
        let tell = move |number: u8, result: Result<(), u8>| {
            let told = told.clone();
            move || {
                told.send(number).unwrap();
                result
            }
        };
        let first = tell(1, Ok(()));
        keeper.put(move || {
            let _ = gone.recv();
            first()
        });
        keeper.put(tell(2, Ok(())));
        keeper.put(tell(3, Err(3)));
        assert_eq!(keeper.poll(), None);
        assert_eq!(keeper.settle(Duration::from_millis(20)), None, "it is still being written");
        assert!(!keeper.is_idle());
        drop(go);
        assert_eq!(keeper.settle(LONG), Some(Err(3)));
        assert_eq!(said.try_iter().collect::<Vec<_>>(), [1, 3]);
        assert!(keeper.is_idle());
        keeper.put(|| Ok(()));
        assert_eq!(keeper.finish(LONG), Some(Ok(())));
    }
}
