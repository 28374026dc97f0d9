//! A record for Kafka, and how it lies in the spool.

use hedgerow_event::{Finding, Remediation, gate};
use serde_json::Value;

use crate::{
    SinkError,
    heartbeat::{self, Heartbeat},
    ocsf::{Base, OCSF_VERSION, finding_to_ocsf, remediation_to_ocsf},
};

/// Largest value of one record; below Kafka's default `message.max.bytes` of 1,000,000.
pub const RECORD_BYTES_LIMIT: usize = 900_000;

/// What is left of each text and each list of a finding that is too large for a record: even of these no
/// finding is made that is. A byte of a text may be six in JSON, and stands in the record up to
/// four times.
const TEXT_BYTES_MAX: usize = 256;
const PARTS_MAX: usize = 16;

/// Where a record goes; the configuration names the topic. In the order of its numbers in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Findings,
    Remediations,
    /// Heartbeats.
    Health,
}

impl Topic {
    pub(crate) const ALL: [Self; 3] = [Self::Findings, Self::Remediations, Self::Health];

    /// That of a record in the spool; what has none that we know is refused among findings.
    pub(crate) fn of_encoded(bytes: &[u8]) -> Self {
        let number = bytes.get(1).map_or(0, |&byte| usize::from(byte));
        Self::ALL.get(number).copied().unwrap_or(Self::Findings)
    }
}

/// A record: topic, key (host id), headers, value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: Topic,
    pub key: String,
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

/// Version of the encoding in the spool.
const ENCODING: u8 = 1;

impl Message {
    /// A finding as OCSF Detection Finding. One that is too large is shortened: whom it is about chose what
    /// makes it so, and must not keep it from being sent.
    pub fn finding(finding: &Finding) -> Result<Self, SinkError> {
        Self::of_finding(finding).map(|(message, _)| message)
    }

    /// With what every event has.
    pub(crate) fn of_finding(finding: &Finding) -> Result<(Self, Base), SinkError> {
        match Self::whole(finding) {
            Err(SinkError::RecordSize { bytes, .. }) => Self::whole(&shortened(finding, bytes)?),
            encoded => encoded,
        }
    }

    fn whole(finding: &Finding) -> Result<(Self, Base), SinkError> {
        let event = finding_to_ocsf(finding);
        let value = gate::json(&event)?.into_bytes();
        let mut headers = headers("detection_finding");
        headers.push(("model-id".into(), finding.model_id.clone()));
        let message = Self::checked(Topic::Findings, finding.host_id.clone(), headers, value)?;
        Ok((message, event.base))
    }

    /// A block or unblock as OCSF remediation activity.
    pub fn remediation(remediation: &Remediation) -> Result<Self, SinkError> {
        Self::of_remediation(remediation).map(|(message, _)| message)
    }

    /// With what every event has.
    pub(crate) fn of_remediation(remediation: &Remediation) -> Result<(Self, Base), SinkError> {
        let event = remediation_to_ocsf(remediation);
        let schema = if event.connection_info.is_some() {
            "network_remediation_activity"
        } else {
            "process_remediation_activity"
        };
        let value = gate::json(&event)?.into_bytes();
        let host = remediation.host_id.clone();
        let message = Self::checked(Topic::Remediations, host, headers(schema), value)?;
        Ok((message, event.base))
    }

    /// A sign of life.
    pub fn heartbeat(heartbeat: &Heartbeat) -> Result<Self, SinkError> {
        let headers = vec![
            ("content-type".into(), "application/json".into()),
            ("schema-id".into(), heartbeat::SCHEMA.into()),
        ];
        let value = gate::json(heartbeat)?.into_bytes();
        Self::checked(Topic::Health, heartbeat.host_id.clone(), headers, value)
    }

    pub(crate) fn checked(
        topic: Topic,
        key: String,
        headers: Vec<(String, String)>,
        value: Vec<u8>,
    ) -> Result<Self, SinkError> {
        if value.len() > RECORD_BYTES_LIMIT {
            return Err(SinkError::RecordSize { bytes: value.len(), limit: RECORD_BYTES_LIMIT });
        }
        Ok(Self { topic, key, headers, value })
    }

    /// Bytes that the record takes in the spool, without its frame.
    pub fn encoded_len(&self) -> usize {
        let text = |text: &str| 4 + text.len();
        let headers: usize =
            self.headers.iter().map(|(name, value)| text(name) + text(value)).sum();
        3 + text(&self.key) + headers + 4 + self.value.len()
    }

    /// Encoding byte, topic, number of headers, then key, headers and value, each with its length
    /// in four bytes, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        let headers = u8::try_from(self.headers.len()).unwrap_or(u8::MAX);
        out.extend([ENCODING, self.topic as u8, headers]);
        let mut push = |bytes: &[u8]| {
            out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(bytes);
        };
        push(self.key.as_bytes());
        for (name, value) in self.headers.iter().take(usize::from(headers)) {
            push(name.as_bytes());
            push(value.as_bytes());
        }
        push(&self.value);
        out
    }

    /// The inverse of [`Message::encode`]; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[encoding, topic, headers], mut rest) = bytes.split_first_chunk::<3>()?;
        let topic = *Topic::ALL.get(usize::from(topic))?;
        if encoding != ENCODING {
            return None;
        }
        let key = take_text(&mut rest)?;
        let headers = (0..headers)
            .map(|_| Some((take_text(&mut rest)?, take_text(&mut rest)?)))
            .collect::<Option<Vec<_>>>()?;
        let value = take(&mut rest)?.to_vec();
        rest.is_empty().then_some(Self { topic, key, headers, value })
    }
}

fn shortened(finding: &Finding, bytes: usize) -> Result<Finding, SinkError> {
    let mut value = serde_json::to_value(finding)?;
    shorten(&mut value);
    let mut short: Finding = serde_json::from_value(value)?;
    let uid = &short.uid;
    short.reason += &format!(
        " (shortened, as its record of {bytes} bytes was too large: `hedgerow findings show {uid}`)"
    );
    Ok(short)
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = gate::cut(text, TEXT_BYTES_MAX),
        Value::Array(parts) => {
            parts.truncate(PARTS_MAX);
            parts.iter_mut().for_each(shorten);
        }
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn headers(schema: &str) -> Vec<(String, String)> {
    vec![
        ("content-type".into(), "application/json".into()),
        ("ocsf-version".into(), OCSF_VERSION.into()),
        ("schema-id".into(), format!("ocsf:{OCSF_VERSION}:{schema}")),
    ]
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(rest)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let message = Message {
            topic: Topic::Remediations,
            key: "h".into(),
            headers: vec![("a".into(), "bc".into())],
            value: b"{}".to_vec(),
        };
        let bytes = [
            1, 1, 1, 1, 0, 0, 0, b'h', 1, 0, 0, 0, b'a', 2, 0, 0, 0, b'b', b'c', 2, 0, 0, 0, b'{',
            b'}',
        ];
        assert_eq!(message.encode(), bytes);
        assert_eq!(message.encoded_len(), bytes.len());
        assert_eq!(Message::decode(&bytes).unwrap(), message);
        for cut in 0..bytes.len() {
            assert!(Message::decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_message_survives(key in ".*", headers in prop::collection::vec((".*", ".*"), 0..5),
                                value in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = Message { topic: Topic::Findings, key, headers, value };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
