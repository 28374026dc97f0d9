//! Models, and engines that start with them.

use super::*;
use crate::surprise::floors::ClassPromise;

#[test]
fn a_saved_model_judges_alike() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let mut again = restarted(&engine);
    let file = engine.save().unwrap().unwrap();
    engine.saved_as(&file).unwrap();
    assert_eq!(again.model_id(), engine.model_id());
    assert!(engine.learned_ns().is_some());
    assert_eq!(again.learned_ns(), engine.learned_ns());
    let judge = |engine: &mut Engine, host: &mut Host| {
        host.live(engine);
        engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
        findings(host.close(engine)).remove(0).0
    };
    let mut twin = Host { epoch: host.epoch, rng: host.rng };
    let found = judge(&mut engine, &mut host);
    assert_eq!(found, judge(&mut again, &mut twin));
    let seed = found.model_seed.unwrap();
    assert_eq!(seed, again.model_seed());
    assert_eq!(seed, format!("{:016x}", engine.settings.forest_seed()), "the forest's");
    assert_ne!(seed, format!("{:016x}", engine.seed()), "the key is not told");
}

/// What is accepted of a program that has run since before a restart is bound to the file that it runs from: a
/// file that is put in its place is excused nothing, be it one that can't be read.
#[test]
fn what_is_accepted_after_a_restart_is_excused_of_the_same_file_only() {
    let exec = |host: &Host, digest: Option<u8>, replaced: bool| {
        let mut event = host.exec("/bin/bash", 200, "/usr/sbin/web");
        if let Origin::Exec(exec) = &mut event.origin {
            exec.digest = digest.map(|byte| hedgerow_event::Digest([byte; 32]));
            (exec.replaced, exec.provenance) = (replaced, hedgerow_event::Provenance::Unknown);
        }
        event
    };
    for (digest, replaced, excused) in
        [(Some(1), false, true), (Some(2), true, false), (None, true, false)]
    {
        let mut host = Host::new();
        let mut engine = host.learn(60);
        host.live(&mut engine);
        engine.observe(&exec(&host, Some(1), false));
        engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
        let (finding, _) = findings(host.close(&mut engine)).remove(0);
        let mut again = restarted(&engine);
        let bash = |object: &&Object| object.subject().program.path == "/bin/bash".into();
        let subject = finding.objects.iter().find(bash).unwrap().subject();
        assert_eq!(again.file_of(subject), Some(hedgerow_event::Digest([1; 32])));
        again.accept(&finding);
        assert!(finding.objects.iter().all(|object| again.knows(object)));
        let (workload, path) = (subject.workload.to_string(), subject.program.path.to_string());
        let mut learned = crate::file::ProgramProfile::empty(String::new(), workload, path);
        learned.digest = Some([1; 32]);
        Arc::make_mut(again.profile.as_mut().unwrap()).programs.push(learned);
        again.observe(&exec(&host, digest, replaced));
        assert_eq!(finding.objects.iter().all(|object| again.knows(object)), excused, "{digest:?}");
        // What can't be read isn't taken for the one that was learned, over a restart neither.
        let runs = digest.map(|byte| hedgerow_event::Digest([byte; 32]));
        assert_eq!([again.file_of(subject), restarted(&again).file_of(subject)], [runs; 2]);
    }
}

#[test]
fn a_model_of_another_architecture_is_refused_by_name() {
    let engine = Host::new().learn(60);
    let mut file = engine.save().unwrap().unwrap();
    let other = crate::file::ProgramProfile::empty("riscv64".into(), "w".into(), "/bin/x".into());
    Arc::make_mut(&mut file.profile).programs.push(other);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    file.save(&path).unwrap();
    let why = SavedModel::load(&path).unwrap_err().to_string();
    assert!(why.contains("was learned on riscv64"), "{why}");
}

#[test]
fn the_budget_asked_today_holds_with_a_saved_model() {
    let mut host = Host::new();
    let engine = host.learn(60);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let ask = |per_day: f64| {
        let settings = Settings { budget_per_day: per_day, ..settings(60) };
        Engine::scoring(settings, SavedModel::load(&path).unwrap()).unwrap().promise()
    };
    let (strict, loose) = (ask(0.1), ask(100.0));
    assert_eq!((strict.asked_per_day, loose.asked_per_day), (0.1, 100.0));
    assert!(strict.expected_per_day <= 0.1 && loose.expected_per_day <= 100.0);
    for (strict, loose) in strict.classes.iter().zip(&loose.classes) {
        let floor = |of: &ClassPromise| of.floor.unwrap_or(f64::INFINITY);
        assert!(floor(strict) > floor(loose), "{strict:?} {loose:?}");
    }
}

/// The budget is saved with the episode that it let alert; another one after the restart is not it.
#[test]
fn what_is_found_soon_after_a_restart_is_not_taken_for_what_was_found_before() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
    assert_eq!(findings(host.close(&mut engine)).len(), 1);
    let mut again = restarted(&engine);
    host.live(&mut again);
    again.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    again.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    // In its first epoch, which has told it no wall time yet.
    let boot_ns = u64::from(host.epoch) * 5_000_000_000 + 3;
    let row = host.row("/bin/bash", 200, &[(3, 20)]);
    let found = findings(again.look_early(boot_ns, |_| vec![row.clone()]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0.activity, Activity::Create);
    assert_eq!(found[0].0.time_ns, OFFSET_NS + boot_ns.cast_signed());
    assert!(found[0].0.window_start_ns > OFFSET_NS);
}

/// What the released version wrote is read: what it holds is kept, the rest is learned in service,
/// and nothing that is a first use only because nobody learned those is told.
#[test]
fn a_model_of_the_first_version_goes_on_scoring() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/learned-1.hedgerow");
    let saved = SavedModel::load(path.as_ref()).unwrap();
    let mut engine = Engine::scoring(settings(60), saved).unwrap();
    let left = engine.relearning_epochs();
    assert_eq!(left, 17_280, "a day");
    assert_eq!((engine.phase(), engine.state()), (Phase::Scoring, Maturity::Provisional));
    let mut host = Host { epoch: 1000, rng: 9 };
    for _ in 0..30 {
        host.live(&mut engine);
        assert_eq!(findings(host.close(&mut engine)), vec![]);
    }
    let mut exec = host.exec("/memfd:x", 200, "/usr/sbin/web");
    if let Origin::Exec(exec) = &mut exec.origin {
        exec.memory = true;
    }
    engine.observe(&exec);
    let found = findings(host.close(&mut engine));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.disposition.is_alert());
    // Saved again it is of this version.
    let next = restarted(&engine);
    assert_eq!(next.relearning_epochs(), left - 31, "its day is not over");
}

#[test]
fn a_corrupt_model_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    std::fs::write(&path, b"not a model").unwrap();
    let why = SavedModel::load(&path).unwrap_err();
    assert!(why.to_string().contains("m.hedgerow"), "{why}");
}

/// What a finding tells of the model that judged it is the same wherever that model is, and another of
/// another model.
#[test]
fn a_finding_tells_the_digest_of_the_model_as_it_was_saved_or_loaded() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    let digest_of = |engine: &mut Engine, host: &mut Host| {
        host.live(engine);
        engine.observe(&host.row("/usr/bin/worker", 101, &[(30, 5000)]));
        findings(host.close(engine)).remove(0).0.model_digest
    };
    let twin = || Host { epoch: host.epoch, rng: host.rng };
    let file = engine.save().unwrap().unwrap();
    let (mut one, mut other) = (restarted(&engine), restarted(&engine));
    let loaded = digest_of(&mut one, &mut twin()).unwrap();
    assert_eq!(digest_of(&mut other, &mut twin()), Some(loaded));
    assert_eq!(engine.model_digest, None, "it was never in a file");
    engine.saved_as(&file).unwrap();
    assert_eq!(digest_of(&mut engine, &mut twin()), Some(loaded));
    // It keeps its name, and has learned more.
    let later = restarted(&engine);
    assert_eq!(later.model_id(), one.model_id());
    assert!(later.model_digest.is_some() && later.model_digest != Some(loaded));
}
