"""A named chart from files to a file: what the command `chart` does."""

import html
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import vl_convert

from analysis.charts import NAMED, Chart
from analysis.figures import FORMATS, picture
from analysis.frames import frames_of
from analysis.sources import load
from analysis.theme import DARK, LOOKS, SIZES, WHITE, Style, specification
from analysis.tidy import Loaded
from loadgen import atomic
from loadgen.errors import PlanError

KINDS = (*FORMATS, "html", "json")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ margin: 1em; background: {background}; }}</style></head>
<body><div id="chart"></div><script>{library}</script>
<script>vegaEmbed("#chart", {spec}, {{"mode": "vega-lite", "renderer": "svg"}});</script></body></html>
"""


def write_chart(  # noqa: PLR0913 - the options of the command
    name: str,
    sources: Sequence[str | Path],
    output: Path,
    *,
    look: str = "light",
    size: str = "notebook",
    hep_labels: bool = False,
) -> Path:
    """Draw a named chart of whatever `load` reads into a file whose ending says its kind; return the file.

    Raises:
        PlanError: no such chart, look, size or kind; the sources cannot be read; or there is nothing to draw.
    """
    kind = output.suffix.removeprefix(".").lower()
    _known(f"{output}: a picture", kind, KINDS)
    _known("--theme", look, LOOKS)
    _known("--size", size, tuple(SIZES))
    _known("chart", name, tuple(NAMED))
    spec = specification(drawn(name, load(*sources)), Style(look, size, hep_labels))
    return atomic.write(output, content(spec, kind, NAMED[name].title, look))


def drawn(name: str, loaded: Loaded) -> Chart:
    """Draw a named chart of loaded tables.

    Raises:
        PlanError: no such chart, or there is nothing to draw.
    """
    _known("chart", name, tuple(NAMED))
    asked = NAMED[name]
    return asked(frames_of(loaded, requests="requests" in asked.needs))


def content(spec: dict[str, Any], kind: str, title: str, look: str = "light") -> bytes:
    """Return a chart as a file of that kind; a page carries the one library that it needs."""
    if kind in FORMATS:
        return picture(spec, kind)
    text = json.dumps(spec, ensure_ascii=True, separators=(",", ":"))
    if kind == "json":
        return text.encode()
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    background = DARK[WHITE] if look == "dark" else WHITE
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    page = PAGE.format(title=html.escape(title), background=background, library=library, spec=safe)
    return page.encode()


def listed() -> list[str]:
    """Return a line for every named chart, those of the studies first."""
    width = max(map(len, NAMED))
    return [
        f"{spec.number or 'new':<4} {spec.name:<{width}}  {spec.title} ({', '.join(spec.needs)})"
        for spec in NAMED.values()
    ]


def _known(of: str, value: str, known: Sequence[str]) -> None:
    if value in known:
        return
    near = get_close_matches(value, known, 3) or known
    more = "; `python -m analysis charts` lists all" if of == "chart" else ""
    raise PlanError(f"{of} {value or 'without an ending'}: is not known; write {', '.join(near[:8])}{more}")
