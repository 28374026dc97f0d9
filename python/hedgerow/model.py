"""Model files."""

import os

import pyarrow as pa

from hedgerow import _hedgerow


class Model:
    """A model as it was saved. It judges windows by themselves and learns nothing, so that neither
    their order nor their company matters."""

    def __init__(self, path):
        self._path = os.fspath(path)
        self._model = _hedgerow.Model.load(self._path)

    @classmethod
    def load(cls, path):
        """Reads a model file; one of another schema is refused."""
        return cls(path)

    def __reduce__(self):
        # Where it is unpickled the file must be; a model holds megabytes.
        return Model, (self._path,)

    @property
    def id(self):
        return self._model.id

    def score(self, windows):
        """Judges windows: a `pyarrow.RecordBatch`, or whatever streams Arrow (tables and frames of
        pyarrow and polars, a reader).

        One row for each window, with the columns of `hedgerow score` that hang on the window and the
        model alone: `score` is its score, bit for bit (a window that was looked at early has the
        score of its highest look there). `surprise_nats` is by what was held back until the model
        was saved, where `hedgerow score` goes on holding back; `p` = exp(-surprise_nats) is the
        probability of such within an hour. Null where nothing can be said.
        """
        if isinstance(windows, pa.RecordBatch):
            return self._model.score(windows)
        batches = pa.RecordBatchReader.from_stream(windows)
        scored = (self._model.score(batch) for batch in batches)
        return pa.Table.from_batches(scored, schema=_hedgerow.Model.schema())
