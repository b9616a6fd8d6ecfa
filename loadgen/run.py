"""One run: target, inputs, worker, poller, then one point after the other; sealed however it ends."""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from loadgen import (
    atomic,
    balance,
    carrier,
    clock,
    corpus,
    environment,
    finish,
    fleet,
    host,
    models,
    nvml,
    points,
    proxies,
    replicas,
    rundir,
    scraped,
    seal,
    trace,
)
from loadgen import plan as plans
from loadgen.bench import Bench, Point, Served, read_statistics, wanted
from loadgen.climb import climb
from loadgen.commands import Failed, Open, Progress
from loadgen.errors import LoadgenError, PlanError, TargetError
from loadgen.kserve import ModelMetadata
from loadgen.plan import Generated, Load, Plan, Replay
from loadgen.point import measure_point
from loadgen.prepare import Source, index_json, prepare
from loadgen.progress import Described, Observer
from loadgen.rundir import OWN_SOURCE, EventLog, RunDirectory, Sample
from loadgen.sampling import Read, Sampler
from loadgen.seek import seek
from loadgen.server.metrics import Poller, pages

RECOVERY_TIMEOUT_S = 2.0
GPU_GAUGES = "nv_gpu_"
GENERATED_SEQUENCE_LENGTH = 20
"""perf_analyzer's default."""


@dataclass(frozen=True, slots=True)
class Job:
    """What `run` was asked: the plan, its inputs, who watches, and the event that asks it to end early."""

    plan: Plan
    source: Source
    observer: Observer
    interrupt: asyncio.Event
    companions: tuple[Source, ...] = ()
    """Inputs of the plan's companions."""

    cached: bool = True
    """Whether a corpus may be taken from, and kept in, the user's cache."""

    beside: Callable[[EventLog], None] | None = None
    """Is given the run's log, to tell it of what happens beside the run: pods, broken forwards."""

    over: Callable[[], bool] = bool
    """Says, before each point, whether it may no longer begin; `bool()` is False: it always may."""


async def run(job: Job, root: Path) -> RunDirectory:
    """Carry out a plan in a new folder below `root`; return the sealed run directory.

    Setting `job.interrupt` ends the run early: the window closes, what is in flight is awaited, all is sealed.

    Raises:
        PlanError, TargetError, FleetError: what had been measured by then is sealed first.
    """
    directory = rundir.create(root, job.plan.name)
    log = EventLog(directory)
    try:
        await _carry_out(job, directory, log)
    finally:
        log.close()
    return directory


async def _carry_out(job: Job, directory: RunDirectory, log: EventLog) -> None:
    try:
        async with _bench(job, directory, log) as bench:
            bench.baseline = await read_statistics(bench)
            for served in bench.served:
                await _probe(bench, served)
            if job.plan.search is not None:
                await seek(bench, job.plan.search)
            elif job.plan.ladder is not None:
                await climb(bench, job.plan.ladder)
            else:
                await _points(bench, job.over)
        await scraped.collect(job.plan, directory, log, job.observer.warn)
    except LoadgenError as error:
        if not directory.corpus_index.exists():  # nothing was sent: leave nothing behind
            shutil.rmtree(directory.path)
            raise
        _finish(directory, log, "failed", str(error))
        raise type(error)(f"{error}; what was measured until then is in {directory.path}") from error
    stopped = job.interrupt.is_set()
    _finish(directory, log, *(("interrupted", "asked to stop") if stopped else ("complete", "")))


def _finish(directory: RunDirectory, log: EventLog, ended: str, reason: str) -> None:
    try:
        finish.finish(directory, log, ended, reason)
    except LoadgenError as error:
        raise type(error)(finish.unsealed_advice(directory, error)) from error


@asynccontextmanager
async def _bench(job: Job, directory: RunDirectory, log: EventLog) -> AsyncIterator[Bench]:
    plan = job.plan
    log.event("run_started", utc_ns=clock.utc_ns())
    if job.beside is not None:
        job.beside(log)
    atomic.write(directory.plan, plans.to_json(plans.written(plan)))
    atomic.write(directory.environment, _pretty(environment.describe()))
    async with contextlib.AsyncExitStack() as stack:
        gpus = stack.enter_context(nvml.opened(plan.nvml, plan.endpoint.address, nvml.installed()))
        met = await models.meet(stack, plan)
        in_streams = plan.streaming or any(each.metadata.decoupled for each in met)
        plan = carrier.settled(plan, keeps_state=any(each.metadata.sequence for each in met))
        plan = carrier.resolved(plan, in_streams=in_streams)
        atomic.write(directory.plan, plans.to_json(plans.written(plan)))
        index = _write_corpus(job, directory, log, [each.metadata for each in met])
        target = await models.describe(met, (job.source, *job.companions), log, models.calibrated(plan, index))
        words = f"{target.instances} instances" if target.instances else "instances not known"
        job.observer.announce(f"target: {target.model} on {target.server} at {plan.endpoint.address}, {words}")
        _warn(job, log, proxies.words(plan.endpoint))
        bench: Bench | None = None

        def on_report(news: Progress | Failed) -> None:
            if bench is not None:
                _hear(bench, news)

        workers = await stack.enter_async_context(fleet.fleet(plan.workers, on_report, directory.worker_errors))
        gauges: list[Sample] = []
        poller = await stack.enter_async_context(_polling(job, log, gpus, gauges))
        served = tuple(models.served(each, index) for each in met)
        bench = Bench(plan, directory, log, job.observer, job.interrupt, served, workers, target, background=poller)
        bench.bodies, bench.gauges = len(index.bodies), gauges
        bench.composing = await models.composing(stack, plan, met)
        await _meet_replicas(bench)
        await models.trace(met[0], plan)
        job.observer.described(await _described(met[0], index, plan))
        opening = _opening(plan, directory, met[0].metadata, index)
        await workers.open(msgspec.structs.replace(opening, in_streams=in_streams))
        yield bench


async def _meet_replicas(bench: Bench) -> None:
    """Find out whose counters are read: those of several replicas by their pages, or what answers at the address."""
    given = pages(bench.plan.endpoint)
    if len(given) > 1:
        bench.pages = await replicas.found(given, [wanted(each) for each in bench.served])
    if bench.pages:
        names = ", ".join(page.instance for page in bench.pages)
        bench.observer.announce(f"replicas: {len(bench.pages)} by their metrics pages ({names})")
    else:
        bench.balance.reason = balance.stated(bench.plan.endpoint.replicas)


async def _described(met: models.Met, index: corpus.Index, plan: Plan) -> Described:
    streams = corpus.streams(index)
    last_steps = frozenset(stream[-1] for stream in streams)
    config = await met.triton.model_config()
    return Described(met.metadata, config, len(streams), len(index.bodies), last_steps, _sequence_length(plan))


async def _probe(bench: Bench, served: Served) -> None:
    """Send a model one request and look at the answer, before any load.

    Raises:
        TargetError: the model refuses it.
    """
    bench.phase = "first request"
    model = plans.model_key(served.triton.endpoint)
    probed = await bench.fleet.probe(served.first_body)
    bench.answered += probed.outcome == "ok"
    bench.log.event("probe", model=model, **msgspec.to_builtins(probed))
    if probed.outcome != "ok":
        raise TargetError(f"{model}: the first request failed: {probed.outcome}: {probed.details}")
    outputs = ", ".join(probed.outputs)
    milliseconds = probed.service_ns / clock.NS_PER_MS
    bench.observer.announce(f"first request: {milliseconds:.1f} ms, {probed.response_bytes} bytes: {outputs}")


async def _points(bench: Bench, over: Callable[[], bool]) -> None:
    rows: list[points.Row] = []
    for point in points_of(bench.plan, bench.directory):
        if over():
            bench.log.event("warning", text=f"no time is left for point {point.number} and what follows")
            return
        row = await measure_point(bench, point)
        if row is not None:
            rows.append(row)
            seal.write_parquet(points.table(rows), bench.directory.points)
            bench.observer.point_measured(row)
        if bench.interrupt.is_set():
            return
        if row is not None and row["completed"] == 0 and row["failed"] > 0:
            await bench.served[0].triton.wait_ready(RECOVERY_TIMEOUT_S)


def points_of(plan: Plan, directory: RunDirectory | None = None) -> list[Point]:
    """Return the points of a plan in the order in which they are measured.

    `sequential` goes through the loads, then through them again for each repeat; `interleave` turns every second pass
    round, so that a drift of the machine is shared; `shuffle` draws a new order for each pass from the seed.
    Replayed arrivals are written into `directory`.
    """
    generator, ordered = np.random.default_rng(plan.seed), []
    for repeat in range(1, plan.repeats + 1):
        loads = list(plan.loads)
        if plan.point_order == "shuffle":
            loads = [loads[place] for place in generator.permutation(len(loads))]
        if plan.point_order == "interleave" and repeat % 2 == 0:
            loads.reverse()
        ordered += [(repeat, load) for load in loads]
    return [
        Point(number, load, repeat, _intervals(load, number, directory))
        for number, (repeat, load) in enumerate(ordered, start=1)
    ]


def _intervals(load: Load, number: int, directory: RunDirectory | None) -> str:
    if not isinstance(load, Replay):
        return ""
    intervals_ns = trace.intervals_ns(load)
    if directory is None:
        return ""
    path = directory.path / f"arrivals-{number}.npy"
    np.save(path, intervals_ns)
    return str(path)


def _write_corpus(job: Job, directory: RunDirectory, log: EventLog, models: list[ModelMetadata]) -> corpus.Index:
    """Write the corpus of the run and return its index."""
    plan, metadata = job.plan, models[0]
    if plan.companions:
        index = _joint_corpus(job, directory, models)
    else:
        index = prepare(plan, job.source, metadata, directory.corpus, job.observer, cached=job.cached)
    choices = len(corpus.streams(index)) if metadata.sequence else len(index.bodies)
    if plan.weights and len(plan.weights) != choices:
        raise PlanError(f"weights: {len(plan.weights)} are given; the inputs have {choices} to choose from")
    atomic.write(directory.corpus_index, index_json(index))
    sizes = [body.size_bytes for body in index.bodies]
    log.event("corpus", bodies=len(sizes), size_bytes=sum(sizes), sha256=index.sha256, dropped=index.dropped_cells)
    mean_mb = sum(sizes) / len(sizes) / 1e6
    job.observer.announce(f"inputs: {index.source}; {len(sizes)} requests of {mean_mb:.3g} MB on average")
    if index.dropped_cells:
        job.observer.warn(f"{index.dropped_cells} cells of geometry id 0 were left out: no module is known for them")
    return index


def _joint_corpus(job: Job, directory: RunDirectory, models: list[ModelMetadata]) -> corpus.Index:
    """Write the requests of a model and its companions into one corpus.

    Raises:
        PlanError: one of them keeps state, so that its requests cannot be drawn one by one.
    """
    parts: dict[str, tuple[Path, corpus.Index]] = {}
    sources = (job.source, *job.companions)
    for plan, source, metadata in zip(plans.alone(job.plan), sources, models, strict=True):
        if metadata.sequence:
            raise PlanError(f"companions: {metadata.name} keeps state between requests; measure it by itself")
        part = directory.path / f"corpus-{len(parts)}.bin"
        index = prepare(plan, source, metadata, part, job.observer, cached=job.cached)
        parts[plans.model_key(plan.endpoint)] = part, index
    joint = corpus.join(directory.corpus, parts)
    for part, _ in parts.values():
        part.unlink()
    return joint


def _warn(job: Job, log: EventLog, text: str) -> None:
    if text:
        log.event("warning", text=text)
        job.observer.warn(text)


@asynccontextmanager
async def _polling(
    job: Job, log: EventLog, gpus: Read | None, gauges: list[Sample]
) -> AsyncIterator[tuple[asyncio.Task[None], ...]]:
    """Poll the metrics pages, our own host and its GPUs while the context lasts; yields a task each.

    All are read once more at the end, so that the last window lies between two readings. GPUs of pages are kept in
    `gauges` too.
    """

    def on_samples(samples: Iterable[Sample]) -> None:
        found = list(samples)
        gauges.extend(sample for sample in found if sample.metric.startswith(GPU_GAUGES))
        log.samples(found)

    interval_ms = job.plan.metrics_interval_ms
    pollers = [Poller(page, interval_ms, on_samples, partial(_warn, job, log)) for page in pages(job.plan.endpoint)]
    samplers = [Sampler(read, interval_ms, log.samples) for read in (host.read, gpus) if read is not None]
    readers: tuple[Poller | Sampler, ...] = (*pollers, *samplers)
    tasks = tuple(asyncio.create_task(each.run()) for each in readers)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.once() for each in readers if each.has_read), return_exceptions=True)
        for sampler in samplers:
            sampler.close()


def _hear(bench: Bench, news: Progress | Failed) -> None:
    match news:
        case Progress():
            bench.log.samples(_own_samples(news, len(bench.fleet.workers)))
            if news.point:
                bench.latest[news.worker] = news
                bench.reports.append(news)
                bench.observer.progress(bench.phase, bench.progress or news)
        case Failed(at_ns, point, outcome, details):
            bench.log.event("failure", at_ns, point=point, outcome=outcome, details=details)


def _own_samples(news: Progress, workers: int) -> list[Sample]:
    labels = rundir.canonical_labels({"worker": str(news.worker)} if workers > 1 else {})
    figures = {
        "process_resident_memory_bytes": news.resident_memory_bytes,
        "process_cpu_seconds_total": news.cpu_s,
        "in_flight": news.in_flight,
    }
    return [Sample(news.at_ns, OWN_SOURCE, metric, labels, float(value)) for metric, value in figures.items()]


def _opening(plan: Plan, directory: RunDirectory, metadata: ModelMetadata, index: corpus.Index) -> Open:
    return Open(
        worker=0,
        workers=plan.workers,
        journal=str(directory.journal),
        corpus=str(directory.corpus),
        index=str(directory.corpus_index),
        endpoint=plan.endpoint,
        transport=plan.transport,
        connections=plan.connections,
        compression=plan.compression,
        deadline_ns=plan.deadline_ms * clock.NS_PER_MS,
        seed=plan.seed,
        order=plan.order,
        weights=plan.weights,
        mix=_mix(plan, index),
        in_sequences=metadata.sequence,
        sequence_length=_sequence_length(plan) if metadata.sequence else 0,
        sequence_length_variation=plan.sequence_length_variation,
        sequence_ids=plan.sequence_ids,
        digests=plan.answers != "none",
        kept_answers=_kept_answers(plan, directory),
    )


def _kept_answers(plan: Plan, directory: RunDirectory) -> str:
    """Make the folder for whole answers, where they are to be decoded."""
    if plan.answers != "decode":
        return ""
    atomic.make_folder(directory.answers)
    return str(directory.answers)


def _mix(plan: Plan, index: corpus.Index) -> tuple[tuple[int, float], ...]:
    """Return how many requests each of several models has in the corpus, and its weight."""
    if not plan.companions:
        return ()
    bodies = Counter(body.model for body in index.bodies)
    weights = (plan.model_weight, *(each.weight for each in plan.companions))
    return tuple(zip(bodies.values(), weights, strict=True))


def _sequence_length(plan: Plan) -> int:
    """Return how many steps a sequence has; what is made from nothing has no length of its own."""
    return plan.sequence_length or (GENERATED_SEQUENCE_LENGTH if isinstance(plan.inputs, Generated) else 0)


def _pretty(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
