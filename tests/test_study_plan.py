"""A study's grid: what is in it, in which order, what is left; options, presets and files that say it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import cli_study, study_plan
from loadgen.asked import Made
from loadgen.cli_study import PRESETS, Grid, inputs_sets, read_study, servers_of, with_presets
from loadgen.errors import PlanError
from loadgen.plan import Cells, ClosedLoop, OpenLoop, PerfJson, Synthetic
from loadgen.ranges import levels_option
from loadgen.study_plan import InputSet, Launched, Remote, Study, cells, checked, left, loads_of, stretches

TWO_SERVERS = (Launched(1), Launched(4, gpus=(0, 1)))
INPUTS = tuple(InputSet(f"mu{mu:g}", Synthetic(mu, 3), mu) for mu in (20.0, 60.0, 100.0))
EMPTY = Grid("", (), (), "", "", "", diagonal=False)


def study(**options: Any) -> Study:
    """Return a study of two servers and three pile-ups at concurrency 1 to 3, changed as asked."""
    plain: dict[str, Any] = {"servers": TWO_SERVERS, "inputs": INPUTS, "concurrency": (1, 2, 3), "takes": 2}
    return Study("traccc-gpu", **(plain | options))


def test_every_cell_is_in_the_grid_once() -> None:
    """Servers x inputs x loads x takes, none twice, whatever the order."""
    for order in ("blocks", "sequential"):
        counted = Counter(cells(study(order=order)))
        assert len(counted) == 2 * 3 * 3 * 2
        assert set(counted.values()) == {1}


def test_blocks_are_drawn_and_sequential_is_as_listed() -> None:
    """The seed decides the order of every take; another seed or take has another; sequential is as written."""
    listed = [stretch.labels for stretch in stretches(study(order="sequential", takes=1))]
    assert [labels["server"] for labels in listed] == ["1insts_cpu"] * 3 + ["4insts_2gpus"] * 3
    assert [labels["mu"] for labels in listed] == ["20", "60", "100"] * 2
    assert cells(study()) == cells(study())
    assert cells(study(seed=1)) != cells(study(seed=2))
    one, two = ([c[1:] for c in cells(study(takes=2)) if c[0] == take] for take in (1, 2))
    assert one != two
    assert set(one) == set(two)


def test_more_takes_keep_the_order_of_those_before() -> None:
    """A study that gets more takes goes through its first ones as it did."""
    assert cells(study(takes=5))[: len(cells(study(takes=2)))] == cells(study(takes=2))


@given(done=st.sets(st.integers(0, 35)))
def test_what_is_left_is_the_grid_without_what_is_done(done: set[int]) -> None:
    """Whatever is done, the rest is left, each once, in the order of the grid."""
    grid = cells(study())
    finished = {grid[place] for place in done}
    rest = [cell for stretch in left(study(), finished) for cell in study_plan.cells_of(stretch)]
    assert rest == [cell for cell in grid if cell not in finished]


def test_the_diagonal_is_a_request_an_instance() -> None:
    """As many in flight as the server can serve at once, over all its GPUs, beside the levels given."""
    assert loads_of(study(concurrency=(), diagonal=True), Launched(4, gpus=(0, 1))) == (ClosedLoop(8),)
    assert loads_of(study(concurrency=(8, 1), diagonal=True), Launched(8)) == (ClosedLoop(1), ClosedLoop(8))
    assert loads_of(study(concurrency=(), rates=(5.0,)), Launched(1)) == (OpenLoop(5.0, "poisson"),)


def test_labels_say_what_a_run_is_a_part_of() -> None:
    """Take, server with instances and number of GPUs, inputs with pile-up; what is not known is left out."""
    stretch = study_plan.Stretch(2, Launched(4, gpus=(0, 3)), INPUTS[0], (ClosedLoop(1),))
    labels = {"take": "2", "server": "4insts_2gpus", "instances": "4", "gpus": "2", "inputs": "mu20", "mu": "20"}
    assert stretch.labels == labels
    remote = study_plan.Stretch(1, Remote("h:8001"), InputSet("inputs", Synthetic(1.0, 1)), (ClosedLoop(1),))
    assert remote.labels == {"take": "1", "server": "h-8001", "inputs": "inputs"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": ()}, "no server"),
        ({"inputs": (INPUTS[0], INPUTS[0])}, "two are called mu20"),
        ({"servers": (Launched(1), Launched(1))}, "two are called 1insts_cpu"),
        ({"concurrency": (), "diagonal": True, "servers": (Remote("h:1"),)}, "has no load"),
        ({"takes": 0}, "takes"),
    ],
)
def test_a_grid_that_cannot_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    """One line names what is wrong."""
    with pytest.raises(PlanError, match=message):
        checked(study(**options))


def test_it_is_read_back_as_it_was_written() -> None:
    """JSON and back gives an equal study, remote servers and all."""
    whole = study(servers=(*TWO_SERVERS, Remote("h:1", "nrp", ("http://h:2/metrics",), 2, 4)), slo="p99 < 1s")
    assert study_plan.from_json(study_plan.to_json(whole), "x") == whole


def test_presets_fill_what_is_not_given() -> None:
    """The studies done by hand; what is given stands; two presets together are a grid of both."""
    single = with_presets(EMPTY, ["single-gpu"])
    servers = servers_of(single, Launched(repository="/models"), ())
    assert [(server.instances, server.gpus) for server in servers] == [(n, (0,)) for n in range(1, 9)]
    assert single.diagonal
    assert not single.concurrency
    multi = servers_of(with_presets(EMPTY, ["multi-gpu"]), Launched(repository="/models"), ())
    assert [server.gpus for server in multi] == [(0,), (0, 1, 2, 3)]
    given = with_presets(changed(EMPTY, instances="2", concurrency="5"), ["single-gpu", "pile-up"])
    assert (given.instances, given.concurrency, given.diagonal) == ("2", "5", False)
    assert given.mus == "20,40,60,80,100,140,200,300"
    assert with_presets(EMPTY, []).concurrency == "1:4"
    with pytest.raises(PlanError, match="single-gpu"):
        with_presets(EMPTY, ["double-gpu"])


def changed(grid: Grid, **values: Any) -> Grid:
    """Return a grid with other values."""
    return Grid(**({name: getattr(grid, name) for name in Grid.__slots__} | values))


def test_pile_ups_stand_in_paths(tmp_path: Path) -> None:
    """`{mu}` in a path is each pile-up; several pile-ups and one path are refused."""
    found = inputs_sets("20,60", [str(tmp_path / "odd_mu{mu}.json")], Made())
    paths = [each.inputs.paths for each in found if isinstance(each.inputs, PerfJson)]
    assert paths == [(str(tmp_path / "odd_mu20.json"),), (str(tmp_path / "odd_mu60.json"),)]
    assert [(each.label, each.mu) for each in found] == [("mu20", 20.0), ("mu60", 60.0)]
    assert inputs_sets("", ["synthetic"], Made(events=4, seed=1))[0].inputs == Synthetic(200.0, 4, 1)
    with pytest.raises(PlanError, match=r"\{mu\}"):
        inputs_sets("20,60", ["same.json"], Made())


def test_servers_that_run_already() -> None:
    """Each address is a configuration, by its name; they have no GPUs to be given."""
    grid = changed(EMPTY, urls=("nrp=h:8001", "g:1"), instances="3")
    assert servers_of(grid, Launched(), ()) == (Remote("h:8001", "nrp", (), 3), Remote("g:1", "", (), 3))
    with pytest.raises(PlanError, match="runs already"):
        servers_of(changed(grid, gpus=("0",)), Launched(), ())


def test_a_study_file_names_paths_from_its_folder(tmp_path: Path) -> None:
    """TOML; inputs and repositories are found beside the file, wherever it is carried out."""
    (tmp_path / "scan.toml").write_text("""
model = "traccc-gpu"
concurrency = [1, 2]
[[servers]]
kind = "launched"
instances = 2
repository = "models"
[[inputs]]
label = "mu20"
mu = 20
inputs = { kind = "cells", paths = ["cells/"] }
""")
    found = read_study(tmp_path / "scan.toml")
    assert found.servers == (Launched(2, repository=str(tmp_path / "models")),)
    assert isinstance(found.inputs[0].inputs, Cells)
    assert found.inputs[0].inputs.paths == (str(tmp_path / "cells"),)
    (tmp_path / "bad.toml").write_text("model = 3")
    with pytest.raises(PlanError, match=r"bad\.toml.*model"):
        read_study(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("1,2,4", (1, 2, 4)),
        ("1:4", (1, 2, 3, 4)),
        ("1:8:3", (1, 4, 7)),
        ("2:2", (2,)),
        ("", ()),
        ("1:2,8", (1, 2, 8)),
    ],
)
def test_levels_are_lists_and_ranges(text: str, levels: tuple[float, ...]) -> None:
    """Numbers, ranges with both ends, and any mix of them."""
    assert levels_option(text, "--instances", whole=True) == levels


@pytest.mark.parametrize("text", ["0", "x", "1:", "3:1", "1:2:0", "1.5", "1,1", "1:2:3:4", "nan", "1:1e9"])
def test_levels_that_are_none(text: str) -> None:
    """What is no list of levels is refused with the way to write one."""
    with pytest.raises(PlanError, match="--instances"):
        levels_option(text, "--instances", whole=True)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("45min", 2700), ("1.5h", 5400)])
def test_time_budgets(text: str, seconds: float) -> None:
    """A number and its unit."""
    assert cli_study._seconds(text) == seconds
    with pytest.raises(PlanError, match="8h"):
        cli_study._seconds("a while")


def test_presets_are_values_of_options() -> None:
    """Every preset names options that there are."""
    assert all(set(values) <= set(Grid.__slots__) for values in PRESETS.values())
