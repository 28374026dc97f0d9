//! The cost governor: what Hedgerow may cost is held by not looking at what matters least, and that is said.
//!
//! While it starts all that can be shed is, for three windows and up to six where much else is to be done: what
//! that costs can't be shed, and a smaller budget is refused where a host is learned anew. Whoever makes load or
//! has tables grow keeps no daemon from starting that has a model: it is told, and goes on. No decision waits for
//! it: it looks once a window, when all was judged.

mod budget;
mod memory;
mod meter;
mod room;

use std::sync::Arc;

use hedgerow_detect::Phase;
use hedgerow_probe::Shed;

use self::{
    budget::{Budget, Change},
    meter::{Cost, Meter},
    room::Room,
};
use super::{Daemon, service};
use crate::{
    config, control,
    exit::Failure,
    levers::{self, LEVERS},
    metrics::Board,
    text::percent,
};

/// Windows that the start takes at least, the first of which counts for nothing, and at most: it reads what
/// runs already, which may take its time.
const STARTS: u32 = 3;
const STARTS_MAX: u32 = 6;

/// What holds the budgets.
#[derive(Debug)]
pub struct Governor {
    budget: Option<Budget>,
    room: Option<Room>,
    meter: Meter,
    /// Windows of the start that closed; `None` once it is over.
    started: Option<u32>,
    /// A budget that is too small ends the start.
    refuses: bool,
    /// The least that a window cost: what can't be shed is no more.
    floor: f64,
    /// Levers that were shed in some part of the window that closes next.
    in_force: usize,
    /// Of the last window.
    cost: Cost,
    sheds: u64,
}

/// What an operator should hear.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Warning(String),
    /// Nothing is wrong.
    Note(String),
}

/// What is shed while a start is measured.
pub fn all_shed() -> Shed {
    levers::shed(LEVERS.len())
}

impl Governor {
    /// Everything is shed until the start is over; `None` where nothing is to be held. A budget that is too
    /// small is refused where the host `is_new` to it, else told.
    pub fn new(budgets: config::Governor, board: Arc<Board>, is_new: bool) -> Option<Self> {
        budgets.is_there().then(|| Self {
            budget: budgets.cpu.map(Budget::new),
            room: budgets.memory.map(Room::new),
            meter: Meter::new(board),
            started: Some(0),
            refuses: is_new,
            floor: f64::INFINITY,
            in_force: LEVERS.len(),
            cost: Cost::default(),
            sheds: 0,
        })
    }

    fn level(&self) -> usize {
        match &self.budget {
            _ if self.started.is_some() => LEVERS.len(),
            Some(budget) => budget.level(),
            None => 0,
        }
    }

    /// What can't be shed is still measured.
    pub fn is_starting(&self) -> bool {
        self.started.is_some()
    }

    /// Files in use are not told in some part of the window that closes.
    pub fn sheds_used(&self) -> bool {
        levers::sheds_used(self.in_force)
    }

    /// Bytes are not summed up in some part of it.
    pub fn sheds_usage(&self) -> bool {
        levers::sheds_usage(self.in_force)
    }

    pub fn told(&self) -> control::Cost {
        control::Cost {
            budget: self.budget.as_ref().map(Budget::cores),
            minute: self.budget.as_ref().map(Budget::minute),
            own: self.cost.own,
            bpf: self.cost.bpf,
            memory_budget: self.room.as_ref().map(Room::bytes),
            memory: self.room.as_ref().map(Room::held),
            shed: LEVERS[..self.level()].iter().map(|lever| lever.name.to_owned()).collect(),
            sheds: self.sheds,
        }
    }

    /// A window of the start has closed; what is to be said once it is over.
    ///
    /// # Errors
    /// A budget is less than what can't be shed.
    fn start(&mut self, closed: u32) -> Result<Vec<Said>, Failure> {
        if closed > 1 {
            self.floor = self.floor.min(self.cost.cores());
        }
        let fits = self.budget.as_ref().is_none_or(|budget| self.floor <= budget.cores());
        if closed < if fits { STARTS } else { STARTS_MAX } {
            self.started = Some(closed);
            return Ok(Vec::new());
        }
        self.started = None;
        let mut said = Vec::new();
        if let Some(budget) = &mut self.budget {
            let (cores, floor) = (percent(budget.cores()), percent(self.floor));
            match fits {
                true => {}
                false if self.refuses => return Err(too_small(budget.cores(), self.floor)),
                false => {
                    said.push(Said::Warning(too_small(budget.cores(), self.floor).to_string()));
                    budget.shed_all();
                }
            }
            let whose = match self.meter.is_told() {
                true => "",
                false => ", by our own threads: this kernel doesn't tell what BPF programs cost",
            };
            let held = format!("{cores} of a core may be used{whose}; {floor} can't be shed");
            said.push(Said::Note(held));
        }
        if let Some(room) = &mut self.room {
            said.push(room.start(self.refuses)?);
        }
        Ok(said)
    }

    /// Another budget of CPU.
    ///
    /// # Errors
    /// It is less than what can't be shed.
    pub fn set_cores(&mut self, cores: f64) -> Result<String, Failure> {
        if self.started.is_none() && cores < self.floor {
            return Err(too_small(cores, self.floor));
        }
        // What a start that isn't over costs is told then: nobody loses a daemon by a signal.
        self.refuses = false;
        self.budget.iter_mut().for_each(|budget| budget.set_cores(cores));
        Ok(format!("from now on {} of a core may be used", percent(cores)))
    }

    /// Takes what a window cost, while the host is learned or not; what is to be said.
    fn step(&mut self, learns: bool) -> Option<Said> {
        self.floor = self.floor.min(self.cost.cores());
        let budget = self.budget.as_mut()?;
        // Of a window that isn't whole nothing would be learned: whoever makes load would have the host learn never.
        budget.set_most(if learns { levers::WHOLE } else { LEVERS.len() });
        let change = budget.step(self.cost)?;
        let (minute, cores) = (percent(budget.minute()), percent(budget.cores()));
        Some(match change {
            Change::Shed(levers) => {
                self.sheds += levers.len() as u64;
                let unseen: Vec<_> = LEVERS[levers].iter().map(|lever| lever.unseen).collect();
                Said::Warning(format!(
                    "{} of a core in the last window, {minute} in the last minute, of {cores} that may be used; no \
                     longer seen: {}",
                    percent(self.cost.cores()),
                    unseen.join("; ")
                ))
            }
            Change::Seen(lever) => Said::Note(format!(
                "{minute} of a core in the last minute, of {cores} that may be used; seen again: {}",
                LEVERS[lever].unseen
            )),
            Change::Unable => Said::Warning(format!(
                "{minute} of a core in the last minute, of {cores} that may be used, with all shed that can be: what \
                 is left are processes, connections, counts of calls, and what a denial may rest on"
            )),
            Change::Able => {
                Said::Note(format!("{minute} of a core in the last minute: within {cores} again"))
            }
        })
    }
}

fn too_small(cores: f64, floor: f64) -> Failure {
    Failure::Usage(format!(
        "governor.cpu: {} of a core is less than the {} that Hedgerow costs here with all shed that can be",
        percent(cores),
        percent(floor)
    ))
}

impl Daemon {
    /// A window has closed and was judged: holds the budgets.
    pub(super) fn govern(&mut self) -> anyhow::Result<()> {
        let Some(governor) = &mut self.governor else { return Ok(()) };
        let before = governor.level();
        governor.cost = governor.meter.read();
        let mut said = Vec::new();
        match governor.started {
            Some(closed) => {
                said.extend(governor.start(closed + 1)?);
                if governor.started.is_none() {
                    service::ready();
                }
            }
            None => said.extend(governor.step(self.engine.phase() != Phase::Scoring)),
        }
        let level = governor.level();
        governor.in_force = before.max(level);
        if level != before {
            let shed = levers::shed(level);
            self.sensor.shed(Shed { used: shed.used || self.config.aggregate, ..shed });
            self.recorder.pause(levers::sheds_recorder(level));
        }
        if let Some(room) = governor.room.as_mut().filter(|_| governor.started.is_none()) {
            said.extend(room.hold(&mut self.recorder));
        }
        for said in said {
            match said {
                Said::Warning(said) => self.reporter.warn(&format!("cost: {said}")),
                Said::Note(said) => self.reporter.note(&format!("Cost: {said}.")),
            }
        }
        Ok(())
    }
}
