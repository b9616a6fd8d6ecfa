"""From files to files: frames of runs and tables, the theme in every look and size, pods, and the two commands."""

import itertools
import json
from pathlib import Path
from typing import Any

import chart_frames
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import sealed_run
from chart_frames import FIXTURES, S
from sealed_run import Story, write_run
from typer.testing import CliRunner

from analysis import drawing, pods, theme
from analysis.__main__ import app
from analysis.charts import NAMED
from analysis.fitting import fitted, plot_width
from analysis.frames import frames_of
from analysis.sources import load
from analysis.theme import CATEGORIES, DARK, SIZES, WHITE, Style
from loadgen import points as measured
from loadgen.errors import PlanError

Floats = npt.NDArray[np.float64]

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as a protan, deutan or tritan sees it.
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TELL_APART = 7.0
"""Distance in OKLab times 100; about three times what is just seen."""


def linear(colour: str) -> Floats:
    """Return the linear RGB of `#rrggbb`."""
    of = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(of <= 0.04045, of / 12.92, ((of + 0.055) / 1.055) ** 2.4)


def oklab(rgb: Floats) -> Floats:
    """Return linear RGB in OKLab (Ottosson 2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    found: Floats = np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, 1))
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG has it."""
    dark, light = sorted(0.05 + float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return light / dark


# --- the theme -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("look", theme.LOOKS)
def test_the_palette_can_be_told_apart_by_every_reader(look: str, seen: str) -> None:
    """Any two of the eight colours lie apart under simulated protanopia, deuteranopia and tritanopia too."""
    colours = [DARK[colour] for colour in CATEGORIES] if look == "dark" else CATEGORIES
    for one, other in itertools.combinations(colours, 2):
        away = oklab(np.array(SEEN[seen]) @ linear(one)) - oklab(np.array(SEEN[seen]) @ linear(other))
        assert 100 * float(np.linalg.norm(away)) > TELL_APART, (one, other)


def test_words_and_marks_stand_out_from_the_ground() -> None:
    """Text has at least 4.5 to 1 on either ground, marks 3 to 1 on the dark one and 2.2 on white."""
    for look in ({}, DARK):
        for colour in (theme.BLACK, theme.GREY, theme.WARNING):
            assert contrast(look.get(colour, colour), look.get(WHITE, WHITE)) >= 4.5
    assert all(contrast(DARK[colour], DARK[WHITE]) >= 3 for colour in CATEGORIES)
    assert all(contrast(colour, WHITE) >= 2.2 for colour in CATEGORIES)


@pytest.fixture(scope="module")
def spec_parts() -> dict[str, Any]:
    """Return a chart of three panels and its subtitle's parts, in the plain style."""
    frames = frames_of(load(FIXTURES / "studies_points.csv", FIXTURES / "studies_standalone.csv"))
    return {"chart": NAMED["pileup"](frames)}


def test_the_dark_look_leaves_no_light_colour_and_no_datum_changed(spec_parts: dict[str, Any]) -> None:
    """Every colour of the specification is exchanged; data, where a label might look like a colour, are not."""
    light = theme.specification(spec_parts["chart"])
    dark = theme.specification(spec_parts["chart"], Style(look="dark"))
    assert dark["datasets"] == light["datasets"]
    words = json.dumps({key: value for key, value in dark.items() if key != "datasets"})
    assert not [colour for colour in DARK if f'"{colour}"' in words]
    assert dark["config"]["background"] == DARK[WHITE]
    kept = fitted({"datasets": {"a": [{"label": theme.BLUE}]}, "mark": {"color": theme.BLUE}}, colours=DARK)
    assert kept == {"datasets": {"a": [{"label": theme.BLUE}]}, "mark": {"color": DARK[theme.BLUE]}}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_stretch_plots_and_letters(spec_parts: dict[str, Any], size: str) -> None:
    """Plots, letters, title breaks follow the size; a column's plots are under 86 mm, a slide's in 1280 pixels."""
    spec = theme.specification(spec_parts["chart"], Style(size=size))
    assert plot_width(spec, 0) == SIZES[size].width
    assert spec["config"]["axis"]["labelFontSize"] == pytest.approx(11 * SIZES[size].letters)
    longest = max(map(len, spec["title"]["subtitle"]))
    assert longest * 0.5 * spec["config"]["title"]["subtitleFontSize"] < 1.35 * SIZES[size].width
    assert {"slide": 1280, "column": 244, "notebook": 600}[size] > plot_width(spec, 0)


def test_axis_titles_stand_at_the_ends_where_asked(spec_parts: dict[str, Any]) -> None:
    """The habit of high-energy physics is an option; otherwise titles are centred."""
    assert theme.specification(spec_parts["chart"], Style(hep_labels=True))["config"]["axis"]["titleAnchor"] == "end"
    assert "titleAnchor" not in theme.specification(spec_parts["chart"])["config"]["axis"]


def test_a_chart_can_be_set_in_another_style_in_a_notebook(spec_parts: dict[str, Any]) -> None:
    """`styled` gives a chart that displays as the specification would."""
    spec = theme.styled(spec_parts["chart"], look="dark").to_dict(validate=False)
    assert spec["config"]["background"] == DARK[WHITE]


# --- frames --------------------------------------------------------------------------------------------------------


def test_runs_become_frames_with_what_they_are_of(tmp_path: Path) -> None:
    """Two runs become one table of each kind; requests are those of the window; label, pile-up, GPUs are known."""
    paths = [
        write_run(tmp_path / f"20261124T10000{k}Z-sweep", Story(concurrency=(1, 2), gpus=k, seed=k)) for k in (1, 2)
    ]
    frames = frames_of(load(*paths))
    assert frames.points is not None
    assert frames.gpus is not None
    assert frames.requests is not None
    assert frames.points.select("label", "mu", "gpus").unique().sort("gpus").rows() == [
        ("sweep", 20, 1),
        ("sweep", 20, 2),
    ]
    assert frames.gpus.group_by("run", "point").len().sort("run", "point")["len"].to_list() == [1, 1, 2, 2]
    counted = frames.requests.filter(pl.col("outcome") == "ok").group_by("run", "point").len().sort("run", "point")
    assert counted["len"].to_list() == frames.points.sort("run", "point")["completed"].to_list()


def test_what_is_no_table_of_ours_is_told_by_its_columns(tmp_path: Path) -> None:
    """A foreign CSV, a missing one and a broken Parquet file: one line each."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    for name, said in (("a.csv", "first line is 'x,y'"), ("b.parquet", "looks like"), ("c.csv", "no such file")):
        with pytest.raises(PlanError, match=f"{name}: .*{said}") as refused:
            load(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_pods_are_counted_by_their_own_counters() -> None:
    """Growth of a page's counters over the window, interpolated; a page not read to the end gives nothing."""
    points = pl.DataFrame(
        [dict.fromkeys(measured.SCHEMA) | {"point": 1, "window_start_ns": S, "window_end_ns": 11 * S}],
        schema=measured.SCHEMA,
    )

    def page(pod: str, at_s: float, count: float, queue_us: float) -> list[tuple[Any, ...]]:
        labels = json.dumps({"instance": pod, "model": "traccc-gpu"})
        told = {
            "nv_inference_count": count,
            "nv_inference_exec_count": count,
            "nv_inference_queue_duration_us": queue_us,
        }
        return [(int(at_s * S), "metrics", metric, labels, value) for metric, value in told.items()]

    rows = [*page("a", 0, 0, 0), *page("a", 12, 120, 60_000), *page("b", 0, 0, 0), *page("b", 5, 50, 1)]
    gauge = (2 * S, "metrics", "nv_gpu_utilization", json.dumps({"gpu_uuid": "G", "instance": "b"}), 0.5)
    samples = pl.DataFrame([*rows, gauge], schema=sealed_run.SAMPLES, orient="row")
    first, second = pods.pod_figures(points, samples).iter_rows(named=True)
    assert (first["pod"], first["throughput_per_s"], first["queue_ns"]) == (
        "a",
        pytest.approx(10),
        pytest.approx(500_000),
    )
    assert first["utilisation"] is None
    assert (second["pod"], second["throughput_per_s"], second["utilisation"]) == ("b", None, 0.5)


# --- the commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", drawing.KINDS)
def test_the_command_writes_every_kind(tmp_path: Path, kind: str) -> None:
    """PNG, SVG, PDF, a page that fetches nothing, and JSON, each by the ending of the file."""
    run = write_run(tmp_path / "run", Story(concurrency=(1, 2, 4)))
    out = tmp_path / f"out.{kind}"
    drawn = CliRunner().invoke(
        app, ["chart", "single-pass", str(run), "-o", str(out), "--theme", "dark", "--hep-labels"]
    )
    assert drawn.exit_code == 0
    assert drawn.stdout.strip() == str(out)
    starts = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF", "html": b"<!doctype html>", "json": b"{"}
    content = out.read_bytes()
    assert content.startswith(starts[kind])
    if kind == "html":
        assert b"<script src" not in content
        assert b"</script>" not in content.split(b'vegaEmbed("#chart"')[1].split(b"</script>")[0]
    if kind == "json":
        assert json.loads(content)["config"]["axis"]["titleAnchor"] == "end"


def test_a_label_cannot_end_the_script_of_a_page() -> None:
    """What came with a run stays text in the page."""
    page = drawing.content({"title": "</script><script>alert(1)</script>"}, "html", "<b>").decode()
    ours = page.split('vegaEmbed("#chart"')[1]
    assert ours.count("</script>") == 1
    assert "<" not in ours.split("</script>", maxsplit=1)[0]
    assert "alert(1)" in ours.split("</script>", maxsplit=1)[0]
    assert "<title>&lt;b&gt;</title>" in page


def test_all_charts_are_listed() -> None:
    """One line a chart, with its number and what it needs, the studies' first."""
    lines = CliRunner().invoke(app, ["charts"]).stdout.splitlines()
    assert len(lines) == len(NAMED)
    assert lines[0].split()[:2] == ["C1", "gpu-memory"]
    assert all("(" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chart", "scalin", "RUN", "-o", "a.png"], "write scaling"),
        (["chart", "scaling", "RUN", "-o", "a.gif"], "gif: is not known; write"),
        (["chart", "scaling", "RUN", "-o", "a"], "without an ending"),
        (["chart", "scaling", "RUN", "-o", "a.png", "--theme", "blue"], "--theme blue"),
        (["chart", "scaling", "RUN", "-o", "a.png", "--size", "poster"], "--size poster"),
        (["chart", "scaling", "nosuch", "-o", "a.png"], "no such file or folder"),
        (["chart", "gpu-power", "RUN", "-o", "a.png"], "--metrics-url"),
        (["chart", "scaling", "RUN", "-o", "nosuch/a.png"], "cannot write"),
    ],
)
def test_bad_input_of_the_command_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Name, ending, look, size, run, table, folder: a refusal says what and how to mend it; nothing is written."""
    write_run(tmp_path / "RUN", Story(concurrency=(1, 2), samples=False))
    told = [str(tmp_path / word) if word == "RUN" or "." in word else word for word in arguments]
    refused = CliRunner().invoke(app, told)
    assert isinstance(refused.exception, PlanError)
    assert said in str(refused.exception)
    assert "\n" not in str(refused.exception)
    assert not list(tmp_path.glob("a*"))


def test_frames_from_the_studies_are_marked_as_such() -> None:
    """The recorded figures say what they are in every row."""
    for name in ("points", "standalone"):
        frame = pl.read_csv(FIXTURES / f"studies_{name}.csv")
        assert frame["kind"].unique().to_list() == ["figures read from the studies"]
    assert chart_frames.grid().standalone is not None
