#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Hedgerow finds in labelled sets of others, beside scikit-learn's isolation forest.

    make eval [DATA=DIR] [SEEDS=N]
    datasets/eval.py --data DIR --binaries DIR [--seeds N] [--out FILE] [NAME...]

Reads every set that is below DIR (datasets/README.md says where each belongs), learns and judges with
the product's own code (`examples/traces` and `examples/measure` of the crate `offline`), and rewrites
datasets/RESULTS.md. With names only the sets whose name contains one of them are judged, and what
comes of it is printed. Python's packages are installed from requirements.txt into target/eval.
"""

import argparse
import hashlib
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RATES = [0.001, 0.01, 0.05]
# Calls of a window, here all of a trace: chosen by choose.py, on training traces alone.
CALLS = 1_000_000


import environment

environment.enter(__file__)

import numpy as np
import polars as pl
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

import loaders
from environment import TARGET


def run(binary, *args):
    """Runs one of ours; its complaint ends the evaluation."""
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"eval: {done.stderr.strip()}")
    return done.stdout


def recall(labels, scores, rate):
    """Share of anomalies above a threshold that at most so many of the normal ones exceed."""
    normal = np.sort(scores[labels == 0])[::-1]
    threshold = normal[min(int(rate * len(normal)), len(normal) - 1)]
    return float((scores[labels == 1] > threshold).mean())


def figures(labels, scores):
    """AUROC, average precision, recalls."""
    ranked = [roc_auc_score(labels, scores), average_precision_score(labels, scores)]
    return np.array([*ranked, *(recall(labels, scores, rate) for rate in RATES)])


def spread(values, digits=4):
    values = np.asarray(values)
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


# Tables


def measured_table(learn, judge, seed, binaries, where):
    """Scores of scikit-learn's forest, ours and our measure, of standardised rows."""
    mean, deviation = learn.mean(axis=0), learn.std(axis=0)
    deviation[deviation == 0] = 1
    rows = [((part - mean) / deviation).astype(np.float32) for part in (learn, judge)]
    forest = IsolationForest(n_estimators=100, random_state=seed).fit(rows[0])
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        paths = [pathlib.Path(scratch) / name for name in ("learn", "judge", "out")]
        for path, part in zip(paths, rows):
            path.write_bytes(part.astype("<f4").tobytes())
        run(binaries / "measure", *paths[:2], learn.shape[1], seed, paths[2])
        ours = np.fromfile(paths[2], "<f8").reshape(-1, 2)
    return -forest.score_samples(rows[1]), ours[:, 0], ours[:, 1]


def table_run(of, seed, binaries, where):
    scores = measured_table(of.learn, of.judge, seed, binaries, where)
    if of.labels is None:
        # Unlabelled: the share of the later half above what 1 % of the earlier half exceeds.
        half = len(of.judge) // 2
        shares = [float((s[half:] > np.quantile(s[:half], 0.99)).mean()) for s in scores]
        return np.array(shares)
    return np.array([figures(of.labels, s)[:2] for s in scores])


def told_table(of, args, pool):
    """A row of the results."""
    jobs = [pool.submit(table_run, of, seed, args.binaries, TARGET) for seed in range(args.seeds)]
    runs = np.array([job.result() for job in jobs])
    row = [of.name, len(of.learn), len(of.judge)]
    if of.labels is None:
        return row + [spread(runs[:, at]) for at in range(3)]
    row.append(int(of.labels.sum()))
    return row + [spread(runs[:, at, what]) for what in range(2) for at in range(3)]


# Traces


def unseen_share(learn, judge, length=6):
    """The plain share of n-grams that no learned trace has (Forrest 1996), of what stands in it."""

    def grams(calls):
        return [tuple(calls[at : at + length]) for at in range(max(1, len(calls) - length + 1))]

    known = {gram for calls in learn for gram in grams(calls)}
    return np.array([np.mean([gram not in known for gram in grams(calls)]) for calls in judge])


def shares_of_calls(learn, judge):
    """How often each call that was learned is made, as shares of a trace."""
    at = {call: place for place, call in enumerate(sorted({call for calls in learn for call in calls}))}
    both = []
    for part in (learn, judge):
        rows = np.zeros((len(part), len(at) + 1))
        for row, calls in zip(rows, part):
            for call in calls:
                row[at.get(call, -1)] += 1
            row /= len(calls)
        both.append(rows)
    return both


def trace_run(directory, binaries, seed, mapping, calls=CALLS):
    """Our scores of the judged traces of a directory, in their order."""
    map_options = ["--map", mapping] if mapping else []
    parts = ["--learn", directory / "learn", "--judge", directory / "judge"]
    out = run(binaries / "traces", *parts, *map_options, "--calls", calls, "--seed", seed)
    return pl.read_csv(out.encode()).sort("trace")


def forest_run(learn, judge, seed):
    return -IsolationForest(n_estimators=100, random_state=seed).fit(learn).score_samples(judge)


def units(of):
    """What is judged as a whole: a trace, or a run of several."""
    names = [name.split("/")[0] if of.name == "LeoPer02" else name for name, _, _ in of.judge]
    order = {name: at for at, name in enumerate(dict.fromkeys(names))}
    place = np.array([order[name] for name in names])
    classes = np.array([""] * len(order), dtype=object)
    for at, (_, _, kind) in zip(place, of.judge):
        classes[at] = kind
    return place, classes


def highest(scores, place, count):
    """The highest score of each unit."""
    whole = np.full(count, -np.inf)
    np.maximum.at(whole, place, scores)
    return whole


def traces(of, args, pool, where):
    """Scores of each method by unit: an array of one row a seed."""
    learn, judge = ([calls for _, calls, _ in part] for part in (of.learn, of.judge))
    place, classes = units(of)
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        directory = pathlib.Path(scratch)
        of.write(directory)
        ours = [pool.submit(trace_run, directory, args.binaries, seed, of.map) for seed in range(args.seeds)]
        rows = shares_of_calls(learn, judge)
        theirs = [pool.submit(forest_run, *rows, seed) for seed in range(args.seeds)]
        try:
            ours = [job.result() for job in ours]
        except SystemExit as why:
            sys.exit(of.named(str(why)))
    unit = lambda scores: highest(np.asarray(scores), place, len(classes))
    scores = {
        "scikit-learn's forest on shares of calls": [unit(job.result()) for job in theirs],
        "forest": [unit(table["forest"]) for table in ours],
        "**measure**": [unit(table["measure"]) for table in ours],
        "unseen 6-grams, as shipped (60 % learned)": [unit((table["unseen6"] / table["checked"]).fill_nan(0)) for table in ours],
        "unseen 6-grams, plain (all learned)": [unit(unseen_share(learn, judge))],
    }
    return scores, classes, repeated(of, place, len(classes))


def repeated(of, place, count):
    """Which judged units are only what was learned, call for call."""
    learned = {tuple(calls) for _, calls, _ in of.learn}
    same = np.array([tuple(calls) in learned for _, calls, _ in of.judge])
    whole = np.ones(count, bool)
    np.logical_and.at(whole, place, same)
    return whole


def told_traces(of, scores, classes, same):
    """Markdown of a set of traces."""
    labels = (classes != "").astype(int)
    kinds = sorted(set(classes) - {""})
    head = ["", "AUROC", "AP", *(f"recall at {100 * rate:g} % false" for rate in RATES), "AUROC without repeated"]
    rows, by_class, by_recall = [], [], []
    kept = ~(same & (labels == 0))
    for name, runs in scores.items():
        all_figures = np.array([figures(labels, run) for run in runs])
        without = [roc_auc_score(labels[kept], run[kept]) for run in runs]
        rows.append([name, *(spread(all_figures[:, at]) for at in range(5)), spread(without)])
        own = [[(labels == 0) | (classes == kind) for kind in kinds]][0]
        by_class.append([name, *(spread([roc_auc_score(labels[o], run[o]) for run in runs], 3) for o in own)])
        by_recall.append([name, *(spread([recall(labels[o], run[o], 0.05) for run in runs], 3) for o in own)])
    counts = {kind: int((classes == kind).sum()) for kind in kinds}
    heads = ["", *(f"{kind} ({counts[kind]})" for kind in kinds)]
    return [
        f"## {of.name}\n",
        f"{of.protocol.capitalize()}. Learned from {len(of.learn)} traces; judged: "
        f"{int((labels == 0).sum())} normal, {int(labels.sum())} attacks; {int((same & (labels == 0)).sum())} of the "
        "normal ones equal what was learned, call for call.\n",
        markdown(head, rows),
        "AUROC by class of attack:\n",
        markdown(heads, by_class),
        "Recall at 5 % false by class:\n",
        markdown(heads, by_recall),
    ]


# Telling


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()


def header(args):
    commit = git("log", "-1", "--format=%h", "--", ".", ":!datasets/RESULTS.md")
    changed = git("status", "--porcelain", "--", ".", ":!datasets/RESULTS.md")
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()
    versions = {
        "Python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "polars": pl.__version__,
        "rustc": rust[1] if len(rust) > 1 else "?",
    }
    return [
        "# Results\n",
        "Written by `make eval`; [README.md](README.md) says what is compared and how it was chosen. "
        f"Mean and standard deviation over seeds 0 to {args.seeds - 1}.\n",
        f"Commit {commit}{' with changes' if changed else ''}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n",
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "RESULTS.md")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if not args.data.is_dir():
        sys.exit(f"eval: {args.data} is no directory: name that of the sets by DATA=")
    found, missing = [], []
    for load in loaders.ALL:
        try:
            found += list(load(args.data))
        except loaders.Missing as why:
            missing.append(f"{load.__name__}: {why}")
    wanted = [of for of in found if not args.names or any(name in of.name for name in args.names)]
    for of in wanted:
        print(of.about(), flush=True)
    for why in missing:
        print(f"left out, {why}", flush=True)
    if not wanted:
        sys.exit(f"eval: no set in {args.data}")
    TARGET.mkdir(parents=True, exist_ok=True)
    results = Results(header(args), wanted, [why.replace(str(args.data), "DATA") for why in missing])
    # The larger ones last: what comes first is told first.
    size = lambda of: len(of.judge) if isinstance(of, loaders.Table) else 0
    with environment.workers() as pool:
        for of in sorted((of for of in wanted if hasattr(of, "judge")), key=size):
            results.add(of, args, pool)
            if not args.names:
                # What is done stays, whatever becomes of the rest.
                args.out.write_text(results.text())
    if args.names:
        print(results.text())


def key(of, args):
    """Changes with all that a set's figures come from."""
    binary = args.binaries / ("traces" if isinstance(of, loaders.Traces) else "measure")
    parts = [binary, HERE / "eval.py", HERE / "loaders.py", environment.REQUIREMENTS, *sorted(loaders.MAPS.iterdir())]
    whole = hashlib.sha256(f"{of.name} {of.digest()} {args.seeds}".encode())
    for path in parts:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:32]


class Results:
    """What RESULTS.md says."""

    def __init__(self, head, sets, missing):
        self.head, self.sets, self.missing = head, sets, missing
        self.traces, self.labelled, self.unlabelled, self.times = [], {}, [], []

    def add(self, of, args, pool):
        """What came of a set; an earlier run's where nothing has changed since."""
        kept = TARGET / "done" / f"{key(of, args)}.json"
        if kept.exists():
            told, seconds = json.loads(kept.read_text())
        else:
            began = time.time()
            if isinstance(of, loaders.Traces):
                told = told_traces(of, *traces(of, args, pool, TARGET))
            else:
                told = told_table(of, args, pool)
            seconds = time.time() - began
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps([told, seconds]))
        self.times.append((of.name, seconds))
        if isinstance(of, loaders.Traces):
            self.traces += told
            print("\n".join(told), flush=True)
            return
        if of.labels is None:
            self.unlabelled.append(told)
        else:
            self.labelled[of.name] = told
        print(*told, flush=True)

    def text(self):
        methods = ["scikit-learn's forest", "forest", "**measure**"]
        text = [*self.head, *self.traces]
        # In the order in which they are read.
        rows = [self.labelled[of.name] for of in self.sets if of.name in self.labelled]
        if rows:
            bench = [row for row in rows if row[0].startswith("ADBench")]
            mean = lambda at: f"{np.mean([float(row[at].split()[0]) for row in bench]):.4f}"
            if bench:
                rows.append([f"mean of {len(bench)} of ADBench", "", "", "", *(mean(at) for at in range(4, 10))])
            figures_of = [f"{what}, {method}" for what in ("AUROC", "AP") for method in methods]
            text += ["## Tables\n", markdown(["", "learned", "judged", "anomalies", *figures_of], rows)]
        if self.unlabelled:
            text += [
                "## Unlabelled tables\n",
                "Share of the later rows above what 1 % of the earlier ones exceed: 0.01 is asked.\n",
                markdown(["", "learned", "judged", *methods], self.unlabelled),
            ]
        about = [
            [of.name + ("" if of.tried else " (untried)"), of.digest()[:16], of.licence, of.citation]
            for of in self.sets
        ]
        text += ["## Sets\n", markdown(["", "SHA-256 of its files, begin", "licence", "cite"], about)]
        if self.missing:
            text.append("Left out: " + "; ".join(self.missing) + ".\n")
        left = len([of for of in self.sets if hasattr(of, "judge")]) - len(self.times)
        if left > 0:
            text.append(f"Not judged, since the run was ended before: {left} sets.\n")
        times = [[name, f"{seconds:.0f}"] for name, seconds in self.times]
        return "\n".join([*text, "## Times\n", markdown(["", "s"], times)])


if __name__ == "__main__":
    main()
