//! How a daemon ends: what is counted is detached, entries are lifted or left, what waits is written.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use hedgerow_detect::Outcome;
use hedgerow_probe::{Item, Probe};

use super::{Daemon, Unread, outlets, service, usage::Accounts};
use crate::{exit::Failure, host};

/// The end waits so long for a disk to take what led to the last findings.
const LAST: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

impl Daemon {
    /// Detaches everything that counts, lifts entries where it is stopped by hand, and only then writes,
    /// delivers what waits, and sums up: nobody stays denied because a disk is full or stands still.
    pub(super) fn stop(
        mut self,
        probe: Probe,
        items: &Receiver<Item>,
        ended: anyhow::Result<Option<i32>>,
    ) -> anyhow::Result<()> {
        service::stopping();
        let items = items.clone();
        // Without a thread to be had the last windows may find no room: they would be dropped here, too.
        let drain = thread::Builder::new().name("last-windows".into());
        let drain = drain.spawn(move || items.iter().for_each(drop));
        let stats = self.sensor.stats().ok();
        let stopped = probe.stop().map_err(Failure::host);
        drop(drain.map(thread::JoinHandle::join));
        // A fault or a restart must not free whom somebody denied.
        let by_hand = match &ended {
            Ok(signal) => signal.is_some_and(host::is_by_hand),
            Err(why) => why.is::<Unread>() && outlets::is_of_a_person(libc::STDOUT_FILENO),
        };
        self.actor.stop(self.config.keep_entries || !by_hand, &mut self.reporter);
        self.record_last();
        let now = hedgerow_responder::now().boot_ns;
        for outcome in self.engine.finish(now) {
            if let Outcome::Finding(mut finding, _) = outcome {
                self.name(&mut finding);
                self.reporter.finding(&finding, false);
            }
        }
        let saved = self.save();
        self.kept.finish(&mut self.engine, &mut self.reporter);
        // Only now those that wait for a disk however long it stands still.
        self.uses.stop();
        self.accounts.iter_mut().for_each(Accounts::stop);
        let mut untold = self.uses.take_untold();
        untold.extend(self.accounts.iter().flat_map(Accounts::take_untold));
        untold.iter().for_each(|said| self.reporter.warn(said));
        if let Some(capture) = self.capture.take() {
            let (status, dropped, failure) = capture.finish();
            if let Some(failure) = failure {
                self.reporter.warn(&format!("capture: {failure}"));
            }
            self.reporter.captured(&status, dropped);
        }
        self.reporter.summary(&self.engine, stats);
        ended?;
        saved?;
        Ok(stopped?)
    }

    /// Writes what led to the last findings once more.
    fn record_last(&mut self) {
        let begun = Instant::now();
        let Self { reporter, recorder, opened, .. } = self;
        for mut opened in opened.take() {
            let mut waits = || {
                let became = reporter.outlets().past(&opened.uid, || opened.past(recorder));
                opened.waits(became)
            };
            while waits() && begun.elapsed() < LAST {
                thread::sleep(STEP);
            }
            if opened.is_lost() {
                reporter.outlets().past_lost(&opened.uid);
            }
        }
    }
}
