//! What an operator sends holds what helps and no secret: through the program itself.

#![allow(clippy::unwrap_used)]

#[path = "../event/src/gate/corpus.rs"]
mod corpus;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Output},
};

use flate2::read::GzDecoder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
/// Exit codes, by `hedgerow --help`.
const HOST: i32 = 3;
const FILE: i32 = 4;
/// Lines and bytes that are taken of the ledger at most, by the manual.
const LEDGER_LINES: usize = 500;
const PART_BYTES_MAX: usize = 4 << 20;

fn support(out: &Path, config: &Path) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("support").arg(out).arg("--config").arg(config).output().unwrap()
}

/// Names without the directory, and what is there.
fn unpacked(bundle: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(bundle).unwrap()));
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let path = entry.path().unwrap().into_owned();
        let name = path.strip_prefix("hedgerow-support").unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Serves one page of metrics, as whoever listens there could.
fn serve_metrics() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1024];
        assert!(stream.read(&mut asked).unwrap() > 0);
        let page = "# HELP m Of token buckets: some.\nm{workload=\"mysql -pS3CRET db\",key=\"a\"} 1\n\
                    m{workload=\"say \\\"hi\\\" --password S3CRET\"} 2\n";
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
        stream.write_all((head + page).as_bytes()).unwrap();
    });
    address
}

/// The corpus in every place that a stranger's words can get to, as if nothing had passed the gate
/// before.
fn planted(home: &Path) -> std::path::PathBuf {
    let state = home.join("state");
    fs::create_dir(&state).unwrap();
    let texts: Vec<String> = corpus::SECRETS.iter().map(|(words, _)| words.join(" ")).collect();
    let line = |text: &String| {
        let process = serde_json::json!({ "pid": 1, "command_line": text, "ancestors": [text] });
        let line = serde_json::json!({ "uid": "u", "reason": text, "process": process, "password": "S3CRET" });
        format!("{line}\n")
    };
    let all: String = texts.iter().map(line).collect();
    // What a crash left of a line is no JSON any more.
    let torn = format!("{all}{{\"reason\":\"{}", texts[0]);
    fs::write(state.join("findings.jsonl"), &torn).unwrap();
    fs::write(state.join("findings.jsonl.1"), &all).unwrap();
    fs::write(state.join("ledger.jsonl"), all.repeat(20)).unwrap();
    fs::write(state.join("ledger.1"), &all).unwrap();
    fs::write(state.join("identity.key"), "S3CRETS3CRETS3CR").unwrap();
    fs::write(state.join("model.hedgerow"), "S3CRET").unwrap();
    let config = home.join("hedgerow.toml");
    let kafka = "[kafka]\nbrokers = \"127.0.0.1:9\"\n[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \
                 \"u\"\npassword = \"S3CRET\"\n[kafka.properties]\n\"ssl.key.password\" = \"S3CRET\"\n";
    fs::write(&config, format!("state = {state:?}\n{kafka}")).unwrap();
    config
}

#[test]
fn a_bundle_holds_what_helps_and_none_of_the_secrets_that_were_planted() {
    let home = tempfile::tempdir().unwrap();
    let config = planted(home.path());
    let listen = format!("[metrics]\nlisten = \"{}\"\n", serve_metrics());
    fs::write(&config, fs::read_to_string(&config).unwrap() + &listen).unwrap();
    let out = home.path().join("bundle.tar.gz");
    let output = support(&out, &config);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o600, 0));
    let parts = unpacked(&out);
    for (name, text) in &parts {
        let leaks = ["S3C", "UzND"].iter().find_map(|secret| text.find(secret));
        assert_eq!(leaks.map(|at| &text[at.saturating_sub(200)..at + 8]), None, "{name}");
        assert!(text.len() <= PART_BYTES_MAX, "{name}");
    }
    // Nothing but the secrets is gone.
    let part = |name: &str| parts.get(name).unwrap_or_else(|| panic!("no {name} in {said}"));
    assert_eq!(part("ledger.jsonl").lines().count(), LEDGER_LINES);
    assert!(part("findings.jsonl").contains("lines_that_are_not_whole\":1"));
    assert!(part("findings.jsonl").contains("mysql -p*** db"));
    assert!(part("config.json").contains("\"kafka.sasl.username\",\"value\":\"u\""));
    let metrics = part("metrics.txt");
    assert!(metrics.contains("# HELP m Of token buckets: some.\n"), "{metrics}");
    assert!(metrics.contains("m{workload=\"say \\\"hi\\\" --password ***\"} 2\n"), "{metrics}");
    assert!(metrics.contains("m{workload=\"mysql -p*** db\",key=\"a\"} 1\n"), "{metrics}");
    assert!(part("doctor.json").contains("\"features\""));
    assert!(part("versions.json").contains(env!("CARGO_PKG_VERSION")));
    assert!(part("files.json").contains("identity.key"), "its name and size alone");
    // Without a daemon and with a broken model: said in the bundle and on the terminal.
    let manifest: serde_json::Value = serde_json::from_str(part("manifest.json")).unwrap();
    for missing in ["status.json", "model.json"] {
        let left = manifest["left_out"].as_array().unwrap();
        let one = left.iter().find(|one| one["name"] == missing).unwrap();
        assert!(one["why"].as_str().unwrap().len() > 10 && !parts.contains_key(missing), "{one}");
        assert!(said.contains(missing), "{said}");
    }
}

#[test]
fn a_bundle_is_made_where_nothing_was_and_of_what_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let config = planted(home.path());
    let state = home.path().join("state");
    // Each is named, and none is followed or waited for.
    fs::remove_file(state.join("ledger.jsonl")).unwrap();
    symlink("/etc/shadow", state.join("ledger.jsonl")).unwrap();
    fs::remove_file(state.join("findings.jsonl")).unwrap();
    let pipe = state.join("findings.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let out = home.path().join("bundle.tar.gz");
    let output = support(&out, &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = fs::read(&out).unwrap();
    let parts = unpacked(&out);
    for name in ["ledger.jsonl", "findings.jsonl", "metrics.txt"] {
        assert!(!parts.contains_key(name) && parts["manifest.json"].contains(name));
    }
    // What is there stays, also where it is a link.
    let link = home.path().join("link");
    symlink(home.path().join("elsewhere"), &link).unwrap();
    for taken in [&out, &link] {
        let output = support(taken, &config);
        assert_eq!(output.status.code(), Some(FILE));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("doesn't exist yet") && said.contains(taken.to_str().unwrap()),
            "{said}"
        );
    }
    assert_eq!(fs::read(&out).unwrap(), before);
    assert!(!home.path().join("elsewhere").exists());
    // A configuration that no daemon would take is no reason to have none.
    fs::write(&config, "state = 7\n").unwrap();
    let other = home.path().join("other.tar.gz");
    assert!(support(&other, &config).status.success());
    assert!(unpacked(&other)["manifest.json"].contains("config.json"));
}

#[test]
fn the_ledger_that_was_rotated_away_is_in_the_bundle() {
    let home = tempfile::tempdir().unwrap();
    let config = planted(home.path());
    let state = home.path().join("state");
    let out = home.path().join("bundle.tar.gz");
    fs::write(state.join("ledger.1"), "{\"uid\":\"first\"}\n").unwrap();
    fs::write(state.join("ledger.jsonl"), "{\"uid\":\"second\"}\n").unwrap();
    assert!(support(&out, &config).status.success());
    let both = "{\"uid\":\"first\"}\n{\"uid\":\"second\"}\n";
    assert_eq!(unpacked(&out)["ledger.jsonl"], both);
}

#[test]
fn only_root_makes_one_and_others_are_told_what_they_can_send() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let out = home.path().join("bundle.tar.gz");
    // Where this was built may be nobody's to enter. Another process copies, so that no thread's child
    // holds the file open for writing while it is started.
    let program = home.path().join("hedgerow");
    let copied = Command::new("install").args(["-m", "755", PROGRAM]).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(&program);
    command.arg("support").arg(&out);
    command.uid(65_534).gid(65_534);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(HOST), "{said}");
    assert!(said.contains("only root") && said.contains("status --json"), "{said}");
    assert!(!out.exists());
    // To who may not see what is pinned it looks as if nothing were.
    let output =
        Command::new(&program).args(["disarm", "--remove"]).uid(65_534).gid(65_534).output();
    let (status, said) = output.map(|of| (of.status, of.stderr)).unwrap();
    assert_eq!(status.code(), Some(HOST));
    assert!(String::from_utf8_lossy(&said).contains("only root disarms"));
}
