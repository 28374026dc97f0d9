"""The offline verbs of the command line, on captures by name."""

import json
import os
import pwd

from hedgerow import _hedgerow


def _list(value):
    if value is None:
        return []
    return [os.fspath(value)] if isinstance(value, (str, os.PathLike)) else [os.fspath(v) for v in value]


def _path(value):
    return None if value is None else os.fspath(value)


def _captures(captures, *, host=None, from_time=None, to_time=None, tz="UTC", workload=None, program=None, where=None):
    """What every verb takes: captures, partitions, files and patterns of these; of which hosts,
    epochs (RFC 3339, without a zone in `tz`), workloads and programs, by name or pattern, or by
    `where`, a condition in SQL on `host`, `workload` and `program`."""
    return {
        "captures": _list(captures),
        "host": _list(host),
        "from_time": from_time,
        "to_time": to_time,
        "tz": tz,
        "workload": _list(workload),
        "program": _list(program),
        "condition": where,
    }


def train(
    captures,
    model,
    *,
    seed=None,
    key_file=None,
    recompute=False,
    windows=None,
    report=None,
    part=False,
    **which,
):
    """Learns a model from captures, as `hedgerow train`; gives what it says as JSON. With `part` what is
    written is no model yet, and `merge` makes one of it, with others."""
    asked = _captures(captures, **which)
    told = _hedgerow.train(
        asked, _path(model), seed, _path(key_file), recompute, _path(windows), _path(report), part
    )
    return json.loads(told)


def merge(models, out):
    """Makes one model of many, as `hedgerow model merge`: what training on all their captures gives."""
    return json.loads(_hedgerow.merge([_path(model) for model in models], _path(out)))


def export_forest(model, out, *, scale="5s"):
    """Writes a model's forest of windows of one length as ONNX, as `hedgerow model export`."""
    return json.loads(_hedgerow.export_forest(_path(model), _path(out), scale))


def import_forest(forest, model, out, *, scale="5s", hold_back=(), recompute=False):
    """Makes a model of another one and of a forest that was fitted elsewhere (ONNX), as `hedgerow model
    import`; the forest is held against windows of the captures `hold_back`."""
    asked = (_path(forest), _path(model), _path(out), scale, _list(hold_back), recompute)
    return json.loads(_hedgerow.import_forest(*asked))


def share(capture, out, *, owner, pseudonymise=None):
    """Writes a capture anew without arguments, for a user (name or number) alone, as `hedgerow capture share`;
    with a file of a secret also without names."""
    try:
        user = pwd.getpwuid(int(owner)) if str(owner).isdecimal() else pwd.getpwnam(owner)
    except (KeyError, OverflowError):
        raise _hedgerow.Error(f"--owner: this host has no user `{owner}`") from None
    asked = (_path(capture), _path(out), user.pw_uid, user.pw_gid, _path(pseudonymise))
    return json.loads(_hedgerow.share(*asked))


def score(captures, model, *, out=None, recompute=False, windows=None, **which):
    """Scores captures, as `hedgerow score`; without a directory for them the findings are returned."""
    asked = _captures(captures, **which)
    return json.loads(_hedgerow.score(asked, _path(model), _path(out), recompute, _path(windows)))


def evaluate(captures, model, labels, *, budget=None, recompute=False, csv=None, html=None, **which):
    """Evaluates a model by labels, as `hedgerow eval`."""
    asked = _captures(captures, **which)
    told = _hedgerow.evaluate(
        asked, _path(model), _path(labels), budget, recompute, _path(csv), _path(html)
    )
    return json.loads(told)


def backtest(
    captures,
    model,
    *,
    policy=None,
    allow=(),
    budget=None,
    labels=None,
    against_model=None,
    against_policy=None,
    **which,
):
    """Shows what a model and a policy would have done, as `hedgerow backtest`."""
    asked = _captures(captures, **which)
    told = _hedgerow.backtest(
        asked,
        _path(model),
        _path(policy),
        list(allow),
        budget,
        _path(labels),
        _path(against_model),
        _path(against_policy),
    )
    return json.loads(told)
