//! Learning from traces, and measuring others, by the rule as it is shipped.

use std::sync::Arc;

use hedgerow_detect::{Engine, Outcome, Phase, Schedule, Settings, file::Profile, known};
use hedgerow_event::{Epoch, Grams, Origin, Subject};
use hedgerow_features::{Config, Extractor, Record, Window, WindowBuilder};
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::{Trace, life};
use crate::{Error, Result};

/// Fewer traces than this can't be divided into what learning needs.
pub const TRACES_LEAST: usize = 40;

/// How traces are learned from.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Calls of a window, about.
    pub calls: usize,
    /// Of the n-gram hash, the forest, and the order in which traces are learned from.
    pub seed: u64,
}

/// A trace beside what was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub windows: usize,
    /// Calls that entered the history, and those that ended an unseen 6-gram.
    pub checked: u64,
    pub unseen6: u64,
    /// The forest's score of the window that it finds the most unusual.
    pub forest: f64,
    /// The measure of the most unusual window, and the mean of all.
    pub measure: f64,
    pub mean: f64,
}

/// What was learned of traces.
#[derive(Debug)]
pub struct Learned {
    engine: Engine,
    known: Vec<(Arc<Subject>, Grams)>,
    how: How,
    subject: Arc<Subject>,
}

/// Learns from traces as the daemon learns from a host: n-grams and ranges from 60 % of them, drawn
/// by the seed, detectors from 20 %, tails from the last 20 %.
///
/// # Errors
/// There are too few, or the engine refuses them.
pub fn learn(traces: &[Trace], how: How) -> Result<Learned> {
    if traces.len() < TRACES_LEAST {
        return Err(Error::Usage(format!(
            "{} traces to learn from: {TRACES_LEAST} are needed at least",
            traces.len()
        )));
    }
    let mut order: Vec<&Trace> = traces.iter().collect();
    order.shuffle(&mut SmallRng::seed_from_u64(how.seed));
    let fifth = order.len() / 5;
    let (fill, rest) = order.split_at(order.len() - 2 * fifth);
    let (fit, calibrate) = rest.split_at(fifth);
    let epochs = |part: &[&Trace]| part.iter().map(|trace| life::epochs(trace, how.calls)).sum();
    let schedule = Schedule {
        fill: epochs(fill),
        // The first one, in which the kernel gets to know the profile, is used for nothing.
        fit: 1 + epochs(fit),
        calibrate: epochs(calibrate),
    };
    let mut learner = Learner {
        engine: Engine::learning(settings(schedule, how.seed))?,
        extractor: Extractor::new(how.seed),
        subject: life::subject(),
        profile: None,
        next: Epoch(1),
    };
    for (process, trace) in (1u32..).zip(fill) {
        learner.live(trace, how.calls, process)?;
    }
    learner.take(Record::Close(life::close(learner.next)))?;
    for (process, trace) in (1 + fill.len() as u32..).zip(rest) {
        learner.live(trace, how.calls, process)?;
    }
    let Learner { engine, profile, subject, .. } = learner;
    match profile.filter(|_| engine.phase() == Phase::Scoring) {
        Some(profile) => Ok(Learned { engine, known: known(&profile), how, subject }),
        None => Err(Error::Usage("too few windows to learn from: cut shorter ones".to_owned())),
    }
}

fn settings(schedule: Schedule, seed: u64) -> Settings {
    Settings {
        host_id: Arc::from("traces"),
        boot_id: String::new(),
        schedule,
        budget_per_day: 1.0,
        seed,
        sensors: life::SENSORS,
        realtime_offset_ns: 0,
    }
}

struct Learner {
    engine: Engine,
    extractor: Extractor,
    subject: Arc<Subject>,
    profile: Option<Arc<Profile>>,
    next: Epoch,
}

impl Learner {
    fn live(&mut self, trace: &Trace, calls: usize, process: u32) -> Result<()> {
        let subject = Arc::clone(&self.subject);
        for record in life::records(trace, calls, &subject, process, self.next) {
            self.take(record)?;
        }
        Ok(())
    }

    fn take(&mut self, record: Record) -> Result<()> {
        let mut out = Vec::new();
        self.extractor.push(record, &mut out);
        for record in out {
            match record {
                Record::Event(event) => self.engine.observe(&event),
                Record::Grams(report) => self.engine.grams(&report),
                Record::Early(_) => {}
                Record::Close(close) => {
                    self.next = close.epoch.next();
                    for outcome in self.engine.close(&close)? {
                        if let Outcome::Arm(profile) = outcome {
                            self.extractor.set_known(known(&profile), self.next);
                            self.profile = Some(profile);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Learned {
    /// Measures a trace; what was learned stays as it is.
    pub fn judge(&self, trace: &Trace) -> Judged {
        let mut extractor = Extractor::new(self.how.seed);
        extractor.set_known(self.known.clone(), Epoch(0));
        let mut config = Config::new("traces");
        config.sensors = life::SENSORS;
        config.rollups = Vec::new();
        let mut builder = WindowBuilder::new(config, self.engine.baseline().key());
        let (mut checked, mut unseen6) = (0, 0);
        let mut windows: Vec<Window> = Vec::new();
        let mut out = Vec::new();
        for record in life::records(trace, self.how.calls, &self.subject, 1, Epoch(1)) {
            extractor.push(record, &mut out);
            for record in out.drain(..) {
                match record {
                    Record::Event(event) => {
                        if let Origin::Row(row) = &event.origin {
                            checked += row.checked;
                            unseen6 += row.unseen6;
                        }
                        builder.observe(&event);
                    }
                    Record::Close(close) => {
                        windows.extend(builder.close(&close, self.engine.baseline()));
                    }
                    Record::Grams(_) | Record::Early(_) => {}
                }
            }
        }
        let measured = self.engine.measured(&windows);
        let most = |of: fn(&(f64, f64)) -> f64| {
            measured.iter().map(of).max_by(f64::total_cmp).unwrap_or_default()
        };
        let sum: f64 = measured.iter().map(|(_, measure)| measure).sum();
        Judged {
            windows: measured.len(),
            checked,
            unseen6,
            forest: most(|(forest, _)| *forest),
            measure: most(|(_, measure)| *measure),
            mean: sum / measured.len().max(1) as f64,
        }
    }
}
