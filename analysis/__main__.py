"""`python -m analysis`: reports, charts, comparisons and tables of runs, perf_analyzer's files and traccc logs."""

import typer

from analysis import chart_commands, perf_commands
from analysis.answers.command import answers
from analysis.compare.command import compare
from analysis.reports.command import report
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


app.command()(report)
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
