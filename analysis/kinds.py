"""What a path is: a run directory, a folder, perf_analyzer's, traccc's, or, in words, what it looks like instead."""

import json
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from analysis import tables_in
from loadgen.errors import PlanError

HEAD_BYTES = 65_536
PERF_ANALYZER = re.compile(
    r"^(?:.*,)?(?:Concurrency|Request Rate),(?:.*,)?Inferences/Second|\*\*\* Measurement Settings|"
    r"Inferences/Second vs\. Client|^Request concurrency: |^Request Rate: |^\s*Concurrency: \d+, throughput:|"
    r'"experiments"\s*:',
    re.MULTILINE,
)
TRACCC = re.compile(
    r"ms/event, |Throughput(?:Example)?:|Time totals:|==>\s?(?:Statistics|Elapsed times)|ThroughputExample|"
    r"traccc_(?:throughput|seq)|^directory,threads,loaded_events|^\"[^\"\n]*\",\d+,\d+,\d+,\d+,\d+|"
    r"===>>> Event \d+ <<<===|Reconstructed track parameters",
    re.MULTILINE,
)


class Kind(Enum):
    """What can be loaded."""

    RUN = "run directory"
    FOLDER = "folder"
    PERF_ANALYZER = "perf_analyzer file"
    TRACCC = "traccc log"
    TABLE = "table"


def kind_of(path: Path) -> Kind:
    """Say what a path is.

    Raises:
        PlanError: there is no such path, or it is of no known kind; the message says what it looks like.
    """
    if path.is_dir():
        return Kind.RUN if (path / "plan.json").exists() else Kind.FOLDER
    if not path.exists():
        raise PlanError(f"{path}: there is no such file or folder")
    head = _head(path)
    kind = Kind.TABLE if _is_table(path) else of_text(head)
    if kind is None:
        raise PlanError(
            f"{path}: is neither a run directory, nor a perf_analyzer file, nor a traccc log, nor a table; "
            f"it {looks(head)}"
        )
    return kind


def _is_table(path: Path) -> bool:
    """Say whether it is a table of ours; those that lie in a run directory or a study are read with all of it."""
    within = any((path.parent / name).exists() for name in ("plan.json", "study.json"))
    return (
        path.suffix in tables_in.SUFFIXES and not within and tables_in.kind_of(tables_in.columns_of(path)) is not None
    )


def of_text(head: bytes) -> Kind | None:
    """Return which tool wrote a file that begins so; None for neither."""
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    if PERF_ANALYZER.search(text):
        return Kind.PERF_ANALYZER
    return Kind.TRACCC if TRACCC.search(text) else None


def looks(head: bytes) -> str:
    """Say what an unknown file looks like, from its first bytes."""
    if not head.strip():
        return "is empty"
    if head.startswith(b"PAR1"):
        return (
            "is a Parquet file; its columns are of no table of ours; name the run directory or study that it lies in"
        )
    if b"\0" in head:
        return "looks like a binary file"
    first = head.decode("utf-8", "replace").lstrip("\ufeff").strip().splitlines()[0][:60]
    if first.startswith(("{", "[")):
        return _looks_json(head)
    if "," in first:
        return f"looks like a CSV whose first line is {first!r}"
    return f"looks like text that begins {first!r}"


def _looks_json(head: bytes) -> str:
    try:
        keys = json.loads(head)
    except ValueError:
        return "looks like JSON"
    named = f" with the keys {', '.join(list(keys)[:5])}" if isinstance(keys, dict) and keys else ""
    return f"looks like JSON{named}"


def below(folder: Path) -> tuple[list[Path], list[tuple[Path, Kind]], list[str]]:
    """Return the sealed runs below a folder, the files of known kinds, and what is left out in words.

    What lies in a run directory, beside the runs of a study, or in a hidden folder is no file of its own. Files of
    unknown kinds are noted only where they could have been meant: texts, CSVs and logs.
    """
    plans = sorted(plan.parent for plan in folder.rglob("plan.json"))
    sealed = [run for run in plans if (run / "manifest.json").exists()]
    notes = [
        f"{run}: left out, it is not sealed; `python -m loadgen seal {run}` seals it"
        for run in plans
        if run not in sealed
    ]
    files: list[tuple[Path, Kind]] = []
    for file in _files(folder):
        head = _head(file)
        if (kind := of_text(head)) is not None:
            files.append((file, kind))
        elif file.suffix in {".txt", ".log", ".csv"}:
            notes.append(f"{file}: left out, it {looks(head)}")
    return sealed, files, notes


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        if "plan.json" in names or "study.json" in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}") from error
