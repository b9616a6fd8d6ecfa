"""What is asked for: one frozen, checked Plan, written beside every result so that it can be run again."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from loadgen import endpoint as endpoints
from loadgen import slo
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError
from loadgen.ladder import Ladder
from loadgen.windows import ByWindows

Positive = Annotated[int, msgspec.Meta(gt=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Percent = Annotated[float, msgspec.Meta(gt=0, lt=100)]
Weight = Annotated[float, msgspec.Meta(ge=0)]


class ClosedLoop(msgspec.Struct, frozen=True, tag_field="kind", tag="closed_loop"):
    """Hold exactly `concurrency` requests in flight: a reply frees a slot, the slot sends at once."""

    concurrency: Positive


Arrivals = Literal["constant", "poisson", "gamma"]
MAX_IN_FLIGHT = 4096
RATE_LIMIT = 1e6
"""Requests a second beyond which no event loop keeps due times apart."""


class ConcurrencySteps(msgspec.Struct, frozen=True, tag_field="kind", tag="concurrency_steps"):
    """Hold one concurrency after another, up and down: `levels` are (concurrency, seconds), over and over."""

    levels: tuple[tuple[Positive, PositiveFloat], ...]


class OpenLoop(msgspec.Struct, frozen=True, tag_field="kind", tag="open_loop"):
    """Send at `rate_per_s` whatever the server does; gaps constant, exponential, or gamma with variation `cv`.

    What would pass `max_in_flight` is recorded as `unsent`.
    """

    rate_per_s: PositiveFloat
    arrivals: Arrivals = "constant"
    cv: PositiveFloat = 1.0
    max_in_flight: Positive = MAX_IN_FLIGHT


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a profile, in which the rate changes linearly."""

    duration_s: PositiveFloat
    from_per_s: Weight
    to_per_s: Weight


class Profile(msgspec.Struct, frozen=True, tag_field="kind", tag="profile"):
    """An open loop whose rate changes: ramps, steps and spikes are lists of segments."""

    segments: tuple[Segment, ...]
    repeat: bool = True
    arrivals: Arrivals = "constant"
    cv: PositiveFloat = 1.0
    max_in_flight: Positive = MAX_IN_FLIGHT


class Replay(msgspec.Struct, frozen=True, tag_field="kind", tag="replay"):
    """An open loop with recorded arrivals: a file of intervals in microseconds, or a run directory's due times."""

    path: str
    point: Positive = 1
    speed: PositiveFloat = 1.0
    repeat: bool = True
    max_in_flight: Positive = MAX_IN_FLIGHT


Load = ClosedLoop | ConcurrencySteps | OpenLoop | Profile | Replay


class ByTime(msgspec.Struct, frozen=True, tag_field="kind", tag="time"):
    """Measure for `window_ms`, after `warmup_ms` of load."""

    window_ms: Positive = 5000
    warmup_ms: NotNegative = 2000


class ByCount(msgspec.Struct, frozen=True, tag_field="kind", tag="count"):
    """Measure until `requests` have completed after warm-up, or `max_s` are over."""

    requests: Positive
    max_s: PositiveFloat = 600.0


class ByPrecision(msgspec.Struct, frozen=True, tag_field="kind", tag="precision"):
    """Measure until the 95 % intervals are as narrow as asked, relative to the value; warm-up is found afterwards."""

    throughput: PositiveFloat = 0.02
    p50: PositiveFloat = 0.05
    p99: PositiveFloat = 0.10
    min_s: PositiveFloat = 20.0
    max_s: PositiveFloat = 120.0


Stopping = ByTime | ByCount | ByPrecision | ByWindows


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Look for the highest load that keeps an objective (`loadgen.slo`), in place of given loads.

    Probes over rates send `arrivals`, and first find the capacity with `saturation` requests in flight; over
    concurrencies they go up to `max_concurrency`. A probe lasts `probe_s` or longer, never above `max_probe_s`.
    """

    slo: str
    over: Literal["rate", "concurrency"] = "rate"
    arrivals: Arrivals = "poisson"
    cv: PositiveFloat = 1.0
    saturation: Positive = 16
    max_concurrency: Positive = 64
    probe_s: PositiveFloat = 20.0
    max_probe_s: PositiveFloat = 600.0


class PerfJson(msgspec.Struct, frozen=True, tag_field="kind", tag="perf_json"):
    """Requests read from perf_analyzer's `--input-data`: JSON files, or folders with a raw file an input."""

    paths: tuple[str, ...]


class Cells(msgspec.Struct, frozen=True, tag_field="kind", tag="cells"):
    """Events of traccc cells CSVs (files, patterns, folders), every `overlay` of them laid over each other.

    `numbers` are the first and last event to take; `encoder` names what makes tensors of cells, the model's own
    declaration if empty; `module_maps` are files that the raw form needs.
    """

    paths: tuple[str, ...]
    overlay: Positive = 1
    merge_duplicates: bool = False
    numbers: tuple[NotNegative, NotNegative] | None = None
    encoder: str = ""
    module_maps: tuple[str, ...] = ()


class Generated(msgspec.Struct, frozen=True, tag_field="kind", tag="generated"):
    """Requests made from the model's declaration alone; `shapes` gives the dimensions it leaves free.

    `each` overrides `values` for inputs by name; strings have `string_bytes` random characters, or are `string`.
    """

    values: Literal["zero", "random"]
    requests: Positive = 1
    shapes: dict[str, tuple[Positive, ...]] = {}
    seed: NotNegative = 0
    each: dict[str, Literal["zero", "random"]] = {}
    string_bytes: NotNegative = 128
    string: str | None = None


class Synthetic(msgspec.Struct, frozen=True, tag_field="kind", tag="synthetic"):
    """Seeded random ODD events at pile-up `mu`: right sizes and clusters, no tracks; never physics.

    With `poisson`, the number of interactions varies about `mu` as that of bunch crossings does.
    """

    mu: PositiveFloat
    events: Positive
    seed: NotNegative = 0
    poisson: bool = False
    encoder: str = ""
    module_maps: tuple[str, ...] = ()


class Prepared(msgspec.Struct, frozen=True, tag_field="kind", tag="prepared"):
    """A corpus made beforehand by `python -m inputs cells`: a folder `NAME.corpus`, bound to one model."""

    path: str


InputData = PerfJson | Cells | Synthetic | Generated | Prepared


TransportName = Literal["auto", "direct", "grpcio", "http"]
Answers = Literal["none", "digest", "decode"]


class Companion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further model of the same server, which takes its share of every point's requests."""

    model: str
    inputs: InputData
    weight: PositiveFloat = 1.0
    version: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run: a target, its inputs, and the points to measure one after the other.

    `slo` is an objective of which every point says how many requests a second kept it. Each request goes to the
    endpoint's model or to one of its `companions`, drawn with chances in proportion to `model_weight` and theirs.
    `composing_models` are called by the model in a way that its configuration does not tell (BLS); their statistics
    are read too, as those of an ensemble's steps always are. A `ladder` finds its loads as it goes. `parameters` go
    with every request, each over a stream of its own if `streaming`; `trace` settings are set on the server first.
    `keep_corpus` leaves the requests' bytes in the run directory; `answers`: what to keep of them. `labels` say what
    the run is a part of (a study's take, server, inputs); they decide nothing.
    """

    endpoint: Endpoint
    inputs: InputData
    loads: tuple[Load, ...] = ()
    stopping: Stopping = ByTime()
    search: Search | None = None
    slo: str = ""
    companions: tuple[Companion, ...] = ()
    model_weight: PositiveFloat = 1.0
    composing_models: tuple[str, ...] = ()
    answers: Answers = "none"
    name: str = "sweep"
    repeats: Positive = 1
    point_order: Literal["sequential", "shuffle", "interleave"] = "sequential"
    percents: tuple[Percent, ...] = ()
    transport: TransportName = "auto"
    connections: Annotated[int, msgspec.Meta(gt=0, le=1024)] = 1
    compression: Literal["none", "gzip", "deflate"] = "none"
    workers: Annotated[int, msgspec.Meta(gt=0, le=256)] = 1
    spin_us: NotNegative = 1200
    deadline_ms: Positive = 300_000
    metrics_interval_ms: Positive = 1000
    nvml: Literal["auto", "on", "off"] = "auto"
    seed: NotNegative = 0
    batch: Positive = 1
    order: Literal["shuffle", "sequential", "random"] = "shuffle"
    weights: tuple[Weight, ...] = ()
    sequence_length: NotNegative = 0
    sequence_length_variation: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    sequence_ids: tuple[Positive, NotNegative] = (1, 0)
    """First and last id of sequences; 0: no last."""

    ladder: Ladder | None = None
    parameters: dict[str, bool | int | str] = {}
    streaming: bool = False
    trace: dict[str, str] = {}
    keep_corpus: bool = False
    ready_timeout_s: PositiveFloat = 30.0
    labels: dict[str, str] = {}
    format: Literal[1] = 1


def to_json(plan: Plan) -> bytes:
    """Return the plan as indented JSON; `from_json` gives back an equal plan."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def from_json(text: bytes, origin: str) -> Plan:
    """Read a plan; `origin` names the file in the message.

    Raises:
        PlanError: not JSON, or a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        return msgspec.json.decode(text, type=Plan)
    except msgspec.MsgspecError as error:
        raise PlanError(f"{origin}: {error}") from error


def read_plan(path: Path) -> Plan:
    """Read a plan file, TOML or JSON by its name; relative paths in it are relative to its folder.

    Raises:
        PlanError: it cannot be read, or as `from_json`.
    """
    try:
        text = path.read_bytes()
        content = msgspec.toml.decode(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    plan = from_json(msgspec.json.encode(content), str(path))
    companions = tuple(
        msgspec.structs.replace(each, inputs=anchored(each.inputs, path.parent)) for each in plan.companions
    )
    inputs = anchored(plan.inputs, path.parent)
    return checked(msgspec.structs.replace(plan, inputs=inputs, companions=companions))


def written(plan: Plan) -> Plan:
    """Return the plan as it is kept beside results: without secrets."""
    return msgspec.structs.replace(plan, endpoint=endpoints.masked(plan.endpoint))


def alone(plan: Plan) -> tuple[Plan, ...]:
    """Return the plan as it would be for each of its models by itself."""
    first = msgspec.structs.replace(plan, companions=(), model_weight=1.0)
    others = (
        msgspec.structs.replace(
            first,
            endpoint=msgspec.structs.replace(plan.endpoint, model=each.model, version=each.version),
            inputs=each.inputs,
        )
        for each in plan.companions
    )
    return (first, *others)


def model_key(endpoint: Endpoint) -> str:
    """Return the name by which tables tell a model from its companions."""
    return f"{endpoint.model}:{endpoint.version}" if endpoint.version else endpoint.model


def anchored(inputs: InputData, folder: Path) -> InputData:
    """Return inputs whose relative paths are taken from a folder."""
    match inputs:
        case PerfJson(paths) | Cells(paths):
            return msgspec.structs.replace(inputs, paths=tuple(str(folder.absolute() / path) for path in paths))
        case Prepared(path):
            return Prepared(str(folder.absolute() / path))
    return inputs


def checked(plan: Plan) -> Plan:
    """Return the plan after checking every field, for plans built in Python.

    Raises:
        PlanError: a field is of the wrong type or out of range; there is no load.
    """
    if not plan.loads and plan.search is None and plan.ladder is None:
        raise PlanError("the plan has no load: give at least one concurrency or rate")
    if (bool(plan.loads) + (plan.search is not None) + (plan.ladder is not None)) > 1:
        raise PlanError("the plan has loads and a search: a search finds its loads itself, leave them out")
    if plan.ladder is not None and not isinstance(plan.stopping, ByWindows):
        raise PlanError("ladder: needs the stopping rule `windows`, whose latency limit ends it")
    for load in plan.loads:
        _check_load(load, plan.workers)
    _check_endpoint(plan)
    _check_objectives(plan)
    _check_companions(plan)
    if plan.weights and (plan.order != "random" or not sum(plan.weights) > 0):
        raise PlanError("weights: need order random, and one of them above zero")
    return from_json(msgspec.json.encode(plan), "the plan")


def _check_endpoint(plan: Plan) -> None:
    endpoints.check(plan.endpoint)
    over_http = bool(plan.endpoint.http)
    if plan.transport != "auto" and over_http != (plan.transport == "http"):
        raise PlanError(f"transport {plan.transport}: does not speak {'HTTP' if over_http else 'gRPC'}; write auto")
    if over_http and plan.compression != "none":
        raise PlanError(f"compression {plan.compression}: is for gRPC only")
    if over_http and plan.answers != "none":
        raise PlanError(f"answers {plan.answers}: are kept over gRPC only")
    if over_http and plan.companions:
        raise PlanError("companions: several models at once are for gRPC only")


def _check_companions(plan: Plan) -> None:
    keys = [model_key(each.endpoint) for each in alone(plan)]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise PlanError(f"companions: {twice} is named twice; name each model, or version of it, once")
    if plan.companions and plan.weights:
        raise PlanError("weights: are for the requests of one model; a mix has model_weight and a weight a companion")


def _check_objectives(plan: Plan) -> None:
    if plan.slo:
        objective = slo.parse(plan.slo)
        for load in plan.loads:
            if isinstance(load, ClosedLoop | ConcurrencySteps):
                slo.refuse_response_of_closed_loop(objective, f"concurrency {load_level(load)}")
    if plan.search is not None:
        objective = slo.parse(plan.search.slo)
        if plan.search.over == "concurrency":
            slo.refuse_response_of_closed_loop(objective, "a search over concurrency")
        if plan.search.probe_s > plan.search.max_probe_s:
            raise PlanError(f"probe_s {plan.search.probe_s:g}: is above max_probe_s {plan.search.max_probe_s:g}")


def load_level(load: ClosedLoop | ConcurrencySteps) -> str:
    """Return the concurrency of a closed loop in a word: `4`, `2,8`."""
    if isinstance(load, ClosedLoop):
        return str(load.concurrency)
    return ",".join(str(level) for level, _ in load.levels)


def _check_load(load: Load, workers: int) -> None:
    if isinstance(load, OpenLoop | Profile | Replay) and load.max_in_flight < workers:
        raise PlanError(f"max_in_flight {load.max_in_flight}: is less than one for each of {workers} workers")
    if isinstance(load, OpenLoop) and load.rate_per_s > RATE_LIMIT:
        raise PlanError(
            f"rate_per_s {load.rate_per_s:g}: no clock keeps due times apart beyond {RATE_LIMIT:g} a second"
        )
    if isinstance(load, Profile) and not any(each.from_per_s or each.to_per_s for each in load.segments):
        raise PlanError("segments: a profile needs a part with a rate above 0")
    if isinstance(load, ConcurrencySteps) and not load.levels:
        raise PlanError("levels: concurrency steps need at least one (concurrency, seconds)")
