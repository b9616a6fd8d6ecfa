"""The models under load: met, described in the words of the tables, and those that they call."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec

from loadgen import calibration, corpus, environment, kserve
from loadgen import plan as plans
from loadgen.bench import Served
from loadgen.calibration import Calibration, Client
from loadgen.kserve import ModelMetadata
from loadgen.plan import Plan
from loadgen.pointlog import Target
from loadgen.prepare import Source
from loadgen.rundir import EventLog
from loadgen.server.client import Server, client

SIMULATING_PARAMETERS = {"stand_in": "stand-in model", "stub": "simulated"}
"""Keys in a model's configuration by which our own servers say that they are not the real thing."""


@dataclass(frozen=True, slots=True)
class Met:
    """A model that is ready, and its declaration."""

    triton: Server
    metadata: ModelMetadata


async def meet(stack: contextlib.AsyncExitStack, plan: Plan) -> tuple[Met, ...]:
    """Return the plan's models, each ready.

    Raises:
        TargetError: one is not, or not there.
    """
    found = []
    for alone in plans.alone(plan):
        triton = await client(stack, alone.endpoint)
        await triton.wait_ready(plan.ready_timeout_s)
        found.append(Met(triton, await triton.metadata()))
    return tuple(found)


async def composing(stack: contextlib.AsyncExitStack, plan: Plan, models: Sequence[Met]) -> tuple[Served, ...]:
    """Return the models that the served ones call: the steps of ensembles, of ensembles in them, and those named.

    Raises:
        TargetError: one of them is not there.
    """
    found: dict[str, Served] = {}
    configs = [await each.triton.model_config() for each in models]
    names = [*plan.composing_models, *(name for config in configs for name in kserve.steps(config))]
    while names:
        name = names.pop(0)
        if name not in found:
            endpoint = msgspec.structs.replace(plan.endpoint, model=name, version="")
            triton = await client(stack, endpoint)
            found[name] = Served(triton, latest(await triton.metadata()))
            names += kserve.steps(await triton.model_config())
    return tuple(found.values())


async def trace(of: Met, plan: Plan) -> None:
    """Set the server's trace settings that the plan asks for.

    Raises:
        TargetError: it refuses.
    """
    if plan.trace:
        await of.triton.set_trace(plan.trace)


def served(of: Met, index: corpus.Index) -> Served:
    """Return a model as the bench knows it, with the version under load and its first request."""
    version = of.triton.endpoint.version or latest(of.metadata)
    models = [body.model for body in index.bodies]
    key = plans.model_key(of.triton.endpoint)
    return Served(of.triton, version, models.index(key) if key in models else 0)


def latest(metadata: ModelMetadata) -> str:
    """Return the version that a server answers with where none is named."""
    return max(metadata.versions, key=_version_number, default="1")


def _version_number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (-1, version)


def calibrated(plan: Plan, index: corpus.Index) -> Calibration | None:
    """Return what is known of this client with requests of such a size."""
    client = Client(environment.host(), plan.transport, plan.connections, plan.workers)
    mean_bytes = sum(body.size_bytes for body in index.bodies) / len(index.bodies)
    return calibration.nearest(calibration.read(calibration.default_path()), client, mean_bytes)


async def describe(
    models: Sequence[Met], sources: Sequence[Source], log: EventLog, known: Calibration | None
) -> Target:
    """Return what every point has in common, and log what the server says of itself and of each model."""
    server = await models[0].triton.server_metadata()
    notes: list[str] = []
    instances: int | None = 0
    for each in models:
        config = await each.triton.model_config()
        log.event("server", server=server, config=config, metadata=asdict(each.metadata))
        parameters = config.get("parameters")
        keys = parameters if isinstance(parameters, dict) else {}
        notes += [note for key, note in SIMULATING_PARAMETERS.items() if key in keys and note not in notes]
        own = kserve.instances(config)
        instances = None if instances is None or own is None else instances + own
    names = [plans.model_key(each.triton.endpoint) if len(models) > 1 else each.metadata.name for each in models]
    target = Target(
        model=" + ".join(names),
        server=" ".join([f"{server.get('name')} {server.get('version')}", *(f"({note})" for note in notes)]),
        inputs="; ".join(source.description for source in sources),
        simulated=bool(notes) or any(source.synthetic for source in sources),
        instances=instances,
        calibration=known,
    )
    log.event("target", target=asdict(target))
    return target
