"""Hedgerow for people with data: captures, models and the isolation forest.

    import hedgerow, polars
    windows = polars.DataFrame(hedgerow.read_capture("/captures"))
    hedgerow.train("/captures", "host.hedgerow")
    scores = hedgerow.Model.load("host.hedgerow").score(windows)

Nothing here needs a kernel, a broker or any right but to read.
"""

from hedgerow._hedgerow import Error, __version__
from hedgerow.capture import read_capture
from hedgerow.forest import IsolationForest
from hedgerow.model import Model
from hedgerow.verbs import backtest, evaluate, export_forest, import_forest, merge, score, share, train

__all__ = [
    "Error",
    "IsolationForest",
    "Model",
    "__version__",
    "backtest",
    "evaluate",
    "export_forest",
    "import_forest",
    "merge",
    "read_capture",
    "score",
    "share",
    "train",
]
