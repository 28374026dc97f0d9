//! What the loop has written to the state directory, without waiting for the disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use hedgerow_detect::{
    Engine,
    file::{FileError, ModelFile},
};
use hedgerow_responder::{Keeper, now};

use super::{Orders, report::Reporter};
use crate::metrics::unix_ns;

/// Who orders something, or asks for the model, waits so long for the disk.
const PATIENCE: Duration = Duration::from_secs(1);
/// Whoever was told that the model is still being written asks again within this time, or never.
const AGAIN: Duration = Duration::from_secs(60);
/// The end waits so long for each, when everything is detached and lifted.
const LAST: Duration = Duration::from_secs(10);

/// The files, and who writes them.
#[derive(Debug, Default)]
pub struct Kept {
    model: Keeper<FileError>,
    /// Where the model was saved to last.
    path: PathBuf,
    /// When, as the file says of an earlier run's; 0: never.
    saved_ns: Arc<AtomicI64>,
    /// What is in that file by now, until the engine knows.
    saved: Arc<Mutex<Option<ModelFile>>>,
    /// Since when somebody is to ask again for it.
    awaited: Option<Instant>,
    orders: Keeper<anyhow::Error>,
}

impl Kept {
    /// To be made before the loop runs: it looks at the model's file.
    pub fn new(model: &Path) -> Self {
        let saved = std::fs::metadata(model).and_then(|model| model.modified());
        let saved_ns = Arc::new(AtomicI64::new(saved.map_or(0, unix_ns)));
        Self { saved_ns, ..Self::default() }
    }

    /// Unix time in nanoseconds at which the model was saved last.
    pub fn saved_ns(&self) -> Option<i64> {
        Some(self.saved_ns.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
    }

    pub fn model(&mut self, model: ModelFile, path: PathBuf) {
        self.path.clone_from(&path);
        let (saved, saved_ns) = (Arc::clone(&self.saved), Arc::clone(&self.saved_ns));
        self.model.put(move || {
            model.save(&path)?;
            saved_ns.store(now().wall_ns, Ordering::Relaxed);
            *saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
            Ok(())
        });
    }

    /// Somebody asks again for a model that was put: another one is not to be.
    pub fn model_is_awaited(&mut self) -> bool {
        self.awaited = self.awaited.filter(|since| since.elapsed() < AGAIN);
        self.awaited.is_some()
    }

    /// Whether the model that was put last is in its file. Waits a moment for it when it is asked first.
    ///
    /// # Errors
    /// It could not be written.
    pub fn model_is_there(&mut self, engine: &mut Engine) -> Result<bool, String> {
        let first = !self.model_is_awaited();
        let done = self.model.settle(if first { PATIENCE } else { Duration::ZERO });
        if done.is_none() && !self.model.is_idle() {
            self.awaited.get_or_insert_with(Instant::now);
            return Ok(false);
        }
        self.awaited = None;
        match done {
            Some(Ok(())) => self.saved_as(engine).map(|()| true).map_err(|why| why.to_string()),
            Some(Err(why)) => Err(format!("the model was not saved: {why}")),
            None if first => Err("the model was not saved".to_owned()),
            // The sweep was told of it.
            None => Ok(true),
        }
    }

    pub fn orders(&mut self, orders: Orders) {
        self.orders.put(move || orders.save());
    }

    /// Waits a moment for orders that were put, so that who gave one finds it in force after a crash, too.
    pub fn settle_orders(&mut self, reporter: &mut Reporter) {
        let done = self.orders.settle(PATIENCE);
        tell_orders(done, reporter);
    }

    /// Tells what came of what was written.
    pub fn sweep(&mut self, engine: &mut Engine, reporter: &mut Reporter) {
        let (model, orders) = (self.model.poll(), self.orders.poll());
        if matches!(model, Some(Err(_))) {
            // Whoever asks again has it written again.
            self.awaited = None;
        }
        self.tell_model(model, engine, reporter);
        tell_orders(orders, reporter);
    }

    /// Waits for all of it.
    pub fn finish(&mut self, engine: &mut Engine, reporter: &mut Reporter) {
        let late = [self.model.is_idle(), self.orders.is_idle()];
        let (model, orders) = (self.model.finish(LAST), self.orders.finish(LAST));
        for (was_idle, done, what) in
            [(late[0], model.is_some(), "the model"), (late[1], orders.is_some(), "the orders")]
        {
            if !was_idle && !done {
                reporter.warn(&format!("{what} were not written within {} s", LAST.as_secs()));
            }
        }
        self.tell_model(model, engine, reporter);
        tell_orders(orders, reporter);
    }

    /// Tells the engine what is in the file.
    fn saved_as(&self, engine: &mut Engine) -> hedgerow_detect::Result<()> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        saved.map_or(Ok(()), |model| engine.saved_as(&model))
    }

    fn tell_model(
        &self,
        done: Option<Result<(), FileError>>,
        engine: &mut Engine,
        reporter: &mut Reporter,
    ) {
        match done {
            Some(Ok(())) => match self.saved_as(engine) {
                Ok(()) => reporter.saved(&self.path),
                Err(why) => reporter.warn(&format!("the digest of the model is not known: {why}")),
            },
            // A full disk must not end detection: it goes on with what is in memory.
            Some(Err(why)) => reporter.warn(&format!("the model was not saved: {why}")),
            None => {}
        }
    }
}

fn tell_orders(done: Option<anyhow::Result<()>>, reporter: &mut Reporter) {
    if let Some(Err(why)) = done {
        reporter.warn(&format!("orders hold in this run only: {why:#}"));
    }
}
