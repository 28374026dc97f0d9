//! The whole way on the running kernel: a benign load is learned, a shell under a service connects
//! out, the finding opens a deny entry, and nothing leaves after it; nor from a shell that is given the
//! service's own connection. The Kafka broker is killed before and comes back afterwards: it gets every
//! report all the same.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Action, Finding, Mode, Object, Remediation};
use hedgerow_lab::{Attack, Broker, Daemon, Lab, Line, Load, Outcome, Site, User, Via, now_ns};

/// What else this machine does is told, too: it must not take the place of what the test does.
const BUDGET: &str = "1000";
const LEARN: &str = "60s";
/// Learning, and what a loaded machine adds to it.
const LEARN_LIMIT: Duration = Duration::from_secs(180);
/// The load goes on, unchanged, before the attack.
const CALM: Duration = Duration::from_secs(15);
const ATTACK_LIMIT: Duration = Duration::from_secs(10);
/// An attack has its entry, after its end on a loaded machine.
const ENTRY: Duration = Duration::from_secs(60);
/// What was spooled while the broker was down has arrived.
const DELIVERY_LIMIT: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Seen {
    /// A window closed, so that the sensor is attached.
    watched: bool,
    scoring: bool,
    findings: Vec<Finding>,
    /// Each with when it was read: by then it stands, and what stood is cut.
    remediations: Vec<(Remediation, i64)>,
}

impl Seen {
    fn take(&mut self, line: Line) {
        match line {
            Line::Status(status) => {
                self.watched = true;
                self.scoring |= status["phase"] == "scoring";
            }
            Line::Finding(finding) => self.findings.push(*finding),
            Line::Remediation(remediation) => self.remediations.push((*remediation, now_ns())),
        }
    }

    fn watch(&mut self, daemon: &Daemon, limit: Duration, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + limit;
        while !done(self) {
            match daemon.next(until).unwrap() {
                Some(line) => self.take(line),
                None => return,
            }
        }
    }

    /// Makes a reverse shell, and reads what the daemon says meanwhile.
    fn attacked(&mut self, daemon: &Daemon, lab: &Lab, via: Via) -> Outcome {
        thread::scope(|scope| {
            let attack = scope.spawn(|| Attack::ReverseShell.run(lab, via, ATTACK_LIMIT));
            while !attack.is_finished() {
                self.watch(daemon, Duration::from_millis(50), |_| false);
            }
            let outcome = attack.join().unwrap();
            outcome.unwrap_or_else(|why| panic!("{why:?}; {:?}", self.remediations))
        })
    }

    /// The first entry of the lab's service that refuses, of what was told after so many.
    fn enforced(&self, after: usize) -> Option<&(Remediation, i64)> {
        let told = self.remediations.get(after..).unwrap_or_default();
        let mut blocks = told.iter().filter(|told| is_block(told));
        blocks.find(|(entry, _)| entry.mode == Mode::Enforce)
    }

    /// Blocks of the lab's service; other programs of this host are not the subject here.
    fn blocks(&self) -> impl Iterator<Item = &(Remediation, i64)> {
        self.remediations.iter().filter(|told| is_block(told))
    }
}

fn is_block((told, _): &(Remediation, i64)) -> bool {
    let subject = told.subject.as_ref();
    told.action == Action::Block
        && subject.is_some_and(|subject| subject.workload.as_str() == Lab::workload("app"))
}

/// A name server on loopback and who asks it: the attacker's address is that of a name.
const LOOKUP: &str = "
import socket, sys
labels = lambda name: b''.join(bytes([len(one)]) + one.encode() for one in name.split('.')) + b'\\0'
server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
server.bind(('127.0.0.1', 53))
question = labels(sys.argv[1]) + b'\\0\\1\\0\\1'
client.sendto(b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + question, ('127.0.0.1', 53))
_, asker = server.recvfrom(512)
record = b'\\xc0\\x0c\\0\\1\\0\\1' + (3600).to_bytes(4, 'big') + b'\\0\\4' + socket.inet_aton(sys.argv[2])
server.sendto(b'\\0\\7\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + question + record, asker)
client.recv(512)
";
const NAME: &str = "c2.example.net";

/// Has the attacker's address looked up at a site, where an answer tells this name.
fn look_up(lab: &Lab, site: Site, unit: &str, name: &str) {
    let mut lookup = lab.command(site, unit, &User::ROOT, "/usr/bin/python3").unwrap();
    let address = Site::Attacker.ipv4().to_string();
    let status = lookup.args(["-c", LOOKUP, name, &address]).status().unwrap();
    assert!(status.success());
}

/// Waits until the broker has every report that the daemon made, resent from the spool.
fn assert_delivered(broker: &Broker, seen: &Seen) {
    let mut missing: BTreeSet<String> = seen.findings.iter().map(Finding::report_uid).collect();
    missing.extend(seen.remediations.iter().map(|(told, _)| told.report_uid()));
    let until = Instant::now() + DELIVERY_LIMIT;
    while !missing.is_empty() {
        assert!(Instant::now() < until, "never delivered: {missing:?}");
        for topic in ["hedgerow.findings", "hedgerow.remediations"] {
            let records = broker.consume(topic).unwrap();
            let values = records.lines().filter_map(|line| Some(&line[line.find('{')?..]));
            for value in values {
                let event: serde_json::Value = serde_json::from_str(value).unwrap();
                missing.remove(event["metadata"]["uid"].as_str().unwrap());
            }
        }
    }
}

#[test]
fn a_reverse_shell_is_found_and_cut_and_the_service_goes_on() {
    let broker = Broker::start("respond").unwrap();
    let lab = Lab::up().unwrap();
    let _web = Load::Web.start(&lab).unwrap();
    let app = Load::App.start(&lab).unwrap();
    let state = lab.directory().join("state").display().to_string();
    let log = lab.directory().join("daemon.log");
    let arguments = [
        ["--learn", LEARN, "--budget", BUDGET].as_slice(),
        &["--mode", "enforce", "--enforce-provisional"],
        &["--state", &state, "--kafka", broker.address()],
    ]
    .concat();
    let program = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    let daemon = Daemon::start(program, &arguments, &log).unwrap();
    // What this test does to get into its namespaces is part of the life that is learned.
    for (site, unit) in [(Site::Clients, "clients"), (Site::Attacker, "attacker")] {
        let mut visit = lab.command(site, unit, &User::ROOT, "/bin/true").unwrap();
        assert!(visit.status().unwrap().success());
    }
    let mut seen = Seen::default();
    seen.watch(&daemon, LEARN_LIMIT, |seen| seen.watched);
    // Who forges answers elsewhere names nobody here.
    look_up(&lab, Site::Service, "app", NAME);
    look_up(&lab, Site::Clients, "clients", "forged.example.net");
    seen.watch(&daemon, LEARN_LIMIT, |seen| seen.scoring);
    assert!(seen.scoring, "it never began to score");
    seen.watch(&daemon, CALM, |_| false);
    assert_eq!(seen.blocks().count(), 0, "a benign load was denied");

    broker.kill().unwrap();
    let outcome = seen.attacked(&daemon, &lab, Via::Child);
    let again = broker.start_again();
    seen.watch(&daemon, ENTRY, |seen| seen.enforced(0).is_some());
    seen.watch(&daemon, Duration::from_secs(6), |_| false);
    again.unwrap_or_else(|why| panic!("{why}; {:?}", seen.remediations));

    // The next one meets no entry of this one, and a service that nobody has attacked.
    let first = seen.remediations.len();
    let unit = Lab::workload("app");
    let words = ["deny", "remove", "--workload", &unit, "--state", &state];
    assert!(Command::new(program).args(words).status().unwrap().success());
    drop(app);
    let _again = Load::App.start(&lab).unwrap();
    let given = seen.attacked(&daemon, &lab, Via::Thread);
    seen.watch(&daemon, ENTRY, |seen| seen.enforced(first).is_some());
    seen.watch(&daemon, Duration::from_secs(6), |_| false);

    // What reads the topics would be found, too, and a topic that never rests is never read to its end.
    daemon.interrupt().unwrap();

    let (entry, stood_ns) = seen.enforced(0).expect("a deny entry");
    let mut reports = seen.findings.iter().filter(|f| Some(&f.uid) == entry.finding_uid.as_ref());
    let finding = reports.next().expect("the finding that the entry names");
    assert!(finding.disposition.is_alert());
    // A denial doesn't wait for the connection: what it rests on may be told before.
    let is_named = |f: &Finding| f.objects.iter().any(|o| matches!(o, Object::NewPeer { .. }));
    assert!(is_named(finding) || reports.any(is_named));
    let names: BTreeSet<&str> = (seen.findings.iter())
        .filter(|f| f.subject.workload.as_str() == Lab::workload("app"))
        .flat_map(|f| &f.claimed_names)
        .filter(|claimed| claimed.address == Site::Attacker.ipv4())
        .map(|claimed| claimed.name.as_str())
        .collect();
    assert_eq!(names, BTreeSet::from([NAME]), "as the answer in its namespace said");
    let nats = finding.attribution.iter().filter(|share| &*share.of == hedgerow_detect::NATS);
    let whole: f64 = nats.map(|share| share.share).sum();
    assert!((whole - 1.0).abs() < 1e-9, "the shares add up to {whole}");
    let transcript = outcome.transcript.expect("what the attacker received");
    let (_, after) = transcript.bytes_around(*stood_ns);
    // Its own time is when it was decided, before the kernel was told.
    assert_eq!(after, 0, "bytes left once the entry stood");
    // The service made the connection, and holds it beside the shell that it was given to.
    let (_, stood_ns) = seen.enforced(first).expect("an entry for the shell in a thread");
    let transcript = given.transcript.expect("what the attacker received");
    let (_, after) = transcript.bytes_around(*stood_ns);
    assert_eq!(after, 0, "bytes left on a socket that was inherited: {:?}", seen.remediations);
    assert_delivered(&broker, &seen);
}
