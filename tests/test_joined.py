"""Runs, studies and other tools' files are one set of tables: facts alike, takes together, nothing dropped unsaid."""

import json
from pathlib import Path

import polars as pl
import pytest
from sealed_run import Story, write_run
from test_standalone import throughput_log
from typer.testing import CliRunner

import analysis
from analysis import configurations, perf_parts
from analysis.__main__ import app
from analysis.compare.sides import read
from analysis.frames import frames_of
from analysis.parts import Part
from loadgen.errors import PlanError

HEADER = "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
HEADER += "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"


def perf_csv(path: Path, *rates: float, network_us: int = 100) -> Path:
    """Write a CSV of perf_analyzer's: concurrency 1, 2, ... at these rates; the parts of the mean add up to it."""
    rows = [
        f"{level},{rate:g},0,{network_us},{round(1e6 * level / rate) - network_us - 30},10,20,0,0,1000,1100,1200,1300"
        for level, rate in enumerate(rates, 1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def study(folder: Path, *of: dict[str, str]) -> Path:
    """Write a study's folder: a run for each set of labels, concurrency 1 and 2."""
    for number, labels in enumerate(of):
        run = write_run(folder / "runs" / f"2026010{number}T000000Z-run", Story(concurrency=(1, 2), seed=number))
        plan = json.loads((run / "plan.json").read_text())
        (run / "plan.json").write_text(json.dumps(plan | {"labels": labels}))
    (folder / "study.json").write_text("{}")
    return folder


def test_takes_of_perf_analyzer_are_takes(tmp_path: Path) -> None:
    """Files that differ in their take share a label and are numbered; GPUs, pile-up, instances are columns."""
    for take in (3, 7):
        perf_csv(tmp_path / "mu200" / f"out4gpu_2inst_take{take}.csv", 10.0, 20.0)
    loaded = analysis.load(tmp_path)
    facts = loaded.points.select("label", "gpus", "instances", "mu", "kind").unique().rows()
    assert facts[0][1:] == (4, 8, 200.0, "perf_analyzer")
    assert len(facts) == 1
    assert loaded.points["repeat"].to_list() == [3, 3, 7, 7]
    assert loaded.runs["run"].n_unique() == 2


def test_a_mean_is_the_sum_of_its_parts_unless_one_was_cut_off(tmp_path: Path) -> None:
    """Without `Avg latency` the mean is what perf_analyzer split; where network is 0 it stays missing."""
    whole = analysis.load(perf_csv(tmp_path / "a.csv", 100.0)).points
    assert whole["service_mean_ns"].to_list() == [10_000_000.0]
    cut = analysis.load(perf_csv(tmp_path / "b.csv", 100.0, network_us=0)).points
    assert cut["service_mean_ns"].to_list() == [None]


def test_points_without_verdict_are_drawn_and_compared(tmp_path: Path) -> None:
    """Imported points have no verdict, which is no objection: filled in charts, tested in comparisons."""
    sides = [perf_csv(tmp_path / f"{name}_take{k}.csv", 10.0 + k / 10, 19.0) for name in "ab" for k in (1, 2)]
    frame = analysis.load(*sides).points
    assert frame["verdict"].null_count() == 4 * 2
    data = analysis.chart("single-pass", *sides).to_dict()["datasets"]
    drawn = [row for rows in data.values() for row in rows if "measured" in row]
    assert drawn
    assert all(row["measured"] for row in drawn)
    for name in "ab":
        (tmp_path / name).mkdir()
        for side in sides:
            if side.name.startswith(name):
                side.rename(tmp_path / name / side.name)
    told = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert told.exit_code == 0
    assert "equivalent" in told.stdout or "cannot tell" in told.stdout
    assert "the inputs, model and server of any side" in told.stdout


def test_what_perf_analyzer_called_unstable_is_an_objection(field_data: Path) -> None:
    """Its own verdict is kept; suspicions of a level stand in its reason."""
    loaded = analysis.load(field_data / "perf_log" / "UNKNOWNREPO__id30736663930__BraTS_unstable.txt")
    assert loaded.points["verdict"].to_list()[0] == "unstable"
    assert "30 requests" in (loaded.points["reason"].to_list()[1] or "")


def test_every_field_file_loads_with_the_rest(field_data: Path, tmp_path: Path) -> None:
    """A folder of perf_analyzer's files beside a run: one schema, unique keys, the rest is in the notes."""
    run = write_run(tmp_path / "run", Story(concurrency=(1, 2)))
    loaded = analysis.load(run, field_data / "perf_csv", field_data / "perf_log", field_data / "profile_export")
    assert loaded.runs["run"].is_unique().all()
    assert set(loaded.points["kind"]) == {"loadgen", "perf_analyzer"}
    assert set(loaded.points["run"]) <= set(loaded.runs["run"])
    counts = loaded.requests.group_by("run").agg(pl.col("in_window").sum()).collect()
    assert counts.height > 1
    assert any("left out" in note for note in loaded.notes)


def test_the_runs_of_a_study_are_takes_of_its_configurations(tmp_path: Path) -> None:
    """One label, the folder's; the take is `repeat`; instances of a GPU become all, where the run does not say."""
    labels = {"server": "2insts_2gpus", "inputs": "mu20", "instances": "2", "gpus": "2", "mu": "20"}
    folder = study(tmp_path / "scan", *({"take": str(take), **labels} for take in (1, 2)))
    for of in ((folder,), tuple(sorted((folder / "runs").iterdir()))):
        loaded = analysis.load(*of)
        assert loaded.points["label"].unique().to_list() == ["scan"]
        assert loaded.points["repeat"].to_list() == [1, 1, 2, 2]
    assert analysis.load(f"mine={folder}").points["label"].unique().to_list() == ["mine"]
    said = {"instances": "2", "gpus": "2", "mu": "20"}
    assert configurations.of_study(said, {}) == {"gpus": 2, "instances": 4, "mu": 20.0}
    assert configurations.of_study(said, {"instances": 1, "gpus": 1, "mu": 7.0}) == {}


def test_servers_that_numbers_do_not_tell_apart_keep_their_names(tmp_path: Path) -> None:
    """Two addresses of the same size are no takes of each other."""
    folder = study(tmp_path / "scan", *({"take": "1", "server": name, "inputs": "x"} for name in ("old", "new")))
    assert analysis.load(folder).runs["label"].to_list() == ["scan, old", "scan, new"]


def test_files_that_tell_the_same_or_lie_apart_are_no_takes() -> None:
    """CSV and output of one take, and files of one name in two folders, have labels of their own."""

    def part(group: str, form: str) -> Part:
        return Part({"label": "x", "run": group + form}, group=group, take=1, settings={"format": form})

    found = configurations.settled([part("a/x", "csv"), part("a/x", "stdout"), part("b/x", "csv")])
    assert len({(each.facts or {})["label"] for each in found}) == 3


def test_a_study_of_two_inputs_is_not_compared_with_one_that_does_not_say(tmp_path: Path) -> None:
    """Else two pile-ups would be taken for takes of one thing."""
    runs = [
        write_run(tmp_path / "two" / name, Story(concurrency=(1,), seed=place)) for place, name in enumerate("ab")
    ]
    corpus = json.loads((runs[1] / "corpus.json").read_text())
    (runs[1] / "corpus.json").write_text(json.dumps(corpus | {"sha256": "11" * 32}))
    points = pl.read_parquet(runs[1] / "points.parquet").with_columns(inputs=pl.lit("others"))
    points.write_parquet(runs[1] / "points.parquet")
    log = (runs[1] / "log.jsonl").read_text()
    (runs[1] / "log.jsonl").write_text(log.replace('"inputs"', '"inputs_before"'))
    theirs = perf_csv(tmp_path / "theirs.csv", 10.0)
    refused = CliRunner().invoke(app, ["compare", str(tmp_path / "two"), str(theirs)])
    assert isinstance(refused.exception, PlanError)
    assert "does not record which" in str(refused.exception)


def test_tables_are_loaded_as_they_were_written(tmp_path: Path) -> None:
    """Points of an import and of ours go back in; a table within a run is refused, for the run has more."""
    perf_csv(tmp_path / "x_2gpus.csv", 10.0, 20.0)
    out = tmp_path / "all.parquet"
    assert CliRunner().invoke(app, ["import", str(tmp_path / "x_2gpus.csv"), "-o", str(out)]).exit_code == 0
    again = analysis.load(out).points
    assert again.select("label", "gpus", "level").rows() == [("x", 2, 1.0), ("x", 2, 2.0)]
    csv = tmp_path / "mine.csv"
    csv.write_text(
        "run,label,point,concurrency,load,throughput_per_s\na,A,1,1,closed_loop,5\nb,B,1,1,closed_loop,6\n"
    )
    assert analysis.load(csv).runs.select("run", "label", "kind").rows() == [("a", "A", "table"), ("b", "B", "table")]
    run = write_run(tmp_path / "run", Story(concurrency=(1,)))
    with pytest.raises(PlanError, match="name the run directory"):
        analysis.load(run / "points.parquet")


def test_a_folder_of_both_has_both(tmp_path: Path) -> None:
    """Runs do not hide the files beside them, and what lies inside a run is no file of its own."""
    write_run(tmp_path / "runs" / "one", Story(concurrency=(1,)))
    (tmp_path / "runs" / "one" / "points.csv").write_text(perf_csv(tmp_path / "old.csv", 10.0).read_text())
    assert analysis.load(tmp_path).runs["kind"].to_list() == ["loadgen", "perf_analyzer"]


def test_labels_of_files_leave_out_what_columns_say() -> None:
    """Take, GPUs, instances and pile-up go; a name without more is its folder's."""
    known = {"take": 7, "gpus": 4, "instances_per_gpu": None, "mu": None, "events": None}
    assert perf_parts.label_of(Path("nominal/out4gpu_take7.txt"), known) == "nominal"
    assert perf_parts.label_of(Path("x/out4gpu_take7_more_mem.txt"), known) == "more_mem"
    assert perf_parts.label_of(Path("x/plain.csv"), {}) == "plain"


def test_panels_of_one_chart_call_a_series_the_same(tmp_path: Path) -> None:
    """Two configurations, of which one alone has GPU figures: its utilisation has the name of its throughput."""
    write_run(tmp_path / "a", Story(concurrency=(1, 2), instances=1, gpus=1))
    write_run(tmp_path / "b", Story(concurrency=(1, 2), instances=2, samples=False))
    spec = analysis.chart("devices", f"same={tmp_path / 'a'}", f"same={tmp_path / 'b'}").to_dict()
    names = {row["series"] for rows in spec["datasets"].values() for row in rows if "series" in row}
    assert len(names) == 2


def test_standalone_results_are_no_points_of_a_service(tmp_path: Path) -> None:
    """Logs are in `points` for comparisons, but charts of the service do not draw them, and name their tool."""
    run = write_run(tmp_path / "run", Story(concurrency=(1, 2)))
    log = tmp_path / "out_gpu_mu20.log"
    log.write_text(throughput_log(new=True, event_ms=50.0, device_name="NVIDIA A100"))
    frames = frames_of(analysis.load(run, log))
    assert frames.points is not None
    assert frames.standalone is not None
    assert frames.points["kind"].unique().to_list() == ["loadgen"]
    assert frames.standalone["kind"].to_list() == ["traccc"]
    assert "Data: traccc." in analysis.chart("standalone", log).usermeta["subtitle"]


def test_two_runs_of_a_study_keep_their_own_names_when_compared(tmp_path: Path) -> None:
    """The label that they share in charts would not tell them apart."""
    folder = study(tmp_path / "scan", *({"take": take, "server": "s", "inputs": "i"} for take in "12"))
    runs = sorted((folder / "runs").iterdir())
    named = [run.rename(run.with_name(f"20260101T00000{k}Z-take{k}")) for k, run in enumerate(runs, 1)]
    sides, _ = read(named, anyway=False)
    assert [side.label for side in sides] == ["take1", "take2"]


def test_a_broken_log_does_not_cost_the_folder(tmp_path: Path) -> None:
    """What cannot be read beside what can is left out, and noted; alone it is the error."""
    log = tmp_path / "cut.log"
    log.write_text("==> Elapsed times:\n")
    with pytest.raises(PlanError, match=r"cut\.log"):
        analysis.load(tmp_path)
    perf_csv(tmp_path / "a.csv", 10.0)
    loaded = analysis.load(tmp_path)
    assert loaded.points.height == 1
    assert any("left out" in note and "cut.log" in note for note in loaded.notes)
