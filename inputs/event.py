"""One detector event: its cells, exactly as read or made."""

from dataclasses import dataclass

import polars as pl

CELLS_SCHEMA = {
    "geometry_id": pl.UInt64(),
    "measurement_id": pl.UInt64(),
    "channel0": pl.UInt32(),
    "channel1": pl.UInt32(),
    "timestamp": pl.Float32(),
    "value": pl.Float32(),
}
"""Columns of a traccc cells CSV. Identifiers are 64-bit integers from file to wire: a float would change them."""


@dataclass(frozen=True, slots=True)
class Event:
    """A label and the cells, with the columns of `CELLS_SCHEMA`; duplicate cells are kept.

    `dropped_cells` of the file were of geometry id 0: of a module that the geometry does not know.
    """

    label: str
    cells: pl.DataFrame
    dropped_cells: int = 0
