//! Undoing, in whichever way the process ends: by drop, by panic (which drops), or by a signal.
//!
//! What a SIGKILL leaves behind is found by its name and removed when the next lab is made
//! ([`crate::Lab::up`]).

use std::{
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

type Action = Box<dyn FnOnce() + Send>;

struct Entry {
    id: u64,
    action: Action,
}

struct Registry {
    next_id: u64,
    entries: Vec<Entry>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { next_id: 0, entries: Vec::new() });
static SIGNALS: Once = Once::new();
/// A signal came: its thread undoes everything and ends the process.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs its action when dropped, or when SIGINT, SIGTERM or SIGHUP ends the process.
#[derive(Debug)]
pub struct Guard {
    id: u64,
}

impl Guard {
    /// Registers `action`; on a signal, actions run last registered first.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        SIGNALS.call_once(watch_signals);
        let mut registry = registry();
        registry.next_id += 1;
        let id = registry.next_id;
        registry.entries.push(Entry { id, action: Box::new(action) });
        Self { id }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let action = {
            let mut registry = registry();
            // The owner must not return, and end the process, while the signal's thread still works.
            while INTERRUPTED.load(Ordering::Acquire) {
                drop(registry);
                thread::park();
                registry = self::registry();
            }
            let index = registry.entries.iter().position(|e| e.id == self.id);
            index.map(|i| registry.entries.remove(i).action)
        };
        if let Some(action) = action {
            action();
        }
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    let watch = move || {
        if let Some(signal) = signals.forever().next() {
            {
                // Under the lock, so that every drop comes wholly before or sees it.
                let _registry = registry();
                INTERRUPTED.store(true, Ordering::Release);
            }
            while let Some(entry) = { registry().entries.pop() } {
                (entry.action)();
            }
            std::process::exit(128 + signal);
        }
    };
    let _ = thread::Builder::new().name("lab-signals".into()).spawn(watch);
}
