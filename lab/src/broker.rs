//! A real Apache Kafka broker of one's own, driven through `scripts/kafka`.

use std::{path::Path, process::Command};

use crate::error::{Error, Result};

/// A broker on loopback; it goes with its data when dropped.
#[derive(Debug)]
pub struct Broker {
    name: String,
    address: String,
}

impl Broker {
    /// Installs what is missing and starts a broker.
    pub fn start(name: &str) -> Result<Self> {
        let mut broker =
            Self { name: format!("{name}-{}", std::process::id()), address: String::new() };
        broker.address = broker.script(&["start"])?.trim().to_owned();
        Ok(broker)
    }

    /// Its bootstrap address, which a restart keeps.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts it with the data that it had.
    pub fn start_again(&self) -> Result<()> {
        self.script(&["start"]).map(drop)
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.script(&["kill"]).map(drop)
    }

    /// SIGTERM.
    pub fn stop(&self) -> Result<()> {
        self.script(&["stop"]).map(drop)
    }

    /// Address, certificate file, user and password of its TLS and SASL listener, between spaces.
    pub fn secure(&self) -> Result<String> {
        self.script(&["secure"])
    }

    /// Address of a listener that tells its clients to come to another one, and that other, where
    /// nothing listens yet: whoever listens there can cut what is said.
    pub fn behind(&self) -> Result<(String, String)> {
        let said = self.script(&["behind"])?;
        let (own, told) = said.trim().split_once(' ').unwrap_or_default();
        Ok((own.to_owned(), told.to_owned()))
    }

    /// A topic from its beginning, a record a line: key, headers, value.
    pub fn consume(&self, topic: &str) -> Result<String> {
        self.script(&["consume", topic])
    }

    fn script(&self, command: &[&str]) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
        let what = || format!("scripts/kafka {}", command.join(" "));
        let output = Command::new(script)
            .args(command)
            .args(["--name", &self.name])
            .output()
            .map_err(|source| Error::System { what: what(), source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(Error::Command { command: what(), output: text(&output.stderr) });
        }
        Ok(text(&output.stdout))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(why) = self.script(&["remove"]) {
            eprintln!("lab: {why}");
        }
    }
}
