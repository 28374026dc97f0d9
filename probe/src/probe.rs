//! Starting and stopping the sensor.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_event::{Epoch, EpochClose, Event, GramReport, Used};

use crate::{
    Error, Result, answers,
    clock::Now,
    control::{Control, Shared},
    drain::Drain,
    epoch::Windows,
    identity::Resolver,
    loader,
    naming::Namer,
    options::Options,
    profiles::Profiles,
    prove, support,
};

/// What the sensor delivers, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Events(Vec<Event>),
    /// Files that programs use as code, apart from what execs tell.
    Used(Vec<Used>),
    /// n-grams that a profile lacked; comes before the close of its epoch.
    Grams(GramReport),
    /// Every record of the epoch that was not late has come before.
    Close(EpochClose),
}

/// A running sensor. Dropping it stops it.
#[derive(Debug)]
pub struct Probe {
    control: Control,
    thread: Option<JoinHandle<Result<()>>>,
    answers: Option<JoinHandle<()>>,
}

impl Probe {
    /// Loads and attaches the sensor on a thread of its own, which gives up what only that takes, proves
    /// its hooks by a marked child, and delivers from then on. The queue holds [`Options::queue`] batches; when it is full the
    /// thread waits, and loss is counted in the kernel's rings.
    ///
    /// # Errors
    /// What the kernel or the missing privilege refuses; nothing stays attached then.
    pub fn start(options: Options, resolver: Resolver) -> Result<(Self, Receiver<Item>)> {
        let (sender, receiver) = bounded(options.queue);
        let follows = options.flows;
        let (ready, started) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("hedgerow-drain".into())
            .spawn(move || run(&options, resolver, sender, &ready))
            .map_err(Error::io("drain thread"))?;
        let control = match started.recv() {
            Ok(Ok(control)) => control,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::Thread("it panicked at its start".into())),
        };
        prove::hooks(&control.0);
        let mut probe = Self { control, thread: Some(thread), answers: None };
        if follows {
            probe.answers = Some(answers::follow(Arc::clone(&probe.control.0))?);
        }
        Ok((probe, receiver))
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Closes the last window and detaches everything. The receiver must go on being read until
    /// it ends.
    ///
    /// # Errors
    /// What ended the thread before.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.control.0.stop.store(true, Ordering::Release);
        // One that panicked has named nobody since.
        self.answers.take().map(JoinHandle::join);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Thread("it panicked".into())),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Who wants to know calls stop().
        let _ = self.end();
    }
}

fn run(
    options: &Options,
    resolver: Resolver,
    sender: Sender<Item>,
    ready: &Sender<Result<Control>>,
) -> Result<()> {
    match start(options, resolver, sender) {
        Ok((shared, drain)) => {
            // Nobody waits any more only if the caller died.
            let _ = ready.send(Ok(Control(Arc::clone(&shared))));
            drop(shared);
            drain.run()
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Ok(())
        }
    }
}

fn start(
    options: &Options,
    mut resolver: Resolver,
    sender: Sender<Item>,
) -> Result<(Arc<Shared>, Drain)> {
    let now = Now::read().map_err(Error::io("clock"))?;
    let window_ns = u64::try_from(options.window.as_nanos()).unwrap_or(u64::MAX).max(1);
    let delay_ns = u64::try_from(options.close_delay.as_nanos()).unwrap_or(u64::MAX);
    // Rows use 0 for "never", and two epochs back must not wrap to it.
    let first = options.first_epoch.unwrap_or(Epoch((now.boot_ns / window_ns) as u32 + 2));
    let mut loaded = loader::load(options, first.0)?;
    let profiles = loaded.profiles.take().ok_or(Error::Skeleton("profiles"))?;
    let mut namer = Namer::new(first);
    for record in std::mem::take(&mut loaded.stood) {
        // Who stood before is no event.
        let _ = namer.name(record, &mut resolver);
    }
    let profiles = Profiles::new(profiles, options.quiet_windows);
    let shared = Arc::new(Shared::new(loaded, namer, resolver, profiles));
    let windows = Windows::new(first, now, window_ns, delay_ns);
    let drains = (options.drain, options.calm_interval);
    let drain = Drain::new(Arc::clone(&shared), sender, windows, drains)?;
    support::lower().map_err(Error::io("drain thread"))?;
    Ok((shared, drain))
}
