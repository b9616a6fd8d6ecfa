"""`python -m analysis compare A B [C...]`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from analysis.compare import Choices, between
from analysis.compare.overlay import charts
from analysis.compare.result import QUANTITIES
from analysis.compare.sides import read
from analysis.compare.written import json as as_json
from analysis.compare.written import markdown as as_markdown
from analysis.compare.written import text as as_text
from analysis.figures import picture
from loadgen import atomic
from loadgen.errors import PlanError

FORMATS = ("png", "svg")
LIMIT_CROSSED = 1
MARGIN = re.compile(r"(?:(\w+)=)?(\d+(?:\.\d+)?)\s*%")


def compare(  # noqa: PLR0913 - each is one option
    sides: Annotated[
        list[str], typer.Argument(metavar="A B [C...]", help="Runs, folders of takes, perf_analyzer's; LABEL=PATH.")
    ],
    *,
    quantity: Annotated[
        list[str] | None, typer.Option("--quantity", help="What to compare; repeatable. Else throughput and times.")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="[NAME=]2%", help="Difference that does not matter; repeatable."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", metavar="'p99_ns > 1.05x'", help="Exit with 1 if it is shown; repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 also where it cannot be told.")] = False,
    floor: Annotated[
        Path | None, typer.Option("--floor", help="Takes of one thing: their scatter counts for single takes.")
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Takes were measured in turns: compare each with its neighbour.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare also what is not of the same thing.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a comment for a pull request.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    charts_to: Annotated[
        Path | None, typer.Option("--charts", help="Folder for overlay charts, as PNG and SVG.")
    ] = None,
) -> None:
    """Compare runs by point, the first being the baseline: differences and ratios with intervals, and verdicts."""
    every, own = margins(margin or [])
    choices = Choices(
        quantities=tuple(quantity) if quantity else QUANTITIES,
        fail_if=tuple(fail_if or ()),
        strict=strict,
        anyway=anyway,
        floor=floor,
        paired=paired,
        margin=every,
        margins=own,
    )
    read_sides, notes = read(sides, anyway=anyway)
    found = between(read_sides, choices, notes)
    written = as_json(found) if json else as_markdown(found) if markdown else as_text(found)
    typer.echo(written.rstrip("\n"))
    if charts_to is not None:
        atomic.make_folder(charts_to)
        for name, spec in charts(found, read_sides).items():
            for kind in FORMATS:
                path = atomic.write(charts_to / f"{name}.{kind}", picture(spec, kind))
                typer.echo(path, err=True)
    if found.failed:
        raise typer.Exit(LIMIT_CROSSED)


def margins(texts: list[str]) -> tuple[float | None, dict[str, float]]:
    """Read margins, as shares: `3%` is of everything, `p99_ns=8%` of one quantity.

    Raises:
        PlanError: one is no percentage above 0.
    """
    found = [MARGIN.fullmatch(text) for text in texts]
    for text, one in zip(texts, found, strict=True):
        if one is None or float(one[2]) <= 0:
            raise PlanError(f"--margin {text!r}: write a percentage, as 3% or p99_ns=8%")
    parts = [(one[1], float(one[2]) / 100) for one in found if one is not None]
    every = [share for name, share in parts if name is None]
    return every[-1] if every else None, {name: share for name, share in parts if name}
