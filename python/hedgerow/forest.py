"""Hedgerow's isolation forest as a scikit-learn estimator."""

import os
from numbers import Integral, Real

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from hedgerow import _hedgerow

# Bytes of rows that are gathered at a time, at most.
BLOCK_BYTES = 1 << 20

_copied = 0


def bytes_copied():
    """Bytes of rows that were copied so far in this process, because they didn't lie as the forest
    reads them."""
    return _copied


def _in_place(rows):
    """Whether the forest reads an array where it lies: float32 and float64 of any order, as long as
    it goes forward."""
    return (
        rows.dtype in (np.float32, np.float64)
        and rows.dtype.isnative
        and rows.flags.aligned
        and all(stride >= 0 and stride % rows.itemsize == 0 for stride in rows.strides)
    )


def _fill(out, rows):
    """Copies rows of an array, or of a record batch, into float32."""
    global _copied
    if isinstance(rows, pa.RecordBatch):
        for column in range(rows.num_columns):
            # Null is NaN: missing.
            values = rows.column(column).cast(pa.float32(), safe=False)
            out[:, column] = values.to_numpy(zero_copy_only=False)
        if np.isinf(out).any():
            raise ValueError("Input X contains infinity or a value too large for dtype('float32').")
    else:
        out[:] = rows
    _copied += out.nbytes
    return out


class _Frame:
    """Rows of a frame of pyarrow or polars: columns of Arrow, not copied until they are gathered."""

    def __init__(self, frame):
        batch = isinstance(frame, pa.RecordBatch)
        self.table = pa.Table.from_batches([frame]) if batch else pa.table(frame)
        self.names = np.array(self.table.schema.names, dtype=object)
        kinds = self.table.schema.types
        for name, kind in zip(self.names, kinds):
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
                raise ValueError(f"column {name} is {kind}, not numeric")
        self.shape = (self.table.num_rows, len(self.names))
        if 0 in self.shape:
            raise ValueError(f"Found array with shape={self.shape} while a minimum of 1 is required.")

    def blocks(self, rows):
        return self.table.to_batches(max_chunksize=rows)


def _is_frame(rows):
    return isinstance(rows, (pa.Table, pa.RecordBatch)) or type(rows).__module__.startswith("polars.")


class IsolationForest(OutlierMixin, BaseEstimator):
    """Isolation forest (Liu, Ting and Zhou 2008), seeded, several times as fast as scikit-learn's.

    Takes what scikit-learn's takes, and frames of pyarrow and polars. float32 and float64 arrays are
    read where they lie; anything else is gathered in float32, for scoring in blocks of a megabyte. NaN and
    null are missing values: a tree that splits on one goes both ways, by the shares of its sample.

    Parameters are scikit-learn's: `n_estimators`, `max_samples` ("auto": 256, rows, or a share),
    `contamination`, `random_state`, `n_jobs` (threads; -1: all). The forest and its scores don't
    depend on `n_jobs`.
    """

    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, 1 << 16, closed="both")],
        "max_samples": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
        ],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        n_estimators=100,
        max_samples="auto",
        contamination="auto",
        random_state=None,
        n_jobs=None,
    ):
        self.n_estimators = n_estimators
        self.max_samples = max_samples
        self.contamination = contamination
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fits the forest on rows; `y` is ignored."""
        rows = self._checked(X, reset=True)
        samples = rows.shape[0]
        wanted = self.max_samples
        if wanted == "auto":
            wanted = 256
        elif isinstance(wanted, Real) and not isinstance(wanted, Integral):
            wanted = max(1, int(wanted * samples))
        self.max_samples_ = min(wanted, samples)
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        if isinstance(rows, _Frame) or not _in_place(rows):
            rows = self._whole(rows)
        self._forest = _hedgerow.Forest.fit(rows, self.n_estimators, self.max_samples_, self._threads(), seed)
        self.offset_ = -0.5
        if self.contamination != "auto":
            self.offset_ = float(np.percentile(-self._scores(rows), 100.0 * self.contamination))
        return self

    def score_samples(self, X):
        """The opposite of the anomaly score of each row: the lower, the more abnormal."""
        check_is_fitted(self)
        return -self._scores(self._checked(X, reset=False))

    def decision_function(self, X):
        """`score_samples` less `offset_`: below 0 is an outlier."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """-1 for outliers, 1 for inliers."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def shap_values(self, X):
        """Exact Shapley values of each row's mean path length, and what they are added to: a negative
        one made the row more anomalous."""
        check_is_fitted(self)
        rows = self._checked(X, reset=False)
        values, baseline, done = np.empty(rows.shape), 0.0, 0
        for block in self._parts(rows):
            out = values[done : done + len(block)]
            baseline = self._forest.shap(block, out)
            done += len(block)
        return values, baseline

    def _threads(self):
        jobs = 1 if self.n_jobs is None else self.n_jobs
        return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)

    def _checked(self, X, reset):
        """Rows that fit, as an array or a frame, uncopied where they can be."""
        if not _is_frame(X):
            # The dtype stays: blocks are cast as they are gathered.
            return validate_data(self, X, dtype="numeric", ensure_all_finite="allow-nan", reset=reset)
        frame = _Frame(X)
        names = frame.names
        if reset:
            self.feature_names_in_, self.n_features_in_ = names, len(names)
        elif list(getattr(self, "feature_names_in_", names)) != list(names):
            raise ValueError(
                "The feature names should match those that were passed during fit: "
                f"{list(self.feature_names_in_)}, found {list(names)}"
            )
        elif len(names) != self.n_features_in_:
            raise ValueError(
                f"X has {len(names)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return frame

    def _whole(self, rows):
        """All rows as float32: trees draw theirs from everywhere."""
        out, done = np.empty(rows.shape, dtype=np.float32), 0
        for block in self._blocks(rows):
            n = block.num_rows if isinstance(block, pa.RecordBatch) else len(block)
            _fill(out[done : done + n], block)
            done += n
        return out

    def _blocks(self, rows):
        """Rows in blocks of at most `BLOCK_BYTES` of float32, not yet copied."""
        length = max(1, BLOCK_BYTES // (4 * rows.shape[1]))
        if isinstance(rows, _Frame):
            return rows.blocks(length)
        return (rows[start : start + length] for start in range(0, len(rows), length))

    def _parts(self, rows):
        """Rows as the forest reads them: all at once where they lie, else block by block."""
        if not isinstance(rows, _Frame) and _in_place(rows):
            yield rows
            return
        space = np.empty((max(1, BLOCK_BYTES // (4 * rows.shape[1])), rows.shape[1]), dtype=np.float32)
        for block in self._blocks(rows):
            n = block.num_rows if isinstance(block, pa.RecordBatch) else len(block)
            yield _fill(space[:n], block)

    def _scores(self, rows):
        scores, done = np.empty(rows.shape[0]), 0
        for part in self._parts(rows):
            self._forest.score(part, scores[done : done + len(part)])
            done += len(part)
        return scores

    def __getstate__(self):
        state = super().__getstate__().copy()
        if "_forest" in state:
            state["_forest"] = self._forest.to_bytes()
        return state

    def __setstate__(self, state):
        state = state.copy()
        if "_forest" in state:
            state["_forest"] = _hedgerow.Forest.from_bytes(state["_forest"], 1)
        super().__setstate__(state)
        if hasattr(self, "_forest"):
            self._forest = self._forest.with_threads(self._threads())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
