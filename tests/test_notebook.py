"""The example notebook: what it shows is what it does today, and it says that it is simulated."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "sweep.ipynb"
MOST_BYTES = 400_000
CHARTS = 3


def outputs(of: Any) -> list[Any]:
    """Return the outputs of all cells."""
    return [output for cell in of.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(of: Any) -> list[str]:
    """Return the PNGs that a notebook shows, in base64."""
    return [output.data["image/png"] for output in outputs(of) if "image/png" in output.get("data", {})]


def kept() -> Any:
    """Return the notebook as it lies in the tree."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def executed() -> Any:
    """Return the notebook, executed by a kernel that finds this tree."""
    notebook = kept()
    client = NotebookClient(notebook, timeout=100, kernel_name="python3")
    client.execute(env={**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[2])})
    return notebook


@pytest.mark.filterwarnings("default")  # zmq's and nbclient's own
def test_the_notebook_runs_from_top_to_bottom() -> None:
    """Every cell ends without an error; three charts are shown, and a comparison in words."""
    notebook = executed()
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert len(pictures(notebook)) == CHARTS
    words = "".join(output.get("text", "") for output in outputs(notebook))
    assert "A = before, B = after" in words
    assert "SIMULATED" in words


def test_what_is_kept_is_small_and_whole() -> None:
    """The notebook is kept with its outputs: under 400 kB, cells numbered in order, no error, all charts."""
    notebook = kept()
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(pictures(notebook)) == CHARTS
    assert str(Path.home()) not in NOTEBOOK.read_text()


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)  # type: ignore[no-untyped-call]
