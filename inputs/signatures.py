"""The tensors of each version of `traccc-gpu`, chosen by what the served model declares."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from inputs.event import Event
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor, TensorMetadata, signature_text

Encoder = Callable[[pl.DataFrame], tuple[Tensor, ...]]
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Signature:
    """A version of the model: the inputs it declares, and how cells become them."""

    name: str
    inputs: tuple[TensorMetadata, ...]
    tensors: Encoder

    def encode(self, event: Event) -> InputEvent:
        """Return the event as this version's tensors.

        Raises:
            PlanError: an identifier does not fit the declared type.
        """
        try:
            return InputEvent(event.label, self.tensors(event.cells), event.cells.height)
        except OverflowError as error:
            raise PlanError(f"{event.label}: {error}") from error


def choose(metadata: ModelMetadata) -> Signature:
    """Return the signature whose inputs the model declares, in whatever order.

    Raises:
        PlanError: none is; the message shows what the model declares and what is known.
    """
    declared = sorted(metadata.inputs, key=str)
    for signature in SIGNATURES.values():
        if sorted(signature.inputs, key=str) == declared:
            return signature
    known = "; ".join(f"{name}: {signature_text(signature.inputs)}" for name, signature in SIGNATURES.items())
    raise PlanError(
        f"model {metadata.name} takes {signature_text(metadata.inputs)}, which cells cannot be turned into "
        f"(known: {known}); give its tensors as perf_analyzer JSON with --input-data FILE.json"
    )


def _odd(cells: pl.DataFrame) -> tuple[Tensor, ...]:
    columns = ("measurement_id", "channel0", "channel1", "timestamp", "value")
    features = cells.select(pl.col(columns).cast(pl.Float64)).to_numpy(order="c")
    return (
        Tensor("GEOMETRY_ID", "UINT64", cells["geometry_id"].to_numpy()),
        Tensor("FEATURES", "FP64", features),
    )


def _tml(cells: pl.DataFrame) -> tuple[Tensor, ...]:
    exact = cells["geometry_id"].cast(pl.Float64).cast(pl.UInt64) == cells["geometry_id"]
    if not exact.all():
        raise OverflowError("a geometry_id is no exact FP64, which FEATURES[-1,6] is made of: not a TrackML event")
    return (Tensor("FEATURES", "FP64", cells.select(pl.all().cast(pl.Float64)).to_numpy(order="c")),)


def _itk(cells: pl.DataFrame) -> tuple[Tensor, ...]:
    columns = ("geometry_id", "measurement_id", "channel0", "channel1")
    for name in columns:
        largest = cells[name].max()
        if isinstance(largest, int) and largest > INT64_MAX:
            raise OverflowError(f"{name} {largest} does not fit INT64, which CELL_POSITIONS is made of")
    positions = np.column_stack([cells[name].cast(pl.Int64).to_numpy() for name in columns])
    properties = np.column_stack([cells[name].to_numpy() for name in ("timestamp", "value")])
    return (Tensor("CELL_POSITIONS", "INT64", positions), Tensor("CELL_PROPERTIES", "FP32", properties))


SIGNATURES = {
    "odd": Signature(
        "odd",
        (TensorMetadata("GEOMETRY_ID", "UINT64", (-1,)), TensorMetadata("FEATURES", "FP64", (-1, 5))),
        _odd,
    ),
    "itk": Signature(
        "itk",
        (TensorMetadata("CELL_POSITIONS", "INT64", (-1, 4)), TensorMetadata("CELL_PROPERTIES", "FP32", (-1, 2))),
        _itk,
    ),
    "tml": Signature("tml", (TensorMetadata("FEATURES", "FP64", (-1, 6)),), _tml),
}
"""Name -> version. FEATURES: measurement_id, channel0, channel1, timestamp, value. CELL_POSITIONS: geometry_id,
measurement_id, channel0, channel1. CELL_PROPERTIES: timestamp, value. TML: all six columns."""
