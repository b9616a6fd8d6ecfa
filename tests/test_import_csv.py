"""perf_analyzer's CSV of every shape is read back to the figure, and what in it cannot be true is said."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_analyzer_files import SHAPES, STAGES, Said, Shape, csv_text, read_or_refused, reasons, saids
from sealed_run import Story, write_run

from analysis.perf_analyzer import load, write_csv
from analysis.perf_analyzer.tables import POINTS_SCHEMA, Imported
from analysis.runs import open_run
from loadgen.errors import PlanError

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
    "Avg latency,request/response,response wait"
)


def row(level: int, throughput: float, **others: object) -> str:
    """Return a row below `HEADER`; Little's law holds in it unless a cell is given."""
    mean = round(level / throughput * 1e6)
    cells = dict.fromkeys(HEADER.split(","), 1) | {"Concurrency": level, "Inferences/Second": throughput}
    cells |= dict.fromkeys(("p50 latency", "p90 latency", "p95 latency", "p99 latency", "Avg latency"), mean)
    return ",".join(map(str, {**cells, **others}.values()))


def imported(folder: Path, text: str | bytes, name: str = "out.csv") -> Imported:
    """Write a file and read it."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load.read(path)


# --- every shape, there and back ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_every_shape_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, mark: str, end: str, comma: bool
) -> None:
    """Whatever columns a version writes, each figure comes back in its own, by level; what is not there is null."""
    shape = data.draw(SHAPES)
    said = data.draw(saids(shape))
    text = csv_text(shape, said)
    header, *rows = text.splitlines()
    rows = [f"{each}," for each in rows] if comma else rows
    content = mark + end.join([header, *rows, ""])
    of = imported(tmp_path_factory.mktemp("csv"), content)
    expected = sorted(said, key=lambda one: one.level)
    assert of.kinds == ("csv",)
    assert list(of.points.columns[: len(POINTS_SCHEMA)]) == list(POINTS_SCHEMA)
    for one, point in zip(expected, of.points.iter_rows(named=True), strict=True):
        check(shape, one, point)
    if shape.verbose and shape.metrics:
        check_gpus(expected, of.gpus)


def check(shape: Shape, said: Said, point: dict[str, object]) -> None:
    level = point["rate_per_s"] if shape.by_rate else point["concurrency"]
    assert level == said.level
    assert point["load"] == ("open_loop" if shape.by_rate else "closed_loop")
    assert point["throughput_per_s"] == said.throughput
    assert point["response_throughput_per_s"] == (said.throughput if shape.decoupled else None)
    ns = {name: value * 1000.0 for name, value in said.times.items()}
    for name in STAGES:
        assert point[f"server_{name}_ns"] == (ns[name] if shape.server else None)
    assert point["network_ns"] == (ns["network"] if shape.server else None)
    assert point["server_cache_hit_ns"] == (ns["hit"] if shape.server and shape.cache else None)
    assert point["server_cache_miss_ns"] == (ns["miss"] if shape.server and shape.cache else None)
    assert (point["client_send_ns"], point["client_recv_ns"]) == (ns["send"], ns["recv"])
    for percent, value in zip(shape.percentiles, said.percentiles, strict=True):
        assert point[f"service_p{percent}_ns"] == value * 1000.0
    assert point["service_mean_ns"] == (ns["mean"] if shape.verbose and shape.average else None)
    assert point["client_marshal_ns"] == (ns["request"] if shape.verbose else None)
    assert point["response_wait_ns"] == (ns["wait"] if shape.verbose else None)
    assert (point["source"], point["resolution_ns"], point["completed"]) == ("perf_analyzer", 1000.0, None)


def check_gpus(said: list[Said], gpus: pl.DataFrame) -> None:
    columns = ("utilisation", "power_w", "memory_used_max_bytes", "memory_total_bytes")
    expected = [
        (number, gpu, *map(float, one.gpus[gpu])) for number, one in enumerate(said, 1) for gpu in sorted(one.gpus)
    ]
    assert gpus.select("point", "gpu", *columns).rows() == expected


SAMPLE = "\n".join([HEADER, row(1, 10.5), row(2, 19.25), row(3, 18.0), ""]).encode()


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """A file cut anywhere is read as far as it goes, or refused in one line; a cut figure is never shown as whole."""
    whole = imported(tmp_path, SAMPLE).points
    for length in range(len(SAMPLE)):
        of = read_or_refused(tmp_path, SAMPLE[:length])
        if of is None:
            continue
        assert of.points.height <= whole.height
        assert any("cut" in warning.reason for warning in of.warnings) or SAMPLE[:length].endswith(b"\n")
        known = of.points[:-1].drop("file", "group")
        assert known.equals(whole[: known.height].drop("file", "group"))
        last, true = (table.row(of.points.height - 1, named=True) for table in (of.points, whole))
        # The end of a row's last cell cannot be seen, which is warned of.
        own = {"response_wait_ns", "file", "group"}
        shown = {name for name, value in last.items() if value is not None} - own
        assert {name: last[name] for name in shown} == {name: true[name] for name in shown}


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode())))
def test_garbage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No content makes anything but tables or one clear line."""
    read_or_refused(tmp_path_factory.mktemp("garbage"), content)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=12))
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    """A file with bytes overwritten gives tables or one clear line."""
    content = bytearray(SAMPLE)
    for place, byte in damage:
        content[place] = byte
    read_or_refused(tmp_path_factory.mktemp("damaged"), bytes(content))


# --- versions, and what people make of the files --------------------------------------------------------------------


def test_the_columns_of_2019(tmp_path: Path) -> None:
    """One column of compute is the whole compute; its three parts are unknown, not 0."""
    text = (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute,Client Recv\n"
    )
    point = imported(tmp_path, text + "1,16,2709,41300,50,15424,211\n").points.row(0, named=True)
    assert point["server_compute_ns"] == 15_424_000
    assert point["server_compute_infer_ns"] is None


def test_runs_one_after_another_are_told_apart(tmp_path: Path) -> None:
    """A header further down begins a run; the same level in both is no repetition, and text between is counted."""
    text = "\n".join([HEADER, row(2, 20.0), row(1, 11.0), "second try", HEADER, row(1, 12.0), ""])
    of = imported(tmp_path, text)
    assert of.points.select("run", "concurrency", "throughput_per_s").rows() == [
        (1, 1, 11.0),
        (1, 2, 20.0),
        (2, 1, 12.0),
    ]
    assert [reason for _, reason in reasons(of)] == [
        "1 lines are neither perf_analyzer's header nor a row below one: left out"
    ]


def test_columns_of_others_become_labels(tmp_path: Path) -> None:
    """What was put beside perf_analyzer's columns names sets of levels: no level of another set is its repetition."""
    rows = [f"a,4,1:2:1,{row(level, 4 * level)}" for level in (2, 1)] + [f"b,1,1:2:1,{row(1, 5.0)}"]
    of = imported(tmp_path, "\n".join([f"model,batch_size,concurrency,{HEADER}", *rows, ""]))
    assert of.points.select("model", "batch_size", "concurrency").rows() == [("a", 4, 1), ("a", 4, 2), ("b", 1, 1)]
    assert of.points["labels"][0] == '{"batch_size": "4", "concurrency": "1:2:1", "model": "a"}'
    assert not [reason for _, reason in reasons(of) if "more than once" in reason]


def test_a_table_that_pandas_wrote_back(tmp_path: Path) -> None:
    """Quoted cells, a column of row numbers, and whole numbers written with a point are the same figures."""
    cells = [("" if not place else f'"{cell}"') for place, cell in enumerate(["", *HEADER.split(",")])]
    text = "\n".join([",".join(cells), f"0,{row(2, 20.0)}".replace("0,2,", "0,2.0,", 1), ""])
    of = imported(tmp_path, text)
    assert of.points.select("concurrency", "throughput_per_s", "labels").rows() == [(2, 20.0, None)]
    assert not reasons(of)


def test_our_own_export_is_read_back(tmp_path: Path) -> None:
    """The CSV that we write of a run comes back with the run's figures, times rounded down to microseconds."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1, 2, 3))))
    points = load.read(write_csv(run, tmp_path / "points.csv")).points
    native = run.points().sort("concurrency")
    assert points["concurrency"].to_list() == native["concurrency"].to_list()
    for column in ("service_mean_ns", "service_p50_ns", "service_p99_ns", "server_compute_infer_ns"):
        apart = (native[column] - points[column]).to_list()
        assert all(0 <= each < 1000 for each in apart), column


def test_nothing_to_lay_together() -> None:
    """Without a file there is nothing to lay together: said in one line."""
    with pytest.raises(PlanError, match="no file"):
        load.together([])


def test_gpu_figures_stay_with_their_level(tmp_path: Path) -> None:
    """Rows stand by throughput in the file: each level keeps its own GPU cells when put in order."""
    header = f"{HEADER},Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"
    cells = "A:b:0.{0};C:0.5;,A:b:{0};,A:b:2000000;,"
    rows = [f"{row(level, rate)},{cells.format(level)}" for level, rate in ((1, 1.0), (2, 2.0), (4, 3.0), (3, 3.5))]
    of = imported(tmp_path, "\n".join([header, *rows, ""]))
    own = (
        of.gpus.filter(pl.col("gpu") == "A:b").select("point", "utilisation", "power_w", "memory_total_bytes").rows()
    )
    assert own == [(1, 0.1, 1.0, None), (2, 0.2, 2.0, None), (3, 0.3, 3.0, None), (4, 0.4, 4.0, None)]
    assert of.gpus.filter(pl.col("gpu") == "C")["power_w"].to_list() == [None] * 4


def test_composing_models_come_along(tmp_path: Path) -> None:
    """Files of composing models beside a CSV fill its table of them; alone, such a file is that model's points."""
    stages = "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    text = stages + "Server Compute Infer,Server Compute Output,Client Recv\n2,9.5,0,7,10,20,30,40,0\n"
    alone = imported(tmp_path, text, "tracker_v3.out.csv")
    of = imported(tmp_path, "\n".join([HEADER, row(1, 5.0), row(2, 9.5), ""]))
    model = of.composing.row(0, named=True)
    assert (of.composing.height, model["point"], model["model"], model["version"]) == (1, 2, "tracker", "3")
    assert (model["request_ns"], model["compute_infer_ns"], model["success"]) == (107_000, 30_000, None)
    assert alone.points.select("model", "server_queue_ns", "client_send_ns").rows() == [("tracker", 10_000, None)]


# --- what cannot be true ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [2**64 - 1, 2**64 - 12, (2**64 - 5000) // 1000, "-3", "nan", "inf", "1_0"])
def test_impossible_times_are_missing(tmp_path: Path, wrapped: object) -> None:
    """Unsigned differences below zero, and what is no figure, are missing with a reason; never a huge time."""
    of = imported(tmp_path, "\n".join([HEADER, row(1, 10.0, **{"response wait": wrapped}), ""]))
    assert of.points["response_wait_ns"].to_list() == [None]
    assert [level for level, reason in reasons(of) if reason.startswith("response wait reads")] == ["concurrency 1"]


def test_a_memory_cut_at_its_exponent_is_missing(tmp_path: Path) -> None:
    """A page that writes 1.2e+10 makes perf_analyzer read 1 byte: that is missing, not a byte."""
    header = f"{HEADER},Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"
    of = imported(tmp_path, f"{header}\n{row(1, 10.0)},G:0.5;,G:70;,G:1;,G:25769803776;\n")
    assert of.gpus.select("memory_used_max_bytes", "memory_total_bytes").rows() == [(None, 25769803776.0)]
    assert "exponent" in reasons(of)[0][1]


@pytest.mark.parametrize(
    ("rate", "others", "said"),
    [
        (10.0, {"Avg latency": 100_000}, "throughput x latency says 1 requests in flight, asked were 4"),
        (160.0, {"Avg latency": 100_000}, "4 times the concurrency: batches of 4, presumably"),
        (40.0, {"Network+Server Send/Recv": 0, "Server Queue": 9}, "network time is 0"),
        (40.0, {"p90 latency": 5}, "percentiles do not grow"),
    ],
)
def test_rows_that_contradict_themselves(tmp_path: Path, rate: float, others: dict[str, object], said: str) -> None:
    """Little's law, stages longer than the latency, percentiles out of order: each is said of its level."""
    of = imported(tmp_path, "\n".join([HEADER, row(4, rate, **others), ""]))
    assert [level for level, reason in reasons(of) if said in reason] == ["concurrency 4"]


def test_little_without_a_mean_uses_its_parts(tmp_path: Path) -> None:
    """With --percentile there is no mean: what it was split into serves the check."""
    header = ",".join(HEADER.split(",")[:13])
    good, bad = "2,20,10,100,60000,10,39870,10,0,1,2,3,4", "3,20,10,100,60000,10,39870,10,0,1,2,3,4"
    of = imported(tmp_path, f"{header}\n{good}\n{bad}\n")
    assert [level for level, reason in reasons(of) if "in flight" in reason] == ["concurrency 3"]


def test_gaps_and_doubles_of_a_sweep(tmp_path: Path) -> None:
    """A level missing from an even sweep is named; one that stands twice is too; doubling sweeps have no gap."""
    even = imported(tmp_path, "\n".join([HEADER, *(row(n, n * 5.0) for n in (1, 2, 3, 5, 6)), ""]))
    assert reasons(even) == [("", "no level 4: unstable, over the threshold, or never run")]
    twice = imported(tmp_path, "\n".join([HEADER, row(1, 5.0), row(1, 6.0), ""]))
    assert reasons(twice) == [("concurrency 1", "stands more than once, and nothing tells the two apart")]
    doubling = imported(tmp_path, "\n".join([HEADER, *(row(n, n * 5.0) for n in (1, 2, 4, 8, 16)), ""]))
    assert not reasons(doubling)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """No file, an empty one, one of another kind, a header alone: one line each, with what it is."""
    for content, words in (
        (b"", "is empty"),
        (b"a,b\n1,2\n", "is none of perf_analyzer's files"),
        (HEADER.encode(), "no level below it"),
        (b'{"data": []}', "no profile export"),
    ):
        with pytest.raises(PlanError, match=words):
            imported(tmp_path, content)
    with pytest.raises(PlanError, match="cannot read"):
        load.read(tmp_path / "absent.csv")
    with pytest.raises(PlanError, match="cannot read"):
        load.read(tmp_path)


# --- names, takes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("d/out4gpu_take7.csv", {"gpus": 4, "take": 7, "device": "gpu", "instances": None}),
        ("d/out1gpu_4inst_take4_more_mem.csv", {"gpus": 1, "instances_per_gpu": 4, "instances": 4, "take": 4}),
        ("2insts_4gpus/gpu_2instance_sync.csv", {"gpus": 4, "instances_per_gpu": 2, "instances": 8, "device": "gpu"}),
        ("2insts_4gpus/cpu_3instance.csv", {"instances": 3, "device": "cpu"}),
        (
            "traccc-aaS_nominal_mu200_10event/1insts_1gpus/gpu_1instance_sync.csv",
            {"mu": 200, "events": 10, "take": None},
        ),
        ("mu100/run_mu20/out.csv", {"mu": 20}),
        ("vgpu4/yolov7_instance_1/batch.csv", {"gpus": None, "instances_per_gpu": None, "device": None}),
    ],
)
def test_names_tell_the_configuration(tmp_path: Path, name: str, facts: dict[str, object]) -> None:
    """The studies' names of files and folders fill columns; the nearest name is believed, others say nothing."""
    (tmp_path / name).parent.mkdir(parents=True)
    point = imported(tmp_path, f"{HEADER}\n{row(1, 10.0)}\n", name).points.row(0, named=True)
    assert {key: point[key] for key in facts} == facts


def test_takes_become_repeats(tmp_path: Path) -> None:
    """Files that differ in their take alone are repeats in the order of its number; other names are not."""
    names = ("out4gpu_take7.csv", "out4gpu_take2.csv", "out1gpu_take2.csv", "out4gpu_take10_more_mem.csv", "out.csv")
    several = [imported(tmp_path, f"{HEADER}\n{row(1, 10.0)}\n{row(2, 20.0)}\n", name) for name in names]
    points = load.together(several).points
    assert points["point"].to_list() == list(range(1, 11))
    repeats = points.group_by("file", maintain_order=True).agg(pl.col("repeat").first())["repeat"].to_list()
    assert repeats == [2, 1, 1, 1, None]
