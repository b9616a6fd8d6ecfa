"""What options ask for -> parts of a Plan: inputs, loads, companions, when to stop."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.endpoint import Prometheus, Tls, header_option, query_option
from loadgen.errors import PlanError
from loadgen.plan import (
    Arrivals,
    ByCount,
    ByPrecision,
    ByTime,
    Companion,
    ConcurrencySteps,
    Generated,
    InputData,
    Load,
    Profile,
    Replay,
    Stopping,
    Synthetic,
)
from loadgen.ranges import (
    companion_option,
    input_option,
    profile_option,
    range_option,
    shape_option,
    steps_option,
)


@dataclass(frozen=True, slots=True)
class Made:
    """Options of inputs that are made, not read."""

    mu: float = 200.0
    events: int = 10
    seed: int = 0
    poisson: bool = False
    shapes: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    string_bytes: int = 128
    string: str | None = None


def inputs_of(input_data: list[str], made: Made, **cells: Any) -> InputData:  # noqa: ANN401 - fields of Cells
    """Return what `--input-data` names: synthetic, zero, random, or files."""
    from loadgen import api  # noqa: PLC0415

    if input_data == ["synthetic"]:
        encoding = cells.get("encoder", ""), cells.get("module_maps", ())
        return Synthetic(made.mu, made.events, made.seed, made.poisson, *encoding)
    match input_data:
        case ["zero" | "random" as kind]:
            shapes, each = dict(map(shape_option, made.shapes)), dict(map(input_option, made.each))
            requests = 1 if {kind, *each.values()} == {"zero"} else made.events
            return Generated(kind, requests, shapes, made.seed, each, made.string_bytes, made.string)
    return api.input_of(input_data, **cells)


def cells_of(
    *,
    overlay: int,
    event_range: str,
    merge_duplicates: bool = False,
    encoder: str = "",
    module_maps: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the further fields of `Cells` that options name; paths become absolute.

    Raises:
        PlanError: the range does not parse.
    """
    return {
        "overlay": overlay,
        "merge_duplicates": merge_duplicates,
        "numbers": range_option(event_range) if event_range else None,
        "encoder": encoder,
        "module_maps": tuple(os.path.abspath(path) for path in module_maps or []),  # noqa: PTH100 - links are left as they are
    }


def tls_of(asked: bool, ca: str, cert: str, key: str, server_name: str) -> Tls | None:
    """Return how to speak TLS; None if nothing asks for it."""
    ca, cert, key = (os.path.abspath(path) if path else "" for path in (ca, cert, key))  # noqa: PTH100
    given = Tls(ca, cert, key, server_name)
    return given if asked or given != Tls() else None


def prometheus_of(url: str, headers: list[str] | None, queries: list[str] | None, selector: str) -> Prometheus | None:
    """Return the Prometheus server that options name; None if they name none.

    Raises:
        PlanError: a text does not parse, or there is something to ask but no server.
    """
    if not url and (headers or queries or selector):
        raise PlanError("--prometheus-url: is missing; the other --prometheus options say what to ask of it")
    if not url:
        return None
    return Prometheus(url, dict(map(header_option, headers or [])), selector, dict(map(query_option, queries or [])))


@dataclass(frozen=True, slots=True)
class Shape:
    """How an open loop's requests fall due."""

    arrivals: Arrivals
    cv: float
    max_in_flight: int


def further_loads(profile: str, concurrency_steps: str, intervals: str, speed: float, shape: Shape) -> list[Load]:
    """Return the loads that are not levels of a range: a profile, steps, a replay.

    Raises:
        PlanError: a text does not parse.
    """
    loads: list[Load] = []
    if profile:
        loads.append(
            Profile(profile_option(profile), arrivals=shape.arrivals, cv=shape.cv, max_in_flight=shape.max_in_flight)
        )
    if concurrency_steps:
        loads.append(ConcurrencySteps(steps_option(concurrency_steps)))
    if intervals:
        recorded = os.path.abspath(intervals)  # noqa: PTH100 - links are left as they are
        loads.append(Replay(recorded, speed=speed, max_in_flight=shape.max_in_flight))
    return loads


def companions_of(texts: list[str], made: Made) -> list[Companion]:
    """Return the companions that `--also MODEL=WEIGHT:INPUT` names; made inputs are as the first model's.

    Raises:
        PlanError: a text does not parse.
    """
    found = []
    for text in texts:
        model, version, weight, given = companion_option(text)
        found.append(Companion(model, inputs_of([given], made), weight, version))
    return found


def stopping_of(  # noqa: PLR0913, PLR0917 - each is one option
    window_ms: int | None, warmup_ms: int, requests: int | None, precision: float, min_s: float, max_s: float
) -> Stopping:
    """Return when a point ends: after a time, after a count, or once it is precise.

    Raises:
        PlanError: two of them are asked for, or the times are reversed.
    """
    if window_ms is not None and requests is not None:
        raise PlanError("--request-count: -p says already how long to measure; give one of them")
    if min_s > max_s:
        raise PlanError(f"--min-time {min_s:g}: is above --max-time {max_s:g}")
    if window_ms is not None:
        return ByTime(window_ms, warmup_ms)
    return ByCount(requests) if requests is not None else ByPrecision(precision, min_s=min_s, max_s=max_s)
