"""Where a plan's events come from: read, made, described in words, encoded once the model is known."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import overlay, perf_json, raw_files, synthetic, traccc
from inputs.batch import batched
from inputs.encoders import BUILT_IN, encoder
from inputs.event import Event
from inputs.generate import generated
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata
from loadgen.plan import Cells, Generated, InputData, PerfJson, Prepared, Synthetic
from loadgen.prepare import read_index

PROVENANCE_FILE = "provenance.json"
"""Beside cells files that were made, not measured: says how."""


@dataclass(frozen=True, slots=True)
class Source:
    """A plan's inputs; `provenance` has `source` (`synthetic`, `replay`, `unknown`) and what else is known."""

    data: InputData
    provenance: dict[str, Any]

    @property
    def synthetic(self) -> bool:
        """Whether the events are made up."""
        return bool(self.provenance["source"] == "synthetic")

    @property
    def description(self) -> str:
        """The inputs in words, for every table and chart."""
        made = synthetic_words(self.provenance) if self.synthetic else ""
        match self.data:
            case PerfJson(paths):
                words = f"perf_analyzer JSON {', '.join(Path(path).name for path in paths)}"
            case Cells(paths, each, merge_duplicates, numbers):
                laid = f"overlay of {each} events of " * (each > 1) + "merged " * (merge_duplicates and each == 1)
                taken = f" (events {numbers[0]} to {numbers[1]})" if numbers else ""
                words = f"{laid}cells of {', '.join(Path(path).name for path in paths)}{taken}"
            case Synthetic():
                return made
            case Generated(kind, requests, _, seed, each):
                apart = "".join(f", {name} {values}" for name, values in each.items())
                return f"{kind} values{apart}, {requests} requests, seed {seed}"
            case Prepared(path):
                words = f"corpus {Path(path).name} of {self.provenance['description']}"
        return f"{words} ({made})" if made else words

    @property
    def files(self) -> list[Path] | None:
        """The files whose contents decide the requests; None if other things do too."""
        match self.data:
            case PerfJson(paths):
                found = [sorted(path.iterdir()) if path.is_dir() else [path] for path in map(Path, paths)]
                return [file for files in found for file in files]
            case Cells(paths, _, _, numbers, name, module_maps) if name in BUILT_IN:
                return [*traccc.cells_files(paths, numbers), *map(Path, module_maps)]
            case _:
                return None

    def events(self, metadata: ModelMetadata, batch: int = 1) -> Iterator[InputEvent]:
        """Yield every request, encoded for the model, each joining `batch` events.

        Raises:
            PlanError: an input cannot be read, does not fit the model, or cannot be batched.
        """
        return batched(self._single_events(metadata), metadata, batch)

    def _single_events(self, metadata: ModelMetadata) -> Iterator[InputEvent]:
        """Yield every event, encoded for the model.

        Raises:
            PlanError: an input cannot be read, or the model takes nothing that cells can be turned into.
        """
        if isinstance(self.data, PerfJson):
            for path in map(Path, self.data.paths):
                yield from [raw_files.read(path, metadata)] if path.is_dir() else perf_json.read(path, metadata)
            return
        if isinstance(self.data, Generated):
            given = self.data
            yield from generated(metadata, given)
            return
        assert isinstance(self.data, Synthetic | Cells)
        encode = encoder(metadata, self.data.encoder, self.data.module_maps, synthetic=self.synthetic)
        yield from map(encode, raw_events(self.data))


def raw_events(data: Cells | Synthetic) -> Iterator[Event]:
    """Yield the events of cells before they are encoded, laid over each other and merged as asked.

    Raises:
        PlanError: as `traccc.read_events` and `overlay.overlaid`.
    """
    if isinstance(data, Synthetic):
        return synthetic.events(data.mu, data.events, data.seed, poisson=data.poisson)
    events = traccc.read_events(data.paths, data.numbers)
    if data.overlay > 1:
        return overlay.overlaid(events, data.overlay)
    if data.merge_duplicates:
        return (Event(event.label, overlay.merged(event.cells), event.dropped_cells) for event in events)
    return events


def open_source(data: InputData) -> Source:
    """Look at a plan's inputs, far enough to say what they are.

    Raises:
        PlanError: a file is missing or is not what its name says.
    """
    match data:
        case PerfJson(paths):
            found = [{} if Path(path).is_dir() else perf_json.provenance(Path(path)) for path in paths]
            return Source(data, _merged(found, "unknown"))
        case Cells(paths):
            folders = dict.fromkeys(file.parent for file in traccc.cells_files(paths, data.numbers))
            return Source(data, _merged([_folder_provenance(folder) for folder in folders], "replay"))
        case Generated(kind, requests, _, seed):
            return Source(data, {"source": kind, "requests": requests, "seed": seed})
        case Synthetic():
            return Source(data, synthetic_provenance(data))
        case Prepared(path):
            index = read_index(Path(path))
            return Source(data, {**index.provenance, "description": index.source})


def synthetic_provenance(data: Synthetic) -> dict[str, Any]:
    """Return the provenance of made events."""
    facts = {"mu": data.mu, "events": data.events, "seed": data.seed, "poisson": data.poisson}
    return {"source": "synthetic", "detector": "ODD", **facts}


def synthetic_words(provenance: dict[str, Any]) -> str:
    """Say how events were made: `synthetic ODD, mu 20, 10 events, seed 0`."""
    known = [f"{name} {provenance[name]:g}" for name in ("mu", "seed") if name in provenance]
    known[:1] = [f"{known[0]} (Poisson)"] if provenance.get("poisson") and known else known[:1]
    count = [f"{provenance['events']} events"] if "events" in provenance else []
    return ", ".join(["synthetic ODD", *known[:1], *count, *known[1:]])


def _merged(found: list[dict[str, Any]], otherwise: str) -> dict[str, Any]:
    """Join the provenance of several files: one made file makes the whole made."""
    made = [each for each in found if each.get("source") == "synthetic"]
    return made[0] if made else {"source": otherwise, **(found[0] if found else {})}


def _folder_provenance(folder: Path) -> dict[str, Any]:
    file = folder / PROVENANCE_FILE
    if not file.exists():
        return {}
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise PlanError(f"{file}: cannot read: {error}") from error
    return said if isinstance(said, dict) else {}
