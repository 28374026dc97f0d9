//! `hedgerow doctor`: what this kernel can do, found out by loading tiny probes.

use std::path::Path;

use hedgerow_probe::support;

use super::steer;
use crate::{
    control::{Request, call, socket},
    exit::Failure,
};

pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    let report = support::report();
    // No daemon, nothing to say of one.
    let modes = call(&socket(state), &Request::Modes).ok();
    if json {
        let mut told = serde_json::to_value(&report)?;
        if let (Some(told), Some(modes)) = (told.as_object_mut(), modes) {
            told.insert("daemon".to_owned(), modes);
        }
        println!("{told}");
    } else {
        print(&report);
        if let Some(modes) = modes {
            print!("\nThe running daemon's mode: ");
            steer::modes(&serde_json::from_value(modes)?);
        }
    }
    if !report.is_usable() {
        support::require().map_err(Failure::host)?;
        return Err(Failure::Host("this host lacks something that Hedgerow needs".into()).into());
    }
    Ok(())
}

fn print(report: &support::Report) {
    println!("Kernel {} on {}", report.kernel, report.architecture);
    if !report.missing_capabilities.is_empty() {
        println!("Missing capabilities: {}", report.missing_capabilities.join(", "));
    }
    println!("BTF: {}", if report.btf { "yes" } else { "no" });
    let place = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or("not mounted".to_owned(), |path| path.display().to_string())
    };
    println!("cgroup v2: {}", place(&report.cgroup_root));
    println!("BPF file system: {}", place(&report.bpffs));
    println!("\nFeatures");
    for feature in &report.features {
        let mark = if feature.available { "yes" } else { "no " };
        println!("  {mark} {:<28} {}", feature.name, feature.purpose);
        if let Some(refusal) = &feature.refusal {
            println!("      refused: {refusal}");
        }
        if let Some(hint) = feature.hint.filter(|_| !feature.available) {
            println!("      {hint}");
        }
    }
    println!("\nWhat a rule can do here");
    for level in &report.levels {
        println!("  {:<28} {:?} ({})", level.rule, level.level, level.by);
    }
}
