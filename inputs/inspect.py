"""What is in the files that somebody has in hand: events, tensors, shapes, bytes, cells."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from inputs import perf_json, traccc

ODD_BYTES_PER_CELL = 48
"""GEOMETRY_ID (8) and five FP64 FEATURES: what one cell weighs in a request of the ODD signature."""


def described(paths: Iterable[Path]) -> Iterator[str]:
    """Yield lines about each path.

    Raises:
        PlanError: a file cannot be read or is not what its name says.
    """
    for path in paths:
        yield from _json(path) if path.suffix == ".json" else _cells(path)


def _cells(path: Path) -> Iterator[str]:
    counts, repeated, unknown = [], 0, 0
    for event in traccc.read_events([path]):
        cells = event.cells
        counts.append(cells.height)
        repeated += cells.height - cells.n_unique(["geometry_id", "channel0", "channel1"])
        unknown += int((cells["geometry_id"] == 0).sum())
    yield f"{path}: {_counted(counts)} cells an event; {repeated} repeated, {unknown} of an unknown module"
    yield f"  as an ODD request: {_spread([count * ODD_BYTES_PER_CELL / 1e6 for count in counts], '.3g')} MB"


def _json(path: Path) -> Iterator[str]:
    shapes: dict[str, list[tuple[int, ...]]] = {}
    steps = streams = 0
    for stream, _, step in perf_json.raw_steps(path):
        steps, streams = steps + 1, max(streams, stream + 1)
        for name, shape in step.items():
            shapes.setdefault(name, []).append(shape)
    said = perf_json.provenance(path)
    yield f"{path}: {steps} steps in {streams} streams{f'; {msgspec.json.encode(said).decode()}' if said else ''}"
    for name, found in shapes.items():
        sizes = [int(np.prod(shape)) for shape in found]
        distinct = sorted(set(found))
        shown = ", ".join(str(list(shape)) for shape in distinct[:3]) + (", ..." if len(distinct) > 3 else "")  # noqa: PLR2004
        yield f"  {name}: in {len(found)} steps, {_spread(sizes, 'd')} elements; shapes {shown}"


def _counted(counts: Sequence[int]) -> str:
    return f"{len(counts)} events, {_spread(counts, 'd')}"


def _spread(values: Sequence[float], form: str) -> str:
    """Return the least, the median and the largest: `12 / 15 / 20`."""
    ordered = sorted(values)
    kept = [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
    return " / ".join(f"{value:{form}}" for value in dict.fromkeys(kept))
