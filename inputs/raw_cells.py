"""The raw form of `traccc-gpu`: one UINT8 tensor CELLS, a count and five columns, sorted as the server wants them.

u64 N, then N each of channel0 u32, channel1 u32, activation f32, time f32, module_index u32; 8 + 20 N bytes. The
module index is the server's own, so its map must be given.
"""

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from inputs.event import Event
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, Tensor, TensorMetadata

NAME = "raw"
INPUTS = (TensorMetadata("CELLS", "UINT8", (-1,)),)
COLUMNS = (
    ("channel0", pl.UInt32()),
    ("channel1", pl.UInt32()),
    ("value", pl.Float32()),
    ("timestamp", pl.Float32()),
    ("module_index", pl.UInt32()),
)
IDENTIFIER_MASK = 2**64 - 1


def encoder(module_maps: tuple[str, ...]) -> Callable[[Event], InputEvent]:
    """Return what encodes events with the server's map from geometry id to module index.

    Several maps are applied one after the other: Athena id to detray id, detray id to index.

    Raises:
        PlanError: there is no map, or one cannot be read.
    """
    if not module_maps:
        raise PlanError(
            "the model takes raw CELLS, which name modules by the server's own index: give its file "
            "(geom_id_to_module_index.json) with --module-map, after any other map that comes first"
        )
    maps = [_read(Path(path)) for path in module_maps]
    chained = reduce(_chained, maps)
    table = pl.DataFrame(
        {"geometry_id": list(chained), "module_index": list(chained.values())},
        schema={"geometry_id": pl.UInt64(), "module_index": pl.UInt32()},
    )
    return lambda event: InputEvent(
        event.label, (_tensor(event, table),), event.cells.height, dropped_cells=event.dropped_cells
    )


def _tensor(event: Event, table: pl.DataFrame) -> Tensor:
    cells = event.cells.join(table, on="geometry_id", how="left", maintain_order="left")
    unknown = cells.filter(pl.col("module_index").is_null())
    if not unknown.is_empty():
        raise PlanError(f"{event.label}: geometry_id {unknown['geometry_id'][0]} is not in the --module-map")
    ordered = cells.sort("module_index", "channel1", "channel0", maintain_order=True)
    columns = [ordered[name].cast(kind).to_numpy().tobytes() for name, kind in COLUMNS]
    content = np.uint64(cells.height).tobytes() + b"".join(columns)
    return Tensor("CELLS", "UINT8", np.frombuffer(content, np.uint8))


def _chained(first: dict[int, int], then: dict[int, int]) -> dict[int, int]:
    return {key: then[middle] for key, middle in first.items() if middle in then}


def _read(path: Path) -> dict[int, int]:
    """Read `{"<id>": number}` or lines of `<id>,<number>`; numbers decimal or 0x hexadecimal, ids signed or not."""
    try:
        text = path.read_text()
        pairs = (
            msgspec.json.decode(text, type=dict[str, int]).items()
            if path.suffix == ".json"
            else (line.split(",", 1) for line in text.splitlines() if line.strip())
        )
        return {int(key, 0) & IDENTIFIER_MASK: _whole(value) & IDENTIFIER_MASK for key, value in pairs}
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise PlanError(f"{path}: not a map from id to number: {error}") from error


def _whole(value: int | str) -> int:
    return value if isinstance(value, int) else int(value, 0)
