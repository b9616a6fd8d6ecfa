"""`python -m analysis answers`: did answers stay alike under load, and are their tracks those of a standalone run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import altair as alt
import numpy as np
import numpy.typing as npt
import typer

from analysis import theme
from analysis.answers import histogram, reference, ways
from analysis.answers.histogram import CHI2_NDF, SERVICE, STANDALONE, TRACKS
from analysis.figures import FORMATS, picture
from analysis.readable import counted
from analysis.runs import Run, open_run
from loadgen import atomic
from loadgen.errors import PlanError
from loadgen.tracks import Found

SIMULATED = "SIMULATED: not a physics figure."
Floats = npt.NDArray[np.float64]
Charts: TypeAlias = dict[str, alt.VConcatChart]


def answers(  # noqa: PLR0913 - one parameter an option
    run: Annotated[Path, typer.Argument(help="A sealed run directory, of a sweep with --answers digest or decode.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER|FILE", help=f"A standalone run's {reference.KNOWN}; repeatable."),
    ] = None,
    images_to: Annotated[Path | None, typer.Option(help="Folder for the pictures; RUN/charts if not given.")] = None,
    *,
    png: Annotated[bool, typer.Option("--png", help="Write the histograms as PNG.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write the histograms as SVG.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write the histograms as PDF.")] = False,
) -> None:
    """Say whether every event was answered alike under load, and compare its tracks with a standalone run's."""
    opened = open_run(run)
    other = reference.read(against) if against else None
    found = ways.read(opened)
    if _simulated(opened):
        typer.echo(SIMULATED)
    for line in (*ways.sentences(found), "", *ways.lines(found)):
        typer.echo(line)
    typer.echo(_decoded(found.first))
    formats = [name for name, asked in zip(FORMATS, (png, svg, pdf), strict=True) if asked]
    if not formats and other is None:
        return
    charts = drawn(opened, found.first, other)
    if not charts:
        raise PlanError(f"{run}: has no decoded track to draw; sweep with --answers decode")
    folder = images_to or run / "charts"
    for path in _written(charts, folder, formats or ["png"]):
        typer.echo(path)


def drawn(run: Run, first: Mapping[int, Found], other: reference.Tracks | None) -> Charts:
    """Return the histograms that have entries of the service, by name.

    Each event counts once, however often it was answered: repeats of one answer tell nothing new, and would make the
    bars too short.
    """
    counts = np.array([found.tracks for found in first.values() if found.tracks is not None], dtype=np.float64)
    chi2 = np.concatenate([np.empty(0), *(found.chi2 for found in first.values())])
    ndf = np.concatenate([np.empty(0), *(found.ndf for found in first.values())])
    ratio, left_out = reference.ratios(chi2, ndf)
    words = _subject(run, left_out + (other.left_out if other else 0))
    scale = counts.size / other.tracks.size if other and other.tracks is not None and other.tracks.size else 1.0
    scale = scale or 1.0
    wanted = (
        ("chi2_ndf", CHI2_NDF, ratio, other.chi2_ndf if other else None),
        ("tracks", TRACKS, counts, other.tracks if other else None),
    )
    charts: Charts = {}
    for name, quantity, values, others in wanted:
        sides = {SERVICE: values} | ({STANDALONE: others} if others is not None else {})
        if values.size and (chart := histogram.chart(quantity, sides, words, scale)) is not None:
            charts[name] = chart
    return charts


def _written(charts: Charts, folder: Path, formats: Sequence[str]) -> list[Path]:
    atomic.make_folder(folder)
    return [
        atomic.write(folder / f"{name}.{kind}", picture(theme.specification(chart), kind))
        for name, chart in charts.items()
        for kind in formats
    ]


def _decoded(first: Mapping[int, Found]) -> str:
    if not first:
        return "No answer was kept whole: no tracks are known (`--answers decode` keeps some)."
    known = [found.tracks for found in first.values() if found.tracks is not None]
    reasons = dict.fromkeys(found.reason for found in first.values() if found.reason)
    words = f"Tracks: {sum(known):,} in {counted(len(known), 'event')} of {len(first)} decoded"
    return f"{words}. {'; '.join(reasons)}".rstrip(". ") + "."


def _simulated(run: Run) -> bool:
    return bool(run.points()["simulated"].any())


def _subject(run: Run, left_out: int) -> list[str]:
    points = run.points()
    if points.is_empty():
        return []
    row = points.row(0, named=True)
    words = [f"{row['model']} on {row['server']}", str(row["inputs"]), "each event counted once"]
    if left_out:
        words.append(f"{counted(left_out, 'track')} without a finite chi2/ndf left out")
    return [*([SIMULATED] if _simulated(run) else []), *words]
