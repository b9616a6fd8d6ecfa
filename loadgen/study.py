"""Carry out a study: start each server, measure what is left of the grid, seal, go on; whatever happened before.

A point is done when its window closed by itself and its run is sealed. So nothing needs to be remembered beside the
runs: what is done is read from them, what was cut off is sealed and measured again.
"""

import asyncio
import fcntl
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl

from analysis.perf_analyzer import write_csv
from analysis.readable import counted
from analysis.runs import open_run
from inputs.source import open_source
from loadgen import api, atomic, clock, finish, forwarding, pointlog, rundir, study_plan
from loadgen.endpoint import opened
from loadgen.errors import LoadgenError, PlanError, TargetError
from loadgen.forwarding import Reached
from loadgen.plan import Plan, from_json
from loadgen.pointlog import load_words
from loadgen.progress import Observer
from loadgen.run import Job, run
from loadgen.rundir import RunDirectory
from loadgen.server import configured, embedded, launch, repository
from loadgen.server.kube import Release
from loadgen.server.launch import Program
from loadgen.study_plan import Cell, Kube, Launched, Remote, Server, Stretch, Study

STUDY_FILE, FAILURES_FILE, POINTS_FILE = "study.json", "failures.jsonl", "points.parquet"
RUNS, LOGS, SCRATCH = "runs", "servers", ".models-"
SERVER_START_S = 5.0
"""What a start of a server is taken to need, for the estimate of a dry run."""


@dataclass(slots=True)
class Going:
    """A study on its way: where, until when points may begin, and what has failed in this process."""

    study: Study
    folder: Path
    observer: Observer
    interrupt: asyncio.Event
    last_start_ns: int | None = None
    failures: list[str] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether no further point may begin."""
        late = self.last_start_ns is not None and clock.now_ns() >= self.last_start_ns
        return late or self.interrupt.is_set()


async def carry_out(
    study: Study, folder: Path, observer: Observer, *, budget_s: float | None = None, interrupt: asyncio.Event
) -> Going:
    """Measure what is left of a study in `folder`; return what failed, and which helm releases were seen.

    No point begins after `budget_s`, or once `interrupt` is set.

    Raises:
        PlanError: the folder holds another study, another process is at work in it, or a header cannot be sent.
        FleetError: the disk or a worker failed.
    """
    for headers in (study.headers, study.metrics_headers, study.prometheus.headers if study.prometheus else {}):
        opened(headers)
    with _alone(folder):
        keep(study, folder)
        settle(folder)
        last_ns = None if budget_s is None else clock.now_ns() + round(budget_s * clock.NS_PER_S)
        going = Going(study, folder, observer, interrupt, last_ns)
        try:
            async with api.interruptible(interrupt, observer):
                await _measure(going)
        finally:
            observer.close()
            write_points(folder)
        return going


async def _measure(going: Going) -> None:
    """Go through what is left, a server's stretches of a take together so that it is started once for them."""
    pending = list(study_plan.left(going.study, done(going.folder)))
    while pending and not going.over:
        first = pending[0]
        together = [each for each in pending if (each.take, each.server) == (first.take, first.server)]
        pending = [each for each in pending if each not in together]
        try:
            async with reached(first.server, going.study.model, going.folder) as server:
                if server.release is not None and server.release not in going.releases:
                    going.releases.append(server.release)
                for stretch in together:
                    if not going.over:
                        await _stretch(going, stretch, server)
        except (PlanError, TargetError) as error:
            _failed(going, first, error)


async def _stretch(going: Going, stretch: Stretch, server: Reached) -> None:
    words = f"take {stretch.take}, {stretch.server.label}, {stretch.inputs.label}"
    going.observer.announce(f"{words}: {counted(len(stretch.loads), 'point')}")
    plan = plan_of(going.study, stretch, server)
    source = open_source(plan.inputs)
    job = Job(plan, source, going.observer, going.interrupt, beside=server.beside, over=lambda: going.over)
    try:
        directory = await run(job, going.folder / RUNS)
    except (PlanError, TargetError) as error:
        _failed(going, stretch, error)
    else:
        write_csv(open_run(directory.path), directory.points_csv)


def _failed(going: Going, stretch: Stretch, error: LoadgenError) -> None:
    """Keep a failure and go on: one faulty configuration does not cost the others."""
    line = f"take {stretch.take}, {stretch.server.label}, {stretch.inputs.label}: {error}"
    going.failures.append(line)
    going.observer.warn(line)
    with (going.folder / FAILURES_FILE).open("ab") as file:
        file.write(msgspec.json.encode({"utc_ns": clock.utc_ns(), **stretch.labels, "failure": str(error)}) + b"\n")


def plan_of(study: Study, stretch: Stretch, server: Reached) -> Plan:
    """Return the plan of a stretch's run."""
    plan, _ = api.plan_of(
        model=study.model,
        input_data=stretch.inputs.inputs,
        url=server.grpc,
        version=study.version,
        tls=study.tls,
        headers=study.headers,
        transport=study.transport,
        connections=study.connections,
        keepalive_s=study.keepalive_s,
        workers=study.workers,
        loads=stretch.loads,
        stopping=study.stopping,
        slo=study.slo,
        answers=study.answers,
        deadline_ms=study.deadline_ms,
        metrics_url=server.metrics_urls or None,
        metrics_headers=study.metrics_headers,
        metrics_interval_ms=study.metrics_interval_ms,
        percents=study.percents,
        compression=study.compression,
        batch=study.batch,
        nvml=study.nvml,
        prometheus=study.prometheus,
        replicas=study.replicas,
        seed=study.seed + stretch.take - 1,
        name=f"take{stretch.take}-{stretch.server.label}-{stretch.inputs.label}",
    )
    return msgspec.structs.replace(plan, labels=stretch.labels)


@asynccontextmanager
async def reached(server: Server, model: str, folder: Path) -> AsyncIterator[Reached]:
    """Start a server, or name the one that runs; it is stopped when the context is left.

    Raises:
        PlanError, TargetError: it cannot be started.
    """
    if isinstance(server, Remote):
        yield Reached(server.url, server.metrics_urls or (api.default_metrics_url(server.url),))
        return
    if isinstance(server, Kube):
        async with forwarding.reached(server, folder / LOGS) as found:
            yield found
        return
    log = _log_of(server, folder)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
        program, models = await _prepared(server, model, Path(scratch))
        async with launch.serve_triton(
            program, models, model, log=log, ready_timeout_s=server.ready_timeout_s
        ) as running:
            yield Reached(running.grpc, (running.metrics_url,))


async def _prepared(server: Launched, model: str, scratch: Path) -> tuple[Program, Path]:
    """Return the program to start and the model repository that it serves."""
    program = await _program(server)
    if server.repository:
        source = Path(server.repository)
    else:
        if server.gpus:
            raise PlanError(f"{server.label}: the stand-in runs on the CPU only; give --model-repository, or no GPUs")
        source = repository.write_standin(scratch / "stand-in", "odd", server.instances)
    return program, configured.copy_with_instances(source, scratch / "models", model, server.instances, server.gpus)


async def _program(server: Launched) -> Program:
    found = shutil.which(server.tritonserver or "tritonserver")
    if server.tritonserver and found is None:
        raise PlanError(f"tritonserver {server.tritonserver}: is not found, or is no program")
    if found is None or not server.repository:
        # The stand-in needs the backend that the embedded one brings.
        installation = await asyncio.to_thread(embedded.install)
        own = Program.of(installation)
        return Program(own.binary, (*own.options, *server.arguments), own.environment, own.cwd)
    return Program(Path(found), server.arguments)


def _log_of(server: Launched, folder: Path) -> Path:
    logs = folder / LOGS
    atomic.make_folder(logs)
    number = 1 + sum(1 for _ in logs.glob(f"{server.label}-*.log"))
    return logs / f"{server.label}-{number}.log"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; the lock goes with this one, however it ends."""
    atomic.make_folder(folder)
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PlanError(f"{folder}: another process is at work on this study") from error
        yield


def keep(study: Study, folder: Path) -> None:
    """Write the study into its folder, unless it is there.

    Raises:
        PlanError: the folder holds a study that differs by more than how many takes it has.
    """
    path = folder / STUDY_FILE
    if path.exists():
        known = kept(folder)
        if study_plan.written(msgspec.structs.replace(known, takes=study.takes)) != study_plan.written(study):
            raise PlanError(
                f"{folder}: holds another study; go on with it by `python -m loadgen study {folder}`, "
                "or name another folder"
            )
    atomic.write(path, study_plan.to_json(study_plan.written(study)))


def kept(folder: Path) -> Study:
    """Read the study of a folder.

    Raises:
        PlanError: there is none.
    """
    path = folder / STUDY_FILE
    try:
        return study_plan.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise PlanError(f"{folder}: holds no study; say what to measure, see `study --help`") from error


def runs_of(folder: Path) -> list[RunDirectory]:
    """Return the run directories of a study, sealed or not, in the order they were begun."""
    return [RunDirectory(path.parent) for path in sorted((folder / RUNS).glob("*/plan.json"))]


def settle(folder: Path) -> None:
    """Seal what was cut off; a run that ended before its first request is removed, for it holds nothing."""
    for path in sorted((folder / RUNS).glob("*/")):
        directory = RunDirectory(path)
        if directory.manifest.exists():
            continue
        if directory.plan.exists() and directory.corpus_index.exists():
            finish.rescue(directory)
            write_csv(open_run(directory.path), directory.points_csv)
        else:
            shutil.rmtree(directory.path)
    for scratch in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch)


def done(folder: Path) -> set[Cell]:
    """Return the points of the grid whose window closed by itself in a sealed run."""
    found: set[Cell] = set()
    for directory in runs_of(folder):
        if directory.manifest.exists():
            found |= set(_done_in(directory))
    return found


def _done_in(directory: RunDirectory) -> Iterator[Cell]:
    labels = from_json(directory.plan.read_bytes(), str(directory.plan)).labels
    for log in pointlog.point_logs(rundir.read_log(directory.log)):
        if not log.interrupted and {"take", "server", "inputs"} <= labels.keys():
            yield int(labels["take"]), labels["server"], labels["inputs"], log.load


def write_points(folder: Path) -> pl.DataFrame:
    """Write every sealed point of a study into one table, with what each run is a part of; return it.

    A point that was cut off is in it too, with its verdict, beside the one measured in its place.
    """
    tables = []
    for directory in runs_of(folder):
        if directory.manifest.exists():
            plan = msgspec.json.decode(directory.plan.read_bytes())
            labels = {name: plan.get("labels", {}).get(name) for name in study_plan.STUDY_LABELS}
            facts = {**labels, "run": directory.path.name}
            facts["instances_per_gpu"] = facts.pop("instances")
            columns = [pl.lit(value, pl.String).alias(name) for name, value in facts.items()]
            tables.append(pl.read_parquet(directory.points, glob=False).select(*columns, pl.all().exclude(*facts)))
    table = pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()
    if tables:
        numbers = {"take": pl.UInt32, "instances_per_gpu": pl.UInt32, "gpus": pl.UInt32, "mu": pl.Float64}
        table = table.with_columns(pl.col(name).cast(kind) for name, kind in numbers.items())
        with atomic.written_atomically(folder / POINTS_FILE) as file:
            table.write_parquet(file)
    return table


def write_report(folder: Path, observer: Observer, standalone: Sequence[Path] = ()) -> Path | None:
    """Write a study's page, logs of standalone programs beside it if they are given.

    None where no point is sealed yet, or if it cannot be made: no measurement is lost.
    """
    from analysis import reports  # noqa: PLC0415 - charts load once all is measured

    if not (folder / POINTS_FILE).exists():
        return None
    try:
        return reports.write_page(reports.gather([folder], standalone), folder / "report.html")
    except LoadgenError as error:
        observer.warn(f"no report: {error}")
        return None


def dry_run(study: Study, folder: Path) -> Iterator[str]:
    """Yield the grid, what of it is done, and how long the rest will take."""
    finished = done(folder) if (folder / STUDY_FILE).exists() else set()
    yield f"model: {study.model}; {counted(study.takes, 'take')}, order {study.order}, seed {study.seed}"
    for server in study.servers:
        for inputs in study.inputs:
            levels = ", ".join(load_words(load) for load in study_plan.loads_of(study, server))
            yield f"  {server.label}, {inputs.label}: {levels}"
    grid = study_plan.cells(study)
    pending = list(study_plan.left(study, finished))
    missing = sum(len(each.loads) for each in pending)
    least_s, most_s = (missing * each for each in api.point_seconds(study.stopping))
    starts = len({(each.take, each.server.label) for each in pending if isinstance(each.server, Launched)})
    extra_s = starts * SERVER_START_S
    yield f"{counted(len(grid), 'point')}, {len(grid) - missing} done, {missing} left"
    yield (
        f"{_span(least_s + extra_s)} to {_span(most_s + extra_s)} for the rest, "
        f"with {counted(starts, 'start')} of a server, and the time to drain"
    )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def summary(study: Study, folder: Path, say: Callable[[str], None]) -> int:
    """Say what is done, what is missing and how to finish it; return how many points are missing."""
    finished, grid = done(folder), study_plan.cells(study)
    missing = [cell for cell in grid if cell not in finished]
    say(f"{counted(len(grid), 'point')} in the grid, {len(grid) - len(missing)} measured")
    if missing:
        parts = Counter(f"{server}, {inputs}" for _, server, inputs, _ in missing)
        for part, count in parts.items():
            say(f"  missing: {part}: {counted(count, 'point')}")
        say(f"to finish it: python -m loadgen study {folder}")
    return len(missing)
