"""perf_analyzer's standard output -> levels, by labels and never by place: anything may stand between the lines.

Every `Measurement Settings` block begins a run. A level that was begun and has no result (unstable, aborted, cut off)
is a row without figures, verdict `unstable` or `unfinished`; the table at the end gives levels that have no block.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from analysis.perf_analyzer import stdout_lines as lines
from analysis.perf_analyzer.cells import count, duration_ns, number
from analysis.perf_analyzer.export import GPUS
from analysis.perf_analyzer.tables import NS_PER_US, U32_MAX, Level, Parsed, Row, level_columns, level_words
from loadgen.errors import PlanError

UNSTABLE, UNFINISHED = "unstable", "unfinished"
STAGES = ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")
TOP = ""
UNITS = ("usec", ")", "infer/sec")
REPEATS = 200
"""How many remarks of a level are kept; a broken server repeats itself."""


@dataclass(slots=True)
class Open:
    """A level that is being read: what the client said, each server block by model, GPUs, windows."""

    asked: Row
    client: Row = field(default_factory=dict)
    servers: dict[str, Row] = field(default_factory=dict)
    gpus: dict[str, Row] = field(default_factory=dict)
    windows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unstable: bool = False


@dataclass(slots=True)
class Reader:
    """Where the reading stands: the run and its settings, the open level, the block within it."""

    levels: list[Level] = field(default_factory=list)
    level: Open | None = None
    notes: list[str] = field(default_factory=list)
    run: int = 1
    settings: Row = field(default_factory=dict)
    model: str | None = None
    block: str = ""
    server: str = TOP
    metric: str = ""
    statistic: str = "mean"
    limit: float | None = None
    summaries: set[str] = field(default_factory=set)


def parse(text: str, path: Path) -> Parsed:
    """Read the levels of a capture.

    Raises:
        PlanError: it tells of no level.
    """
    reader = Reader()
    for line in _whole_lines(text.replace("\\\n", " ")):
        _read(reader, line)
    _close(reader)
    _judge_limit(reader)
    if not reader.levels:
        raise PlanError(f"{path}: perf_analyzer's output stops before its first level")
    return Parsed("stdout", reader.levels, reader.notes)


def _whole_lines(text: str) -> list[str]:
    """Return the lines; a last one without an end counts only where its unit shows that its figures are whole."""
    found = text.splitlines()
    cut = bool(found) and not text.endswith(("\n", "\r")) and not found[-1].rstrip().endswith(UNITS)
    return found[:-1] if cut else found


def _read(reader: Reader, line: str) -> None:
    if lines.SETTINGS.search(line):
        _begin_run(reader)
    elif match := lines.COMMAND.search(line):
        reader.model = match[1]
    elif (match := lines.CONCURRENCY.search(line)) or (match := lines.RATE.search(line)):
        _begin_level(reader, line, match[1])
    elif lines.SUMMARY_TITLE.search(line) or lines.SUMMARY.search(line):
        _summary(reader, line)
    elif reader.level is not None:
        _read_level(reader, reader.level, line)
    else:
        _read_settings(reader, line)


def _begin_run(reader: Reader) -> None:
    begun = reader.level is not None or bool(reader.levels)
    _close(reader)
    _judge_limit(reader)
    reader.run += begun
    reader.settings, reader.limit, reader.summaries, reader.statistic = {}, None, set(), "mean"


def _read_settings(reader: Reader, line: str) -> None:
    if match := lines.BATCH.search(line):
        batch = count(match[1])
        reader.settings["batch_size"] = batch if batch and batch <= U32_MAX else None
    elif match := lines.REQUESTS.search(line):
        reader.settings["request_count"] = count(match[1])
    elif match := lines.LIMIT.search(line):
        reader.limit = number("limit", match[1] or match[2], reader.notes)
    elif match := lines.REMARK.search(line):
        reader.notes.append(f"says: {match[0].strip()}")


def _begin_level(reader: Reader, line: str, size: str) -> None:
    notes: list[str] = []
    asked = _asked("Request Rate" if lines.RATE.search(line) else "Concurrency", size, notes)
    _close(reader)
    if any(level.figures.get("load_words") == asked.get("load_words") for level in _of_run(reader)):
        reader.run += 1
        reader.summaries = set()
    reader.level = Open(asked, notes=notes)
    reader.block, reader.server, reader.metric = "", TOP, ""


def _asked(kind: str, size: str, notes: list[str]) -> Row:
    if kind == "Request Rate":
        return level_columns(rate_per_s=number(kind, size, notes))
    slots = count(size)
    return level_columns(concurrency=slots if slots is not None and slots <= U32_MAX else None)


def _read_level(reader: Reader, level: Open, line: str) -> None:
    if match := lines.PASS.search(line):
        level.windows.append(_window(match, level.notes))
    elif match := lines.REMARK.search(line):
        _remark(level, match[0].strip())
        if failed := lines.FAILED_PASS.search(line):
            level.windows.append(_failed_window(failed))
    elif not _enter_block(reader, level, line):
        _read_figures(reader, level, line)


def _remark(level: Open, text: str) -> None:
    level.unstable = level.unstable or bool(lines.UNSTABLE.search(text))
    if (share := lines.delayed(text, level.notes)) is not None:
        level.client["delayed"] = share
    said = f"says: {text}"
    if said not in level.notes and len(level.notes) < REPEATS:
        level.notes.append(said)


def _window(match: re.Match[str], notes: list[str]) -> Row:
    return {
        "window": _window_number(match[1]),
        "throughput_per_s": number("throughput of a pass", match[2], notes),
        "statistic": "mean" if match[3] == "Avg" else match[3],
        "service_ns": duration_ns("latency of a pass", match[4], notes),
        "service_std_ns": duration_ns("std of a pass", match[5] or "", notes),
    }


def _failed_window(match: re.Match[str]) -> Row:
    """Return a window that ended in an error; of the error that nothing completed in it, the figures are known."""
    nothing = {"completed": 0, "throughput_per_s": 0.0} if match[2] else {}
    return {"window": _window_number(match[1]), "statistic": "mean", **nothing}


def _window_number(text: str) -> int:
    return min(int(text[:10]), U32_MAX)


def _enter_block(reader: Reader, level: Open, line: str) -> bool:
    """Move to the block that a line opens; say whether it opened one."""
    if lines.CLIENT.search(line):
        reader.block = "client"
    elif lines.SERVER.search(line):
        reader.block, reader.server = "server", TOP
    elif lines.COMPOSING.search(line):
        reader.block = "composing"
    elif lines.METRICS.search(line):
        reader.block = "metrics"
    elif reader.block in {"composing", "server"} and (match := lines.COMPOSING_NAME.search(line)):
        reader.block, reader.server = "server", match[1]
        level.servers[match[1]] = {"model": match[1], "version": match[2]}
    else:
        return False
    return True


def _read_figures(reader: Reader, level: Open, line: str) -> None:
    if reader.block == "client":
        level.client |= lines.client_figures(line, level.notes)
    elif reader.block == "server":
        level.servers.setdefault(reader.server, {}).update(lines.server_figures(line, level.notes))
    elif match := lines.METRIC.search(line):
        reader.metric = match[1]
    elif reader.block == "metrics" and reader.metric and (match := lines.GPU.search(line)):
        value = number(reader.metric, match[2], level.notes)
        shown = value / 100 if match[3] == "%" and value is not None else value
        level.gpus.setdefault(match[1], {"gpu": match[1]})[GPUS[reader.metric]] = shown


def _summary(reader: Reader, line: str) -> None:
    """Take a line of the table at the end: adds the levels that have no block, is compared with those that do."""
    _close(reader)
    if title := lines.SUMMARY_TITLE.search(line):
        reader.statistic = "mean" if title[1] == "Average" else title[1]
        return
    match = lines.SUMMARY.search(line)
    assert match is not None
    notes: list[str] = []
    asked = _asked(match[1], match[2], notes)
    words = asked.get("load_words", "")
    column = f"service_{reader.statistic}_ns"
    latency_ns = duration_ns("latency", match[4], notes)
    told = {"throughput_per_s": number("throughput", match[3], notes), column: latency_ns}
    same = next((level for level in _of_run(reader) if level.figures.get("load_words", "") == words), None)
    if same is None:
        notes.append("stands in the table at the end only: throughput and latency are all that is known")
        reader.levels.append(Level(_shared(reader) | asked | told, notes=notes))
    elif words in reader.summaries:
        reader.run, reader.summaries = reader.run + 1, set()
        reader.levels.append(Level(_shared(reader) | asked | told, notes=notes))
    else:
        same.notes.extend(_differences(same.figures, told))
    reader.summaries.add(words)


def _of_run(reader: Reader) -> list[Level]:
    return [level for level in reader.levels if level.figures["run"] == reader.run]


def _differences(figures: Row, told: Row) -> list[str]:
    return [
        f"{name} is {figures[name]:g} in the block and {value:g} in the table at the end"
        for name, value in told.items()
        if value is not None and figures.get(name) is not None and abs(figures[name] - value) > 0.01 * value
    ]


def _shared(reader: Reader) -> Row:
    return {"run": reader.run, "model": reader.model, "resolution_ns": float(NS_PER_US), **reader.settings}


def _close(reader: Reader) -> None:
    level, reader.level = reader.level, None
    if level is None:
        return
    top = level.servers.pop(TOP, {})
    figures = _shared(reader) | level.asked | level.client | _of_top(top)
    figures["network_ns"] = _network_ns(figures)
    _judge_end(level, figures)
    gpus = [level.gpus[gpu] for gpu in sorted(level.gpus)]
    composing = [_of_composing(row) for row in level.servers.values()]
    reader.levels.append(Level(figures, gpus, composing, level.windows, level.notes))


def _judge_end(level: Open, figures: Row) -> None:
    finished = figures.get("throughput_per_s") is not None and figures.get("service_p99_ns") is not None
    if level.unstable:
        figures["verdict"], figures["reason"] = UNSTABLE, "perf_analyzer found no three windows alike"
    elif not finished:
        figures["verdict"] = UNFINISHED
        figures["reason"] = f"no whole result follows it; {len(level.windows)} windows were told of"
        level.notes.append("has no whole result: it was unstable, perf_analyzer was ended, or the capture is cut")


def _of_top(block: Row) -> Row:
    figures = {f"server_{name}": value for name, value in block.items()}
    return figures | {"server_mean_batch": _mean_batch(block)}


def _of_composing(block: Row) -> Row:
    kept = {name: value for name, value in block.items() if name not in {"inferences", "executions", "cache_misses"}}
    return kept | {"mean_batch": _mean_batch(block)}


def _mean_batch(block: Row) -> float | None:
    return block["inferences"] / block["executions"] if block.get("inferences") and block.get("executions") else None


def _network_ns(figures: Row) -> float | None:
    """Return what perf_analyzer's CSV calls Network+Server Send/Recv: mean less marshalling and stages, 0 at least.

    None with a response cache: the time of a miss that is printed holds the stages again.
    """
    if "server_cache_hit_ns" in figures:
        return None
    stages = [figures.get(f"server_{name}") for name in STAGES]
    parts = [figures.get("client_marshal_ns"), *stages]
    if figures.get("service_mean_ns") is None or None in parts:
        return None
    return max(0.0, float(figures["service_mean_ns"] - sum(part for part in parts if part is not None)))


def _judge_limit(reader: Reader) -> None:
    """Remark that a sweep ended below the level that it was asked to reach."""
    of_run = _of_run(reader)
    sizes = [level.figures.get("concurrency", level.figures.get("rate_per_s")) for level in of_run]
    highest = max((size for size in sizes if size is not None), default=None)
    if highest is not None and reader.limit is not None and highest < reader.limit and of_run:
        words = level_words({"load_words": f"{reader.limit:g}"})
        of_run[-1].notes.append(f"the sweep was to reach {words} and ends here: unstable, over the threshold, or cut")
    reader.limit = None
