"""Where rounds go: a page that redraws itself, plain lines, JSON lines."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live

from loadgen.endpoint import Endpoint
from loadgen.watch.lines import Told, as_json, as_lines
from loadgen.watch.loop import Pace, watch
from loadgen.watch.page import Page, Round

Show = Callable[[Round], None]


class PlainLines:
    """Prints a line a model, a GPU and a fault; what happened is told once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told: set[Told] = set()

    def show(self, shown: Round) -> None:
        """Print a round."""
        for line in as_lines(shown, self._told):
            print(line, file=self._out)
        self._out.flush()
        self._told = {(view.address, note.words) for view in shown.views for note in view.notes}


def json_lines(out: TextIO) -> Show:
    """Return what prints a round as one JSON object a line."""

    def show(shown: Round) -> None:
        print(as_json(shown).decode(), file=out, flush=True)

    return show


@contextmanager
def live_page(console: Console) -> Iterator[Show]:
    """Redraw the page on a screen of its own; the last one is left in the terminal."""
    last: list[Round] = []
    live = Live(console=console, screen=True, auto_refresh=False, transient=True)

    def show(shown: Round) -> None:
        last[:] = [shown]
        live.update(Page(shown), refresh=True)

    try:
        with live:
            yield show
    finally:
        for shown in last:
            console.print(Page(shown, whole=True))


@contextmanager
def face(*, json: bool, once: bool) -> Iterator[Show]:
    """Choose how to show rounds: JSON, the page in a terminal (`once`: printed), plain lines elsewhere."""
    if json:
        yield json_lines(sys.stdout)
    elif not sys.stdout.isatty():
        yield PlainLines(sys.stdout).show
    elif once:
        yield lambda shown: Console().print(Page(shown, whole=True))
    else:
        with live_page(Console()) as show:
            yield show


def run(targets: Sequence[Endpoint], models: Sequence[str], pace: Pace, *, json: bool) -> None:
    """Watch until stopped by Ctrl-C, SIGTERM, or whoever reads our output; errors as `watch`."""

    async def main() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        with face(json=json, once=pace.once) as show:
            await watch(targets, models, pace, show, stopped)

    try:
        asyncio.run(main())
    except BrokenPipeError:
        # Python would complain once more when it flushes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
