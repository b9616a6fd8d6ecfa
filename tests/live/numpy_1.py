"""The real Triton with numpy 1 for its models: its Python backend was built for that, and BYTES need it."""

import dataclasses
import os
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
import pytest

from loadgen.server import embedded

REQUIREMENT = "numpy==1.26.4"
LAST_PYTHON = (3, 12)
"""The last Python that it was built for."""


def with_numpy_1(triton: embedded.Installation) -> embedded.Installation:
    """Return a Triton whose models see numpy 1, after making an environment with it (18 MB) in the user's cache.

    Skips the test where there is none for this Python, or it cannot be downloaded.
    """
    if sys.version_info[:2] > LAST_PYTHON:
        pytest.skip("numpy 1 is not built for this Python")
    home = platformdirs.user_cache_path("loadgen") / f"{REQUIREMENT}-python3.{sys.version_info.minor}"
    with embedded._only_process(home.parent / f"{home.name}.lock"):
        if not home.is_dir():
            _fill(home)
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return dataclasses.replace(triton, environment={**triton.environment, "PATH": path})


def _fill(home: Path) -> None:
    with TemporaryDirectory(prefix=f"{home.name}.partial-", dir=home.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "made"
        venv.create(made)
        pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "--retries=2"]
        what = ["--python", str(made), "install", "--no-deps", "--only-binary=:all:", REQUIREMENT]
        done = subprocess.run([*pip, *what], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot install {REQUIREMENT}: {embedded.pip_complaint(done.stderr)}")
        made.rename(home)
