"""Rows and a window -> a Measurement; pure. What ended inside the window is what the window saw.

Rows of warm-up and drain are in `rows` too: the window is a filter, applied here and nowhere earlier.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadgen.clock import NS_PER_S
from loadgen.kserve import Statistics
from loadgen.records import Outcome, Rows


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_ns` (included) to `end_ns` (excluded), monotonic."""

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """Its length."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Spread:
    """Moments and nearest-rank percentiles of durations, in nanoseconds."""

    mean_ns: float
    std_ns: float | None
    min_ns: float
    p50_ns: float
    p90_ns: float
    p95_ns: float
    p99_ns: float
    max_ns: float


@dataclass(frozen=True, slots=True)
class Stages:
    """The server's own account of a window: counts, and mean nanoseconds a request in each stage."""

    success: int
    fail: int
    request_ns: float
    queue_ns: float
    compute_input_ns: float
    compute_infer_ns: float
    compute_output_ns: float
    busy: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one window saw; the spreads are None when nothing completed in it."""

    window: Window
    completed: int
    failed: int
    throughput_per_s: float
    service: Spread | None
    response: Spread | None
    send_lag_p99_ns: float | None
    in_flight_mean: float


def measure(rows: Rows, window: Window) -> Measurement:
    """Measure one window of one point.

    Throughput = completions in the window / its length; service time = done - sent; response time = done - due.
    """
    ended = ended_in(rows, window)
    good = ended[ended["outcome"] == Outcome.OK]
    sent = ended[ended["sent_ns"] > 0]
    return Measurement(
        window=window,
        completed=len(good),
        failed=len(ended) - len(good),
        throughput_per_s=len(good) * NS_PER_S / window.length_ns,
        service=spread(good["done_ns"] - good["sent_ns"]),
        response=spread(good["done_ns"] - good["due_ns"]),
        send_lag_p99_ns=percentile(np.sort(sent["sent_ns"] - sent["due_ns"]), 99) if len(sent) else None,
        in_flight_mean=in_flight_mean(rows, window),
    )


def ended_in(rows: Rows, window: Window) -> Rows:
    """Return the rows whose request ended inside the window, well or not."""
    return np.asarray(rows[(rows["done_ns"] >= window.start_ns) & (rows["done_ns"] < window.end_ns)])


def spread(durations_ns: npt.NDArray[np.int64]) -> Spread | None:
    """Summarise durations; None if there are none. The standard deviation is the sample one (n - 1)."""
    if len(durations_ns) == 0:
        return None
    ordered = np.sort(durations_ns)
    return Spread(
        mean_ns=float(ordered.mean()),
        std_ns=float(ordered.std(ddof=1)) if len(ordered) > 1 else None,
        min_ns=float(ordered[0]),
        p50_ns=percentile(ordered, 50),
        p90_ns=percentile(ordered, 90),
        p95_ns=percentile(ordered, 95),
        p99_ns=percentile(ordered, 99),
        max_ns=float(ordered[-1]),
    )


def percentile(ordered: npt.NDArray[np.int64], percent: float) -> float:
    """Return the nearest-rank percentile of sorted values: index floor(p/100 (n-1) + 1/2), as perf_analyzer."""
    return float(ordered[int(percent / 100 * (len(ordered) - 1) + 0.5)])


def in_flight_mean(rows: Rows, window: Window) -> float:
    """Return the time average of requests in flight: the overlap of every [sent, done) with the window."""
    sent = rows[rows["sent_ns"] > 0]
    done_ns = np.where(sent["done_ns"] > 0, sent["done_ns"], window.end_ns)
    overlap_ns = np.minimum(done_ns, window.end_ns) - np.maximum(sent["sent_ns"], window.start_ns)
    return float(np.maximum(overlap_ns, 0).sum() / window.length_ns)


def stages(before: Statistics, after: Statistics, instances: int | None) -> Stages | None:
    """Difference two readings of the server's counters; None if nothing succeeded between them.

    `busy` is compute time over (instances x time between the readings): 1 means that no instance ever idled.
    """
    success = after.success_count - before.success_count
    if success <= 0:
        return None
    deltas = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")
    }
    # Readings take a moment each: their midpoints are when the counters were most likely copied.
    between_ns = (after.asked_ns + after.read_ns - before.asked_ns - before.read_ns) / 2
    compute_ns = sum(deltas.values()) - deltas["queue_ns"]
    return Stages(
        success=success,
        fail=after.fail_count - before.fail_count,
        request_ns=(after.success_ns - before.success_ns) / success,
        busy=compute_ns / (instances * between_ns) if instances else None,
        **{name: total / success for name, total in deltas.items()},
    )
