"""The page in the terminal: views -> lines of text that fit the width, and no more of them than the height. Pure."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from loadgen.watch.history import NS_PER_S, SPAN_NS, Dot, Figures, binned, trend
from loadgen.watch.spark import GAP, highest, spark
from loadgen.watch.view import EndpointView, GpuView, ModelView, Moment, Note, SourceView

WIDE = 120
"""From so many columns on, three lines of values stand beside each other."""

FIRST, LEAST, MOST = 12, 7, 12
LEAST_SHOWN = 0.0005
MARGIN, SCALE = 3, 12
"""Cells around a line of values: blanks, or also `0..` with its highest."""

NS_PER_MS = 1e6
GB = 1e9
SHOWN_NOTES = 5
BIN_INTERVALS = 1.5
"""A column is so many intervals long at least, so that each has its reading."""

COLUMNS = ("req/s", "fail/s", "queue", "input", "infer", "output", "batch", "wait", "busy")
LINES = (
    ("requests_per_s", "req/s", 1.0),
    ("queue_ns", "queue ms", NS_PER_MS),
    ("compute_infer_ns", "infer ms", NS_PER_MS),
)
UNITS = "  times: ms"


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be shown at one moment; `calls` were made to see it, of which the longest took `took_ms`."""

    moment: Moment
    interval_ns: int
    views: tuple[EndpointView, ...]
    calls: int = 0
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """A round as something that rich draws, in whatever width there is; `whole` if it may pass the height."""

    round: Round
    whole: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield its lines."""
        found = lines(self.round, options.max_width, plain=options.ascii_only)
        height = options.height or console.height
        yield from found if self.whole else cropped(found, height)


def cropped(found: Sequence[Text], height: int) -> list[Text]:
    """Return at most `height` lines, the last of which says how many are not shown."""
    if len(found) <= height:
        return list(found)
    rest = len(found) - height + 1
    return [*found[: height - 1], Text(f"{rest} more lines: the terminal is too low", "dim")]


@dataclass(frozen=True, slots=True)
class _Paper:
    """What every line is drawn on."""

    round: Round
    width: int
    plain: bool

    def text(self, words: str, style: str = "") -> Text:
        """Return one line, cut to the width."""
        words = printable(words)
        cut = words if cell_len(words) <= self.width else set_cell_size(words, self.width - 1) + self.end
        return Text(cut, style, no_wrap=True, overflow="crop", end="\n")

    @property
    def end(self) -> str:
        """What stands for text that was cut off."""
        return ">" if self.plain else "…"

    def wrapped(self, words: str, indent: int, style: str) -> list[Text]:
        """Return a sentence in as many lines as it takes."""
        pad = " " * indent
        found = textwrap.wrap(printable(words), self.width - indent, max_lines=3, placeholder=self.end)
        return [self.text((pad if number else "") + line, style) for number, line in enumerate(found)]

    def line(self, dots: Sequence[Dot], columns: int, begun_ns: int, top: float | None = None) -> tuple[str, float]:
        """Return values as a line, and the value of its full height."""
        intervals = int(SPAN_NS / (BIN_INTERVALS * self.round.interval_ns))
        columns = max(1, min(columns, intervals))
        values = binned(dots, self.round.moment.at_ns, columns, begun_ns)
        top = highest(values) if top is None else top
        return spark(values, top, plain=self.plain), top


def lines(shown: Round, width: int, *, plain: bool = False) -> list[Text]:
    """Return the page, each line at most `width` cells wide; in ASCII if `plain`."""
    paper = _Paper(shown, width, plain)
    found = [_heading(paper)]
    for view in shown.views:
        found += [paper.text(""), *_endpoint(paper, view)]
    return found


def _heading(paper: _Paper) -> Text:
    shown = paper.round
    parts = [
        f"loadgen watch  {clock_time(shown.moment.utc_ns)} UTC",
        f"every {shown.interval_ns / NS_PER_S:g} s",
        f"lines: {SPAN_NS // (60 * NS_PER_S)} min",
        f"{shown.calls} calls, {shown.took_ms:.0f} ms a round",
        "no load is sent",
        "Ctrl-C ends",
    ]
    while len(parts) > 1 and len("  ".join(parts)) > paper.width:
        parts.pop()
    return paper.text("  ".join(parts), "bold")


def _endpoint(paper: _Paper, view: EndpointView) -> Iterator[Text]:
    server = f"{view.server} {view.version}".strip()
    ready = {True: "ready", False: "NOT READY", None: ""}[view.ready]
    yield paper.text("  ".join(filter(None, (view.address, server, ready))), "bold" if view.ready else "bold yellow")
    for source in view.sources:
        yield from _fault(paper, source)
    for note in view.notes[-SHOWN_NOTES:]:
        yield from _note(paper, note)
    active = [model for model in view.models if not idle(model)]
    if active:
        yield _columns(paper)
    for model in active:
        yield from _model(paper, view, model)
    for gpu in view.gpus:
        yield from _gpu(paper, view, gpu)
    names = [_model_name(model) for model in view.models if idle(model)]
    if names:
        yield from paper.wrapped(f"  without requests: {', '.join(names)}", 4, "dim")


def idle(model: ModelView) -> bool:
    """Say whether nothing at all is known to have been asked of a model in the time that lines cover."""
    lately = [(step.figures.requests_per_s, step.figures.failures_per_s) for step in model.steps]
    counted = bool(lately) and all(rate is not None for rate, _ in lately)
    return counted and not any(map(any, lately)) and not model.pending


def _fault(paper: _Paper, source: SourceView) -> Iterator[Text]:
    name = "gRPC" if source.kind == "grpc" else source.address
    if source.reachable is None:
        yield paper.text(f"  {name}: no answer yet", "yellow")
    elif not source.reachable:
        since = clock_time(source.since_utc_ns or 0)
        ago_s = (paper.round.moment.utc_ns - (source.since_utc_ns or 0)) / NS_PER_S
        yield from paper.wrapped(f"  {name}: unreachable since {since} ({ago_s:.0f} s): {source.reason}", 4, "red")
    elif source.owes_s is not None:
        yield paper.text(f"  {name}: has not answered for {source.owes_s:.1f} s", "yellow")


def _note(paper: _Paper, note: Note) -> list[Text]:
    time = "" if note.at_utc_ns is None else f"{clock_time(note.at_utc_ns)}  "
    return paper.wrapped(f"  {time}{note.words}", 4, "yellow")


def _cell_width(paper: _Paper) -> int:
    return max(LEAST, min(MOST, (paper.width - FIRST) // len(COLUMNS)))


def _columns(paper: _Paper) -> Text:
    each = _cell_width(paper)
    return paper.text(f"{UNITS:<{FIRST}}" + "".join(f"{name:>{each}}" for name in COLUMNS), "dim")


def _model(paper: _Paper, view: EndpointView, model: ModelView) -> Iterator[Text]:
    name = f"{_model_name(model)}{'' if model.state in {'', 'READY'} else ' ' + model.state}"
    yield _values_line(paper, view, name, model)
    waiting = ("", "") if model.pending is None else (f"{model.pending:g}", "")
    yield _figures(paper, "  now", model.now, waiting[0], model.instances)
    yield _figures(paper, f"  {_seconds(model.minute)}", model.minute, "", model.instances)


def _seconds(found: Figures) -> str:
    return f"last {found.seconds:.0f} s" if found.seconds else "last minute"


def _model_name(model: ModelView) -> str:
    return f"{model.model} {model.version}" + (f" @ {model.replica}" if model.replica else "")


def _values_line(paper: _Paper, view: EndpointView, name: str, model: ModelView) -> Text:
    wanted = LINES if paper.width >= WIDE else LINES[:1]
    name_width = max(FIRST, min(cell_len(name), paper.width // 3))
    each = (paper.width - name_width) // len(wanted)
    parts = [set_cell_size(printable(name), name_width)]
    room = each - max(len(words) for _, words, _ in wanted) - SCALE
    for key, words, unit in wanted:
        drawn, top = paper.line(trend(model.steps, key), room, view.begun_ns)
        parts.append(set_cell_size(f"  {words} {drawn} 0..{number(top / unit)}", each))
    return paper.text("".join(parts).rstrip(), "cyan")


def _figures(paper: _Paper, first: str, found: Figures, waiting: str, instances: int | None) -> Text:
    each = _cell_width(paper)
    stages = (found.queue_ns, found.compute_input_ns, found.compute_infer_ns, found.compute_output_ns)
    cells = [number(found.requests_per_s), number(found.failures_per_s), *(_ms(stage) for stage in stages)]
    cells += [number(found.batch), waiting or estimated(found.queued), _busy(found.busy, instances)]
    # A cell that is full keeps a blank before it.
    row = "".join(f" {cell:>{each - 1}}" for cell in cells)
    failing = bool(found.failures_per_s)
    return paper.text(f"{first:<{FIRST}}{row}", "yellow" if failing else "")


def estimated(value: float | None) -> str:
    """Return a figure that no gauge gave, marked."""
    return GAP if value is None else f"~{number(value)}"


def _busy(busy: float | None, instances: int | None) -> str:
    if busy is None:
        return GAP
    return f"{busy:.1f}" + (f"/{instances}" if instances is not None else "")


def _ms(duration_ns: float | None) -> str:
    return number(None if duration_ns is None else duration_ns / NS_PER_MS)


def number(value: float | None) -> str:
    """Return a figure in at most six characters; a point where it is missing."""
    if value is None:
        return GAP
    if value == 0:
        return "0"
    if abs(value) < LEAST_SHOWN:
        return "<.001"
    for limit, form in ((0.0995, ".3f"), (9.995, ".2f"), (99.95, ".1f"), (9999.5, ".0f")):
        if abs(value) < limit:
            return f"{value:{form}}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if abs(value) < 9999.5 * size:
            return f"{value / size:.0f}{unit}"
    return f"{value:.0e}"


@dataclass(frozen=True, slots=True)
class _Gauge:
    """A gauge of a GPU: its words, its line, and the full height of that; None: its highest value."""

    name: str
    words: str
    key: str
    top: float | None = None

    def heading(self, *, wide: bool) -> str:
        return f"  {self.name} {self.words}" if wide else f"  {self.name:<11} {self.words:<22}"


def _gpu(paper: _Paper, view: EndpointView, gpu: GpuView) -> Iterator[Text]:
    now = gpu.now
    replica = f" @ {gpu.replica}" if len({each.replica for each in view.gpus}) > 1 else ""
    name = f"GPU {gpu.uuid.removeprefix('GPU-').removeprefix('MIG-')[:8]}{replica}"
    limit = f", {_percent(now.power_share)} of {number(now.power_limit_w)} W" if now.power_share is not None else ""
    by_share = any(dot.value is not None for dot in gpu.lines.get("power_share", ()))
    memory = f"{_gb(now.memory_used_bytes)} of {_gb(now.memory_total_bytes)} GB"
    power = f"{number(now.power_w)} W{limit}"
    gauges = [
        _Gauge("utilisation", _percent(now.utilisation), "utilisation", 1.0),
        _Gauge("power", power, "power_share", 1.0) if by_share else _Gauge("power", power, "power_w"),
        _Gauge("memory", memory, "memory", 1.0),
    ]
    wide = paper.width >= WIDE
    head_width = max(FIRST, min(cell_len(name), paper.width // 3))
    each = (paper.width - head_width) // (len(gauges) if wide else 1)
    widest = max(len(gauge.heading(wide=wide)) for gauge in gauges)
    room = each - widest - (MARGIN if by_share else SCALE)
    cells = [_gauge(paper, view, gpu, gauge, room, wide=wide) for gauge in gauges]
    if wide:
        row = "".join(set_cell_size(cell, each) for cell in cells)
        yield paper.text((set_cell_size(name, head_width) + row).rstrip(), "green")
        return
    for number_, cell in enumerate(cells):
        yield paper.text(set_cell_size("" if number_ else name, head_width) + cell, "green")


def _gauge(  # noqa: PLR0913 - a cell of the table of GPUs
    paper: _Paper, view: EndpointView, gpu: GpuView, gauge: _Gauge, columns: int, *, wide: bool
) -> str:
    drawn, top = paper.line(gpu.lines.get(gauge.key, ()), columns, view.begun_ns, gauge.top)
    return f"{gauge.heading(wide=wide)} {drawn}" + ("" if gauge.top else f" 0..{number(top)}")


def _percent(share: float | None) -> str:
    return f"{GAP} %" if share is None else f"{share:.0%}".replace("%", " %")


def _gb(size: float | None) -> str:
    return GAP if size is None else f"{size / GB:.1f}"


def clock_time(utc_ns: int) -> str:
    """Return the time of day, UTC."""
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).strftime("%H:%M:%S")


def printable(words: str) -> str:
    """Return text without what would move a terminal's cursor: names and messages are other people's."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)
