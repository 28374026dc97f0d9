"""Times training on a fleet's captures beside polars and scikit-learn; see scripts/train-scale.

    train_scale.py FLAT WORK       all
    train_scale.py peers WINDOWS   the latter alone

Each is a process of its own on two cores. Polars finds what `hedgerow train` finds of windows of *fill*:
smallest, largest, median and quantiles of each column by program. Scikit-learn fits an isolation forest of
as many trees on rows of *fit*, and scores the held-back ones. N-grams, first-seen sets, deeds, rates,
floors and the replay of records that windows come from are left out there.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

MEMORY_MOST = 4 << 30
CORES = {0, 1}


def timed(name, *command):
    """Runs a command on two cores, and tells time and peak."""
    began = time.monotonic()
    child = subprocess.Popen([str(part) for part in command], preexec_fn=lambda: os.sched_setaffinity(0, CORES))
    _, status, used = os.wait4(child.pid, 0)
    seconds, peak = time.monotonic() - began, used.ru_maxrss * 1024
    cpu = used.ru_utime + used.ru_stime
    print(f"{name}: {seconds:.0f} s ({cpu:.0f} s of CPU), peak {peak / 2**20:,.0f} MiB", flush=True)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"train-scale: {name} failed")
    return seconds, cpu, peak


def peers(windows):
    import numpy as np
    import polars as pl
    from sklearn.ensemble import IsolationForest

    files = sorted(str(path) for path in Path(windows).rglob("*.parquet"))
    seen = pl.scan_parquet(files)
    group = ["workload", "program", "script", "scale"]
    families = ("volume", "errors", "classes", "shape", "order", "processes", "files", "flows", "host")
    columns = [name for name in seen.collect_schema() if "_" in name and name.split("_")[0] in families]
    print(f"{seen.select(pl.len()).collect().item():,} windows, {len(columns)} columns", flush=True)
    last = seen.select(pl.col("epoch").max()).collect().item()
    fill, fit = int(last * 0.6), int(last * 0.8)

    def value(name):
        known = pl.col(name).cast(pl.Float32).fill_null(0.0)
        return known.log1p() if name.endswith(("_count", "_bytes", "_packets", "_rate")) else known

    rows = seen.select(*group, "epoch", *[value(name).alias(name) for name in columns])
    filling = rows.filter(pl.col("epoch") <= fill)
    ends = [end for name in columns for end in (pl.col(name).min().name.suffix(" min"), pl.col(name).max().name.suffix(" max"))]
    usual = filling.group_by(group).agg(ends).collect(engine="streaming")
    # Quantiles need a group's rows at once: of a sample of them, as ours are.
    sampled = filling.filter(pl.struct("program", "epoch").hash(1) % 64 == 0)
    quantiles = [pl.col(name).quantile(q).name.suffix(f" {q}") for name in columns for q in (0.01, 0.5, 0.99)]
    sampled.group_by(group).agg(quantiles).collect(engine="streaming")
    moving = [name for name in columns if usual[f"{name} min"].min() != usual[f"{name} max"].max()]
    print(f"{len(usual)} programs by length, {len(moving)} columns that move", flush=True)
    short = rows.filter(pl.col("scale") == "5s")
    learn = short.filter((pl.col("epoch") > fill) & (pl.col("epoch") <= fit)).select(moving)
    matrix = learn.collect(engine="streaming").to_numpy().astype(np.float32, copy=False)
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0, n_jobs=2).fit(matrix)
    print(f"fitted on {len(matrix):,} rows", flush=True)
    del matrix
    held = short.filter(pl.col("epoch") > fit).select(moving).collect(engine="streaming")
    for piece in held.iter_slices(200_000):
        forest.score_samples(piece.to_numpy().astype(np.float32, copy=False))
    print(f"scored {len(held):,} held-back rows", flush=True)


def main():
    if sys.argv[1] == "peers":
        peers(sys.argv[2])
        return
    flat, work = sys.argv[1], Path(sys.argv[2])
    ours, cpu, peak = timed("hedgerow train", flat, "train", work / "fleet", work / "model")
    if peak > MEMORY_MOST:
        sys.exit("train-scale: more than 4 GiB")
    subprocess.run([flat, "train", work / "fleet", work / "again", work / "windows"], check=True)
    if (work / "model").read_bytes() != (work / "again").read_bytes():
        sys.exit("train-scale: the same captures gave another model")
    theirs, their_cpu, _ = timed("polars and scikit-learn", sys.executable, __file__, "peers", work / "windows")
    print(f"ratio: {ours / theirs:.2f} of their time, {cpu / their_cpu:.2f} of their CPU time")


if __name__ == "__main__":
    main()
