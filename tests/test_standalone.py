"""Logs of the standalone traccc programs: each kind read exactly, cut-short ones never read wrongly."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis import standalone
from analysis.__main__ import app
from analysis.standalone import Given, read_text
from analysis.standalone.chart import pile_up
from loadgen.errors import PlanError

LOGGER = "12:01:02    ThroughputExample             INFO      "
OPTIONS = "12:01:00    ThroughputExampleOptions      INFO      "

SEQUENCE = """\
===>>> Event 0 <<<===
===>>> Event 1 <<<===
==> Statistics ...
- read    3790687 cells
- created (cuda)  1042450 measurements
==>Elapsed times...
           File reading  (cpu)  2650 ms
        Clusterization (cuda)  40 ms
               Seeding (cuda)  16 ms
               Seeding  (cpu)  605 ms
         Track finding (cuda)  1,741 ms
         Track fitting (cuda)  3 ms
                    Wall time  35678 ms
"""


def printed(value: float) -> str:
    """Return a number as a C++ stream prints it by default."""
    return f"{value:.6g}"


def throughput_log(  # noqa: PLR0913 - the facts of a log
    *,
    new: bool,
    event_ms: float,
    warm_ms: float = 30.0,
    threads: int = 48,
    processed: int = 100,
    mu: int = 200,
    device_name: str = "",
) -> str:
    """Return a log as traccc writes it, before v0.20 or later."""
    prefix = LOGGER if new else ""
    options = [
        f"{OPTIONS}├ Input directory: odd/geant4_ttbar_mu{mu}/",
        f"{OPTIONS}│ └ Number of input events: 10",
        f"{OPTIONS}├ Cold run events: 10",
        f"{OPTIONS}├ Processed events: {processed}",
        f"{OPTIONS}└ Number of CPU thread: {threads}",
    ]
    old = [
        f"Input directory            : odd/geant4_ttbar_mu{mu}/",
        "Loaded event(s)            : 10",
        "Cold run event(s)          : 10",
        f"Processed event(s)         : {processed}",
        f"CPU threads: {threads}",
    ]
    device = [f"Using CUDA device: {device_name} [id: 0, bus: 3, device: 0]"] if device_name else []
    warm = f"{'Warm-up processing':>30}  {printed(warm_ms)} ms/event, {printed(1000 / warm_ms)} events/s"
    lines = [
        *(options if new else old),
        *device,
        "\rEvent processing   [====      ] 50% [00m:01s]\rEvent processing   [==========] 100% [00m:00s]",
        f"{prefix}Reconstructed track parameters: 11241101",
        f"{prefix}Time totals:",
        f"{prefix}{'File reading':>30}  2850 ms",
        f"{prefix}{'Event processing':>30}  {round(event_ms * processed)} ms",
        *([f"{prefix}Throughput:{warm}"] if new else ["Throughput:", warm]),
        f"{prefix}{'Event processing':>30}  {printed(event_ms)} ms/event, {printed(1000 / event_ms)} events/s",
    ]
    return "\n".join([*lines, ""])


@settings(deadline=None)
@given(
    new=st.booleans(),
    event_ms=st.floats(1e-5, 1e6) | st.integers(1, 10**7).map(float),
    threads=st.integers(1, 256),
    processed=st.integers(1, 10_000),
    mu=st.integers(1, 400),
    device_name=st.sampled_from(["", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 2080 Ti"]),
)
def test_throughput_logs_of_both_styles_are_read_as_written(  # noqa: PLR0913, PLR0917 - the facts of a log
    new: bool, event_ms: float, threads: int, processed: int, mu: int, device_name: str
) -> None:
    """Integers, decimals and exponents, old bare lines and new prefixed ones: every figure and fact comes back."""
    text = throughput_log(
        new=new, event_ms=event_ms, threads=threads, processed=processed, mu=mu, device_name=device_name
    )
    (row,), left_out = read_text(text, "log")
    assert row.event_time_ns == pytest.approx(float(printed(event_ms)) * 1e6, rel=1e-12)
    assert row.throughput_per_s == pytest.approx(float(printed(1000 / event_ms)), rel=1e-12)
    assert row.warm_event_time_ns == pytest.approx(30e6)
    assert (row.processed, row.printed.threads, row.printed.mu) == (processed, threads, mu)
    assert (row.printed.events, row.printed.warm, row.track_parameters) == (10, 10, 11241101)
    assert row.printed.device_name == (device_name or None)
    assert row.printed.device == ("cuda" if device_name else None)
    assert row.printed.style == ("0.20 or later" if new else "to 0.19")
    assert not left_out


WHOLE = {
    "old.log": throughput_log(new=False, event_ms=696.524),
    "new.log": throughput_log(new=True, event_ms=50, device_name="NVIDIA A10"),
    "twice.log": throughput_log(new=True, event_ms=696.524) + throughput_log(new=True, event_ms=1.95312e-06),
    "sequence.log": SEQUENCE,
    "rows.csv": '"odd/geant4_ttbar_mu200/",48,10,10,100,6965240000,69652400000\n"odd/mu20/",1,10,10,100,15,255\n',
    "old.csv": "directory,threads,loaded_events,cold_run_events,processed_events,warm_up_time,processing_time\n"
    '"odd/mu40/",48,10,10,100,1024,6965,12345678901\n',
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_gives_true_rows_or_one_clear_line(name: str) -> None:
    """At every byte: rows that the whole file has too, from its start; or one line that names the file."""
    text = WHOLE[name]
    whole = [(row.event_time_ns, row.throughput_per_s) for row in read_text(text, name)[0]]
    said = []
    for end in range(len(text)):
        try:
            rows, _ = read_text(text[:end], name)
        except PlanError as error:
            said.append(str(error))
        else:
            found = [(row.event_time_ns, row.throughput_per_s) for row in rows]
            assert found
            assert found == whole[: len(found)]
    assert len(said) > len(text) / 4
    assert all(one.startswith(name) and "\n" not in one for one in said)


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 256),
            st.integers(1, 500),
            st.integers(0, 99),
            st.integers(1, 10**6),
            st.integers(0, 10**15),
            st.integers(1, 10**15),
        ),
        min_size=1,
        max_size=5,
    ),
    partition=st.booleans(),
)
def test_log_files_come_back_with_full_precision(rows: list[tuple[int, ...]], partition: bool) -> None:
    """Seven columns, or eight of v0.10: whole nanoseconds give time and throughput exactly."""
    lines = []
    for threads, events, warm, processed, warm_ns, total_ns in rows:
        cells = [threads, events, warm, processed, *([1024] if partition else []), warm_ns, total_ns]
        lines.append(f'"odd/geant4_ttbar_mu200/",{",".join(map(str, cells))}\n')
    found, left_out = read_text("".join(lines), "t.csv")
    assert not left_out
    for row, (threads, events, warm, processed, warm_ns, total_ns) in zip(found, rows, strict=True):
        assert (row.printed.threads, row.printed.events, row.processed, row.printed.mu) == (
            threads,
            events,
            processed,
            200,
        )
        assert row.event_time_ns == total_ns / processed
        assert row.throughput_per_s == processed * 10**9 / total_ns
        assert row.warm_event_time_ns == (warm_ns / warm if warm else None)


def test_a_sequence_log_is_events_over_the_stages_of_a_device() -> None:
    """Two events; reading and wall time left out; each device a row, its stages an event."""
    rows = {row.device: row for row in read_text(SEQUENCE, "s.log")[0]}
    assert rows["cuda"].throughput_per_s == pytest.approx(2 / 1.8)
    assert rows["cuda"].stages_ns["Track finding"] == pytest.approx(1741e6 / 2)
    assert rows["cpu"].event_time_ns == pytest.approx(605e6 / 2)


def test_a_sequence_log_of_unknown_events_is_refused_until_told() -> None:
    """Its times are totals: without their number there is no throughput."""
    text = SEQUENCE[SEQUENCE.index("==> Stat") :]
    with pytest.raises(PlanError, match="--events N"):
        read_text(text, "s.log")
    assert read_text(text, "s.log", Given(events=2))[0][0].throughput_per_s == pytest.approx(2 / 1.8)


def test_real_logs(field_data: Path) -> None:
    """Files from the field: thousands separators, a captured terminal, CPU beside CUDA; what is none is refused."""
    folder = field_data / "traccc_log"
    found = standalone.read(sorted(folder.iterdir()), Given(events=10))
    rows = {Path(row["file"]).name.split("__")[-1] + (row["device"] or ""): row for row in found.rows.to_dicts()}
    baseline = rows["throughput_baseline.txt"]
    assert (baseline["throughput_per_s"], baseline["track_parameters"], baseline["processed"]) == (
        24.2752,
        1444438,
        100,
    )
    captured = rows["PR282_throughput.txtcpu"]
    assert (captured["throughput_per_s"], captured["mu"], captured["processed"]) == (4.54038, 200, 10)
    assert rows["PR446_seq_statistics.txtcuda"]["throughput_per_s"] == pytest.approx(
        10 / (16 + 2 + 1741 + 1117) * 1000
    )
    said = " ".join(found.warnings)
    assert "mps_throughput_cpu.csv: is no traccc log" in said
    assert "an event of the warm-up took 18 times shorter" in said
    assert "no clusterization: not the whole chain" in said


def write_study(folder: Path) -> Path:
    """Write logs of both devices at three pile-ups."""
    folder.mkdir()
    for mu in (20, 100, 200):
        cpu = throughput_log(new=True, event_ms=1.4 * mu, mu=mu)
        cuda = throughput_log(new=True, event_ms=40 + mu, mu=mu, threads=1, device_name="NVIDIA A100")
        (folder / f"out_cpu_mu{mu}.log").write_text(cpu)
        (folder / f"out_gpu_mu{mu}.log").write_text(cuda)
    return folder


def test_the_command_writes_table_and_picture(tmp_path: Path) -> None:
    """One row a log, sorted; the CSV and the Parquet hold the same; the picture is a PNG."""
    logs = write_study(tmp_path / "logs")
    names = ("out.csv", "out.parquet")
    for name in names:
        command = ["standalone", str(logs), "-o", str(tmp_path / name), "--png", str(tmp_path / "x.png")]
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.select("device", "mu", "threads").rows() == [
        *(("cpu", mu, 48) for mu in (20.0, 100.0, 200.0)),
        *(("cuda", mu, 1) for mu in (20.0, 100.0, 200.0)),
    ]
    assert pl.read_csv(tmp_path / "out.csv")["throughput_per_s"].to_list() == table["throughput_per_s"].to_list()
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_chart_draws_every_result_and_no_other(tmp_path: Path) -> None:
    """Marks are the rows that have device and mu; the line is their mean; nothing to draw is None."""
    rows = standalone.read(sorted(write_study(tmp_path / "logs").iterdir())).rows
    chart = pile_up(pl.concat([rows, rows.head(1).with_columns(mu=pl.lit(None, pl.Float64))]))
    assert chart is not None
    drawn = chart.to_dict()["datasets"]
    assert sorted(len(each) for each in drawn.values()) == [6, 6]
    assert pile_up(rows.clear()) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"event_ms": 50.0, "processed": 5}, "only 5 events"),
        ({"event_ms": 50.0, "processed": 60}, "keep 48 threads busy for less than 2 turns"),
        ({"event_ms": 50.0, "warm_ms": 500.0}, "10 times as long as"),
        ({"event_ms": 50.0, "mu": 100}, "mu 200 is taken, but its input directory tells mu 100"),
    ],
)
def test_what_is_suspicious_is_said(tmp_path: Path, changed: dict[str, float], said: str) -> None:
    """Few events, threads that idle, a warm-up that was not one, a name that contradicts the log."""
    file = tmp_path / "out_cpu_mu200.log"
    file.write_text(throughput_log(new=True, **changed))  # type: ignore[arg-type]
    assert said in " ".join(standalone.read([file]).warnings)


def test_figures_that_contradict_each_other_are_said(tmp_path: Path) -> None:
    """Time an event and throughput must be inverse; total and count must agree."""
    file = tmp_path / "out_cpu_mu200.log"
    text = throughput_log(new=True, event_ms=50.0)
    file.write_text(text.replace(", 20 events/s", ", 21 events/s"))
    assert "do not belong together" in " ".join(standalone.read([file]).warnings)
    file.write_text(text.replace("  5000 ms", "  7000 ms"))
    assert "do not make 7000 ms" in " ".join(standalone.read([file]).warnings)
    file.write_text(text)
    assert standalone.read([file]).warnings == ()


def test_a_row_without_its_end_is_left_out_and_said(tmp_path: Path) -> None:
    """Digits may be missing from a last line that has no line end."""
    file = tmp_path / "t.csv"
    file.write_text(WHOLE["rows.csv"].removesuffix("\n"))
    found = standalone.read([file], Given(device={"*": "cpu"}))
    assert found.rows["mu"].to_list() == [200.0]
    assert "its last line has no end and was left out" in " ".join(found.warnings)


def test_what_logs_do_not_tell_can_be_given(tmp_path: Path) -> None:
    """`--mu` and `--device` by pattern of file name; bad ones are one line."""
    file = tmp_path / "a.log"
    file.write_text("\n".join(throughput_log(new=False, event_ms=50.0).split("\n")[1:]))
    given = Given(mu={"a*": 60.0}, device={"*": "cuda"}, version="0.15.0")
    row = standalone.read([file], given).rows.to_dicts()[0]
    assert (row["mu"], row["device"], row["traccc_version"]) == (60.0, "cuda", "0.15.0")
    for bad in (["--mu", "x"], ["--mu", "a=b"], ["-o", str(tmp_path / "t.xlsx")]):
        found = CliRunner().invoke(app, ["standalone", str(file), *bad])
        assert isinstance(found.exception, PlanError)


def test_an_empty_folder_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    """Nothing is made up where nothing is."""
    for place, said in ((tmp_path, "is empty"), (tmp_path / "no", "no such file")):
        found = CliRunner().invoke(app, ["standalone", str(place)])
        assert isinstance(found.exception, PlanError)
        assert said in str(found.exception)
