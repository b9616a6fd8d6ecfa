"""The drop-in: perf_analyzer's command line, carried out by us. `python -m loadgen perf-analyzer ARGUMENTS`.

The console script `perf_analyzer-loadgen` may be put on PATH under the name `perf_analyzer`.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen import environment
from loadgen.dropin import options
from loadgen.dropin.options import Asked
from loadgen.dropin.table import INPUT, LOAD, MEASUREMENT, REPORT, SECURITY, SHORT, TARGET, Option
from loadgen.dropin.translate import limit_of, plan_of, range_of
from loadgen.errors import LoadgenError
from loadgen.plan import Plan
from loadgen.windows import Status

NOT_STABLE, NOTHING_ENDED, FAILED = 2, 3, 99
UNSTABLE: tuple[Status, ...] = ("unstable", "unstable_over_limit")
RUNS_VARIABLE = "LOADGEN_RUNS"
PARTS = {
    "target": TARGET,
    "load": LOAD,
    "measurement": MEASUREMENT,
    "input": INPUT,
    "TLS": SECURITY,
    "report": REPORT,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the exit code is perf_analyzer's."""
    try:
        sys.exit(run(sys.argv[1:] if arguments is None else arguments))
    except LoadgenError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(FAILED)


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return its exit code.

    Raises:
        LoadgenError: it cannot be carried out.
    """
    asked = options.parse(arguments)
    if asked.version:
        sys.stderr.write(f"Perf Analyzer Version of loadgen {environment.version()}\n")
        return 0
    if asked.help:
        sys.stdout.write("\n".join(usage()) + "\n")
        return 0
    plan = plan_of(asked)
    if asked.concurrency_range and not range_of(asked).end:
        limit = f"{limit_of(asked):g}"
        sys.stderr.write(f"WARNING: The maximum attainable concurrency will be limited to {limit} (--max-threads).\n")
    return _carry_out(asked, plan)


def _carry_out(asked: Asked, plan: Plan) -> int:
    from analysis import perf_profile  # noqa: PLC0415 - tables load only when they are needed
    from loadgen import api  # noqa: PLC0415
    from loadgen.dropin.printer import Printer  # noqa: PLC0415

    printer = Printer(asked, sys.stdout)
    root = Path(asked.runs or os.environ.get(RUNS_VARIABLE) or "runs")
    sealed = asyncio.run(api.carry_out(plan, root, printer))
    if asked.profile_export:
        perf_profile.write(sealed, Path(asked.profile_export))
    first = printer.statuses[0] if printer.statuses else None
    if first in UNSTABLE:
        sys.stderr.write("Failed to obtain stable measurement.\n")
        return NOT_STABLE
    if first == "empty":
        return FAILED if printer.failed else NOTHING_ENDED
    return 0


def usage() -> list[str]:
    """Return the options, a line each."""
    lines = [
        "Usage: perf_analyzer -m MODEL [options]",
        "perf_analyzer's options, carried out by loadgen; any unique beginning of a name will do.",
    ]
    for title, part in PARTS.items():
        lines += ["", f"{title}:", *(_usage_line(name, option) for name, option in part.items() if option.about)]
    return lines


def _usage_line(name: str, option: Option) -> str:
    shorts = [f"-{letter}" for letter, long in SHORT.items() if long == name and letter.isalpha()]
    shown = ", ".join([*shorts, f"-{name}" if len(name) == 1 else f"--{name}"])
    return f"  {shown + (' VALUE' if option.takes_value else ''):<48} {option.about}"


if __name__ == "__main__":
    main()
