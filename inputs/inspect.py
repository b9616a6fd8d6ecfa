"""What is in the files that somebody has in hand: events, tensors, shapes, bytes, cells."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from inputs import perf_json, traccc
from inputs.source import Source
from loadgen.kserve import ModelMetadata, signature_text
from loadgen.plan import Cells, PerfJson

ODD_BYTES_PER_CELL = 48
"""GEOMETRY_ID (8) and five FP64 FEATURES: what one cell weighs in a request of the ODD signature."""


def described(
    paths: Iterable[Path],
    metadata: ModelMetadata | None = None,
    encoder_name: str = "",
    module_maps: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield lines about each path; with a model's declaration, also what its requests are.

    Raises:
        PlanError: a file cannot be read, is not what its name says, or does not fit the model.
    """
    for path in paths:
        is_json = path.suffix == ".json"
        if path.is_dir() and not any(path.glob(traccc.FILE_PATTERN)) and metadata is not None:
            yield f"{path}: a folder of raw files"
            is_json = True
        else:
            yield from _json(path) if is_json else _cells(path)
        if metadata is not None:
            cells = Cells((str(path),), encoder=encoder_name, module_maps=module_maps)
            data = PerfJson(cells.paths) if is_json else cells
            yield _fitted(Source(data, {"source": "unknown"}), metadata)


def _fitted(source: Source, metadata: ModelMetadata) -> str:
    sizes = [sum(tensor.data.nbytes for tensor in event.tensors) / 1e6 for event in source.events(metadata)]
    takes = signature_text(metadata.inputs)
    return f"  model {metadata.name} takes it as {takes}: {len(sizes)} requests of {_spread(sizes, '.3g')} MB"


def _cells(path: Path) -> Iterator[str]:
    counts, repeated, unknown = [], 0, 0
    for event in traccc.read_events([path]):
        cells = event.cells
        counts.append(cells.height)
        repeated += cells.height - cells.n_unique(["geometry_id", "channel0", "channel1"])
        unknown += event.dropped_cells
    yield f"{path}: {_counted(counts)} cells an event; {repeated} repeated, {unknown} of an unknown module left out"
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
    """Return minimum, p10, p50, p90 and maximum, nearest rank; less where they are equal: `12 / 15 / 20`."""
    ordered = sorted(values)
    kept = [ordered[round(share * (len(ordered) - 1))] for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
    distinct = list(dict.fromkeys(f"{value:{form}}" for value in kept))
    shown = [f"{value:{form}}" for value in kept] if len(distinct) > 1 else distinct
    return " / ".join(shown) + (" (min, p10, p50, p90, max)" if len(distinct) > 1 else "")
