#![allow(clippy::unwrap_used)]
use std::{os::unix::fs::PermissionsExt, path::Path};

use super::*;

#[test]
fn a_command_finds_the_state_directory_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    std::fs::write(&config, "state = \"/srv/hedgerow\"\n").unwrap();
    let given = cli::State { state: None, config: Some(config) };
    assert_eq!(state(&given).unwrap(), Path::new("/srv/hedgerow"));
    let given = cli::State { state: Some("/other".into()), ..given };
    assert_eq!(state(&given).unwrap(), Path::new("/other"));
}

#[test]
fn what_is_wrong_with_the_files_keeps_no_command_from_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    let drop_in = directory.path().join("conf.d/10-a.toml");
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    let given = cli::State { state: None, config: Some(config.clone()) };
    assert!(state(&given).is_err(), "a file that is named and isn't there");
    std::fs::write(&config, "state = \"/srv/hedgerow\"\nbudgets = 1\n").unwrap();
    for text in ["state = ", "budgets = 1\n", "[kafka]\n"] {
        std::fs::write(&drop_in, text).unwrap();
        assert_eq!(state(&given).unwrap(), Path::new("/srv/hedgerow"), "{text}");
    }
    std::fs::write(&drop_in, "state = \"/last\"\n[kafka]\nbroker = 1\n").unwrap();
    assert_eq!(state(&given).unwrap(), Path::new("/last"));
}

#[test]
fn what_is_mounted_to_be_read_alone_is_nobodys_to_write() {
    // As Kubernetes mounts a ConfigMap.
    let disk = hedgerow_lab::Disk::mount("size=1m,mode=0777").unwrap();
    let config = disk.path().join("hedgerow.toml");
    std::fs::write(&config, "budget = 3.0\n").unwrap();
    assert!(load(&config).unwrap_err().to_string().contains("others may write to it"));
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(mounted.success());
    assert_eq!(load(&config).unwrap().budget_per_day, 3.0);
}

#[test]
fn only_regular_files_of_some_size_that_nobody_else_writes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    let drop_ins = directory.path().join("conf.d");
    let odd = drop_ins.join("50-odd.toml");
    std::fs::create_dir(&drop_ins).unwrap();
    let refused = || load(&config).unwrap_err().to_string();
    std::fs::write(&config, "").unwrap();
    // An editor's lock is a link to nothing.
    std::os::unix::fs::symlink("nowhere", drop_ins.join(".#40-kafka.toml")).unwrap();
    std::fs::write(drop_ins.join(".hidden.toml"), "budget = 7.0\n").unwrap();
    assert_eq!(load(&config).unwrap().budget_per_day, BUDGET_PER_DAY_DEFAULT);
    let made = std::process::Command::new("mkfifo").arg(&odd).status().unwrap();
    assert!(made.success());
    assert!(format!("{:#}", load(&config).unwrap_err()).contains("50-odd.toml"));
    std::fs::remove_file(&odd).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &odd).unwrap();
    assert!(refused().contains("50-odd.toml"), "{}", refused());
    std::fs::remove_file(&odd).unwrap();
    std::fs::write(&odd, format!("#{}", "x".repeat(1 << 20))).unwrap();
    assert!(refused().contains("50-odd.toml"), "{}", refused());
    std::fs::write(&odd, "").unwrap();
    assert!(load(&config).is_ok());
    for (path, mode) in [(&odd, 0o666), (&drop_ins, 0o777), (&config, 0o602)] {
        let before = std::fs::metadata(path).unwrap().permissions();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let why = refused();
        assert!(why.contains("others may write to it") && why.contains("chmod go-w"), "{why}");
        std::fs::set_permissions(path, before).unwrap();
    }
    assert!(load(&config).is_ok());
}

fn load(config: &Path) -> anyhow::Result<Config> {
    Config::load(&cli::Run { config: Some(config.to_owned()), ..cli::Run::default() }, false)
}

#[test]
fn a_wrong_value_is_not_told_but_its_file_and_field_are() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    let head = "[kafka]\nbrokers = \"h:9092\"\n";
    for (wrong, field) in [
        ("sasl = \"hunter2\"", "kafka.sasl"),
        ("in_flight_limit = \"hunter2\"", "kafka.in_flight_limit"),
        ("topics = 271828", "kafka.topics"),
        ("[kafka.tls]\nca_file = 271828", "kafka.tls.ca_file"),
        ("in_flight_limit = 0", "kafka.in_flight_limit"),
    ] {
        std::fs::write(&config, format!("{head}{wrong}\n")).unwrap();
        let why = load(&config).unwrap_err().to_string();
        assert!(!why.contains("hunter2") && !why.contains("271828"), "{why}");
        assert!(why.starts_with(&format!("{}: {field}: ", config.display())), "{why}");
    }
    for (text, field) in [
        ("learn = 271828\n", "line 1: learn: "),
        ("learn = \"271828\"\n", ": learn: "),
        ("[governor]\ncpu = \"271828\"\n", ": governor.cpu: "),
        ("[governor]\nmemory = \"271828\"\n", ": governor.memory: "),
        (
            "[recorder]\nbytes = \"16MiB\"\n",
            "line 2: recorder.bytes: invalid type: string, expected a whole",
        ),
        ("[metrics]\nlisten = \"271828\"\n", "line 2: metrics.listen: "),
        ("key_file = \"/nowhere/key\"\n", ": key_file: "),
        ("state = \"relative\"\n", ": state: "),
        ("[kafka]\n", ": kafka: missing field `brokers`"),
    ] {
        std::fs::write(&config, text).unwrap();
        let why = load(&config).unwrap_err().to_string();
        assert!(why.starts_with(&config.display().to_string()), "{why}");
        assert!(why.contains(field) && !why.contains("271828"), "{why}");
    }
    std::fs::write(
        &config,
        format!(
            "{head}sasl = {{ mechanism = \"PLAIN\", username = \"u\", password_file = \"/p\" }}\n"
        ),
    )
    .unwrap();
    let told: Vec<String> = load(&config).unwrap().warnings().collect();
    assert!(told.iter().any(|told| told.starts_with("kafka.sasl: PLAIN without")), "{told:?}");
}

#[test]
fn a_file_with_a_secret_that_others_may_read_is_told_with_its_mode_and_no_secret() {
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // What is above is looked at, too.
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let config = directory.path().join("hedgerow.toml");
    let drop_ins = directory.path().join("conf.d");
    let drop_in = drop_ins.join("40-kafka.toml");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(&config, "[kafka]\nbrokers = \"a:1\"\n").unwrap();
    for path in [directory.path(), &drop_ins] {
        set(path, 0o755);
    }
    let told = |text: &str, mode| {
        std::fs::write(&drop_in, text).unwrap();
        set(&drop_in, mode);
        load(&config).unwrap().warnings().collect::<Vec<_>>()
    };
    let sasl = "[kafka.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"u\"\n";
    let password = format!("{sasl}password = \"hunter2\"\n");
    let properties = |name: &str| format!("[kafka.properties]\n\"{name}\" = \"hunter2\"\n");
    for text in [
        password.clone(),
        "[kafka.tls]\nkey_password = \"hunter2\"\n".to_owned(),
        properties("ssl.key.password"),
        properties("sasl.oauthbearer.client.secret"),
    ] {
        let [told]: [String; 1] = told(&text, 0o644).try_into().unwrap();
        assert!(told.starts_with(&format!("{} (mode 0644) ", drop_in.display())), "{told}");
        assert!(told.contains(&format!("chmod o= {}", drop_in.display())), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert_eq!(told(&password, 0o640), [""; 0]);
    assert_eq!(told(&format!("{sasl}password_file = \"/p\"\n"), 0o644), [""; 0]);
    assert_eq!(told(&properties("linger.ms"), 0o644), [""; 0]);
    // As the packages make it.
    set(&drop_ins, 0o750);
    assert_eq!(told(&password, 0o644), [""; 0]);
}

#[test]
fn what_keeps_more_than_findings_is_refused_beside_aggregate_and_cost_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    let said = |text: &str| {
        std::fs::write(&config, text).unwrap();
        load(&config).map_err(|why| why.to_string())
    };
    let mode = said("aggregate = true\n[governor]\ncpu = \"2%\"\n").unwrap();
    assert!(mode.aggregate && mode.recorder_bytes == 0 && mode.ring_bytes == 1 << 20);
    assert_eq!(mode.governor, Governor { cpu: Some(0.02), memory: None });
    assert!(said("aggregate = true\n[recorder]\nbytes = 0\n[journald]\n").is_ok());
    for (text, key) in [
        ("aggregate = true\n[kafka]\nbrokers = \"a:1\"\n", "kafka"),
        ("aggregate = true\n[jsonl]\npath = \"/r\"\n", "jsonl"),
        ("aggregate = true\n[recorder]\nbytes = 4096\n", "recorder.bytes"),
        ("[governor]\ncpu = \"2\"\n", "governor.cpu"),
        ("[governor]\nmemory = \"0MiB\"\n", "governor.memory"),
    ] {
        let why = said(text).unwrap_err();
        assert!(why.starts_with(&format!("{}: {key}: ", config.display())), "{why}");
    }
}

#[test]
fn later_files_win_and_each_error_names_the_one_that_it_is_in() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("hedgerow.toml");
    let drop_in = |name: &str, text: &str| {
        let path = directory.path().join("conf.d").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    std::fs::write(
        &config,
        "budget = 2.0\nlearn = \"2h\"\n[kafka]\nbrokers = \"a:1\"\nclient_id = \"c\"\n",
    )
    .unwrap();
    drop_in("10-a.toml", "budget = 3.0\n[kafka]\nbrokers = \"b:2\"\n");
    let last = drop_in("20-b.toml", "budget = 4.0\n");
    drop_in("30-not-read.toml.bak", "budget = nonsense");
    let loaded = load(&config).unwrap();
    let kafka = &loaded.sinks[0].shown;
    assert_eq!((loaded.budget_per_day, loaded.learn.as_secs()), (4.0, 7200));
    assert_eq!((kafka["brokers"].as_str(), kafka["client_id"].as_str()), (Some("b:2"), Some("c")));
    for (text, said) in [
        ("budget = -1.0\n", ": budget: -1 is not"),
        ("\nbudgets = 1\n", " line 2: unknown field `budgets`, expected one of `state`"),
        ("[kafak]\nbrokers = \"a:1\"\n", " line 1: unknown field `kafak`, expected one of `state`"),
        ("\nkafka = \"a:1\"\n", " line 2: kafka is a table"),
        ("[jsonl]\npaths = \"/r\"\n", ": jsonl.paths: unknown field `paths`"),
        ("[jsonl]\nkeep = 2\n", ": jsonl: missing field `path`"),
        ("[kafka]\nbrokers = \"nowhere\"\n", ": kafka.brokers: write host:port"),
        ("[jsonl]\npath = \"reports\"\n", ": jsonl.path: write the whole path"),
        ("[jsonl]\npath = \"/r\"\nkeep = 5000\n", ": jsonl.keep: at most 1000"),
    ] {
        std::fs::write(&last, text).unwrap();
        let why = load(&config).unwrap_err().to_string();
        assert!(why.starts_with(&format!("{}{said}", last.display())), "{why}");
    }
}
