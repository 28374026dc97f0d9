//! Topics that are not there, as where an operator makes them.

use std::path::Path;

use hedgerow_event::Action;
use hedgerow_lab::Broker;
use hedgerow_sink::{
    Message, Report, Sink, Topic,
    kafka::{KafkaConfig, KafkaSink, Secret},
};

use super::{
    broker::{PATIENCE, assert_all_arrived, config, heartbeat, read_all, send},
    common,
};

/// Nobody makes a topic by asking for it.
fn strict(brokers: &str, home: &Path, topic: &str) -> KafkaConfig {
    let mut config = config(brokers, home, topic);
    config.properties.insert("allow.auto.create.topics".into(), Secret("false".into()));
    config.properties.insert("topic.metadata.propagation.max.ms".into(), Secret("100".into()));
    config
}

fn make_topics(config: KafkaConfig) {
    let sink = KafkaSink::start(config).unwrap();
    let status = sink.wait(PATIENCE, |status| status.topics_checked);
    assert!(status.is_up(), "{status:?}");
}

pub fn a_missing_topic_is_told_with_the_way_out(broker: &Broker) {
    let home = tempfile::tempdir().unwrap();
    let sink = KafkaSink::start(strict(broker.address(), home.path(), "nowhere")).unwrap();
    let status = sink.wait(PATIENCE, |status| status.topics_checked);
    assert_eq!(status.topics_wrong.len(), 3, "{status:?}");
    assert!(!sink.health().up, "what waits for a topic isn't taken");
    let told = &status.topics_wrong[0];
    assert!(told.starts_with("kafka.topics.findings: the topic nowhere.findings is not there"));
    assert!(told.contains("kafka-topics.sh") && told.contains(broker.address()), "{told}");
    drop(sink);
    // Where the broker makes topics by itself nothing is wrong.
    let sink = KafkaSink::start(config(broker.address(), home.path(), "made")).unwrap();
    let status = sink.wait(PATIENCE, |status| status.topics_checked);
    assert_eq!(status.topics_wrong, [""; 0]);
    assert!(sink.health().up);
}

pub fn one_missing_topic_holds_up_no_other(broker: &Broker) {
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut two = config(broker.address(), homes[0].path(), "part");
    two.topics.health = "part.other".into();
    make_topics(two);
    let mut sink = KafkaSink::start(strict(broker.address(), homes[1].path(), "part")).unwrap();
    let status = sink.wait(PATIENCE, |status| status.topics_checked);
    assert_eq!(status.topics_wrong.len(), 1, "{status:?}");
    assert!(!sink.wants(Topic::Health) && sink.wants(Topic::Findings));
    // One that came before that was known.
    sink.take(&Report::heartbeat(&heartbeat("host-a", 0, 0)).unwrap()).unwrap();
    let refused = |error: &String| error.contains("Unknown topic");
    sink.wait(PATIENCE, |status| status.last_error.as_ref().is_some_and(refused));
    send(&sink, 0..50);
    let block = common::remediation(common::targets()[0].clone(), Action::Block);
    sink.send(Message::remediation(&block).unwrap()).unwrap();
    let status = sink.wait(PATIENCE, |status| status.delivered == 51);
    assert_eq!((status.delivered, status.waiting), (51, 1), "{status:?}");
    assert_all_arrived(&read_all(broker.address(), "part.findings"), 0..50);
    // Somebody makes it.
    make_topics(config(broker.address(), homes[2].path(), "part"));
    let status = sink.wait(PATIENCE, |status| status.delivered == 52 && status.is_up());
    assert_eq!((status.delivered, status.waiting), (52, 0), "{status:?}");
    assert!(sink.wants(Topic::Health));
}

pub fn however_much_waits_for_a_missing_topic_others_are_delivered(broker: &Broker) {
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut made = config(broker.address(), homes[0].path(), "much");
    made.topics.findings = "much.other".into();
    make_topics(made);
    let mut strict = strict(broker.address(), homes[1].path(), "much");
    strict.in_flight_limit = 16;
    let sink = KafkaSink::start(strict.clone()).unwrap();
    send(&sink, 0..100);
    let block = common::remediation(common::targets()[0].clone(), Action::Block);
    for _ in 0..20 {
        sink.send(Message::remediation(&block).unwrap()).unwrap();
    }
    let status = sink.wait(PATIENCE, |status| status.delivered == 20);
    assert_eq!((status.delivered, status.waiting), (20, 100), "{status:?}");
    drop(sink);
    // The next run goes on, and so it does once somebody makes the topic.
    let sink = KafkaSink::start(strict).unwrap();
    sink.send(Message::remediation(&block).unwrap()).unwrap();
    let status = sink.wait(PATIENCE, |status| status.waiting == 100 && status.delivered > 0);
    assert_eq!(status.waiting, 100, "{status:?}");
    make_topics(config(broker.address(), homes[0].path(), "much"));
    let status = sink.wait(PATIENCE, |status| status.waiting == 0);
    assert_eq!(status.waiting, 0, "{status:?}");
    assert_all_arrived(&read_all(broker.address(), "much.findings"), 0..100);
}
