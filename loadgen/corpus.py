"""Requests serialised once, in one memory-mapped file: no tensor is touched while load is running."""

import hashlib
import mmap
from collections.abc import Iterable, Iterator
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


class Index(msgspec.Struct, frozen=True):
    """What a corpus holds; kept with the results when the bytes are gone."""

    source: str
    synthetic: bool
    provenance: dict[str, object]
    sha256: str
    bodies: tuple[Body, ...]


def write(
    path: Path,
    requests: Iterable[tuple[str, int | None, bytes]],
    source: str,
    provenance: dict[str, object],
    *,
    synthetic: bool,
) -> Index:
    """Write (label, cells, message bytes) of each request to `path` and return the index.

    Raises:
        PlanError: there is no request.
        FleetError: the disk refuses the file.
    """
    digest, bodies, offset = hashlib.sha256(), [], 0
    try:
        with path.open("wb") as file:
            for label, cells, message in requests:
                file.write(message)
                digest.update(message)
                bodies.append(Body(label, cells, offset, len(message)))
                offset += len(message)
    except OSError as error:
        raise atomic.refusal(path, error) from error
    if not bodies:
        raise PlanError(f"{source}: holds no event; nothing to send")
    return Index(source, synthetic, provenance, digest.hexdigest(), tuple(bodies))


def load(path: Path, index: Index) -> list[bytes]:
    """Return the messages as bytes objects, which is what gRPC takes: one copy for the life of the process."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return [mapped[body.offset_bytes : body.offset_bytes + body.size_bytes] for body in index.bodies]


def passes(bodies: int, seed: int) -> Iterator[int]:
    """Yield body numbers for ever: each pass uses every body once, in an order drawn from `seed`."""
    generator = np.random.default_rng(seed)
    while True:
        yield from map(int, generator.permutation(bodies))
