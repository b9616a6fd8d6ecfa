"""The tensors of each version of `traccc-gpu`, chosen by what the served model declares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from inputs.event import CELLS_SCHEMA, Event
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor, TensorMetadata, signature_text

Encoder = Callable[[pl.DataFrame], tuple[Tensor, ...]]
INT64_MAX = 2**63 - 1
FEATURES = ("measurement_id", "channel0", "channel1", "timestamp", "value")
POSITIONS = ("geometry_id", "measurement_id", "channel0", "channel1")
PROPERTIES = ("timestamp", "value")


@dataclass(frozen=True, slots=True)
class Signature:
    """A version of the model: the inputs it declares, and how cells become them."""

    name: str
    inputs: tuple[TensorMetadata, ...]
    tensors: Encoder
    cells: Callable[[Mapping[str, npt.NDArray[Any]]], pl.DataFrame]

    def encode(self, event: Event) -> InputEvent:
        """Return the event as this version's tensors.

        Raises:
            PlanError: an identifier does not fit the declared type.
        """
        try:
            tensors = self.tensors(event.cells)
        except OverflowError as error:
            raise PlanError(f"{event.label}: {error}") from error
        return InputEvent(event.label, tensors, event.cells.height, dropped_cells=event.dropped_cells)

    def decode(self, event: InputEvent) -> Event:
        """Return the cells that a request of this version was made of, with every identifier as it was."""
        arrays = {tensor.name: tensor.data for tensor in event.tensors}
        return Event(event.label, self.cells(arrays).cast(CELLS_SCHEMA).select(list(CELLS_SCHEMA)))  # type: ignore[arg-type]


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
    features = cells.select(pl.col(FEATURES).cast(pl.Float64)).to_numpy(order="c")
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
    for name in POSITIONS:
        largest = cells[name].max()
        if isinstance(largest, int) and largest > INT64_MAX:
            raise OverflowError(f"{name} {largest} does not fit INT64, which CELL_POSITIONS is made of")
    positions = np.column_stack([cells[name].cast(pl.Int64).to_numpy() for name in POSITIONS])
    properties = np.column_stack([cells[name].to_numpy() for name in PROPERTIES])
    return (Tensor("CELL_POSITIONS", "INT64", positions), Tensor("CELL_PROPERTIES", "FP32", properties))


def _odd_cells(arrays: Mapping[str, npt.NDArray[Any]]) -> pl.DataFrame:
    columns = dict(zip(FEATURES, arrays["FEATURES"].T, strict=True))
    return pl.DataFrame({"geometry_id": arrays["GEOMETRY_ID"], **columns})


def _tml_cells(arrays: Mapping[str, npt.NDArray[Any]]) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(CELLS_SCHEMA, arrays["FEATURES"].T, strict=True)))


def _itk_cells(arrays: Mapping[str, npt.NDArray[Any]]) -> pl.DataFrame:
    positions = zip(POSITIONS, arrays["CELL_POSITIONS"].T, strict=True)
    properties = zip(PROPERTIES, arrays["CELL_PROPERTIES"].T, strict=True)
    return pl.DataFrame({**dict(positions), **dict(properties)})


SIGNATURES = {
    "odd": Signature(
        "odd",
        (TensorMetadata("GEOMETRY_ID", "UINT64", (-1,)), TensorMetadata("FEATURES", "FP64", (-1, 5))),
        _odd,
        _odd_cells,
    ),
    "itk": Signature(
        "itk",
        (TensorMetadata("CELL_POSITIONS", "INT64", (-1, 4)), TensorMetadata("CELL_PROPERTIES", "FP32", (-1, 2))),
        _itk,
        _itk_cells,
    ),
    "tml": Signature("tml", (TensorMetadata("FEATURES", "FP64", (-1, 6)),), _tml, _tml_cells),
}
"""Name -> version. FEATURES: measurement_id, channel0, channel1, timestamp, value. CELL_POSITIONS: geometry_id,
measurement_id, channel0, channel1. CELL_PROPERTIES: timestamp, value. TML: all six columns."""
