//! `make enforce-truth`: what refusing does to real services, and to attacks on them.
//!
//! Services are learned, then live under a daemon that may refuse: each is restarted, reloaded and
//! deployed to, administrators work, a job that is harmless looks like an intruder and is denied
//! wrongly, and every attack of the lab that needs the network is made. Only the lab's own workloads
//! are enforced in. [`Plan::make`] does that some times with `--enforce-provisional`, and once through
//! the real gate, with a week of coverage prepared.

mod life;
mod planted;
mod services;
mod table;
mod told;

use std::{path::Path, time::Duration};

pub use life::{Gate, Life, Tried};
pub use planted::Planted;
use services::Services;
pub use table::{document, text};

use crate::{Daemon, Lab, Line, copy_directory};

/// Beyond the time it learns, a daemon must be scoring within this.
const START_LIMIT: Duration = Duration::from_secs(240);

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub hedgerow: &'a Path,
    /// Of a round: a third is learned.
    pub length: Duration,
    pub rounds: u32,
    pub tell: fn(&str),
}

impl Plan<'_> {
    /// Makes all rounds, and the one through the gate in the last one's lab. Who asks hears of each
    /// life as it ends, with those before.
    ///
    /// # Errors
    /// What the lab, the daemon, or who hears of it refuse.
    pub fn make(
        &self,
        mut lived: impl FnMut(&[Life]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Life>> {
        let mut lives = Vec::new();
        for round in 1..=self.rounds {
            (self.tell)(&format!("Round {round} of {}", self.rounds));
            let lab = Lab::up()?;
            let mut services = Services::start(&lab)?;
            let learned = lab.directory().join("learned");
            self.learn(&lab, &learned)?;
            let gates = if round == self.rounds { &Gate::ALL[..] } else { &Gate::ALL[..1] };
            for gate in gates {
                (self.tell)(&format!("Living with {}", gate.name()));
                let state = lab.directory().join(format!("state-{}", lives.len()));
                copy_directory(&learned, &state)?;
                lives.push(life::live(self, &lab, &mut services, &state, *gate)?);
                lived(&lives)?;
            }
        }
        Ok(lives)
    }

    fn learn(&self, lab: &Lab, state: &Path) -> anyhow::Result<()> {
        let learn = format!("{}s", self.length.as_secs() / 3);
        (self.tell)(&format!("Learning for {learn}"));
        let state = state.display().to_string();
        let log = lab.directory().join("learning.log");
        let daemon = Daemon::start(self.hedgerow, &["--learn", &learn, "--state", &state], &log)?;
        let limit = self.length + START_LIMIT;
        daemon.wait_for("end of learning", limit, is_scoring)?;
        daemon.interrupt()?;
        Ok(())
    }
}

fn is_scoring(line: &Line) -> bool {
    matches!(line, Line::Status(status) if status["phase"] == "scoring")
}
