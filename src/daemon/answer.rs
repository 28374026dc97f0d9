//! What the daemon answers to commands.

use hedgerow_event::{Action, Finding, Mode, Target, Workload};
use hedgerow_responder::now;
use serde_json::{Value, json};

use super::{Daemon, FINDINGS, status};
use crate::control::{Reply, Request};

/// The workload name under which the default mode is set.
const EVERY_WORKLOAD: &str = "*";

impl Daemon {
    pub(super) fn answer(&mut self, request: &Request) -> Reply {
        match request {
            Request::Status => Ok(status::status(&self.engine, &self.sensor, &self.actor)),
            Request::Entries => Ok(self.entries()),
            Request::Deny { address, prefix_length, seconds } => {
                let target = peer(*address, *prefix_length);
                let done = self.actor.deny(target, *seconds, &mut self.reporter)?;
                to_value(&done)
            }
            Request::Remove { uid } => to_value(&self.actor.remove(uid, &mut self.reporter)?),
            Request::Allow { address, prefix_length } => {
                let responder = self.actor.responder.as_mut();
                let responder = responder.ok_or("the deny hooks are not loaded")?;
                let target = peer(*address, *prefix_length);
                responder.allow(target, true).map_err(|why| why.to_string())?;
                Ok(json!({ "allowed": format!("{address}/{prefix_length}") }))
            }
            Request::Modes => Ok(json!({ "mode": self.config.mode })),
            Request::SetMode { mode, workload } => self.set_mode(*mode, workload.as_deref()),
            Request::Accept { uid } => self.accept(uid),
        }
    }

    fn entries(&self) -> Value {
        let Some(responder) = &self.actor.responder else { return json!([]) };
        let entries = responder.entries();
        let remediations: Vec<_> = entries
            .iter()
            .map(|entry| entry.remediation(Action::Block, "", now(), &entry.reason))
            .collect();
        json!(remediations)
    }

    fn set_mode(&mut self, mode: Mode, workload: Option<&str>) -> Reply {
        let Some(responder) = &mut self.actor.responder else {
            return Err("the deny hooks are not loaded".to_owned());
        };
        responder.arm().map_err(|why| why.to_string())?;
        match workload {
            Some(name) => {
                responder.set_mode(Workload::new(name), mode).map_err(|why| why.to_string())?;
            }
            None => {
                responder.set_default_mode(mode).map_err(|why| why.to_string())?;
                self.config.mode = mode;
            }
        }
        Ok(json!({ "mode": mode, "workload": workload.unwrap_or(EVERY_WORKLOAD) }))
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
