"""What the page shows of an endpoint: which source is believed, what is unreachable, what happened. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from loadgen.watch.history import (
    MINUTE_NS,
    Dot,
    Figures,
    History,
    Step,
    gauge,
    grown,
    last_minute,
    last_step,
)
from loadgen.watch.reading import Gpu, Key, Reading

STALE = 2.5
"""After so many intervals without a reading, figures of now are missing, whatever the last one said."""

ALTERNATES = 3
"""Counters that go back so often in a minute are those of several replicas, not of one that restarts."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks."""

    at_ns: int
    utc_ns: int

    def utc_of(self, at_ns: int) -> int:
        """Return the calendar's time of a monotonic one."""
        return self.utc_ns - self.at_ns + at_ns


@dataclass(frozen=True, slots=True)
class Facts:
    """What changes seldom: the server's name and version, its models' states and instances."""

    name: str = ""
    version: str = ""
    states: Mapping[Key, str] = field(default_factory=dict)
    instances: Mapping[Key, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """The gRPC service or one metrics page, what it said, and since when it owes an answer."""

    kind: Literal["grpc", "page"]
    address: str
    replica: str = ""
    history: History = field(default_factory=History)
    asked_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """One endpoint: its gRPC service, then its pages, and the models that were asked for (none: all)."""

    address: str
    sources: tuple[Source, ...]
    models: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts)
    begun_ns: int = 0

    @property
    def grpc(self) -> Source:
        """The gRPC service."""
        return self.sources[0]

    @property
    def pages(self) -> tuple[Source, ...]:
        """The metrics pages."""
        return self.sources[1:]


def asked(watched: Watched, index: int, at_ns: int) -> Watched:
    """Return the endpoint after a source of it was asked."""
    return _with(watched, index, replace(watched.sources[index], asked_ns=at_ns))


def heard(watched: Watched, index: int, reading: Reading) -> Watched:
    """Return the endpoint after a source of it was read."""
    source = watched.sources[index]
    return _with(watched, index, replace(source, history=grown(source.history, reading), asked_ns=None))


def _with(watched: Watched, index: int, source: Source) -> Watched:
    before, after = watched.sources[:index], watched.sources[index + 1 :]
    return replace(watched, sources=(*before, source, *after))


@dataclass(frozen=True, slots=True)
class SourceView:
    """Whether a source is reachable, since when, and why not."""

    kind: str
    address: str
    reachable: bool | None
    reason: str
    since_utc_ns: int | None
    owes_s: float | None


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model version on a replica, now, over the last minute, and step by step."""

    replica: str
    model: str
    version: str
    state: str
    source: str
    now: Figures
    minute: Figures
    pending: float | None
    instances: int | None
    steps: Sequence[Step] = ()


@dataclass(frozen=True, slots=True)
class GpuView:
    """A GPU now (its gauges are None if not known), and lines of it."""

    replica: str
    uuid: str
    now: Gpu
    lines: Mapping[str, Sequence[Dot]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, or is amiss."""

    words: str
    at_utc_ns: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """All that is shown of an endpoint."""

    address: str
    server: str
    version: str
    ready: bool | None
    begun_ns: int
    sources: tuple[SourceView, ...]
    models: tuple[ModelView, ...]
    gpus: tuple[GpuView, ...]
    notes: tuple[Note, ...]


def seen(watched: Watched, moment: Moment, interval_ns: int) -> EndpointView:
    """Return what is to be shown of an endpoint now."""
    last = watched.grpc.history.last
    return EndpointView(
        watched.address,
        watched.facts.name,
        watched.facts.version,
        last.ready if last is not None and _fresh(watched.grpc, moment, interval_ns) else None,
        watched.begun_ns,
        tuple(_source(each, moment) for each in watched.sources),
        tuple(_models(watched, moment, interval_ns)),
        tuple(gpu for page in watched.pages for gpu in _gpus(page, moment, interval_ns)),
        tuple(_notes(watched, moment)),
    )


def _source(source: Source, moment: Moment) -> SourceView:
    last = source.history.last
    return SourceView(
        source.kind,
        source.address,
        None if last is None else not last.fault,
        "" if last is None else last.fault,
        None if last is None else moment.utc_of(source.history.since_ns),
        None if source.asked_ns is None else (moment.at_ns - source.asked_ns) / 1e9,
    )


def _fresh(source: Source, moment: Moment, interval_ns: int) -> bool:
    last = source.history.last
    return last is not None and not last.fault and moment.at_ns - last.at_ns <= STALE * interval_ns


def alternates(source: Source, moment: Moment) -> bool:
    """Say whether a source's counters go back so often that several replicas must answer."""
    recent = {each.at_ns for each in source.history.restarts if each.at_ns >= moment.at_ns - MINUTE_NS}
    return len(recent) >= ALTERNATES


def believed(watched: Watched, moment: Moment) -> tuple[Source, ...]:
    """Return the sources whose counters are shown.

    The gRPC service's, but the pages' where there are several (it answers for one replica at a time), where it
    alternates between replicas, and where it cannot be reached.
    """
    pages = tuple(page for page in watched.pages if page.history.keys)
    last = watched.grpc.history.last
    unreachable = last is None or bool(last.fault)
    if len(pages) > 1 or (pages and (unreachable or alternates(watched.grpc, moment))):
        return pages
    return (watched.grpc,)


def _models(watched: Watched, moment: Moment, interval_ns: int) -> list[ModelView]:
    sources = believed(watched, moment)
    found = [
        _model(watched, source, key, moment, interval_ns)
        for source in sources
        for key in source.history.keys
        if not watched.models or key[0] in watched.models
    ]
    return sorted(found, key=lambda each: (each.model, each.version, each.replica))


def _model(watched: Watched, source: Source, key: Key, moment: Moment, interval_ns: int) -> ModelView:
    history = History() if alternates(source, moment) else source.history
    fresh = _fresh(source, moment, interval_ns)
    return ModelView(
        source.replica if len(watched.pages) > 1 else "",
        *key,
        watched.facts.states.get(key, ""),
        source.kind,
        last_step(history, key) if fresh else Figures(),
        last_minute(history, key, moment.at_ns),
        _pending(watched, source, key, moment, interval_ns),
        watched.facts.instances.get(key),
        history.steps.get(key, ()),
    )


def _pending(watched: Watched, source: Source, key: Key, moment: Moment, interval_ns: int) -> float | None:
    """Return the gauge of requests that wait, from the source itself or the only page beside it that has one."""
    pages = (source,) if source.kind == "page" else watched.pages
    fresh = [page.history.last for page in pages if _fresh(page, moment, interval_ns)]
    found = [last.pending[key] for last in fresh if last is not None and key in last.pending]
    return found[0] if len(found) == 1 else None


def _gpus(page: Source, moment: Moment, interval_ns: int) -> list[GpuView]:
    readings = page.history.readings
    now = readings[-1].gpus if readings and _fresh(page, moment, interval_ns) else {}
    found = []
    for uuid in sorted({uuid for reading in readings for uuid in reading.gpus}):
        lines = {
            "utilisation": gauge(readings, uuid, lambda gpu: gpu.utilisation),
            "power_share": gauge(readings, uuid, lambda gpu: gpu.power_share),
            "power_w": gauge(readings, uuid, lambda gpu: gpu.power_w),
            "memory": gauge(readings, uuid, lambda gpu: gpu.memory_share),
        }
        found.append(GpuView(page.replica, uuid, now.get(uuid, Gpu()), lines))
    return found


def _notes(watched: Watched, moment: Moment) -> list[Note]:
    happened = [note for source in watched.sources for note in _happened(source, moment)]
    return [*_amiss(watched, moment), *sorted(happened, key=lambda note: note.at_utc_ns or 0)]


def _happened(source: Source, moment: Moment) -> list[Note]:
    name = _name(source)
    by_time: dict[int, list[str]] = {}
    notes = []
    for away in source.history.outages:
        words = f"{name} is back after {(away.to_ns - away.from_ns) / 1e9:.0f} s ({away.fault})"
        notes.append(Note(words, moment.utc_of(away.to_ns)))
    for each in source.history.restarts:
        by_time.setdefault(each.at_ns, []).append(" ".join(each.key))
    if not alternates(source, moment):
        notes += [
            Note(f"{name}: counters of {', '.join(keys)} went back: started again", moment.utc_of(at_ns))
            for at_ns, keys in by_time.items()
        ]
    return notes


def _name(source: Source) -> str:
    return "gRPC" if source.kind == "grpc" else f"page {source.replica}"


def _amiss(watched: Watched, moment: Moment) -> list[Note]:
    notes = []
    for source in watched.sources:
        if alternates(source, moment):
            mend = ": name each one's page with --metrics-url" if source in believed(watched, moment) else ""
            notes.append(Note(f"{_name(source)} answers for several replicas in turn (a balancer?){mend}"))
    last = watched.grpc.history.last
    if last is not None and not last.fault:
        known = {model for model, _ in last.counters}
        notes += [Note(f"no model {name} is loaded there") for name in watched.models if name not in known]
    states = {key: state for key, state in watched.facts.states.items() if state != "READY"}
    if watched.models:
        states = {key: state for key, state in states.items() if key[0] in watched.models}
    notes += [
        Note(f"model {' '.join(key).strip()}: {state or 'not loaded'}") for key, state in sorted(states.items())
    ]
    for page in watched.pages:
        gpus = page.history.last.gpus if page.history.last else {}
        dead = [uuid for uuid, gpu in gpus.items() if gpu == Gpu()]
        notes += [Note(f"{uuid}: every gauge is 0: the collector does not work") for uuid in sorted(dead)]
    return notes
