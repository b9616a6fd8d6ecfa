"""What is asked for: one frozen, checked Plan, written beside every result so that it can be run again."""

import math
from typing import Annotated, Literal

import msgspec

from loadgen.errors import PlanError

Positive = Annotated[int, msgspec.Meta(gt=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Weight = Annotated[float, msgspec.Meta(ge=0)]


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model is served: gRPC address, metrics page (None: do not poll), model and version."""

    grpc: str
    model: str
    version: str = ""
    metrics_url: str | None = None


class ClosedLoop(msgspec.Struct, frozen=True, tag_field="kind", tag="closed_loop"):
    """Hold exactly `concurrency` requests in flight: a reply frees a slot, the slot sends at once."""

    concurrency: Positive


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


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run: a target, its inputs, and the points to measure one after the other."""

    endpoint: Endpoint
    inputs: InputData
    loads: tuple[ClosedLoop, ...]
    name: str = "sweep"
    warmup_ms: NotNegative = 2000
    window_ms: Positive = 5000
    deadline_ms: Positive = 300_000
    metrics_interval_ms: Positive = 1000
    seed: NotNegative = 0
    batch: Positive = 1
    order: Literal["shuffle", "sequential", "random"] = "shuffle"
    weights: tuple[Weight, ...] = ()
    sequence_length: NotNegative = 0
    ready_timeout_s: PositiveFloat = 30.0
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


def checked(plan: Plan) -> Plan:
    """Return the plan after checking every field, for plans built in Python.

    Raises:
        PlanError: a field is of the wrong type or out of range; there is no load.
    """
    if not plan.loads:
        raise PlanError("the plan has no load: give at least one concurrency")
    if plan.weights and (plan.order != "random" or not sum(plan.weights) > 0):
        raise PlanError("weights: need order random, and one of them above zero")
    return from_json(msgspec.json.encode(plan), "the plan")


def range_option(text: str) -> tuple[int, int]:
    """Parse `--event-range FIRST:LAST`, both taken; one number is that event alone.

    Raises:
        PlanError: not whole numbers, or the last below the first.
    """
    first, _, last = text.partition(":")
    numbers = (first, last or first)
    if not all(part.isascii() and part.isdigit() for part in numbers) or int(numbers[1]) < int(numbers[0]):
        raise PlanError(f"--event-range {text}: write FIRST:LAST with whole numbers, as 0:9")
    return int(numbers[0]), int(numbers[1])


def weights_option(text: str) -> tuple[float, ...]:
    """Parse `--weights W0,W1,...`, one a request.

    Raises:
        PlanError: one is not a number from 0.
    """
    try:
        weights = tuple(map(float, text.split(",")))
    except ValueError:
        weights = (-1.0,)
    if not all(0 <= weight < math.inf for weight in weights):
        raise PlanError(f"--weights {text}: write numbers from 0, one a request, as 5,1,1")
    return weights


def input_option(text: str) -> tuple[str, Literal["zero", "random"]]:
    """Parse `--input NAME=zero` or `NAME=random`.

    Raises:
        PlanError: it is neither.
    """
    name, _, values = text.rpartition("=")
    if not name or values not in {"zero", "random"}:
        raise PlanError(f"--input {text}: write NAME=zero or NAME=random")
    return name, "zero" if values == "zero" else "random"


def shape_option(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse perf_analyzer's `--shape NAME:d1,d2`; the name may hold colons.

    Raises:
        PlanError: there is no name, or a dimension is not a positive whole number.
    """
    name, _, dimensions = text.rpartition(":")
    parts = dimensions.split(",")
    if not name or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise PlanError(f"--shape {text}: write NAME:D1,D2 with whole numbers from 1, as FEATURES:1000,5")
    return name, tuple(map(int, parts))


def concurrency_range(text: str) -> tuple[ClosedLoop, ...]:
    """Parse perf_analyzer's `start[:end[:step]]` into one load a level.

    Raises:
        PlanError: not one to three positive integers, or end below start.
    """
    mend = "write START, START:END or START:END:STEP with whole numbers from 1, as 1:8:1"
    parts = text.split(":")
    if len(parts) > len(("start", "end", "step")) or not all(part.isascii() and part.isdigit() for part in parts):
        raise PlanError(f"--concurrency-range {text}: {mend}")
    start, end, step = [*map(int, parts), *[int(parts[0]), 1][len(parts) - 1 :]]
    if min(start, step) < 1 or end < start:
        raise PlanError(f"--concurrency-range {text}: {mend}")
    return tuple(ClosedLoop(level) for level in range(start, end + 1, step))
