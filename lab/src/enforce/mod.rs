//! `make enforce-truth`: what refusing does to real services, and to attacks on them.
//!
//! Services are learned, then live under a daemon that may refuse: each is restarted, reloaded and
//! deployed to, administrators work, a job that is harmless looks like an intruder and is denied
//! wrongly, and every attack of the lab that needs the network is made. Only the lab's own workloads
//! are enforced in. [`Plan::make`] does that some times with `--enforce-provisional`, and once through
//! the real gate, with a week that is made of minutes of the same services (`week.rs`).

mod life;
mod planted;
mod services;
mod table;
mod told;
mod week;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{Daemon, Lab, Line, copy_directory, process::run};
pub use life::{Gate, Life, Tried};
pub use planted::Planted;
use services::Services;
pub use table::{document, text};
pub use week::Learned;

/// Beyond the time it learns, a daemon must be scoring within this.
const START_LIMIT: Duration = Duration::from_secs(240);
/// A week is made of so much, and of less where a round's third is less.
const RECORDED_MAX: Duration = Duration::from_secs(300);

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub hedgerow: &'a Path,
    /// Of a round: a third is learned.
    pub length: Duration,
    /// With `--enforce-provisional`; one through the real gate follows.
    pub rounds: u32,
    pub tell: fn(&str),
}

impl Plan<'_> {
    /// Makes all rounds, each in a lab of its own. Who asks hears of each life as it ends, with those
    /// before.
    ///
    /// # Errors
    /// What the lab, the daemon, or who hears of it refuse.
    pub fn make(
        &self,
        mut lived: impl FnMut(&[Life]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Life>> {
        let mut lives = Vec::new();
        for round in 0..=self.rounds {
            let gate = if round < self.rounds { Gate::Provisional } else { Gate::Real };
            (self.tell)(&format!("Round {} of {}: {}", round + 1, self.rounds + 1, gate.name()));
            let lab = Lab::up()?;
            let mut services = Services::start(&lab)?;
            let state = lab.directory().join("state");
            let week = match gate {
                Gate::Provisional => {
                    self.learn(&lab, &state, self.length / 3, &[], || Ok(()))?;
                    None
                }
                Gate::Real => Some(self.prepare(&lab, &state)?),
            };
            lives.push(life::live(self, &lab, &mut services, &state, week)?);
            lived(&lives)?;
        }
        Ok(lives)
    }

    /// Has a daemon learn; tells what came of what is done from its first epoch on.
    fn learn<T>(
        &self,
        lab: &Lab,
        state: &Path,
        length: Duration,
        more: &[&str],
        meanwhile: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let learn = format!("{}s", length.as_secs());
        (self.tell)(&format!("Learning for {learn}"));
        let state = state.display().to_string();
        let log = lab.directory().join("learning.log");
        let mut options = vec!["--learn", &learn, "--state", &state];
        options.extend(more);
        let daemon = Daemon::start(self.hedgerow, &options, &log)?;
        let is_status = |line: &Line| matches!(line, Line::Status(_));
        daemon.wait_for("begin of learning", START_LIMIT, is_status)?;
        let done = meanwhile()?;
        daemon.wait_for("end of learning", length * 3 + START_LIMIT, is_scoring)?;
        daemon.interrupt()?;
        Ok(done)
    }

    /// A state whose model was learned from a week, and whose hours of it were all watched.
    fn prepare(&self, lab: &Lab, state: &Path) -> anyhow::Result<Learned> {
        let [recorded, capture, week] =
            ["recorded", "capture", "week"].map(|name| lab.directory().join(name));
        let length = RECORDED_MAX.min(self.length / 3);
        let into = capture.display().to_string();
        let rest = || Services::rest(lab, length);
        let quiet = self.learn(lab, &recorded, length, &["--capture", &into], rest)?;
        (self.tell)("Making a week of that");
        let begun = Instant::now();
        copy_directory(&recorded, state)?;
        let coverage = week::write(&capture, &quiet, &week)?;
        let orders = state.join("responder.json");
        let read = fs::read(&orders).with_context(|| orders.display().to_string())?;
        let mut standing: serde_json::Value = serde_json::from_slice(&read)?;
        standing["coverage"] = serde_json::to_value(coverage)?;
        fs::write(&orders, serde_json::to_vec(&standing)?)?;
        (self.tell)("Learning from the week");
        let report: PathBuf = lab.directory().join("week.html");
        let mut train = Command::new(self.hedgerow);
        train.arg("train").arg(&week).arg("--model").arg(state.join("model.hedgerow"));
        train.arg("--report").arg(&report);
        run(train)?;
        let learned = Learned::read(&report.with_extension("json"), begun.elapsed(), length)?;
        fs::remove_dir_all(&week).with_context(|| week.display().to_string())?;
        (self.tell)(&learned.to_string());
        Ok(learned)
    }
}

fn is_scoring(line: &Line) -> bool {
    matches!(line, Line::Status(status) if status["phase"] == "scoring")
}
