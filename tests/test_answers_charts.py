"""Tracks of a service against a standalone run's: files read, bins counted, and nothing drawn that is not there."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sealed_run import Story, write_run

from analysis import theme
from analysis.__main__ import main
from analysis.answers import histogram, reference
from analysis.answers.command import drawn
from analysis.answers.histogram import CHI2_NDF, SERVICE, STANDALONE, TRACKS
from analysis.runs import open_run
from loadgen.errors import PlanError
from loadgen.tracks import Found

CHI2, NDF = np.array([10.0, 6.0, 3.0, 1.0], "f4"), np.array([5.0, 2.0, 3.0, 0.0], "f4")


def npy(folder: Path, **arrays: npt.NDArray[Any]) -> Path:
    """Write arrays as the notebook did; return their folder."""
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return folder


def test_the_notebooks_arrays_are_read(tmp_path: Path) -> None:
    """chi2 over ndf, where that is a number, and tracks an event come out of the four arrays."""
    folder = npy(tmp_path, chi2=CHI2, ndf=NDF, chi2_ndf=np.array([9.0]), num_tracks=np.array([3, 1]))
    read = reference.read([folder])
    assert read.chi2_ndf is not None
    assert read.tracks is not None
    assert read.chi2_ndf.tolist() == [2.0, 3.0, 1.0]
    assert read.left_out == 1
    assert read.tracks.tolist() == [3.0, 1.0]


def test_ratios_alone_are_read(tmp_path: Path) -> None:
    """Without chi2 and ndf the ratios that were saved are taken; tracks an event that no file has are not known."""
    read = reference.read([npy(tmp_path, chi2_ndf=np.array([0.5, np.nan])) / "chi2_ndf.npy"])
    assert read.chi2_ndf is not None
    assert read.chi2_ndf.tolist() == [0.5]
    assert (read.tracks, read.left_out) == (None, 1)


def test_csvs_of_a_pile_up_are_read(tmp_path: Path) -> None:
    """`chi2_ndf_values_mu<mu>.csv` and `num_tracks_mu<mu>.csv` mean the same as the arrays."""
    (tmp_path / "chi2_ndf_values_mu200.csv").write_text("chi2,ndf\n10,5\n6,2\n")
    (tmp_path / "num_tracks_mu200.csv").write_text("num_tracks\n30000\n29000\n")
    read = reference.read([tmp_path])
    assert read.chi2_ndf is not None
    assert read.tracks is not None
    assert read.chi2_ndf.tolist() == [2.0, 3.0]
    assert read.tracks.tolist() == [30000.0, 29000.0]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds none of chi2.npy"),
        ({"num_tracks_mu20.csv": b"num_tracks\n1\n", "num_tracks_mu40.csv": b"num_tracks\n1\n"}, "are of one kind"),
        ({"num_tracks.npy": b"no array"}, "num_tracks.npy: cannot read num_tracks"),
        ({"num_tracks.npy": b""}, "num_tracks.npy: cannot read num_tracks"),
        ({"num_tracks_mu20.csv": b"tracks\n1\n"}, "num_tracks_mu20.csv: cannot read num_tracks"),
        ({"num_tracks_mu20.csv": b"num_tracks\nmany\n"}, "num_tracks_mu20.csv: cannot read num_tracks"),
        ({"num_tracks_mu20.csv": b""}, "num_tracks_mu20.csv: cannot read"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    """A folder without a known file, with two of a kind or with a damaged one is refused in a line that names it."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=words) as refused:
        reference.read([tmp_path])
    assert "\n" not in str(refused.value)


def test_files_that_need_each_other_are_missed(tmp_path: Path) -> None:
    """chi2 without ndf, arrays of unlike length, a file that is not there and one of another name are refused."""
    folder = npy(tmp_path, chi2=CHI2)
    with pytest.raises(PlanError, match=r"chi2.npy needs ndf.npy"):
        reference.read([folder])
    npy(tmp_path, ndf=NDF[:2])
    with pytest.raises(PlanError, match="has 2 entries"):
        reference.read([folder])
    with pytest.raises(PlanError, match="no such file"):
        reference.read([folder / "num_tracks.npy"])
    (folder / "tracks.txt").touch()
    with pytest.raises(PlanError, match="of no known name"):
        reference.read([folder / "tracks.txt"])


def test_bins_hold_every_entry_once() -> None:
    """Counts of a side are its entries within the axis, each with the root of the count as its error."""
    values = np.random.default_rng(0).exponential(2.0, 5000)
    table = histogram.binned(CHI2_NDF, {SERVICE: values})
    assert table.height == 40
    assert table["from"][0] == 0.0
    inside = int(np.count_nonzero(values <= table["to"][-1]))
    assert 0.99 * values.size < table["entries"].sum() == inside
    for row in table.iter_rows(named=True):
        expected = np.count_nonzero((values >= row["from"]) & (values < row["to"]))
        assert abs(row["entries"] - expected) <= (row["to"] == table["to"][-1])
        assert row["high"] - row["count"] == pytest.approx(row["entries"] ** 0.5)


def test_ratios_are_of_bins_that_both_fill() -> None:
    """Standalone over service, scaled to as many events, with both Poisson errors, only where both have entries."""
    sides = {SERVICE: np.array([1.0] * 4 + [9.0]), STANDALONE: np.array([1.0] * 16 + [5.0])}
    (row,) = histogram.ratios(histogram.binned(TRACKS, sides, 0.5)).iter_rows(named=True)
    assert row["ratio"] == 2.0
    assert row["high"] - row["ratio"] == pytest.approx(2.0 * (1 / 16 + 1 / 4) ** 0.5)


def marks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of every data set of a chart."""
    return [row for rows in spec["datasets"].values() for row in rows]


def test_nothing_is_drawn_where_nothing_is(tmp_path: Path) -> None:
    """Empty bins have no mark, one side has no ratio, no entry has no chart, and a made-up run is marked so."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1,))))
    first = {0: Found("ODD", 3, np.array([1.0, 1.0, 8.0]), np.ones(3)), 1: Found("labels", reason="none")}
    charts = drawn(run, first, None)
    assert list(charts) == ["chi2_ndf", "tracks"]
    spec = theme.specification(charts["chi2_ndf"])
    assert len(spec["vconcat"]) == 1
    assert all(row["entries"] > 0 for row in marks(spec))
    assert "SIMULATED: not a physics figure." in spec["title"]["subtitle"]
    assert drawn(run, {0: Found("labels", reason="none")}, None) == {}


def test_a_standalone_run_adds_the_ratio(tmp_path: Path) -> None:
    """With a standalone run there are two panels of 3:1, its counts scaled to as many events, which is said."""
    run = open_run(write_run(tmp_path / "run", Story(concurrency=(1,))))
    first = {0: Found("ODD", 3, np.array([1.0, 1.0, 8.0]), np.ones(3))}
    other = reference.Tracks("standalone", np.array([1.0, 1.0, 1.0]), np.array([3.0, 3.0]))
    spec = theme.specification(drawn(run, first, other)["chi2_ndf"])
    upper, lower = spec["vconcat"]
    assert upper["height"] == 3 * lower["height"]
    assert "standalone x 0.5, to as many events" in spec["title"]["subtitle"]
    assert [row["ratio"] for row in marks(spec) if "ratio" in row] == [0.75]


def test_pictures_need_decoded_tracks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of before answers were recorded is refused in one line that says which option records them."""
    path = write_run(tmp_path / "run", Story(concurrency=(1,)))
    monkeypatch.setattr(sys, "argv", ["analysis", "answers", str(path), "--png"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == PlanError.exit_code
    assert "sweep with --answers digest or decode" in capsys.readouterr().err
