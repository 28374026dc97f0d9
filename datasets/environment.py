# SPDX-License-Identifier: Apache-2.0
"""The Python packages that these scripts need, in an environment of their own below target/."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")) / "eval"
REQUIREMENTS = HERE / "requirements.txt"


def enter(script):
    """Runs a script again inside the environment, which is made when its pins change."""
    python = TARGET / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == (TARGET / "venv").resolve():
        return
    stamp = TARGET / "installed.txt"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        print("eval: installing what requirements.txt names", file=sys.stderr, flush=True)
        venv.create(TARGET / "venv", with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "-r", REQUIREMENTS], check=True)
        stamp.write_text(REQUIREMENTS.read_text())
    # Workers are processes: one thread each.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
    os.environ.update(environment, PYTHONDONTWRITEBYTECODE="1")
    os.execv(python, [python, script, *sys.argv[1:]])


def workers():
    """Processes of their own: a fork of one with threads can stand still."""
    return concurrent.futures.ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))
