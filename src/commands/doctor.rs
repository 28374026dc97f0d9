//! `hedgerow doctor`: what this kernel can do, found out by loading tiny probes.

use hedgerow_probe::support;

use crate::exit::Failure;

pub fn run(json: bool) -> anyhow::Result<()> {
    let report = support::report();
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
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
