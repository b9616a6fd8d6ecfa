"""Triton in the box, without starting it: where it can run, and what is said when it cannot be had."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadgen.errors import TargetError
from loadgen.server import embedded
from loadgen.server.launch import tail, telling_lines

HOST = embedded.Host(
    system="Linux",
    machine="x86_64",
    glibc=(2, 35),
    python=(3, 11),
    libpython=Path("/usr/lib/libpython3.11.so.1.0"),
    numpy_in_site_packages=True,
)
can_run = pytest.mark.skipif(
    embedded.unavailable_reason() is not None, reason=f"no Triton here: {embedded.unavailable_reason()}"
)


def test_host_that_has_all_can_run_it() -> None:
    """Linux on x86_64 with a new glibc and a shared libpython will do; Python 3.13 needs no libpython."""
    assert embedded.unavailable_reason(HOST) is None
    assert embedded.unavailable_reason(replace(HOST, python=(3, 13), libpython=None)) is None


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (replace(HOST, system="Darwin", machine="arm64", glibc=None), "this is Darwin arm64"),
        (replace(HOST, machine="aarch64"), "this is Linux aarch64"),
        (replace(HOST, glibc=(2, 34)), "glibc 2.35 or newer, this is 2.34"),
        (replace(HOST, glibc=None), "this is another libc"),
        (replace(HOST, python=(3, 14)), "no backend for Python 3.14"),
        (replace(HOST, libpython=None), "libpython3.11.so.1.0 is not found"),
        (replace(HOST, numpy_in_site_packages=False), "use a virtual environment"),
    ],
)
def test_what_is_missing_is_said(host: embedded.Host, words: str) -> None:
    """Each thing a host can lack has its own words."""
    assert words in str(embedded.unavailable_reason(host))


@can_run
def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip finds nothing, its own words are passed on in one line, and nothing half done stays."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(TargetError) as failure:
        embedded.install(tmp_path / "cache")
    message = str(failure.value)
    assert "\n" not in message
    assert "pip: No matching distribution found for nvidia-pytriton==0.7.0" in message
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@can_run
def test_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A cache below a plain file is an error that names the place."""
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"file/cache/triton-2\.51\.0.*cannot unpack Triton there"):
        embedded.install(tmp_path / "file" / "cache")


def test_pip_complaint_is_its_last_error() -> None:
    """The last ERROR line wins over what follows it; without one the last line; silence is said to be so."""
    text = "WARNING: retrying\nERROR: Could not find a version\nERROR: No space left\nnotice: new pip\n\n"
    assert embedded.pip_complaint(text) == "No space left"
    assert embedded.pip_complaint("first\nlast\n") == "last"
    assert embedded.pip_complaint("\n") == "(it said nothing)"


def test_telling_lines_are_the_errors() -> None:
    """Errors are shown once each, cut where Triton spells out a newline; what is harmless is left out."""
    log = [
        'E1123 20:51:56.1 97 server.cc:241] "CudaDriverHelper has not been initialized."',
        'I1123 20:51:56.2 97 model.cc:1] "loading"',
        r'E1123 20:51:56.3 97 model.cc:1] "RuntimeError: boom\n\nAt:\n /model.py(1)"',
        "+-------+",
        "| m | 1 | UNAVAILABLE: Internal: RuntimeError: boom |",
        "error: creating server: Internal - failed to load all models",
        "error: creating server: Internal - failed to load all models",
    ]
    assert telling_lines("\n".join(log)) == [
        'E1123 20:51:56.3 97 model.cc:1] "RuntimeError: boom',
        "| m | 1 | UNAVAILABLE: Internal: RuntimeError: boom |",
        "error: creating server: Internal - failed to load all models",
    ]


def test_a_wrong_option_is_told_without_the_usage(tmp_path: Path) -> None:
    """Triton explains itself at length after one line that says what is wrong, however long the rest is."""
    log = tmp_path / "log"
    log.write_text(
        "bin/tritonserver: unrecognized option '--x'\nUsage: tritonserver [options]\n" + "  --help\n" * 20_000
    )
    assert telling_lines(tail(log)) == ["bin/tritonserver: unrecognized option '--x'"]


def test_telling_lines_without_errors_are_the_last() -> None:
    """A log without errors shows its last eight lines without tables; an empty one says so."""
    assert telling_lines("\n".join([*map(str, range(20)), "| id | triton |", "+---+"])) == list(
        map(str, range(12, 20))
    )
    assert telling_lines("") == ["(nothing)"]
