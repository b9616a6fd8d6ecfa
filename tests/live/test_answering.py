"""Answers of the real Triton: alike under load, decoded as the stand-in made them, and drawn."""

import asyncio
import sys
from pathlib import Path

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.answers import ways
from analysis.runs import open_run
from loadgen import Synthetic, kept, sweep_async, tracks, witness
from loadgen.server.launch import serve_standin

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("triton")]


def test_tritons_answers_stay_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At concurrency 1 and 3 each event gets one answer, with a track an entry of chi2, and a sentence says so."""

    async def swept() -> Path:
        async with serve_standin(directory=tmp_path, log=tmp_path / "triton.log") as server:
            run = await sweep_async(
                model=server.model,
                url=server.grpc,
                metrics_url=server.metrics_url,
                input_data=Synthetic(mu=2.0, events=3),
                concurrency=[1, 3],
                warmup_ms=100,
                window_ms=500,
                answers="decode",
                output=tmp_path / "runs",
            )
            return run.path

    path = asyncio.run(swept())
    rows = pl.read_parquet(path / "records" / "*.parquet")
    (sentence,) = ways.sentences(ways.read(open_run(path)))
    assert sentence.startswith("Every event was answered alike ")
    assert sentence.endswith(f"3 events, {(rows['outcome'] == 'ok').sum():,} answers.")
    files = kept.files(path / "answers")
    assert [kept.parsed(each) for each in files] == [
        (body, witness.digest(each.read_bytes())) for body, each in enumerate(files)
    ]
    known = pl.read_parquet(path / "answers" / "*.parquet")
    for body, each in enumerate(files):
        found = tracks.decode(each.read_bytes())
        assert found.reason == ""
        assert set(known.filter(pl.col("body") == body)["tracks"]) == {found.chi2.size}
        assert found.ndf.sum() > found.chi2.size > 100
    monkeypatch.setattr(sys, "argv", ["analysis", "answers", str(path), "--png"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    printed = capsys.readouterr().out
    assert sentence in printed
    assert printed.startswith("SIMULATED")
    assert (path / "charts" / "chi2_ndf.png").stat().st_size > 5000
