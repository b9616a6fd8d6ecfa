"""What an import found, as text: a line a file with its kind and levels, and below it what to mistrust."""

from collections.abc import Iterable, Iterator, Sequence

from analysis.perf_analyzer.tables import Imported, Suspicion
from analysis.readable import counted

HEADINGS = ("file", "kind", "levels", "requests", "warnings")


def lines(several: Sequence[Imported]) -> Iterator[str]:
    """Yield the table of files, every warning below the file that it is of."""
    cells = [HEADINGS, *(_cells(one) for one in several)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    yield _line(HEADINGS, widths)
    for one, row in zip(several, cells[1:], strict=True):
        yield _line(row, widths)
        yield from (f"    {text}" for text in _gathered(one.warnings))


def total(several: Sequence[Imported], refused: int) -> str:
    """Return the last line: `23 files, 158 levels, 41 warnings; 2 files could not be read`."""
    levels = sum(one.points.height for one in several)
    warnings = sum(len(one.warnings) for one in several)
    read = f"{counted(len(several), 'file')}, {counted(levels, 'level')}, {counted(warnings, 'warning')}"
    return f"{read}; {counted(refused, 'file')} could not be read" if refused else read


def _cells(one: Imported) -> tuple[str, ...]:
    sent = int(one.points["completed"].sum()) if one.points["completed"].is_not_null().any() else None
    rows = [one.points.height, "-" if sent is None else sent, len(one.warnings)]
    return (str(one.files[0]), one.kinds[0], *map(str, rows))


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if place > 1 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _gathered(warnings: Iterable[Suspicion]) -> Iterator[str]:
    """Yield each reason once, after the levels that it is of."""
    levels: dict[str, list[str]] = {}
    for warning in warnings:
        levels.setdefault(warning.reason, []).append(warning.level)
    for reason, of in levels.items():
        places = "; ".join(filter(None, of))
        yield f"{places}: {reason}" if places else reason
