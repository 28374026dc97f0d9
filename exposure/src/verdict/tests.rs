#![allow(clippy::unwrap_used)]
use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use hedgerow_event::{Disposition, Finding, Object, Program, Subject, Workload};

use super::*;
use crate::report::Manager;
use crate::{
    Mapping,
    known::Known,
    packages::Tree,
    record::{Key, Table},
    vex::{Assertion, document},
};

const WATCHED: (i64, i64) = (100, 200);

struct Host {
    home: tempfile::TempDir,
    table: Table,
    touched: Touched,
}

impl Host {
    /// A tree with one package, `x` 1.0-1, that has a program, a library and a module.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("var/lib/dpkg/status", "Package: x\nStatus: install ok installed\nVersion: 1.0-1\n");
        write("var/lib/dpkg/info/x.list", "/usr/bin/x\n/usr/lib/x.so\n/usr/lib/m.py\n");
        write("usr/lib/x.so", "");
        let mut table = Table::begin(Record::default(), WATCHED.0);
        table.watched(WATCHED.1, false);
        Self { home, table, touched: Touched::default() }
    }

    fn root(&self) -> String {
        self.home.path().canonicalize().unwrap().to_str().unwrap().to_owned()
    }

    fn uses(&mut self, path: &str, how: Use, workload: &str, program: &str, elsewhere: bool) {
        let key = Key { path: path.into(), device: 1, inode: 1, elsewhere };
        let user = User { workload: workload.into(), program: program.into() };
        self.table.used(key, how, user, 150);
    }

    fn judged(&self, fixed: &[&str], live: &[Live], workload: Option<&str>) -> Row {
        self.asked(fixed, live, workload).0
    }

    fn asked(&self, fixed: &[&str], live: &[Live], workload: Option<&str>) -> (Row, Found) {
        let record = Record::parse(&self.table.write().unwrap()).unwrap();
        let vulnerability = Vulnerability {
            id: "CVE-2026-1".into(),
            aliases: vec!["GHSA-1".into()],
            severity: Severity::High,
            package: "x".into(),
            version: "1.0-1".into(),
            fixed: fixed.iter().map(|one| (*one).to_owned()).collect(),
            manager: Manager::Dpkg,
            path: None,
            purl: Some("pkg:deb/debian/x@1.0-1".into()),
        };
        let mut databases = Databases::new(Tree::new(self.home.path()).unwrap());
        let touched = &self.touched;
        let evidence = Evidence { record: &record, since_ns: 0, live, workload, touched };
        let mut found = Found::new(7);
        let mut rows = judge(&[vulnerability], &mut databases, &evidence, &mut found);
        assert_eq!(rows.len(), 1);
        (rows.remove(0), found)
    }

    fn live(&self, path: &str, deleted: bool, place: Place) -> Live {
        let stat = fs::metadata(self.home.path().join("usr/lib/x.so")).unwrap();
        let mapping = Mapping { path: path.into(), device: stat.dev(), inode: stat.ino(), deleted };
        Live {
            pid: 7,
            program: "/d".into(),
            listens: true,
            started_ns: 1,
            place,
            mapped: vec![mapping],
        }
    }
}

fn subject(workload: &str, path: &str, script: Option<&str>) -> Arc<Subject> {
    let program = Program { script: script.map(Into::into), ..Program::new(path) };
    Arc::new(Subject::new(Workload::new(workload), program))
}

/// A report that alerts nobody.
fn report(uid: &str, time_ns: i64, workload: &str, path: &str, script: Option<&str>) -> Finding {
    let text = r#"{ "uid": "", "activity": "create", "sequence": 0, "host_id": "", "boot_id": "",
        "subject": { "workload": "", "program": { "path": "" } }, "scale": "seconds5", "early": false,
        "window_start_ns": 0, "window_end_ns": 0, "time_ns": 0, "state": "mature", "severity": "low",
        "disposition": "suppressed", "score": 0.5, "p_value": null, "families": [], "objects": [],
        "attribution": [], "process": null, "loss": { "lost": 0, "late": 0, "limited": 0 }, "model_id": "", "reason": "" }"#;
    let subject = subject(workload, path, script);
    Finding { uid: uid.into(), time_ns, subject, ..serde_json::from_str(text).unwrap() }
}

#[test]
fn what_nobody_used_is_not_seen_and_with_loss_unknown() {
    let mut host = Host::new();
    assert_eq!(host.judged(&["1.0-2"], &[], None).verdict, Verdict::NotSeen);
    host.table.watched(300, true);
    assert_eq!(host.judged(&["1.0-2"], &[], None).verdict, Verdict::Unknown);
    host.table = Table::default();
    host.table.watched(300, false);
    let unwatched = Record { version: crate::record::VERSION, ..Record::default() };
    host.table = Table::begin(unwatched, 0);
    assert_eq!(host.judged(&[], &[], None).why, "nothing was watched in that time");
}

/// A path that was too long to be recorded may be one of a directory's, and is none of a short list's.
#[test]
fn what_was_too_long_to_be_recorded_matters_where_a_package_may_have_it() {
    let mut host = Host::new();
    host.uses(&"/x".repeat(crate::record::PATH_BYTES_MAX), Use::Ran, "w", "/d", false);
    assert_eq!(host.judged(&[], &[], None).verdict, Verdict::NotSeen);
    let deep = format!("/opt{}", "/long".repeat(crate::record::PATH_BYTES_MAX / 5));
    fs::write(host.home.path().join("var/lib/dpkg/info/x.list"), format!("{deep}\n")).unwrap();
    let row = host.judged(&[], &[], None);
    assert_eq!(row.verdict, Verdict::Unknown, "{}", row.why);
}

#[test]
fn what_ran_was_mapped_or_read_by_an_interpreter_is_in_use() {
    for (path, how, program, verdict) in [
        ("/usr/bin/x", Use::Ran, "/usr/bin/x", Verdict::InUse),
        ("/usr/lib/x.so", Use::Mapped, "/usr/bin/d", Verdict::InUse),
        ("/usr/lib/m.py", Use::Read, "/usr/bin/python3.11 /a", Verdict::InUse),
        (
            "/usr/lib/__pycache__/m.cpython-311.pyc",
            Use::Read,
            "/usr/bin/python3.11",
            Verdict::InUse,
        ),
        ("/usr/lib/m.py", Use::Read, "/usr/bin/grep", Verdict::NotSeen),
        ("/usr/lib/other.so", Use::Mapped, "/usr/bin/d", Verdict::NotSeen),
    ] {
        let mut host = Host::new();
        host.uses(&format!("{}{path}", host.root()), how, "w", program, false);
        let row = host.judged(&["1.0-2"], &[], None);
        assert_eq!(row.verdict, verdict, "{path} by {program}");
        if verdict == Verdict::InUse {
            assert_eq!((row.seen[0].how, row.seen[0].program.as_str()), (how, program));
            assert_eq!((row.first_ns, row.last_ns), (Some(150), Some(150)));
        }
    }
}

#[test]
fn an_interpreter_from_before_may_have_read_what_nobody_was_seen_reading() {
    let host = Host::new();
    let python = |started_ns| Live {
        program: "/usr/bin/python3.11".into(),
        started_ns,
        mapped: Vec::new(),
        ..host.live("/x", false, Place::Here)
    };
    for (started_ns, verdict) in
        [(99, Verdict::Unknown), (150, Verdict::NotSeen), (201, Verdict::NotSeen)]
    {
        assert_eq!(host.judged(&[], &[python(started_ns)], None).verdict, verdict, "{started_ns}");
    }
    let perl = Live { program: "/usr/bin/perl".into(), ..python(99) };
    assert_eq!(host.judged(&[], &[perl], None).verdict, Verdict::NotSeen);
}

#[test]
fn a_path_means_another_file_in_another_namespace() {
    let mut host = Host::new();
    host.uses(&format!("{}/usr/bin/x", host.root()), Use::Ran, "w", "/usr/bin/x", true);
    host.uses("/usr/lib/x.so", Use::Mapped, "docker/a", "/d", true);
    assert_eq!(host.judged(&[], &[], None).verdict, Verdict::NotSeen);
    assert_eq!(host.judged(&[], &[], Some("docker/a")).verdict, Verdict::InUse);
    assert_eq!(host.judged(&[], &[], Some("docker/b")).verdict, Verdict::NotSeen);
    let at = |place| host.live("/usr/lib/x.so", false, place);
    assert_eq!(host.judged(&[], &[at(Place::Tree)], None).verdict, Verdict::InUse);
    assert_eq!(host.judged(&[], &[at(Place::Elsewhere)], None).verdict, Verdict::NotSeen);
    assert_eq!(host.judged(&[], &[at(Place::Here)], None).verdict, Verdict::NotSeen);
}

#[test]
fn fixed_on_disk_and_old_in_memory_is_a_restart() {
    let host = Host::new();
    let path = format!("{}/usr/lib/x.so", host.root());
    let new = host.live(&path, false, Place::Here);
    let old = host.live(&path, true, Place::Here);
    let mut other = new.clone();
    other.mapped[0].inode += 1;
    assert_eq!(host.judged(&["1.0-1"], std::slice::from_ref(&new), None).verdict, Verdict::Fixed);
    for process in [old.clone(), other] {
        let row = host.judged(&["1.0-1"], &[process], None);
        assert_eq!((row.verdict, row.listens, row.live[0].pid), (Verdict::Restart, true, 7));
    }
    for process in [new, old] {
        assert_eq!(host.judged(&["1.0-2"], &[process], None).verdict, Verdict::InUse);
    }
    assert!(Path::new(&path).exists());
}

#[test]
fn findings_count_once_with_who_did_it_and_with_a_restart_too() {
    let mut host = Host::new();
    let root = host.root();
    host.uses(&format!("{root}/usr/lib/m.py"), Use::Read, "w", "/usr/bin/python3 /a", false);
    let mut other = report("c", 2, "v", "/usr/bin/d", None);
    other.objects = vec![Object::ExecMemory { subject: subject("w", "/usr/bin/python3", None) }];
    other.disposition = Disposition::Alert;
    host.touched = Touched::of(&[
        report("a", 1, "w", "/usr/bin/python3", Some("/a")),
        other.clone(),
        report("a", 3, "w", "/usr/bin/python3", Some("/a")),
        report("b", 4, "v", "/usr/bin/python3", Some("/a")),
        report("a", 5, "w", "/usr/bin/python3", Some("/a")),
    ]);
    let touch = |uid: &str, time_ns, alerted| Touch { uid: uid.into(), time_ns, alerted };
    assert_eq!(host.judged(&[], &[], None).findings, [touch("a", 5, false)]);
    // What ran before is known by its path only, and so is what only runs now.
    let old = host.live(&format!("{root}/usr/lib/x.so"), true, Place::Here);
    let old = Live { program: "/usr/bin/d".into(), ..old };
    let row = host.judged(&["1.0-1"], &[old], None);
    assert_eq!(row.verdict, Verdict::Restart);
    assert_eq!(row.findings, [touch("a", 5, false), touch("c", 2, true)]);
    host.uses(&format!("{root}/usr/lib/x.so"), Use::Mapped, BEFORE, "/usr/bin/python3", false);
    assert_eq!(host.judged(&[], &[], None).findings.len(), 3);
    let many: Vec<Finding> =
        (0..20).map(|uid| report(&uid.to_string(), uid, "w", "/usr/bin/python3", None)).collect();
    host.touched = Touched::of(&many);
    let row = host.judged(&[], &[], None);
    assert_eq!((row.findings.len(), row.findings_more), (NAMED_MAX, 12));
    assert_eq!(row.findings[0].uid, "19");
}

/// What an interpreter read isn't mapped: who runs it is told by its program.
#[test]
fn an_interpreter_that_listens_makes_what_it_read_matter_more() {
    let mut host = Host::new();
    let module = format!("{}/usr/lib/m.py", host.root());
    host.uses(&module, Use::Read, "w", "/usr/bin/python3.11 /a", false);
    let python = |program: &str, place| Live {
        program: program.into(),
        started_ns: 150,
        place,
        mapped: Vec::new(),
        ..host.live("/x", false, place)
    };
    for (program, place, listens) in [
        ("/usr/bin/python3.11", Place::Here, true),
        ("/usr/bin/python3.11", Place::Elsewhere, false),
        ("/usr/bin/python3.1", Place::Here, false),
        ("/usr/bin/d", Place::Here, false),
    ] {
        let row = host.judged(&[], &[python(program, place)], None);
        assert_eq!(row.listens, listens, "{program} {place:?}");
        assert_eq!((row.readers.len(), row.live.len()), (usize::from(listens), 0));
    }
}

#[test]
fn who_talked_to_a_user_is_told_with_the_package_and_to_another_is_not() {
    let mut host = Host::new();
    host.uses(&format!("{}/usr/lib/x.so", host.root()), Use::Mapped, "w", "/usr/bin/d", false);
    let user =
        |workload: &str, program: &str| User { workload: workload.into(), program: program.into() };
    let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
    host.table.talked(user("v", "/usr/bin/d"), peer(1), 160);
    host.table.talked(user("w", "/usr/bin/e"), peer(2), 160);
    assert_eq!(host.judged(&[], &[], None).talked, None);
    for last in 3..14 {
        host.table.talked(user("w", "/usr/bin/d"), peer(last), 160 + i64::from(last));
    }
    let talked = host.judged(&[], &[], None).talked.unwrap();
    assert_eq!(talked.peers, [13, 12, 11, 10, 9, 8, 7, 6].map(peer));
    assert_eq!((talked.more, talked.first_ns, talked.last_ns), (3, 163, 173));
    host.uses(&format!("{}/usr/bin/x", host.root()), Use::Ran, BEFORE, "/usr/bin/e", false);
    assert_eq!(host.judged(&[], &[], None).talked.unwrap().more, 4);
    let row = |listens, talked| Row { listens, talked, ..host.judged(&[], &[], None) };
    let some = Some(talked);
    assert!(key(&row(true, some.clone())) < key(&row(true, None)));
    assert!(key(&row(true, None)) < key(&row(false, some)));
}

/// What a question found is told of the program in its workload, and of what ran before by its path.
#[test]
fn what_was_found_of_a_program_is_known_of_it_and_goes_with_the_next_question() {
    let mut host = Host::new();
    let known = |bytes: &[u8]| Known::parse(bytes).unwrap();
    let of = |known: &Known, workload: &str, path: &str| {
        let subject = subject(workload, path, None);
        let ids: Vec<String> =
            known.of([&*subject].into_iter()).into_iter().map(|one| one.id).collect();
        ids
    };
    let write = |before, asked, found| {
        let (bytes, left_out) = Known::write(before, asked, found).unwrap();
        assert_eq!(left_out, 0);
        known(&bytes)
    };
    let nothing = write(Known::default(), None, host.asked(&["1.0-2"], &[], None).1);
    assert!(of(&nothing, "w", "/usr/bin/d").is_empty());
    host.uses(&format!("{}/usr/lib/x.so", host.root()), Use::Mapped, "w", "/usr/bin/d", false);
    host.uses(&format!("{}/usr/bin/x", host.root()), Use::Ran, BEFORE, "/usr/bin/e", false);
    let first = write(nothing, None, host.asked(&["1.0-2"], &[], None).1);
    assert_eq!(of(&first, "w", "/usr/bin/d"), ["CVE-2026-1"]);
    assert_eq!(of(&first, "v", "/usr/bin/e"), ["CVE-2026-1"]);
    assert!(of(&first, "v", "/usr/bin/d").is_empty());
    let one = first.of([&*subject("w", "/usr/bin/d", None)].into_iter()).remove(0);
    assert_eq!((&*one.package, &*one.installed, one.as_of_ns), ("x", "1.0-1", 7));
    assert_eq!(one.fixed.as_deref(), Some("1.0-2"));
    // Another question leaves it; the same one takes its place.
    let both = write(first, Some("docker/a"), host.asked(&[], &[], Some("docker/a")).1);
    assert_eq!(of(&both, "w", "/usr/bin/d"), ["CVE-2026-1"]);
    let fixed = write(both, None, host.asked(&["1.0-1"], &[], None).1);
    assert!(of(&fixed, "w", "/usr/bin/d").is_empty());
    assert!(of(&fixed, "v", "/usr/bin/e").is_empty());
    assert_eq!(of(&fixed, "docker/a", "/usr/bin/e"), ["CVE-2026-1"]);
}

#[test]
fn observation_alone_never_says_that_nothing_is_affected() {
    let mut host = Host::new();
    let said = |row: &Row, assertions: &[Assertion]| {
        let rows = [row.clone()];
        let document = document(&rows, assertions, "watched from A to B, no gaps", "h", "T");
        serde_json::to_value(document).unwrap()["statements"][0].clone()
    };
    let unseen = host.judged(&["1.0-2"], &[], None);
    let statement = said(&unseen, &[]);
    assert_eq!(statement["status"], "under_investigation");
    assert!(statement["status_notes"].as_str().unwrap().contains("watched from A to B"));
    let assertion = Assertion {
        id: "GHSA-1".into(),
        justification: "vulnerable_code_not_in_execute_path".into(),
        by: "Carol".into(),
        until: "2027-01-01".into(),
    };
    let statement = said(&unseen, std::slice::from_ref(&assertion));
    assert_eq!(statement["status"], "not_affected");
    assert!(
        statement["status_notes"]
            .as_str()
            .unwrap()
            .starts_with("Asserted by Carol, until 2027-01-01.")
    );
    let other = Assertion { id: "CVE-2026-9".into(), ..assertion };
    assert_eq!(said(&unseen, &[other])["status"], "under_investigation");
    host.uses(&format!("{}/usr/bin/x", host.root()), Use::Ran, "w", "/usr/bin/x", false);
    let statement = said(&host.judged(&["1.0-2"], &[], None), &[]);
    assert_eq!(statement["status"], "affected");
    assert_eq!(statement["action_statement"], "Update x to 1.0-2.");
}
