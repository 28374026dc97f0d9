//! `hedgerow doctor`: what this kernel can do, found out by loading tiny probes.

use std::path::Path;

use hedgerow_probe::support;

use super::steer;
use crate::{
    control::{GetModes, call, socket},
    exit::Failure,
    text,
};

pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    let report = support::report();
    // No daemon, nothing to say of one.
    let modes = call(&socket(state), &GetModes {}).ok();
    if json {
        let mut told = serde_json::to_value(&report)?;
        if let (Some(told), Some(modes)) = (told.as_object_mut(), modes) {
            told.insert("daemon".to_owned(), serde_json::to_value(modes)?);
        }
        text::json(&told)?;
    } else {
        print(&report);
        if let Some(modes) = modes {
            text::out("");
            steer::print_modes("The running daemon's mode: ", &modes);
        }
    }
    if !report.is_usable() {
        support::require().map_err(Failure::host)?;
        return Err(Failure::Host("this host lacks something that Hedgerow needs".into()).into());
    }
    Ok(())
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
    text::out("\nWhat a rule can do here");
    for level in &report.levels {
        text::say(&format!("  {:<28} {:?} ({})", level.rule, level.level, level.by));
    }
}
