"""Captures, models and verbs, against the command line."""

import json
import os
import pickle
import shutil

import polars as pl
import pytest
from conftest import hedgerow as command
from pyarrow import parquet

import hedgerow
from hedgerow import cli

KEYS = ["host", "workload", "program", "script", "scale_epochs", "epoch", "early"]


def windows(life):
    return pl.DataFrame(hedgerow.read_capture(life.windows))


def judged(life, of=None):
    model = hedgerow.Model.load(life.model)
    return pl.from_arrow(model.score(windows(life) if of is None else of))


def scores(life):
    return pl.DataFrame(hedgerow.read_capture(life.out, "scores"))


def test_a_frozen_model_gives_the_scores_of_the_command_line(life):
    told = scores(life)
    both = told.join(judged(life), on=KEYS, how="left", nulls_equal=True, suffix="_frozen")
    assert len(both) == len(told) > 300
    # Nothing was looked at early in a life that was made up. Bits, not digits.
    assert (both["score"] == both["score_frozen"]).all()
    assert (both["window_end"] == both["window_end_frozen"]).all()
    # Each run is judged from the model file on: of its first windows nothing was held back yet.
    first = both.filter(pl.col("epoch") == pl.col("epoch").min().over("host")).group_by("host", maintain_order=True).first()
    assert len(first) == 2 and (first["surprise_nats"] == first["surprise_nats_frozen"]).all()
    assert (both["p"] == (-both["surprise_nats_frozen"]).exp()).all()


def test_neither_order_nor_company_matters(life):
    whole = judged(life)
    place = pl.Series("place", range(len(whole)))
    shuffled = windows(life).with_columns(place).sample(fraction=1, shuffle=True, seed=3)
    parts = [judged(life, part.drop("place")) for part in shuffled.iter_slices(37)]
    again = pl.concat(parts).with_columns(shuffled["place"]).sort("place").drop("place")
    assert again.equals(whole)
    model = pickle.loads(pickle.dumps(hedgerow.Model.load(life.model)))
    assert pl.from_arrow(model.score(windows(life))).equals(whole)
    batches = [model.score(batch) for batch in hedgerow.read_capture(life.windows)]
    assert pl.from_arrow(batches).equals(whole)


def test_what_is_no_window_is_named(life):
    with pytest.raises(hedgerow.Error, match="workload"):
        judged(life, windows(life).drop("workload"))
    with pytest.raises(hedgerow.Error, match="no-model"):
        hedgerow.Model.load(life.home / "no-model")


def test_streams_are_read_whole_or_by_column(life):
    reader = hedgerow.read_capture(life.past, "records", columns=["kind", "epoch"])
    assert reader.schema.names == ["kind", "epoch"]
    rows = sum(batch.num_rows for batch in reader)
    assert rows == pl.scan_parquet(life.past / "records/**/*.parquet").select(pl.len()).collect().item()
    with pytest.raises(KeyError, match="kinds"):
        hedgerow.read_capture(life.past, "records", columns=["kinds"])
    with pytest.raises(hedgerow.Error, match="nowhere"):
        hedgerow.read_capture(life.home / "nowhere")
    # Never another stream's rows.
    with pytest.raises(hedgerow.Error, match="no stream `early` in .*; there are records"):
        hedgerow.read_capture(life.past, "early")
    with pytest.raises(hedgerow.Error, match="no stream `windows`"):
        hedgerow.read_capture(life.past / "records")


def test_a_damaged_file_is_warned_of(life, tmp_path):
    capture = tmp_path / "capture"
    shutil.copytree(life.past, capture)
    broken = sorted(capture.rglob("*.parquet"))[1]
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=broken.name):
        for _ in hedgerow.read_capture(capture, "records"):
            pass


def test_verbs_are_those_of_the_command_line(life, tmp_path):
    model = tmp_path / "model"
    told = hedgerow.train(life.past, model, report=tmp_path / "report.html")
    assert told["runs"] == 2 and told["hosts"] == ["a", "b"] and not told["holes"]["damaged"]
    assert "Training report" in (tmp_path / "report.html").read_text()
    assert judged(life).equals(pl.from_arrow(hedgerow.Model(model).score(windows(life))))
    out = tmp_path / "scores"
    told = hedgerow.score(life.today, life.model, out=out)
    assert told["reports"] == len(life.findings) and told["windows"] == len(scores(life))
    assert (out / "findings.jsonl").read_text() == (life.out / "findings.jsonl").read_text()
    assert pl.DataFrame(hedgerow.read_capture(out, "scores")).equals(scores(life))
    assert hedgerow.score([life.today], life.model)["findings"] == life.findings
    assert {f["host_id"] for f in hedgerow.score(life.today, life.model, host="b")["findings"]} <= {"b"}
    of_b = [hedgerow.score(life.today, life.model, **which) for which in ({"host": "b"}, {"where": "host = 'b'"})]
    assert of_b[0] == of_b[1]
    with pytest.raises(hedgerow.Error, match="where"):
        hedgerow.score(life.today, life.model, where="size > 3")
    with pytest.raises(hedgerow.Error, match="already"):
        hedgerow.score(life.today, life.model, out=out)
    with pytest.raises(hedgerow.Error, match="--workload"):
        hedgerow.score(life.today, life.model, workload="wbe*")
    with pytest.raises(hedgerow.Error, match="--report"):
        hedgerow.train(life.past, model, report=tmp_path / "report.json")
    with pytest.raises(hedgerow.Error, match="there are a, b"):
        hedgerow.score(life.today, life.model, host="c")


def test_evaluation_and_back_test_are_those_of_the_command_line(life, tmp_path, capsys):
    span = windows(life).filter(pl.col("program") == "/tmp/.intruder/sh").select("start", "end").row(0)
    labels = tmp_path / "labels.csv"
    labels.write_text(f"start,end,host\n{span[0].isoformat()},{span[1].isoformat()},a\n")
    for verb in (["eval", "--labels", labels], ["backtest", "--labels", labels]):
        arguments = [verb[0], life.today, "--model", life.model, *verb[1:]]
        assert cli.main([str(argument) for argument in arguments]) == 0
        ours = json.loads(capsys.readouterr().out)
        assert ours == json.loads(command(*arguments, "--json"))
    assert cli.main(["score", str(life.home / "none\x1b[2J")]) == 1
    said = capsys.readouterr().err
    assert "none\\x1b" in said and "\x1b" not in said
    with pytest.raises(SystemExit):
        cli.main(["train", str(life.past), "--seed", "-1"])
    for budget in (0, -1, float("nan")):
        with pytest.raises(hedgerow.Error, match="--budget"):
            hedgerow.evaluate(life.today, life.model, labels, budget=budget)


def test_a_capture_is_shared_as_by_the_command_line(life, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    key.chmod(0o600)
    told, ours = [], tmp_path / "ours"
    for verb in (["share", life.past, ours], ["capture", "share", life.past, tmp_path / "theirs"]):
        asked = [*map(str, verb), "--owner", str(os.getuid()), "--pseudonymise", str(key)]
        if verb[0] == "share":
            assert cli.main(asked) == 0
            told.append(json.loads(capsys.readouterr().out))
        else:
            told.append(json.loads(command(*asked, "--json")))
    assert told[0] == told[1] and told[0]["shared"]["pseudonymised"]
    one, other = (pl.DataFrame(hedgerow.read_capture(tmp_path / name, "records")) for name in ("ours", "theirs"))
    assert one.equals(other) and "/usr/bin/web" not in set(one["program"])
    assert {path.stat().st_mode & 0o777 for path in ours.rglob("*.parquet")} == {0o600}
    with pytest.raises(hedgerow.Error, match="no user `nobody-at-all`"):
        hedgerow.share(life.past, tmp_path / "other", owner="nobody-at-all")


def test_models_of_each_host_merged_are_the_model_of_all(life, tmp_path):
    records = sorted((life.home / "past").rglob("records/host=*"))
    parts = [tmp_path / name for name in ("one", "two")]
    for at, part in zip(records, parts, strict=True):
        assert hedgerow.train(at, part, part=True)["runs"] == 1
    with pytest.raises(hedgerow.Error, match="model merge"):
        hedgerow.Model.load(parts[0])
    assert hedgerow.merge(parts, tmp_path / "merged")["hosts"] == ["a", "b"]
    hedgerow.train(life.home / "past", tmp_path / "pooled")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "pooled").read_bytes()
    with pytest.raises(hedgerow.Error, match="count twice"):
        hedgerow.merge([parts[0], parts[0]], tmp_path / "twice")


def test_files_of_other_writers_are_read_and_ones_that_nest_deep_are_told(life, tmp_path):
    own = windows(life)
    table = own.to_arrow(compat_level=pl.CompatLevel.oldest())
    own.write_parquet(tmp_path / "polars.parquet")
    own.to_pandas().to_parquet(tmp_path / "pandas.parquet")  # snappy
    version = {"data_page_version": "2.0", "use_dictionary": False, "row_group_size": 100}
    parquet.write_table(table, tmp_path / "arrow.parquet", compression="zstd", **version)
    for path in sorted(tmp_path.iterdir()):
        read = pl.DataFrame(hedgerow.read_capture(path))
        assert read.select(own.columns).to_dicts() == own.to_dicts(), path
    own.write_parquet(tmp_path / "gzip.parquet", compression="gzip")
    with pytest.warns(UserWarning, match=r"gzip\.parquet: row group 0: column .* is packed by GZIP"):
        assert list(hedgerow.read_capture(tmp_path / "gzip.parquet")) == []
    value = 1
    for _ in range(12):
        value = {"deeper": value}
    pl.DataFrame({"value": [value]}).write_parquet(tmp_path / "deep.parquet")
    with pytest.raises(hedgerow.Error, match=r"deep\.parquet: its columns are nested more than 8 deep"):
        hedgerow.read_capture(tmp_path / "deep.parquet")


def test_forests_go_out_and_come_in(life, tmp_path, capsys):
    onnx, back = tmp_path / "forest.onnx", tmp_path / "back"
    assert hedgerow.export_forest(life.model, onnx)["trees"] == 100
    asked = ["import", onnx, "--model", life.model, "--out", back, "--hold-back", life.past]
    assert cli.main([str(word) for word in asked]) == 0
    assert json.loads(capsys.readouterr().out)["measured_programs"] > 0
    again = hedgerow.Model.load(back).score(windows(life))
    assert pl.from_arrow(again)["score"].equals(judged(life)["score"])
    with pytest.raises(hedgerow.Error, match="nothing is written over"):
        hedgerow.import_forest(onnx, life.model, back)
    with pytest.raises(hedgerow.Error, match="neither 5s nor 1m"):
        hedgerow.export_forest(life.model, tmp_path / "other", scale="1h")
