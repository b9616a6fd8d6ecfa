"""Tidy tables of whatever was loaded -> the frames that the named charts are drawn from."""

import polars as pl

from analysis.charts import Frames
from analysis.tidy import Loaded

REQUEST = ("run", "point", "body", "outcome", "due_ns", "sent_ns", "done_ns", "request_bytes", "response_bytes")
"""Columns of requests that charts use."""

OF_LOGS = (
    pl.when(pl.col("kind").is_in(["throughput", "sequence", "log_file"])).then(pl.lit("traccc")).otherwise("kind")
)
"""Standalone results have the kind of their log; a chart names the tool, as for points."""


def frames_of(loaded: Loaded, *, requests: bool = True) -> Frames:
    """Return loaded tables as charts take them; requests are read from the disk, those that ended in a window.

    Standalone results are no points of a service: charts have them as a table of their own.
    """
    service = loaded.points.filter(pl.col("load").ne_missing("standalone"))
    inside = loaded.requests.filter("in_window").select(REQUEST).collect() if requests else pl.DataFrame()
    return Frames(
        points=_some(service),
        gpus=_some(loaded.gpus),
        pods=_some(loaded.pods),
        requests=_some(inside),
        standalone=_some(loaded.standalone.with_columns(kind=OF_LOGS)),
        answers=_some(loaded.answers),
    )


def _some(frame: pl.DataFrame) -> pl.DataFrame | None:
    return None if frame.is_empty() else frame
