"""Two tools in turns: order of the takes, what is judged from them, what is doubtful."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from analysis import crosscheck
from analysis.crosscheck import OURS, THEIRS
from analysis.equivalence import MARGINS
from loadgen import crosscheck as measuring
from loadgen.cli import app
from loadgen.endpoint import Endpoint
from loadgen.errors import PlanError, TargetError
from loadgen.plan import ClosedLoop, ConcurrencySteps, Generated, OpenLoop, Plan


def take(block: int, place: int, side: str, *, level: float = 2.0, **figures: Any) -> dict[str, Any]:
    """Return a take whose throughput and times are 100/s and 20 ms unless given."""
    plain: dict[str, Any] = {"throughput_per_s": 100.0, "failure": "", "in_flight": level, "completed": 500.0}
    plain |= {quantity: 20e6 for quantity in MARGINS if quantity.endswith("_ns")}
    return {"block": block, "place": place, "level": level, "side": side, **plain, **figures}


def blocks(ours: list[float], theirs: list[float]) -> pl.DataFrame:
    """Return ABBA blocks with these throughputs, the same twice in a block."""
    rows = []
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        for place, side in enumerate((OURS, THEIRS, THEIRS, OURS), start=1):
            rows.append(take(number, place, side, throughput_per_s=mine if side == OURS else other))
    return measuring.table(rows)


def asked(folder: Path, *loads: Any, count: int = 20) -> measuring.Asked:
    """Return a crosscheck of some loads."""
    plan = Plan(Endpoint("localhost:1", "m"), Generated("zero"), tuple(loads))
    return measuring.Asked(plan, measuring.Program(Path("/bin/true")), (), folder, blocks=count, seed=7)


def test_takes_are_in_blocks_of_abba_or_baab(tmp_path: Path) -> None:
    """Each block of a level has each side first or last twice, and both orders are drawn."""
    turns = list(measuring.turns(asked(tmp_path, ClosedLoop(1), ClosedLoop(4))))
    assert len(turns) == 20 * 2 * 4
    orders: Counter[str] = Counter()
    for start in range(0, len(turns), 4):
        block = turns[start : start + 4]
        assert len({(number, level) for number, _, level, _ in block}) == 1
        sides = [side for *_, side in block]
        assert sides[0] == sides[3] != sides[1] == sides[2]
        orders[sides[0]] += 1
    assert min(orders[OURS], orders[THEIRS]) > 5


def test_a_drift_of_the_server_cancels() -> None:
    """Throughput that doubles from block to block, 1 % apart within each: the ratio is 1.01, and surely so."""
    levels = [100.0, 200.0, 400.0]
    found = crosscheck.agreements(blocks([1.01 * level for level in levels], levels))
    row = found.filter(pl.col("quantity") == "throughput_per_s").row(0, named=True)
    assert row["ratio"] == pytest.approx(1.01)
    assert row["low"] == pytest.approx(1.01)
    assert (row["verdict"], row["blocks"]) == ("equivalent", 3)


def test_a_block_without_one_side_does_not_count() -> None:
    """Where all takes of a side failed in a block, the others are judged, and the failure is told."""
    takes = blocks([100.0, 100.0, 100.0], [100.0, 100.0, 100.0]).with_columns(
        throughput_per_s=pl.when((pl.col("block") == 2) & (pl.col("side") == THEIRS))
        .then(None)
        .otherwise(pl.col("throughput_per_s")),
        failure=pl.when((pl.col("block") == 2) & (pl.col("side") == THEIRS))
        .then(pl.lit("exit code 2"))
        .otherwise(pl.col("failure")),
    )
    found = crosscheck.agreements(takes).filter(pl.col("quantity") == "throughput_per_s")
    assert found["blocks"].to_list() == [2]
    assert crosscheck.doubts(takes) == ["block 2, level 2: perf_analyzer: exit code 2"] * 2


def test_whole_microseconds_of_a_short_stage_cannot_be_judged() -> None:
    """A stage of 3 us, which they round: not equivalent within 5 %, whatever the takes say."""
    takes = blocks([100.0] * 5, [100.0] * 5).with_columns(compute_input_ns=pl.lit(3000.0))
    found = crosscheck.agreements(takes)
    verdicts = dict(found.select("quantity", "verdict").iter_rows())
    assert verdicts["compute_input_ns"] == "cannot tell"
    assert verdicts["compute_infer_ns"] == "equivalent"


def test_idle_slots_of_theirs_are_told() -> None:
    """Where throughput x mean time is well below the slots asked for, the loss is their client's."""
    takes = blocks([100.0], [90.0]).with_columns(in_flight=pl.lit(1.8))
    (said,) = crosscheck.doubts(takes)
    assert said.startswith("level 2: perf_analyzer kept only 90.0% of its slots busy")


def test_levels_are_those_of_both_tools() -> None:
    """Concurrencies and rates have a level; what perf_analyzer cannot do is refused by name."""
    assert measuring.level_of(ClosedLoop(3)) == 3.0
    assert measuring.level_of(OpenLoop(12.5)) == 12.5
    with pytest.raises(PlanError, match="no such load"):
        measuring.level_of(ConcurrencySteps(((1, 1.0),)))


def test_a_missing_library_ends_it_with_a_hint() -> None:
    """The loader's complaint is no failed take: nothing would ever be measured."""
    with pytest.raises(TargetError, match="perf-analyzer-libraries"):
        measuring.refused(127, "x: error while loading shared libraries: libb64.so.0d: cannot open")
    assert measuring.refused(99, "a\nb\n\nc\n") == "exit code 99: b / c"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--theirs", "x.csv"], "--theirs and --ours"),
        (["-m", "m"], "--input-data"),
        (["-m", "m", "--input-data", "zero", "--perf-analyzer", "/no/such"], "not found"),
        (["-m", "m", "--input-data", "zero", "--margin", "speed=3"], "QUANTITY=PERCENT"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    """What is missing or wrong is said in a line that says how to mend it."""
    result = CliRunner().invoke(app, ["crosscheck", *arguments, "--output", str(tmp_path)])
    assert isinstance(result.exception, PlanError)
    assert message in str(result.exception)


def test_files_and_pictures(tmp_path: Path) -> None:
    """Tables, Markdown and a page are written; a table without a common level is written without a page."""
    takes = blocks([100.0] * 3, [99.0] * 3)
    found = crosscheck.agreements(takes)
    names = [path.name for path in crosscheck.write(tmp_path, takes, found, "concurrency")]
    assert names == ["crosscheck.md", "crosscheck.html"]
    assert "| 2 | throughput | 100 | 99 |" in (tmp_path / "crosscheck.md").read_text()
    assert pl.read_parquet(tmp_path / "agreements.parquet").equals(found)
    assert "https://" not in (tmp_path / "crosscheck.html").read_text().split("<script", 1)[0]
    alone = takes.filter(pl.col("side") == OURS)
    assert [path.name for path in crosscheck.write(tmp_path, alone, crosscheck.agreements(alone), "rate")] == [
        "crosscheck.md"
    ]
