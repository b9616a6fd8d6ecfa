"""The charts and tables of a report as single files."""

from collections.abc import Sequence
from pathlib import Path

from analysis.figures import picture
from analysis.reports.page import Content
from analysis.reports.tables import Grid
from loadgen import atomic

TABLES = ("csv", "parquet", "markdown")


def write_pictures(shown: Content, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write every chart in each format (`png`, `svg`, `pdf`) as `NAME.FORMAT`; return the files.

    Raises:
        PlanError, FleetError: a file cannot be written.
    """
    atomic.make_folder(folder)
    return [
        atomic.write(folder / f"{name}.{kind}", picture(spec, kind))
        for name, spec in shown.charts.items()
        for kind in formats
    ]


def write_tables(shown: Content, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write every table in each format (`csv`, `parquet`, `markdown`); return the files.

    CSV and Parquet have the values in full, in the units of the page; Markdown what the page shows.

    Raises:
        PlanError, FleetError: a file cannot be written.
    """
    atomic.make_folder(folder)
    return [_write(grid, folder, kind) for grid in shown.tables for kind in formats]


def markdown(grid: Grid) -> str:
    """Return a table in Markdown; what would end a cell is escaped."""
    names = [f"{each.name} ({each.unit})" if each.unit else each.name for each in grid.headings]
    rules = ["---" if each.words else "---:" for each in grid.headings]
    rows = [[_plain(cell.text) for cell in row] for row in grid.rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in (names, rules, *rows))


def _plain(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
    return " ".join(escaped.split())


def _write(grid: Grid, folder: Path, kind: str) -> Path:
    path = folder / f"{grid.name}.{'md' if kind == 'markdown' else kind}"
    if kind == "markdown":
        return atomic.write(path, markdown(grid).encode())
    frame = grid.frame()
    if kind == "csv":
        return atomic.write(path, frame.write_csv().encode())
    with atomic.written_atomically(path) as file:
        frame.write_parquet(file)
    return path
