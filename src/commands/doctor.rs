//! `hedgerow doctor`: what this kernel can do, found out by loading tiny probes.

mod pod;

use std::path::Path;

use hedgerow_event::Level;
use hedgerow_probe::support::{
    self,
    capabilities::{CAPABILITIES, Row},
};
use hedgerow_responder::hooks::{Hooks, Key, Verb, level_name};
use serde::Serialize;

use super::steer;
use crate::{
    control::{GetModes, Modes, Probe, call, socket},
    exit::Failure,
    text,
};

pub fn run(state: &Path, config: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let told = Told::of(state, config);
    match json {
        true => text::json(&told)?,
        false => told.print(),
    }
    if !told.report.is_usable() {
        support::require().map_err(Failure::host)?;
        return Err(Failure::Host("this host lacks something that Hedgerow needs".into()).into());
    }
    Ok(())
}

/// What this kernel can do, and how far the running daemon may go.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(flatten)]
    report: support::Report,
    /// What a daemon holds, until when, and for what.
    capabilities: &'static [Row],
    response: Response,
    /// Of a pod, and of the API where it is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes: Vec<pod::Check>,
    /// No daemon, nothing to say of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<Modes>,
}

impl Told {
    pub fn of(state: &Path, config: Option<&Path>) -> Self {
        // Whether there is a daemon that would take the probes for a deed, and takes the word of who asks.
        let _ = call(&socket(state), &Probe {});
        Self {
            report: support::report(),
            capabilities: &CAPABILITIES,
            response: Response::new(hedgerow_responder::survey()),
            kubernetes: pod::checks(config),
            daemon: call(&socket(state), &GetModes {}).ok(),
        }
    }

    fn print(&self) {
        print(&self.report);
        self.response.print();
        pod::print(&self.kubernetes);
        if let Some(modes) = &self.daemon {
            text::out("");
            steer::print_modes("The running daemon's mode: ", modes);
        }
    }
}

fn print(report: &support::Report) {
    text::say(&format!("Kernel {} on {}", report.kernel, report.architecture));
    if !report.missing_capabilities.is_empty() {
        text::say(&format!("Missing capabilities: {}", report.missing_capabilities.join(", ")));
    }
    text::say(&format!("BTF: {}", if report.btf { "yes" } else { "no" }));
    let place = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or("not mounted".to_owned(), |path| path.display().to_string())
    };
    text::say(&format!("cgroup v2: {}", place(&report.cgroup_root)));
    text::say(&format!("BPF file system: {}", place(&report.bpffs)));
    text::out("\nCapabilities of a daemon (docs/security.md)");
    for row in &CAPABILITIES {
        let (name, held) = (row.capability.to_string(), row.held.words());
        text::say(&format!("  {name:<20} {held:<28} {}", row.purpose));
    }
    text::out("\nFeatures");
    for feature in &report.features {
        let mark = if feature.available { "yes" } else { "no " };
        text::say(&format!("  {mark} {:<28} {}", feature.name, feature.purpose));
        if let Some(refusal) = &feature.refusal {
            text::say(&format!("      refused: {refusal}"));
        }
        if let Some(hint) = feature.hint.filter(|_| !feature.available) {
            text::say(&format!("      {hint}"));
        }
    }
}

/// What entries can do here, by the table of hooks.
#[derive(Debug, Serialize)]
struct Response {
    rules: Vec<Rule>,
    /// Hooks that are not here.
    missing: Vec<hedgerow_responder::hooks::Missing>,
    /// Nothing at all can be refused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

/// What is refused to one key.
#[derive(Debug, Clone, Serialize)]
struct Rule {
    key: Key,
    level: Level,
    /// Verb by verb; `Counts`: let through.
    verbs: Vec<(Verb, Level)>,
    /// The hooks that hold it.
    by: Vec<&'static str>,
}

impl Response {
    fn new(survey: Result<Hooks, hedgerow_responder::Error>) -> Self {
        let (hooks, refusal) = match survey {
            Ok(hooks) => (hooks, None),
            Err(error) => (Hooks::default(), Some(error.to_string())),
        };
        let rule = |key| Rule {
            key,
            level: hooks.told(key),
            verbs: Verb::ALL.map(|verb| (verb, hooks.level(key, verb))).to_vec(),
            by: hooks.of(key).map(|hook| hook.hook).collect(),
        };
        Self { rules: Key::ALL.map(rule).to_vec(), missing: hooks.missing().to_vec(), refusal }
    }

    fn print(&self) {
        text::out("\nWhat a denial can do here (docs/enforcement.md)");
        if let Some(refusal) = &self.refusal {
            text::say(&format!("  nothing: {refusal}"));
            return;
        }
        for rule in &self.rules {
            text::say(&format!("  {}: {}", rule.key, level_name(rule.level)));
            for (verb, level) in &rule.verbs {
                text::say(&format!("      {:<34} {}", verb.name(), level_name(*level)));
            }
        }
        for missing in &self.missing {
            text::say(&format!("  not here: {}, {}", missing.hook, missing.why));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_that_refuses_everything_says_why_and_promises_nothing() {
        let told = Response::new(Err(hedgerow_responder::Error::NoCgroup));
        assert_eq!(told.rules.len(), Key::ALL.len());
        for rule in &told.rules {
            assert!(rule.level == Level::Counts && rule.by.is_empty(), "{rule:?}");
            assert!(rule.verbs.iter().all(|(_, level)| *level == Level::Counts), "{rule:?}");
        }
        let json = serde_json::to_value(&told).unwrap();
        assert!(json["refusal"].as_str().unwrap().contains("cgroup"), "{json}");
    }
}
