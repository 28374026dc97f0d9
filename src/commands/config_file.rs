//! `hedgerow config`: whether a daemon would start with the files, and what they say together.

use std::path::{Path, PathBuf};

use crate::{
    cli::{self, ConfigCommand},
    config::{Config, shown},
    text,
};

pub fn run(command: &ConfigCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(file) => {
            let tried =
                load(file.config.as_deref()).and_then(|config| config.try_out().map(|()| config));
            let config = match tried {
                Err(why) if json => {
                    text::json(&serde_json::json!({ "valid": false, "error": why.to_string() }))?;
                    return Err(why);
                }
                tried => tried?,
            };
            if json {
                let (files, unread) = (&config.files, &config.unread);
                let exposed: Vec<&PathBuf> = config.exposed.iter().map(|(path, _)| path).collect();
                let sinks: serde_json::Map<_, _> = config
                    .sinks
                    .iter()
                    .map(|sink| (sink.row.name.to_owned(), sink.row.when_full.into()))
                    .collect();
                return text::json(&serde_json::json!({
                    "valid": true, "files": files, "unread": unread, "exposed": exposed,
                    "when_full": sinks,
                }));
            }
            text::say("The configuration is valid.");
            if config.files.is_empty() {
                text::say(&format!(
                    "No file was read: neither {} nor conf.d beside it is there.",
                    cli::CONFIG
                ));
            }
            for path in &config.files {
                text::say(&format!("Read: {}", path.display()));
            }
            for sink in &config.sinks {
                text::say(&format!(
                    "Reports go to [{}]; what finds no room there: {}.",
                    sink.row.name, sink.row.when_full
                ));
            }
            for told in config.warnings() {
                text::note(&format!("hedgerow: {told}"));
            }
        }
        ConfigCommand::Show(file) => {
            let values = shown(&load(file.config.as_deref())?)?;
            if json {
                return text::json(&values);
            }
            let lines: Vec<(String, &str)> = values
                .iter()
                .map(|one| (format!("{} = {}", one.key, one.value), one.from.as_str()))
                .collect();
            let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
            for (line, from) in lines {
                text::say(&format!("{line:<width$}  # {from}"));
            }
        }
    }
    Ok(())
}

/// The configuration as a daemon without options would take it.
pub fn load(config: Option<&Path>) -> anyhow::Result<Config> {
    Config::load(&cli::Run { config: config.map(Path::to_owned), ..cli::Run::default() }, false)
}
