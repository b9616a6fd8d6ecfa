"""The real perf_analyzer 2.49: the program inside tritonclient's wheel, unpacked into the user's cache."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from loadgen.errors import TargetError
from loadgen.server import embedded

VERSION = "2.49.0"
REQUIREMENT = (
    f"tritonclient=={VERSION} --hash=sha256:e7b40ba11056c93da434bc8a8b302c0a337489923a0a747c5d313314baa26db3\n"
)
IN_WHEEL = f"tritonclient-{VERSION}.data/data/bin/perf_analyzer"
LICENCE_IN_WHEEL = f"tritonclient-{VERSION}.dist-info/LICENSE.txt"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12.*"}
"""Name the program asks for -> pattern of the name under which the Triton wheel brings it."""


@dataclass(frozen=True, slots=True)
class PerfAnalyzer:
    """perf_analyzer, ready to start, with the folder of the libraries that few machines have."""

    binary: Path
    libraries: Path

    def run(self, *arguments: str, timeout_s: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end, in a folder of its own if one is given; its exit code is the caller's to judge."""
        paths = [str(self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}
        command = [str(self.binary), *arguments]
        return subprocess.run(
            command, env=environment, timeout=timeout_s, capture_output=True, text=True, check=False, cwd=folder
        )


def install(triton: embedded.Installation, cache: Path | None = None) -> PerfAnalyzer:
    """Return the unpacked program, after downloading it (14 MB) if `cache` (the user's by default) has none.

    Raises:
        TargetError: it cannot be downloaded; the message is pip's line.
    """
    home = (cache or platformdirs.user_cache_path("loadgen")) / f"perf-analyzer-{VERSION}"
    home.parent.mkdir(parents=True, exist_ok=True)
    if not home.is_dir():
        with embedded._only_process(home.parent / f"{home.name}.lock"):
            if not home.is_dir():
                _fill(home, triton)
    return PerfAnalyzer(home / "perf_analyzer", home / "lib")


def _fill(home: Path, triton: embedded.Installation) -> None:
    with TemporaryDirectory(prefix=f"{home.name}.partial-", dir=home.parent, ignore_cleanup_errors=True) as folder:
        partial = Path(folder)
        unpacked = partial / "unpacked"
        _unpack(_download(partial), unpacked)
        # Copies, not links: the Triton beside us may be replaced by that of another Python.
        triton_libraries = triton.binary.parents[3] / "nvidia_pytriton.libs"
        for name, pattern in LIBRARIES.items():
            shutil.copyfile(next(triton_libraries.glob(pattern)), unpacked / "lib" / name)
        unpacked.rename(home)


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "--retries=2"]
    what = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    done = subprocess.run([*pip, *what, "-r", str(requirements)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TargetError(f"cannot download perf_analyzer: pip: {embedded.pip_complaint(done.stderr)}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, into: Path) -> None:
    (into / "lib").mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for name, target in ((IN_WHEEL, "perf_analyzer"), (LICENCE_IN_WHEEL, "LICENSE.txt")):
            with archive.open(name) as source, (into / target).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    (into / "perf_analyzer").chmod(0o755)
