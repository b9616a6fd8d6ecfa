"""Any of perf_analyzer's files -> an `Imported`: what it is, is seen from its content, never from its name."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import polars as pl

from analysis.perf_analyzer import csv_in, field_names, profile_in, stdout_in, stdout_lines, suspicions
from analysis.perf_analyzer.tables import (
    Imported,
    Level,
    Parsed,
    Suspicion,
    level_words,
    tabulated,
)
from loadgen.errors import PlanError

HEAD_BYTES = 1 << 20
TEXT_BYTES_MAX = 1 << 28
BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
STDOUT_SIGNS = (stdout_lines.SETTINGS, stdout_lines.CONCURRENCY, stdout_lines.RATE, stdout_lines.SUMMARY)
EXPERIMENTS, SCHEMA_BYTES = '"experiments"', 1 << 12
PIECES = "holds a profile export, or a piece of one, within other text; keep the JSON object alone"
NOTHING = "is none of perf_analyzer's files: no CSV header, no line of its output, no profile export in it"


def read(path: Path) -> Imported:
    """Read one file: a CSV, a capture of the standard output, or a profile export.

    The takes of a configuration are told apart by `together`. A CSV brings those of its composing models along.

    Raises:
        PlanError: the file cannot be read, or is none of perf_analyzer's.
    """
    try:
        with path.open("rb") as file:
            parsed = _parse(file, path)
    except OSError as error:
        raise PlanError(f"{path}: cannot read: {error.strerror}") from error
    if parsed.kind == "csv":
        _add_composing(parsed, path)
    return _tables(path, parsed)


def together(several: Sequence[Imported]) -> Imported:
    """Lay several files together: points numbered through, takes of one configuration numbered as `repeat` from 1.

    Takes are files whose names differ in `take<k>` alone; a file that is no take keeps its null.

    Raises:
        PlanError: there is no file.
    """
    if not several:
        raise PlanError("no file of perf_analyzer's to lay together")
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in ("points", "gpus", "composing", "windows")}
    requests, before = [], 0
    for one in several:
        for name, parts in frames.items():
            parts.append(getattr(one, name).with_columns(pl.col("point") + before))
        requests.append(one.requests.with_columns(pl.col("point") + before))
        before += one.points.height
    tables = {name: pl.concat(parts, how="diagonal") for name, parts in frames.items()}
    return Imported(
        files=tuple(file for one in several for file in one.files),
        kinds=tuple(kind for one in several for kind in one.kinds),
        points=_repeats(tables["points"]),
        gpus=tables["gpus"],
        composing=tables["composing"],
        windows=tables["windows"],
        requests=pl.concat(requests),
        warnings=tuple(warning for one in several for warning in one.warnings),
    )


def _repeats(points: pl.DataFrame) -> pl.DataFrame:
    """Number the takes of a group by the order of their numbers; files of other kinds are other tellings of them."""
    rank = pl.col("take").rank("dense").over("group", "kind").cast(pl.UInt32)
    return points.with_columns(repeat=pl.when(pl.col("take").is_not_null()).then(rank))


def _parse(file: IO[bytes], path: Path) -> Parsed:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head.strip():
        raise PlanError(
            f"{path}: is empty; perf_analyzer leaves an empty profile export where a tensor held NaN or infinity"
        )
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        if b'"$schema"' in head[:SCHEMA_BYTES]:
            raise PlanError(f"{path}: is a JSON schema, which describes profile exports and is none")
        if EXPERIMENTS.encode() not in head:
            raise PlanError(f'{path}: is JSON, but no profile export of perf_analyzer: it has no "experiments"')
        return profile_in.parse(file, path)
    text = _text(file, path)
    if any(sign.search(line) for line in text.splitlines() for sign in STDOUT_SIGNS):
        return stdout_in.parse(text, path)
    if any(csv_in.is_header(line.replace('"', "").split(",")) for line in text.splitlines()):
        return csv_in.parse(text, path)
    raise PlanError(f"{path}: {PIECES if EXPERIMENTS in text else NOTHING}")


def _text(file: IO[bytes], path: Path) -> str:
    raw = file.read(TEXT_BYTES_MAX + 1)
    if len(raw) > TEXT_BYTES_MAX:
        raise PlanError(f"{path}: is longer than any output of perf_analyzer (over {TEXT_BYTES_MAX >> 20} MB)")
    mark, encoding = next(((mark, name) for mark, name in BOMS.items() if raw.startswith(mark)), (b"", "utf-8"))
    return raw.removeprefix(mark).decode(encoding, errors="replace")


def _add_composing(parsed: Parsed, path: Path) -> None:
    """Add the CSVs of composing models that lie beside this one, level by level."""
    for other in sorted(path.parent.glob(f"*_v*.{_escaped(path.name)}")):
        if csv_in.COMPOSING_FILE.fullmatch(other.name) is None:
            continue
        try:
            text = other.read_text(encoding="utf-8-sig", errors="replace")
            rows = csv_in.composing_rows(text, other)
        except (OSError, PlanError) as error:
            parsed.notes.append(f"the composing model's file beside it cannot be read: {error}")
            continue
        for level in parsed.levels:
            if (row := rows.get(level.figures.get("load_words", ""))) is not None:
                level.composing.append(row)


def _escaped(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _tables(path: Path, parsed: Parsed) -> Imported:
    warnings = [Suspicion(str(path), "", note) for note in parsed.notes]
    levels: list[Level] = []
    for level in parsed.levels:
        figures, reasons = suspicions.judged(level)
        warnings += [Suspicion(str(path), level_words(figures), reason) for reason in reasons]
        levels.append(replace(level, figures=figures))
    of_sweep = suspicions.of_sweep([level.figures for level in levels])
    warnings += [Suspicion(str(path), words, reason) for words, reason in of_sweep]
    return tabulated(path, replace(parsed, levels=levels), field_names.configuration(path), warnings)


def read_all(paths: Iterable[Path]) -> tuple[list[Imported], list[str]]:
    """Read what can be read of several files and folders; return that, and a line for each file that cannot.

    Raises:
        PlanError: a path does not exist.
    """
    found, refused = [], []
    for path in _files(paths):
        try:
            found.append(read(path))
        except PlanError as error:
            refused.append(str(error))
    return found, refused


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        else:
            yield path
