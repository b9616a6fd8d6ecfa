"""Endpoints as a watch would have seen them: made readings, for tests of what they come to and how it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from loadgen.watch.page import Round
from loadgen.watch.reading import Counters, Gpu, Key, Reading
from loadgen.watch.view import Facts, Moment, Source, Watched, heard, seen

S = 1_000_000_000
MS = 1_000_000
UTC_NS = 1_790_000_000 * S
KEY = ("traccc-gpu", "1")
ADDRESS, PAGE = "gpu1:8001", "http://gpu1:8002/metrics"


def counters(success: float, **other: float | None) -> Counters:
    """Return counters of requests that each took 2 + 1 + 30 + 1 ms, one a batch."""
    made = Counters(success, 0, success, success, success * 2 * MS, success * MS, success * 30 * MS, success * MS)
    return replace(made, **other)


def at(second: float, success: float | None = None, key: Key = KEY, **other: float | None) -> Reading:
    """Return a reading of one model; None: the server could not be reached."""
    if success is None:
        return Reading(round(second * S), "no server answers")
    return Reading(round(second * S), counters={key: counters(success, **other)}, ready=True)


def page(second: float, gpus: Mapping[str, Gpu], pending: float | None = None) -> Reading:
    """Return a reading of a page."""
    waiting = {} if pending is None else {KEY: pending}
    return Reading(round(second * S), gpus=gpus, pending=waiting)


def watched(
    grpc: Sequence[Reading], *pages: Sequence[Reading], models: tuple[str, ...] = (), facts: Facts | None = None
) -> Watched:
    """Return an endpoint after these readings."""
    names = [f"gpu{number}:8002" for number in range(1, len(pages) + 1)]
    sources = [Source("grpc", ADDRESS), *(Source("page", f"http://{name}/metrics", name) for name in names)]
    made = Watched(ADDRESS, tuple(sources), models, facts or Facts("triton", "2.51.0", {KEY: "READY"}, {KEY: 2}))
    for index, readings in enumerate((grpc, *pages)):
        for reading in readings:
            made = heard(made, index, reading)
    return made


def moment(second: float) -> Moment:
    """Return a moment of this made world."""
    return Moment(round(second * S), UTC_NS + round(second * S))


def shown(second: float, *endpoints: Watched, interval_ns: int = S) -> Round:
    """Return what is shown of them then."""
    views = tuple(seen(each, moment(second), interval_ns) for each in endpoints)
    return Round(moment(second), interval_ns, views, 3, 4.2)
