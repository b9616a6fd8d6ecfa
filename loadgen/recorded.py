"""Metrics pages kept in files, from a browser, curl or a log: what is on them, without any server."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadgen.errors import PlanError
from loadgen.gpus import COLUMNS, ENERGY, FIGURES, SOURCES, gpu_of, is_dead
from loadgen.rundir import Sample
from loadgen.server.metrics import parse_page

FIGURE_LINE = re.compile(r"[a-zA-Z_:][\w:]*\s*(\{.*\})?\s+[-+]?[\w.+-]+(\s+-?\d+)?\s*")
HEADINGS = ("Page", "GPUs", "Metrics", "Figures", "Of GPUs", "Remarks")


@dataclass(frozen=True, slots=True)
class Contents:
    """What one page holds: uuids of GPUs, `columns` of their figures and whose they are, what is odd about it."""

    page: str
    gpus: tuple[str, ...]
    metrics: int
    figures: int
    columns: tuple[str, ...]
    collectors: tuple[str, ...]
    remarks: tuple[str, ...]


def contents(path: Path) -> Contents:
    """Read a recorded page; lines of it that are no figures are left out and counted.

    Raises:
        PlanError: the file cannot be read, or holds no figure.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}") from error
    samples, left_out = parse_recorded(text)
    if not samples:
        raise PlanError(f"{path}: holds no figure in Prometheus text")
    found = of_gpus(samples)
    known = {FIGURES[metric].column: FIGURES[metric].source for each in found.values() for metric in each}
    return Contents(
        path.name,
        tuple(found),
        len({sample.metric for sample in samples}),
        len(samples),
        tuple(column for column in (*COLUMNS, ENERGY) if column in known),
        tuple(source for source in SOURCES if source in known.values()),
        tuple(_remarks(found, left_out)),
    )


def parse_recorded(text: str) -> tuple[list[Sample], int]:
    """Return the figures of a page that may have other lines between them, and how many such lines it has."""
    try:
        return parse_page(text, 0), 0
    except ValueError:
        lines = text.splitlines()
        samples, left_out = [], 0
        kept = [line for line in lines if not line.strip() or line.startswith("#") or FIGURE_LINE.fullmatch(line)]
        try:
            return parse_page("\n".join(kept), 0), len(lines) - len(kept)
        except ValueError:  # one of them only looks like a figure: a line at a time, then
            for line in kept:
                try:
                    samples += parse_page(line, 0)
                except ValueError:
                    left_out += 1
            return samples, left_out + len(lines) - len(kept)


def of_gpus(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Return, by GPU, the metrics that are understood, each with its value in our units."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        gpu = gpu_of(sample.metric, json.loads(sample.labels))
        if gpu is not None:
            found.setdefault(gpu, {})[sample.metric] = sample.value * FIGURES[sample.metric].factor
    return found


def dead_gpus(found: dict[str, dict[str, float]]) -> list[str]:
    """Return the GPUs of which a page gives nothing but zeros."""
    columns = {gpu: {FIGURES[name].column: value for name, value in each.items()} for gpu, each in found.items()}
    return [gpu for gpu, each in columns.items() if is_dead(each, gpu)]


def _remarks(found: dict[str, dict[str, float]], left_out: int) -> list[str]:
    dead = dead_gpus(found)
    still = [
        gpu
        for gpu, each in found.items()
        if gpu not in dead and any(FIGURES[name].column == ENERGY and not value for name, value in each.items())
    ]
    remarks = [f"{left_out} lines are no figures"] if left_out else []
    remarks += [f"every gauge is 0: {', '.join(dead)}"] if dead else []
    return remarks + ([f"energy counter at 0: {', '.join(still)}"] if still else [])


def table(pages: Sequence[Contents]) -> list[str]:
    """Return a table as lines of text, one page each."""
    rows = [HEADINGS, *map(_row, pages)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(of: Contents) -> tuple[str, ...]:
    columns = f"{', '.join(of.columns)} ({', '.join(of.collectors)})" if of.columns else "none"
    return (of.page, str(len(of.gpus)), str(of.metrics), str(of.figures), columns, "; ".join(of.remarks))
