//! Models of some runs, merged, are the model of all of them, bit for bit.

#![allow(clippy::unwrap_used)]

mod life;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use hedgerow_detect::{SavedModel, file::ModelFile};
use hedgerow_event::{FlowPhase, Origin, Raw};
use hedgerow_features::Record;
use hedgerow_offline::{
    merge::merge,
    time::Span,
    train::{self, Train},
};
use life::{
    Life,
    common::{event, exec, outbound, subject},
    open,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// What a host does that no other one does: another program, now and then, and peers of its own.
fn own(at: u8) -> impl Fn(u32) -> Vec<Record> {
    move |epoch| {
        if !epoch.is_multiple_of(3) {
            return Vec::new();
        }
        let server = subject("web.service", "/usr/bin/web");
        let job = subject(
            "web.service",
            if at.is_multiple_of(2) { "/usr/bin/job" } else { "/usr/bin/sync" },
        );
        let tid = 2_000 + epoch;
        let flow =
            outbound(FlowPhase::Start, &format!("198.51.100.{at}"), 80, 300 * u64::from(epoch));
        let mut records: Vec<Record> =
            vec![event(&job, epoch, tid, Origin::Exec(Box::new(exec(Some(&server))))).into()];
        records.push(event(&job, epoch, tid, flow).into());
        // Who makes few calls is counted with others.
        for call in 0..100 {
            let raw = Raw {
                number: [0, 1, 3, 9][(call + call / 7) % 4],
                compat: false,
                uring: false,
                fresh: call == 0,
                streamed: false,
                result: 1,
            };
            records.push(event(&job, epoch, tid, Origin::Raw(raw)).into());
        }
        if epoch % 60 == 57 {
            // Somebody new, in each part of learning.
            let stranger = format!("203.0.113.{}", epoch % 250);
            let flow = outbound(FlowPhase::Start, &stranger, 4444, 9_000);
            records.push(event(&server, epoch, 400, flow).into());
        }
        records
    }
}

/// Runs of five hosts, one of them twice, one so short that no forest could be made of it.
fn fleet(home: &Path) -> Vec<PathBuf> {
    let runs = [
        ("a", 240, 1),
        ("b", 180, 1),
        ("b", 150, 900),
        ("c", 15, 1),
        ("d", 200, 40),
        ("e", 170, 7),
    ];
    let write = |(at, (host, epochs, first)): (usize, (&'static str, u32, u32))| {
        let path = home.join(format!("run{at}"));
        let life = Life { host, epochs, first, chance: at as u64 + 1, ..Life::default() };
        life.remains_with(&path, &own(at as u8)).finish().unwrap();
        path
    };
    runs.into_iter().enumerate().map(write).collect()
}

fn learned(runs: &[PathBuf]) -> ModelFile {
    let how = Train::default();
    train::train(open(runs).unwrap(), Span::ALL, &how, None, &mut |_| {}).unwrap().model
}

fn saved(model: &ModelFile, path: PathBuf) -> PathBuf {
    model.save(&path).unwrap();
    path
}

#[test]
fn models_of_some_runs_merged_are_the_model_of_all() {
    let home = tempfile::tempdir().unwrap();
    let runs = fleet(home.path());
    let pooled = learned(&runs).to_bytes().unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    for round in 0..5 {
        // Any runs together, each group learned from by itself; the short one never alone.
        let mut groups: Vec<Vec<PathBuf>> = vec![Vec::new(); 1 + round];
        let alone = groups.len() - 1;
        for (at, run) in runs.iter().enumerate() {
            let group = if at < groups.len() { at } else { rng.gen_range(0..groups.len()) };
            groups[if at == 3 { alone.min(1) } else { group }].push(run.clone());
        }
        groups.retain(|group| !group.is_empty());
        let made = |(at, group): (usize, &Vec<PathBuf>)| {
            saved(&learned(group), home.path().join(format!("model{round}.{at}")))
        };
        let mut models: Vec<PathBuf> = groups.iter().enumerate().map(made).collect();
        // In any order, and merged before they are merged.
        let turn = rng.gen_range(0..models.len());
        models.rotate_left(turn);
        if models.len() > 2 {
            let (file, told) = merge(&models[1..]).unwrap();
            assert_eq!(told.models, models.len() - 1);
            let rest = saved(&file, home.path().join(format!("rest{round}")));
            models = vec![rest, models[0].clone()];
        }
        let (file, told) = merge(&models).unwrap();
        assert_eq!((told.runs, told.hosts.len(), told.programs), (6, 5, 4));
        assert!(file.to_bytes().unwrap() == pooled, "round {round}: {groups:?}");
    }
}

#[test]
fn a_merged_model_knows_what_each_run_taught() {
    let home = tempfile::tempdir().unwrap();
    let runs = fleet(home.path());
    let model = |at: usize| saved(&learned(&runs[at..=at]), home.path().join(format!("model{at}")));
    let (file, told) = merge(&[model(0), model(1)]).unwrap();
    assert_eq!(told.hosts, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let windows =
        |file: &ModelFile| -> u64 { file.profile.programs.iter().map(|p| p.windows).sum() };
    let of = |at: usize| SavedModel::load(&home.path().join(format!("model{at}"))).unwrap();
    assert_eq!(windows(&file), windows(&of(0).file) + windows(&of(1).file));
    let merged = SavedModel::load(&saved(&file, home.path().join("merged"))).unwrap();
    assert_ne!(merged.model_id(), of(0).model_id());
    let measured = |saved: &SavedModel| saved.measured_programs(hedgerow_event::Scale::Seconds5);
    // Each of the two has a program that the other one lacks.
    assert_eq!(measured(&merged), measured(&of(0)) + 1);
}

#[test]
fn models_that_would_count_twice_or_have_another_key_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let model = |name: &str, life: &Life| {
        life.write(&at(name));
        saved(&learned(&[at(name)]), at(&format!("{name}.model")))
    };
    let one = model("one", &Life::default());
    let twice = model("twice", &Life { first: 60, chance: 9, ..Life::default() });
    let keyed = model("keyed", &Life { host: "b", seed: 8, ..Life::default() });
    let told = |models: &[PathBuf]| merge(models).unwrap_err().to_string();
    let error = told(&[one.clone(), twice]);
    assert!(error.contains("twice.model") && error.contains("host a"), "{error}");
    let error = told(&[one.clone(), one.clone()]);
    assert!(error.contains("count twice"), "{error}");
    let error = told(&[one.clone(), keyed]);
    assert!(error.contains("keyed.model") && error.contains("--key-file"), "{error}");
    let mut daemon = SavedModel::load(&one).unwrap().file;
    daemon.detach("hedgerow.parts");
    let error = told(&[saved(&daemon, at("daemon")), one]);
    assert!(error.contains("daemon: ") && error.contains("train it anew"), "{error}");
}
