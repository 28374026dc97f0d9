//! SIGHUP: what may change in a running daemon does, and what else differs is said.

use std::thread;

use crossbeam_channel::{bounded, never};

use super::{Daemon, service};
use crate::config::{self, Config};

impl Daemon {
    /// Has the configuration read anew, by a thread aside: its files take what time they like. A newer signal
    /// counts.
    pub(super) fn reload(&mut self) {
        service::reloading();
        let (read, given) = bounded(1);
        let (run, json) = (self.config.given.clone(), self.config.json);
        let thread = thread::Builder::new().name("hedgerow-config".into());
        let begun = thread.spawn(move || drop(read.send(Config::load(&run, json))));
        match begun {
            Ok(_) => self.fresh = given,
            Err(why) => self.reloaded(Err(why.into())),
        }
    }

    /// Takes over what may change in a running daemon, and says what else differs.
    pub(super) fn reloaded(&mut self, read: anyhow::Result<Config>) {
        self.fresh = never();
        let said = match read.and_then(|fresh| self.take_over(&fresh)) {
            Ok(said) => said,
            Err(why) => format!("the configuration is wrong, a restart would fail: {why:#}"),
        };
        self.reporter.warn(&format!("SIGHUP: {said}"));
        if self.is_ready() {
            service::ready();
        }
    }

    /// A budget that is too small may still end the start.
    pub(super) fn is_ready(&self) -> bool {
        self.governor.as_ref().is_none_or(|governor| !governor.is_starting())
    }

    /// The budgets of alerts and CPU hold from now on, as they would after a restart. Whatever else is read was opened,
    /// sized or ordered at the start.
    fn take_over(&mut self, fresh: &Config) -> anyhow::Result<String> {
        let mut keys = config::changed(&self.config, fresh)?;
        let mut said: Vec<String> = fresh.warnings().collect();
        if let Some(at) = keys.iter().position(|key| key == "budget") {
            keys.remove(at);
            self.config.budget_per_day = fresh.budget_per_day;
            self.engine.set_budget(fresh.budget_per_day);
            said.push(format!("from now on at most {} alerts a day", fresh.budget_per_day));
        }
        if let Some(at) = keys.iter().position(|key| key == "governor")
            && let Some(governor) = &mut self.governor
            && let Some(cores) = fresh.governor.cpu.filter(|_| self.config.governor.cpu.is_some())
            && fresh.governor.memory == self.config.governor.memory
        {
            keys.remove(at);
            match governor.set_cores(cores) {
                Ok(set) => {
                    self.config.governor = fresh.governor;
                    said.push(set);
                }
                Err(why) => said.push(why.to_string()),
            }
        }
        if !keys.is_empty() {
            said.push(format!("restart to change {}", keys.join(", ")));
        }
        Ok(match said.is_empty() {
            true => "the configuration is as it was".to_owned(),
            false => said.join("; "),
        })
    }
}
