"""A Triton in the box: the one inside NVIDIA's pytriton wheel, unpacked into the user's cache, installed nowhere.

The wheel's own folder layout is kept, because its programs find their libraries relative to themselves.
"""

import fcntl
import importlib.util
import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from loadgen.errors import TargetError

TRITON_VERSION = "2.51.0"
REQUIREMENT = (
    "nvidia-pytriton==0.7.0 --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df\n"
)
MIN_GLIBC = (2, 35)
STUB_PYTHONS = frozenset((3, minor) for minor in range(8, 14))
"""Python versions for which the wheel holds the Python backend's stub process."""

OWN_LIBPYTHON = (3, 13)
"""The one Python whose shared library the wheel brings along; the other stubs use the machine's."""

TRITON = "pytriton/tritonserver"
STUB = "triton_python_backend_stub"
USE_STUB = "or serve the simulating stub (--stub)"


@dataclass(frozen=True, slots=True)
class Installation:
    """A Triton to start: its program, its backends, and what to add to the environment."""

    binary: Path
    backends: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Host:
    """What decides whether this Triton can run here; `glibc` is None where there is none."""

    system: str
    machine: str
    glibc: tuple[int, int] | None
    python: tuple[int, int]
    libpython: Path | None
    numpy_in_site_packages: bool


def this_host() -> Host:
    """Look at the machine and the Python we run on."""
    return Host(
        platform.system(), platform.machine(), _glibc(), sys.version_info[:2], _libpython(), _numpy_in_site_packages()
    )


def unavailable_reason(host: Host | None = None) -> str | None:
    """Say in words why this Triton cannot run on a host (this one if not given), or None if it can."""
    host = host or this_host()
    if (host.system, host.machine) != ("Linux", "x86_64"):
        return f"it runs on Linux x86_64 only, this is {host.system} {host.machine}"
    if host.glibc is None or host.glibc < MIN_GLIBC:
        return f"it needs glibc {_dotted(MIN_GLIBC)} or newer, this is {_dotted(host.glibc or ()) or 'another libc'}"
    if host.python not in STUB_PYTHONS:
        return f"it has no backend for Python {_dotted(host.python)}, only for {_dotted(min(STUB_PYTHONS))} to 3.13"
    if host.python != OWN_LIBPYTHON and host.libpython is None:
        return (
            f"libpython{_dotted(host.python)}.so.1.0 is not found: this Python was built without its shared library"
        )
    if not host.numpy_in_site_packages:
        return "its backend does not see our numpy, which lies outside site-packages; use a virtual environment"
    return None


def install(cache: Path | None = None) -> Installation:
    """Return the unpacked Triton, after downloading it (55 MB) if `cache` (the user's by default) has none.

    Processes that ask at the same time download it once.

    Raises:
        TargetError: it cannot run here, cannot be downloaded, or cannot be unpacked.
    """
    if (reason := unavailable_reason()) is not None:
        raise TargetError(f"no Triton here: {reason}; measure a server elsewhere with -u, {USE_STUB}")
    cache = cache or platformdirs.user_cache_path("loadgen")
    home = cache / f"triton-{TRITON_VERSION}-python{_dotted(sys.version_info[:2])}"
    if not home.is_dir():
        try:
            _fill(home)
        except OSError as error:
            raise TargetError(f"{home}: cannot unpack Triton there ({error}); free disk space, {USE_STUB}") from error
    return Installation(home / TRITON / "bin/tritonserver", home / TRITON / "backends", _environment())


def _fill(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with _only_process(home.parent / f"{home.name}.lock"):
        if home.is_dir():
            return
        for left_by_a_kill in home.parent.glob(f"{home.name}.partial-*"):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        with TemporaryDirectory(
            prefix=f"{home.name}.partial-", dir=home.parent, ignore_cleanup_errors=True
        ) as folder:
            partial = Path(folder)
            _unpack(_download(partial), partial / "unpacked")
            (partial / "unpacked").rename(home)


@contextmanager
def _only_process(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise TargetError(f"cannot download Triton: this Python has no pip; run `python -m ensurepip`, {USE_STUB}")
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "--retries=2"]
    what = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    done = subprocess.run([*pip, *what, "-r", str(requirements)], capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode != 0:
        raise TargetError(f"cannot download Triton: pip: {pip_complaint(done.stderr)}; check the network, {USE_STUB}")
    return next(folder.glob("*.whl"))


def pip_complaint(stderr: str) -> str:
    """Return the one line of pip's messages that says most: its last error, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return [*["(it said nothing)"], *lines, *errors][-1].removeprefix("ERROR:").strip()


def _unpack(wheel: Path, into: Path) -> None:
    stub = f"{TRITON}/python_backend_stubs/{_dotted(sys.version_info[:2])}/{STUB}"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into, [name for name in archive.namelist() if _is_needed(name)])
        archive.extract(stub, into)
    backend_stub = into / TRITON / "backends/python" / STUB
    (into / stub).rename(backend_stub)
    for program in (backend_stub, into / TRITON / "bin/tritonserver"):
        program.chmod(0o755)


def _is_needed(name: str) -> bool:
    if "/libpython" in name:
        return sys.version_info[:2] == OWN_LIBPYTHON
    folders = ("nvidia_pytriton.libs/", f"{TRITON}/bin/", f"{TRITON}/backends/python/")
    return name.startswith(folders) or name.endswith("/LICENSE")


def _environment() -> dict[str, str]:
    # The backend's stub starts an isolated interpreter, which heeds no PYTHON variable: its home, and with it the
    # packages it sees, follow from the first python3 of PATH.
    environment = {"PATH": _path_list(Path(sys.executable).parent, os.environ.get("PATH"))}
    libpython = _libpython()
    if libpython is not None and sys.version_info[:2] != OWN_LIBPYTHON:
        environment["LD_LIBRARY_PATH"] = _path_list(libpython.parent, os.environ.get("LD_LIBRARY_PATH"))
    return environment


def _path_list(first: Path, rest: str | None) -> str:
    return f"{first}:{rest}" if rest else str(first)


def _libpython() -> Path | None:
    settings = sysconfig.get_config_vars()
    libdir, multiarch = settings.get("LIBDIR") or "", settings.get("MULTIARCH") or ""
    folders = (f"{sys.base_prefix}/lib", libdir, f"{libdir}/{multiarch}", "/usr/lib/x86_64-linux-gnu", "/usr/lib64")
    name = f"libpython{_dotted(sys.version_info[:2])}.so.1.0"
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)


def _numpy_in_site_packages() -> bool:
    numpy = importlib.util.find_spec("numpy")
    assert numpy is not None
    return str(Path(numpy.origin or "").parents[1]) in site.getsitepackages()


def _glibc() -> tuple[int, int] | None:
    name, version = platform.libc_ver()
    if name != "glibc":
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
