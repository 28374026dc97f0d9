//! Whether the topics are there and may be written to.

use std::time::{Duration, Instant};

use rdkafka::{
    client::Client,
    error::{KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::{KafkaConfig, client::Context};
use crate::message::Topic;

/// The broker answers within this time. Whoever asks also takes reports to the spool, for which others
/// wait, so that it is short and one topic is asked for at a time.
const ANSWER: Duration = Duration::from_secs(1);
/// A topic that the broker makes by itself is not there at once: it is asked for so often.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// Topics that are not as they should be, and who did not answer in time, are asked again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Topics are asked for one after another, once a broker answers; where all are well, not again before a
/// record is refused.
pub(super) struct Check {
    at: Option<Instant>,
    /// Topics that have answered, and how often the next was asked for.
    answered: usize,
    tried: u32,
    wrong: Vec<(Topic, String)>,
}

impl Check {
    pub fn at(at: Instant) -> Self {
        Self { at: Some(at), answered: 0, tried: 0, wrong: Vec::new() }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Unless one is under way.
    pub fn begin(&mut self, now: Instant) {
        if self.at.is_none() {
            *self = Self::at(now);
        }
    }

    /// Asks for the next topic. Once all have answered: what is wrong with which, and the way out.
    pub fn ask(
        &mut self,
        client: &Client<Context>,
        config: &KafkaConfig,
    ) -> Option<Vec<(Topic, String)>> {
        let topics = config.topics.fields();
        let (topic, &(field, name)) = Topic::ALL.into_iter().zip(&topics).nth(self.answered)?;
        match error_of(client, name) {
            Err(_) => {
                self.at = Some(Instant::now() + AGAIN);
                return None;
            }
            Ok(Some(code)) if self.tried + 1 < TRIES && may_pass(code) => {
                self.tried += 1;
                self.at = Some(Instant::now() + PAUSE);
                return None;
            }
            Ok(error) => {
                let wrong = error.and_then(|code| sentence(code, &config.brokers, field, name));
                self.wrong.extend(wrong.map(|told| (topic, told)));
            }
        }
        (self.answered, self.tried) = (self.answered + 1, 0);
        if self.answered < topics.len() {
            return None;
        }
        let wrong = std::mem::take(&mut self.wrong);
        *self = Self::at(Instant::now() + AGAIN);
        if wrong.is_empty() {
            self.at = None;
        }
        Some(wrong)
    }
}

fn error_of(client: &Client<Context>, name: &str) -> KafkaResult<Option<RDKafkaRespErr>> {
    let metadata = client.fetch_metadata(Some(name), ANSWER)?;
    Ok(metadata.topics().iter().find_map(|topic| topic.error()))
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
    let until = match field {
        "topics.health" => "no sign of life is sent until then",
        _ => "its records wait in the spool until then",
    };
    Some(format!("kafka.{field}: the topic {name} {what}; {way}, or name another one; {until}"))
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
