"""A made-up life in captures, judged by the command line, which the wheel is held against."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest


def hedgerow(*arguments):
    command = [os.environ["HEDGEROW"], *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def life(tmp_path_factory):
    """Captures `past` and `today`, and what the command line made of them."""
    home = tmp_path_factory.mktemp("life")
    subprocess.run([os.environ["HEDGEROW_LIFE"], home], check=True)
    found = SimpleNamespace(home=home, past=home / "past", today=home / "today")
    found.model, found.out, found.windows = home / "model", home / "scores", home / "windows"
    hedgerow("train", found.past, "--model", found.model)
    hedgerow("score", found.today, "--model", found.model, "--out", found.out, "--windows", found.windows)
    lines = (found.out / "findings.jsonl").read_text().splitlines()
    found.findings = [json.loads(line) for line in lines]
    assert found.findings, "the intruder is found"
    return found
