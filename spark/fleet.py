"""What is too much for one machine, by Spark Connect: windows judged, findings and models of many hosts.

    python spark/fleet.py score    WINDOWS... --model MODEL --out DIR [--remote sc://HOST:PORT]
    python spark/fleet.py findings CAPTURE... --model MODEL --out DIR [--remote sc://HOST:PORT]
    python spark/fleet.py train    CAPTURE... --workload NAME... --out DIR [--remote sc://HOST:PORT]
    python spark/fleet.py needs    CAPTURE --model MODEL [--hosts N] [--days N]

WINDOWS is a directory of windows (CAPTURE/windows). Executors need the wheel
`hedgerow`, and see captures and model under the same paths as the driver. Without --remote an engine
starts in this process (Sail, no JVM); `--remote local[2]` starts pyspark's. `needs` asks no engine: it measures one capture with its windows
on one core and multiplies.

A window's score hangs on the window and the model alone, so that any partition of any engine gives the
same bits (mapInArrow). Findings hang on what came before: a host is one group, its files are read in
the order of writing, by the same code as `hedgerow score` (applyInArrow). What travels through the
engine is the files' names, not their rows: a host's records of a day are larger than an executor. A
workload is learned by itself, from all hosts' records of it (applyInArrow). Models of workloads
are not merged: ranges and tails of one are not those of all (docs/captures.md), and a window is judged
by its workload's.
"""

import argparse
import glob
from pathlib import Path

SCORES = (
    "host string, workload string, program string, script string, scale_epochs long, epoch long, "
    "early long, window_start timestamp, window_end timestamp, score double, surprise_nats double, "
    "measure double, p double"
)
FINDINGS = "host string, finding string"
PARTS = "workload string, host string, part binary"


def windows_of(spark, directories):
    """Windows below directories. Files are named one by one: an engine that finds `host=` in a path
    makes a second column of it. Spark has no nanoseconds and refuses files that have them, unless they
    may be numbers."""
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    files = [str(file) for directory in directories for file in sorted(Path(directory).rglob("*.parquet"))]
    return spark.read.parquet(*files)


def score(windows, model):
    """Windows as a frame of Spark, judged by a frozen model."""

    def judge(batches):
        import pyarrow as pa

        import hedgerow

        frozen = hedgerow.Model.load(model)
        for batch in batches:
            judged = frozen.score(batch)
            # Spark knows no unsigned numbers, and times in microseconds.
            wide = {pa.uint32(): pa.int64(), pa.timestamp("ns", "UTC"): pa.timestamp("us", "UTC")}
            columns = [column.cast(wide.get(column.type, column.type), safe=False) for column in judged]
            yield pa.RecordBatch.from_arrays(columns, names=judged.schema.names)

    # Windows hold the same times since boot.
    return windows.drop("start", "end").mapInArrow(judge, SCORES)


def files_of(spark, captures):
    """The files of captures, by host: a frame of names."""
    found = []
    for capture in captures:
        for file in sorted(Path(capture).rglob("records/host=*/date=*/*.parquet")):
            host = next(part[5:] for part in file.parts if part.startswith("host="))
            found.append((host, str(file)))
    return spark.createDataFrame(found, "host string, path string")


def findings(spark, captures, model):
    """What is found in captures, host by host, in time order."""

    def judge(table):
        import json

        import pyarrow as pa

        import hedgerow

        found = hedgerow.score(table.column("path").to_pylist(), model)["findings"]
        host = table.column("host")[0].as_py()
        lines = [json.dumps(finding, sort_keys=True) for finding in found]
        return pa.table({"host": pa.array([host] * len(lines), pa.string()), "finding": pa.array(lines, pa.string())})

    return files_of(spark, captures).groupBy("host").applyInArrow(judge, FINDINGS)


def train(spark, captures, workloads):
    """A model of each workload, learned from what all hosts did in it: (workload, told, model)."""
    import tempfile

    import hedgerow

    def learn(table):
        import pyarrow as pa

        import hedgerow

        host, workload = (table.column(name)[0].as_py() for name in ("host", "workload"))
        with tempfile.TemporaryDirectory() as home:
            path = Path(home) / "part"
            files = table.column("path").to_pylist()
            hedgerow.train(files, path, part=True, workload=glob.escape(workload))
            part = path.read_bytes()
        return pa.table({"workload": [workload], "host": [host], "part": pa.array([part], pa.binary())})

    named = spark.createDataFrame([(workload,) for workload in workloads], "workload string")
    parts = files_of(spark, captures).crossJoin(named).groupBy("workload", "host").applyInArrow(learn, PARTS)
    with tempfile.TemporaryDirectory() as home:
        paths = {}
        for at, row in enumerate(parts.toLocalIterator()):
            path = Path(home) / f"part{at}"
            path.write_bytes(row.part)
            paths.setdefault(row.workload, []).append(path)
        for workload, parts in paths.items():
            model = Path(home) / "model"
            told = hedgerow.merge(parts, model)
            yield workload, told, model.read_bytes()


def needs(capture, model, hosts, days):
    """What so many hosts need for so long, were all like those of a capture, as lines."""
    import tempfile
    import time

    import hedgerow

    def disk(stream):
        return sum(file.stat().st_size for file in Path(capture, stream).rglob("*.parquet"))

    seen = hedgerow.read_capture(capture, columns=["host", "epoch"]).read_all()
    host_days = seen.group_by(["host", "epoch"]).aggregate([]).num_rows * 5 / 86_400
    records = sum(batch.num_rows for batch in hedgerow.read_capture(capture, "records", columns=["epoch"]))
    began = time.process_time()
    windows = sum(len(part) for part in map(hedgerow.Model.load(model).score, hedgerow.read_capture(capture)))
    judged = time.process_time()
    hedgerow.score(capture, model)
    replayed = time.process_time()
    with tempfile.TemporaryDirectory() as home:
        part = Path(home) / "part"
        hedgerow.train(capture, part, part=True)
        part_bytes = part.stat().st_size
    learned = time.process_time()
    many = hosts * days / host_days
    for name, rows, stream, seconds in (
        ("windows judged", windows, "windows", judged - began),
        ("records replayed", records, "records", replayed - judged),
        ("records learned from", records, "records", learned - replayed),
    ):
        size = disk(stream)
        yield (
            f"{name}: {rows / host_days:,.0f} a host and day, {size / rows:.1f} bytes and {1e6 * seconds / rows:.2f} µs each; "
            f"{hosts:,} hosts and {days:,} days: {many * size / 1e12:,.1f} TB, {many * seconds / 3600:,.0f} core hours, "
            f"{hosts * seconds / host_days / 86_400:,.1f} cores to keep up"
        )
    yield f"parts to merge: {part_bytes / 1e6:.1f} MB each; {hosts:,} hosts: {hosts * part_bytes / 1e9:,.1f} GB"


def session(remote=None):
    """A session at an engine, and what stops it."""
    from pyspark.sql import SparkSession

    if remote:
        spark = SparkSession.builder.remote(remote).getOrCreate()
        return spark, spark.stop
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer()
    server.start(background=True)
    _, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()

    def stop():
        spark.stop()
        server.stop()

    return spark, stop


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["score", "findings", "train", "needs"])
    parser.add_argument("captures", nargs="+", metavar="CAPTURE")
    parser.add_argument("--model")
    parser.add_argument("--workload", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--remote")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    asked = parser.parse_args()
    if asked.verb != "train" and not asked.model:
        parser.error("--model is missing")
    if asked.verb == "train" and not asked.workload:
        parser.error("--workload is missing")
    if asked.verb == "needs":
        print(*needs(asked.captures[0], asked.model, asked.hosts, asked.days), sep="\n")
        return
    if not asked.out:
        parser.error("--out is missing")
    spark, stop = session(asked.remote)
    try:
        if asked.verb == "score":
            score(windows_of(spark, asked.captures), asked.model).write.parquet(str(asked.out))
        elif asked.verb == "findings":
            asked.out.mkdir(parents=True, exist_ok=True)
            with open(asked.out / "findings.jsonl", "w") as file:
                for row in findings(spark, asked.captures, asked.model).toLocalIterator():
                    print(row.finding, file=file)
        else:
            asked.out.mkdir(parents=True, exist_ok=True)
            for at, (workload, _, model) in enumerate(train(spark, asked.captures, asked.workload)):
                # A workload's name is no file name.
                (asked.out / f"{at}.hedgerow").write_bytes(model)
                print(f"{asked.out / f'{at}.hedgerow'}\t{workload}")
    finally:
        stop()


if __name__ == "__main__":
    main()
