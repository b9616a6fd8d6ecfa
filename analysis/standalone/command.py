"""`python -m analysis standalone LOGDIR`."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from analysis import standalone
from analysis.figures import picture
from analysis.readable import MISSING, counted, duration, number
from analysis.standalone.chart import pile_up
from analysis.theme import specification
from loadgen import atomic
from loadgen.errors import PlanError

SHOWN = ("file", "mu", "device", "threads", "traccc", "events", "warm", "processed", "time an event", "events/s")
SUFFIXES = (".csv", ".parquet")
Pairs = list[str] | None


def standalone_logs(  # noqa: PLR0913 - each is one option
    logs: Annotated[list[Path], typer.Argument(metavar="LOGDIR...", help="Folders of logs, or logs.")],
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.csv|OUT.parquet", help="Write the table.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Draw throughput against pile-up.")] = None,
    mu: Annotated[Pairs, typer.Option("--mu", metavar="NAME=200", help="Pile-up of files so named (*).")] = None,
    device: Annotated[Pairs, typer.Option("--device", metavar="NAME=cuda", help="Device of files so named.")] = None,
    version: Annotated[str | None, typer.Option("--traccc-version", help="Of logs that do not say it.")] = None,
    events: Annotated[
        int | None, typer.Option("--events", min=1, help="Events of sequence logs that do not say it.")
    ] = None,
) -> None:
    """Read logs of the standalone traccc programs: throughput, sequence and --log-file, one row a result."""
    given = standalone.Given(
        mu={name: _number(value, name) for name, value in _pairs("--mu", mu).items()},
        device=_pairs("--device", device),
        version=version,
        events=events,
    )
    found = standalone.read(_files(logs), given)
    typer.echo("\n".join(_aligned(found.rows)))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if output is not None:
        typer.echo(_write(found.rows, output))
    if png is not None:
        chart = pile_up(found.rows)
        if chart is None:
            raise PlanError(f"{png}: not drawn: no result has both a device and a pile-up; give --mu and --device")
        typer.echo(atomic.write(png, picture(specification(chart), "png")))


def _files(paths: list[Path]) -> list[Path]:
    files = []
    for path in paths:
        if not path.exists():
            raise PlanError(f"{path}: there is no such file or folder")
        inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        if not inside:
            raise PlanError(f"{path}: is empty; name a folder of traccc logs")
        files += [each for each in inside if path.is_file() or each.suffix in {".log", ".txt", ".csv", ".out", ""}]
    return files


def _pairs(option: str, texts: Pairs) -> dict[str, str]:
    for text in texts or []:
        if not all(text.partition("=")):
            raise PlanError(f"{option} {text!r}: write NAME=VALUE, as '*mu200*=200'")
    return dict(text.split("=", 1) for text in texts or [])


def _number(value: str, name: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise PlanError(f"--mu {name}={value}: {value!r} is no number") from None


def _write(rows: pl.DataFrame, path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise PlanError(f"{path}: end it in .csv or .parquet")
    with atomic.written_atomically(path) as file:
        if path.suffix == ".csv":
            rows.write_csv(file)
        else:
            rows.write_parquet(file)
    return path


def _aligned(rows: pl.DataFrame) -> list[str]:
    cells = [SHOWN, *(_cells(row) for row in rows.iter_rows(named=True))]
    widths = [max(len(row[place]) for row in cells) for place in range(len(SHOWN))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [*lines, counted(rows.height, "result")]


def _text(value: object) -> str:
    if value is None:
        return MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    texts = {name: _text(value) for name, value in row.items()}
    named = [Path(str(row["file"])).name, texts["mu"], texts["device"], texts["threads"]]
    version = texts["traccc_version"] if row["traccc_version"] else texts["log_style"]
    counts = [texts[name] for name in ("events", "warm", "processed")]
    figures = [duration(float(str(row["event_time_ns"]))), number(float(str(row["throughput_per_s"])))]
    return (*named, version, *counts, *figures)
