"""Requests of a batch: several steps joined along a leading dimension, as models with `max_batch_size` want them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, Tensor


def batched(events: Iterable[InputEvent], metadata: ModelMetadata, size: int) -> Iterator[InputEvent]:
    """Join every `size` events into one request; the last is filled up from the beginning.

    A model that does not batch takes its events as they are.

    Raises:
        PlanError: the model does not take batches of that size, or steps of one batch differ in shape.
    """
    if size > max(1, metadata.max_batch_size):
        raise PlanError(f"-b {size}: model {metadata.name} takes at most {max(1, metadata.max_batch_size)} a request")
    if metadata.max_batch_size == 0:
        yield from events
        return
    first: list[InputEvent] = []
    waiting: list[InputEvent] = []
    for event in events:
        if len(first) < size:
            first.append(event)
        waiting.append(event)
        if len(waiting) == size:
            yield _joined(waiting)
            waiting = []
    if waiting:
        filled = [*waiting, *first * size]
        yield _joined(filled[:size])


def _joined(events: Sequence[InputEvent]) -> InputEvent:
    one = events[0]
    names = [tensor.name for tensor in one.tensors]
    if any([tensor.name for tensor in event.tensors] != names for event in events):
        raise PlanError(f"{one.label}: a batch joins steps with different inputs; use -b 1")
    tensors = tuple(_stacked([event.tensors[k] for event in events], one.label) for k in range(len(names)))
    known = [event.cells for event in events if event.cells is not None]
    label = one.label if len(events) == 1 else f"{one.label} to {events[-1].label}"
    answer = tuple(_stacked([event.answer[k] for event in events], one.label) for k in range(len(one.answer)))
    cells, dropped = sum(known) if known else None, sum(event.dropped_cells for event in events)
    return InputEvent(label, tensors, cells, one.stream, one.step, one.parameters, answer, dropped)


def _stacked(tensors: Sequence[Tensor], label: str) -> Tensor:
    one = tensors[0]
    if any(tensor.data.shape != one.data.shape for tensor in tensors):
        shapes = ", ".join(str(list(tensor.data.shape)) for tensor in tensors)
        raise PlanError(f"{label}: {one.name}: a batch joins shapes {shapes}; use -b 1, or steps of one shape")
    return Tensor(one.name, one.datatype, np.stack([tensor.data for tensor in tensors]))
