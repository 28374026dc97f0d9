"""Captures as Arrow."""

import os

from hedgerow import _hedgerow


def read_capture(path, stream="windows", columns=None):
    """Streams `windows`, `early` or `records` of a capture as a `pyarrow.RecordBatchReader`.

    `path` is a capture, a directory or a file of one. Files come in the order of writing, a batch of
    8,192 rows at a time; `columns` are all unless named. What remains after a crash is read in place;
    a damaged file is warned of by name, with what is known of its loss.
    """
    path = os.fspath(path)
    return _hedgerow.read_capture(path, stream, None if columns is None else list(columns))
