"""Carry out a plan from the command line, and end with the exit code that its points deserve."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from loadgen.plan import Plan
from loadgen.progress import Observer

NOT_STEADY, CROSSED, INTERRUPTED = 5, 6, 130


@dataclass(frozen=True, slots=True)
class Judging:
    """What makes a run end with an exit code of its own."""

    strict: bool = False
    fail_if: tuple[str, ...] = ()


def carry_out(  # noqa: PLR0913, PLR0917 - a plan, what to make of it, and where to show it
    plan: Plan, root: Path, judging: Judging, watcher: Observer, csv: str, cached: bool, dry_run: bool
) -> None:
    """Carry out a plan and exit with the code that its points deserve."""
    from loadgen import api, points, thresholds  # noqa: PLC0415 - tables and charts load only when they are needed

    limits = [thresholds.parse(text, points.SCHEMA) for text in judging.fail_if]
    if dry_run:
        for line in api.dry_run(plan):
            typer.echo(line)
        return
    sealed = asyncio.run(swept(plan, root, watcher, csv, cached=cached))
    if sealed.manifest["ended"] == "interrupted":
        raise typer.Exit(INTERRUPTED)
    unsteady, crossed = api.faults(sealed, limits)
    if plan.search is not None:
        unsteady = api.unanswered(sealed)
    for line in crossed + (unsteady if judging.strict else []):
        typer.echo(line, err=True)
    raise typer.Exit(CROSSED if crossed else NOT_STEADY if unsteady and judging.strict else 0)


async def swept(plan: Plan, root: Path, watcher: Observer, csv: str = "", *, cached: bool = True) -> Any:  # noqa: ANN401
    """Carry out a plan, and say where its report is; a CSV in perf_analyzer's format is written to `csv` too."""
    from analysis import perf_analyzer  # noqa: PLC0415
    from loadgen import api  # noqa: PLC0415

    sealed = await api.carry_out(plan, root, watcher, cached=cached)
    if csv:
        perf_analyzer.write_csv(sealed, Path(csv))
    watcher.announce(f"report: {sealed.path / 'report.html'}")
    return sealed
