# SPDX-License-Identifier: Apache-2.0
"""Labelled sets of others as tables and as directories of traces.

Each set is a `Table` (rows to learn from, rows to judge, labels) or a `Traces` (two directories, one
file a trace). A loader tells licence and citation, and raises `Missing` where its files aren't there.
What is known to be wrong with a set is said where it is loaded.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import zipfile

import numpy as np
import polars as pl

MAPS = pathlib.Path(__file__).resolve().parent / "maps"


class Missing(Exception):
    """A set's files are not there."""


@dataclasses.dataclass
class Set:
    name: str
    protocol: str
    licence: str
    citation: str
    files: list  # that its digest is of
    tried: bool = True

    def about(self):
        mark = "" if self.tried else " (UNTRIED: written by its description, never run on it)"
        return f"{self.name}{mark}\n  {self.protocol}\n  licence: {self.licence}\n  cite: {self.citation}"

    def digest(self):
        """SHA-256 of its files, by name."""
        whole = hashlib.sha256()
        for path in sorted(self.files):
            with open(path, "rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()


@dataclasses.dataclass
class Table(Set):
    learn: np.ndarray = None
    judge: np.ndarray = None
    # 1: anomaly; None where nobody labelled it
    labels: np.ndarray = None


@dataclasses.dataclass
class Traces(Set):
    """(name, calls, class) of each trace; calls are what stands in it, class is "" for a normal one."""

    learn: list = None
    judge: list = None
    map: pathlib.Path = None

    def write(self, where):
        """Both parts as directories of one file a trace."""
        for part in ["learn", "judge"]:
            for at, (_, calls, _) in enumerate(getattr(self, part)):
                file = where / part / f"{at // 1000:04}" / f"{at:07}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(" ".join(map(str, calls)) + "\n")

    def named(self, text):
        """A complaint about a file that `write` made, about the trace that it is of."""
        name = lambda found: getattr(self, found[1])[int(found[2])][0]
        return re.sub(r"\S*/(learn|judge)/\d{4}/(\d{7})(?:: line 1)?(?!\d)", name, text)


def there(path):
    if not path.exists():
        raise Missing(f"{path} is not there")
    return path


def dense(frame):
    """Numbers as they are, words by one column a value."""
    return frame.to_dummies([c for c, t in frame.schema.items() if t == pl.String]).to_numpy().astype(np.float64)


# Tables


def adbench(data):
    """Each set of ADBench as it is published: learned from and judged on all rows, unlabelled."""
    folder = there(data / "adbench")
    paths = sorted(folder.glob("*.parquet"), key=lambda path: int(path.stem.split("_")[0]))
    for path in paths:
        frame = pl.read_parquet(path)
        rows = frame.drop("label").to_numpy().astype(np.float64)
        yield Table(
            f"ADBench {path.stem}",
            "transductive: all rows are learned from, without labels, and judged",
            "not stated with the copy; each set has its own source",
            "Han, Hu, Huang, Jiang, Zhao: ADBench: Anomaly Detection Benchmark, NeurIPS 2022",
            [path],
            learn=rows,
            judge=rows,
            labels=frame["label"].to_numpy(),
        )


def nsl_kdd(data):
    """`difficulty` is no feature; the traffic was simulated in 1998."""
    folder = there(data / "nsl_kdd")
    paths = [there(folder / "train.parquet"), there(folder / "test.parquet")]
    parts = [pl.read_parquet(path) for path in paths]
    labels = [part["label"].to_numpy() for part in parts]
    drop = ["attack", "difficulty", "attack_class", "label"]
    both = pl.concat([part.drop(drop) for part in parts])
    numbers = [c for c, t in both.schema.items() if t != pl.String]
    both = dense(both.with_columns(pl.col(numbers).cast(pl.Float64).log1p()))
    train, test = both[: len(parts[0])], both[len(parts[0]) :]
    yield Table(
        "NSL-KDD",
        "normal rows of train are learned from, test is judged; counts as ln(1 + n), words one-hot",
        "none stated by the mirror; University of New Brunswick: with citation",
        "Tavallaee, Bagheri, Lu, Ghorbani: A Detailed Analysis of the KDD CUP 99 Data Set, CISDA 2009",
        paths,
        learn=train[labels[0] == 0],
        judge=test,
        labels=labels[1],
    )


def ctu13(data):
    """The mirror's own `target` calls normal flows attacks: `kind` is the label. It has no times."""
    path = there(data / "ctu13_sample" / "flows_10k.parquet")
    frame = pl.read_parquet(path)
    labels = (frame["kind"] == "botnet").to_numpy().astype(int)
    frame = frame.drop("Label", "target", "kind").with_columns(pl.col(pl.String).fill_null("-"))
    numbers = [c for c, t in frame.schema.items() if t != pl.String]
    # -1 is "none" in some columns.
    logs = (pl.col(numbers).cast(pl.Float64).fill_null(-1).clip(-1) + 1).log1p()
    rows = dense(frame.with_columns(logs))
    yield Table(
        "CTU-13 sample",
        "transductive: 10,000 flows without times or addresses, 141 of a botnet",
        "none stated by the mirror",
        "Garcia, Grill, Stiborek, Zunino: An empirical comparison of botnet detection methods, 2014",
        [path],
        learn=rows,
        judge=rows,
        labels=labels,
    )


def ebpfangel(data):
    """Rows that are not `usable` have labels that don't line up with them."""
    path = there(data / "ebpfangel" / "pid_features.parquet")
    frame = pl.read_parquet(path).filter("usable")
    # A count that one of the two parts has no column for is 0 there.
    features = [c for c in frame.columns if c not in ("split", "PID", "label", "usable")]
    rows = frame.select(pl.col(features).cast(pl.Float64).fill_null(0).log1p()).to_numpy()
    train, labels = (frame["split"] == "training").to_numpy(), frame["label"].to_numpy()
    yield Table(
        "ebpfangel processes",
        "benign processes of train are learned from, test is judged; counts as ln(1 + n)",
        "MIT",
        "ebpfangel, github.com/TomasPhilippart/ebpfangel at d5e7d3c",
        [path],
        learn=rows[train & (labels == 0)],
        judge=rows[~train],
        labels=labels[~train],
    )


def infrasight(data):
    """Nobody labelled it; `distinct_syscalls` and `total_syscalls` are 0 throughout."""
    path = there(data / "infrasight" / "sys_freq_events.parquet")
    frame = pl.read_parquet(path).sort("wall_time_ms", maintain_order=True)
    rows = vectors(frame["syscall_vector_json"])
    first = len(rows) // 3
    yield Table(
        "InfraSight containers",
        "the first third in time is learned from; a threshold that 1 % of the second third exceeds, and "
        "the share of the last third that exceeds it: false alarms, as far as nothing happened",
        "Apache-2.0",
        "InfraSight_ml, github.com/ALEYI17/InfraSight_ml at 2f84e58",
        [path],
        learn=rows[:first],
        judge=rows[first:],
    )


def vectors(texts):
    """ln(1 + count) by number, from a JSON object a row."""
    counts = [json.loads(text) for text in texts]
    numbers = sorted({int(number) for row in counts for number in row})
    at = {number: place for place, number in enumerate(numbers)}
    rows = np.zeros((len(counts), len(numbers)))
    for row, of in zip(rows, counts):
        for number, count in of.items():
            row[at[int(number)]] = np.log1p(int(count))
    return rows


# Traces


def adfa_ld(data):
    """Numbers are those of i386, 2011: the table of generic numbers that circulates with the set is
    another one. Attack traces hold much normal behaviour; 422 validation traces equal training ones."""
    folder = there(data / "adfa_ld")
    table, archives = folder / "traces.parquet", sorted(folder.glob("*.zip"))
    if table.exists():
        frame = pl.read_parquet(table)
        rows = zip(frame["file"], frame["syscalls"].to_list())
        files = [table]
    elif archives:
        rows, files = zipped(archives[0]), archives[:1]
    else:
        raise Missing(f"{folder} has neither traces.parquet nor a .zip")
    learn, judge = [], []
    for name, calls in sorted(rows):
        part = name.split("/")[0]
        if part == "Training_Data_Master":
            learn.append((name, calls, ""))
        elif part == "Validation_Data_Master":
            judge.append((name, calls, ""))
        elif part == "Attack_Data_Master":
            judge.append((name, calls, name.split("/")[1].rsplit("_", 1)[0]))
    yield Traces(
        "ADFA-LD",
        "training traces are learned from, validation (normal) and attack traces are judged",
        "none stated by the mirror; UNSW: academic use",
        "Creech, Hu: Generation of a new IDS test dataset, WCNC 2013",
        files,
        learn=learn,
        judge=judge,
        map=MAPS / "i386.csv",
    )


def zipped(path):
    """The traces of ADFA-LD as its authors publish it: texts of numbers."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removeprefix("ADFA-LD/")
            if entry.is_dir() or not name.endswith(".txt") or name.startswith("__MACOSX"):
                continue
            if name.split("/")[0] not in ("Training_Data_Master", "Validation_Data_Master", "Attack_Data_Master"):
                continue
            if entry.file_size > 64 << 20:
                raise ValueError(f"{path}: {entry.filename}: {entry.file_size >> 20} MiB is no trace")
            yield name, [int(call) for call in archive.read(entry).split()]


def leoper02(data):
    """A run's label is not a process's: most calls of an attack run are the desktop's. Runs are judged
    whole, by their most unusual process. FTP and SSH have one run each."""
    path = there(data / "leoper02" / "calls.parquet")
    frame = pl.read_parquet(path).with_columns(pl.col(pl.Categorical).cast(pl.String))
    # What the tracer had no name for.
    frame = frame.with_columns(pl.col("syscall").str.replace(r"^\[.*", "unknown"))
    lives = frame.group_by("label", "run", "pid", maintain_order=True).agg("syscall").sort("run", "pid")
    learn, judge = [], []
    for label, run, pid, calls in lives.iter_rows():
        normal = label == "NormalData"
        into = learn if normal and int(run[-2:]) % 2 == 0 else judge
        into.append((f"{run}/{pid}", calls, "" if normal else label))
    yield Traces(
        "LeoPer02",
        "processes of normal runs with even numbers are learned from; a run is judged by its most "
        "unusual process: normal runs with odd numbers against attack runs",
        "MIT",
        "IDS-Dataset, github.com/LeoPer02/IDS-Dataset at d0488be",
        [path],
        learn=learn,
        judge=judge,
        map=MAPS / "names.csv",
    )


def generic(data):
    """Directories `traces/NAME/` with `learn/`, `judge/normal/`, `judge/CLASS/` of one file a trace,
    and `map.csv` where tokens are neither native numbers nor native names. README.md says how BETH,
    LID-DS and DongTing come into this form."""
    for folder in sorted(there(data / "traces").iterdir()):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        learn, judge = [], []
        for path in files:
            part, *below = path.relative_to(folder).parts
            calls = [call for call in re.split(r"[\s,;|]+", path.read_text(errors="replace")) if call]
            if part in ("learn", "judge") and not calls:
                raise ValueError(f"{path}: no call in it")
            if part == "learn":
                learn.append((str(path), calls, ""))
            elif part == "judge" and len(below) > 1:
                judge.append((str(path), calls, "" if below[0] == "normal" else below[0]))
        own = folder / "map.csv"
        yield Traces(
            folder.name,
            "what is below learn/ is learned from, what is below judge/ is judged",
            text_of(folder / "LICENCE"),
            text_of(folder / "CITATION"),
            files,
            tried=False,
            learn=learn,
            judge=judge,
            map=own if own.exists() else None,
        )


def text_of(path):
    return path.read_text().strip().replace("\n", " ") if path.exists() else f"not stated ({path.name})"


def flows(data):
    """UNSW-NB15's training and testing set as published, by their names."""
    folder = there(data / "unsw_nb15")
    paths = [there(folder / f"UNSW_NB15_{part}-set.csv") for part in ("training", "testing")]
    parts = [pl.read_csv(path, infer_schema_length=None) for path in paths]
    labels = [part["label"].to_numpy() for part in parts]
    both = pl.concat([part.drop("id", "attack_cat", "label") for part in parts])
    numbers = [c for c, t in both.schema.items() if t != pl.String]
    both = dense(both.with_columns(pl.col(numbers).cast(pl.Float64).clip(0).log1p()))
    train, test = both[: len(parts[0])], both[len(parts[0]) :]
    yield Table(
        "UNSW-NB15",
        "normal rows of the training set are learned from, the testing set is judged",
        "not checked",
        "Moustafa, Slay: UNSW-NB15: a comprehensive data set for network intrusion detection, MilCIS 2015",
        paths,
        tried=False,
        learn=train[labels[0] == 0],
        judge=test,
        labels=labels[1],
    )


def tracee(data):
    """Labelled by file only, and most events of the attack's file are background: read, not judged."""
    path = there(data / "tracee_sample" / "events.parquet")
    frame = pl.read_parquet(path)
    there_are = frame.group_by("file").len().sort("file").rows()
    yield Set(
        "Tracee sample",
        "a test of the format: " + ", ".join(f"{file} {count}" for file, count in there_are),
        "none stated by the mirror",
        "hids-anormaly-detection, github.com/xiphy1-oss at d9d841f",
        [path],
    )


ALL = [adfa_ld, leoper02, generic, ebpfangel, infrasight, nsl_kdd, ctu13, flows, tracee, adbench]
