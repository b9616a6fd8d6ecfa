"""The real perf_analyzer and loadgen on one server, in turns: blocks of ABBA or BAAB drawn at random, a take each.

A take of theirs is one whole run of the program at one level, so that its own rules decide what it reports; a take of
ours is a run of one point, its window as long as the three windows of theirs, its run directory kept.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
import polars as pl

from analysis.crosscheck import OURS, TAKES, THEIRS
from analysis.perf_analyzer import load
from analysis.runs import open_run
from inputs.source import open_source
from loadgen import api, atomic, clock, proxies
from loadgen.errors import LoadgenError, PlanError, TargetError
from loadgen.plan import ByTime, ClosedLoop, Load, OpenLoop, Plan
from loadgen.pointlog import load_words
from loadgen.progress import Quiet
from loadgen.run import Job
from loadgen.run import run as run_job

WINDOWS, STRETCH = 3, 1.2
"""perf_analyzer reports after three windows at the earliest, each 1.2 times as long as asked."""

ANY_SCATTER = "999"
"""perf_analyzer's `-s`, so that it reports its first three windows, however they scatter: takes that it would throw
away for their scatter are part of what is compared."""

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
END_GRACE_S = 10.0

Take = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Program:
    """perf_analyzer: its path, where it finds its libraries, and further arguments, as given."""

    path: Path
    libraries: str = ""
    arguments: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the environment it is started in."""
        paths = [*filter(None, [self.libraries, os.environ.get("LD_LIBRARY_PATH", "")])]
        return {**os.environ, **({"LD_LIBRARY_PATH": ":".join(paths)} if paths else {})}


@dataclass(frozen=True, slots=True)
class Asked:
    """What to compare: a plan whose loads, of one kind, are the levels, its inputs in their words, and how often.

    `interval_ms` is perf_analyzer's `-p`; `timeout_s` bounds one run of it.
    """

    plan: Plan
    program: Program
    input_arguments: tuple[str, ...]
    folder: Path
    blocks: int = 5
    interval_ms: int = 5000
    seed: int = 0
    timeout_s: float = 600.0
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)


async def measured(asked: Asked, say: Callable[[str], None]) -> pl.DataFrame:
    """Measure every block of every level; a row a take, columns as `analysis.crosscheck.TAKES`.

    What fails is a take with its failure in words. `takes.jsonl` in the folder has each as soon as it ended. Ctrl-C
    or SIGTERM ends it early, without the take that was being measured.
    """
    found: list[Take] = []
    atomic.make_folder(asked.folder / THEIRS)
    async with api.interruptible(asked.interrupt, Quiet()):
        with (asked.folder / "takes.jsonl").open("ab") as kept:
            await _each(asked, kept, found, say)
    return table(found)


async def _each(asked: Asked, kept: IO[bytes], found: list[Take], say: Callable[[str], None]) -> None:
    for number, place, level, side in turns(asked):
        take = {"block": number, "place": place, "level": level, "side": side, "failure": ""}
        measured_take = take | await (_ours(asked, level) if side == OURS else _theirs(asked, take))
        if asked.interrupt.is_set():
            return
        found.append(measured_take)
        kept.write(msgspec.json.encode(measured_take) + b"\n")
        kept.flush()
        say(_line(asked, measured_take))


def turns(asked: Asked) -> Iterator[tuple[int, int, float, str]]:
    """Yield block, place in it, level and side, in the order to measure: ABBA or BAAB, levels within a block."""
    drawn = random.Random(asked.seed)  # noqa: S311 - an order, not a secret
    for number in range(1, asked.blocks + 1):
        for level in map(level_of, asked.plan.loads):
            first, second = drawn.sample((OURS, THEIRS), 2)
            for place, side in enumerate((first, second, second, first), start=1):
                yield number, place, level, side


def table(found: Iterable[Take]) -> pl.DataFrame:
    """Return takes as a table."""
    return pl.DataFrame([{name: take.get(name) for name in TAKES} for take in found], schema=TAKES)


def level_of(load: Load) -> float:
    """Return a load's concurrency or rate.

    Raises:
        PlanError: perf_analyzer has no such load.
    """
    match load:
        case ClosedLoop(concurrency):
            return float(concurrency)
        case OpenLoop(rate_per_s):
            return rate_per_s
    raise PlanError(f"{load_words(load)}: perf_analyzer has no such load; give concurrencies or rates")


def _line(asked: Asked, take: Take) -> str:
    of = f"block {take['block']} of {asked.blocks}, level {take['level']:g}, {take['side']}"
    if take["failure"]:
        return f"{of}: {take['failure']}"
    return f"{of}: {take['throughput_per_s']:.4g}/s, p50 {take['p50_ns'] / clock.NS_PER_MS:.4g} ms"


async def _ours(asked: Asked, level: float) -> Take:
    open_loop = isinstance(asked.plan.loads[0], OpenLoop)
    load = msgspec.structs.replace(asked.plan.loads[0], rate_per_s=level) if open_loop else ClosedLoop(round(level))
    stopping = ByTime(round(WINDOWS * STRETCH * asked.interval_ms), min(2000, asked.interval_ms))
    plan = msgspec.structs.replace(asked.plan, loads=(load,), stopping=stopping)
    try:
        job = Job(plan, open_source(plan.inputs), Quiet(), asked.interrupt)
        run = open_run((await run_job(job, asked.folder / OURS)).path)
    except LoadgenError as error:
        return {"failure": str(error)}
    row = run.points().row(0, named=True) if run.points().height else None
    if row is None or not row["completed"]:
        return {"failure": "no request completed", "where": run.path.name}
    if row["failed"]:
        return {"failure": f"{row['failed']} requests failed in the window", "where": run.path.name}
    return figures_of_point(row) | {"where": run.path.name}


def figures_of_point(row: Mapping[str, Any]) -> Take:
    """Return the figures of a take from a row of a points table; times are service times.

    What was rounded down to a step stands for the middle of it.
    """
    half_step_ns = ((row.get("resolution_ns") or 1) - 1) / 2
    known = {f"{name}_ns": row.get(f"service_{name}_ns") for name in ("mean", "p50", "p90", "p95", "p99")}
    known |= {f"{stage}_ns": row.get(f"server_{stage}_ns") for stage in STAGES}
    times = {name: value + half_step_ns if value is not None else None for name, value in known.items()}
    mean_ns = times["mean_ns"]
    in_flight = row["throughput_per_s"] * mean_ns / clock.NS_PER_S if mean_ns else None
    closed = row.get("concurrency") is not None
    return {
        "throughput_per_s": row["throughput_per_s"],
        **times,
        "completed": float(row["completed"]) if row.get("completed") is not None else None,
        "in_flight": in_flight if closed else None,
    }


async def _theirs(asked: Asked, take: Take) -> Take:
    name = f"block{take['block']:02}-level{take['level']:g}-{take['place']}"
    csv, out = (asked.folder / THEIRS / f"{name}{suffix}" for suffix in (".csv", ".txt"))
    ended = await _run(asked, [*_command(asked, take["level"]), "-f", str(csv)], out)
    if ended:
        return {"failure": ended, "where": out.name}
    if asked.interrupt.is_set():
        return {"failure": "interrupted"}
    return read_theirs(csv) | {"where": csv.name}


def from_files(ours: Iterable[Path], theirs: Iterable[Path]) -> pl.DataFrame:
    """Return the takes of our runs and their files: the n-th of either side is a block.

    Raises:
        PlanError: a run or a file cannot be read.
    """
    found = []
    for side, tables in (
        (OURS, ((path.name, open_run(path).points()) for path in ours)),
        (THEIRS, ((path.name, load.read(path).points) for path in theirs)),
    ):
        counted: Counter[float] = Counter()
        for name, points in tables:
            for row in points.filter(pl.col("throughput_per_s") > 0).iter_rows(named=True):
                level = row["concurrency"] if row["concurrency"] is not None else row["rate_per_s"]
                if level is not None:
                    counted[float(level)] += 1
                    place = {"block": counted[float(level)], "place": 1, "level": float(level), "side": side}
                    found.append(place | figures_of_point(row) | {"failure": "", "where": name})
    return table(found)


def read_theirs(csv: Path) -> Take:
    """Return the figures of the one level in a CSV of theirs, or why there are none."""
    try:
        points = load.read(csv).points
    except PlanError as error:
        return {"failure": str(error)}
    if points.height != 1:
        return {"failure": f"{csv.name} has {points.height} levels"}
    return figures_of_point(points.row(0, named=True))


def _command(asked: Asked, level: float) -> list[str]:
    endpoint, first = asked.plan.endpoint, asked.plan.loads[0]
    load = ["--concurrency-range", f"{level:.0f}"]
    if isinstance(first, OpenLoop):
        load = ["--request-rate-range", f"{level:g}", "--request-distribution", first.arrivals]
    version = ["-x", endpoint.version] if endpoint.version else []
    return [
        *(str(asked.program.path), "-m", endpoint.model, *version, "-u", endpoint.grpc, "-i", "grpc"),
        *(*load, "-p", str(asked.interval_ms), "-s", ANY_SCATTER, "--verbose-csv", "-v"),
        *(*asked.input_arguments, *asked.program.arguments),
    ]


async def _run(asked: Asked, command: list[str], out: Path) -> str:
    """Run their program, its words into `out`; return why it failed, or nothing."""
    with out.open("wb") as words:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=asked.program.environment() | proxies.variables_for(asked.plan.endpoint.grpc),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=words,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise PlanError(f"--perf-analyzer {asked.program.path}: cannot start it: {error.strerror}") from error
        try:
            code = await _code(process, asked)
        except TimeoutError:
            return f"did not end within {asked.timeout_s:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return "" if code == 0 else refused(code, _text(out))


async def _code(process: asyncio.subprocess.Process, asked: Asked) -> int:
    """Wait for the program's exit code; 0 at once when the whole is interrupted, for nobody will look at the take."""
    ended, told = asyncio.ensure_future(process.wait()), asyncio.ensure_future(asked.interrupt.wait())
    try:
        done, _ = await asyncio.wait((ended, told), timeout=asked.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
        return ended.result() if ended in done else 0
    finally:
        ended.cancel()
        told.cancel()


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def refused(code: int, text: str) -> str:
    """Return their exit code and last telling line; a missing library is a fault of the call, not of a take.

    Raises:
        TargetError: the program lacks a library.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    missing = next((line for line in lines if "error while loading shared libraries" in line), None)
    if missing:
        raise TargetError(f"perf_analyzer does not start: {missing}; name its folder with --perf-analyzer-libraries")
    return f"exit code {code}: {' / '.join(lines[-2:]) or 'no word'}"
