//! What a daemon keeps for those who ask later. Twelve packages and what was done with each: every verdict
//! of `hedgerow exposure` is right. Who used how many bytes, also over a restart: `hedgerow usage`.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Lab, Line, Site, User};
use serde_json::{Value, json};

const HEDGEROW: &str = env!("CARGO_BIN_EXE_hedgerow");
const LIMIT: Duration = Duration::from_secs(120);

/// Ends at once, or listens until it is killed.
const PROGRAM: &str = "#include <sys/socket.h>\n#include <unistd.h>\n\
    int main(int c, char **v) { if (c < 2) return 0; \
    int s = socket(AF_INET, SOCK_STREAM, 0); listen(s, 1); write(1, \"\\n\", 1); pause(); return s; }\n";
/// Maps what it is given; with `stay` first it stays until it is killed.
const MAPPER: &str = "#include <dlfcn.h>\n#include <string.h>\n#include <unistd.h>\n\
    int main(int c, char **v) { int stay = !strcmp(v[1], \"stay\"); \
    for (int i = 1 + stay; i < c; i++) if (!dlopen(v[i], RTLD_NOW)) return 1; \
    if (stay) { write(1, \"\\n\", 1); pause(); } return 0; }\n";

/// Killed when it is dropped.
struct Stays(Child);

impl Stays {
    /// Once it has said that it stays.
    fn start(program: &Path, arguments: &[&str]) -> Self {
        Self::begin(Command::new(program).args(arguments))
    }

    fn begin(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "{command:?} ended");
        Self(child)
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A home with compiled files, and a tree that packages are installed into.
struct Home {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let root = path.join("root");
        for name in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(name)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        let home = Self { directory, root };
        home.compile("program", PROGRAM, &[]);
        home.compile("mapper", MAPPER, &["-ldl"]);
        home.compile("lib.so", "int hedgerow_exposure_test;\n", &["-shared", "-fPIC"]);
        fs::write(home.path("module.py"), "used = True\n").unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn compile(&self, name: &str, text: &str, options: &[&str]) {
        let source = self.path(&format!("{name}.c"));
        fs::write(&source, text).unwrap();
        run(Command::new("cc").arg("-w").arg(&source).arg("-o").arg(self.path(name)).args(options));
    }

    /// Installs a package that has `file`, a copy of `content`.
    fn install(&self, package: &str, version: &str, source: &str, content: &str, file: &str) {
        let tree = self.path(&format!("{package}-{version}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
        run(Command::new("cp").arg(self.path(content)).arg(tree.join(file)));
        let control = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: all\nSource: {source}\n\
             Maintainer: Nobody <nobody@localhost>\nDescription: a test\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let archive = self.path(&format!("{package}.deb"));
        run(Command::new("dpkg-deb").args(["-Znone", "--build"]).arg(&tree).arg(&archive));
        let root = format!("--root={}", self.root.display());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut install = Command::new("dpkg");
        install.env("PATH", path).args([&root, "--log=/dev/null", "-i"]).arg(&archive);
        run(&mut install);
    }

    fn file(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn exposure(&self, reports: &[PathBuf], arguments: &[&str]) -> Value {
        let mut command = Command::new(HEDGEROW);
        command
            .arg("exposure")
            .arg("--state")
            .arg(self.path("state"))
            .arg("--root")
            .arg(&self.root);
        command.args(arguments).arg("--report").args(reports);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Package, its file and what that is a copy of.
const PACKAGES: [(&str, &str, &str); 12] = [
    ("ran-a", "usr/bin/ran-a", "program"),
    ("ran-b", "usr/bin/ran-b", "program"),
    ("ran-c", "usr/bin/ran-c", "program"),
    ("ran-listening", "usr/bin/ran-listening", "program"),
    ("mapped-a", "usr/lib/mapped-a.so", "lib.so"),
    ("mapped-b", "usr/lib/mapped-b.so", "lib.so"),
    ("mapped-before", "usr/lib/mapped-before.so", "lib.so"),
    ("unused-a", "usr/bin/unused-a", "program"),
    ("unused-b", "usr/lib/unused-b.so", "lib.so"),
    ("unused-c", "usr/lib/unused-c.so", "lib.so"),
    ("restart", "usr/lib/restart.so", "lib.so"),
    ("read", "usr/share/read/hedgerow_read.py", "module.py"),
];

/// One report of each format, of packages as they were before `restart` was upgraded. Of
/// `mapped-b` the source package is named.
fn reports(home: &Home) -> Vec<PathBuf> {
    let of = |package: &str| !matches!(package, "mapped-a" | "mapped-b" | "ran-a");
    let trivy = PACKAGES.iter().map(|one| one.0).filter(|package| of(package));
    let trivy: Vec<Value> = trivy
        .map(|package| {
            json!({ "VulnerabilityID": format!("CVE-{package}"), "PkgName": package, "Severity": "HIGH",
                "InstalledVersion": "1.0-1", "FixedVersion": "1.0-2" })
        })
        .collect();
    let named = json!({ "name": "ran-a", "version": "1.0-1", "ecosystem": "Debian:12" });
    let each = [
        json!({ "SchemaVersion": 2, "Results": [{ "Type": "debian", "Vulnerabilities": trivy }] }),
        json!({ "matches": [{ "vulnerability": { "id": "CVE-mapped-a", "severity": "Low" },
            "artifact": { "name": "mapped-a", "version": "1.0-1", "type": "deb" } }] }),
        json!({ "results": [{ "packages": [{ "package": named,
            "vulnerabilities": [{ "id": "CVE-ran-a" }] }] }] }),
        json!({ "bomFormat": "CycloneDX", "vulnerabilities": [{ "id": "CVE-mapped-b",
            "affects": [{ "ref": "pkg:deb/debian/mapped-b-source@1.0-1" }] }] }),
    ];
    let write = |(number, report): (usize, &Value)| {
        let path = home.path(&format!("report-{number}.json"));
        fs::write(&path, report.to_string()).unwrap();
        path
    };
    each.iter().enumerate().map(write).collect()
}

/// Waits until what was done up to now is in a window that has closed.
fn close(daemon: &Daemon) {
    // Of windows that closed before.
    while daemon.next(Instant::now()).unwrap().is_some() {}
    for _ in 0..2 {
        daemon.wait_for("window", LIMIT, |line| matches!(line, Line::Status(_))).unwrap();
    }
}

#[test]
fn every_verdict_on_twelve_packages_is_right() {
    let home = Home::new();
    for (package, file, content) in PACKAGES {
        home.install(package, "1.0-1", &format!("{package}-source"), content, file);
    }
    let mapper = home.path("mapper");
    let before = Stays::start(&mapper, &["stay", &home.file("usr/lib/mapped-before.so")]);
    let state = home.path("state").display().to_string();
    let arguments = ["--learn", "1h", "--state", &state];
    let daemon = Daemon::start(Path::new(HEDGEROW), &arguments, &home.path("log")).unwrap();
    close(&daemon);
    drop(before);

    for name in ["ran-a", "ran-b", "ran-c"] {
        run(&mut Command::new(home.file(&format!("usr/bin/{name}"))));
    }
    let listening = PathBuf::from(home.file("usr/bin/ran-listening"));
    let _listening = Stays::start(&listening, &["listen"]);
    let both = [home.file("usr/lib/mapped-a.so"), home.file("usr/lib/mapped-b.so")];
    run(Command::new(&mapper).args(both));
    let _old = Stays::start(&mapper, &["stay", &home.file("usr/lib/restart.so")]);
    home.install("restart", "1.0-2", "restart-source", "lib.so", "usr/lib/restart.so");
    let lab = Lab::up().unwrap();
    let _reads = reads_and_listens(&home, &lab);
    // Who only looks at program text doesn't run it.
    run(Command::new("grep").arg("used").arg(home.file("usr/share/read/hedgerow_read.py")));
    close(&daemon);
    daemon.interrupt().unwrap();

    let reports = reports(&home);
    let told = home.exposure(&reports, &["--json"]);
    let rows = told["rows"].as_array().unwrap();
    let by_id: BTreeMap<&str, &Value> =
        rows.iter().map(|row| (row["vulnerability"]["id"].as_str().unwrap(), row)).collect();
    assert_eq!((rows.len(), by_id.len()), (12, 12), "{told:#}");
    let lost = told["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty());
    for (package, _, _) in PACKAGES {
        let row = by_id[&*format!("CVE-{package}")];
        let hows: Vec<&str> =
            row["seen"].as_array().unwrap().iter().filter_map(|one| one["how"].as_str()).collect();
        let (verdict, how) = match package.split('-').next().unwrap() {
            // Of a machine that lost records nothing can be said.
            "unused" if lost => ("unknown", None),
            "unused" => ("not_seen", None),
            "restart" => ("restart", None),
            how => ("in_use", Some(how)),
        };
        assert_eq!(row["verdict"], verdict, "{package}: {row:#}");
        assert_eq!(row["package"], package);
        assert!(how.is_none_or(|how| hows.contains(&how)), "{package}: {row:#}");
    }
    let whose = |id: &str| by_id[id]["seen"][0]["program"].as_str().unwrap().to_owned();
    assert!(whose("CVE-mapped-a").ends_with("/mapper"), "{}", whose("CVE-mapped-a"));
    assert!(whose("CVE-read").contains("python3"), "{}", whose("CVE-read"));
    assert_eq!(by_id["CVE-restart"]["installed"], "1.0-2");
    // Who can be reached comes first, and before him who was.
    let first = |at: usize| (&rows[at]["vulnerability"]["id"], &rows[at]["listens"]);
    assert_eq!(first(0), (&json!("CVE-read"), &json!(true)), "{:#}", rows[0]);
    assert_eq!(first(1), (&json!("CVE-ran-listening"), &json!(true)), "{:#}", rows[1]);
    let called = Site::Clients.ipv4().to_string();
    assert_eq!(rows[0]["talked"]["peers"], json!([called]));
    assert_eq!(rows[1]["talked"], Value::Null);
    statements(&home, &reports);
    remembered(&home, &reports);
}

/// What is in use is left for the daemon, and nothing else; of another tree only with whose it is.
fn remembered(home: &Home, reports: &[PathBuf]) {
    let mut refused = Command::new(HEDGEROW);
    refused.args(["exposure", "--remember", "--state"]).arg(home.path("state"));
    let output =
        refused.arg("--root").arg(&home.root).arg("--report").args(reports).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    home.exposure(reports, &["--json", "--remember", "--workload", "lab-read.service"]);
    let left = fs::read(home.path("state/vulnerable.json")).unwrap();
    let left: Value = serde_json::from_slice(&left).unwrap();
    let of = |workload: &str, id: &str| {
        let programs = left["programs"].as_array().unwrap().iter();
        let mut programs = programs.filter(|one| one["user"]["workload"] == workload);
        programs.any(|one| {
            one["vulnerabilities"].as_array().unwrap().iter().any(|known| known["id"] == id)
        })
    };
    assert!(of("lab-read.service", "CVE-read"), "{left:#}");
    assert!(
        !of("lab-read.service", "CVE-unused-a") && !of("lab-read.service", "CVE-ran-a"),
        "{left:#}"
    );
}

/// A module is read by an interpreter that listens, and is called from another place.
fn reads_and_listens(home: &Home, lab: &Lab) -> Stays {
    let text = format!(
        "import sys; sys.path.insert(0, '{}'); import hedgerow_read, socket, time\n\
         s = socket.socket(); s.bind(('0.0.0.0', 4096)); s.listen(); print(flush=True)\n\
         s.accept()[0].close(); time.sleep(600)",
        home.file("usr/share/read")
    );
    let command = |site, text: &str| {
        let mut command = lab.command(site, "read", &User::ROOT, "python3").unwrap();
        command.args(["-B", "-c", text]);
        command
    };
    let listens = Stays::begin(&mut command(Site::Service, &text));
    let address = Site::Service.ipv4();
    let call = format!("import socket; socket.create_connection(('{address}', 4096), 30).recv(1)");
    run(&mut command(Site::Clients, &call));
    listens
}

/// OpenVEX says no more than was seen, but for what somebody asserts.
fn statements(home: &Home, reports: &[PathBuf]) {
    let assertion = "CVE-unused-a=vulnerable_code_not_in_execute_path";
    let arguments =
        ["--format", "openvex", "--assert", assertion, "--by", "Carol", "--until", "2999-01-01"];
    let document = home.exposure(reports, &arguments);
    let statements = document["statements"].as_array().unwrap();
    let status = |id: &str| {
        let of = |one: &&Value| one["vulnerability"]["name"] == id;
        statements.iter().find(of).unwrap()["status"].as_str().unwrap()
    };
    assert_eq!(status("CVE-ran-a"), "affected");
    assert_eq!(status("CVE-restart"), "affected");
    assert_eq!(status("CVE-unused-a"), "not_affected");
    assert_eq!(status("CVE-unused-b"), "under_investigation");
}

#[test]
fn what_can_not_be_read_is_named_and_ends_with_its_code() {
    let home = Home::new();
    let report = home.path("broken.json");
    fs::write(
        &report,
        "{\"SchemaVersion\":2,\"Results\":[{\"Vulnerabilities\":[{\"PkgName\":1}]}]}",
    )
    .unwrap();
    let run = |report: &Path, arguments: &[&str]| {
        let mut command = Command::new(HEDGEROW);
        command.args(["exposure", "--state"]).arg(home.path("state")).args(arguments);
        let output = command.arg("--report").arg(report).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&report, &[]);
    assert_eq!(code, 4);
    assert!(said.contains("broken.json: Results[0].Vulnerabilities[0].PkgName"), "{said}");
    fs::write(&report, "{\"matches\":[]}").unwrap();
    let (code, said) = run(&report, &[]);
    assert_eq!(code, 4);
    assert!(said.contains("used.json is not there"), "{said}");
    let asserted = ["--format", "openvex", "--by", "C", "--until"];
    for (until, assertion) in [
        ("2001-01-01", "CVE-1=component_not_present"),
        ("2999-01-01", "CVE-1=because"),
        ("soon", "CVE-1=component_not_present"),
    ] {
        let (code, said) = run(&report, &[&asserted[..], &[until, "--assert", assertion]].concat());
        assert_eq!(code, 2, "{said}");
    }
}

const PORT: u16 = 4096;
const OTHER_USER: User = User { uid: 4242, gid: 4242 };

/// Takes whatever comes.
const TAKES: &str = "import socket, threading\n\
    def take(c):\n  while c.recv(1 << 20): pass\n  c.close()\n\
    s = socket.create_server(('::', 4096), family=socket.AF_INET6, dualstack_ipv6=True)\n\
    print(flush=True)\n\
    while True: threading.Thread(target=take, args=(s.accept()[0],)).start()";

/// What the clients' interface has received and sent.
fn counted(lab: &Lab) -> [u64; 2] {
    let namespace = format!("{}.clients", lab.name());
    let show = ["-n", &namespace, "-j", "-s", "link", "show", "dev", "eth0"];
    let output = Command::new("ip").args(show).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["rx", "tx"].map(|way| told[0]["stats64"][way]["bytes"].as_u64().unwrap())
}

fn usage(state: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(HEDGEROW);
    let output = command.args(["usage", "--state", state, "--json"]).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Of a line, or of what stands beside the lines.
fn ways(told: &Value) -> [u64; 2] {
    ["received", "sent"].map(|way| told[way].as_u64().unwrap())
}

fn line(told: &Value, name: &str) -> [u64; 2] {
    let mut lines = told["lines"].as_array().unwrap().iter();
    ways(lines.find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name}: {told:#}")))
}

/// Within a hundredth; what the kernel sends by itself before and after a daemon's life is some kilobytes.
fn within_a_hundredth(told: u64, counted: u64) -> bool {
    told.abs_diff(counted) < counted / 100 + (16 << 10)
}

/// A daemon's life, in which one program of a user sends by IPv6 and one of root by IPv4.
fn lives(lab: &Lab, home: &Path, config: &str) {
    let arguments = ["--config", config, "--no-syscalls"];
    let daemon = Daemon::start(Path::new(HEDGEROW), &arguments, &home.join("log")).unwrap();
    let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
    daemon.wait_for("start", LIMIT, started).unwrap();
    let address = Site::Service.ipv6();
    let text = format!(
        "import socket\ns = socket.create_connection(('{address}', {PORT}), 30)\n\
         s.sendall(bytes(30 << 20)); s.shutdown(1); s.recv(1)"
    );
    let mut python = lab.command(Site::Clients, "usage", &OTHER_USER, "python3").unwrap();
    run(python.args(["-c", &text]));
    let text = format!("head -c 20000000 /dev/zero >/dev/tcp/{}/{PORT}", Site::Service.ipv4());
    let mut bash = lab.command(Site::Clients, "usage", &User::ROOT, "bash").unwrap();
    run(bash.args(["-c", &text]));
    // What is still on its way when nothing counts any more would be nobody's.
    let mut sent = 0;
    while sent != counted(lab)[1] {
        sent = counted(lab)[1];
        std::thread::sleep(Duration::from_millis(300));
    }
    daemon.interrupt().unwrap();
}

#[test]
fn who_used_how_many_bytes_is_kept_by_day_and_over_a_restart() {
    let lab = Lab::up().unwrap();
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state").display().to_string();
    let config = home.path().join("hedgerow.toml");
    fs::write(&config, format!("state = {state:?}\n[usage]\nenabled = true\n")).unwrap();
    let config = config.display().to_string();
    let mut takes = lab.command(Site::Service, "takes", &User::ROOT, "python3").unwrap();
    let _takes = Stays::begin(takes.args(["-c", TAKES]));
    let mut stays = lab.command(Site::Clients, "usage", &User::ROOT, "sh").unwrap();
    let _stays = Stays::begin(stays.args(["-c", "echo; exec sleep 600"]));
    let place = "eth0@lab-usage.service";
    let at = ["--interface", place, "--by"];
    let of = |by: &str| usage(&state, &[&at[..], &[by]].concat());
    for life in 1..=2_u64 {
        let before = if life == 1 { counted(&lab) } else { [0; 2] };
        lives(&lab, home.path(), &config);
        let told = of("program");
        let (head, named) = (line(&told, "/usr/bin/head"), ways(&told["other"]));
        // What is sent again counts again.
        assert!((life * 20_000_000..life * 30_000_000).contains(&head[1]), "{told:#}");
        let all = ways(&told["counted"]);
        assert!(named[1] * 100 < all[1], "{told:#}");
        if life == 1 {
            let now = counted(&lab);
            let each = all.iter().zip(now.iter().zip(before));
            let right = each.map(|(told, (now, before))| (*told, now - before));
            assert!(right.clone().all(|(told, now)| within_a_hundredth(told, now)), "{told:#}");
        }
    }
    let told = of("user");
    let sent = line(&told, "4242")[1];
    assert!((60 << 20..90 << 20).contains(&sent), "{told:#}");
    assert!(line(&of("peer"), &Site::Service.ipv6().to_string())[1] >= sent, "{:#}", of("peer"));
    let users = usage(&state, &["--user", "4242", "--by", "program"]);
    assert!(users["other"].is_null() && users["lines"].as_array().unwrap().len() == 1, "{users:#}");
    assert!(users["lines"][0]["name"].as_str().unwrap().contains("/python3"), "{users:#}");
    let told = usage(&state, &["--by", "day"]);
    assert!(
        told["lines"].as_array().unwrap().len() <= 2 && told["watched"][1].is_object(),
        "{told:#}"
    );
    for file in fs::read_dir(home.path().join("state/usage")).unwrap().flatten() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let shown = Command::new(HEDGEROW).args(["usage", "--state", &state]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&shown.stdout));
}
