"""The report of a study: its values are those of the files, it believes no string, and its selection works."""

import asyncio
import json
import math
import re
import statistics
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import numpy as np
import polars as pl
import pytest
from sealed_run import Story, write_run
from study_folder import LEVELS, STORY, points_of, study_of, write_study
from typer.testing import CliRunner

from analysis import reports
from analysis.__main__ import app
from analysis.reports import exports, linked, places, words
from analysis.reports.tables import Cell, Grid, Heading
from loadgen.errors import PlanError

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'<b>|`"
Expected = dict[str, float | str | None]
T1 = 12.7062047  # Student's 97.5 % quantile at one degree of freedom, from a printed table


class Tables(HTMLParser):
    """Reads the tables of a page: of each its headings, and of each cell its value and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[dict[str, tuple[str | None, str]]]] = {}
        self.name, self.cell = "", ""
        self.value: str | None = None
        self.headings: list[str] = []
        self.cells: list[tuple[str | None, str]] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a table, a heading or a cell."""
        given = dict(attrs)
        if tag == "table":
            self.name, self.headings = (given.get("id") or "").removeprefix("table-"), []
            self.found[self.name] = []
        if tag in {"th", "td"}:
            self.inside, self.cell, self.value = tag, "", given.get("data-value")
        if tag == "tr":
            self.cells = []

    def handle_endtag(self, tag: str) -> None:
        """Keep what a heading, a cell or a row held."""
        if tag == "th":
            self.headings.append(self.cell)
        if tag == "td":
            self.cells.append((self.value, self.cell))
        if tag == "tr" and self.cells:
            self.found[self.name].append(dict(zip(self.headings, self.cells, strict=True)))
        if tag in {"th", "td"}:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        """Add text to the cell it stands in."""
        if self.inside:
            self.cell += data


def tables_of(page: str) -> dict[str, list[dict[str, tuple[str | None, str]]]]:
    """Return the tables of a page: a row a dictionary of heading and (value, text)."""
    parser = Tables()
    parser.feed(re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL))
    return parser.found


def page_of(folder: Path) -> str:
    """Return the report of a study's folder."""
    return reports.page(reports.gather([folder]))


def agrees(cell: tuple[str | None, str], expected: float | str | None) -> None:
    """Compare a cell's value with one worked out otherwise, and its text with the value."""
    value, text = cell
    if expected is None:
        assert value is None
        return
    if isinstance(expected, str):
        assert value == text == expected
        return
    assert value is not None
    assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-12)
    shown = float(text.replace(",", ""))
    assert shown == pytest.approx(float(value), rel=6e-3, abs=1e-9)


def gpu_means(folder: Path) -> pl.DataFrame:
    """Return what the GPUs did in the windows of all points, from the samples alone."""
    rows = []
    for path in folder.glob("runs/*/samples.parquet"):
        samples = pl.read_parquet(path).with_columns(gpu=pl.col("labels").str.json_path_match("$.gpu_uuid"))
        for point in pl.read_parquet(path.parent / "points.parquet").iter_rows(named=True):
            start, end = point["window_start_ns"], point["window_end_ns"]
            inside = samples.filter(pl.col("at_ns") >= start, pl.col("at_ns") < end)
            each = inside.group_by("metric", "gpu").agg(pl.col("value").mean()).group_by("metric")
            means = dict(each.agg(pl.col("value").mean()).iter_rows())
            counter = samples.filter(pl.col("metric") == "nv_energy_consumption").sort("at_ns")
            energy = sum(
                float(np.diff(np.interp([start, end], of["at_ns"], of["value"]))[0])
                for of in counter.partition_by("gpu")
            )
            rows.append(
                {
                    "run": path.parent.name,
                    "point": point["point"],
                    "use": means["nv_gpu_utilization"],
                    "power": means["nv_gpu_power_usage"],
                    "joules": energy / point["completed"],
                }
            )
    return pl.DataFrame(rows).with_columns(pl.col("point").cast(pl.UInt32))


def test_every_value_of_the_tables_is_that_of_the_files(tmp_path: Path) -> None:
    """Each cell of both tables is recomputed from Parquet by other lines, and its text is its value, rounded."""
    folder = write_study(tmp_path / "scan", study_of(["one", "two"], (20.0, 60.0)))
    found = tables_of(page_of(folder))
    raw = points_of(folder).with_columns(
        run=pl.concat(
            [pl.Series([path.parent.name] * len(LEVELS)) for path in sorted(folder.glob("runs/*/plan.json"))]
        )
    )
    raw = raw.join(gpu_means(folder), on=["run", "point"])
    assert len(found["places"]) == raw.height / 2
    for row in found["places"]:
        takes = raw.filter(
            pl.col("server_label") == row["Configuration"][1],
            pl.col("inputs_label") == row["Inputs"][1],
            pl.col("concurrency") == int(row["Load"][1]),
        )
        logs = [math.log(value) for value in takes["throughput_per_s"]]
        half = T1 * statistics.stdev(logs) / math.sqrt(2)
        middle = statistics.mean(logs)
        expected: Expected = {
            "Instances": {"one": 1, "two": 2}[row["Configuration"][1]],
            "GPUs": 2,
            "Takes": 2,
            "Throughputevents/s": math.exp(middle),
            "from95 %": math.exp(middle - half),
            "to95 %": math.exp(middle + half),
            "Takes, sd%": 100 * statistics.stdev(logs),
            "p50ms": statistics.geometric_mean(takes["service_p50_ns"]) / 1e6,
            "p99ms": statistics.geometric_mean(takes["service_p99_ns"]) / 1e6,
            "GPU%": 100 * statistics.geometric_mean(takes["use"]),
            "PowerW a GPU": statistics.geometric_mean(takes["power"]),
            "EnergyJ/event": statistics.geometric_mean(takes["joules"]),
            "Failed": 0,
            "Verdicts": "2 converged",
        }
        assert expected.keys() | {"Configuration", "Inputs", "Load"} == row.keys()
        for heading, value in expected.items():
            agrees(row[heading], value)
    assert len(found["points"]) == raw.height
    for row in found["points"]:
        (one,) = raw.filter(
            pl.col("server_label") == row["Configuration"][1],
            pl.col("inputs_label") == row["Inputs"][1],
            pl.col("concurrency") == int(row["Load"][1]),
            pl.col("take") == int(row["Take"][1]),
        ).iter_rows(named=True)
        expected = {
            "Completed": one["completed"],
            "Failed": one["failed"],
            "Throughputevents/s": one["throughput_per_s"],
            "p50ms": one["service_p50_ns"] / 1e6,
            "p99ms": one["service_p99_ns"] / 1e6,
            "Queuems": one["server_queue_ns"] / 1e6,
            "Inferms": one["server_compute_infer_ns"] / 1e6,
            "Networkms": one["network_ns"] / 1e6,
            "GPU%": 100 * one["use"],
            "Verdict": one["verdict"],
            "Because": one["reason"],
        }
        assert expected.keys() | {"Configuration", "Inputs", "Instances", "GPUs", "Load", "Take"} == row.keys()
        for heading, value in expected.items():
            agrees(row[heading], value)


def test_the_summary_names_the_best_what_limits_it_and_what_is_missing(tmp_path: Path) -> None:
    """The configuration of the highest mean throughput with its interval; missing places are counted and listed."""
    folder = write_study(tmp_path / "scan", study_of(["one", "two", "away"]), without=("away",))
    (folder / "failures.jsonl").write_text('{"take":"1","server":"away","inputs":"mu20","failure":"no route"}\n')
    shown = reports.content(reports.gather([folder]))
    said = "\n".join(each.text for each in shown.sentences)
    best = max(
        (math.exp(group["throughput_per_s"].log().mean()), name, level)  # type: ignore[arg-type]
        for (name, level), group in points_of(folder).group_by("server_label", "concurrency")
    )
    assert f"Best: {best[1]} at concurrency {best[2]}: {best[0]:.3g}" in said
    assert "over 2 takes" in said
    assert "J an event" in said
    assert "instances are busy" in said
    assert "6 of 18 points are missing; 3 places without any take" in said
    assert "take 1, away, mu20: no route" in said
    assert f"python -m loadgen study {folder}" in said
    missing = next(grid for grid in shown.tables if grid.name == "missing")
    assert [row[0].text for row in missing.rows] == ["away"] * 6
    assert "away" in json.dumps(shown.charts["throughput"])


def test_takes_with_objections_count_only_where_there_are_no_others(tmp_path: Path) -> None:
    """A take judged failing is left out of its place's mean; where all are, the place says so and is doubted."""
    folder = write_study(tmp_path / "scan", study_of(["one"]))
    first, second = sorted(folder.glob("runs/*/points.parquet"))
    good = pl.read_parquet(second)
    worse = pl.when(pl.col("point") <= 2).then(pl.lit("failing")).otherwise("verdict").alias("verdict")
    pl.read_parquet(first).with_columns(worse).write_parquet(first)
    good.with_columns(verdict=pl.lit("failing")).filter(pl.col("point") == 1).vstack(
        good.filter(pl.col("point") > 1)
    ).write_parquet(second)
    of = reports.gather([folder])
    found = places.places(places.judged(of.points, of.loaded.gpus))
    rows = {row["level"]: row for row in found.iter_rows(named=True)}
    assert [(rows[level]["takes"], rows[level]["measured"]) for level in (1.0, 2.0, 4.0)] == [
        (2, False),
        (1, True),
        (2, True),
    ]
    assert rows[2.0]["throughput_per_s"] == pytest.approx(good["throughput_per_s"][1])
    doubted = pl.when(pl.col("level") == 1).then(1e6).otherwise("throughput_per_s").alias("throughput_per_s")
    best = places.best(found.with_columns(doubted))
    assert best is not None
    assert best["level"] > 1
    said = "\n".join(
        each.text
        for each in words.sentences(of, places.judged(of.points, of.loaded.gpus), found.with_columns(doubted))
    )
    assert "Not chosen, though it measured more: one at concurrency 1" in said


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    """Markup in model, server, inputs, configurations, failures and titles is shown, never interpreted."""
    story = replace(STORY, model=HOSTILE, server=HOSTILE, inputs=HOSTILE, warnings=(HOSTILE,))
    folder = write_study(tmp_path / "<img src=x>", study_of(["one"]), story)
    (folder / "failures.jsonl").write_text(json.dumps({"server": HOSTILE, "failure": HOSTILE}) + "\n")
    for plan in folder.glob("runs/*/plan.json"):
        facts = json.loads(plan.read_text())
        plan.write_text(json.dumps(facts | {"labels": facts["labels"] | {"server": HOSTILE}}))
    page = page_of(folder)
    visible = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert "<img" not in visible
    assert "&lt;img src=x onerror" in visible
    (specifications,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert not set("<>&") & set(specifications)
    assert page.count("<script") == 3 == page.count("</script>")


def test_what_nobody_recorded_is_said(tmp_path: Path) -> None:
    """Without GPU samples the table, the summary and the list of absent charts say that nothing was recorded."""
    folder = write_study(tmp_path / "scan", study_of(["one"]), replace(STORY, samples=False))
    shown = reports.content(reports.gather([folder]))
    assert "gpu_utilisation was not recorded" in shown.absent["utilisation"]
    assert "GPU use and energy not recorded" in "\n".join(each.text for each in shown.sentences)
    (row, *_) = tables_of(page_of(folder))["places"]
    assert row["GPU%"] == (None, "not recorded")


def test_the_page_does_not_grow_with_the_requests(tmp_path: Path) -> None:
    """Eight times the requests: the charts' data are of the same size, within a quarter, and all below 5 MB."""
    sizes = [
        len(
            page_of(
                write_study(tmp_path / str(window_s), study_of(["one", "two"]), replace(STORY, window_s=window_s))
            )
        )
        for window_s in (5.0, 40.0)
    ]
    library = 900_000
    assert sizes[1] - library < 1.25 * (sizes[0] - library)
    assert max(sizes) < 5_000_000


def test_a_point_of_one_request_has_a_report(tmp_path: Path) -> None:
    """One request in all: a page with its figure and without an interval, no error."""
    run = write_run(tmp_path / "runs" / "single", Story(concurrency=(1,), gpus=0))
    records = run / "records" / "worker-0.parquet"
    pl.read_parquet(records).head(1).write_parquet(records)
    points = pl.read_parquet(run / "points.parquet")
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in points.columns if "_low_" in name or "_high_" in name]
    one = pl.lit(1, pl.UInt64).alias("completed")
    points.with_columns(one, *nothing).write_parquet(run / "points.parquet")
    shown = reports.content(reports.gather([tmp_path]))
    assert "no interval known" in "\n".join(each.text for each in shown.sentences)


def answer(*arguments: str | Path) -> tuple[int, str]:
    """Call the command; return its exit code and what it said."""
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    said = str(done.exception) if isinstance(done.exception, PlanError) else done.output
    return (2 if isinstance(done.exception, PlanError) else done.exit_code), said


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    """Not sealed, of another format, unknown, empty, not begun, nowhere to write: what it is, and how to mend it."""
    folder = write_study(tmp_path / "scan", study_of(["one"]))
    run = min(folder.glob("runs/*"))
    out = ("-o", tmp_path / "x.html")
    strange = tmp_path / "strange.csv"
    strange.write_text("a,b\n1,2\n")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "study.json").write_bytes((folder / "study.json").read_bytes())
    empty = tmp_path / "empty"
    empty.mkdir()
    manifest = json.loads((run / "manifest.json").read_text())
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "nowhere",), "there is no such file or folder"),
        ((strange, *out), "looks like a CSV whose first line is 'a,b'"),
        ((folder, strange), "looks like a CSV"),
        ((folder, run), "say where with -o OUT.html"),
        ((begun,), f"python -m loadgen study {begun}"),
        ((empty,), "holds neither a sealed run directory"),
    ]
    for arguments, expected in cases:
        assert answer(*arguments)[0] == 2
        assert expected in answer(*arguments)[1]
    (run / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    assert "has format 0, this version reads 1" in answer(run)[1]
    assert "has format 0, this version reads 1" in answer(folder)[1]
    (run / "manifest.json").unlink()
    assert f"python -m loadgen seal {run}" in answer(run)[1]
    code, _ = answer(folder)
    assert code == 0
    assert f"python -m loadgen seal {run}" in (folder / "report.html").read_text()


def test_charts_and_tables_are_exported_singly(tmp_path: Path) -> None:
    """Each chart as a picture; each table as CSV, Parquet and Markdown with the values of the page."""
    folder = write_study(tmp_path / "scan", study_of(["one"]))
    code, said = answer(folder, "--svg", "--csv", "--parquet", "--markdown")
    assert code == 0, said
    shown = reports.content(reports.gather([folder]))
    assert {path.stem for path in (folder / "charts").iterdir()} == set(shown.charts)
    for grid in shown.tables:
        csv, parquet = (
            pl.read_csv(folder / "tables" / f"{grid.name}.csv"),
            folder / "tables" / f"{grid.name}.parquet",
        )
        assert csv["Throughput, events/s"].to_list() == pytest.approx(
            pl.read_parquet(parquet)["Throughput, events/s"].to_list()
        )
        lines = (folder / "tables" / f"{grid.name}.md").read_text().splitlines()
        assert len(lines) == 2 + len(grid.rows)
        assert len({line.count(" | ") for line in lines}) == 1


def test_a_cell_of_markdown_ends_where_it_should() -> None:
    """A bar, a bracket, a tag or a line's end in a name neither ends the cell nor becomes markup."""
    cell = Cell("a|b\n[x](y)<b>", "")
    (_, _, line) = exports.markdown(Grid("x", "x", [Heading("Name", words=True)], [[cell]])).splitlines()
    assert line == "| a\\|b \\[x](y)&lt;b> |"


def test_runs_of_one_name_are_takes_and_others_configurations(tmp_path: Path) -> None:
    """Without a study, runs named alike are takes of each other, in the order given."""
    runs = [write_run(tmp_path / name, STORY) for name in ("20260921T134640Z-a", "20260921T135640Z-a", "b")]
    of = reports.gather(runs)
    counts = of.points.group_by("configuration").agg(pl.col("take").unique().sort()).sort("configuration")
    assert counts.rows() == [("a", [1, 2]), ("b", [1])]
    assert of.grid is None


def test_marks_of_what_is_no_configuration_do_not_fade() -> None:
    """The selection reaches marks coloured by configuration, under any name a chart gives it; its value is set."""
    names = linked.series_names(["one", "two"], ["mu 20"])
    by = linked.dressed(names, ["one", "two"])
    domain = {"field": "series", "scale": {"domain": ["two", "one"], "range": ["#000", "#111"]}}
    spec = {"layer": [{"mark": "line", "encoding": {"color": domain}}, {"mark": "rule", "encoding": {"y": {}}}]}
    done = linked.linked(spec, names, by)
    assert "opacity" in done["layer"][0]["encoding"]
    assert "opacity" not in done["layer"][1]["encoding"]
    assert done["layer"][0]["encoding"]["color"]["scale"]["range"] == [by.colours["two"], by.colours["one"]]
    assert names["two, mu 20"] == "two"
    stages = linked.linked({"mark": "line", "encoding": {"color": {"scale": {"domain": ["queue"]}}}}, names, by)
    assert "range" not in stages["encoding"]["color"]["scale"]


@pytest.mark.skipif(browser.found() is None, reason=f"no browser here ({', '.join(browser.BROWSERS)})")
def test_selection_and_sorting_work_in_a_browser(tmp_path: Path) -> None:
    """From file://, with hostile names: drawn without a complaint or a request; rows, legend, chips and keys work."""
    story = replace(STORY, model=HOSTILE, server=HOSTILE)
    page = write_study(tmp_path / "scan", study_of(["one", "two"], (20.0, 60.0)), story) / "report.html"
    reports.write_page(reports.gather([page.parent]), page)
    asyncio.run(_used(page))


async def _used(page: Path) -> None:
    faded = (
        'document.querySelectorAll(\'#chart-throughput .mark-line path[opacity="0.07"],'
        ' #chart-throughput .mark-line path[stroke-opacity="0.07"]\').length'
    )
    async with browser.browsing() as tab:
        await tab.opened(page.as_uri())
        assert await tab.value("document.querySelectorAll('[data-chart]').length") == await tab.value(
            "document.querySelectorAll('[data-chart] svg.marks').length"
        )
        assert await tab.value(faded) == 0
        await tab.click("#table-places tbody tr:first-child td:nth-child(5)")
        assert await tab.value("document.body.dataset.picked") == "one"
        assert await tab.value(faded) == 2
        assert await tab.value("document.querySelectorAll('#table-places tr.picked').length") == 2 * len(LEVELS)
        await tab.click('.chip[data-picks="two"]')
        assert await tab.value("document.body.dataset.picked") == "two"
        await tab.click("#show-all")
        assert await tab.value("document.body.dataset.picked") == ""
        assert await tab.value(faded) == 0
        await tab.click("#chart-throughput .role-legend-label text")
        assert await tab.value("document.body.dataset.picked") == "one"
        await tab.click("#chart-pile-up-throughput .mark-symbol path:last-of-type")
        assert await tab.value("document.body.dataset.picked") == "two"
        rows = "document.querySelectorAll('#table-places tbody tr')"
        column = f"Array.from({rows}, (r) => Number(r.cells[6].dataset.value))"
        await tab.click("#table-places th:nth-child(7) button")
        rising = await tab.value(column)
        assert rising == sorted(rising)
        await tab.value("document.querySelector('#table-places th:nth-child(7) button').focus()")
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
            await tab.call("Input.dispatchKeyEvent", type=kind, **key)
        assert await tab.value(column) == sorted(rising, reverse=True)
        assert tab.complaints == []
        assert tab.requests == [page.as_uri()]
