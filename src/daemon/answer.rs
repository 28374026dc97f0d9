//! What the daemon answers to commands.

use hedgerow_event::{Action, Finding, Mode, Target, Workload};
use hedgerow_responder::{Responder, now, policy};
use serde_json::{Value, json};

use super::{Daemon, FINDINGS, status};
use crate::control::{Reply, Request};

impl Daemon {
    pub(super) fn answer(&mut self, request: &Request) -> Reply {
        let reply = match request {
            Request::Status => {
                Ok(status::status(&self.engine, &self.sensor, &self.actor, self.reporter.outlets()))
            }
            Request::Entries => Ok(self.entries()),
            Request::Deny { address, prefix_length, seconds, force } => {
                let target = peer(*address, *prefix_length);
                let done = self.actor.deny(target, *seconds, *force, &mut self.reporter);
                done.and_then(|done| to_value(&done))
            }
            Request::Remove { uid, wrong } => self.remove(uid, *wrong),
            Request::Allow { address, prefix_length } => self.allow(*address, *prefix_length),
            Request::Modes => self.modes(),
            Request::SetMode { mode, workload } => {
                let workload = workload.as_deref().map(Workload::new);
                let done = self.actor.set_mode(workload, *mode, &mut self.reporter);
                done.and_then(|()| self.modes())
            }
            Request::Accept { uid } => self.accept(uid),
        };
        self.raise();
        reply
    }

    fn responder(&self) -> Result<&Responder, String> {
        self.actor.responder.as_ref().ok_or_else(|| "the deny hooks are not loaded".to_owned())
    }

    fn entries(&self) -> Value {
        let Ok(responder) = self.responder() else { return json!({ "live": [], "held": [] }) };
        let now = now();
        let live: Vec<_> = responder
            .entries()
            .iter()
            .map(|entry| entry.remediation(Action::Block, "", now, &entry.reason))
            .collect();
        json!({ "live": live, "held": responder.holds() })
    }

    fn remove(&mut self, uid: &str, wrong: bool) -> Reply {
        if !wrong {
            let done = self.actor.remove(uid, &mut self.reporter)?;
            return Ok(json!({ "lifted": done, "withdrawn": done.is_none() }));
        }
        let wronged = self.actor.wrong(uid, &mut self.reporter)?;
        Ok(json!({
            "lifted": wronged.reports.first(),
            "workload": wronged.workload,
            "mode": wronged.mode,
            "wrong": wronged.counted,
            "budget": wronged.budget,
        }))
    }

    fn allow(&mut self, address: std::net::IpAddr, prefix_length: u8) -> Reply {
        let responder = self.actor.responder.as_mut().ok_or("the deny hooks are not loaded")?;
        let done = responder.allow(peer(address, prefix_length), true);
        done.map_err(|why| why.to_string())?;
        Ok(json!({ "allowed": format!("{address}/{prefix_length}") }))
    }

    /// What was ordered, what it comes to now, and what is missing for it.
    fn modes(&self) -> Reply {
        let responder = self.responder()?;
        let now = now();
        let coverage = responder.coverage();
        let mut workloads: Vec<&Workload> =
            coverage.workloads().chain(responder.modes().keys()).collect();
        workloads.sort();
        workloads.dedup();
        let workloads: Vec<Value> = workloads
            .into_iter()
            .map(|workload| {
                let state = self.engine.state_of_workload(workload);
                let covered = coverage.of(workload, now.wall_ns);
                let missing = policy::missing(state, covered);
                let mode = responder.mode(workload);
                let held = !self.config.enforce_provisional && !missing.is_empty();
                json!({
                    "workload": workload,
                    "mode": mode,
                    "own": responder.modes().contains_key(workload),
                    "in_force": if held { mode.min(Mode::Monitor) } else { mode },
                    "missing": missing,
                    "days": covered.days,
                    "hours": covered.hours,
                })
            })
            .collect();
        Ok(json!({
            "mode": responder.default_mode(),
            "armed": responder.is_armed().map_err(|why| why.to_string())?,
            "enforce_provisional": self.config.enforce_provisional,
            "halted": responder.halted(now).map(|why| why.to_string()),
            "tripped": responder.tripped(),
            "workloads": workloads,
        }))
    }

    fn accept(&mut self, uid: &str) -> Reply {
        let findings = crate::commands::findings::read(&self.config.state.join(FINDINGS))
            .map_err(|why| format!("{why:#}"))?;
        let found: Vec<&Finding> =
            findings.iter().filter(|finding| finding.uid.starts_with(uid)).collect();
        if found.is_empty() {
            return Err(format!("no finding's uid begins with {uid}"));
        }
        for finding in &found {
            self.engine.accept(finding);
        }
        self.save().map_err(|why| format!("{why:#}"))?;
        Ok(json!({ "accepted": found[0].uid, "objects": found[0].objects }))
    }
}

fn peer(address: std::net::IpAddr, prefix_length: u8) -> Target {
    Target::Peer { address, prefix_length, cgroup_id: 0, program_id: 0 }
}

fn to_value(value: &impl serde::Serialize) -> Reply {
    serde_json::to_value(value).map_err(|why| why.to_string())
}
