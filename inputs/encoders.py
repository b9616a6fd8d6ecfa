"""From cells to the tensors of the served model: the known versions of `traccc-gpu`, or a function of the user's.

A function is named as `module:function`, or registered by an installed package under the entry point group
`loadgen.encoders`. It takes the cells (a polars frame with the columns of `CELLS_SCHEMA`) and returns a mapping from
input name to numpy array; BYTES are arrays of objects.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata as installed
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from inputs import raw_cells, signatures
from inputs.event import Event
from inputs.signatures import SIGNATURES
from loadgen.errors import PlanError
from loadgen.kserve import DTYPES, InputEvent, ModelMetadata, Tensor, TensorMetadata, signature_text

GROUP = "loadgen.encoders"
BUILT_IN = ("", *SIGNATURES, raw_cells.NAME)
"""Names that need no code but ours; the empty one leaves the choice to the model's declaration."""

Encode = Callable[[Event], InputEvent]
Function = Callable[[pl.DataFrame], Mapping[str, npt.NDArray[Any]]]


def encoder(metadata: ModelMetadata, name: str, module_maps: tuple[str, ...], *, synthetic: bool = False) -> Encode:
    """Return what encodes events for a model: by `name`, or by the inputs the model declares if it is empty.

    Raises:
        PlanError: there is no such encoder, it does not fit the model, or the raw form lacks its module map.
    """
    if name not in BUILT_IN:
        return _of_function(metadata, name, _function(name))
    if name == raw_cells.NAME or (not name and metadata.inputs == raw_cells.INPUTS):
        _check_declared(metadata, raw_cells.NAME, raw_cells.INPUTS)
        return raw_cells.encoder(module_maps)
    signature = SIGNATURES[name] if name else signatures.choose(metadata)
    _check_declared(metadata, signature.name, signature.inputs)
    if synthetic and signature.name != "odd":
        raise PlanError(f"synthetic events are ODD events; model {metadata.name} takes {signature.name.upper()} ids")
    return signature.encode


def _check_declared(metadata: ModelMetadata, name: str, inputs: tuple[TensorMetadata, ...]) -> None:
    if sorted(metadata.inputs, key=str) != sorted(inputs, key=str):
        raise PlanError(
            f"--encoder {name}: makes {signature_text(inputs)}; "
            f"model {metadata.name} takes {signature_text(metadata.inputs)}"
        )


def _function(name: str) -> Function:
    registered = {point.name: point for point in installed.entry_points(group=GROUP)}
    try:
        if name in registered:
            function: Function = registered[name].load()
            return function
        module, colon, attribute = name.partition(":")
        if not colon or not module or not attribute:
            known = ", ".join([*BUILT_IN[1:], *registered])
            raise PlanError(f"--encoder {name}: is not known; write one of {known}, or MODULE:FUNCTION")
        if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python itself puts it there
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PlanError(f"--encoder {name}: {error}") from error
    return function


def _of_function(metadata: ModelMetadata, name: str, function: Function) -> Encode:
    wanted = {tensor.name: tensor for tensor in metadata.request_inputs}

    def encode(event: Event) -> InputEvent:
        where = f"--encoder {name}: {event.label}"
        try:
            arrays = function(event.cells)
        except Exception as error:  # whatever the user's code raises is the user's to mend
            raise PlanError(f"{where}: {type(error).__name__}: {error}") from error
        unknown = [each for each in arrays if each not in wanted]
        missing = [each for each in wanted if each not in arrays and each not in metadata.optional]
        if unknown or missing:
            raise PlanError(f"{where}: gave {', '.join(arrays)}; model {metadata.name} takes {', '.join(wanted)}")
        tensors = tuple(_checked(wanted[each], np.asarray(array), where) for each, array in arrays.items())
        return InputEvent(event.label, tensors, event.cells.height, dropped_cells=event.dropped_cells)

    return encode


def _checked(wanted: TensorMetadata, array: npt.NDArray[Any], where: str) -> Tensor:
    fits = len(array.shape) == len(wanted.shape) and all(
        want in {-1, got} for want, got in zip(wanted.shape, array.shape, strict=True)
    )
    if array.dtype != DTYPES[wanted.datatype] or not fits:
        raise PlanError(f"{where}: {wanted.name} is {array.dtype}{list(array.shape)}; the model wants {wanted}")
    return Tensor(wanted.name, wanted.datatype, np.ascontiguousarray(array))
