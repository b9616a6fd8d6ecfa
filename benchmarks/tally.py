"""Figures of rounds -> medians with their spread, ratios paired within a round, tables and verdicts in words."""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from statistics import median

import psutil
from contestants import Figures, program

from loadgen import clock, environment

Key = tuple[str, str]
"""A case and a client, in words."""


@dataclass(slots=True)
class Tally:
    """The figures of every case and client, a place a round; None where that measurement failed."""

    rounds: dict[Key, list[Figures | None]] = field(default_factory=dict)

    def add(self, case: str, client: str, figures: Figures | None) -> None:
        """Keep one measurement."""
        self.rounds.setdefault((case, client), []).append(figures)

    def values(self, case: str, client: str, pick: Callable[[Figures], float]) -> list[float]:
        """Return one figure of each round that has it."""
        return [pick(figures) for figures in self.rounds.get((case, client), []) if figures is not None]

    def ratios(self, case: str, ours: str, theirs: str, pick: Callable[[Figures], float]) -> list[float]:
        """Return ours over theirs in each round that has both."""
        pairs = zip(self.rounds.get((case, ours), []), self.rounds.get((case, theirs), []), strict=False)
        return [pick(mine) / pick(other) for mine, other in pairs if mine is not None and other is not None]


def spread(values: Sequence[float], form: str = ".0f") -> str:
    """Return `median (lowest to highest)`."""
    if not values:
        return "not measured"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table, with an empty line behind it."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def verdict(what: str, values: Sequence[float], target: float, *, most: bool) -> str:
    """Say whether the median keeps a target (`most`: an upper limit), and in how many rounds it was kept."""
    sign = "<=" if most else ">="
    if not values:
        return f"- {what}: target {sign} {target:.2f}: **not measured**"
    kept = [value <= target if most else value >= target for value in values]
    middle = median(values)
    met = "met" if (middle <= target if most else middle >= target) else "not met"
    rounds = f"in {sum(kept)} of {len(kept)} rounds"
    return f"- {what}: {spread(values, '.2f')}, target {sign} {target:.2f}: **{met}** ({rounds})"


def conditions(rounds: int, seconds: float | None = None) -> list[str]:
    """Return what the figures depend on, as a list."""
    facts = environment.describe()
    packages = ", ".join(f"{name} {_version(name)}" for name in ("uvloop", "grpcio", "protobuf", "numpy"))
    h2load = subprocess.run([program("h2load", "nghttp2-client"), "--version"], capture_output=True, text=True)  # noqa: PLW1510
    day = time.strftime("%Y-%m-%d", time.gmtime(clock.utc_ns() / clock.NS_PER_S))
    memory_gb = psutil.virtual_memory().total / 1e9
    commit = str(facts["git_commit"] or "no commit")[:12]
    machine = f"{facts['processor']}, {facts['cores_usable']} cores usable, {memory_gb:.0f} GB"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    windows = f", windows of {seconds:g} s" if seconds else ""
    return [
        f"- {day}, {machine}, {system}",
        f"- loadgen {environment.version()} at {commit}, {packages}; perf_analyzer 2.49; {h2load.stdout.strip()}",
        f"- {rounds} rounds{windows}; clients and servers share the cores; load average before the",
        f"  run {os.getloadavg()[1]:.1f}. Figures are medians of the rounds (lowest to highest), ratios of a round.",
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def say(words: str) -> None:
    """Print a line of progress at once."""
    print(re.sub(r"\s+$", "", words), flush=True, file=sys.stderr)
