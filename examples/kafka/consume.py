#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An incident desk on Hedgerow's topics: what opens, changes and closes, what was refused for it (or
would be, where a mode only counts), and which hosts are silent. Each report counts once.

    pip install confluent-kafka==2.16.1
    examples/kafka/consume.py 127.0.0.1:9092 [--group GROUP] [--prefix hedgerow] [--idle SECONDS]

Delivery is at least once, so that a report can come twice: it is known by metadata.uid, a heartbeat by
its host's last one. Topics have no order between them: a block may come before its finding. What is
remembered is in memory here; a desk that must outlive a restart keeps it in a database.
"""

import argparse
import json
import sys
import time
from collections import OrderedDict

# Ids remembered; a repeat comes soon after its original.
REMEMBERED = 100_000
# Incidents remembered; past them the oldest go.
INCIDENTS = 10_000
# A host is silent after so many intervals without a heartbeat.
MISSED = 3
# Seconds; whatever a host says of its interval, it is waited for no longer.
INTERVAL_MAX = 86_400
# Seconds between two looks at who is silent.
LOOK_EVERY = 2
# Seconds that a broker has for an answer.
PATIENCE = 5
# OCSF activities: a finding is closed, a remediation lifts.
CLOSE = 3
RESTORE = 3
# OCSF's action of what the kernel refuses; what it only counts is observed.
DENIED = 2


def shown(line):
    """Names are what strangers chose: control characters would reach the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def text(value):
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is no text")
    return value


def whole(value, least, most):
    if type(value) is not int or not least <= value <= most:
        raise ValueError("no whole number, or too large a one")
    return value


class Desk:
    def __init__(self, prefix):
        self.takers = {
            f"{prefix}.findings": self.finding,
            f"{prefix}.remediations": self.remediation,
            f"{prefix}.health": self.heartbeat,
        }
        self.seen = OrderedDict()
        # By host and command_uid: what was said of a deny entry last.
        self.entries = OrderedDict()
        self.incidents = OrderedDict()
        self.hosts = {}
        self.unreadable = 0

    def is_new(self, uid):
        if uid in self.seen:
            return False
        self.seen[uid] = None
        if len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        return True

    def incident(self, uid):
        found = self.incidents.setdefault(uid, {"open": None, "refused": set()})
        if len(self.incidents) > INCIDENTS:
            self.incidents.popitem(last=False)
        return found

    def take(self, topic, value, place):
        """A line where a record says something new. One that can't be read is told and skipped: it would
        be read again after each restart."""
        try:
            return self.takers[topic](json.loads(value))
        # Anybody may have written it: it can nest too deep, or hold numbers that are none.
        except Exception as error:
            self.unreadable += 1
            why = f"{type(error).__name__}: {error}"[:200]
            print(shown(f"{place} can't be read ({self.unreadable} so far): {why}"), file=sys.stderr)
            return None

    def finding(self, event):
        if not self.is_new(event["metadata"]["uid"]):
            return None
        incident = self.incident(event["finding_info"]["uid"])
        # What comes after the close is an older report again.
        if incident["open"] is False:
            return None
        closed = event["activity_id"] == CLOSE
        word = "CLOSED" if closed else "OPEN" if incident["open"] is None else "UPDATE"
        incident["open"] = not closed
        alert = "ALERT" if event["is_alert"] else "     "
        top = ""
        if event["unmapped"]["finding"]["attribution"]:
            share = event["unmapped"]["finding"]["attribution"][0]
            top = f" | {share['feature']} = {share['value']:g} ({100 * share['share']:.0f} %)"
        entries = len(incident["refused"])
        refused = f" | {entries} refused for it" if entries else ""
        host = event["device"]["uid"]
        return f"{word:<7} {alert} {event['severity']:<8} {host} {event['message']}{top}{refused}"

    def remediation(self, event):
        if not self.is_new(event["metadata"]["uid"]):
            return None
        lifts, denies = event["activity_id"] == RESTORE, event["action_id"] == DENIED
        word = "LIFTED" if lifts else "REFUSED" if denies else "WOULD REFUSE"
        entry = (event["device"]["uid"], event["command_uid"])
        # An entry that lives longer is no news, and none lives again.
        if self.entries.get(entry) in (word, "LIFTED"):
            return None
        self.entries[entry] = word
        if len(self.entries) > REMEMBERED:
            self.entries.popitem(last=False)
        uid = event["metadata"].get("correlation_uid")
        whose = "by an operator"
        if uid is not None:
            incident = self.incident(uid)
            if word == "REFUSED":
                incident["refused"].add(event["command_uid"])
            whose = {
                True: f"for the open incident {uid}",
                False: f"for the closed incident {uid}",
                None: f"for {uid}, which has not come yet",
            }[incident["open"]]
        return f"{word:<7} {event['device']['uid']} {event['message']} {whose}"

    def heartbeat(self, beat):
        host, boot, phase = (text(beat[key]) for key in ("host_id", "boot_id", "phase"))
        sequence = whole(beat["sequence"], 0, 2**64 - 1)
        beaten = whole(beat["time"], -(2**63), 2**63 - 1)
        interval = whole(beat["interval_seconds"], 0, 2**64 - 1)
        before = self.hosts.get(host)
        # A repeat: a restart counts from 0, but later; a clock may be set back, but goes on counting.
        if before is not None and before["boot"] == boot:
            if sequence <= before["sequence"] and beaten <= before["time"]:
                return None
        self.hosts[host] = {
            "boot": boot,
            "sequence": sequence,
            "time": beaten,
            "interval": min(max(interval, 1), INTERVAL_MAX) * 1000,
            "silent": False,
        }
        if before is None:
            return f"HOST    {host} {phase}"
        return f"BACK    {host}" if before["silent"] else None

    def silent(self, now):
        """Hosts that were silent at a time up to which all is read, a line each. Time: milliseconds since
        the Unix epoch."""
        for name, host in sorted(self.hosts.items()):
            since = now - host["time"]
            if not host["silent"] and since > MISSED * host["interval"]:
                host["silent"] = True
                yield f"SILENT  {name} for {since // 1000} s"


class Reading:
    """Up to when the health topic was read: what a backlog says last of a host is no sign of silence."""

    def __init__(self, consumer, topic):
        self.consumer, self.topic = consumer, topic
        self.asked, self.ends = None, {}

    def known(self, now):
        """A time up to which all assigned partitions were read, where one is newly known: what was their end
        when that was asked for lies behind. Who waits for an end itself never sees the one of a busy topic."""
        from confluent_kafka import KafkaException

        try:
            places = self.places()
        except KafkaException:
            return None
        same = places.keys() == self.ends.keys()
        if same and any(places[partition][0] < end for partition, end in self.ends.items()):
            return None
        known = self.asked if same and places else None
        self.asked, self.ends = now, {partition: end for partition, (_, end) in places.items()}
        return known

    def places(self):
        """By partition: what is read next, and its end."""
        assigned = [at for at in self.consumer.assignment() if at.topic == self.topic]
        if not assigned:
            return {}
        positions = self.consumer.position(assigned)
        committed = self.consumer.committed(assigned, timeout=PATIENCE)
        places = {}
        for position, begin in zip(positions, committed, strict=True):
            offsets = self.consumer.get_watermark_offsets(position, timeout=PATIENCE)
            if offsets is None:
                return {}
            # Where nothing was read since the assignment, what is committed comes next, else the first;
            # none is below 0.
            read = position.offset if position.offset >= 0 else begin.offset
            places[position.partition] = (max(read, offsets[0]), offsets[1])
        return places


def run(brokers, group, prefix, idle):
    from confluent_kafka import Consumer, KafkaError, KafkaException

    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            # A topic that is made later is found within this time.
            "topic.metadata.refresh.interval.ms": 10000,
        }
    )
    # A name need not be in the terminal's alphabet.
    sys.stdout.reconfigure(errors="backslashreplace")
    desk = Desk(prefix)
    consumer.subscribe(list(desk.takers))
    reading = Reading(consumer, f"{prefix}.health")
    last = looked = None
    try:
        while idle is None or last is None or time.monotonic() - last < idle:
            if looked is None or time.monotonic() - looked >= LOOK_EVERY:
                looked = time.monotonic()
                known = reading.known(int(time.time() * 1000))
                for line in desk.silent(known) if known is not None else ():
                    print(shown(line), flush=True)
            record = consumer.poll(0.5)
            if record is None:
                continue
            if record.error():
                # Not made yet: hosts that found nothing have sent nothing.
                if record.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise KafkaException(record.error())
            last = time.monotonic()
            place = f"{record.topic()}/{record.partition()}@{record.offset()}"
            line = desk.take(record.topic(), record.value(), place)
            if line is not None:
                print(shown(line), flush=True)
            # Only what was printed is committed: a crash repeats a line, it never skips one.
            consumer.commit(record, asynchronous=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("brokers")
    options.add_argument("--group", default="hedgerow-example-python")
    options.add_argument("--prefix", default="hedgerow", help="of the topics' names")
    options.add_argument("--idle", type=float, help="end after so many seconds without a record")
    given = options.parse_args()
    run(given.brokers, given.group, given.prefix, given.idle)
