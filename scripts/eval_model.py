# SPDX-License-Identifier: Apache-2.0
"""Detection, exchange, attribution and maturity of hedgerow-model beside its peers.

Run by scripts/eval-model, which installs the peers and builds the examples that this calls.
"""
import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

OURS = {"forest": "iforest", "nn": "nn"}
MARGIN = 0.005  # mean AUROC that the forest may lie below scikit-learn's
LEVEL = 0.01  # of all Welch tests of a protocol together (Holm)
AGREEMENT = 1e-6  # of scores across runtimes


class Checks:
    """Criteria, told as they are checked."""

    def __init__(self):
        self.failed = []

    def __call__(self, what, holds):
        print(f"{'ok  ' if holds else 'FAIL'}  {what}", flush=True)
        if not holds:
            self.failed.append(what)


def run(binary, *args):
    """Runs an example; its complaint ends the evaluation."""
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"eval-model: {binary.name} {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout


# Data: Parquet with a column `label`, or the files as their authors publish them


def labelled_set(path):
    """Rows and labels (1: anomaly) of a set."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["X"].astype(float), arrays["y"].astype(int)
    table = pd.read_parquet(path)
    return table.drop(columns="label").to_numpy(float), table["label"].to_numpy(int)


def labelled_sets(folder):
    """Paths of ADBench's sets (`<number>_<name>`), by number."""
    paths = [*folder.glob("*.parquet"), *folder.glob("*.npz")]
    return sorted(paths, key=lambda path: int(path.stem.split("_")[0]))


def normal_traces(folder):
    """ADFA-LD's normal traces: lists of system-call numbers."""
    if (folder / "traces.parquet").exists():
        table = pd.read_parquet(folder / "traces.parquet")
        return list(table[table["label"] == 0]["syscalls"])
    files = [*folder.glob("Training_Data_Master/*.txt"), *folder.glob("Validation_Data_Master/*.txt")]
    return [path.read_text().split() for path in sorted(files)]


def readers(args, check):
    """Both forms of a set and of traces, written here, must read alike."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    traces = [list(map(str, rng.integers(0, 300, rng.integers(1, 9)))) for _ in range(12)]
    print("Reading, a set and traces written in both forms")
    with tempfile.TemporaryDirectory() as scratch:
        here = pathlib.Path(scratch)
        np.savez(here / "2_b.npz", X=rows, y=labels)
        pd.DataFrame(rows).rename(columns=str).assign(label=labels).to_parquet(here / "11_a.parquet")
        for number, trace in enumerate(traces):
            part = here / "texts" / ("Training" if number < 6 else "Validation")
            file = part.with_name(f"{part.name}_Data_Master") / f"UTD-{number:04}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(" ".join(trace) + " ")
        (here / "table").mkdir()
        mixed = pd.DataFrame({"label": [0] * 12 + [1], "syscalls": [list(map(int, t)) for t in [*traces, ["5"]]]})
        mixed.to_parquet(here / "table" / "traces.parquet")

        paths = labelled_sets(here)
        check("sets are taken by their number", [p.name for p in paths] == ["2_b.npz", "11_a.parquet"])
        same = [np.array_equal(x, y) for path in paths for x, y in zip(labelled_set(path), (rows, labels))]
        check("a set reads alike from .npz and from Parquet", all(same))
        read = [[list(map(str, t)) for t in normal_traces(here / form)] for form in ["texts", "table"]]
        check("traces read alike from text and from Parquet, attacks left out", read == [traces, traces])


# Detection


def splits(rows, labels, protocol, seed):
    """Training rows, test rows and test labels of one run."""
    if protocol == "transductive":
        return rows, rows, labels
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(labels == 0))
    train = normal[: len(normal) // 2]
    test = np.sort(np.concatenate([normal[len(normal) // 2 :], np.flatnonzero(labels == 1)]))
    mean, deviation = rows[train].mean(axis=0), rows[train].std(axis=0)
    deviation[deviation == 0] = 1
    scaled = (rows - mean) / deviation
    return scaled[train], scaled[test], labels[test]


def one_run(path, protocol, seed, fit_score, scratch):
    """AUROC of scikit-learn and of each of our detectors, on the same rows and with one seed."""
    rows, labels = labelled_set(path)
    train, test, truth = splits(rows, labels, protocol, seed)
    forest = IsolationForest(n_estimators=100, random_state=seed).fit(train)
    result = {"scikit-learn": roc_auc_score(truth, -forest.score_samples(test))}
    here = pathlib.Path(scratch) / f"{path.stem}-{protocol}-{seed}"
    here.mkdir()
    np.save(here / "train.npy", train.astype(np.float32))
    np.save(here / "test.npy", test.astype(np.float32))
    for name, algorithm in OURS.items():
        out = here / f"{algorithm}.npy"
        options = ["--algorithm", algorithm, "--seed", seed]
        run(fit_score, here / "train.npy", here / "test.npy", out, *options)
        result[name] = roc_auc_score(truth, np.load(out))
    for file in here.iterdir():
        file.unlink()
    return result


def holm(p_values, level):
    """Which of the hypotheses Holm's step-down procedure rejects."""
    rejected = np.zeros(len(p_values), bool)
    for step, at in enumerate(np.argsort(p_values)):
        if p_values[at] > level / (len(p_values) - step):
            break
        rejected[at] = True
    return rejected


def worse_than_sklearn(runs):
    """Sets on which the forest is significantly worse: Welch's test, two-sided, Holm over sets."""
    p_values, lower = [], []
    for of_set in runs.values():
        ours = [r["forest"] for r in of_set]
        theirs = [r["scikit-learn"] for r in of_set]
        same = np.std(ours) == 0 and np.std(theirs) == 0
        p = float(np.mean(ours) == np.mean(theirs)) if same else stats.ttest_ind(ours, theirs, equal_var=False).pvalue
        p_values.append(p)
        lower.append(np.mean(ours) < np.mean(theirs))
    rejected = holm(np.array(p_values), LEVEL)
    return [name for name, r, l in zip(runs, rejected, lower) if r and l], min(p_values)


def compare_with_record(runs, data):
    """scikit-learn's runs with seeds 0 to 4 must give the recorded means: the protocol is right."""
    record = data / "sklearn_isolation_forest.csv"
    if not record.exists():
        return
    recorded = pd.read_csv(record).set_index("name")["auroc_mean"]
    off = {}
    for name, of_set in runs.items():
        key = f"ADBench {name} | transductive"
        if key in recorded and len(of_set) >= 5:
            off[name] = abs(np.mean([r["scikit-learn"] for r in of_set[:5]]) - recorded[key])
    if off:
        worst = max(off, key=off.get)
        print(f"      recorded means of scikit-learn: {len(off)} sets, farthest off {worst} by {off[worst]:.4f}")


def detection(args, check):
    paths = labelled_sets(args.data / "adbench")
    for protocol in ["transductive", "one-class"]:
        # The largest first, so that no worker is left alone with it.
        jobs = sorted(((p, s) for p in paths for s in range(args.seeds)), key=lambda j: -j[0].stat().st_size)
        with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            fit_score = args.binaries / "fit_score"
            futures = {job: pool.submit(one_run, job[0], protocol, job[1], fit_score, scratch) for job in jobs}
            runs = {p.stem: [futures[p, s].result() for s in range(args.seeds)] for p in paths}
        columns = ["scikit-learn", *OURS]
        table = pd.DataFrame({n: pd.DataFrame(r)[columns].mean() for n, r in runs.items()}).T
        table.loc["mean"] = table.mean()
        print(f"\nADBench, {protocol}: mean AUROC over {args.seeds} seeds")
        print(table.round(4).to_string(), flush=True)
        mean = table.loc["mean"]
        if protocol == "transductive":
            compare_with_record(runs, args.data)
        ours, theirs = mean["forest"], mean["scikit-learn"]
        check(f"{protocol}: forest {ours:.4f}, scikit-learn {theirs:.4f} (at most {MARGIN} below)", ours >= theirs - MARGIN)
        worse, least = worse_than_sklearn(runs)
        check(f"{protocol}: sets on which the forest is significantly worse: {worse or 'none'} (least p {least:.3g})", not worse)


# Exchange


def generator(rows, columns, seed):
    """Rows of a mixture of three Gaussians with columns of different widths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (3, columns))
    widths = 10.0 ** rng.uniform(-2, 3, columns)
    return ((rng.normal(size=(rows, columns)) + centres[rng.integers(0, 3, rows)]) * widths).astype(np.float32)


def put_on_thresholds(rows, model, seed):
    """Gives half the rows a value that is a threshold of the model, or the next f32 beside it."""
    rng = np.random.default_rng(seed)
    features, values = [], []
    for node in model.graph.node:
        if node.op_type == "TreeEnsembleRegressor":
            of = {a.name: a for a in node.attribute}
            split = np.array([mode == b"BRANCH_LEQ" for mode in of["nodes_modes"].strings])
            features.append(np.array(of["nodes_featureids"].ints)[split])
            values.append(np.array(of["nodes_values"].floats, np.float32)[split])
    features, values = np.concatenate(features), np.concatenate(values)
    at = np.arange(0, len(rows), 2)
    pick = rng.integers(0, len(features), len(at))
    direction = rng.integers(-1, 2, len(at))
    on = values[pick]
    beside = np.nextafter(on, np.where(direction > 0, np.inf, -np.inf).astype(np.float32))
    rows[at, features[pick]] = np.where(direction == 0, on, beside)
    return rows


def runtime_scores(path, rows):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    blocks = [session.run(["scores"], {"X": rows[i : i + 20_000]})[0].ravel() for i in range(0, len(rows), 20_000)]
    return np.concatenate(blocks).astype(float)


def exchange(args, check):
    import onnx
    from skl2onnx import to_onnx

    tool = args.binaries / "onnx_exchange"
    print("\nONNX, 100,000 rows of 32 columns, half of them on thresholds or one f32 beside")
    with tempfile.TemporaryDirectory() as scratch:
        here = pathlib.Path(scratch)
        train = generator(20_000, 32, 1)
        np.save(here / "train.npy", train)

        run(tool, "export", here / "train.npy", here / "ours.onnx")
        model = onnx.load(here / "ours.onnx")
        onnx.checker.check_model(model, full_check=True)
        rows = put_on_thresholds(generator(100_000, 32, 2), model, 3)
        np.save(here / "rows.npy", rows)
        run(tool, "score", here / "ours.onnx", here / "rows.npy", here / "scores.npy")
        worst = np.abs(runtime_scores(here / "ours.onnx", rows) - np.load(here / "scores.npy")).max()
        check(f"our forest in onnxruntime: largest difference {worst:.1e}", worst <= AGREEMENT)

        forest = IsolationForest(n_estimators=100, max_samples=256, random_state=4).fit(train)
        theirs = to_onnx(forest, train[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        (here / "skl.onnx").write_bytes(theirs.SerializeToString())
        rows = put_on_thresholds(generator(100_000, 32, 5), theirs, 6)
        np.save(here / "rows.npy", rows)
        run(tool, "score", here / "skl.onnx", here / "rows.npy", here / "scores.npy")
        ours = np.load(here / "scores.npy")
        worst = np.abs(-forest.score_samples(rows) - ours).max()
        check(f"scikit-learn's forest here, against scikit-learn: largest difference {worst:.1e}", worst <= AGREEMENT)
        # skl2onnx's scores are the decision function: 0.5 - score.
        worst = np.abs(0.5 - runtime_scores(here / "skl.onnx", rows) - ours).max()
        check(f"scikit-learn's forest here, against skl2onnx's graph in onnxruntime: {worst:.1e}", worst <= AGREEMENT)
        run(tool, "convert", here / "skl.onnx", here / "compact.onnx")
        worst = np.abs(runtime_scores(here / "compact.onnx", rows) - ours).max()
        check(f"scikit-learn's forest exported again, in onnxruntime: {worst:.1e}", worst <= AGREEMENT)
        nodes = [len(onnx.load(here / f"{n}.onnx").graph.node) for n in ["skl", "compact"]]
        size = [(here / f"{n}.onnx").stat().st_size // 1000 for n in ["skl", "compact"]]
        print(f"      graph nodes {nodes[0]} and {nodes[1]}, {size[0]} and {size[1]} kB")


# Attribution


def attribution(args, check):
    import shap
    from skl2onnx import to_onnx

    print("\nTreeSHAP of the path length, scikit-learn's forest, 200 rows of 12 columns")
    with tempfile.TemporaryDirectory() as scratch:
        here = pathlib.Path(scratch)
        train = generator(5_000, 12, 7)
        rows = generator(200, 12, 8)
        forest = IsolationForest(n_estimators=50, max_samples=256, random_state=9).fit(train)
        theirs = to_onnx(forest, train[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        (here / "skl.onnx").write_bytes(theirs.SerializeToString())
        np.save(here / "rows.npy", rows)
        run(args.binaries / "onnx_exchange", "explain", here / "skl.onnx", here / "rows.npy", here / "shap.npy")
        ours = np.load(here / "shap.npy")
        expected = shap.TreeExplainer(forest).shap_values(rows)
        worst = np.abs(ours - expected).max()
        check(f"exact SHAP values against the shap package: largest difference {worst:.1e} splits", worst <= 1e-6)


# Maturity


def maturity(args, check):
    traces = normal_traces(args.data / "adfa_ld")
    print("\nADFA-LD, normal traces: share of new n-grams in the next 100 traces, median of 20 orders")
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "traces.txt"
        path.write_text("\n".join(" ".join(map(str, calls)) for calls in traces))
        for gram in [6, 3]:
            out = run(args.binaries / "forecast_novelty", path, gram, "500,1000,2000,4000", 20)
            lines = [line.split(",") for line in out.splitlines()]
            runs = pd.DataFrame(lines[1:], columns=lines[0]).astype(float)
            runs["ratio"] = runs["forecast"] / runs["actual_distinct"]
            runs["ratio_calls"] = runs["forecast"] / runs["actual_calls"]
            medians = runs.groupby("units")[["forecast", "actual_distinct", "actual_calls", "ratio", "ratio_calls"]].median()
            print(f"{gram}-grams\n{medians.round(4).to_string()}", flush=True)
            if gram == 6:
                worst = max(medians["ratio"].max(), 1 / medians["ratio"].min())
                check(f"6-grams from 500 units on: forecast within a factor of {worst:.2f} (at most 2.5)", worst <= 2.5)


def main():
    parts = {"readers": readers, "onnx": exchange, "shap": attribution, "maturity": maturity, "detection": detection}
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("parts", nargs="*", choices=[*parts, []])
    args = parser.parse_args()
    check = Checks()
    # Cheap parts first: a broken one shows before the long one has run.
    for name, part in parts.items():
        if not args.parts or name in args.parts:
            part(args, check)
    print(f"\n{len(check.failed)} criteria failed" if check.failed else "\nall criteria met")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
