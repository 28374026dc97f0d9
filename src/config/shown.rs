//! The configuration in force, value by value, each with where it is from.

use std::time::Duration;

use serde::Serialize;
use toml::{Table, Value};

use super::{Config, Configured, Files, Origin};

/// A value of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Dotted.
    pub key: String,
    /// Secrets are `***`.
    pub value: Value,
    /// A file's path, `command line` or `default`.
    pub from: String,
}

/// Every value in force.
///
/// # Errors
/// A file changed meanwhile and can't be read.
pub fn shown(config: &Config) -> anyhow::Result<Vec<Shown>> {
    let files = Files::read(config.given.config.as_deref())?.with(&config.given);
    let given = given(config);
    let mut all = Vec::new();
    flatten(&values(config)?, "", &mut |key, value| {
        let from = match given.contains(&key.as_str()) {
            true => Origin::CommandLine,
            false => files.origin(&key),
        };
        all.push(Shown { key, value: value.clone(), from: from.to_string() });
    });
    Ok(all)
}

/// Keys whose values differ.
///
/// # Errors
/// A path among the values is no text.
pub fn changed(old: &Config, new: &Config) -> anyhow::Result<Vec<String>> {
    // Secrets look the same; they are compared as they are.
    let mut keys = Vec::new();
    let (old_values, new_values) = (values(old)?, values(new)?);
    let has = |all: &Config, sink: &Configured| all.sinks.iter().any(|other| other.is_same(sink));
    let secrets = new.sinks.iter().filter(|sink| !has(old, sink));
    let secrets: Vec<&str> = secrets.map(|sink| sink.row.name).collect();
    for key in old_values.keys().chain(new_values.keys()) {
        let differs = old_values.get(key) != new_values.get(key) || secrets.contains(&key.as_str());
        if differs && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    Ok(keys)
}

/// Keys that the command line said.
fn given(config: &Config) -> Vec<&'static str> {
    let run = &config.given;
    let said = [
        ("state", run.state.is_some()),
        ("learn", run.learn.is_some()),
        ("budget", run.budget.is_some()),
        ("no_syscalls", run.no_syscalls),
        ("key_file", run.key_file.is_some()),
    ];
    said.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect()
}

fn values(config: &Config) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
    put("state", config.state.to_string_lossy().into_owned().into());
    put("learn", written(config.learn).into());
    put("budget", config.budget_per_day.into());
    put("mode", Value::try_from(config.mode)?);
    put("wrong_entries", Value::try_from(config.wrong_entries)?);
    put("ring_mib", i64::from(config.ring_bytes >> 20).into());
    put("no_syscalls", (!config.syscalls).into());
    put("aggregate", config.aggregate.into());
    let recorder = [("bytes".to_owned(), Value::try_from(config.recorder_bytes)?)];
    put("recorder", Value::Table(recorder.into_iter().collect()));
    if config.governor.is_there() {
        put("governor", config.governor.written().into());
    }
    let usage = [("enabled".to_owned(), config.usage.into())];
    put("usage", Value::Table(usage.into_iter().collect()));
    put("kubernetes", super::kubernetes::written(config.kubernetes.as_ref()).into());
    if let Some(path) = &config.key_file {
        put("key_file", path.to_string_lossy().into_owned().into());
    }
    for sink in &config.sinks {
        put(sink.row.name, sink.shown.clone());
    }
    if let Some(listen) = config.metrics {
        let listen = ("listen".to_owned(), Value::from(listen.to_string()));
        put("metrics", Table::from_iter([listen]).into());
    }
    Ok(table)
}

/// As the file would have it.
fn written(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    let (length, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / length)
}

fn flatten(table: &Table, prefix: &str, told: &mut impl FnMut(String, &Value)) {
    // A table's own values stand before its tables, as in a file.
    let is_table = |value: &Value| matches!(value, Value::Table(_));
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value)) {
        told(format!("{prefix}{key}"), value);
    }
    for (key, value) in table {
        if let Value::Table(inner) = value {
            flatten(inner, &format!("{prefix}{key}."), told);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli;

    #[test]
    fn each_value_is_told_with_its_file_and_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("h.toml");
        let secret = "[kafka]\nbrokers = \"a:1\"\n[kafka.sasl]\nmechanism = \"PLAIN\"\n\
                      username = \"u\"\npassword = \"hunter2\"\n\
                      [kafka.properties]\n\"ssl.key.password\" = \"hunter2\"\n";
        let sinks = "[jsonl]\npath = \"/j\"\n[journald]\n[metrics]\nlisten = \"[::1]:1\"\n";
        std::fs::write(&file, format!("learn = \"36h\"\n{secret}{sinks}")).unwrap();
        let run = cli::Run { config: Some(file.clone()), budget: Some(2.0), ..cli::Run::default() };
        let config = Config::load(&run, false).unwrap();
        let all = shown(&config).unwrap();
        let told = |key: &str| {
            let one = all.iter().find(|one| one.key == key).unwrap();
            (one.value.to_string(), one.from.clone())
        };
        let from = file.display().to_string();
        assert_eq!(told("learn"), ("\"36h\"".into(), from.clone()));
        assert_eq!(told("budget"), ("2.0".into(), "command line".into()));
        assert_eq!(told("mode"), ("\"observe\"".into(), "default".into()));
        assert_eq!(told("kafka.sasl.password"), ("\"***\"".into(), from.clone()));
        assert_eq!(told("kafka.sasl.username"), ("\"u\"".into(), from));
        assert_eq!(told("kafka.client_id").1, "default");
        assert_eq!(told("jsonl.keep"), ("4".into(), "default".into()));
        assert_eq!(told("jsonl.format"), ("\"ocsf\"".into(), "default".into()));
        assert_eq!(told("journald.socket").1, "default");
        assert_eq!(told("metrics.listen").0, "\"[::1]:1\"");
        assert!(!serde_json::to_string(&all).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_change_is_seen_also_of_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("h.toml");
        let load = |password: &str, budget: &str| {
            let text = format!(
                "budget = {budget}\n[kafka]\nbrokers = \"a:1\"\n[kafka.sasl]\nmechanism = \
                 \"PLAIN\"\nusername = \"u\"\npassword = \"{password}\"\n"
            );
            std::fs::write(&file, text).unwrap();
            let run = cli::Run { config: Some(file.clone()), ..cli::Run::default() };
            Config::load(&run, false).unwrap()
        };
        let first = load("a", "1.0");
        assert!(changed(&first, &load("a", "1.0")).unwrap().is_empty());
        assert_eq!(changed(&first, &load("b", "1.0")).unwrap(), ["kafka"]);
        assert_eq!(changed(&first, &load("a", "2.0")).unwrap(), ["budget"]);
    }
}
