# SPDX-License-Identifier: Apache-2.0
"""OCSF events against the schema of their version: see scripts/ocsf-test."""

import copy
import json
import pathlib
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

EPISODE = ["pod_create", "pod_update", "pod_close"]


class Schema:
    def __init__(self, version):
        self.version = version
        self.whole = get_ocsf_schema(version=version)
        self.schema = OcsfJsonSchemaEmbedded(self.whole)

    def wrong(self, event):
        """What the schema says against an event, a line each."""
        version = event["metadata"]["version"]
        if version != self.version:
            return [f"metadata.version is {version}"]
        profiles = event["metadata"]["profiles"]
        unknown = set(profiles) - set(self.whole["profiles"])
        name = self.schema.lookup_class_name_from_uid(event["class_uid"])
        validator = Draft202012Validator(self.schema.get_class_schema(name, profiles))
        told = [f"no profile of the schema: {profile}" for profile in sorted(unknown)]
        told += [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(event)]
        attributes = self.whole["classes"][name]["attributes"]
        for number in [key for key in event if key.endswith("_id") and "enum" in attributes[key]]:
            # 99 is *other*: its caption is ours.
            caption = attributes[number]["enum"].get(str(event[number]), {}).get("caption")
            own = event.get("activity_name" if number == "activity_id" else number[:-3])
            if event[number] != 99 and own is not None and own != caption:
                told.append(f"$.{number}: {event[number]} is {caption}, not {own}")
        return told


def episode_wrong(events):
    """What is wrong with the reports of an episode from its create to its close."""
    told = []
    if [event["activity_id"] for event in events] != [1, 2, 3]:
        told.append("it isn't create, update, close")
    if len({event["finding_info"]["uid"] for event in events}) != 1:
        told.append("finding_info.uid changes")
    if len({event["metadata"]["uid"] for event in events}) != len(events):
        told.append("metadata.uid repeats")
    times = [event["time"] for event in events]
    if times != sorted(times):
        told.append("time goes back")
    return told


def main(golden):
    paths = sorted(path for path in golden.glob("*.json") if not path.stem.startswith("ecs_"))
    events = {path.stem: json.loads(path.read_text()) for path in paths}
    schema = Schema("1.8.0")
    told = [f"{name}: {wrong}" for name, event in events.items() for wrong in schema.wrong(event)]
    told += [f"episode: {wrong}" for wrong in episode_wrong([events[name] for name in EPISODE])]
    for line in told:
        print(f"ocsf-test: {line}", file=sys.stderr)
    # A validator that takes anything proves nothing.
    for spoil in ["finding_info", "severity_id", "time"]:
        spoiled = copy.deepcopy(events[EPISODE[0]])
        del spoiled[spoil]
        if not schema.wrong(spoiled):
            sys.exit(f"ocsf-test: an event without {spoil} is taken")
    if told or not events:
        sys.exit(1)
    classes = sorted({event["class_uid"] for event in events.values()})
    print(f"ocsf-test: {len(events)} events of classes {classes} are valid OCSF {schema.version}")


main(pathlib.Path(sys.argv[1]))
