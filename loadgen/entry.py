"""How every command line of ours ends: a known failure is one line on stderr and its exit code."""

import sys
from collections.abc import Callable

from loadgen.errors import LoadgenError


def enter(command: Callable[[], object]) -> None:
    """Run a command line; an expected failure ends the process with its exit code and no traceback."""
    try:
        command()
    except LoadgenError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
