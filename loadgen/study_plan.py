"""A study: server configurations x inputs x loads x takes, as a grid in the order in which to measure it. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np

from loadgen.endpoint import Prometheus, Tls, masked_headers, masked_prometheus
from loadgen.errors import PlanError
from loadgen.plan import (
    Answers,
    Arrivals,
    ByPrecision,
    ClosedLoop,
    InputData,
    Load,
    OpenLoop,
    Positive,
    PositiveFloat,
    Stopping,
    TransportName,
)

STUDY_LABELS = ("study", "take", "server", "instances", "gpus", "inputs", "mu")
PILE_UPS = (20.0, 40.0, 60.0, 80.0, 100.0, 140.0, 200.0, 300.0)
LABEL = r"^[\w.+-]+$"
Item = TypeVar("Item")


class Launched(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="launched"):
    """A Triton that the study starts: `instances` of the model on each of `gpus`, or on the CPU if there is none.

    `repository` is the model repository, of which a copy is edited; the stand-in if empty. `tritonserver` is the
    program; the one on PATH if empty, or the embedded one where there is none. `arguments` go to it as they are.
    """

    instances: Positive = 1
    gpus: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    repository: str = ""
    tritonserver: str = ""
    arguments: tuple[str, ...] = ()
    ready_timeout_s: PositiveFloat = 120.0

    @property
    def label(self) -> str:
        """Its name in tables and folders: `2insts_1gpus`, `2insts_cpu`."""
        return f"{self.instances}insts_{f'{len(self.gpus)}gpus' if self.gpus else 'cpu'}"

    @property
    def slots(self) -> int:
        """How many requests it can serve at once."""
        return self.instances * max(1, len(self.gpus))


class Remote(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="remote"):
    """A server that runs already, used as it is; `instances` (a GPU) and `gpus` are what its owner says of it."""

    url: str
    name: str = ""
    metrics_urls: tuple[str, ...] = ()
    instances: Positive | None = None
    gpus: Positive | None = None

    @property
    def label(self) -> str:
        """Its name in tables and folders."""
        return self.name or re.sub(r"[^\w.+-]+", "-", self.url).strip("-")

    @property
    def slots(self) -> int | None:
        """How many requests it can serve at once, if that is said."""
        return self.instances * (self.gpus or 1) if self.instances else None


class Kube(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kube"):
    """A service in a Kubernetes cluster, reached by port forwards; what is said of it is as for `Remote`.

    Its pods are counted every `poll_s`: an autoscaler may change how many there are.
    """

    service: str
    namespace: str = "default"
    context: str = ""
    name: str = ""
    grpc_port: Positive = 8001
    metrics_port: Positive = 8002
    poll_s: PositiveFloat = 10.0
    instances: Positive | None = None
    gpus: Positive | None = None

    @property
    def label(self) -> str:
        """Its name in tables and folders."""
        return self.name or f"{self.namespace}-{self.service.rpartition('/')[2]}"

    @property
    def slots(self) -> int | None:
        """How many requests it can serve at once, if that is said."""
        return self.instances * (self.gpus or 1) if self.instances else None


Server = Launched | Remote | Kube


class InputSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs under a label, and their pile-up if they have one."""

    label: Annotated[str, msgspec.Meta(pattern=LABEL)]
    inputs: InputData
    mu: PositiveFloat | None = None


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole grid, and what all its runs have in common.

    Loads are `concurrency` levels, `rates`, and with `diagonal` as many requests in flight as a server has
    instances. `order` blocks: each take is a block in which servers, then inputs, then loads come in an order drawn
    from `seed`, so that a drift of the machine is no effect of the grid; `sequential`: as they are listed.
    """

    model: str
    servers: tuple[Server, ...]
    inputs: tuple[InputSet, ...]
    concurrency: tuple[Positive, ...] = ()
    rates: tuple[PositiveFloat, ...] = ()
    diagonal: bool = False
    takes: Positive = 1
    stopping: Stopping = ByPrecision()
    order: Literal["blocks", "sequential"] = "blocks"
    arrivals: Arrivals = "poisson"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    version: str = ""
    headers: dict[str, str] = {}
    metrics_headers: dict[str, str] = {}
    tls: Tls | None = None
    transport: TransportName = "auto"
    connections: Positive = 1
    keepalive_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    workers: Positive = 1
    deadline_ms: Positive = 300_000
    metrics_interval_ms: Positive = 1000
    slo: str = ""
    answers: Answers = "none"
    percents: tuple[PositiveFloat, ...] = ()
    compression: Literal["none", "gzip", "deflate"] = "none"
    batch: Positive = 1
    nvml: Literal["auto", "on", "off"] = "auto"
    prometheus: Prometheus | None = None
    replicas: Annotated[int, msgspec.Meta(ge=0)] = 0
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """Points measured one after the other in one run: a take of one server and one set of inputs."""

    take: int
    server: Server
    inputs: InputSet
    loads: tuple[Load, ...]

    @property
    def labels(self) -> dict[str, str]:
        """What a run of it is a part of."""
        gpus = self.server.gpus
        known = {
            "take": self.take,
            "server": self.server.label,
            "instances": self.server.instances,
            "gpus": len(gpus) if isinstance(gpus, tuple) else gpus,
            "inputs": self.inputs.label,
            "mu": f"{self.inputs.mu:g}" if self.inputs.mu is not None else None,
        }
        return {name: str(value) for name, value in known.items() if value is not None}


Cell = tuple[int, str, str, Load]
"""One point of the grid: take, server's label, inputs' label, load."""


def loads_of(study: Study, server: Server) -> tuple[Load, ...]:
    """Return the loads that a server is measured at, each once."""
    levels = [*study.concurrency, *([server.slots] if study.diagonal and server.slots else [])]
    closed = [ClosedLoop(level) for level in sorted(set(levels))]
    return (*closed, *(OpenLoop(rate, study.arrivals) for rate in study.rates))


def stretches(study: Study) -> Iterator[Stretch]:
    """Yield the whole grid in the order to measure; the same seed gives the same order."""
    for take in range(1, study.takes + 1):
        drawn = np.random.default_rng([study.seed, take]) if study.order == "blocks" else None
        for server in _ordered(study.servers, drawn):
            for inputs in _ordered(study.inputs, drawn):
                yield Stretch(take, server, inputs, tuple(_ordered(loads_of(study, server), drawn)))


def _ordered(items: Sequence[Item], drawn: np.random.Generator | None) -> list[Item]:
    return list(items) if drawn is None else [items[place] for place in drawn.permutation(len(items))]


def cells(study: Study) -> list[Cell]:
    """Return every point of the grid in the order to measure."""
    return [cell for stretch in stretches(study) for cell in cells_of(stretch)]


def cells_of(stretch: Stretch) -> list[Cell]:
    """Return the points of a stretch."""
    return [(stretch.take, stretch.server.label, stretch.inputs.label, load) for load in stretch.loads]


def left(study: Study, done: set[Cell]) -> Iterator[Stretch]:
    """Yield what is left to measure, in order: stretches without the points that are done."""
    for stretch in stretches(study):
        loads = tuple(load for cell, load in zip(cells_of(stretch), stretch.loads, strict=True) if cell not in done)
        if loads:
            yield Stretch(stretch.take, stretch.server, stretch.inputs, loads)


def written(study: Study) -> Study:
    """Return the study as it is kept in its folder: without secrets."""
    return msgspec.structs.replace(
        study,
        headers=masked_headers(study.headers),
        metrics_headers=masked_headers(study.metrics_headers),
        prometheus=masked_prometheus(study.prometheus),
    )


def checked(study: Study) -> Study:
    """Return the study after checking it.

    Raises:
        PlanError: a field is of the wrong type, nothing is to be measured, or two parts have one name.
    """
    found = from_json(msgspec.json.encode(study), "the study")
    if not found.servers or not found.inputs:
        raise PlanError("the study has no server or no inputs; give at least one of each")
    for what, labels in (("servers", [s.label for s in found.servers]), ("inputs", [i.label for i in found.inputs])):
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise PlanError(f"{what}: two are called {twice}; a grid needs a name for each")
    for server in found.servers:
        if not loads_of(found, server):
            raise PlanError(
                f"{server.label}: has no load; give concurrencies, rates, or say how many instances it has"
            )
    return found


def to_json(study: Study) -> bytes:
    """Return the study as indented JSON; `from_json` gives back an equal one."""
    return msgspec.json.format(msgspec.json.encode(study), indent=2) + b"\n"


def from_json(text: bytes, origin: str) -> Study:
    """Read a study; `origin` names the file in the message.

    Raises:
        PlanError: not JSON, or a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        return msgspec.json.decode(text, type=Study)
    except msgspec.MsgspecError as error:
        raise PlanError(f"{origin}: {error}") from error
