"""perf_analyzer's rule for when a level is measured: three windows in a row that agree. Pure.

It decides when the drop-in stops a level and what it prints; our own verdict on the same requests stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

AGREEING = 3
"""Windows that must agree; perf_analyzer has no option for it."""

STRETCH = 1.2
"""perf_analyzer waits for so many times the interval that is asked for."""

NS_PER_MS = 1_000_000

Positive = Annotated[int, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class ByWindows(msgspec.Struct, frozen=True, tag_field="kind", tag="windows"):
    """Measure in windows that follow each other until three agree, or for at most `max_trials` of them.

    A window lasts 1.2 times `interval_ms`, or with `window_requests` until as many have ended. Agreement is
    max/min <= 1 + `stability` of throughput and of service time, its mean or the given `percentile`; with
    `throughput_suffices` (None: where the model keeps state) that of throughput alone will do in the end. A service
    time of `latency_limit_ms` or more ends a level. `warmup_requests` go before the first window; with
    `total_requests` so many are sent and no more, in one window.
    """

    interval_ms: Positive = 5000
    window_requests: NotNegative = 0
    stability: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    max_trials: Positive = 10
    percentile: Annotated[int, msgspec.Meta(ge=1, le=99)] | None = None
    latency_limit_ms: NotNegative = 0
    throughput_suffices: bool | None = False
    warmup_requests: NotNegative = 0
    total_requests: NotNegative = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rule looks at in a window; no latency where nothing completed."""

    throughput_per_s: float
    latency_ns: float | None


Status = Literal["stable", "throughput_only", "over_limit", "unstable", "unstable_over_limit", "empty"]
"""`throughput_only`: accepted although latency drifts; `empty`: nothing completed in one of the last three."""

MET: tuple[Status, ...] = ("stable", "throughput_only")
OVER: tuple[Status, ...] = ("over_limit", "unstable_over_limit")


def judge(windows: Sequence[Figures], asked: ByWindows) -> Status | None:
    """Say how a level ended after its latest window; None if it goes on."""
    if asked.total_requests:
        return "stable" if windows[-1].latency_ns is not None else "empty"
    last = windows[-AGREEING:]
    if len(last) == AGREEING:
        if agree(last, asked.stability):
            return "stable"
        if any(reaches_limit(window.latency_ns, asked) for window in last):
            return "unstable_over_limit"
    return at_the_end(windows, asked) if len(windows) >= asked.max_trials else None


def at_the_end(windows: Sequence[Figures], asked: ByWindows) -> Status:
    """Say how a level ended that gets no further window."""
    last = windows[-AGREEING:]
    if any(window.latency_ns is None for window in last):
        return "empty"
    suffices = asked.throughput_suffices and agree(last, asked.stability, latency=False)
    return "throughput_only" if suffices else "unstable"


def reaches_limit(latency_ns: float | None, asked: ByWindows) -> bool:
    """Say whether a service time is at the limit or above, counted in whole milliseconds as perf_analyzer does."""
    limit_ms = asked.latency_limit_ms
    return bool(limit_ms) and (latency_ns is None or int(latency_ns) // NS_PER_MS >= limit_ms)


def agree(last: Sequence[Figures], stability: float, *, latency: bool = True) -> bool:
    """Say whether three windows agree, in throughput and, if so asked, in latency."""
    latencies = [window.latency_ns for window in last if window.latency_ns is not None]
    if len(last) < AGREEING or len(latencies) < AGREEING or min(each.throughput_per_s for each in last) <= 0:
        return False
    rates = [window.throughput_per_s for window in last]
    within = max(rates) / min(rates) <= 1 + stability
    return within and (not latency or max(latencies) / max(min(latencies), 1) <= 1 + stability)
