"""Named charts: what is drawn is what a few lines of arithmetic say, and what nobody measured is not drawn."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import chart_frames
import numpy as np
import polars as pl
import pytest
import vl_convert
from chart_frames import FIXTURES, MS, S

from analysis import theme
from analysis.charts import NAMED, Frames, distribution, gpu, laws, marks, physics, pileup, requests, service, tidy
from analysis.charts.tidy import THROUGHPUT
from analysis.theme import Style
from loadgen.errors import PlanError


def spec_of(name: str, frames: Frames, style: Style | None = None) -> dict[str, Any]:
    """Return a named chart as Vega-Lite."""
    return theme.specification(NAMED[name](frames), style)


def rows_of(spec: dict[str, Any]) -> pl.DataFrame:
    """Return the rows of all data sets of a chart that are curves, once each."""
    frames = [pl.DataFrame(rows, infer_schema_length=None) for rows in spec["datasets"].values()]
    curves = [frame for frame in frames if {"x", "series", "value"} <= set(frame.columns)]
    return pl.concat(curves, how="diagonal_relaxed")


def subtitle(spec: dict[str, Any]) -> str:
    """Return a chart's subtitle as one line."""
    return " ".join(spec["title"]["subtitle"])


# --- every chart ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything() -> Frames:
    """Return frames from which every chart can be drawn."""
    return chart_frames.grid()


@pytest.mark.parametrize("name", NAMED)
def test_every_chart_is_drawn_without_a_warning_and_stays_light(
    name: str, everything: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each compiles to SVG in silence, has at most 5,000 marks, a title, tooltips, and units on its axes."""
    spec = spec_of(name, everything)
    svg = vl_convert.vegalite_to_svg(spec, show_warnings=True)
    assert "WARN" not in "".join(capfd.readouterr())
    assert "NaN" not in svg
    assert sum(map(len, spec["datasets"].values())) <= marks.MOST_MARKS
    assert '"tooltip"' in str(spec).replace("'", '"')
    assert spec["title"]["text"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_data_are_marked_on_every_chart(name: str, simulated: bool, everything: Frames) -> None:
    """The word stands in the subtitle of a run that is no physics figure, and in no other."""
    assert everything.points is not None
    frames = replace(everything, points=everything.points.with_columns(simulated=pl.lit(simulated)))
    marked = simulated and "points" in NAMED[name].needs
    assert ("SIMULATED" in subtitle(spec_of(name, frames))) is marked


@pytest.mark.parametrize("name", NAMED)
def test_every_chart_refuses_in_one_line(name: str, everything: Frames) -> None:
    """Without its tables, with an empty one, without a column or with one that is null: one line that names it."""
    asked = NAMED[name]
    with pytest.raises(PlanError, match=rf"chart {name}: needs the table of"):
        asked(Frames())
    for table, columns in asked.needs.items():
        frame = getattr(everything, table)
        tables = {each: getattr(everything, each) for each in asked.needs}
        for broken, said in [
            (frame.clear(), "has no rows"),
            (frame.drop(columns[0]), f"needs the column {columns[0]}"),
            (frame.with_columns(pl.lit(None).alias(columns[-1])), f"{columns[-1]} of {table} was not recorded"),
        ]:
            with pytest.raises(PlanError, match=said) as refused:
                asked(Frames(**tables | {table: broken}))
            assert "\n" not in str(refused.value)


def test_every_chart_of_the_studies_has_its_place() -> None:
    """C1 to C24 are all there, under names in plain words."""
    assert {spec.number for spec in NAMED.values()} - {""} == {f"C{number}" for number in range(1, 25)}
    assert all(name == spec.name and name.replace("-", "").isalnum() for name, spec in NAMED.items())


# --- takes ---------------------------------------------------------------------------------------------------------


def test_takes_have_the_interval_of_their_spread_and_one_take_its_own() -> None:
    """Three takes: geometric mean, t with 2 degrees on logarithms; one take: the interval of its window."""
    names = ("throughput_per_s", "throughput_low_per_s", "throughput_high_per_s")
    takes = [{"concurrency": 1, **dict(zip(names, (v, 0.9 * v, 1.1 * v), strict=True))} for v in (9.0, 10.0, 11.0)]
    frame = chart_frames.points(*takes, takes[0] | {"concurrency": 2})
    rows = rows_of(spec_of("gpus-compared", Frames(points=frame))).sort("x")
    logs = np.log([9, 10, 11])
    half = 4.303 * logs.std(ddof=1) / math.sqrt(3)
    first, second = rows.iter_rows(named=True)
    assert first["value"] == pytest.approx(math.exp(logs.mean()))
    assert (first["low"], first["high"]) == (
        pytest.approx(math.exp(logs.mean() - half)),
        pytest.approx(math.exp(logs.mean() + half)),
    )
    assert (first["takes"], first["between"], first["within"]) == (
        3, pytest.approx(logs.std(ddof=1)), pytest.approx(0.1 / 1.96),
    )  # fmt: skip
    assert (second["value"], second["low"], second["high"]) == (9.0, pytest.approx(8.1), pytest.approx(9.9))


def test_the_scatter_chart_shows_between_and_within_apart() -> None:
    """Between takes is the sample deviation of the takes, not a deviation of deviations; within is another line."""
    frame = chart_frames.points(
        *({"concurrency": 1, "throughput_per_s": v, "throughput_low_per_s": v - 0.98,
           "throughput_high_per_s": v + 0.98, "service_mean_ns": 1e8} for v in (9.0, 10.0, 11.0))
    )  # fmt: skip
    rows = rows_of(spec_of("takes-mean", Frames(points=frame)))
    drawn = dict(rows.select("series", "value").iter_rows())
    assert drawn["between takes"] == pytest.approx(100 * np.log([9, 10, 11]).std(ddof=1))
    assert drawn["within a take"] == pytest.approx(100 * np.mean([0.5 / v for v in (9, 10, 11)]))


def test_points_with_an_objection_do_not_enter_a_mean_and_are_hollow_alone() -> None:
    """A failing take beside two good ones is left out; a failing take alone is drawn hollow, with its reason."""
    rows: list[dict[str, Any]] = [
        {"concurrency": 1, "throughput_per_s": 10.0},
        {"concurrency": 1, "throughput_per_s": 10.0},
        {"concurrency": 1, "throughput_per_s": 99.0, "verdict": "failing", "reason": "9 failed"},
        {"concurrency": 2, "throughput_per_s": 5.0, "verdict": "failing", "reason": "3 failed"},
    ]
    spec = spec_of("gpus-compared", Frames(points=chart_frames.points(*rows)))
    first, second = rows_of(spec).sort("x").iter_rows(named=True)
    assert (first["value"], first["takes"], first["measured"]) == (pytest.approx(10), 2, True)
    assert (second["value"], second["measured"], second["note"]) == (5.0, False, "3 failed")
    assert marks.HOLLOW in subtitle(spec)


def test_other_events_are_no_takes() -> None:
    """Two pile-ups of one label at the same concurrency are two curves, never one mean."""
    frame = chart_frames.points(
        {"concurrency": 8, "throughput_per_s": 47.0, "mu": 20.0},
        {"concurrency": 8, "throughput_per_s": 2.0, "mu": 200.0},
    )
    drawn = rows_of(spec_of("gpus-compared", Frames(points=frame)))
    assert sorted(drawn["value"]) == [2.0, 47.0]
    assert drawn["series"].n_unique() == 2


def test_a_wild_interval_does_not_squeeze_the_values_and_keeps_its_true_ends() -> None:
    """Drawn limits end at 1.5 times the largest value; the tooltip's are the true ones."""
    frame = chart_frames.points(
        *({"concurrency": 1, "throughput_per_s": value} for value in (5.0, 20.0)),
        {"concurrency": 2, "throughput_per_s": 12.0},
    )
    row = rows_of(spec_of("gpus-compared", Frames(points=frame))).sort("x").row(0, named=True)
    assert row["high"] > 1000
    assert row["drawn_high"] == pytest.approx(1.5 * 12)


# --- gaps ----------------------------------------------------------------------------------------------------------


def test_a_point_nobody_measured_is_a_gap_and_is_named() -> None:
    """A place that others have is a null between neighbours, not a 0 and not a bridge; the subtitle lists it."""
    rows = [
        {"concurrency": c, "instances": i, "throughput_per_s": 10.0 * min(i, c)}
        for i in (1, 2)
        for c in (1, 2, 3, 4, 5)
        if (i, c) != (2, 3)
    ]
    spec = spec_of("concurrency-throughput", Frames(points=chart_frames.points(*rows)))
    gap = rows_of(spec).filter(pl.col("series") == "2 instances", pl.col("x") == 3)
    assert gap["value"].to_list() == [None]
    assert "2 instances at 3" in subtitle(spec)
    assert 0 not in rows_of(spec)["value"].to_list()


def test_missing_points_of_the_diagonal_are_named() -> None:
    """Against instances the points at concurrency = instances are taken; a count without one is listed."""
    rows = [
        {"concurrency": c, "instances": i, "throughput_per_s": 1.0 * c, "server_compute_infer_ns": 1e8 * i}
        for i, c in ((1, 1), (2, 2), (3, 1), (4, 4))
    ]
    spec = spec_of("inference-latency", Frames(points=chart_frames.points(*rows)))
    assert dict(rows_of(spec).select("x", "value").iter_rows()) == {1: 100.0, 2: 200.0, 4: 400.0}
    assert "No such point: 3" in subtitle(spec)


# --- GPUs ----------------------------------------------------------------------------------------------------------

TWO_POINTS: list[dict[str, Any]] = [
    {"concurrency": 1, "instances": 1, "throughput_per_s": 10.0},
    {"concurrency": 2, "instances": 2, "throughput_per_s": 20.0},
]


def figures(**of: list[float | None]) -> pl.DataFrame:
    """Return figures of two GPUs at two points: values in the order (point 1: a, b; point 2: a, b)."""
    places = [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    return chart_frames.gpus(
        *(
            {"point": p, "gpu": g} | {name: values[k] for name, values in of.items()}
            for k, (p, g) in enumerate(places)
        )
    )


def test_power_is_a_fraction_of_the_real_limit() -> None:
    """200 of 400 W is 50 %, 75 of 150 W too; the limit is told."""
    gpus = figures(power_w=[200, 75, 300, 150], power_limit_w=[400, 150, 400, 150])
    spec = spec_of("gpu-power", Frames(points=chart_frames.points(*TWO_POINTS), gpus=gpus))
    drawn = rows_of(spec).filter(pl.col("series") == "a").sort("x")["value"].to_list()
    assert drawn == [50.0, 75.0]
    assert rows_of(spec).filter(pl.col("series") == "mean of 2 GPUs").sort("x")["value"].to_list() == [50.0, 87.5]
    assert "150, 400 W" in subtitle(spec)


def test_without_a_limit_power_is_in_watts() -> None:
    """No limit is assumed: watts are drawn, and it is said why."""
    gpus = figures(power_w=[200, 75, 300, 150], power_limit_w=[400, None, 400, None])
    spec = spec_of("gpu-power", Frames(points=chart_frames.points(*TWO_POINTS), gpus=gpus))
    assert rows_of(spec).filter(pl.col("series") == "a").sort("x")["value"].to_list() == [200.0, 300.0]
    assert "limit was not recorded" in subtitle(spec)
    assert "GPU power (W)" in str(spec)


def test_gpu_figures_stay_with_their_point_whatever_the_order() -> None:
    """Rows of points and GPUs in another order, as files sorted by throughput have them, change nothing."""
    points, gpus = chart_frames.points(*TWO_POINTS), figures(utilisation=[0.2, 0.4, 0.6, 0.8])
    plain = rows_of(spec_of("concurrency-gpu-utilisation", Frames(points=points, gpus=gpus)))
    other = rows_of(spec_of("concurrency-gpu-utilisation", Frames(points=points[::-1], gpus=gpus[::-1])))
    assert plain.sort("series", "x").equals(other.sort("series", "x"))
    assert plain.filter(pl.col("series") == "b").sort("x")["value"].to_list() == pytest.approx([40, 80])


def test_gpus_are_drawn_each_and_as_their_mean_never_their_sum() -> None:
    """Two GPUs at 90 % and 100 % have a mean of 95 %; nothing drawn passes 100 %; memory is of each GPU's own."""
    gpus = figures(
        utilisation=[0.9, 1.0, 0.9, 1.0], memory_used_max_bytes=[10, 10, 20, 20], memory_total_bytes=[40, 80, 40, 80]
    )
    frames = Frames(points=chart_frames.points(*TWO_POINTS), gpus=gpus)
    drawn = rows_of(spec_of("concurrency-gpu-utilisation", frames))
    assert drawn.filter(pl.col("series") == "mean of 2 GPUs")["value"].to_list() == pytest.approx([95, 95])
    assert drawn["value"].max() == pytest.approx(100)
    memory = rows_of(spec_of("gpu-memory", frames)).filter(pl.col("x") == 1)
    drawn_memory = dict(memory.select("series", "value").iter_rows())
    assert drawn_memory == pytest.approx({"a": 25, "b": 12.5, "mean of 2 GPUs": 18.75})


def test_energy_an_event_needs_every_gpu_and_an_event() -> None:
    """The energies of one point's GPUs are added and divided by its events; a GPU without one makes a gap."""
    points = chart_frames.points(*TWO_POINTS, {"concurrency": 3, "throughput_per_s": 30.0, "completed": 0})
    gpus = pl.concat(
        [figures(energy_j=[500, 700, 800, None]), chart_frames.gpus({"point": 3, "gpu": "a", "energy_j": 5})]
    )
    of = gpu.energy_an_event(points, gpus).sort("point")
    assert of["energy_j_per_event"].to_list() == [12.0, None, None]
    assert rows_of(spec_of("energy", Frames(points=points, gpus=gpus)))["value"].drop_nulls().to_list() == [12.0]


def test_many_gpus_become_their_lowest_highest_and_mean() -> None:
    """More GPUs than colours: no line is drawn in a colour that another has."""
    gpus = chart_frames.gpus(*({"point": 1, "gpu": f"g{k:02}", "utilisation": k / 20} for k in range(1, 12)))
    of = rows_of(spec_of("concurrency-gpu-utilisation", Frames(points=chart_frames.points(*TWO_POINTS), gpus=gpus)))
    assert dict(of.select("series", "value").iter_rows()) == pytest.approx(
        {"lowest GPU": 5, "highest GPU": 55, "mean of 11 GPUs": 30}
    )


# --- stages --------------------------------------------------------------------------------------------------------


def stages(**of: float) -> dict[str, Any]:
    """Return a point's stages in ms."""
    return {"concurrency": 1, "service_mean_ns": of.pop("service") * MS} | {
        f"server_{name}_ns": v * MS for name, v in of.items()
    }


def test_the_remainder_is_service_minus_the_stages() -> None:
    """Areas stack from 0 to the mean service time, the last being network and client."""
    row = stages(service=100, queue=20, compute_input=1, compute_infer=60, compute_output=4)
    rows = rows_of(spec_of("stage-areas", Frames(points=chart_frames.points(row))))
    drawn = {r["series"]: (r["value"], r["bottom"], r["top"]) for r in rows.iter_rows(named=True)}
    assert drawn[service.NETWORK] == pytest.approx((15, 85, 100))
    assert drawn["queue"] == pytest.approx((20, 0, 20))


def test_a_remainder_below_0_is_not_hidden() -> None:
    """It is drawn as 0, keeps its value in the tooltip, and the subtitle says so."""
    row = stages(service=80, queue=20, compute_input=1, compute_infer=60, compute_output=4)
    spec = spec_of("stage-areas", Frames(points=chart_frames.points(row)))
    last = rows_of(spec).filter(pl.col("series") == service.NETWORK).row(0, named=True)
    assert (last["value"], last["bottom"], last["top"]) == pytest.approx((-5, 85, 85))
    assert "below 0" in subtitle(spec)


# --- pile-up -------------------------------------------------------------------------------------------------------


def alone(*rows: tuple[float, float], device: str = "cpu") -> pl.DataFrame:
    """Return a standalone table from (mu, throughput)."""
    return pl.DataFrame([{"mu": mu, "device": device, "threads": 1, "throughput_per_s": value} for mu, value in rows])


def test_standalone_is_interpolated_inside_its_range_only_and_marked() -> None:
    """At 20 and 80 measured, 40 is half way in log-log (hollow), 10 and 160 have no ratio at all."""
    points = chart_frames.points(
        *(
            {"concurrency": 8, "mu": mu, "throughput_per_s": value}
            for mu, value in ((10, 90), (20, 40), (40, 18), (80, 6), (160, 2))
        )
    )
    spec = spec_of("pileup-ratio", Frames(points=points, standalone=alone((20.0, 32.0), (80.0, 2.0))))
    ratios = rows_of(spec).filter(pl.col("series") == pileup.SERVICE, pl.col("value") < 4).sort("x")
    assert ratios.filter(pl.col("x") < 100).select("x", "value", "measured").rows() == [
        (20, pytest.approx(40 / 32), True),
        (40, pytest.approx(18 / 8), False),
        (80, pytest.approx(6 / 2), True),
    ]
    assert "interpolated" in subtitle(spec)


def test_runs_labelled_by_their_pile_up_are_one_service() -> None:
    """A run a pile-up is one curve; hollow for its objection, which is not called interpolation."""
    runs = [
        chart_frames.points(
            {"concurrency": 8, "mu": mu, "throughput_per_s": 800 / mu, "verdict": "too_few"},
            run=f"mu{mu:g}",
            label=f"mu{mu:g}",
        )
        for mu in (20.0, 80.0)
    ]
    spec = spec_of("pileup-ratio", Frames(points=pl.concat(runs), standalone=alone((20.0, 32.0), (80.0, 2.0))))
    drawn = rows_of(spec).filter(pl.col("series") == pileup.SERVICE)
    assert drawn["value"].to_list() == pytest.approx([40, 10, 40 / 32, 5])
    assert "interpolated" not in subtitle(spec)
    assert marks.HOLLOW in subtitle(spec)


def test_standalone_figures_of_another_source_are_marked_beside_our_runs() -> None:
    """Real runs against figures read from the studies: the subtitle names both."""
    points = chart_frames.points({"concurrency": 8, "mu": 20.0, "throughput_per_s": 40.0})
    frames = Frames(points=points, standalone=pl.read_csv(FIXTURES / "studies_standalone.csv"))
    assert "Data: figures read from the studies, loadgen." in subtitle(spec_of("pileup", frames))


def test_the_service_is_the_highest_of_all_loads() -> None:
    """Of several concurrencies and takes at a pile-up, the load of the highest mean counts, as mean of its takes."""
    rows = [
        {"concurrency": c, "mu": 20.0, "throughput_per_s": v} for c, v in ((1, 5.0), (8, 9.0), (8, 11.0), (16, 8.0))
    ]
    of = pileup.service_curve(chart_frames.points(*rows))
    assert of["value"].to_list() == [pytest.approx(math.sqrt(99))]
    assert of["takes"].to_list() == [2]


def test_the_studies_own_figure_comes_out() -> None:
    """Published peaks over published standalone figures: 1.31 and 2.58 at mu 20, 1.02 at mu 300; panels 3:1:1."""
    points = pl.read_csv(FIXTURES / "studies_points.csv").filter(pl.col("run") == "service")
    spec = spec_of("pileup", Frames(points=points, standalone=pl.read_csv(FIXTURES / "studies_standalone.csv")))
    cpu, cuda = (pileup.pileup_ratios(pileup.service_curve(points), of) for of in _devices())
    assert cpu.filter(pl.col("x") == 20)["value"].item() == pytest.approx(47.2331 / 36)
    assert cuda.filter(pl.col("x") == 20)["value"].item() == pytest.approx(47.2331 / 18.3)
    assert cuda.filter(pl.col("x") == 300)["value"].item() == pytest.approx(0.827548 / 0.81)
    assert [panel["height"] for panel in spec["vconcat"]] == [240, 80, 80]
    assert "figures read from the studies" in subtitle(spec)


def _devices() -> list[pl.DataFrame]:
    of = pileup.standalone_curves(pl.read_csv(FIXTURES / "studies_standalone.csv"))
    return [of.filter(pl.col("series").str.contains(device)) for device in ("CPU", "CUDA")]


# --- laws ----------------------------------------------------------------------------------------------------------


def test_efficiency_and_law_are_those_of_the_data() -> None:
    """Exact data of the universal scalability law give its constants back; efficiency is X(N) / (N X(1))."""
    a, b = 0.05, 0.002
    law = {n: 20 * n / (1 + a * (n - 1) + b * n * (n - 1)) for n in (1, 2, 4, 8, 16, 24, 32, 48)}
    points = chart_frames.points(*({"concurrency": n, "throughput_per_s": x} for n, x in law.items()))
    spec = spec_of("scaling", Frames(points=points))
    assert "contention 0.05, coherency 0.002" in subtitle(spec)
    rows = rows_of(spec)
    share = rows.filter(pl.col("series") == laws.MEASURED, pl.col("x") == 8, pl.col("value") < 100)["value"].min()
    assert share == pytest.approx(100 * law[8] / (8 * law[1]))
    fitted = rows.filter(pl.col("series") == laws.USL)
    assert (fitted["x"].min(), fitted["x"].max()) == (1, 48)
    assert fitted.filter(pl.col("x") == 16)["value"].item() == pytest.approx(law[16], rel=1e-4)


def test_no_law_is_drawn_through_few_points() -> None:
    """Four counts carry no law: the points stay, the subtitle says why there is no curve."""
    points = chart_frames.points(*({"concurrency": n, "throughput_per_s": 10.0 * n} for n in (1, 2, 3, 4)))
    spec = spec_of("scaling", Frames(points=points))
    assert set(rows_of(spec)["series"]) == {laws.MEASURED}
    assert "No law is fitted" in subtitle(spec)


def test_the_knee_is_marked_where_there_is_one() -> None:
    """A plain queue of 4 instances of 50 ms: capacity 80/s, knee at 4."""
    points = chart_frames.points(
        *(
            {"concurrency": n, "throughput_per_s": min(20.0 * n, 80.0), "service_p99_ns": max(50, 12.5 * n) * MS}
            for n in range(1, 11)
        )
    )
    of = laws.knee_frame(tidy.loaded(points))
    assert of["capacity"].item() == pytest.approx(80)
    assert "knee at 4" in of["words"].item()


# --- requests ------------------------------------------------------------------------------------------------------


def test_the_distribution_counts_requests() -> None:
    """Of 1 to 1000, half are at most 500; the tail's share slower than 990 is 1 %; its band holds it."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    whole = distribution.distribution(values, 1000, "a", tail=False)
    assert whole.filter(pl.col("x") == 500)["share"].item() == 0.5
    tail = distribution.distribution(values, 1000, "a", tail=True)
    at = tail.filter(pl.col("x") == 990).row(0, named=True)
    assert at["share"] == 0.01
    assert at["high"] > 0.01


def test_a_line_is_found_in_the_sizes_and_residuals_are_what_it_leaves() -> None:
    """Exactly 11 ms + 4 ms a MB comes out, and failed requests do not count."""
    points = chart_frames.points({"concurrency": 1, "throughput_per_s": 1.0, "service_p99_ns": 1e8})
    rows = chart_frames.requests(points).with_columns(
        done_ns=pl.col("sent_ns") + 11 * MS + 4 * pl.col("request_bytes")
    )
    bad = rows.with_columns(outcome=pl.lit("timeout"), done_ns=pl.col("sent_ns") + 9 * S)
    spec = spec_of("latency-size", Frames(points=points, requests=pl.concat([rows, bad, bad])))
    assert "11 ms + 4 ms/MB" in subtitle(spec)
    of = max(spec["datasets"].values(), key=lambda each: "residual" in each[0])
    assert [row["value"] for row in of] == pytest.approx([15, 19, 23, 27, 31])
    assert [row["residual"] for row in of] == pytest.approx([0] * 5, abs=1e-9)


def test_one_size_of_event_has_no_line() -> None:
    """Two sizes or fewer: one sentence, no chart."""
    points = chart_frames.points({"concurrency": 1, "throughput_per_s": 1.0})
    rows = chart_frames.requests(points).with_columns(request_bytes=pl.lit(1_000_000))
    with pytest.raises(PlanError, match="1 sizes, a line needs 3"):
        NAMED["latency-size"](Frames(points=points, requests=rows))


def test_a_million_requests_become_few_cells_that_hold_them_all() -> None:
    """The heat map's counts add up to the requests; so do the curves of the distribution stay short."""
    rng = np.random.default_rng(1)
    sent = np.sort(rng.integers(0, 600 * S, 1_000_000))
    rows = pl.DataFrame({"sent_ns": sent, "done_ns": sent + rng.lognormal(18, 0.5, 1_000_000).astype(np.int64)})
    cells, unit = requests.heat(rows.with_columns(latency_ns=pl.col("done_ns") - pl.col("sent_ns")))
    assert cells["requests"].sum() == 1_000_000
    assert cells.height <= requests.TIME_BINS * requests.LATENCY_BINS
    assert unit == "ms"


def test_an_open_loop_shows_response_beside_service() -> None:
    """Both times and both percentiles against the rate, in one unit."""
    row = {"load": "open_loop", "rate_per_s": 20.0, "throughput_per_s": 20.0}
    times = {"service_p50_ns": 5e6, "service_p99_ns": 2e7, "response_p50_ns": 6e6, "response_p99_ns": 9e8}
    rows = rows_of(spec_of("response-service", Frames(points=chart_frames.points(row | times))))
    assert dict(rows.select("series", "value").iter_rows()) == {
        "p99 response": 900.0, "p99 service": 20.0, "p50 response": 6.0, "p50 service": 5.0,
    }  # fmt: skip


# --- answers and curves --------------------------------------------------------------------------------------------


def test_histograms_have_poisson_errors_and_ratios_only_of_filled_bins() -> None:
    """Four entries over two: ratio 2, error 2 sqrt(1/4 + 1/2); an empty bin has none."""
    edges = np.array([0.0, 1.0, 2.0])
    over, under = physics.histogram(np.full(4, 0.5), edges, "b"), physics.histogram(np.full(2, 0.5), edges, "a")
    assert over.select("count", "low", "high").row(0) == (4, 2, 6)
    found = physics.ratio(over, under)
    assert found.height == 1
    assert found.row(0, named=True)["value"] == 2
    assert found.row(0, named=True)["high"] == pytest.approx(2 + 2 * math.sqrt(0.75))


def test_a_ratio_has_the_interval_of_both_values() -> None:
    """10 (9 to 11.1) over 5 alone is no interval; over 5 (4.5 to 5.55) it is wider than either."""
    of = pl.DataFrame(
        [
            {"x": 1.0, "series": "a", "value": 5.0, "low": 4.5, "high": 5.55},
            {"x": 1.0, "series": "b", "value": 10.0, "low": 9.0, "high": 11.1},
            {"x": 2.0, "series": "b", "value": 10.0},
        ],
        schema=tidy.CURVE,
    )
    found = service.ratio_curve(of, "a")
    assert found.height == 1
    half = math.hypot(math.log(5 / 4.5), math.log(10 / 9))
    assert found.row(0, named=True)["value"] == 2
    assert found.row(0, named=True)["low"] == pytest.approx(2 * math.exp(-half))


def test_more_series_than_colours_are_cut_and_counted() -> None:
    """Twelve labels: eight are drawn, always the same, and it is said."""
    row = {"concurrency": 1, "throughput_per_s": 1.0}
    frame = pl.concat([chart_frames.points(row, label=f"l{k:02}", run=f"r{k}") for k in range(1, 13)])
    spec = spec_of("gpus-compared", Frames(points=frame))
    assert rows_of(spec)["series"].to_list() == [f"l{k:02}, 2 GPUs" for k in range(1, 9)]
    assert "8 of 12" in subtitle(spec)


def test_throughput_without_an_answer_is_0_and_has_no_interval() -> None:
    """A take of 0 events/s is a measurement; logarithms do not swallow it."""
    frame = chart_frames.points(*({"concurrency": 1, "throughput_per_s": value} for value in (0.0, 10.0)))
    row = tidy.curve(tidy.completed(frame), THROUGHPUT, "concurrency").row(0, named=True)
    assert (row["value"], row["low"], row["takes"]) == (5.0, None, 2)


def test_other_numbers_of_instances_or_gpus_are_no_takes() -> None:
    """At one concurrency 1 and 4 instances, or 1 and 2 GPUs, of one label are curves of their own on every chart."""
    places = [(1, 1, 10.0), (4, 1, 40.0), (1, 2, 15.0), (4, 2, 70.0)]
    rows = [
        {"concurrency": c, "instances": i, "gpus": g, "throughput_per_s": x, "service_mean_ns": 1e8 * x}
        for i, g, x in places
        for c in (1, 2)
    ]
    frames = Frames(points=chart_frames.points(*rows))
    names = ("gpus-compared", "throughput-by-gpus", "concurrency-throughput", "single-pass", "takes-overlay")
    for name in (*names, "configurations"):
        drawn = rows_of(spec_of(name, frames))
        assert {10.0, 40.0, 15.0, 70.0} <= set(drawn["value"]), name
        assert (drawn["takes"] == 1).all()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("keys", [("point", "gpu", "pod"), ("point", "gpu", "pod", "run", "instances")])
def test_the_columns_that_a_chart_names_are_all_it_needs(
    name: str, keys: tuple[str, ...], everything: Frames
) -> None:
    """With the keys and those columns alone it is drawn, or refused in a line, whatever else an import lacks."""
    tables = {}
    for table, columns in NAMED[name].needs.items():
        whole = getattr(everything, table)
        tables[table] = whole.select([*dict.fromkeys([*(key for key in keys if key in whole.columns), *columns])])
    drawn: dict[str, Any] | PlanError = {}
    try:
        drawn = theme.specification(NAMED[name](Frames(**tables)))
    except PlanError as refused:
        drawn = refused
    assert "datasets" in drawn if isinstance(drawn, dict) else "nothing to draw" in str(drawn)


def test_one_count_is_no_scaling() -> None:
    """A single number of GPUs, or concurrency, is refused: a law needs something to go along."""
    frames = Frames(points=chart_frames.points({"concurrency": 1, "throughput_per_s": 1.0}))
    for name in ("scaling", "scaling-gpus", "scaling-instances"):
        with pytest.raises(PlanError, match="only one value"):
            NAMED[name](frames)


def test_scaling_with_gpus_takes_the_best_load_of_one_number_of_instances() -> None:
    """1 GPU: 10/s at concurrency 1, 12/s at 4; 2 GPUs 20/s at 4: 12, 20, efficiency 83 %; other instances apart."""
    rows = [(1, 2, 1, 10.0), (1, 2, 4, 12.0), (2, 2, 1, 11.0), (2, 2, 4, 20.0), (1, 1, 4, 99.0)]
    frame = chart_frames.points(
        *({"gpus": g, "instances": i, "concurrency": c, "throughput_per_s": x} for g, i, c, x in rows)
    )
    drawn = rows_of(spec_of("scaling-gpus", Frames(points=frame)))
    assert sorted(drawn["value"]) == pytest.approx([12, 20, 100 * 20 / 24, 100])


def test_the_gallery_has_every_chart() -> None:
    """A named chart without a picture from real data is one that nobody has looked at."""
    gallery = Path(__file__).parents[1] / "docs" / "gallery"
    page = (gallery / "README.md").read_text()
    assert {path.stem for path in gallery.glob("*.png")} == set(NAMED)
    assert [name for name in NAMED if f"({name}.png)" not in page] == []


def test_few_values_of_chi2_still_make_a_picture() -> None:
    """The bins end where the values do, 200 at most; a bin that stands alone has a top of its own."""
    answers = pl.DataFrame({"label": ["a"] * 3, "quantity": ["chi2_ndf"] * 3, "value": [900.0] * 3})
    with pytest.raises(PlanError, match="every value of chi2_ndf lies outside 0 to 200"):
        spec_of("answers-chi2", Frames(answers=answers))
    for value, end in ((0.3, 0.5), (150.0, 200.0)):
        answers = pl.DataFrame({"label": ["a"] * 3, "quantity": ["chi2_ndf"] * 3, "value": [value] * 3})
        spec = spec_of("answers-chi2", Frames(answers=answers))
        ends = [row["end"] for rows in spec["datasets"].values() for row in rows if "end" in row]
        assert max(ends) == pytest.approx(end)
        assert '"x2": {"field": "end"}' in json.dumps(spec)


def test_gpus_of_other_runs_make_no_empty_panel() -> None:
    """Devices compared have a panel of utilisation only where a GPU of theirs was seen."""
    rows = [row | {"service_mean_ns": 100.0 * MS} for row in TWO_POINTS]
    for run, seen in (("a", True), ("x", False)):
        points = chart_frames.points(*rows, run=run)
        spec = spec_of("devices", Frames(points=points, gpus=figures(utilisation=[0.5, 0.6, 0.7, 0.8])))
        assert ("Utilisation (%)" in json.dumps(spec)) is seen
