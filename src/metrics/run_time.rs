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

use hedgerow_probe::run_time::{RunTime, sample};

use super::Board;

/// The statistics are on for a moment in each period.
const MOMENT: Duration = Duration::from_millis(100);
const PERIOD: Duration = Duration::from_secs(10);

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
    /// `programs`: names and ids of what is attached.
    pub fn start(programs: Vec<(String, u32)>, board: Arc<Board>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        thread::Builder::new().name("bpf-run-time".into()).spawn(move || {
            let mut kept = Kept::new(programs);
            while stopped.recv_timeout(PERIOD - MOMENT) == Err(RecvTimeoutError::Timeout) {
                kept.ask();
                board.programs.store(Arc::new(kept.told.clone()));
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

struct Kept {
    ids: Vec<u32>,
    /// Where a program of this id is in `told`: some are attached more than once.
    places: HashMap<u32, usize>,
    told: Programs,
}

impl Kept {
    fn new(programs: Vec<(String, u32)>) -> Self {
        let mut kept = Self {
            ids: programs.iter().map(|(_, id)| *id).collect(),
            places: HashMap::new(),
            told: Programs::default(),
        };
        for (name, id) in programs {
            let told = &mut kept.told.programs;
            let at = told.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
                told.push((name.into(), RunTime::default()));
                told.len() - 1
            });
            kept.places.insert(id, at);
        }
        kept
    }

    fn ask(&mut self) {
        let Ok(sample) = sample(&self.ids, MOMENT) else {
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
