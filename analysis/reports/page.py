"""What was gathered -> one HTML page; every word that came with the data is escaped, no address is ever fetched."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from analysis.fitting import plot_width
from analysis.readable import counted, number
from analysis.report import VEGA_GLOBALS, provenance, script_json
from analysis.reports import chosen, places, tables, words
from analysis.reports.gathered import Gathered
from analysis.summary import Sentence
from analysis.theme import WIDTH
from loadgen import atomic, clock
from loadgen.errors import PlanError

CAPTIONS = {
    "places": "A row a configuration and load; a click on a heading sorts, a click on a row highlights its "
    "configuration in the charts.",
    "standalone": "As their logs tell.",
    "missing": "Asked for by the study, and not measured, or cut off.",
}
HALF = WIDTH + 40
"""Plots up to this width stand two in a row."""


@dataclass(frozen=True, slots=True)
class Content:
    """All that stands on the page, and can be exported singly."""

    sentences: Sequence[Sentence]
    charts: Mapping[str, dict[str, Any]]
    absent: Mapping[str, str]
    tables: Sequence[tables.Grid]
    built_ns: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """The provenance of a run: headings and text."""

    name: str
    sections: Sequence[tuple[str, str]]


def content(of: Gathered) -> Content:
    """Return summary, charts and tables of what was gathered."""
    begun_ns = clock.now_ns()
    judged = places.judged(of.points, of.loaded.gpus)
    found = places.places(judged)
    charts, absent = chosen.specifications(of, judged, found)
    said, grids = words.sentences(of, judged, found), tables.tables(of, judged, found)
    return Content(said, charts, absent, grids, clock.now_ns() - begun_ns)


def write_page(of: Gathered, out: Path) -> Path:
    """Write the report into a file; return its path.

    Raises:
        PlanError, FleetError: a source's table is damaged, or the file cannot be written.
    """
    return atomic.write(out, page(of).encode())


def page(of: Gathered, shown: Content | None = None) -> str:
    """Return the report as HTML."""
    shown = shown or content(of)
    loader = jinja2.PackageLoader("analysis", ".")
    engine = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    common, runs = told(of)
    library = vl_convert.javascript_bundle(VEGA_GLOBALS) if shown.charts else ""
    return engine.get_template("reports/study.html.j2").render(
        title=of.title,
        subtitle=_subtitle(of),
        simulated=bool(of.points["simulated"].any()),
        sentences=shown.sentences,
        picks=of.configurations,
        charts=[(name, _size(spec)) for name, spec in shown.charts.items()],
        specs=Markup(script_json(shown.charts)),  # noqa: S704 - `<`, `>` and `&` are escaped in it
        library=Markup(library),  # noqa: S704 - a fixed library
        absent=shown.absent,
        tables=shown.tables,
        captions=CAPTIONS,
        common=common,
        runs=runs,
        built_s=number(shown.built_ns / clock.NS_PER_S),
    )


def told(of: Gathered) -> tuple[list[tuple[str, str]], list[Told]]:
    """Return the provenance that all runs have in common, and what each has of its own."""
    each = [(run.path.name, provenance(run)) for run in of.runs]
    texts = [dict(sections) for _, sections in each]
    shared = {
        heading: text
        for heading, text in (each[0][1] if len(each) > 1 else ())
        if all(one.get(heading) == text for one in texts)
    }
    common = [(f"{heading} (the same for all {len(each)} runs)", text) for heading, text in shared.items()]
    if of.grid is not None:
        common.insert(0, ("The study as it was asked for", _study_text(of.grid.folder)))
    if of.loaded.notes:
        common.append(("Notes on the sources", "\n".join(of.loaded.notes)))
    others = [Told(name, [one for one in sections if one[0] not in shared]) for name, sections in each]
    foreign = of.loaded.runs.filter(of.loaded.runs["kind"] != "loadgen")
    others += [
        Told(row["run"], [("What is known of it", json.dumps(_known(row), indent=2, ensure_ascii=False))])
        for row in foreign.iter_rows(named=True)
    ]
    return common, others


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "not recorded" if value is None else value for name, value in row.items()}


def _study_text(folder: str) -> str:
    path = Path(folder) / "study.json"
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error


def _subtitle(of: Gathered) -> str:
    kinds = ", ".join(sorted(set(of.loaded.runs["kind"])))
    what = "Study" if of.grid is not None else "Load tests"
    return f"{what} of a served model: {counted(of.loaded.runs.height, 'source')} ({kinds})"


def _size(spec: Mapping[str, Any]) -> str:
    return "wide" if plot_width(spec, WIDTH) > HALF else "half"
