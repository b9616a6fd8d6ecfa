"""Comparisons of runs: paired by point, honest about what can be told, refused where they would mean nothing."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from compare_sides import DIFFERENT, only, scattered, side
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sealed_run import Story, write_run
from typer.testing import CliRunner, Result

from analysis import stats
from analysis.__main__ import app
from analysis.compare import Choices, between, compare, contrast, limits, verdicts, written
from analysis.compare.contrast import Contrast, Value
from analysis.compare.overlay import charts
from analysis.compare.sides import read
from loadgen.errors import PlanError

# --- how often it is right -----------------------------------------------------------------------------------------


def test_equal_sides_are_called_different_as_rarely_as_stated_and_5_percent_is_found() -> None:
    """Of 150 comparisons at most 5 % (+-4) name any of four points; sides 5 % apart are found in nearly all.

    Five takes a side, each point of which scatters by 1.5 %.
    """
    rng, choices = np.random.default_rng(8), Choices(quantities=("throughput_per_s",))
    alarms = at_points = found = 0
    for _ in range(150):
        a = side("a", scattered(rng, 1, 5, 0.015))
        equal = between([a, side("b", scattered(rng, 1, 5, 0.015))], choices)
        alarms += equal.whole[0].verdict in DIFFERENT
        at_points += any(pair.verdict in DIFFERENT for pair in equal.points)
        slower = between([a, side("b", scattered(rng, 1 / 1.05, 5, 0.015))], choices)
        found += slower.whole[0].verdict in DIFFERENT and slower.whole[0].ratio < 1  # type: ignore[operator]
    assert alarms <= 0.09 * 150
    assert at_points <= 0.09 * 150
    assert found >= 0.99 * 150


def test_what_is_called_equivalent_rarely_is_beyond_the_margin() -> None:
    """Sides exactly the margin apart are called equivalent in at most 5 % (+-4) of comparisons."""
    rng, choices = np.random.default_rng(9), Choices(quantities=("throughput_per_s",), margin=0.02)
    wrong = [
        between([side("a", scattered(rng, 1, 5, 0.01, [1])), side("b", scattered(rng, 1.02, 5, 0.01, [1]))], choices)
        for _ in range(150)
    ]
    assert sum(found.whole[0].verdict == "equivalent" for found in wrong) <= 0.09 * 150


@settings(deadline=None)
@given(t=st.floats(0, 30), degrees=st.floats(1, 200))
@example(t=0.0, degrees=1.09375)
def test_tail_and_critical_value_are_inverse(t: float, degrees: float) -> None:
    """The tail falls with t, is a half at 0, and its critical value gives t back."""
    share = stats.tail(t, degrees)
    assert 0 <= share <= 0.5 + 1e-5
    assert stats.tail(-t, degrees) == pytest.approx(1 - share)
    if 1e-8 < share < 0.499:
        assert stats.critical(share, degrees) == pytest.approx(t, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)]
)
def test_critical_values_are_those_of_the_tables(degrees: int, t: float) -> None:
    """Two-sided 5 % of Student's t."""
    assert stats.critical(0.025, degrees) == pytest.approx(t, abs=6e-4)


def test_holm_by_hand() -> None:
    """The least p times its number, the next times one less, never falling; the order is kept."""
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([]) == []


# --- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (0.05, 0.005, "different"),
        (0.05, 0.02, "probably different"),
        (0.001, 0.004, "equivalent"),
        (0.01, 0.002, "equivalent"),
        (0.01, 0.02, "cannot tell"),
        (0.0, 0.0, "equivalent"),
        (0.1, 0.0, "different"),
    ],
)
def test_verdicts_follow_from_the_interval(value: float, error: float, said: str) -> None:
    """Beyond the margin; off 1 but not surely beyond; within; or none, with what it would take."""
    one = Contrast(value, error, 30, "windows")
    word = verdicts.word(verdicts.chances(one, 0.02))
    assert word == said
    if said == "cannot tell":
        assert "times longer would" in verdicts.sentence(word, "p99_ns", one, 0.02, (1, 1))


def test_how_much_longer_is_by_the_square() -> None:
    """An interval of +-8 % needs 16 times the time, or takes, to become +-2 %."""
    error = 0.08 / stats.critical(0.025, 19)
    assert verdicts.longer(Contrast(0.0, error * math.log1p(0.02) / 0.02, 19, "windows"), 0.02, (1, 1)) == (
        "about 16 times longer would"
    )
    takes = verdicts.longer(Contrast(0.0, error * math.log1p(0.02) / 0.02, 19, "takes"), 0.02, (5, 5))
    assert takes == "about 80 takes a side would"
    assert verdicts.longer(Contrast(0.0, 9.0, 19, "takes"), 0.02, (5, 5)) == "more than 1,000 takes a side would"


def test_times_that_grow_are_slower_and_throughput_that_grows_is_faster() -> None:
    """Words have the direction that matters."""
    found = between([side("a", [{1: 10.0}], half=0.005), side("b", [{1: 12.0}], half=0.005)], Choices())
    assert {pair.quantity: pair.words.split(":")[0] for pair in found.points} == {
        "throughput_per_s": "faster",
        "p99_ns": "faster",
    }


def test_difference_and_ratio_are_those_of_the_values() -> None:
    """Welch over takes: ratio and difference of geometric means, the limits of both leaving out the same."""
    a, b = [10.0, 11.0, 12.0], [20.0, 22.0, 21.0]
    (pair,) = only(between([side("a", [{1: x} for x in a]), side("b", [{1: x} for x in b])], Choices()))
    welch = stats.ratio_of_takes(a, b)
    assert pair.ratio == pytest.approx(welch.value)
    assert pair.ratio_low == pytest.approx(welch.low, rel=2e-2)
    means = [math.exp(np.log(takes).mean()) for takes in (a, b)]
    assert (pair.a, pair.b) == pytest.approx(means)
    assert pair.difference == pytest.approx(means[1] - means[0])
    assert pair.difference_low == pytest.approx(pair.difference * math.log(pair.ratio_low) / math.log(pair.ratio))  # type: ignore[arg-type, operator]
    assert (pair.takes_a, pair.takes_b, pair.basis) == (3, 3, "takes")


def test_one_take_a_side_says_that_its_interval_knows_no_restart() -> None:
    """Own intervals add in quadrature; the note stands; without intervals there is no verdict."""
    sides = [side("a", [{1: 100.0}], half=0.03), side("b", [{1: 110.0}], half=0.03)]
    found = between(sides, Choices(quantities=("throughput_per_s",)))
    assert only(found)[0].basis == "windows"
    assert only(found)[0].ratio_high == pytest.approx(1.1 * math.exp(math.sqrt(2) * -math.log(0.97)), rel=1e-3)
    assert any("One take a side" in note for note in found.notes)
    blind = between([side("a", [{1: 100.0}]), side("b", [{1: 110.0}])], Choices())
    assert only(blind)[0].verdict == "cannot tell"
    assert not blind.whole
    assert "No verdict" in written.text(blind)


def test_a_floor_widens_single_takes(tmp_path: Path) -> None:
    """With the scatter of takes known from elsewhere, 4 % between two windows of +-0.1 % is no difference."""
    floor = contrast.scatter([[100.0, 103.0, 98.0, 101.0, 99.0, 102.0]])
    assert floor is not None
    one, two = [Value(100.0, 99.9, 100.1)], [Value(104.0, 103.9, 104.1)]
    blunt, sharp = contrast.of_ratio(one, two, floor), contrast.of_ratio(one, two)
    assert blunt is not None
    assert sharp is not None
    assert (blunt.basis, blunt.degrees) == ("floor", 5)
    assert sharp.differs() < 0.001
    assert blunt.differs() > 0.05
    lone = write_run(tmp_path / "run", Story(concurrency=(1,)))
    with pytest.raises(PlanError, match="no load that was measured twice"):
        between([side("a", [{1: 1.0}]), side("b", [{1: 1.0}])], Choices(floor=lone))


def test_a_value_of_0_has_a_difference_and_no_ratio() -> None:
    """A queue that was empty: takes are compared by their plain difference, and no verdict is made of it."""
    queues = ([0.0, 1000.0, 500.0], [5000.0, 6000.0, 5500.0])
    takes = [[Value(one) for one in queue] for queue in queues]
    assert contrast.of_ratio(takes[0], takes[1]) is None
    found = contrast.of_difference(takes[0], takes[1])
    assert found is not None
    assert found.value == pytest.approx(5000.0)
    assert found.above(4000.0) < 0.05


# --- pairing -------------------------------------------------------------------------------------------------------


def test_points_pair_by_load_and_level_and_the_rest_is_listed() -> None:
    """What one side alone has is said, never compared."""
    found = between(
        [side("a", [{1: 10.0, 2: 20.0}], half=0.01), side("b", [{2: 20.0, 4: 40.0}], half=0.01)], Choices()
    )
    assert {pair.place for pair in found.points} == {"concurrency 2"}
    assert found.unpaired == ("Only a has concurrency 1, beside b.", "Only b has concurrency 4, beside a.")
    with pytest.raises(PlanError, match="a has concurrency 1; b has concurrency 2"):
        between([side("a", [{1: 1.0}]), side("b", [{2: 1.0}])], Choices())


@pytest.mark.parametrize("verdict", ["client_limited", "drifting", "failing"])
def test_points_not_to_be_used_are_shown_and_named_but_not_tested(verdict: str) -> None:
    """Their values stand in the table; the reason is a sentence; the whole sweep leaves them out."""
    good = side("a", [{1: 10.0}], half=0.01)
    bad = side("b", [{1: 20.0}], half=0.01, verdict=verdict, reason="core used up")
    found = between([good, bad], Choices(fail_if=("throughput_per_s > 1.1x",)))
    (pair,) = only(found)
    assert (pair.b, pair.ratio, pair.verdict) == (20.0, 2.0, "not compared")
    assert f"b, concurrency 1: {verdict} (core used up); not compared" in found.unsteady
    assert not found.whole
    assert not found.failed
    assert found.decisions[0].outcome == "cannot tell"


@pytest.mark.parametrize(("completed", "p99"), [(40, "not compared"), (99, "not compared"), (100, "different")])
def test_takes_of_few_requests_are_compared_by_their_scatter(completed: int, p99: str) -> None:
    """Five a side are tested, but for p99 where none of their requests lies beyond it; one alone is not tested."""
    rng = np.random.default_rng(3)
    takes = {"a": scattered(rng, 1, 5, 0.01), "b": scattered(rng, 1.2, 5, 0.01)}
    sides = [side(label, each, verdict="too_few", completed=completed) for label, each in takes.items()]
    found = between(sides, Choices())
    assert {pair.verdict for pair in only(found)} == {"different"}
    assert {pair.verdict for pair in only(found, "p99_ns")} == {p99}
    assert p99 == "different" or "the takes of a and b have too few" in only(found, "p99_ns")[0].words
    assert not found.unsteady
    single = [side(label, each[:1], half=0.01, verdict="too_few") for label, each in takes.items()]
    assert {pair.verdict for pair in only(between(single, Choices()))} == {"not compared"}


def test_takes_not_to_be_used_leave_the_others_and_are_named(tmp_path: Path) -> None:
    """Of a folder's runs the one that drifted is named by its folder; the others are compared."""
    for name in ("a/1", "a/2", "b/3", "b/4", "b/5"):
        write_run(tmp_path / name, Story(concurrency=(1,), seed=int(name[-1])))
    table = pl.read_parquet(tmp_path / "b" / "5" / "points.parquet")
    table.with_columns(verdict=pl.lit("drifting"), reason=pl.lit("")).write_parquet(
        tmp_path / "b" / "5" / "points.parquet"
    )
    found = compare([tmp_path / "a", tmp_path / "b"], Choices(quantities=("p50_ns",)))
    assert [(pair.takes_a, pair.takes_b, pair.basis) for pair in found.points] == [(2, 2, "takes")]
    assert found.unsteady == ("b, concurrency 1, 5: drifting; not compared",)


def test_the_whole_sweep_is_one_number_a_take() -> None:
    """Mean over points of the logarithm; a take that lacks a point is left out."""
    a = [{1: 10.0, 2: 20.0}, {1: 11.0, 2: 21.0}, {1: 12.0}]
    b = [{1: 20.0, 2: 40.0}, {1: 22.0, 2: 42.0}]
    (whole,) = between([side("a", a), side("b", b)], Choices(quantities=("throughput_per_s",))).whole
    assert whole.ratio == pytest.approx(2.0)
    assert (whole.takes_a, whole.takes_b) == (2, 2)


def test_more_than_two_are_each_compared_with_the_first() -> None:
    """The first is the baseline; Holm counts the points of all."""
    sides = [side("a", [{1: 10.0}], half=0.01), side("b", [{1: 10.0}], half=0.01), side("c", [{1: 13.0}], half=0.01)]
    found = between(sides, Choices(quantities=("throughput_per_s",)))
    assert (found.baseline, found.labels) == ("a", ("b", "c"))
    assert [pair.ratio for pair in found.points] == pytest.approx([1.0, 1.3])


# --- the same thing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (Story(concurrency=(1,), model="other"), "the model differs .*a: traccc-gpu, b: other"),
        (Story(concurrency=(1,), instances=3), "the instances differ .*a: 2, b: 3"),
        (Story(concurrency=(1,), server="triton 2.60.0"), "the server differs"),
    ],
)
def test_other_servers_are_refused_with_the_reason_unless_told(tmp_path: Path, story: Story, said: str) -> None:
    """One line names what differs on which side; `anyway` compares, and says so."""
    paths = [write_run(tmp_path / "a", Story(concurrency=(1,))), write_run(tmp_path / "b", story)]
    with pytest.raises(PlanError, match=said) as told:
        compare(paths, Choices())
    assert "--anyway" in str(told.value)
    found = compare(paths, Choices(anyway=True))
    assert found.points
    assert any(note.startswith("Compared anyway") for note in found.notes)


def test_other_inputs_are_refused_by_their_sha256(tmp_path: Path) -> None:
    """Equal words do not make equal inputs; what is not recorded is noted, not refused."""
    paths = [write_run(tmp_path / name, Story(concurrency=(1,))) for name in "ab"]
    corpus = json.loads((paths[1] / "corpus.json").read_text())
    (paths[1] / "corpus.json").write_text(json.dumps(corpus | {"sha256": "ff" * 32}))
    with pytest.raises(PlanError, match=r"the inputs differ .*sha256 000000000000.*sha256 ffffffffffff"):
        compare(paths, Choices())
    (paths[1] / "log.jsonl").write_text("")
    (paths[1] / "corpus.json").write_text(json.dumps(corpus))
    assert (
        "Not recorded, so that it cannot be checked: the version of the server of b."
        in compare(paths, Choices()).notes
    )


def test_a_run_against_itself_is_said(tmp_path: Path) -> None:
    """Its difference says nothing."""
    run = write_run(tmp_path / "a", Story(concurrency=(1,)))
    found = compare([run, run], Choices())
    assert any("have runs in common" in note for note in found.notes)
    assert (found.baseline, found.labels) == ("a (A)", ("a (B)",))


# --- limits --------------------------------------------------------------------------------------------------------

KNOWN = ("throughput_per_s", "p99_ns", "mean_ns", "gpu_power_w")


@pytest.mark.parametrize(
    ("text", "quantity", "at", "more", "bound", "relative"),
    [
        ("p99_ns > 1.05x", "p99_ns", "any", True, math.log(1.05), True),
        ("p99>+5%", "p99_ns", "any", True, math.log(1.05), True),
        ("throughput @ all < -3 %", "throughput_per_s", "all", False, math.log(0.97), True),
        ("p99_ns @ 8 >= +20ms", "p99_ns", "8", True, 20e6, False),
        ("mean_ns > -1.5us", "mean_ns", "any", True, -1500.0, False),
        ("gpu_power_w > +30", "gpu_power_w", "any", True, 30.0, False),
    ],
)
def test_limits_are_read(  # noqa: PLR0913, PLR0917 - the parts of a limit
    text: str, quantity: str, at: str, more: bool, bound: float, relative: bool
) -> None:
    """Ratio, signed percent, signed difference with a unit; at a level, everywhere, or over the sweep."""
    found = limits.parse(text, KNOWN)
    assert (found.quantity, found.at, found.more, found.relative) == (quantity, at, more, relative)
    assert found.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    "text",
    ["", "p99_ns", "p99_ns > x", "p99_ns > 5%", "p99_ns > 500ms", "p99_ns > 0x", "p99_ns = 1.05x", "cost > 1.05x",
     "throughput > +5ms", "p99_ns > -100%", "p99_ns @ some > 1.1x", "p99_ns @ all > +5ms"],
)  # fmt: skip
def test_what_is_no_limit_is_one_line(text: str) -> None:
    """Words that mean nothing, an unsigned percent, a level of itself: each is refused, with the form."""
    with pytest.raises(PlanError, match=r"--fail-if") as told:
        limits.parse(text, KNOWN)
    assert "\n" not in str(told.value)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_limit_or_one_line(text: str) -> None:
    """The parser never fails in another way."""
    try:
        limits.parse(text, KNOWN)
    except PlanError as error:
        assert "--fail-if" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("value", "outcome", "failed", "failed_strictly"),
    [(0.10, "exceeded", True, True), (0.05, "cannot tell", False, True), (0.0, "kept", False, False)],
)
def test_a_limit_fails_only_where_it_is_shown(
    value: float, outcome: str, failed: bool, failed_strictly: bool
) -> None:
    """Wholly beyond: exceeded; wholly within: kept; else it cannot be told, and fails with `strict` alone."""
    sides = [side("a", [{1: 100.0}], half=0.01), side("b", [{1: 100.0 * math.exp(-value)}], half=0.01)]
    limit = ("p99_ns > 1.05x",)
    found = between(sides, Choices(fail_if=limit))
    assert [one.outcome for one in found.decisions] == [outcome]
    assert found.failed is failed
    assert between(sides, Choices(fail_if=limit, strict=True)).failed is failed_strictly


def test_limits_of_many_points_hold_together() -> None:
    """Sides that keep a limit at 8 points fail it in at most 5 % (+-5) of comparisons."""
    levels = [float(level) for level in range(1, 9)]
    rng = np.random.default_rng(10)
    choices = Choices(quantities=("throughput_per_s",), fail_if=("throughput_per_s < 1.0x",))
    failed = [
        between(
            [side("a", scattered(rng, 1, 4, 0.02, levels)), side("b", scattered(rng, 1, 4, 0.02, levels))], choices
        ).failed
        for _ in range(80)
    ]
    assert sum(failed) <= 0.1 * 80


# --- what is written -----------------------------------------------------------------------------------------------


def command(*arguments: object) -> Result:
    """Run `python -m analysis compare`."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Return a run and one that is slower by a third."""
    slow = Story(concurrency=(1, 2), service_ms=107.0, seed=3)
    return [write_run(tmp_path / "a", Story(concurrency=(1, 2))), write_run(tmp_path / "b", slow)]


def test_exit_codes_are_those_documented(two: list[Path]) -> None:
    """0 done, 1 a limit exceeded, 2 bad input."""
    assert command(*two).exit_code == 0
    assert command(*two, "--fail-if", "p99_ns > 1.05x").exit_code == 1
    assert command(*two, "--fail-if", "p99_ns > 3x").exit_code == 0
    for bad in (two[:1], [*two, "--fail-if", "x"], [*two, "--margin", "no"], [*two, "--quantity", "no"]):
        found = command(*bad)
        assert isinstance(found.exception, PlanError)
        assert found.exception.exit_code == 2


def test_every_output_says_simulated(two: list[Path]) -> None:
    """Text, Markdown, JSON and charts."""
    assert command(*two).stdout.startswith("SIMULATED")
    assert "SIMULATED" in command(*two, "--markdown").stdout
    assert json.loads(command(*two, "--json").stdout)["simulated"] is True
    sides, notes = read(two, anyway=False)
    drawn = charts(between(sides, Choices(), notes), sides)
    assert all("SIMULATED" in json.dumps(spec["title"]) for spec in drawn.values())


def test_markdown_is_a_table_of_every_pair_and_escapes_names(two: list[Path]) -> None:
    """As many cells in every row; what a label holds is not read as a table or as HTML."""
    text = command(f"x|<b>={two[0]}", two[1], "--markdown").stdout
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4 * (1 + 2)
    assert {line.replace("\\|", "").count("|") for line in rows} == {9}
    assert "<b>" not in text
    facts = {"load": "profile", "load_words": "1|2 <i>", "level": None}
    found = between([side(label, [{1: 10.0}], **facts) for label in "ab"], Choices())  # type: ignore[arg-type]
    assert "| 1\\|2 &lt;i&gt; | throughput_per_s |" in written.markdown(found)


def test_json_is_everything_and_recomputes(two: list[Path]) -> None:
    """Values of the sides are those of the points tables; limits are exceeded as the exit code says."""
    found = json.loads(command(*two, "--json", "--fail-if", "p99_ns > 1.05x").stdout)
    assert found["failed"] is True
    tables = [pl.read_parquet(path / "points.parquet") for path in two]
    for pair in found["points"]:
        column = pair["quantity"] if pair["quantity"].endswith("_per_s") else f"service_{pair['quantity']}"
        for key, table in zip("ab", tables, strict=True):
            (value,) = table.filter(pl.col("concurrency") == pair["level"])[column]
            assert pair[key] == pytest.approx(value)
        assert pair["ratio"] == pytest.approx(pair["b"] / pair["a"])
        assert pair["difference"] == pytest.approx(pair["b"] - pair["a"])


def test_charts_are_drawn_as_png_and_svg(two: list[Path], tmp_path: Path) -> None:
    """One a quantity; the ratios drawn are those of the table."""
    assert command(*two, "--charts", tmp_path / "out", "--quantity", "p99_ns").exit_code == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["compare_p99_ns.png", "compare_p99_ns.svg"]
    sides, notes = read(two, anyway=False)
    found = between(sides, Choices(quantities=("p99_ns",)), notes)
    (spec,) = charts(found, sides).values()
    drawn = [row for rows in spec["datasets"].values() for row in rows if "ratio" in row]
    assert sorted(row["ratio"] for row in drawn) == sorted(pair.ratio for pair in found.points if pair.ratio)


def test_studies_pair_setting_by_setting(tmp_path: Path) -> None:
    """Folders of several instance counts: each is compared with its like, and what one lacks is listed."""
    for study, counts in (("old", (1, 2)), ("new", (2, 1, 4))):
        for count in counts:
            write_run(tmp_path / study / f"{count}", Story(concurrency=(1, 2), instances=count))
    found = compare([tmp_path / "old", tmp_path / "new"], Choices(quantities=("p99_ns",)))
    assert sorted({pair.place for pair in found.points}) == [
        f"concurrency {level}, instances {count}" for level in (1, 2) for count in (1, 2)
    ]
    assert found.unpaired == ("Only new has concurrency 1, instances 4 and concurrency 2, instances 4, beside old.",)
    assert [pair.ratio for pair in found.points] == pytest.approx([1.0] * 4)


def test_what_one_side_does_not_know_neither_parts_nor_pairs(tmp_path: Path) -> None:
    """Another tool's points have no server and no inputs: they pair by load alone, and it is noted."""
    run = write_run(tmp_path / "a", Story(concurrency=(1,)))
    blind = write_run(tmp_path / "b", Story(concurrency=(1,)))
    points = pl.read_parquet(blind / "points.parquet")
    unknown = points.with_columns(pl.lit(None, pl.String).alias(name) for name in ("server", "inputs", "model"))
    unknown.write_parquet(blind / "points.parquet")
    for name in ("corpus.json", "plan.json"):
        (blind / name).write_text("{}")
    (blind / "log.jsonl").write_text("")
    found = compare([run, blind], Choices())
    assert [pair.place for pair in found.points] == ["concurrency 1"] * 4
    assert any("the inputs" in note and note.endswith("of b.") for note in found.notes)


def test_inputs_are_the_same_by_their_sha256_whatever_they_are_called(tmp_path: Path) -> None:
    """A corpus that was prepared has another name and the same bytes."""
    runs = [
        write_run(tmp_path / "a", Story(concurrency=(1,))),
        write_run(tmp_path / "b", Story(concurrency=(1,), inputs="x")),
    ]
    assert len(compare(runs, Choices()).points) == 4
