"""Metrics pages in files: every real one is read, whatever stands between its figures."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadgen.cli import app
from loadgen.errors import PlanError
from loadgen.recorded import contents, parse_recorded

EXPECTED = {
    "drunkcoding__model-inference__metrics_4gpu.txt": (4, 15, 105),
    "triton-inference-server__vllm_backend__README-histograms.txt": (0, 20, 26),
    "yongbinfeng__SONICTutorial__some-hands-on-metrics_0.txt": (1, 20, 48),
    "yongbinfeng__SonicMetricAnalyzer__result1.log": (1, 17, 83),
    "yongbinfeng__SonicMetricAnalyzer__result2.log": (1, 17, 83),
}
"""GPUs, metrics and figures of each, counted with grep."""

FIGURES = 'a 1\nnv_gpu_utilization{gpu_uuid="G"} 0.5\nc_bucket{le="+Inf"} 3e4\n'
NOISE = ("$ curl localhost:8002/metrics", "...", "100  8867  100  8867", "[INFO] 12:30 ready", "```")


def test_every_page_from_the_field(field_data: Path) -> None:
    """All of them, with the GPUs, metrics and figures that stand on them; no page is unexpected."""
    found = {path.name: contents(path) for path in sorted((field_data / "metrics").iterdir())}
    assert {name: (len(each.gpus), each.metrics, each.figures) for name, each in found.items()} == EXPECTED
    whole = ("utilisation", "power_w", "power_limit_w", "memory_used_bytes", "memory_total_bytes", "energy_j")
    assert {each.columns for each in found.values() if each.gpus} == {whole}
    remarks = {name: each.remarks for name, each in found.items() if each.remarks}
    assert set(remarks) == {name for name in EXPECTED if "README" in name or "SONICTutorial" in name}


@given(st.lists(st.sampled_from(NOISE)))
def test_lines_of_a_log_cost_no_figure(noise: list[str]) -> None:
    """Prompts, ellipses, progress and log lines between the figures are counted and left out."""
    lines = FIGURES.splitlines()
    for place, text in enumerate(noise):
        lines.insert(place % (len(lines) + 1), text)
    samples, left_out = parse_recorded("\n".join(lines))
    assert {sample.value for sample in samples} >= {1.0, 0.5, 30000.0}
    assert left_out >= sum(text != "100  8867  100  8867" for text in noise)


@given(st.text(alphabet='ab{}"=, \n#TYPEHLcounter_total:0129.e+-', max_size=80))
def test_any_text_is_read(text: str) -> None:
    """No text raises, and there are no more lines left out than there are lines."""
    samples, left_out = parse_recorded(text)
    assert 0 <= left_out <= len(text.splitlines())
    assert all(sample.metric for sample in samples)


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    """A heading and a line a page; JSON if asked; a file without a figure is one line of error."""
    (tmp_path / "a.txt").write_text(FIGURES)
    zeros = 'nv_gpu_power_usage{gpu_uuid="G"} 0\nnv_gpu_utilization{gpu_uuid="G"} 0\n'
    (tmp_path / "b.txt").write_text(zeros)
    pages = [option for name in ("a.txt", "b.txt") for option in ("--page", str(tmp_path / name))]
    heading, first, second = CliRunner().invoke(app, ["doctor", *pages]).stdout.splitlines()
    assert heading.split()[:4] == ["Page", "GPUs", "Metrics", "Figures"]
    assert first.split()[:4] == ["a.txt", "1", "3", "3"]
    assert "utilisation (triton)" in first
    assert "every gauge is 0: G" in second
    as_json = CliRunner().invoke(app, ["doctor", *pages, "--json"]).stdout.splitlines()
    assert json.loads(as_json[0])["gpus"] == ["G"]
    (tmp_path / "none.txt").write_text("<html>")
    with pytest.raises(PlanError, match="holds no figure"):
        contents(tmp_path / "none.txt")
    with pytest.raises(PlanError, match="cannot read"):
        contents(tmp_path / "absent.txt")
