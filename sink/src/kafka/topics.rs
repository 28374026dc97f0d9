//! Whether the topics are there and may be written to.

use std::{thread, time::Duration};

use rdkafka::{
    client::Client,
    error::{KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::client::Context;

/// The broker answers within this time.
const ANSWER: Duration = Duration::from_secs(5);
/// A topic that the broker makes by itself is not there at once: it is asked for so often.
pub(super) const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// What is wrong with a topic, and the way out; `None` where nothing is.
///
/// # Errors
/// The broker doesn't say.
pub(super) fn wrong(
    client: &Client<Context>,
    brokers: &str,
    field: &str,
    name: &str,
    tries: u32,
) -> KafkaResult<Option<String>> {
    let mut error = None;
    for left in (0..tries).rev() {
        let metadata = client.fetch_metadata(Some(name), ANSWER)?;
        error = metadata.topics().iter().find_map(|topic| topic.error());
        match error {
            Some(code) if left > 0 && may_pass(code) => thread::sleep(PAUSE),
            _ => break,
        }
    }
    Ok(error.and_then(|code| sentence(code, brokers, field, name)))
}

/// Whether a record was refused because of its topic.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

/// Also said of a topic that is being made.
fn may_pass(code: RDKafkaRespErr) -> bool {
    matches!(
        code,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
    )
}

fn sentence(code: RDKafkaRespErr, brokers: &str, field: &str, name: &str) -> Option<String> {
    let (what, way) = match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => return None,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => (
            "is not there, and the broker does not make it by itself".to_owned(),
            format!(
                "make it: kafka-topics.sh --bootstrap-server {brokers} --create --topic {name} \
                 --partitions 3 --replication-factor 3"
            ),
        ),
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => (
            "is not ours to write to".to_owned(),
            format!(
                "allow it: kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal \
                 User:NAME --operation Write --operation Describe --topic {name}"
            ),
        ),
        other => (
            format!("can't be written to ({})", RDKafkaErrorCode::from(other)),
            "look at the broker".to_owned(),
        ),
    };
    Some(format!(
        "kafka.{field}: the topic {name} {what}; {way}, or name another one; its records wait in the \
         spool until then"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_error_names_the_topic_and_the_way_out() {
        for (code, way) in [
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "kafka-topics.sh"),
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "kafka-acls.sh"),
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, "look at the broker"),
        ] {
            let told = sentence(code, "k:9092", "topics.health", "hosts").unwrap();
            assert!(told.contains("kafka.topics.health: the topic hosts ") && told.contains(way));
        }
        let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        assert_eq!(sentence(fine, "k:9092", "topics.health", "hosts"), None);
    }
}
