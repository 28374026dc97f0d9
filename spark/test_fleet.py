"""What an engine of many machines says is what the command line says, bit for bit."""

import json
import os
import subprocess

import fleet
import pyarrow.compute as pc
import pytest
from pyspark.sql.connect.functions import rand

import hedgerow

KEYS = ["host", "workload", "program", "script", "scale_epochs", "epoch", "early"]


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("life")
    subprocess.run([os.environ["HEDGEROW_LIFE"], home], check=True)
    run("train", home / "past", "--model", home / "model")
    run("score", home / "today", "--model", home / "model", "--out", home / "out", "--windows", home / "windows")
    return home


@pytest.fixture(scope="session")
def spark():
    spark, stop = fleet.session(os.environ.get("SPARK_REMOTE"))
    yield spark
    stop()


def run(*arguments):
    subprocess.run([os.environ["HEDGEROW"], *map(str, arguments)], check=True, capture_output=True)


def by_key(rows):
    found = {tuple(row[key] for key in KEYS): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_windows_are_judged_alike_however_they_are_divided(home, spark):
    told = by_key(hedgerow.read_capture(home / "out", "scores").read_all().to_pylist())
    model = str(home / "model")
    frozen = by_key(hedgerow.Model.load(model).score(hedgerow.read_capture(home / "windows")).to_pylist())
    windows = fleet.windows_of(spark, [home / "windows"])
    shuffled = [windows.orderBy(rand(seed)).repartition(1 + seed) for seed in (4, 9)]
    orders = []
    for divided in (windows, windows.repartition(1), windows.repartition(13), *shuffled):
        found = by_key([row.asDict() for row in fleet.score(divided, model).collect()])
        assert found.keys() == frozen.keys()
        orders.append(list(found))
        for key, row in told.items():
            assert found[key]["score"] == row["score"]
        for key, row in frozen.items():
            same = ["score", "measure", "surprise_nats", "p"]
            assert [found[key][name] for name in same] == [row[name] for name in same]
    assert len(set(map(tuple, orders[-2:]))) == 2 and orders[0] not in orders[-2:], "rows were shuffled"


def test_findings_are_those_of_the_command_line(home, spark):
    lines = (home / "out" / "findings.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert told
    found = fleet.findings(spark, [home / "today"], str(home / "model")).collect()
    assert {row.host for row in found} <= {"a", "b"}
    # The command line takes one host after the other.
    found = sorted(found, key=lambda row: row.host)
    assert [json.loads(row.finding) for row in found] == told


def test_a_workload_is_learned_host_by_host_as_the_command_line_learns_it(home, spark, tmp_path):
    windows = hedgerow.read_capture(home / "windows").read_all()
    found = list(fleet.train(spark, [home / "past"], ["web.service", "db.service"]))
    assert {workload for workload, _, _ in found} == {"web.service", "db.service"}
    for workload, told, model in found:
        assert told["models"] == 2 and told["hosts"] == ["a", "b"]
        run("train", home / "past", "--workload", workload, "--model", tmp_path / "model")
        assert (tmp_path / "model").read_bytes() == model
        judged = hedgerow.Model.load(tmp_path / "model").score(windows)
        assert pc.any(pc.is_valid(judged["score"])).as_py()


def test_what_many_hosts_need_is_what_one_needs_many_times(home):
    capture = home / "measured"
    (capture / "records").parent.mkdir()
    os.symlink(home / "today" / "records", capture / "records")
    os.symlink(home / "windows" / "windows", capture / "windows")
    lines = list(fleet.needs(capture, str(home / "model"), hosts=10, days=2))
    *lines, parts = lines
    assert len(lines) == 3 and all(" TB, " in line and "10 hosts and 2 days" in line for line in lines)
    assert parts.startswith("parts to merge: ")
    # Of each epoch two programs and the kernel's own counters, and a twelfth as many minutes.
    assert 50_000 < float(lines[0].split(": ")[1].split(" ")[0].replace(",", "")) < 65_000
