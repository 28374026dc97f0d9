//! The one list of sinks. A sink is a file in `sink/` and a row here; the terminal and the findings' own file,
//! which commands read, are no sinks: they can't be left out.

use std::{fmt, path::Path, sync::Arc};

#[cfg(feature = "full")]
use hedgerow_sink::kafka::{KafkaConfig, KafkaSink};
use hedgerow_sink::{
    JsonlConfig, JsonlSink, Sink, SinkConfig, SinkError,
    journald::{JournaldConfig, JournaldSink},
};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::files::{Wrong, typed};
use crate::exit::Failure;

/// A row of the list.
#[derive(Debug)]
pub struct Row {
    /// Of its table in the configuration, and of its metrics.
    pub name: &'static str,
    /// What becomes of a report that finds no room; `config check` says it, and docs/configuration.md.
    pub when_full: &'static str,
    /// It keeps no file and takes little memory: `aggregate` may have it.
    pub is_small: bool,
    /// Whether nobody else may know the value of this field of its table.
    pub is_secret: fn(&str) -> bool,
    read: fn(&'static Self, Table, &Path) -> Result<Configured, Wrong>,
}

pub const SINKS: &[Row] = &[
    #[cfg(feature = "full")]
    Row {
        name: KafkaSink::NAME,
        when_full: "waits in a spool on disk (64 MiB unless told otherwise), what is only listed in three quarters of it, then in memory (16 MiB); past both the newest are lost and counted",
        is_small: false,
        is_secret: KafkaConfig::is_secret,
        read: read::<KafkaConfig>,
    },
    Row {
        name: JsonlSink::NAME,
        when_full: "2048, 16 MiB at most, wait in memory while the disk takes none, what is only listed in three quarters of that; past them the newest are lost and counted",
        is_small: false,
        is_secret: JsonlConfig::is_secret,
        read: read::<JsonlConfig>,
    },
    Row {
        name: JournaldSink::NAME,
        when_full: "lost and counted at once: the journal keeps what it reads in time",
        is_small: true,
        is_secret: JournaldConfig::is_secret,
        read: read::<JournaldConfig>,
    },
];

/// A sink that is to run: its table, checked.
#[derive(Debug, Clone)]
pub struct Configured {
    pub row: &'static Row,
    /// Every value in force, secrets as `***`.
    pub shown: Value,
    given: Given,
    own: Arc<dyn SinkConfig>,
}

impl Configured {
    /// Whether it would do the same, with the same secrets.
    pub fn is_same(&self, other: &Self) -> bool {
        self.row.name == other.row.name && self.given.0 == other.given.0
    }

    /// See [`SinkConfig::try_out`].
    ///
    /// # Errors
    /// As there.
    pub fn try_out(&self) -> Result<(), SinkError> {
        self.own.try_out()
    }

    /// See [`SinkConfig::warnings`].
    pub fn warnings(&self) -> Vec<String> {
        self.own.warnings()
    }

    /// See [`SinkConfig::peers`].
    pub fn peers(&self) -> Vec<String> {
        self.own.peers()
    }

    /// # Errors
    /// A field is wrong, or what the sink needs can't be had.
    pub fn start(&self) -> anyhow::Result<Box<dyn Sink>> {
        self.own.start().map_err(|why| match why {
            SinkError::Table { .. } => Failure::Usage(why.to_string()).into(),
            _ => Failure::file(why).into(),
        })
    }
}

/// A table as it was given, which may hold secrets.
#[derive(Clone)]
struct Given(Table);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads and checks the sinks' tables of a configuration.
///
/// # Errors
/// One is wrong; values are not told.
pub fn configured(tables: &Table, state: &Path) -> Result<Vec<Configured>, Wrong> {
    let given = SINKS.iter().filter_map(|row| {
        let table = tables.get(row.name)?.as_table()?;
        Some((row.read)(row, table.clone(), state))
    });
    given.collect()
}

fn read<T>(row: &'static Row, mut table: Table, state: &Path) -> Result<Configured, Wrong>
where
    T: SinkConfig + Serialize + DeserializeOwned + 'static,
{
    for (field, path) in T::in_state(state) {
        table.entry(field).or_insert_with(|| path.to_string_lossy().into_owned().into());
    }
    let own: T = typed(row.name, table.clone())?;
    own.check()?;
    own.check_beside(state)?;
    let shown = Value::try_from(&own).map_err(|why| Wrong::new(row.name, &why.to_string()))?;
    Ok(Configured { row, shown, given: Given(table), own: Arc::new(own) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_sink_writes_to_what_is_the_daemons_own() {
        let said = |path: &str| {
            let tables = toml::from_str(&format!("[jsonl]\npath = \"{path}\"\n")).unwrap();
            let configured = configured(&tables, Path::new("/var/lib/hedgerow"));
            configured.map(drop).map_err(|why| format!("{why:?}"))
        };
        let why = said("/var/lib/hedgerow/findings.jsonl").unwrap_err();
        assert!(why.contains("it lies in the state directory"), "{why}");
        said("/var/lib/hedgerow.jsonl").unwrap();
    }

    #[test]
    fn each_sink_has_its_policy_in_the_documentation() {
        let text = include_str!("../../docs/configuration.md");
        for row in SINKS {
            let line = format!("| `[{}]` | {} |", row.name, row.when_full);
            assert!(text.contains(&line), "docs/configuration.md lacks: {line}");
        }
    }
}
