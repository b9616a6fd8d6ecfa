"""Several real events laid over each other: the honest way to a higher pile-up without new simulation."""

from collections.abc import Iterable, Iterator
from itertools import islice

import polars as pl

from inputs.event import CELLS_SCHEMA, Event
from loadgen.errors import PlanError

PLACE = ("geometry_id", "channel0", "channel1")


def merged(cells: pl.DataFrame) -> pl.DataFrame:
    """Return cells with those named more than once made one: `value` summed, the rest from the first of them."""
    rest = [pl.col(name).first() for name in CELLS_SCHEMA if name not in {*PLACE, "value"}]
    joined = cells.group_by(PLACE, maintain_order=True).agg(*rest, pl.col("value").sum())
    return joined.select(list(CELLS_SCHEMA))


def overlaid(events: Iterable[Event], each: int) -> Iterator[Event]:
    """Yield the union of every `each` events, repeated cells merged, ordered by module; what is left over is dropped.

    Measurement numbers of the events are kept apart by counting on from the ones before.

    Raises:
        PlanError: there are fewer than `each` events.
    """
    waiting, made = iter(events), 0
    while len(group := list(islice(waiting, each))) == each:
        made += 1
        label = f"overlay of {each} from {group[0].label}"
        yield Event(label, _union([event.cells for event in group]), sum(event.dropped_cells for event in group))
    if made == 0:
        raise PlanError(f"overlay of {each}: there are only {len(group)} events")


def _union(parts: list[pl.DataFrame]) -> pl.DataFrame:
    shifted, first = [], 0
    for part in parts:
        shifted.append(part.with_columns(pl.col("measurement_id") + pl.lit(first, pl.UInt64)))
        highest = part["measurement_id"].max()
        first += int(highest) + 1 if isinstance(highest, int) else 0
    return merged(pl.concat(shifted)).sort("geometry_id", "measurement_id", maintain_order=True)
