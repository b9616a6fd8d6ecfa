"""Rows and a window -> a Measurement; pure. What ended inside the window is what the window saw.

Rows of warm-up and drain are in `rows` too: the window is a filter, applied here and nowhere earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from loadgen.estimate import PERCENTS, Estimate, Estimates, Integers, estimates, nearest_rank, rate
from loadgen.kserve import Statistics
from loadgen.records import Outcome, Rows

IN_FLIGHT_PARTS = 20

Counts = tuple[int, ...]
"""Requests in each part of a window."""


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
class Durations:
    """Moments of durations, and what is known of their mean and percentiles, in nanoseconds."""

    std_ns: float | None
    min_ns: float
    max_ns: float
    found: Estimates


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
    mean_batch: float | None = None
    cache_hits: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one window saw; the durations are None when nothing completed in it.

    `arrived` fell due in the window, `unsent` of them were not sent; `in_flight` has a mean for each of 20 parts,
    `in_flight_cut` is what the window's edges cut through. `client_send_ns` and `client_recv_ns` are mean times of
    completed requests, from sent to flushed and from first byte to done; None where the transport does not see them.
    """

    window: Window
    completed: int
    failed: int
    arrived: int
    unsent: int
    throughput_per_s: Estimate
    service: Durations | None
    response: Durations | None
    send_lag_p50_ns: float | None
    send_lag_p99_ns: float | None
    client_send_ns: float | None
    client_recv_ns: float | None
    in_flight_mean: float
    in_flight_cut: float
    in_flight: tuple[float, ...]


def measure(rows: Rows, window: Window, percents: Sequence[float] = PERCENTS) -> Measurement:
    """Measure one window of one point.

    Throughput = completions in the window / its length; service time = done - sent; response time = done - due.
    """
    ended = ended_in(rows, window)
    good = ended[ended["outcome"] == Outcome.OK]
    lags = np.sort((sent := ended[ended["sent_ns"] > 0])["sent_ns"] - sent["due_ns"])
    due = rows[(rows["due_ns"] >= window.start_ns) & (rows["due_ns"] < window.end_ns)]
    service = durations(good["done_ns"], good["done_ns"] - good["sent_ns"], window, percents)
    response = durations(good["done_ns"], good["done_ns"] - good["due_ns"], window, percents)
    parts = in_flight_parts(rows, window, IN_FLIGHT_PARTS)
    return Measurement(
        window=window,
        completed=len(good),
        failed=len(ended) - len(good),
        arrived=len(due),
        unsent=int((due["outcome"] == Outcome.UNSENT).sum()),
        throughput_per_s=service.found.throughput_per_s if service else Estimate(0.0),
        service=service,
        response=response,
        send_lag_p50_ns=nearest_rank(lags, 50) if len(lags) else None,
        send_lag_p99_ns=nearest_rank(lags, 99) if len(lags) else None,
        client_send_ns=mean_between(good, "sent_ns", "flushed_ns"),
        client_recv_ns=mean_between(good, "first_byte_ns", "done_ns"),
        in_flight_mean=in_flight_mean(rows, window),
        in_flight_cut=in_flight_cut(rows, window),
        in_flight=parts,
    )


def mean_between(rows: Rows, start: str, end: str) -> float | None:
    """Return the mean time from one stamp to another, of rows that have both; None if none has."""
    known = rows[(rows[start] > 0) & (rows[end] > 0)]
    return float((known[end] - known[start]).mean()) if len(known) else None


def durations(done_ns: Integers, each_ns: Integers, window: Window, percents: Sequence[float]) -> Durations | None:
    """Summarise durations of requests that ended at `done_ns`, all in the window; None if there are none.

    The standard deviation is the sample one (n - 1).
    """
    if len(each_ns) == 0:
        return None
    std_ns = float(each_ns.std(ddof=1)) if len(each_ns) > 1 else None
    found = estimates(done_ns, each_ns, window.start_ns, window.end_ns, percents)
    return Durations(std_ns, float(each_ns.min()), float(each_ns.max()), found)


def goodput(rows: Rows, window: Window, since: str, limit_ns: int) -> Estimate:
    """Estimate good requests a second that took no longer than the limit, from the column `since` to done."""
    ended = ended_in(rows, window)
    kept = ended[(ended["outcome"] == Outcome.OK) & (ended["done_ns"] - ended[since] <= limit_ns)]
    return rate(kept["done_ns"], window.start_ns, window.end_ns)


def beyond(rows: Rows, window: Window, since: str, limit_ns: int, parts: int) -> tuple[Counts, Counts]:
    """Count what fell due in each part of the window, and what of it took longer than the limit or failed.

    By when it was due, not when it ended: so nothing slow is missed at the window's end.
    """
    due = rows[(rows["due_ns"] >= window.start_ns) & (rows["due_ns"] < window.end_ns)]
    over = due[(due["outcome"] != Outcome.OK) | (due["done_ns"] - due[since] > limit_ns)]
    return _parts(due["due_ns"], window, parts), _parts(over["due_ns"], window, parts)


def _parts(at_ns: Integers, window: Window, parts: int) -> Counts:
    of_part = np.minimum((at_ns - window.start_ns) * parts // window.length_ns, parts - 1)
    return tuple(np.bincount(of_part, minlength=parts).tolist())


def ended_in(rows: Rows, window: Window) -> Rows:
    """Return the rows whose request ended inside the window, well or not."""
    return np.asarray(rows[(rows["done_ns"] >= window.start_ns) & (rows["done_ns"] < window.end_ns)])


def in_flight_mean(rows: Rows, window: Window) -> float:
    """Return the time average of requests in flight: the overlap of every [sent, done) with the window."""
    sent = rows[rows["sent_ns"] > 0]
    done_ns = np.where(sent["done_ns"] > 0, sent["done_ns"], window.end_ns)
    overlap_ns = np.minimum(done_ns, window.end_ns) - np.maximum(sent["sent_ns"], window.start_ns)
    return float(np.maximum(overlap_ns, 0).sum() / window.length_ns)


def in_flight_cut(rows: Rows, window: Window) -> float:
    """Return what the window's edges cut through, in mean requests in flight.

    That is the time before the window of what ended in it, and the time inside of what did not end in it: by no more
    than this throughput x mean service time may differ from the mean in flight.
    """
    sent = rows[rows["sent_ns"] > 0]
    ended = (sent["done_ns"] >= window.start_ns) & (sent["done_ns"] < window.end_ns)
    before_ns = np.maximum(window.start_ns - sent["sent_ns"][ended], 0).sum()
    still = sent[(sent["sent_ns"] < window.end_ns) & ((sent["done_ns"] >= window.end_ns) | (sent["done_ns"] == 0))]
    inside_ns = (window.end_ns - np.maximum(still["sent_ns"], window.start_ns)).sum()
    return float((before_ns + inside_ns) / window.length_ns)


def in_flight_parts(rows: Rows, window: Window, parts: int) -> tuple[float, ...]:
    """Return the mean in flight of each of so many equal parts of the window."""
    edges = [window.start_ns + window.length_ns * part // parts for part in range(parts + 1)]
    return tuple(in_flight_mean(rows, Window(a, b)) for a, b in pairwise(edges) if b > a)


def service_sum_ns(rows: Rows) -> int:
    """Return the sum of all service times in the rows, well ended or not: Little's other book."""
    ended = rows[(rows["sent_ns"] > 0) & (rows["done_ns"] > 0)]
    return int((ended["done_ns"] - ended["sent_ns"]).sum())


def stages(before: Statistics, after: Statistics, instances: int | None) -> Stages | None:
    """Difference two readings of the server's counters; None if nothing succeeded between them.

    `busy` is compute time over (instances x time between the readings): 1 means that no instance ever idled.
    `mean_batch` is how many inferences an execution served.
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
    inferences = after.inference_count - before.inference_count
    executions = after.execution_count - before.execution_count
    return Stages(
        success=success,
        fail=after.fail_count - before.fail_count,
        request_ns=(after.success_ns - before.success_ns) / success,
        busy=compute_ns / (instances * between_ns) if instances else None,
        mean_batch=inferences / executions if executions else None,
        cache_hits=after.cache_hit_count - before.cache_hit_count,
        **{name: total / success for name, total in deltas.items()},
    )
