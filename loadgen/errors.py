"""Whose fault it is: three errors with an exit code each; anything else is our bug."""


class LoadgenError(Exception):
    """An expected failure: one line saying what, where and how to mend it."""

    exit_code = 1


class PlanError(LoadgenError):
    """The plan, an option or an input file is wrong (exit code 2)."""

    exit_code = 2


class TargetError(LoadgenError):
    """The server under test is absent, not ready, or refuses to serve (exit code 3)."""

    exit_code = 3


class FleetError(LoadgenError):
    """A worker process, or the machine it runs on (disk, memory), failed (exit code 4)."""

    exit_code = 4
