"""Requests serialised once, in one memory-mapped file: no tensor is touched while load is running."""

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from loadgen import atomic
from loadgen.errors import PlanError


class Body(msgspec.Struct, frozen=True):
    """One request of the corpus: where its bytes lie, and what they stand for."""

    label: str
    cells: int | None
    offset_bytes: int
    size_bytes: int
    stream: int = 0
    step: int = 0
    answer: dict[str, str] = {}
    """Output -> sha256 of the raw content that the model must answer; empty where any answer is right."""

    model: str = ""
    """Which of several models it is for; empty where there is one."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to keep: its message, and what `Body` says of it."""

    label: str
    message: bytes
    cells: int | None = None
    stream: int = 0
    step: int = 0
    answer: Mapping[str, str] = field(default_factory=dict)


class Index(msgspec.Struct, frozen=True):
    """What a corpus holds; kept with the results when the bytes are gone."""

    source: str
    synthetic: bool
    provenance: dict[str, object]
    sha256: str
    bodies: tuple[Body, ...]
    made_for: str = ""
    """Model, version, inputs and batch in words: a corpus serves no other."""

    dropped_cells: int = 0
    """Cells of the files that were left out because no module is known for them."""


def write(
    path: Path,
    requests: Iterable[Request],
    source: str,
    provenance: dict[str, object],
    *,
    synthetic: bool,
) -> Index:
    """Write the message of each request to `path` and return the index.

    Raises:
        PlanError: there is no request.
        FleetError: the disk refuses the file.
    """
    digest, bodies, offset = hashlib.sha256(), [], 0
    try:
        with path.open("wb") as file:
            for request in requests:
                size = file.write(request.message)
                digest.update(request.message)
                facts = (request.stream, request.step, dict(request.answer))
                bodies.append(Body(request.label, request.cells, offset, size, *facts))
                offset += size
    except OSError as error:
        raise atomic.refusal(path, error) from error
    if not bodies:
        raise PlanError(f"{source}: holds no event; nothing to send")
    return Index(source, synthetic, provenance, digest.hexdigest(), tuple(bodies))


def join(path: Path, parts: Mapping[str, tuple[Path, Index]]) -> Index:
    """Write the corpora of several models, by name, one after another to `path`, and return the index of the whole.

    Raises:
        FleetError: the disk refuses the file.
    """
    digest, bodies, offset = hashlib.sha256(), [], 0
    try:
        with path.open("wb") as file:
            for model, (part, index) in parts.items():
                content = part.read_bytes()
                file.write(content)
                digest.update(content)
                at = offset
                bodies += [
                    msgspec.structs.replace(body, offset_bytes=at + body.offset_bytes, model=model)
                    for body in index.bodies
                ]
                offset += len(content)
    except OSError as error:
        raise atomic.refusal(path, error) from error
    indices = {model: index for model, (_, index) in parts.items()}
    return Index(
        source="; ".join(f"{model}: {index.source}" for model, index in indices.items()),
        synthetic=any(index.synthetic for index in indices.values()),
        provenance={model: index.provenance for model, index in indices.items()},
        sha256=digest.hexdigest(),
        bodies=tuple(bodies),
        made_for="; ".join(index.made_for for index in indices.values()),
        dropped_cells=sum(index.dropped_cells for index in indices.values()),
    )


def read_index(path: Path) -> Index:
    """Read an index.

    Raises:
        OSError, msgspec.MsgspecError: it is missing or damaged.
    """
    return msgspec.json.decode(path.read_bytes(), type=Index)


def load(path: Path, index: Index) -> list[bytes]:
    """Return the messages as bytes objects, which is what gRPC takes: one copy for the life of the process."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return [mapped[body.offset_bytes : body.offset_bytes + body.size_bytes] for body in index.bodies]


def views(path: Path, index: Index) -> list[memoryview]:
    """Return the messages as views of the file, which is mapped for the life of the process: no copy at all."""
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [mapped[body.offset_bytes : body.offset_bytes + body.size_bytes] for body in index.bodies]


def streams(index: Index) -> list[list[int]]:
    """Return the bodies of each stream, in the order of their steps."""
    found: dict[int, list[int]] = {}
    for number, body in enumerate(index.bodies):
        found.setdefault(body.stream, []).append(number)
    return list(found.values())


def mixed(groups: Sequence[int], weights: Sequence[float], seed: int, order: str = "shuffle") -> Iterator[int]:
    """Yield body numbers for ever, each of a group drawn with chances in proportion to `weights`.

    `groups` are numbers of bodies that follow each other in the corpus; within a group the order is that of `passes`.
    """
    starts = [sum(groups[:number]) for number in range(len(groups))]
    walks = [passes(bodies, seed, order) for bodies in groups]
    for group in passes(len(groups), seed, "random", weights):
        yield starts[group] + next(walks[group])


def passes(bodies: int, seed: int, order: str = "shuffle", weights: Sequence[float] = ()) -> Iterator[int]:
    """Yield body numbers for ever.

    `shuffle`: each pass uses every body once, in an order drawn from `seed`; `sequential`: in the order of the file;
    `random`: each is drawn anew, with chances in proportion to `weights` where they are given.
    """
    generator = np.random.default_rng(seed)
    if weights:
        chances = np.array(weights) / sum(weights)
        while True:
            yield from map(int, generator.choice(bodies, bodies, p=chances))
    while True:
        match order:
            case "sequential":
                yield from range(bodies)
            case "random":
                yield from map(int, generator.integers(0, bodies, bodies))
            case _:
                yield from map(int, generator.permutation(bodies))
