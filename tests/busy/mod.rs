//! A host on which something happens: a quiet one has nothing to capture.

#![allow(clippy::unwrap_used)]

use std::{
    process::Command,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

const PAUSE: Duration = Duration::from_millis(50);

/// Short-lived processes call the kernel until it is dropped.
pub struct Busy(Option<(Sender<()>, JoinHandle<()>)>);

impl Busy {
    pub fn start() -> Self {
        let (over, goes_on) = mpsc::channel();
        let busy = std::thread::spawn(move || {
            while goes_on.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        Self(Some((over, busy)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some((over, busy)) = self.0.take() {
            drop(over);
            let _ = busy.join();
        }
    }
}
