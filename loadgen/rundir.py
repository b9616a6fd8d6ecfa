"""The run directory: every path in it, its log as it happens, and files that appear whole or not at all."""

import fcntl
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from loadgen import atomic, clock
from loadgen.errors import PlanError

OWN_SOURCE = "loadgen"
"""Of samples of our own process."""


class Sample(msgspec.Struct, frozen=True):
    """One figure at one time; `labels` is a JSON object with sorted keys."""

    at_ns: int
    source: str
    metric: str
    labels: str
    value: float


class Manifest(msgspec.Struct, frozen=True):
    """Written last, by rename: a directory that has one is whole."""

    name: str
    started_utc_ns: int
    started_at_ns: int
    ended_at_ns: int
    ended: str
    reason: str
    points: int
    rows: int
    samples: int
    loadgen_version: str
    format: int = 1


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names of everything inside one run's folder."""

    path: Path

    @property
    def plan(self) -> Path:
        """The Plan, as JSON."""
        return self.path / "plan.json"

    @property
    def environment(self) -> Path:
        """Host, versions, command line."""
        return self.path / "environment.json"

    @property
    def corpus(self) -> Path:
        """The requests' bytes, while the run lasts."""
        return self.path / "corpus.bin"

    @property
    def corpus_index(self) -> Path:
        """What each body of the corpus was."""
        return self.path / "corpus.json"

    @property
    def log(self) -> Path:
        """Events, one a line."""
        return self.path / "log.jsonl"

    @property
    def journal(self) -> Path:
        """Folder of the journal's segments."""
        return self.path / "journal"

    @property
    def samples_log(self) -> Path:
        """Samples as they come."""
        return self.path / "samples.jsonl"

    def worker_errors(self, number: int) -> Path:
        """What a worker process wrote to stderr."""
        return self.path / (f"worker-{number}.stderr" if number else "worker.stderr")

    @property
    def records(self) -> Path:
        """Folder of the sealed rows."""
        return self.path / "records"

    @property
    def answers(self) -> Path:
        """Folder of what was kept of the answers."""
        return self.path / "answers"

    @property
    def samples(self) -> Path:
        """The sealed samples."""
        return self.path / "samples.parquet"

    @property
    def points(self) -> Path:
        """One row a measured point."""
        return self.path / "points.parquet"

    @property
    def models(self) -> Path:
        """One row a measured point and model, where several models share the load."""
        return self.path / "models.parquet"

    @property
    def composing(self) -> Path:
        """One row a point and model that the served one calls."""
        return self.path / "composing.parquet"

    @property
    def prometheus(self) -> Path:
        """What a Prometheus server says of every window."""
        return self.path / "prometheus.parquet"

    @property
    def replicas(self) -> Path:
        """One row a point and replica: its share of the requests."""
        return self.path / "replicas.parquet"

    @property
    def points_csv(self) -> Path:
        """The points in perf_analyzer's CSV format."""
        return self.path / "points.csv"

    @property
    def search(self) -> Path:
        """The answer of a search."""
        return self.path / "search.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        """The mark of a whole run."""
        return self.path / "manifest.json"


def create(root: Path, name: str) -> RunDirectory:
    """Make `root/<UTC>-<name>/` with its journal folder; a number is added if the name is taken.

    Raises:
        PlanError: the folder cannot be made.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.utc_ns() / clock.NS_PER_S))
    safe_name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    number = 1
    while True:
        path = root / (f"{stamp}-{safe_name}" if number == 1 else f"{stamp}-{safe_name}-{number}")
        try:
            path.mkdir(parents=True)
            (path / "journal").mkdir()
        except FileExistsError:
            if not path.is_dir():
                raise PlanError(f"{root}: is not a folder; name another with --output") from None
            number += 1
        except OSError as error:
            raise PlanError(f"{path}: cannot make it: {error.strerror}; name another folder with --output") from error
        else:
            return RunDirectory(path)


class EventLog:
    """Appends events and samples to a run's JSON-lines files, each line flushed as it is written."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._events = self._append_to(directory.log)
        fcntl.flock(self._events, fcntl.LOCK_EX)  # tells `seal` that this run is alive; ends with the process
        self._samples = self._append_to(directory.samples_log)

    def event(self, event: str, at_ns: int | None = None, **fields: object) -> None:
        """Append one event, stamped `at_ns` or now.

        Raises:
            FleetError: the disk refuses it.
        """
        line = {"at_ns": clock.now_ns() if at_ns is None else at_ns, "event": event, **fields}
        self._append(self._events, msgspec.json.encode(line) + b"\n", self._directory.log)

    def samples(self, samples: Iterable[Sample]) -> None:
        """Append samples.

        Raises:
            FleetError: the disk refuses them.
        """
        lines = b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples)
        self._append(self._samples, lines, self._directory.samples_log)

    def close(self) -> None:
        """Close both files."""
        self._events.close()
        self._samples.close()

    @staticmethod
    def _append_to(path: Path) -> IO[bytes]:
        try:
            return path.open("ab", buffering=0)
        except OSError as error:
            raise atomic.refusal(path, error) from error

    @staticmethod
    def _append(file: IO[bytes], lines: bytes, path: Path) -> None:
        try:
            file.write(lines)
        except OSError as error:
            raise atomic.refusal(path, error) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events of a log; a last line cut short by a crash is left out."""
    return [json.loads(line) for line in whole_lines(path)]


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a samples log; a last line cut short by a crash is left out."""
    return [msgspec.json.decode(line, type=Sample) for line in whole_lines(path)]


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that end in a newline; none if there is no such file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def canonical_labels(labels: dict[str, str]) -> str:
    """Return labels as JSON with sorted keys, so that equal labels are equal text."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def is_alive(run: RunDirectory) -> bool:
    """Say whether a process is still writing this run."""
    with run.log.open("rb") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
