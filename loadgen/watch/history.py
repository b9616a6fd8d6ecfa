"""Readings of one source over the last minutes, and what they come to: rates, means, gaps, restarts. Pure.

A rate comes from two readings in a row that both saw the model and between which no counter went back. What lies
between other readings is not known: it is left out of means, and is a gap in a line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from loadgen.watch.reading import NAMES, Counters, Gpu, Key, Reading

NS_PER_S = 1_000_000_000
SPAN_NS = 180 * NS_PER_S
"""How far back lines go."""

MINUTE_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model did in `seconds` of known time; None is not known, or a mean of nothing.

    Means are of the requests that succeeded. `queued` requests waited on average, by the time they waited;
    `busy` instances computed on average, by the time they computed: where requests are batched, each of a batch
    tells the time of the whole, which is counted once.
    """

    seconds: float = 0.0
    requests_per_s: float | None = None
    failures_per_s: float | None = None
    queue_ns: float | None = None
    compute_input_ns: float | None = None
    compute_infer_ns: float | None = None
    compute_output_ns: float | None = None
    batch: float | None = None
    queued: float | None = None
    busy: float | None = None


STAGES = ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")


def figures(counted: Counters, seconds: float) -> Figures:
    """Return what was counted in `seconds` comes to."""
    total = {name: getattr(counted, name) for name in NAMES}
    success, executions = total["success"], total["executions"]
    stages = {name: _ratio(total[name], success) for name in STAGES}
    compute_ns = _sum([total[name] for name in STAGES[1:]])
    idle = 0.0 if success == 0 else None
    requests_a_batch = _ratio(success, executions)
    busy_ns = _ratio(compute_ns, requests_a_batch) if success else idle
    return Figures(
        seconds,
        _ratio(success, seconds),
        _ratio(total["failed"], seconds),
        **stages,
        batch=_ratio(total["inferences"], executions),
        queued=_ratio(total["queue_ns"], seconds * NS_PER_S),
        busy=_ratio(busy_ns, seconds * NS_PER_S),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


@dataclass(frozen=True, slots=True)
class Step:
    """What was counted between two readings in a row, and what it comes to."""

    start_ns: int
    end_ns: int
    counted: Counters
    figures: Figures

    @property
    def length_s(self) -> float:
        """Its length in seconds."""
        return (self.end_ns - self.start_ns) / NS_PER_S


def together(found: Sequence[Step]) -> Figures:
    """Return what several steps come to."""
    seconds = sum(step.length_s for step in found)
    if not seconds:
        return Figures()
    total = {name: _sum([getattr(step.counted, name) for step in found]) for name in NAMES}
    return figures(Counters(**total), seconds)


def step_of(before: Reading, after: Reading, key: Key) -> Step | None:
    """Return what was counted of a model between two readings in a row; None if that is not known."""
    first, then = before.counters.get(key), after.counters.get(key)
    if first is None or then is None or after.at_ns <= before.at_ns or went_back(first, then):
        return None
    counted = Counters(**{name: _less(getattr(then, name), getattr(first, name)) for name in NAMES})
    return Step(before.at_ns, after.at_ns, counted, figures(counted, (after.at_ns - before.at_ns) / NS_PER_S))


def went_back(before: Counters, after: Counters) -> bool:
    """Say whether any counter is lower than before, which no server does that was not started again."""
    return any(_lower(getattr(before, name), getattr(after, name)) for name in NAMES)


def _lower(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after < before


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a source could not be read, now over."""

    from_ns: int
    to_ns: int
    fault: str


@dataclass(frozen=True, slots=True)
class Restart:
    """A model's counters went back before `at_ns`."""

    at_ns: int
    key: Key


@dataclass(frozen=True, slots=True)
class History:
    """Readings of a source, oldest first, steps between them, counters when last seen, and what happened."""

    readings: tuple[Reading, ...] = ()
    steps: Mapping[Key, tuple[Step, ...]] = field(default_factory=dict)
    seen: Mapping[Key, Counters] = field(default_factory=dict)
    since_ns: int = 0
    outages: tuple[Outage, ...] = ()
    restarts: tuple[Restart, ...] = ()

    @property
    def last(self) -> Reading | None:
        """The last reading."""
        return self.readings[-1] if self.readings else None

    @property
    def keys(self) -> list[Key]:
        """Every model version that was seen lately, or before an outage that goes on, in order."""
        return sorted(self.seen)


def grown(history: History, reading: Reading) -> History:
    """Return the history with one more reading, without what is too old."""
    last, oldest_ns = history.last, reading.at_ns - SPAN_NS
    changed = last is None or bool(last.fault) != bool(reading.fault)
    outages = tuple(each for each in history.outages if each.to_ns >= oldest_ns)
    if changed and last is not None and last.fault:
        outages = (*outages, Outage(history.since_ns, reading.at_ns, last.fault))
    steps = _steps(history, reading, oldest_ns)
    return History(
        (*(each for each in history.readings if each.at_ns >= oldest_ns), reading),
        steps,
        {key: each for key, each in history.seen.items() if steps.get(key) or reading.fault} | dict(reading.counters),
        reading.at_ns if changed else history.since_ns,
        outages,
        (*(each for each in history.restarts if each.at_ns >= oldest_ns), *_restarts(history, reading)),
    )


def _restarts(history: History, reading: Reading) -> list[Restart]:
    """Return the models whose counters are lower than when they were last seen, however long ago that was."""
    before = history.seen
    return [
        Restart(reading.at_ns, key)
        for key, then in reading.counters.items()
        if key in before and went_back(before[key], then)
    ]


def _steps(history: History, reading: Reading, oldest_ns: int) -> dict[Key, tuple[Step, ...]]:
    last, found = history.last, {}
    for key in {**history.steps, **reading.counters}:
        kept = tuple(step for step in history.steps.get(key, ()) if step.start_ns >= oldest_ns)
        step = step_of(last, reading, key) if last is not None else None
        found[key] = (*kept, step) if step is not None else kept
    return found


def last_step(history: History, key: Key) -> Figures:
    """Return what the step to the last reading comes to, if it is known."""
    found, last = history.steps.get(key, ()), history.last
    return found[-1].figures if found and last is not None and found[-1].end_ns == last.at_ns else Figures()


def last_minute(history: History, key: Key, now_ns: int) -> Figures:
    """Return what the steps of the last minute come to."""
    oldest_ns = now_ns - MINUTE_NS - NS_PER_S // 2
    return together([step for step in history.steps.get(key, ()) if step.start_ns >= oldest_ns])


class Dot(NamedTuple):
    """A value at a time."""

    at_ns: int
    value: float | None


def trend(steps: Sequence[Step], name: str) -> list[Dot]:
    """Return one of a model's figures over time, step by step."""
    return [Dot(step.end_ns, getattr(step.figures, name)) for step in steps]


def gauge(readings: Sequence[Reading], uuid: str, of: Callable[[Gpu], float | None]) -> list[Dot]:
    """Return a gauge of a GPU over time, reading by reading."""
    return [Dot(each.at_ns, of(each.gpus[uuid])) for each in readings if uuid in each.gpus]


def binned(dots: Sequence[Dot], now_ns: int, columns: int, begun_ns: int) -> list[float | None]:
    """Return the mean of the dots in each of `columns` equal parts of the span that ends now, oldest first.

    The parts lie fixed in time, so that a line moves by whole columns; NaN stands before `begun_ns`, None where
    nothing is known.
    """
    width_ns = SPAN_NS // columns
    newest = now_ns // width_ns
    sums: dict[int, list[float]] = {}
    for dot in dots:
        if dot.value is not None:
            sums.setdefault(dot.at_ns // width_ns, []).append(dot.value)
    first = begun_ns // width_ns
    return [_mean(sums.get(part, []), part < first) for part in range(newest - columns + 1, newest + 1)]


def _mean(values: Sequence[float], before: bool) -> float | None:
    if values:
        return sum(values) / len(values)
    return float("nan") if before else None
