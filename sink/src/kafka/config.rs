//! The `[kafka]` table of the configuration, and its check.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use hedgerow_event::gate;
use hedgerow_hostfile::{Progress, inside, own};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::{Connection, KafkaSink};
use crate::{
    Format, Sink, SinkConfig, SinkError,
    error::unvalued,
    message::Topic,
    spool::{Fsync, SPOOL_BYTES_LEAST},
};

/// No file that is named may be larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A broker is waited for so long at the start.
const BROKER: Duration = Duration::from_secs(5);

/// Where and how records are sent. Only `brokers` and `spool_directory` have no default.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers: `host:port`, separated by commas.
    pub brokers: String,
    /// Directory of the records that wait for delivery; created 0700.
    pub spool_directory: PathBuf,
    /// Most bytes that wait on disk; beyond, new records are counted as overflow. Default 64 MiB.
    #[serde(default = "defaults::spool_bytes_limit")]
    pub spool_bytes_limit: u64,
    /// When waiting records are forced to the disk: `always` (default) or `never`.
    #[serde(default)]
    pub spool_fsync: Fsync,
    /// How findings and remediations are encoded: `ocsf` (default) or `ecs`.
    #[serde(default)]
    pub format: Format,
    /// Names of the topics.
    #[serde(default)]
    pub topics: Topics,
    /// Most records handed to the client and not yet confirmed; the rest stays on disk. Default
    /// 1024.
    #[serde(default = "defaults::in_flight_limit")]
    pub in_flight_limit: usize,
    /// How the client names itself to the brokers. Default `hedgerow`.
    #[serde(default = "defaults::client_id")]
    pub client_id: String,
    /// Encrypt the connection.
    pub tls: Option<Tls>,
    /// Log in.
    pub sasl: Option<Sasl>,
    /// Further librdkafka properties, passed as they are; those that the delivery guarantee rests
    /// on are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Detection findings. Default `hedgerow.findings`.
    pub findings: String,
    /// Blocks and unblocks. Default `hedgerow.remediations`.
    pub remediations: String,
    /// Heartbeats. Default `hedgerow.health`.
    pub health: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            findings: "hedgerow.findings".into(),
            remediations: "hedgerow.remediations".into(),
            health: "hedgerow.health".into(),
        }
    }
}

impl Topics {
    pub(super) fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Findings => &self.findings,
            Topic::Remediations => &self.remediations,
            Topic::Health => &self.health,
        }
    }

    /// Each topic, with its field.
    pub(super) fn fields(&self) -> [(&'static str, &str); 3] {
        [
            ("topics.findings", &self.findings),
            ("topics.remediations", &self.remediations),
            ("topics.health", &self.health),
        ]
    }
}

/// TLS; without `ca_file` the system's certificates are trusted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the authorities that may sign a broker's certificate.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate (mutual TLS); needs `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub key_file: Option<PathBuf>,
    /// Password of the private key.
    pub key_password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Mechanism,
    pub username: String,
    /// The password; better `password_file`.
    pub password: Option<Secret>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

mod defaults {
    pub fn spool_bytes_limit() -> u64 {
        64 << 20
    }
    pub fn in_flight_limit() -> usize {
        1024
    }
    pub fn client_id() -> String {
        "hedgerow".into()
    }
}

/// Properties that the delivery guarantee rests on, or that the fields above set.
const OWNED: [&str; 15] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.max.bytes",
    "retries",
    "message.send.max.retries",
    "statistics.interval.ms",
    "transactional.id",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
];

impl KafkaConfig {
    /// A configuration with every default.
    pub fn new(brokers: impl Into<String>, spool_directory: impl Into<PathBuf>) -> Self {
        Self {
            brokers: brokers.into(),
            spool_directory: spool_directory.into(),
            spool_bytes_limit: defaults::spool_bytes_limit(),
            spool_fsync: Fsync::default(),
            format: Format::default(),
            topics: Topics::default(),
            in_flight_limit: defaults::in_flight_limit(),
            client_id: defaults::client_id(),
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }

    /// Checks every field and makes the client's configuration of them.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn client(&self) -> Result<ClientConfig, SinkError> {
        self.check()?;
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            // A context is made for each batch: of level 3, the default, it has 3.7 MB, of this one 1.4.
            .set("compression.level", "1")
            .set("linger.ms", "5")
            // Never give up by time: the spool's limit bounds what waits, and a record that times
            // out would be overtaken by its successors.
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("queue.buffering.max.messages", self.in_flight_limit.to_string())
            .set("queue.buffering.max.kbytes", "16384")
            .set("statistics.interval.ms", "1000");
        for (name, value) in &self.properties {
            client.set(name, &value.0);
        }
        client.set("security.protocol", self.protocol());
        if let Some(tls) = &self.tls {
            tls.apply(&mut client)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.apply(&mut client)?;
        }
        match client.create_native_config() {
            Ok(_) => Ok(client),
            Err(why) => Err(wrong("properties", unvalued(why))),
        }
    }

    fn protocol(&self) -> &'static str {
        match (self.tls.is_some(), self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        }
    }
}

impl SinkConfig for KafkaConfig {
    fn in_state(state: &Path) -> Vec<(&'static str, PathBuf)> {
        vec![("spool_directory", state.join("kafka"))]
    }

    fn is_secret(field: &str) -> bool {
        let telling = ["pass", "secret", "key.pem", "oauthbearer.config"];
        let property = |name: &str| telling.iter().any(|part| name.contains(part));
        ["sasl.password", "tls.key_password"].contains(&field)
            || field.strip_prefix("properties.").is_some_and(property)
    }

    fn check(&self) -> Result<(), SinkError> {
        let fail = |field, reason: &str| Err(wrong(field, reason.to_owned()));
        let bad_broker = |broker: &str| {
            !broker.trim().rsplit_once(':').is_some_and(|(host, port)| {
                // As in a URL, that may hold a password.
                !host.is_empty()
                    && !host.contains(['@', '/'])
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if self.brokers.split(',').any(bad_broker) {
            return fail("brokers", "write host:port, several separated by commas");
        }
        for (field, name) in self.topics.fields() {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) {
                return fail(field, "1 to 249 letters, digits, '.', '_' or '-'");
            }
        }
        if self.spool_bytes_limit < SPOOL_BYTES_LEAST {
            return fail("spool_bytes_limit", "at least 4096");
        }
        if !(1..=100_000).contains(&self.in_flight_limit) {
            return fail("in_flight_limit", "1 to 100000");
        }
        if let Some(tls) = &self.tls
            && tls.certificate_file.is_some() != tls.key_file.is_some()
        {
            return fail("tls.key_file", "certificate_file and key_file go together");
        }
        if let Some(sasl) = &self.sasl
            && sasl.password.is_some() == sasl.password_file.is_some()
        {
            return fail("sasl.password", "give either password or password_file");
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.properties.keys().any(|name| !name.bytes().all(named)) {
            return fail("properties", "a name holds letters, digits, '.', '_' and '-' only");
        }
        if let Some(name) = self.properties.keys().find(|name| OWNED.contains(&name.as_str())) {
            let reason = format!("{name} is Hedgerow's own to set");
            return fail("properties", &reason);
        }
        Ok(())
    }

    /// Reads the files that are named, looks at the spool's directory where there is one, and asks the client what
    /// it says of its properties.
    fn try_out(&self) -> Result<(), SinkError> {
        self.client()?;
        let spool = &self.spool_directory;
        let is_there = spool.symlink_metadata().is_ok();
        let looked = if is_there { own::unchangeable(spool, own::user()) } else { Ok(()) };
        looked.map_err(|why| {
            wrong("spool_directory", format!("{}: {why}", gate::text(&spool.to_string_lossy())))
        })
    }

    fn warnings(&self) -> Vec<String> {
        let sasl = self.sasl.as_ref();
        let plain = sasl.is_some_and(|sasl| sasl.mechanism == Mechanism::Plain);
        let why = "kafka.sasl: PLAIN without [kafka.tls] sends the password as it is: add [kafka.tls], \
                   or use SCRAM-SHA-512";
        let plain = (plain && self.tls.is_none()).then(|| why.to_owned());
        let password = sasl.and_then(|sasl| sasl.password_file.as_deref());
        let key = self.tls.as_ref().and_then(|tls| tls.key_file.as_deref());
        let open = [("sasl.password_file", "password", password), ("tls.key_file", "key", key)];
        let open = open.into_iter().filter_map(|(field, what, file)| {
            let file = file?;
            let mode = own::open_to_others(file)?;
            let file = gate::text(&file.to_string_lossy());
            Some(format!(
                "kafka.{field}: every user may read {file} (mode {mode:04o}): chmod o= {file}, and choose \
                 another {what}"
            ))
        });
        plain.into_iter().chain(open).collect()
    }

    fn peers(&self) -> Vec<String> {
        self.brokers.split(',').map(|broker| broker.trim().to_owned()).collect()
    }

    /// A broker that doesn't answer in time is told as of any sink.
    fn start(&self) -> Result<Box<dyn Sink>, SinkError> {
        let sink = KafkaSink::start(self.clone())?;
        sink.wait(BROKER, |status| match status.connection {
            Connection::Pending => false,
            Connection::Up => status.topics_checked,
            Connection::Down => true,
        });
        Ok(Box::new(sink))
    }
}

fn wrong(field: &'static str, reason: String) -> SinkError {
    SinkError::Table { table: "kafka", field, reason }
}

/// The content of a file that is named.
fn content(field: &'static str, path: &Path) -> Result<String, SinkError> {
    let read = || {
        let file = inside(Path::new("/"), &std::path::absolute(path)?)?;
        hedgerow_hostfile::content(file, FILE_BYTES_MAX, &Progress::default())
    };
    let shown = gate::text(&path.to_string_lossy());
    let content = read().map_err(|why| wrong(field, format!("can't read {shown}: {why}")))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

impl Tls {
    fn apply(&self, client: &mut ClientConfig) -> Result<(), SinkError> {
        let files = [
            ("tls.ca_file", "ssl.ca.location", &self.ca_file),
            ("tls.certificate_file", "ssl.certificate.location", &self.certificate_file),
            ("tls.key_file", "ssl.key.location", &self.key_file),
        ];
        for (field, name, file) in files {
            if let Some(file) = file {
                content(field, file)?;
                client.set(name, file.to_string_lossy());
            }
        }
        if let Some(password) = &self.key_password {
            client.set("ssl.key.password", &password.0);
        }
        Ok(())
    }
}

impl Sasl {
    fn apply(&self, client: &mut ClientConfig) -> Result<(), SinkError> {
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => password.0.clone(),
            (None, Some(file)) => {
                let text = content("sasl.password_file", file)?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None) => String::new(),
        };
        client
            .set("sasl.mechanism", self.mechanism.name())
            .set("sasl.username", &self.username)
            .set("sasl.password", password);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs::Permissions, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    fn parse(text: &str) -> Result<KafkaConfig, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn defaults_are_filled_and_unknown_keys_refused() {
        let config = parse(r#"{"brokers": "a:9092", "spool_directory": "/tmp/x"}"#).unwrap();
        assert_eq!(config, KafkaConfig::new("a:9092", "/tmp/x"));
        for bad in [
            r#"{"brokers": "a:9092", "spool_directory": "/tmp/x", "broker": "b"}"#,
            r#"{"brokers": "a:9092", "spool_directory": "/tmp/x", "tls": {"ca": "x"}}"#,
            r#"{"brokers": "a:9092", "spool_directory": "/tmp/x", "topics": {"finding": "x"}}"#,
            r#"{"brokers": "a:9092", "spool_directory": "/tmp/x", "format": "cef"}"#,
            r#"{"spool_directory": "/tmp/x"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        type Spoil = fn(&mut KafkaConfig);
        let cases: [(&str, Spoil); 11] = [
            ("brokers", |config| config.brokers = "nowhere".into()),
            ("brokers", |config| config.brokers = "u:hunter2@a:1".into()),
            ("tls.ca_file", |config| {
                config.tls = Some(Tls { ca_file: Some("/nowhere".into()), ..Tls::default() });
            }),
            ("sasl.password_file", |config| {
                config.sasl = Some(Sasl {
                    mechanism: Mechanism::Plain,
                    username: "u".into(),
                    password: None,
                    password_file: Some("/nowhere".into()),
                });
            }),
            ("properties", |config| {
                config.properties.insert("sasl.password=hunter2".into(), Secret("".into()));
            }),
            ("topics.findings", |config| config.topics.findings = "a b".into()),
            ("spool_bytes_limit", |config| config.spool_bytes_limit = 1),
            ("in_flight_limit", |config| config.in_flight_limit = 0),
            ("tls.key_file", |config| {
                config.tls = Some(Tls { key_file: Some("k".into()), ..Tls::default() });
            }),
            ("sasl.password", |config| {
                config.sasl = Some(Sasl {
                    mechanism: Mechanism::Plain,
                    username: "u".into(),
                    password: None,
                    password_file: None,
                });
            }),
            ("properties", |config| {
                config.properties.insert("acks".into(), Secret("0".into()));
            }),
        ];
        for (field, spoil) in cases {
            let mut config = KafkaConfig::new("a:9092,[::1]:9093", "/tmp/x");
            config.client().unwrap();
            spoil(&mut config);
            let message = config.client().unwrap_err().to_string();
            assert!(message.starts_with(&format!("kafka.{field}: ")), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn what_is_tried_out_is_the_spools_directory_too_and_no_fifo_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let (spool, fifo) = (home.path().join("spool"), home.path().join("fifo"));
        let mut config = KafkaConfig::new("a:9092", &spool);
        config.try_out().unwrap();
        assert!(!spool.exists(), "nothing is made");
        std::fs::create_dir(&spool).unwrap();
        config.try_out().unwrap();
        std::fs::set_permissions(&spool, Permissions::from_mode(0o777)).unwrap();
        let said = config.try_out().unwrap_err().to_string();
        assert!(said.starts_with("kafka.spool_directory: ") && said.contains("mode 777"), "{said}");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        config.tls = Some(Tls { ca_file: Some(fifo), ..Tls::default() });
        let said = config.try_out().unwrap_err().to_string();
        assert!(said.contains("tls.ca_file: can't read ") && said.contains("no regular"), "{said}");
    }

    #[test]
    fn a_file_with_a_secret_that_every_user_may_read_is_told_of() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("password");
        std::fs::write(&file, "hunter2").unwrap();
        let mut config = KafkaConfig::new("a:9092", "/tmp/x");
        config.sasl = Some(Sasl {
            mechanism: Mechanism::ScramSha512,
            username: "u".into(),
            password: None,
            password_file: Some(file.clone()),
        });
        config.tls = Some(Tls { key_file: Some(file.clone()), ..Tls::default() });
        let told = |mode, around| {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            std::fs::set_permissions(home.path(), Permissions::from_mode(around)).unwrap();
            config.warnings()
        };
        let [password, key]: [String; 2] = told(0o644, 0o755).try_into().unwrap();
        assert!(
            password.starts_with("kafka.sasl.password_file: every user may read "),
            "{password}"
        );
        assert!(password.contains("(mode 0644): chmod o= "), "{password}");
        assert!(key.starts_with("kafka.tls.key_file: "), "{key}");
        assert_eq!(told(0o640, 0o755), [""; 0]);
        assert_eq!(told(0o644, 0o750), [""; 0]);
    }

    #[test]
    fn a_value_that_the_client_refuses_is_not_told() {
        for (name, value) in [
            ("hunter.pass", "hunter2"),
            ("socket.timeout.ms", "hunter2"),
            ("broker.address.family", "hunter2"),
        ] {
            let mut config = KafkaConfig::new("127.0.0.1:1", "/tmp/x");
            config.properties.insert(name.into(), Secret(value.into()));
            let told = config.client().unwrap_err().to_string();
            assert!(told.starts_with(&format!("kafka.properties: {name}: ")), "{told}");
            assert!(!told.contains(value), "{told}");
        }
    }

    #[test]
    fn tls_and_sasl_reach_the_client_and_secrets_stay_out_of_debug_output() {
        let mut config = KafkaConfig::new("a:9092", "/tmp/x");
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        config.tls = Some(Tls { ca_file: Some(here.into()), ..Tls::default() });
        config.sasl = Some(Sasl {
            mechanism: Mechanism::ScramSha512,
            username: "u".into(),
            password: Some(Secret("hunter2".into())),
            password_file: None,
        });
        let client = config.client().unwrap();
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("ssl.ca.location"), Some(here));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(client.get("sasl.password"), Some("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
