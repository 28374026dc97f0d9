//! A capture that is given away: what is gone from it, and that it teaches the same.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use crate::life::common::{call, event, exec, flow, outbound, peer};
use crate::life::{Life, files, open};
use hedgerow_detect::{Outcome, WindowScore};
use hedgerow_event::{
    Digest, Finding, FlowDirection, FlowPhase, Object, Origin, Program, Scale, Subject, Workload,
};
use hedgerow_features::{Record, records_from_batch, records_schema_least};
use hedgerow_offline::{
    keys::HOST,
    score::{self, Score},
    share::{self, Owner, Pseudonyms},
    time::Span,
    train::{self, Train},
};
use hedgerow_sink::parquet::ParquetReader;

const EPOCHS: u32 = 400;
/// The last part, in which something else happens.
const ATTACK: u32 = 380;

/// Three programs of carol's: a shop in a workload of its own, a script, and her login; at last
/// somebody reads her key and sends it away.
fn carol(epoch: u32) -> Vec<Record> {
    let of = |workload: &str, path: &str, script: Option<&str>| {
        let program = Program { path: path.into(), script: script.map(Into::into) };
        Arc::new(Subject::new(Workload::new(workload), program))
    };
    let shop = of("payroll.service", "/opt/payroll/bin/payrolld", None);
    let job = of("payroll.service", "/usr/bin/python3", Some("/opt/payroll/nightly.py"));
    let shell = of("login:1000", "/bin/bash", None);
    let mut records: Vec<Record> = Vec::new();
    let mut say = |who: &Arc<Subject>, tid: u32, origin| {
        records.push(event(who, epoch, tid, origin).into());
    };
    for (who, tid) in [(&shop, 1200), (&job, 1600), (&shell, 2000)] {
        if epoch % 50 == 1 {
            let mut made = exec(None);
            made.path = who.program.path.clone();
            made.arguments = "payrolld --password hunter2".into();
            (made.uid_before, made.uid) = (1000, if tid == 1600 { 33 } else { 1000 });
            made.login_uid = if tid == 2000 { 1000 } else { u32::MAX };
            made.digest = Digest::parse(&"ab".repeat(32));
            made.parent = Some(Arc::clone(&shell)).filter(|shell| shell != who);
            say(who, tid, Origin::Exec(Box::new(made)));
        }
        let file = epoch % 7;
        for path in [
            format!("/home/carol/ledger/{file}/book"),
            "/etc/payroll/main.conf".to_owned(),
            format!("/proc/{}/stat", 300 + file),
            format!("/srv/cache/0{file}f/page.php"),
        ] {
            say(who, tid, call(libc::SYS_openat, 3, &path));
        }
    }
    let address = format!("203.0.113.{}", epoch % 5 + 1);
    say(&shop, 1200, outbound(FlowPhase::Start, &address, 5432, 700 + u64::from(epoch % 9)));
    let client = peer(&format!("10.2.3.{}", epoch % 4 + 1), 40_000);
    let inbound = flow(FlowPhase::Start, FlowDirection::Inbound, client, 300);
    say(&shop, 1200, Origin::Flow(Box::new(inbound)));
    if epoch >= ATTACK {
        say(&shop, 1200, call(libc::SYS_openat, 3, "/home/carol/.ssh/id_ed25519"));
        say(&shop, 1200, outbound(FlowPhase::Start, "198.51.100.66", 4444, 9_000_000));
        for number in 0..40 {
            let path = format!("/home/carol/secrets/{number}.key");
            say(&job, 1600, call(libc::SYS_openat, 3, &path));
        }
    }
    records
}

fn me() -> Owner {
    // SAFETY: they only read.
    unsafe { Owner { user: libc::geteuid(), group: libc::getegid() } }
}

fn shared(home: &Path, key: Option<[u8; 32]>) -> hedgerow_offline::Result<share::Shared> {
    let key = key.map(Pseudonyms::new);
    share::share(&home.join("capture"), &home.join("shared"), me(), key, &mut |_| {})
}

fn captured(home: &Path) {
    let life = Life { host: "carols-laptop", epochs: EPOCHS, ..Life::default() };
    life.remains_with(&home.join("capture"), &carol).finish().unwrap();
}

/// Learns from a capture's first part, and judges all of it.
fn judged(home: &Path, capture: &str) -> (Vec<WindowScore>, Vec<Finding>) {
    let capture = home.join(capture);
    let span = Span { from_ns: i64::MIN, to_ns: crate::life::wall_ns(ATTACK - 1) };
    let source = open(std::slice::from_ref(&capture)).unwrap();
    let trained = train::train(source, span, &Train::default(), None, &mut |_| {}).unwrap();
    let model = home.join("model");
    trained.model.save(&model).unwrap();
    let how = Score { model, ..Score::default() };
    let (mut scores, mut findings) = (Vec::new(), Vec::new());
    let mut tell = |_: &_, outcome| {
        match outcome {
            Outcome::Scored(score) => scores.push(score),
            Outcome::Finding(finding, _) => findings.push(*finding),
            _ => {}
        }
        Ok(true)
    };
    let run = open(&[capture]).unwrap().runs.remove(0);
    score::score(run, Span::ALL, &how, &mut tell, &mut |_| {}).unwrap();
    (scores, findings)
}

/// Bits of what was made of a window.
type Bits = (u64, Option<u64>, Vec<u32>);

/// By time and subject, whose names may differ.
fn numbers(
    scores: &[WindowScore],
    name: &dyn Fn(&Subject) -> Subject,
) -> BTreeMap<(Scale, u32, Subject), Bits> {
    let of = |score: &WindowScore| {
        let key = (score.scale, score.epoch, name(&score.subject));
        let row = score.row.iter().map(|value| value.to_bits()).collect();
        (key, (score.score.to_bits(), score.surprise.map(f64::to_bits), row))
    };
    scores.iter().map(of).collect()
}

#[test]
fn a_shared_capture_teaches_and_finds_the_same_under_other_names() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    captured(home);
    let told = shared(home, Some([9; 32])).unwrap();
    assert!(told.pseudonymised && told.damaged.is_empty(), "{told:?}");
    let (before, found_before) = judged(home, "capture");
    let (after, found_after) = judged(home, "shared");
    let names = Pseudonyms::new([9; 32]);
    let renamed = |subject: &Subject| {
        let path = names.path(&subject.program.path).into();
        let script = subject.program.script.as_deref().map(|script| names.path(script).into());
        Subject::new(
            Workload::new(names.workload(subject.workload.as_str())),
            Program { path, script },
        )
    };
    let (before, after) = (numbers(&before, &renamed), numbers(&after, &Subject::clone));
    assert!(before.len() > 1000);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "bit for bit");
    }
    let kinds = |findings: &[Finding]| -> Vec<(i64, String, u64)> {
        let kind = |object: &Object| object.deed().row().name.to_owned();
        let mut all: Vec<_> = findings
            .iter()
            .map(|finding| {
                let mut kinds: Vec<String> = finding.objects.iter().map(kind).collect();
                kinds.sort();
                (finding.time_ns, kinds.join(" "), finding.surprise.to_bits())
            })
            .collect();
        all.sort();
        all
    };
    assert!(!found_before.is_empty());
    assert_eq!(kinds(&found_before), kinds(&found_after));
}

#[test]
fn nothing_that_names_anybody_is_left_and_it_is_its_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    captured(home);
    shared(home, Some([9; 32])).unwrap();
    let all = files(&home.join("shared"));
    assert_eq!(all.len(), files(&home.join("capture")).len());
    for path in &all {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{path:?}");
        assert_eq!(metadata.uid(), me().user);
        let reader = ParquetReader::open(path, Some(&records_schema_least())).unwrap();
        let mut text = format!("{path:?} {:?}", reader.metadata());
        for batch in reader {
            text += &format!("{:?}", records_from_batch(&batch.unwrap()).unwrap());
        }
        for named in [
            "carol",
            "payroll",
            "ledger",
            "nightly",
            "hunter2",
            "203.0.113",
            "10.2.3",
            "192.0.2",
            "web.service",
            "/usr/bin/db",
            "login:1000",
            "uid: 1000",
            "uid: 33",
            "abababab",
            "laptop",
        ] {
            assert!(!text.contains(named), "{path:?} has {named}");
        }
    }
    let again = shared(home, Some([9; 32])).unwrap_err().to_string();
    assert!(again.contains("shared") && again.contains("exists"), "{again}");
}

#[test]
fn without_a_key_only_arguments_are_dropped() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    captured(home);
    let told = shared(home, None).unwrap();
    let first = &files(&home.join("shared"))[0];
    let reader = ParquetReader::open(first, None).unwrap();
    assert_eq!(reader.metadata()[HOST], "carols-laptop");
    let mut text = String::new();
    for batch in reader {
        text += &format!("{:?}", records_from_batch(&batch.unwrap()).unwrap());
    }
    assert!(text.contains("/home/carol/ledger") && !text.contains("hunter2"));
    assert!(told.rows > 10_000);
    let none = home.join("none");
    fs::create_dir(&none).unwrap();
    let error = share::share(&none, &home.join("out"), me(), None, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no capture"), "{error}");
    assert!(!home.join("out").exists());
}
