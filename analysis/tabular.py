"""What a table on the page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table on the page: heading, unit below it, and whether it is words or a figure."""

    name: str
    unit: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table on the page, as text; a row's note, where not empty, stands below it."""

    columns: list[Column]
    rows: list[list[str]]
    notes: Sequence[str] = ()
