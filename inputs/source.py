"""Where a plan's events come from: read, made, described in words, encoded once the model is known."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import overlay, perf_json, raw_files, signatures, synthetic, traccc
from inputs.batch import batched
from inputs.event import Event
from inputs.generate import generated
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata
from loadgen.plan import Cells, Generated, InputData, PerfJson, Synthetic

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
            case Cells(paths, each, merge_duplicates):
                laid = f"overlay of {each} events of " * (each > 1) + "merged " * (merge_duplicates and each == 1)
                words = f"{laid}cells of {', '.join(Path(path).name for path in paths)}"
            case Synthetic():
                return made
            case Generated(kind, requests, _, seed):
                return f"{kind} values, {requests} requests, seed {seed}"
        return f"{words} ({made})" if made else words

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
            yield from generated(metadata, given.values, given.requests, given.seed, given.shapes)
            return
        signature = signatures.choose(metadata)
        if isinstance(self.data, Synthetic) and signature.name != "odd":
            raise PlanError(
                f"synthetic events are ODD events; model {metadata.name} takes {signature.name.upper()} ids"
            )
        for event in self._raw_events():
            yield signature.encode(event)

    def _raw_events(self) -> Iterator[Event]:
        if isinstance(self.data, Synthetic):
            return synthetic.events(self.data.mu, self.data.events, self.data.seed)
        assert isinstance(self.data, Cells)
        events = traccc.read_events(self.data.paths)
        if self.data.overlay > 1:
            return overlay.overlaid(events, self.data.overlay)
        if self.data.merge_duplicates:
            return (Event(event.label, overlay.merged(event.cells)) for event in events)
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
            traccc.cells_files(paths)
            return Source(data, _merged([_folder_provenance(Path(path)) for path in paths], "replay"))
        case Generated(kind, requests, _, seed):
            return Source(data, {"source": kind, "requests": requests, "seed": seed})
        case Synthetic(mu, events, seed):
            return Source(data, synthetic_provenance(mu, events, seed))


def synthetic_provenance(mu: float, events: int, seed: int) -> dict[str, Any]:
    """Return the provenance of made events."""
    return {"source": "synthetic", "detector": "ODD", "mu": mu, "events": events, "seed": seed}


def synthetic_words(provenance: dict[str, Any]) -> str:
    """Say how events were made: `synthetic ODD, mu 20, 10 events, seed 0`."""
    known = [f"{name} {provenance[name]:g}" for name in ("mu", "seed") if name in provenance]
    count = [f"{provenance['events']} events"] if "events" in provenance else []
    return ", ".join(["synthetic ODD", *known[:1], *count, *known[1:]])


def _merged(found: list[dict[str, Any]], otherwise: str) -> dict[str, Any]:
    """Join the provenance of several files: one made file makes the whole made."""
    made = [each for each in found if each.get("source") == "synthetic"]
    return made[0] if made else {"source": otherwise, **(found[0] if found else {})}


def _folder_provenance(path: Path) -> dict[str, Any]:
    file = (path if path.is_dir() else path.parent) / PROVENANCE_FILE
    if not file.exists():
        return {}
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise PlanError(f"{file}: cannot read: {error}") from error
    return said if isinstance(said, dict) else {}
