"""The command `report`: a single run's page, or one page of several runs, a study or other tools' files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from loadgen.errors import PlanError

REPORT = "report.html"


def report(  # noqa: PLR0913 - one parameter an option
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|STUDY|FILE...", help="Sealed runs, folders of runs, a study, perf_analyzer's files."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page; FOLDER/report.html of a single folder.")
    ] = None,
    *,
    standalone: Annotated[
        list[Path] | None,
        typer.Option("--standalone", help="Logs of traccc's own programs to show beside; repeatable."),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write every chart as PNG.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write every chart as SVG.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write every chart as PDF.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write the tables as CSV; of a single run points.csv as perf_analyzer does.")
    ] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the tables as Parquet.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write the tables as Markdown.")] = False,
    images_to: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; `charts` beside the page if not given.")
    ] = None,
    tables_to: Annotated[
        Path | None, typer.Option(help="Folder for the tables; `tables` beside the page if not given.")
    ] = None,
) -> None:
    """Write a report: one HTML file that needs nothing but itself. Exits with 2 where there is nothing to report."""
    from analysis import reports  # noqa: PLC0415 - charts and tables load only when they are needed

    page = output or default_page(sources)
    pictures = [name for name, asked in (("png", png), ("svg", svg), ("pdf", pdf)) if asked]
    tables = [name for name, asked in (("csv", csv), ("parquet", parquet), ("markdown", markdown)) if asked]
    images, folder = images_to or page.parent / "charts", tables_to or page.parent / "tables"
    if reports.is_one_run(sources) and not standalone:
        written = _one_run(sources[0], page, images_to or sources[0] / "charts", pictures, csv=csv)
        tables = [name for name in tables if name != "csv"]
        if tables:
            written += _tables(sources, folder, tables)
    else:
        written = _several(sources, standalone or [], page, (images, pictures), (folder, tables))
    for path in written:
        typer.echo(path)


def default_page(sources: Sequence[Path]) -> Path:
    """Return where the page goes if that is not said.

    Raises:
        PlanError: a source is of no known kind, or there is no one folder that the page could belong to.
    """
    from analysis.kinds import kind_of  # noqa: PLC0415

    for source in sources:
        kind_of(source)
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0] / REPORT
    raise PlanError(
        f"{', '.join(map(str, sources))}: is no single folder to put the page in; say where with -o OUT.html"
    )


def _one_run(run: Path, page: Path, images: Path, pictures: Sequence[str], *, csv: bool) -> list[Path]:
    from analysis.figures import write_images  # noqa: PLC0415
    from analysis.perf_analyzer import write_csv  # noqa: PLC0415
    from analysis.report import write_report  # noqa: PLC0415
    from analysis.runs import open_run  # noqa: PLC0415

    written = [write_report(run, page)]
    opened = open_run(run)
    written += write_images(opened, images, pictures) if pictures else []
    return [*written, write_csv(opened, run / "points.csv")] if csv else written


def _tables(sources: Sequence[Path], folder: Path, formats: Sequence[str]) -> list[Path]:
    from analysis import reports  # noqa: PLC0415
    from analysis.reports import exports  # noqa: PLC0415

    return exports.write_tables(reports.content(reports.gather(sources)), folder, formats)


def _several(
    sources: Sequence[Path],
    standalone: Sequence[Path],
    page: Path,
    pictures: tuple[Path, Sequence[str]],
    tables: tuple[Path, Sequence[str]],
) -> list[Path]:
    from analysis import reports  # noqa: PLC0415
    from analysis.reports import exports  # noqa: PLC0415
    from loadgen import atomic  # noqa: PLC0415

    gathered = reports.gather(sources, standalone)
    shown = reports.content(gathered)
    written = [atomic.write(page, reports.page(gathered, shown).encode())]
    written += exports.write_pictures(shown, *pictures) if pictures[1] else []
    return written + (exports.write_tables(shown, *tables) if tables[1] else [])
