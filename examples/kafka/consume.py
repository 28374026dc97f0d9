#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads findings from Kafka and prints one line for each, once.

    pip install confluent-kafka==2.16.1
    examples/kafka/consume.py 127.0.0.1:9092 [TOPIC] [GROUP]

Delivery is at least once, so that a report can come twice: it is known by metadata.uid.
"""

import json
import sys
from collections import OrderedDict

from confluent_kafka import Consumer, KafkaException

# Ids remembered; a repeat comes soon after its original.
REMEMBERED = 100_000


def line(event):
    finding = event["unmapped"]["finding"]
    top = ""
    if finding["attribution"]:
        share = finding["attribution"][0]
        top = f" | {share['feature']} = {share['value']:g} ({share['share']:.0%})"
    alert = "ALERT" if event["is_alert"] else "     "
    return (
        f"{event['time']} {alert} {event['severity']:<8} {event['activity_name']:<6} "
        f"{event['message']} | score {finding['score']:.2f} ({finding['state']}){top}"
    )


def main(brokers, topic="hedgerow.findings", group="hedgerow-example-python"):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([topic])
    seen = OrderedDict()
    try:
        while True:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error():
                raise KafkaException(record.error())
            try:
                event = json.loads(record.value())
                uid = event["metadata"]["uid"]
                if uid not in seen:
                    print(line(event), flush=True)
                    seen[uid] = None
                    if len(seen) > REMEMBERED:
                        seen.popitem(last=False)
            except (ValueError, TypeError, KeyError) as error:
                place = f"{record.topic()}/{record.partition()}@{record.offset()}"
                print(f"{place} is no finding: {error!r}", file=sys.stderr)
            # Only what was printed is committed: a crash repeats a line, it never skips one.
            consumer.commit(record, asynchronous=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit("usage: consume.py BROKERS [TOPIC] [GROUP]")
    main(*sys.argv[1:])
