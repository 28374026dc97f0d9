//! A sink as its operator sees it: what is told of it, and when.

use hedgerow_sink::{Sink, SinkHealth};

/// How a sink fares, as its operator was told; what is graver is told over what is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Well,
    Down,
    Loses,
}

/// A sink, and what its operator was told of it.
#[derive(Debug)]
pub struct Outlet {
    pub sink: Box<dyn Sink>,
    /// Reports that were never made for it.
    pub unmade: u64,
    /// Reports that it had lost when it was looked at last.
    lost: u64,
    /// How often in a row it was looked at and not up.
    down: u32,
    told: Told,
    /// What an earlier run left torn was told.
    torn_told: bool,
    /// That its spool can't be opened was told.
    memory_told: bool,
}

/// A sink that isn't up for so many looks is told of: a connection that is made anew takes a moment.
const DOWN_LOOKS: u32 = 5;

impl Outlet {
    pub fn new(sink: Box<dyn Sink>) -> Self {
        // Whoever opened it gave it its time.
        let (told, torn_told, memory_told) = (Told::Well, false, false);
        Self { sink, unmade: 0, lost: 0, down: DOWN_LOOKS, told, torn_told, memory_told }
    }

    /// What a power cut, or a full disk, left half written, once it is known.
    pub fn take_torn(&mut self) -> Option<String> {
        let SinkHealth { name, torn_bytes, .. } = self.sink.health();
        let is_new = torn_bytes > 0 && !std::mem::replace(&mut self.torn_told, torn_bytes > 0);
        is_new.then(|| {
            format!(
                "the last report of an earlier run for {name} was cut short: {torn_bytes} bytes"
            )
        })
    }

    /// Once that its spool can't be opened, and once that it is open.
    pub fn look_at_spool(&mut self) -> Option<String> {
        let SinkHealth { name, memory_only, .. } = self.sink.health();
        let told = std::mem::replace(&mut self.memory_told, memory_only.is_some());
        match memory_only {
            Some(why) if !told => Some(format!(
                "what is for {name} waits in memory alone, and goes with this process: {why}"
            )),
            None if told => Some(format!("what comes for {name} from here on waits on disk again")),
            _ => None,
        }
    }

    pub fn health(&self) -> SinkHealth {
        let health = self.sink.health();
        SinkHealth { rejected: health.rejected + self.unmade, ..health }
    }

    /// Tells once that it isn't up, once that reports are lost, wherever that was, and once that
    /// neither is so any more.
    pub fn look(&mut self) -> Option<String> {
        let SinkHealth { name, up, waiting, overflow, rejected, trouble, .. } = self.health();
        let lost = overflow + rejected;
        let is_losing = lost > std::mem::replace(&mut self.lost, lost);
        self.down = if up { 0 } else { self.down.saturating_add(1) };
        let now = match (is_losing, up) {
            (true, _) => Told::Loses,
            (false, true) => Told::Well,
            (false, false) if self.down > DOWN_LOOKS => self.told.max(Told::Down),
            (false, false) => self.told,
        };
        let told = std::mem::replace(&mut self.told, now);
        let why = trouble.as_deref();
        match now {
            _ if now == told => None,
            Told::Well if told == Told::Down => {
                Some(format!("{name} takes reports again; {waiting} wait for it"))
            }
            Told::Well => {
                Some(format!("{name} takes reports again; {lost} since the start were lost"))
            }
            Told::Down => {
                Some(format!("{name} takes no reports: {}", why.unwrap_or("it does not say why")))
            }
            Told::Loses => Some(format!(
                "{name} loses reports: {}; more are counted, not told",
                why.unwrap_or("it is full")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, PoisonError},
        time::Duration,
    };

    use hedgerow_sink::{Report, SinkError};

    use super::*;

    #[derive(Debug)]
    struct Made(Arc<Mutex<SinkHealth>>);

    impl Sink for Made {
        fn take(&mut self, _: &Report) -> Result<(), SinkError> {
            Ok(())
        }
        fn health(&self) -> SinkHealth {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
        fn stop(self: Box<Self>, _: Duration) -> SinkHealth {
            self.health()
        }
    }

    #[test]
    fn what_troubles_a_sink_is_told_once_and_so_is_its_end() {
        let health = Arc::default();
        let mut outlet = Outlet::new(Box::new(Made(Arc::clone(&health))));
        let mut look = |up: bool, rejected: u64| {
            let trouble = (!up).then(|| "no broker".to_owned());
            let now = SinkHealth { name: "kafka", up, rejected, trouble, ..SinkHealth::default() };
            *health.lock().unwrap_or_else(PoisonError::into_inner) = now;
            outlet.look().unwrap_or_default()
        };
        assert_eq!(look(false, 0), "kafka takes no reports: no broker", "its start was waited for");
        assert_eq!(look(false, 0), "");
        assert_eq!(look(true, 0), "kafka takes reports again; 0 wait for it");
        // A connection that is made anew.
        for _ in 0..DOWN_LOOKS {
            assert_eq!(look(false, 0), "");
        }
        assert_eq!(look(true, 0), "");
        for _ in 0..DOWN_LOOKS {
            look(false, 0);
        }
        assert!(look(false, 0).starts_with("kafka takes no reports"));
        assert!(look(false, 2).starts_with("kafka loses reports: no broker"), "that is graver");
        assert_eq!(look(false, 2), "", "and not over while it is down");
        assert_eq!(look(true, 2), "kafka takes reports again; 2 since the start were lost");
        assert_eq!(look(true, 3), "kafka loses reports: it is full; more are counted, not told");
        assert!(look(true, 3).ends_with("3 since the start were lost"));
    }

    #[test]
    fn that_a_sink_has_no_spool_is_told_once_and_so_is_its_end() {
        let health = Arc::default();
        let mut outlet = Outlet::new(Box::new(Made(Arc::clone(&health))));
        let mut look = |why: Option<&str>| {
            let memory_only = why.map(str::to_owned);
            let now = SinkHealth { name: "kafka", memory_only, ..SinkHealth::default() };
            *health.lock().unwrap_or_else(PoisonError::into_inner) = now;
            outlet.look_at_spool().unwrap_or_default()
        };
        assert_eq!(look(None), "");
        assert!(look(Some("no inode")).ends_with("goes with this process: no inode"));
        assert_eq!(look(Some("no inode")), "");
        assert_eq!(look(None), "what comes for kafka from here on waits on disk again");
        assert_eq!(look(None), "");
    }
}
