"""One point as a run's log tells it: what was asked, when its window was, what was read at its edges."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from loadgen.calibration import Calibration
from loadgen.kserve import Statistics
from loadgen.measure import Window
from loadgen.plan import ByPrecision, ClosedLoop, ConcurrencySteps, Load, OpenLoop, Profile


@dataclass(frozen=True, slots=True)
class Target:
    """What every point of a run has in common, in the words of the tables."""

    model: str
    server: str
    inputs: str
    simulated: bool
    instances: int | None
    calibration: Calibration | None = None


class Client(msgspec.Struct, frozen=True):
    """What the load cost the client in the window; None where it was not seen."""

    loop_lag_p99_ns: float | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class PointLog:
    """One point as the log tells it; a reading is None where the server keeps no statistics.

    `looks` are the times at which the record was looked at, the last the end of the window; `fixed` says that the
    window's start was asked for, not found. `in_flight_ns` is the worker's own book of the whole point.
    """

    point: int
    load: Load
    window: Window
    begun_ns: int
    opened: Statistics | None
    closed: Statistics | None
    started: Statistics | None
    drained: Statistics | None
    repeat: int = 1
    looks: tuple[int, ...] = ()
    fixed: bool = True
    interrupted: bool = False
    in_flight_ns: int | None = None
    client: Client = field(default_factory=Client)
    asked: ByPrecision = field(default_factory=ByPrecision)
    percents: tuple[float, ...] = ()
    bodies: int = 0
    slo: str = ""
    unavailable: str = ""
    """Why the readings are not to be used, if so: they come from several servers."""

    pods_ready: tuple[int, ...] = ()
    """How many pods of a cluster's service were ready in the window, one after the other; empty: not known."""

    gaps: tuple[str, ...] = ()
    """Port forwards that were broken in the window."""


def point_logs(events: Iterable[dict[str, Any]]) -> list[PointLog]:
    """Gather the points that have a whole window from a run's log."""
    events = list(events)
    found = [log for events_of_point in _by_point(events).values() if (log := _point_log(events_of_point))]
    found = [_amid(log, events) for log in found]
    balanced = next((event["reason"] for event in events if event["event"] == "balanced"), "")
    return [replace(log, unavailable=balanced) for log in found] if balanced else found


def _amid(log: PointLog, events: Iterable[dict[str, Any]]) -> PointLog:
    """Return the point with what befell its surroundings in its window."""
    return replace(log, pods_ready=_pods_ready(events, log.window), gaps=_gaps(events, log.window))


def _pods_ready(events: Iterable[dict[str, Any]], window: Window) -> tuple[int, ...]:
    """Return how many pods were ready when the window opened, where that is known, and each change within it."""
    told = [event for event in events if event["event"] == "pods_ready" and event["at_ns"] <= window.end_ns]
    within = [event for event in told if event["at_ns"] > window.start_ns]
    before = [event for event in told if event["at_ns"] <= window.start_ns]
    return tuple(event["ready"] for event in before[-1:] + within)


def _gaps(events: Iterable[dict[str, Any]], window: Window) -> tuple[str, ...]:
    return tuple(
        event["what"]
        for event in events
        if event["event"] == "gap" and event["start_ns"] < window.end_ns and event["at_ns"] > window.start_ns
    )


def target_of(events: Iterable[dict[str, Any]]) -> Target:
    """Read the target back from a run's log."""
    facts = next((event["target"] for event in events if event["event"] == "target"), None)
    return msgspec.convert(facts, Target) if facts else Target("", "", "", simulated=False, instances=None)


def _by_point(events: Iterable[dict[str, Any]]) -> dict[int, dict[str, dict[str, Any]]]:
    points: dict[int, dict[str, dict[str, Any]]] = {}
    for event in events:
        if event.get("point"):
            points.setdefault(event["point"], {})[event["event"]] = event
    return points


def _point_log(events: dict[str, dict[str, Any]]) -> PointLog | None:
    if "window_closed" not in events:
        return None
    started, closed = events["point_started"], events["window_closed"]
    readings = {
        name: _reading(events.get(name))
        for name in ("point_started", "window_opened", "window_closed", "point_drained")
    }
    return PointLog(
        point=started["point"],
        load=msgspec.convert(started["load"], Load),
        repeat=started["repeat"],
        window=Window(events["window_opened"]["at_ns"], closed["at_ns"]),
        begun_ns=started["begun_ns"],
        started=readings["point_started"],
        opened=readings["window_opened"],
        closed=readings["window_closed"],
        drained=readings["point_drained"],
        looks=tuple(closed.get("looks", ())),
        fixed=closed.get("fixed", True),
        interrupted=closed.get("interrupted", False),
        in_flight_ns=events.get("point_drained", {}).get("in_flight_ns"),
        client=msgspec.convert(closed.get("client", {}), Client),
        asked=msgspec.convert(started["asked"], ByPrecision),
        percents=tuple(started["percents"]),
        bodies=started["bodies"],
        slo=started.get("slo", ""),
    )


def _reading(event: dict[str, Any] | None) -> Statistics | None:
    facts = event.get("statistics") if event else None
    return msgspec.convert(facts, Statistics) if facts else None


def is_closed(load: Load) -> bool:
    """Say whether a load sends when the server answers, so that its headline is service time."""
    return isinstance(load, ClosedLoop | ConcurrencySteps)


def load_words(load: Load) -> str:
    """Return a load in a few words, for tables and charts."""
    match load:
        case ClosedLoop(concurrency):
            return f"concurrency {concurrency}"
        case ConcurrencySteps(levels):
            return "concurrency " + ", ".join(f"{level} for {seconds:g} s" for level, seconds in levels)
        case OpenLoop(rate, arrivals, cv):
            return f"{rate:g}/s {arrivals}" + (f" cv {cv:g}" if arrivals == "gamma" else "")
        case Profile(segments):
            parts = [f"{each.from_per_s:g} to {each.to_per_s:g}/s in {each.duration_s:g} s" for each in segments[:3]]
            return f"profile {', '.join(parts)}{', ...' if len(segments) > len(parts) else ''}"
        case replay:
            return f"replay of {replay.path.rsplit('/', 1)[-1]} at {replay.speed:g} times its speed"
