#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/test-data runs: see there. Exits with a traceback where something differs."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import onnxruntime
import pandas
import polars
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest

BINARIES = Path(sys.argv[1])
# Of two hosts together, as `life` makes them.
EPOCHS = 720
# Of scores in (0, 1]; the graph sums path lengths in float32.
TOLERANCE = 1e-5


def hedgerow(*arguments):
    done = subprocess.run(
        [BINARIES / "hedgerow", "--json", *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


def rows_of(scores):
    """The deviations of 5 s windows, which the forest read, and what it made of them."""
    windows = scores.filter(polars.col("scale_epochs") == 1)
    first = windows.columns.index("volume_spread")
    return windows.select(windows.columns[first:]).to_numpy(), windows["score"].to_numpy()


def reads_alike(capture, out):
    """Three readers see the same rows, names, counts and times."""
    files = str(capture / "records" / "**" / "*.parquet")
    count = EPOCHS
    closes = "kind = 'close'"
    assert duckdb.sql(f"select count(*) from '{files}' where {closes}").fetchall()[0][0] == count
    lazy = polars.scan_parquet(files)
    assert lazy.filter(polars.col("kind") == "close").select(polars.len()).collect().item() == count
    frame = pandas.concat(pandas.read_parquet(path) for path in sorted(capture.rglob("records/**/*.parquet")))
    assert (frame["kind"] == "close").sum() == count and len(frame) == lazy.select(polars.len()).collect().item()
    programs = {"/usr/bin/web", "/usr/bin/db"}
    assert set(frame["program"].dropna()) == programs
    assert {name for (name,) in duckdb.sql(f"select distinct program from '{files}' where program is not null").fetchall()} == programs
    windows = str(out / "windows" / "windows" / "**" / "*.parquet")
    by_duckdb = duckdb.sql(f'select min("start"), max("end"), count(*) from \'{windows}\'').fetchall()[0]
    by_polars = polars.scan_parquet(windows).select(polars.col("start").min(), polars.col("end").max(), polars.len()).collect().row(0)
    assert by_duckdb[2] == by_polars[2] > 2 * EPOCHS
    assert by_duckdb[0].timestamp() == by_polars[0].timestamp(), (by_duckdb, by_polars)
    findings = out / "scored" / "findings.jsonl"
    if findings.exists() and findings.stat().st_size:
        assert "surprise" in pandas.read_json(findings, lines=True)


def exchanges(home, out):
    """Our forest in onnxruntime, scikit-learn's in ours."""
    scores = polars.read_parquet(out / "scored" / "scores" / "**" / "*.parquet")
    rows, ours = rows_of(scores)
    assert len(rows) > EPOCHS and np.isfinite(rows).all()
    told = hedgerow("model", "export", home / "ours.onnx", "--model", home / "model")
    session = onnxruntime.InferenceSession(home / "ours.onnx", providers=["CPUExecutionProvider"])
    theirs = session.run(["scores"], {"X": rows})[0].ravel()
    worst = np.abs(theirs - ours).max()
    print(f"our forest of {told['trees']} trees in onnxruntime: {worst:.1e} off at most, {len(rows)} rows")
    assert worst < TOLERANCE
    forest = IsolationForest(n_estimators=60, max_samples=128, random_state=5).fit(rows)
    onnx = to_onnx(forest, rows[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    (home / "sklearn.onnx").write_bytes(onnx.SerializeToString())
    told = hedgerow("model", "import", home / "sklearn.onnx", "--model", home / "model",
                    "--out", home / "imported", "--hold-back", home / "capture")
    assert told["trees"] == 60 and told["measured_programs"] >= 2, told
    hedgerow("score", home / "capture", "--model", home / "imported", "--out", out / "imported")
    again, ours = rows_of(polars.read_parquet(out / "imported" / "scores" / "**" / "*.parquet"))
    worst = np.abs(ours + forest.score_samples(again)).max()
    print(f"scikit-learn's forest in ours: {worst:.1e} off at most")
    assert worst < TOLERANCE


def main():
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        out = home / "out"
        subprocess.run([BINARIES / "examples" / "life", home], check=True)
        (home / "past").rename(home / "capture")
        hedgerow("train", home / "capture", "--model", home / "model", "--windows", out / "windows")
        hedgerow("score", home / "capture", "--model", home / "model", "--out", out / "scored")
        reads_alike(home / "capture", out)
        print("pandas, polars and DuckDB read the same")
        exchanges(home, out)


main()
