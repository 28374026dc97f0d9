//! Configuration: raw TOML and command line, checked once into what the daemon runs with.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use hedgerow_event::Mode;
use hedgerow_sink::kafka::KafkaConfig;
use serde::Deserialize;

use crate::{cli, exit::Failure};

/// The configuration file as written; unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// Directory of the model, findings, ledger and spool.
    state: Option<PathBuf>,
    /// How long a host without a model learns: "1d".
    learn: Option<String>,
    /// Alert episodes a day that are acceptable when nothing is wrong.
    budget: Option<f64>,
    /// "observe", "monitor" or "enforce".
    mode: Option<Mode>,
    /// Wrong automatic entries in 90 days that are acceptable.
    wrong_entries: Option<usize>,
    /// Most memory for all rings together, in MiB.
    ring_mib: Option<u32>,
    /// Don't observe system calls.
    no_syscalls: Option<bool>,
    /// File of a secret that all hosts of a fleet share.
    key_file: Option<PathBuf>,
    /// The Kafka sink, as the sink's own documentation describes its keys.
    kafka: Option<toml::Table>,
}

/// What the daemon runs with: every value checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub state: PathBuf,
    /// Learn for this long; `relearn` says that a saved model is not used.
    pub learn: Duration,
    pub relearn: bool,
    pub budget_per_day: f64,
    /// The mode where no operator has set one, and the one that holds where it is less than what was.
    pub mode: Mode,
    pub mode_now: Option<Mode>,
    pub wrong_entries: usize,
    pub enforce_provisional: bool,
    pub ring_bytes: u32,
    pub syscalls: bool,
    pub full: bool,
    pub capture: Option<PathBuf>,
    pub kafka: Option<KafkaConfig>,
    pub seed: Option<u64>,
    /// Where the seed is from; a model of another key is refused then.
    pub key_file: Option<PathBuf>,
    pub keep_entries: bool,
    pub json: bool,
}

/// A host without a model learns for a day.
const LEARN_DEFAULT: Duration = Duration::from_secs(86_400);
/// Fewer windows than this can't be divided into fill, fit and calibrate.
const LEARN_LEAST: Duration = Duration::from_secs(60);
/// Alert episodes a day that are acceptable when nothing is wrong.
pub const BUDGET_PER_DAY_DEFAULT: f64 = 1.0;
const RING_MIB_DEFAULT: u32 = 32;
const WRONG_ENTRIES_DEFAULT: usize = 1;

impl Config {
    /// Joins the command line over the file named by `--config`, and checks every value.
    pub fn load(run: &cli::Run, json: bool) -> anyhow::Result<Self> {
        let raw = raw(run.config.as_deref())?;
        let learn = match (run.learn, &raw.learn) {
            (Some(learn), _) => learn,
            (None, Some(text)) => {
                cli::duration(text).map_err(|why| Failure::Usage(format!("learn: {why}")))?
            }
            (None, None) => LEARN_DEFAULT,
        };
        if learn < LEARN_LEAST {
            return Err(Failure::Usage(format!(
                "learn: {} s is too short to learn from; give at least {} s",
                learn.as_secs(),
                LEARN_LEAST.as_secs()
            ))
            .into());
        }
        let budget_per_day = run.budget.or(raw.budget).unwrap_or(BUDGET_PER_DAY_DEFAULT);
        if !(budget_per_day.is_finite() && budget_per_day > 0.0) {
            return Err(Failure::Usage(format!(
                "budget: {budget_per_day} is not a number of episodes a day above 0"
            ))
            .into());
        }
        let ring_mib = raw.ring_mib.unwrap_or(RING_MIB_DEFAULT);
        if !(1..=1024).contains(&ring_mib) {
            return Err(
                Failure::Usage(format!("ring_mib: {ring_mib} is not from 1 to 1024")).into()
            );
        }
        let state = run.state.clone().or(raw.state);
        let state = state.unwrap_or_else(|| PathBuf::from(cli::STATE_DIRECTORY));
        let kafka = kafka(run.kafka.as_deref(), raw.kafka, &state)?;
        // A seed on the command line is for this run alone.
        let key_file = run.key_file.clone().or(raw.key_file).filter(|_| run.seed.is_none());
        let seed = key_file.as_deref().map(hedgerow_offline::fleet::key).transpose()?.or(run.seed);
        Ok(Self {
            state,
            learn,
            relearn: run.learn.is_some(),
            budget_per_day,
            mode: raw.mode.unwrap_or_default(),
            mode_now: run.mode.map(Mode::from),
            wrong_entries: raw.wrong_entries.unwrap_or(WRONG_ENTRIES_DEFAULT),
            enforce_provisional: run.enforce_provisional,
            ring_bytes: ring_mib << 20,
            syscalls: !(run.no_syscalls || raw.no_syscalls.unwrap_or(false)),
            full: run.full,
            capture: run.capture.clone(),
            kafka,
            seed,
            key_file,
            keep_entries: run.keep_entries,
            json,
        })
    }
}

/// The configuration file that is named, else the one at the usual place, where there is one.
fn raw(named: Option<&Path>) -> anyhow::Result<Raw> {
    match named {
        Some(path) => read(path),
        None if Path::new(cli::CONFIG).exists() => read(Path::new(cli::CONFIG)),
        None => Ok(Raw::default()),
    }
}

/// The state directory of the daemon that a command is for.
pub fn state(given: &cli::State) -> anyhow::Result<PathBuf> {
    if let Some(state) = &given.state {
        return Ok(state.clone());
    }
    let own = raw(given.config.as_deref())?.state;
    Ok(own.unwrap_or_else(|| PathBuf::from(cli::STATE_DIRECTORY)))
}

/// What is wrong with a value, without the value: it may be a password in the wrong place.
fn unvalued(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let (Some(rest), Some(end)) = (message.strip_prefix(kind), message.rfind(", expected")) {
            let what = rest.split([' ', ',']).next().unwrap_or_default();
            return format!("{kind}{what}{}", &message[end..]);
        }
    }
    message.to_owned()
}

/// Brokers from the command line win over the file's; the spool is in the state directory unless
/// the file says otherwise.
fn kafka(
    brokers: Option<&str>,
    table: Option<toml::Table>,
    state: &Path,
) -> anyhow::Result<Option<KafkaConfig>> {
    if brokers.is_none() && table.is_none() {
        return Ok(None);
    }
    let mut table = table.unwrap_or_default();
    if let Some(brokers) = brokers {
        table.insert("brokers".to_owned(), brokers.into());
    }
    let spool = state.join("kafka").to_string_lossy().into_owned();
    table.entry("spool_directory").or_insert_with(|| spool.into());
    let config = table.try_into().map_err(|why: toml::de::Error| {
        Failure::Usage(format!("kafka: {}", unvalued(why.message())))
    })?;
    Ok(Some(config))
}

fn read(path: &Path) -> anyhow::Result<Raw> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read {}", path.display()))
        .map_err(Failure::file)?;
    toml::from_str(&text).map_err(|why: toml::de::Error| {
        let start = why.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        Failure::Usage(format!("{} line {line}: {}", path.display(), unvalued(why.message())))
            .into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
    fn a_wrong_value_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("hedgerow.toml");
        let head = "[kafka]\nbrokers = \"h:9092\"\n";
        for wrong in ["sasl = \"hunter2\"", "in_flight_limit = \"hunter2\"", "topics = 271828"] {
            std::fs::write(&config, format!("{head}{wrong}\n")).unwrap();
            let table = read(&config).unwrap().kafka;
            let why = kafka(None, table, Path::new("/x")).unwrap_err().to_string();
            assert!(!why.contains("hunter2") && !why.contains("271828"), "{why}");
            assert!(why.starts_with("kafka: invalid"), "{why}");
        }
        std::fs::write(&config, "learn = 271828\n").unwrap();
        let why = read(&config).unwrap_err().to_string();
        assert!(why.contains("line 1") && !why.contains("271828"), "{why}");
    }
}
