"""What a run and its worker processes say to each other: JSON lines over the worker's stdin and stdout."""

import msgspec

from loadgen.endpoint import Endpoint
from loadgen.plan import Load


class Open(msgspec.Struct, frozen=True, tag=True):
    """First order: which journal to write, which corpus to send, and where to."""

    worker: int
    workers: int
    journal: str
    corpus: str
    index: str
    endpoint: Endpoint
    deadline_ns: int
    seed: int
    transport: str = "direct"
    connections: int = 1
    compression: str = "none"
    in_streams: bool = False
    order: str = "shuffle"
    weights: tuple[float, ...] = ()
    mix: tuple[tuple[int, float], ...] = ()
    """Of several models: how many bodies each has, and how often it is drawn."""

    in_sequences: bool = False
    sequence_length: int = 0
    sequence_length_variation: float = 0.0
    sequence_ids: tuple[int, int] = (1, 0)
    digests: bool = False
    """Whether to keep a digest of every answer."""

    kept_answers: str = ""
    """Folder for a few whole answers; empty: none."""


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Send a body once, as the probe's point, and decode the answer."""

    body: int = 0


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin a point at `at_ns` (0: now); `intervals` is a file of nanoseconds between arrivals (int64), for a replay.

    Each worker drives its share of the load, so that together they are the load that was asked for.
    """

    point: int
    load: Load
    seed: int = 0
    intervals: str = ""
    spin_ns: int = 0
    at_ns: int = 0
    requests: int = 0
    """How many to send and no more; 0: no such limit."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Send nothing more; answer `Drained` when nothing is in flight."""


Order = Open | Probe | Start | Stop


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The worker is ready for orders."""

    pid: int


class Probed(msgspec.Struct, frozen=True, tag=True):
    """How the probe went; `outputs` are the tensors of the answer in words."""

    outcome: str
    details: str
    service_ns: int
    response_bytes: int
    outputs: tuple[str, ...]


class Progress(msgspec.Struct, frozen=True, tag=True):
    """The worker's own counts of the current point, and what its process costs."""

    at_ns: int
    point: int
    completed: int
    failed: int
    unsent: int
    in_flight: int
    resident_memory_bytes: int
    cpu_s: float
    worker: int = 0
    loop_lag_ns: tuple[int, ...] = ()
    """How late the event loop was, every few milliseconds since the last report, beyond what its timers are late."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The first request of a point that failed in this way."""

    at_ns: int
    point: int
    outcome: str
    details: str


class Drained(msgspec.Struct, frozen=True, tag=True):
    """The point is over: nothing is in flight, and so many requests were answered well."""

    point: int
    completed: int
    in_flight_ns: int = 0
    """Integral of requests in flight over time, kept while they went: the worker's own book, not the rows'."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot go on (its message says why); what was recorded is safe."""

    message: str


Report = Opened | Probed | Progress | Failed | Drained | Broken
