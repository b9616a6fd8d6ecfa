"""`python -m analysis`: reports, charts, comparisons and tables of runs, perf_analyzer's files and traccc logs."""

from pathlib import Path
from typing import Annotated

import typer

from analysis import chart_commands, perf_commands
from analysis.answers.command import answers
from analysis.compare.command import compare
from analysis.figures import FORMATS, write_images
from analysis.perf_analyzer import write_csv
from analysis.report import write_report
from analysis.runs import open_run
from analysis.standalone.command import standalone_logs
from loadgen.entry import enter

app = typer.Typer(
    help="Make reports, comparisons, charts and tables from sealed run directories and from other tools' files.\n\n"
    "Exit codes: 0 done; 1 a bug of ours, of compare: a limit is exceeded; 2 a wrong option, file or run.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def report(  # noqa: PLR0913 - one parameter an option
    run: Annotated[Path, typer.Argument(help="A sealed run directory, as runs/20260921T134640Z-sweep.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page; RUN/report.html if not given.")
    ] = None,
    *,
    png: Annotated[bool, typer.Option("--png", help="Write every chart as PNG.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Write every chart as SVG.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write every chart as PDF.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write RUN/points.csv in perf_analyzer's verbose format.")
    ] = False,
    images_to: Annotated[Path | None, typer.Option(help="Folder for the pictures; RUN/charts if not given.")] = None,
) -> None:
    """Write a run's report: one HTML file that needs nothing but itself."""
    typer.echo(write_report(run, output or run / "report.html"))
    opened = open_run(run)
    formats = [name for name, asked in zip(FORMATS, (png, svg, pdf), strict=True) if asked]
    for path in write_images(opened, images_to or run / "charts", formats) if formats else []:
        typer.echo(path)
    if csv:
        typer.echo(write_csv(opened, run / "points.csv"))


app.command("import")(perf_commands.import_files)
app.command()(perf_commands.export)
app.command()(compare)
app.command("standalone")(standalone_logs)
app.command()(chart_commands.chart)
app.command()(chart_commands.charts)
app.command()(answers)


def main() -> None:
    """Run the command line."""
    enter(app)


if __name__ == "__main__":
    main()
