//! What a live daemon tells a scraper: health, readiness, and every metric that the shipped rules and
//! dashboard ask for. `make metrics-test` asks their queries of a real Prometheus.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use hedgerow_lab::{Daemon, Line};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const STARTED: Duration = Duration::from_secs(60);
/// The first window, and the first statistics of BPF programs.
const TOLD: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(5);
/// What a window or some decide comes within this time.
const HELD: Duration = Duration::from_secs(60);
/// Usage, by `hedgerow --help`.
const USAGE: i32 = 2;
/// Told once learning has ended.
const LATER: [&str; 3] = [
    "hedgerow_budget_class_floor_nats",
    "hedgerow_model_learned_timestamp_seconds",
    "hedgerow_model_saved_timestamp_seconds",
];

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let words = text.split(word).filter(|word| word.starts_with("hedgerow_"));
    words.map(str::to_owned).collect()
}

/// What one costs is no other test's to change.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn what_rules_and_dashboard_ask_for_is_told_by_a_live_daemon() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let config = home.path().join("hedgerow.toml");
    // Nothing listens on the discard port: Kafka's spool is there all the same.
    let kafka = "[kafka]\nbrokers = \"127.0.0.1:9\"\n";
    fs::write(&config, format!("{kafka}[metrics]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    let arguments =
        ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap(), "--no-syscalls"];
    let log = home.path().join("log");
    let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
    let serves = |line: &Line| matches!(line, Line::Status(told) if told["metrics"].is_string());
    let Line::Status(told) = daemon.wait_for("address of metrics", STARTED, serves).unwrap() else {
        unreachable!("it is a status")
    };
    let address = told["metrics"].as_str().unwrap().to_owned();
    let mut missing: BTreeSet<String> = ["prometheus/hedgerow.rules.yml", "grafana/hedgerow.json"]
        .iter()
        .flat_map(|file| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file);
            names(&fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(missing.len() > 30, "{missing:?}");
    for later in LATER {
        missing.remove(later);
    }
    let value = |metrics: &str, name: &str| -> Option<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().parse().unwrap())
    };
    let until = Instant::now() + TOLD;
    let metrics = loop {
        // On a quiet host nobody else starts anything, and has no workload then.
        assert!(Command::new("/bin/true").status().unwrap().success());
        let metrics = get(&address, "/metrics");
        let told = names(&metrics);
        missing.retain(|name| !told.contains(name));
        let ran = metrics.lines().any(|line| {
            let runs = line.strip_prefix("hedgerow_bpf_program_runs_total{");
            runs.is_some_and(|runs| !runs.ends_with(" 0"))
        });
        let executed = value(&metrics, "hedgerow_events_total{kind=\"exec\"} ") > Some(0.0);
        let lives = ["learning", "provisional", "mature"].iter().any(|state| {
            value(&metrics, &format!("hedgerow_workloads{{state=\"{state}\"}} ")) > Some(0.0)
        });
        if missing.is_empty() && ran && executed && lives {
            break metrics;
        }
        let counted = format!("an exec: {executed}, a workload: {lives}");
        assert!(Instant::now() < until, "never told: {missing:?}; {counted}\n{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let value = |name: &str| value(&metrics, name).unwrap();
    assert_eq!(value("hedgerow_phase{phase=\"fill\"} "), 1.0);
    assert_eq!(value("hedgerow_sink_up{sink=\"kafka\"} "), 0.0);
    assert!(value("hedgerow_bpf_sampled_seconds_total ") < 60.0, "statistics are on for moments");
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200 "));
    let ready = get(&address, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("learning"), "{ready}");
    bundled(home.path(), &state, &address);
    daemon.interrupt().unwrap();
    assert!(TcpStream::connect(&address).is_err(), "nothing listens any more");
}

/// An operator's bundle has the live daemon's status, and metrics that passing the gate left whole.
fn bundled(home: &Path, state: &Path, address: &str) {
    let config = home.join("support.toml");
    let text = format!("state = {state:?}\n[metrics]\nlisten = {address:?}\n");
    fs::write(&config, text).unwrap();
    let bundle = home.join("bundle.tar.gz");
    let mut command = Command::new(PROGRAM);
    command.arg("support").arg(&bundle).arg("--config").arg(&config);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(&bundle).unwrap()));
    let mut found = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        if path.ends_with("status.json") {
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status["phase"], "fill");
            found += 1;
        } else if path.ends_with("metrics.txt") {
            assert_eq!(names(&text), names(&get(address, "/metrics")));
            let hidden: Vec<&str> = text.lines().filter(|line| line.contains("***")).collect();
            assert!(text.contains("hedgerow_phase{phase=\"fill\"} 1"), "{text}");
            assert!(hidden.is_empty(), "{hidden:?}");
            found += 1;
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn an_address_that_others_reach_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("hedgerow.toml");
    fs::write(&config, "[metrics]\nlisten = \"0.0.0.0:9469\"\n").unwrap();
    let output = Command::new(PROGRAM).arg("run").arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(USAGE), "{said}");
    assert!(said.contains("metrics.listen") && said.contains("127.0.0.1:9469"), "{said}");
}

/// Opens of a file that everybody may read, so many threads, a hundred a second each: more are not told
/// anyway.
struct Opens {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Opens {
    fn begin(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let open = |stop: Arc<AtomicBool>| {
            while !stop.load(Ordering::Relaxed) {
                (0..10).for_each(|_| drop(fs::File::open("/etc/hostname").unwrap()));
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        let thread = |_| {
            std::thread::spawn({
                let stop = Arc::clone(&stop);
                move || open(stop)
            })
        };
        Self { threads: (0..threads).map(thread).collect(), stop }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// CPU time of a process and its threads, by its clock ticks.
fn ticks(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Parts of a core that a process uses in a time.
fn cores(pid: u32, time: Duration) -> f64 {
    let (begun, before) = (Instant::now(), ticks(pid));
    std::thread::sleep(time);
    (ticks(pid) - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// A value, and 0 where it is not told.
fn told(address: &str, name: &str) -> f64 {
    let metrics = get(address, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |line| line.trim().parse().unwrap())
}

/// Levers that are pulled, in the order of the table, at one time.
fn shed(address: &str) -> Vec<bool> {
    let metrics = get(address, "/metrics");
    let pulled = |lever| metrics.contains(&format!("hedgerow_shed{{lever=\"{lever}\"}} 1"));
    ["recorder", "used", "usage", "names", "grams", "reads"].map(pulled).to_vec()
}

fn wait(what: &str, address: &str, done: impl Fn(&[bool]) -> bool) {
    let until = Instant::now() + HELD;
    loop {
        let shed = shed(address);
        assert!(shed.is_sorted_by(|a, b| a >= b), "the first first: {shed:?}");
        if done(&shed) {
            return;
        }
        assert!(Instant::now() < until, "{what}: {shed:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// One that is killed where a test ends before it does.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn refused(home: &Path) -> Started {
    let config = home.join("refused.toml");
    fs::write(&config, "[governor]\ncpu = \"0.01%\"\n").unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg("--config").arg(&config).arg("--state").arg(home.join("refused"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Started(command.spawn().unwrap())
}

/// Its exit code and what it said, once it has ended.
fn ended(mut started: Started) -> (Option<i32>, String) {
    let until = Instant::now() + STARTED + HELD;
    let status = loop {
        if let Some(status) = started.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "it goes on");
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut said = String::new();
    started.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

#[test]
fn a_budget_of_cpu_has_things_shed_under_load_and_too_small_ones_are_refused() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("hedgerow.toml");
    let state = home.path().join("state").display().to_string();
    let budget = |cores: f64| {
        let percent = cores * 100.0;
        let text = "[metrics]\nlisten = \"127.0.0.1:0\"\n[governor]\nmemory = \"1GiB\"\n";
        fs::write(&config, format!("{text}cpu = \"{percent:.4}%\"\n")).unwrap();
    };
    budget(10.0);
    let small = refused(home.path());
    let arguments = ["--config", config.to_str().unwrap(), "--state", &state];
    let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &home.path().join("log")).unwrap();
    let serves = |line: &Line| matches!(line, Line::Status(told) if told["metrics"].is_string());
    let Line::Status(line) = daemon.wait_for("address of metrics", STARTED, serves).unwrap() else {
        unreachable!("it is a status")
    };
    let address = line["metrics"].as_str().unwrap().to_owned();
    // What can't be shed is measured: nothing else is looked at.
    wait("a start", &address, |shed| shed == [true; 6]);
    wait("the start's end", &address, |shed| shed == [false; 6]);
    let (code, said) = ended(small);
    assert_eq!(code, Some(USAGE), "{said}");
    assert!(said.contains("governor.cpu: 0.01 % of a core is less than the "), "{said}");
    let idle = cores(daemon.id(), 2 * WINDOW);
    let load = Opens::begin(60);
    std::thread::sleep(WINDOW);
    let (own, bpf) = ("{by=\"own\"}", "{by=\"bpf\"}");
    let loaded = cores(daemon.id(), 3 * WINDOW);
    let used = |by| told(&address, &format!("hedgerow_cpu_used_ratio{by}"));
    let cores_of_bpf = used(bpf);
    assert!(loaded > 1.5 * idle && used(own) > idle, "{idle} at rest, {loaded} under load");
    // Less than it takes now, as if the load had come after the budget.
    let allowed = idle + (loaded - idle) / 3.0 + cores_of_bpf;
    budget(allowed);
    // SAFETY: a signal to a child of ours that lives.
    unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGHUP) };
    wait("something is shed", &address, |shed| shed[0]);
    let shed = shed(&address);
    load.end();
    // How well it holds is told by `make governor-plot`: here others have their part in it.
    eprintln!(
        "{idle} at rest, {loaded} under load, {allowed} allowed: {shed:?}; {cores_of_bpf} of BPF programs"
    );
    daemon.interrupt().unwrap();
}
