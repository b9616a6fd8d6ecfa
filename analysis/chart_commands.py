"""Commands that draw named charts: `chart` and `charts`."""

from pathlib import Path
from typing import Annotated

import typer


def chart(  # noqa: PLR0913 - one parameter an option
    name: Annotated[str, typer.Argument(help="Which chart; `python -m analysis charts` lists them.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Run directories, studies, perf_analyzer's files, traccc logs, folders of them, tables; LABEL=PATH.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture: .png, .svg, .pdf, .html or .json.")],
    *,
    theme: Annotated[str, typer.Option(help="light or dark.")] = "light",
    size: Annotated[str, typer.Option(help="slide, column (of a paper) or notebook.")] = "notebook",
    hep_labels: Annotated[
        bool, typer.Option("--hep-labels", help="Axis titles at the ends of their axes, as in high-energy physics.")
    ] = False,
) -> None:
    """Draw one named chart of runs, studies and other tools' files.

    For example: `chart scaling runs/RUN -o scaling.pdf --size column`
    """
    from analysis import drawing  # noqa: PLC0415 - the charts load only when one is drawn

    typer.echo(drawing.write_chart(name, sources, output, look=theme, size=size, hep_labels=hep_labels))


def charts() -> None:
    """List the named charts: name, number in the studies, what they show, and the tables they need."""
    from analysis import drawing  # noqa: PLC0415

    typer.echo("\n".join(drawing.listed()))
