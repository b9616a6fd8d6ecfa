"""Carry out a plan from the command line, and end with the exit code that its points deserve."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loadgen.errors import PlanError
from loadgen.plan import Plan
from loadgen.progress import Observer, headline
from loadgen.study_plan import Kube
from loadgen.thresholds import ALIAS, Threshold, figure

if TYPE_CHECKING:
    from analysis.runs import Run

NOT_STEADY, CROSSED, INTERRUPTED = 5, 6, 130
KUBE_LOGS = "kubectl"


@dataclass(frozen=True, slots=True)
class Judging:
    """What makes a run end with an exit code of its own."""

    strict: bool = False
    fail_if: tuple[str, ...] = ()


def carry_out(  # noqa: PLR0913, PLR0917 - a plan, what to make of it, and where to show it
    plan: Plan,
    root: Path,
    judging: Judging,
    watcher: Observer,
    csv: str,
    cached: bool,
    dry_run: bool,
    kube: Kube | None = None,
) -> None:
    """Carry out a plan and exit with the code that its points deserve."""
    from loadgen import api, points, thresholds  # noqa: PLC0415 - tables and charts load only when they are needed

    if kube is not None and plan.endpoint.http:
        raise PlanError("--kube: forwards the gRPC port; leave out -i http")
    limits = [thresholds.parse(text, points.SCHEMA) for text in judging.fail_if]
    if dry_run:
        for line in api.dry_run(plan):
            typer.echo(line)
        return
    sealed = asyncio.run(swept(plan, root, watcher, csv, cached=cached, kube=kube))
    if sealed.manifest["ended"] == "interrupted":
        raise typer.Exit(INTERRUPTED)
    unsteady, crossed = faults(sealed, limits)
    if plan.search is not None:
        unsteady = unanswered(sealed)
    for line in crossed + (unsteady if judging.strict else []):
        typer.echo(line, err=True)
    raise typer.Exit(CROSSED if crossed else NOT_STEADY if unsteady and judging.strict else 0)


async def swept(  # noqa: PLR0913 - as carry_out
    plan: Plan, root: Path, watcher: Observer, csv: str = "", *, cached: bool = True, kube: Kube | None = None
) -> "Run":
    """Carry out a plan, and say where its report is; a CSV in perf_analyzer's format is written to `csv` too.

    With `kube` its addresses are forwards to that service, which last as long as the run.
    """
    from analysis import perf_analyzer  # noqa: PLC0415
    from loadgen import api  # noqa: PLC0415

    if kube is None:
        sealed = await api.carry_out(plan, root, watcher, cached=cached)
    else:
        sealed = await _forwarded(plan, root, watcher, kube, cached=cached)
    if csv:
        perf_analyzer.write_csv(sealed, Path(csv))
    watcher.announce(f"report: {sealed.path / 'report.html'}")
    return sealed


async def _forwarded(plan: Plan, root: Path, watcher: Observer, kube: Kube, *, cached: bool) -> "Run":
    from loadgen import api, forwarding  # noqa: PLC0415

    async with forwarding.reached(kube, root / KUBE_LOGS) as server:
        try:
            plan = forwarding.aimed(plan, server, kube)
            return await api.carry_out(plan, root, watcher, cached=cached, beside=server.beside)
        finally:
            if server.release is not None:
                typer.echo(f"still installed; to free its GPUs: {server.release.uninstall}", err=True)


def kube_of(service: str, namespace: str, context: str, url: str) -> Kube | None:
    """Return the service that `--kube` names, None if it does not.

    Raises:
        PlanError: an address is given as well.
    """
    if not service:
        return None
    if url:
        raise PlanError(f"--kube {service} -u {url}: give one of the two; --kube finds its own address")
    return Kube(service, namespace, context)


def unanswered(run: "Run") -> list[str]:
    """Return why a search has no certified answer, in a line; nothing if it has."""
    answer = run.answer()
    if answer is None:
        return ["the search did not end"]
    return [] if answer["certified"] else [f"not certified: {answer['reason']}"]


def faults(run: "Run", limits: Sequence[Threshold]) -> tuple[list[str], list[str]]:
    """Return a line for each point that is not steady, and one for each limit that a point crosses.

    A limit whose quantity a point does not have counts as crossed: what is not known is not kept.
    """
    from loadgen.steady import STEADY  # noqa: PLC0415 - numpy loads only when it is needed

    unsteady, crossed = [], []
    for row in run.points().iter_rows(named=True):
        if row["verdict"] not in STEADY:
            unsteady.append(f"{row['load_words']}: {row['verdict']}: {row['reason']}")
        for limit in limits:
            is_crossed = limit.crossed(row, headline(row))
            if is_crossed is None:
                crossed.append(f"{row['load_words']}: {limit.text}: {limit.quantity} is not known")
            elif is_crossed:
                value = figure(row, limit.quantity, headline(row)) or 0.0
                crossed.append(
                    f"{row['load_words']}: {limit.text}: {limit.quantity} is {_shown(limit.quantity, value)}"
                )
    return unsteady, crossed


def _shown(quantity: str, value: float) -> str:
    from analysis.readable import duration  # noqa: PLC0415 - as above

    is_time = quantity.endswith("_ns") or ALIAS.fullmatch(quantity) is not None
    return duration(value) if is_time else f"{value:.4g}"
