"""Commands between perf_analyzer's files and our tables: `import` and `export`."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from analysis import perf_export, perf_profile
from analysis.perf_analyzer import listing, load
from analysis.perf_csv import Form
from analysis.runs import open_run
from loadgen import atomic
from loadgen.errors import PlanError


def import_files(
    files: Annotated[list[Path], typer.Argument(help="CSVs, captured output, profile exports; or folders of them.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the points of all files: a .parquet or a .csv.")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(help="Write the requests of profile exports: a .parquet or a .csv.")
    ] = None,
) -> None:
    """Read perf_analyzer's files of any version into the tables of a native run, and say what in them to mistrust."""
    for path in filter(None, (output, requests)):
        _check_suffix(path)
    found, refused = load.read_all(files)
    for line in listing.lines(found) if found else ():
        typer.echo(line)
    for line in refused:
        typer.echo(f"not read: {line}", err=True)
    typer.echo(listing.total(found, len(refused)))
    if not found:
        raise typer.Exit(PlanError.exit_code)
    whole = load.together(found)
    for place, table in ((output, whole.points.lazy()), (requests, whole.requests)):
        if place is not None:
            typer.echo(_write(table, place))


def _check_suffix(path: Path) -> None:
    if path.suffix not in {".parquet", ".csv"}:
        raise PlanError(f"{path}: cannot tell the format from that name; end it in .parquet or .csv")


def _write(table: pl.LazyFrame, path: Path) -> Path:
    with atomic.written_atomically(path) as file:
        if path.suffix == ".csv":
            table.sink_csv(file)
        else:
            table.sink_parquet(file)
    return path


def export(  # noqa: PLR0913 - one parameter an option
    run: Annotated[Path, typer.Argument(help="A sealed run directory.")],
    perf_csv: Annotated[Path | None, typer.Option(help="Write perf_analyzer's CSV here.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Write perf_analyzer's profile export (JSON) here.")] = None,
    percentile: Annotated[
        int | None, typer.Option(min=1, max=99, help="As perf_analyzer's --percentile: one column more.")
    ] = None,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", help="The columns of --verbose-csv.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Its columns of GPUs too.")] = False,
    keep_unstable: Annotated[bool, typer.Option(help="Points whose windows did not agree too.")] = False,
) -> None:
    """Write a run as perf_analyzer would have: its CSV in each form, its file of every request.

    For example: `export runs/RUN --perf-csv out.csv --verbose --metrics --profile out.json`
    """
    opened = open_run(run)
    if perf_csv is None and profile is None:
        raise PlanError("export: say what to write: --perf-csv FILE, --profile FILE, or both")
    if opened.points()["simulated"].any():
        typer.echo("warning: this run is simulated, which perf_analyzer's formats cannot say", err=True)
    if perf_csv is not None:
        form = Form(verbose=verbose or metrics, metrics=metrics)
        for path in perf_export.write_csv(opened, perf_csv, form, percentile=percentile, unstable=keep_unstable):
            typer.echo(path)
    if profile is not None:
        typer.echo(perf_profile.write(opened, profile))
