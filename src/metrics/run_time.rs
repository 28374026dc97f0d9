//! What our BPF programs cost, asked for a moment now and then by a thread of its own: permanent
//! statistics would cost two reads of the clock a run.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use hedgerow_probe::run_time::{self, RunTime, sample};

use super::Board;

/// The statistics are on for a moment in each period; in each window where a budget is held by them.
const MOMENT: Duration = Duration::from_millis(100);
const PERIOD: Duration = Duration::from_secs(10);
const PERIOD_GOVERNED: Duration = Duration::from_secs(5);

/// What was seen of each program in all moments together.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    pub sampled: Duration,
    /// Moments in which the kernel refused.
    pub refused: u64,
    pub programs: Vec<(Arc<str>, RunTime)>,
}

/// The thread that asks; it ends with this.
#[derive(Debug)]
pub struct Sampler {
    _stop: Sender<()>,
}

impl Sampler {
    pub fn start(mut sampled: Sampled, board: Arc<Board>, governed: bool) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let period = if governed { PERIOD_GOVERNED } else { PERIOD };
        thread::Builder::new().name("bpf-run-time".into()).spawn(move || {
            while stopped.recv_timeout(period - MOMENT) == Err(RecvTimeoutError::Timeout) {
                sampled.ask();
                board.programs.store(Arc::new(sampled.told.clone()));
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// Programs that can be asked for, and what was told of them.
#[derive(Debug)]
pub struct Sampled {
    opened: run_time::Programs,
    /// Where a program of this id is in `told`: some are attached more than once.
    places: HashMap<u32, usize>,
    told: Programs,
}

impl Sampled {
    /// `programs`: names and ids of what is attached.
    pub fn open(programs: Vec<(String, u32)>) -> Self {
        let mut sampled = Self {
            opened: run_time::Programs::open(programs.iter().map(|(_, id)| *id)),
            places: HashMap::new(),
            told: Programs::default(),
        };
        for (name, id) in programs {
            let told = &mut sampled.told.programs;
            let at = told.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
                told.push((name.into(), RunTime::default()));
                told.len() - 1
            });
            sampled.places.insert(id, at);
        }
        sampled
    }

    fn ask(&mut self) {
        let Ok(sample) = sample(&self.opened, MOMENT) else {
            self.told.refused += 1;
            return;
        };
        self.told.sampled += sample.lasted;
        for (id, ran) in sample.programs {
            if let Some(at) = self.places.get(&id) {
                let sum = &mut self.told.programs[*at].1;
                sum.runs += ran.runs;
                sum.ns += ran.ns;
            }
        }
    }
}
