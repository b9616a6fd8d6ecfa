"""An observer of a run that says what perf_analyzer says, when it says it, and writes its CSV as levels end."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from analysis import perf_level
from analysis.perf_csv import Form, composing_texts, csv_text
from analysis.perf_level import Level, level_of
from loadgen import atomic
from loadgen.commands import Progress
from loadgen.dropin import layout
from loadgen.dropin.layout import Model
from loadgen.dropin.options import Asked
from loadgen.plan import ClosedLoop, Load
from loadgen.progress import Described, Trial
from loadgen.windows import AGREEING, MET, Status

UNMET = {
    "over_limit": "Measured latency went over the set limit of {limit} msec. ",
    "empty": layout.NOTHING_ENDED,
}


class Printer:
    """Hears a run; `levels` are those that count, `statuses` how every level ended, in order."""

    def __init__(self, asked: Asked, out: TextIO) -> None:
        self.levels: list[Level] = []
        self.statuses: list[Status] = []
        self.failed = 0
        self._told_simulated = False
        self._asked, self._out = asked, out
        self._model = Model()
        percentile = None if asked.percentile == -1 else asked.percentile
        self._figures = perf_level.Asked(percentile, asked.batch, asked.protocol == "http", asked.model)

    def announce(self, text: str) -> None:
        """Say nothing: perf_analyzer does not."""

    def warn(self, text: str) -> None:
        """Print it on stderr."""
        _complain(f"warning: {text}")

    def described(self, news: Described) -> None:
        """Print the settings."""
        metadata, cache = news.metadata, news.config.get("response_cache")
        self._model = Model(
            decoupled=metadata.decoupled,
            keeps_state=metadata.sequence,
            cache=isinstance(cache, dict) and bool(cache.get("enable")),
            streams=news.streams,
            requests=news.requests,
        )
        steps = news.last_steps if metadata.sequence else None
        self._figures = replace(self._figures, last_steps=steps, sequence_length=news.sequence_length)
        self._print(layout.heading(self._asked, self._model))

    def tried(self, news: Trial) -> None:
        """Print a level's heading, its windows and, once it has ended, its block."""
        if not news.edges:
            self._print(layout.level_heading(news.load))
            return
        if self._asked.verbose and len(news.edges) > 1:
            latest = level_of(news.load, news.rows, news.edges[-2:], self._figures)
            self._print([layout.window(len(news.edges) - 1, latest)])
        if news.status is not None:
            self._ended(news, news.status)

    def _ended(self, news: Trial, status: Status) -> None:
        level = level_of(news.load, news.rows, news.edges[-AGREEING - 1 :], self._figures, news.samples)
        self.statuses.append(status)
        self.failed += level.failed if level else int((news.rows["done_ns"] > 0).sum())
        if level is not None and level.failed:
            ended = level.failed + level.requests
            _complain(f"warning: {level.failed} of {ended} requests failed; they are in the run directory")
        if status == "throughput_only":
            _complain("Warning: Request latency is not stabilizing. Please try lowering the request rate.")
        if status in MET and level is not None:
            self._print(layout.report(level, self._asked, self._model))
        else:
            _complain(self._unmet(news.load, status))
        if level is not None and (status in MET or (self._asked.keep_unstable and status != "over_limit")):
            self.levels.append(level)
            self._write_csv()

    def _unmet(self, load: Load, status: Status) -> str:
        if status in UNMET:
            return UNMET[status].format(limit=self._asked.latency_threshold_ms)
        if not isinstance(load, ClosedLoop):
            return "Failed to obtain stable measurement."
        by_time = self._asked.measurement_mode == "time_windows"
        larger = "--measurement-interval" if by_time else "--measurement-request-count"
        return (
            f"Failed to obtain stable measurement within {self._asked.max_trials} measurement windows for "
            f"concurrency {load.concurrency}. Please try to increase the {larger}."
        )

    def _write_csv(self) -> None:
        if not self._asked.csv:
            return
        path, asked = Path(self._asked.csv), self._asked
        form = Form(asked.verbose_csv, asked.collect_metrics, self._model.decoupled, self._model.cache)
        atomic.write(path, csv_text(self.levels, form).encode())
        for name, text in composing_texts(self.levels, form).items():
            atomic.write(path.with_name(f"{name}.{path.name}"), text.encode())

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Say nothing."""

    def point_started(self, load: str) -> None:
        """Say nothing."""

    def progress(self, phase: str, progress: Progress) -> None:
        """Say nothing."""

    def point_measured(self, row: dict[str, Any]) -> None:
        """Say once, on stderr, that figures are no physics: perf_analyzer's own output has no place for it."""
        if row["simulated"] and not self._told_simulated:
            self._told_simulated = True
            _complain(f"warning: simulated, not a physics figure: {row['server']}, {row['inputs']}")

    def close(self) -> None:
        """Print the summary."""
        self._print(layout.summary(self.levels))

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._out.write(f"{line}\n")
        self._out.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
