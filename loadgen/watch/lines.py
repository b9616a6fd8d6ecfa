"""A round for programs: one plain line a model and a GPU, or one JSON object. Pure; fields in docs/server_side.md."""

import json
from collections.abc import Container, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from loadgen.watch.history import NS_PER_S, Figures
from loadgen.watch.page import Round, printable
from loadgen.watch.view import EndpointView, GpuView, ModelView, SourceView

NS_PER_MS = 1e6


Told = tuple[str, str]
"""An endpoint and the words of a note."""


def iso(utc_ns: int | None) -> str | None:
    """Return a moment as ISO 8601 in UTC, to the millisecond."""
    if utc_ns is None:
        return None
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(shown: Round) -> bytes:
    """Return a round as one JSON object; what is missing is null."""
    return msgspec.json.encode(
        {
            "at": iso(shown.moment.utc_ns),
            "interval_s": shown.interval_ns / NS_PER_S,
            "calls": shown.calls,
            "longest_call_ms": round(shown.took_ms, 3),
            "endpoints": [_endpoint(view) for view in shown.views],
        }
    )


def _endpoint(view: EndpointView) -> dict[str, Any]:
    return {
        "endpoint": view.address,
        "server": view.server or None,
        "version": view.version or None,
        "ready": view.ready,
        "sources": [_source(source) for source in view.sources],
        "models": [_model(model) for model in view.models],
        "gpus": [_gpu(gpu) for gpu in view.gpus],
        "notes": [{"at": iso(note.at_utc_ns), "words": note.words} for note in view.notes],
    }


def _source(source: SourceView) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "address": source.address,
        "reachable": source.reachable,
        "reason": source.reason or None,
        "since": iso(source.since_utc_ns),
    }


def _model(model: ModelView) -> dict[str, Any]:
    return {
        "model": model.model,
        "version": model.version,
        "replica": model.replica or None,
        "state": model.state or None,
        "source": model.source,
        "instances": model.instances,
        "pending": model.pending,
        "last_interval": asdict(model.now),
        "last_minute": asdict(model.minute),
    }


def _gpu(gpu: GpuView) -> dict[str, Any]:
    return {"gpu": gpu.uuid, "page": gpu.replica, **asdict(gpu.now), "power_share": gpu.now.power_share}


def as_lines(shown: Round, told: Container[Told] = ()) -> Iterator[str]:
    """Yield a round as lines of `name=value`: one a model, a GPU, an unreachable source, a note not yet told."""
    at = iso(shown.moment.utc_ns)
    for view in shown.views:
        for source in view.sources:
            if not source.reachable:
                state = "asked" if source.reachable is None else "unreachable"
                since = iso(source.since_utc_ns)
                yield _line(at, view, source=source.address, state=state, since=since, reason=source.reason or None)
        for note in view.notes:
            if (view.address, note.words) not in told:
                yield _line(at, view, note=note.words)
        for model in view.models:
            yield _line(at, view, **_model_line(model))
        for gpu in view.gpus:
            yield _line(at, view, **_gpu(gpu))


def _model_line(model: ModelView) -> dict[str, Any]:
    return {
        "model": model.model,
        "version": model.version or None,
        "replica": model.replica or None,
        "state": model.state or None,
        "source": model.source,
        **_figures(model.now, ""),
        "pending": model.pending,
        "instances": model.instances,
        **_figures(model.minute, "_minute"),
    }


def _figures(found: Figures, suffix: str) -> dict[str, float | None]:
    shown = {}
    for name, value in asdict(found).items():
        time = name.endswith("_ns")
        unit = NS_PER_MS if time else 1.0
        name_ms = name.removesuffix("_ns") + "_ms" if time else name
        shown[name_ms + suffix] = None if value is None else value / unit
    return shown


def _line(at: str | None, view: EndpointView, **named: object) -> str:
    return " ".join([at or "-", f"endpoint={_word(view.address)}", *(f"{k}={_word(v)}" for k, v in named.items())])


def _word(value: object) -> str:
    """Return a value that a line can be split at blanks by: text with blanks is a JSON string, missing is a dash."""
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.6g}"
    text = printable(str(value))
    return json.dumps(text) if not text or set(' "=') & set(text) else text
