"""Levels -> perf_analyzer's CSV, in each of its forms, to the letter.

Its rules: rows by increasing throughput, whole microseconds rounded down, throughput to 6 significant digits, a GPU
cell is `uuid:value;` repeated. Requests are serialised before the load starts and answers are not decoded while it
runs, so over gRPC Client Send and Client Recv are 0.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.perf_level import GAUGES, Level, Server, us

STAGES = ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")
CACHES = ("Server Cache Hit", "Server Cache Miss")
NETWORK = "Network+Server Send/Recv"


@dataclass(frozen=True, slots=True)
class Form:
    """Which columns there are."""

    verbose: bool = False
    metrics: bool = False
    decoupled: bool = False
    cache: bool = False


def csv_text(levels: Sequence[Level], form: Form) -> str:
    """Return the CSV of some levels, all of one kind."""
    with_server = bool(levels) and all(level.server is not None for level in levels)
    percents = sorted(levels[0].percentiles_ns) if levels else []
    head = [
        _kind(levels),
        "Inferences/Second",
        *(["Response Throughput"] if form.decoupled else []),
        "Client Send",
        *(_server_columns(form) if with_server else []),
        "Client Recv",
        *(f"p{percent} latency" for percent in percents),
        *(_verbose_columns(levels, form) if form.verbose else []),
    ]
    return _written([head, *(_cells(level, form, with_server=with_server) for level in by_throughput(levels))])


def composing_texts(levels: Sequence[Level], form: Form) -> dict[str, str]:
    """Return the CSV of every model that the one under load calls, by `NAME_vVERSION`."""
    first = levels[0].server if levels else None
    texts = {}
    for place, model in enumerate(first.composing if first else ()):
        head = [_kind(levels), "Inferences/Second", "Client Send", *_server_columns(form), "Client Recv"]
        rows = [_composing_cells(level, place, form) for level in by_throughput(levels)]
        texts[f"{model.name}_v{model.version}"] = _written([head, *rows])
    return texts


def by_throughput(levels: Sequence[Level]) -> list[Level]:
    """Return levels in perf_analyzer's order of rows."""
    return sorted(levels, key=lambda level: level.throughput_per_s)


def number(value: float | None) -> str:
    """Return a number as C++ streams print it: 6 significant digits."""
    return "" if value is None else f"{value:.6g}"


def _kind(levels: Sequence[Level]) -> str:
    """Return the first column's name; where both kinds are mixed, which perf_analyzer cannot do, concurrency."""
    return "Request Rate" if levels and all(level.kind == "Request Rate" for level in levels) else "Concurrency"


def _written(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _server_columns(form: Form) -> list[str]:
    return [NETWORK, *STAGES, *(CACHES if form.cache else ())]


def _verbose_columns(levels: Sequence[Level], form: Form) -> list[str]:
    average = ["Avg latency"] if not levels or levels[0].percentile is None else []
    return [*average, "request/response", "response wait", *(GAUGES.values() if form.metrics else ())]


def _cells(level: Level, form: Form, *, with_server: bool) -> list[str]:
    send_us, receive_us = us(level.send_ns), us(level.receive_ns)
    cells = [number(level.value), number(level.throughput_per_s)]
    cells += [number(level.responses_per_s)] if form.decoupled else []
    cells += [str(send_us)]
    if with_server and level.server is not None:
        cells += [str(level.network_us), *_stages(level.server, form)]
    cells += [str(receive_us), *(str(us(level.percentiles_ns[percent])) for percent in sorted(level.percentiles_ns))]
    if form.verbose:
        cells += [str(us(level.mean_ns))] if level.percentile is None else []
        wait_us = 0 if form.decoupled else us(level.mean_ns) - send_us - receive_us
        cells += [str(send_us + receive_us), str(wait_us)]
        cells += [gpu_cell(level, column) for column in GAUGES.values()] if form.metrics else []
    return cells


def _stages(server: Server, form: Form) -> list[str]:
    times = [server.queue_us, server.compute_input_us, server.compute_infer_us, server.compute_output_us]
    times += [server.cache_hit_us, server.cache_miss_us] if form.cache else []
    return list(map(str, times))


def _composing_cells(level: Level, place: int, form: Form) -> list[str]:
    assert level.server is not None
    model = level.server.composing[place]
    stages_us = model.queue_us + model.compute_input_us + model.compute_infer_us + model.compute_output_us
    network_us = max(0, model.request_us - stages_us)
    share = model.successes / level.server.successes if level.server.successes else 0.0
    rate = number(level.throughput_per_s * share)
    return [number(level.value), rate, "0", str(network_us), *_stages(model, form), "0"]


def gpu_cell(level: Level, column: str) -> str:
    """Return a GPU column's cell."""
    digits = ".0f" if "Memory" in column else ".6g"
    return "".join(f"{gpu}:{value:{digits}};" for gpu, value in level.gauges.get(column, {}).items())
