"""What is asked for: one frozen, checked Plan, written beside every result so that it can be run again."""

from typing import Annotated, Literal

import msgspec

from loadgen.errors import PlanError

Positive = Annotated[int, msgspec.Meta(gt=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


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
    """Events of traccc cells CSVs (files, or folders of them), every `overlay` of them laid over each other."""

    paths: tuple[str, ...]
    overlay: Positive = 1
    merge_duplicates: bool = False


class Generated(msgspec.Struct, frozen=True, tag_field="kind", tag="generated"):
    """Requests made from the model's declaration alone; `shapes` gives the dimensions it leaves free."""

    values: Literal["zero", "random"]
    requests: Positive = 1
    shapes: dict[str, tuple[Positive, ...]] = {}
    seed: NotNegative = 0


class Synthetic(msgspec.Struct, frozen=True, tag_field="kind", tag="synthetic"):
    """Seeded random ODD events at pile-up `mu`: right sizes and clusters, no tracks; never physics."""

    mu: PositiveFloat
    events: Positive
    seed: NotNegative = 0


InputData = PerfJson | Cells | Synthetic | Generated


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
    return from_json(msgspec.json.encode(plan), "the plan")


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
