"""The forest as scikit-learn's, and what it copies."""

import pickle
import tracemalloc

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import sklearn.ensemble
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from hedgerow import IsolationForest
from hedgerow.forest import BLOCK_BYTES, bytes_copied

COLUMNS = 8


@parametrize_with_checks([IsolationForest(n_estimators=20)])
def test_is_an_estimator(estimator, check):
    check(estimator)


def rows(n=4000, seed=1):
    """Two clusters."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 2, (n, 1)) * 6 + rng.normal(size=(n, COLUMNS))).astype(np.float32)


def forest(of=None, **how):
    return IsolationForest(random_state=3, **how).fit(rows() if of is None else of)


def frame(values, kind=None):
    columns = {f"c{at}": values[:, at] for at in range(COLUMNS)}
    return kind(columns) if kind else pl.DataFrame(columns)


def copied(run):
    before = bytes_copied()
    return run(), bytes_copied() - before


def test_floats_are_read_where_they_lie():
    values = rows()
    wanted = forest(values).score_samples(values)
    wide = np.zeros((len(values), 2 * COLUMNS), dtype=np.float32)
    wide[:, ::2] = values
    for same in (values, values.astype(np.float64), np.asfortranarray(values), wide[:, ::2]):
        fitted, bytes_fit = copied(lambda: forest(same))
        scores, bytes_scored = copied(lambda: fitted.score_samples(same))
        assert (bytes_fit, bytes_scored) == (0, 0)
        assert (scores == wanted).all()


def test_the_rest_is_gathered_once_and_in_blocks():
    whole = np.rint(100 * rows()).astype(np.float32)
    fitted = forest(whole)
    wanted = fitted.score_samples(whole)
    with_names = forest(frame(whole))
    for same, by in (
        (whole.astype(np.int32), fitted),
        (whole[::-1][::-1], fitted),
        (whole[::-1].copy()[::-1], fitted),
        (frame(whole), with_names),
        (frame(whole.astype(np.int64), pa.table), with_names),
    ):
        scores, moved = copied(lambda: by.score_samples(same))
        # What goes backward must be turned around.
        assert moved in (0, whole.nbytes) and (moved or same.dtype == np.float32)
        assert (scores == wanted).all()
    assert copied(lambda: forest(frame(whole)))[1] == whole.nbytes


def test_scoring_takes_no_more_memory_for_more_rows():
    fitted = forest()
    many = np.ones((400_000, COLUMNS), dtype=np.int16)
    tracemalloc.start()
    try:
        fitted._scores(many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The scores themselves, and a block with what NumPy needs to cast it.
    assert peak < 8 * len(many) + 2 * BLOCK_BYTES < 4 * many.size


def test_a_pickle_scores_alike():
    fitted = forest(contamination=0.05)
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.decision_function(rows(seed=2)) == fitted.decision_function(rows(seed=2))).all()
    assert again.get_params() == fitted.get_params()


def test_threads_and_the_same_seed_change_nothing():
    scores = forest().score_samples(rows())
    assert (forest(n_jobs=2).score_samples(rows()) == scores).all()
    assert (IsolationForest(random_state=4).fit(rows()).score_samples(rows()) != scores).any()


def test_it_finds_what_scikit_learn_finds():
    train, normal = rows(), rows(2000, seed=2)
    odd = normal[:400] + np.random.default_rng(5).normal(0, 3, (400, COLUMNS)).astype(np.float32)
    test, label = np.vstack([normal, odd]), np.r_[np.zeros(2000), np.ones(400)]

    def found(make):
        scores = [make(seed).fit(train).score_samples(test) for seed in range(5)]
        return np.mean([roc_auc_score(label, -score) for score in scores])

    ours = found(lambda seed: IsolationForest(random_state=seed))
    theirs = found(lambda seed: sklearn.ensemble.IsolationForest(random_state=seed))
    assert ours > 0.8 and abs(ours - theirs) < 0.02, (ours, theirs)


def test_missing_values_are_scored_and_null_is_nan():
    values = rows()
    values[::7, 2] = np.nan
    fitted = forest(frame(values))
    scores = fitted.score_samples(frame(values))
    assert np.isfinite(scores).all()
    nulls = frame(values).with_columns(pl.col("c2").fill_nan(None))
    assert (fitted.score_samples(nulls) == scores).all()


def test_shapley_values_add_up_and_name_the_column():
    fitted, odd = forest(), rows(50, seed=2)
    odd[:, 3] += 40
    values, baseline = fitted.shap_values(odd)
    lengths = values.sum(axis=1) + baseline
    # Liu's score, from the mean path length.
    psi = fitted.max_samples_
    usual = 2 * (np.log(psi - 1) + np.euler_gamma) - 2 * (psi - 1) / psi
    assert np.allclose(2 ** (-lengths / usual), -fitted.score_samples(odd), atol=1e-4)
    assert (values.argmin(axis=1) == 3).mean() > 0.9


def test_frames_that_do_not_fit_are_refused_by_name():
    fitted = forest(frame(rows()))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame(rows()).rename({"c1": "other"}))
    with pytest.raises(ValueError, match="c1 is"):
        fitted.predict(frame(rows()).with_columns(c1=pl.lit("text")))
