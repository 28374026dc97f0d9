# SPDX-License-Identifier: Apache-2.0
"""Chooses how ADFA-LD's traces are cut, by anomalies made from its training part alone.

    python3 datasets/choose.py --data DIR --binaries DIR [--seeds N]

Training traces are clustered by their shares of calls, in eight coarse clusters and in sixty fine ones.
In turn each coarse cluster of 30 to 250 traces is taken out: it is what an attacker would bring. Of the
others a tenth of the fine clusters (new but benign) and a fifth of the rest are judged as normal, and
what is left is learned from. Anomalies are made in three ways:

- whole: the traces that were taken out;
- spliced: normal ones of which a part (20 to 50 %) is replaced by a part of one that was taken out;
- patched: normal ones, 30 % of which are pieces of six to thirteen calls of other normal ones.

Prints the mean AUROC of each way, and of all, for each length of windows and what is told of a trace:
its most unusual window, or the mean of all.
"""

import argparse
import pathlib
import tempfile

import environment

environment.enter(__file__)

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

import eval as evaluation
import loaders

LENGTHS = [100, 400, 1_000_000]
WAYS = ["whole", "spliced", "patched"]


def spliced(normal, other, rng):
    length = min(len(other), max(20, int(len(normal) * rng.uniform(0.2, 0.5))))
    of, at = rng.integers(0, len(other) - length + 1), rng.integers(0, max(1, len(normal) - length + 1))
    return normal[:at] + other[of : of + length] + normal[at + length :]


def patched(normal, others, rng):
    calls = list(normal)
    for _ in range(max(1, int(len(calls) * 0.3 / 10))):
        other, length = others[rng.integers(len(others))], int(rng.integers(6, 14))
        of, at = rng.integers(0, max(1, len(other) - length + 1)), rng.integers(0, len(calls))
        calls[at : at + length] = other[of : of + length]
    return calls


def trials(calls, seed):
    """(learned, normal, anomalies by way) for each cluster that is taken out."""
    rows = np.sqrt(evaluation.shares_of_calls(calls, calls)[0])
    coarse = KMeans(8, n_init=2, random_state=seed).fit_predict(rows)
    fine = KMeans(60, n_init=1, random_state=seed).fit_predict(rows)
    for cluster in range(8):
        out = np.flatnonzero(coarse == cluster)
        if not 30 <= len(out) <= 250:
            continue
        rng = np.random.default_rng([seed, cluster])
        rest = np.flatnonzero(coarse != cluster)
        kinds = rng.permutation(np.unique(fine[rest]))
        new = np.isin(fine[rest], kinds[: len(kinds) // 10])
        known = rng.permutation(rest[~new])
        part = len(known) // 5
        normal = [calls[at] for at in [*known[:part], *rest[new]]]
        pick = lambda: normal[rng.integers(len(normal))]
        anomalies = {
            "whole": [calls[at] for at in out],
            "spliced": [spliced(pick(), calls[at], rng) for at in out],
            "patched": [patched(pick(), normal, rng) for _ in range(100)],
        }
        yield [calls[at] for at in known[part:]], normal, anomalies


def judged(trial, length, seed, binaries, mapping):
    """AUROC by (what is told, way)."""
    learned, normal, anomalies = trial
    parts = {"normal": normal, **anomalies}
    judge = [("", calls, way) for way, traces in parts.items() for calls in traces]
    ways = np.array([way for _, _, way in judge])
    of = loaders.Traces("", "", "", "", [], learn=[("", calls, "") for calls in learned], judge=judge)
    with tempfile.TemporaryDirectory(dir=evaluation.TARGET) as scratch:
        of.write(pathlib.Path(scratch))
        table = evaluation.trace_run(pathlib.Path(scratch), binaries, seed, mapping, length)
    table = table.with_columns(unseen=table["unseen6"] / table["checked"])
    result = {}
    for told in ["forest", "measure", "mean", "unseen"]:
        scores = table[told].to_numpy()
        for way in WAYS:
            own = (ways == "normal") | (ways == way)
            result[told, way] = roc_auc_score(ways[own] == way, scores[own])
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    of = next(loaders.adfa_ld(args.data))
    calls = [calls for _, calls, _ in of.learn]
    made = [(trial, seed) for seed in range(args.seeds) for trial in trials(calls, seed)]
    print(f"{len(made)} trials\n| calls of a window | told | " + " | ".join(WAYS) + " | mean |")
    print("|---" * (3 + len(WAYS)) + "|")
    with environment.workers() as pool:
        for length in LENGTHS:
            jobs = [pool.submit(judged, t, length, s, args.binaries, of.map) for t, s in made]
            runs = [job.result() for job in jobs]
            for told in dict.fromkeys(told for told, _ in runs[0]):
                means = [np.mean([run[told, way] for run in runs]) for way in WAYS]
                name = length if length < 1_000_000 else "all"
                cells = " | ".join(f"{mean:.3f}" for mean in [*means, np.mean(means)])
                print(f"| {name} | {told} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
