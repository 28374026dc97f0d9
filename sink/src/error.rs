use std::path::{Path, PathBuf};

#[cfg(feature = "kafka")]
use hedgerow_event::gate;

/// What can go wrong on the way out.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the spool {0} is in use by another process")]
    SpoolBusy(PathBuf),
    #[error("the spool can't be opened: {0}")]
    SpoolShut(String),
    #[error("the spool holds {held} of {limit} bytes; nothing more fits until a broker takes some")]
    SpoolFull { held: u64, limit: u64 },
    #[error(
        "the spool holds {held} of {limit} bytes; the last quarter is kept for what is alerted and for blocks"
    )]
    SpoolKept { held: u64, limit: u64 },
    #[error("the Kafka client refuses its configuration: {0}")]
    Client(String),
    #[error("a record of {bytes} bytes exceeds the limit of {limit}")]
    RecordSize { bytes: usize, limit: usize },
    /// A field of a sink's table in the configuration is wrong.
    #[error("{table}.{field}: {reason}")]
    Table { table: &'static str, field: &'static str, reason: String },
    #[error("the queue of {sink} is full")]
    QueueFull { sink: &'static str },
    #[error("the Kafka thread has stopped")]
    Stopped,
    #[error("encoding: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("{path}: {reason}")]
    Parquet { path: PathBuf, reason: String },
    #[error("{path}: field {field}: {reason}")]
    Field { path: PathBuf, field: String, reason: String },
    #[error("{path}: process {holder} writes to it; stop that one, or use another directory")]
    CaptureBusy { path: PathBuf, holder: String },
    #[error("{path}: only {free} bytes are free, {least} are kept free; captures wait for room")]
    CaptureFull { path: PathBuf, free: u64, least: u64 },
}

#[cfg(feature = "kafka")]
impl From<rdkafka::error::KafkaError> for SinkError {
    /// What the client says of its configuration quotes the value, which may be a password.
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self::Client(unvalued(error))
    }
}

/// What the client says, without the value that it quotes.
#[cfg(feature = "kafka")]
pub(crate) fn unvalued(error: rdkafka::error::KafkaError) -> String {
    use rdkafka::error::KafkaError;
    match error {
        KafkaError::ClientConfig(_, why, name, value) => {
            let why = if value.is_empty() { why } else { why.replace(&value, gate::HIDDEN) };
            format!("{name}: {}", gate::text(&why))
        }
        error => gate::text(&error.to_string()),
    }
}

impl SinkError {
    /// The key of the configuration that is wrong, dotted.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Table { table, field, .. } => Some(format!("{table}.{field}")),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
