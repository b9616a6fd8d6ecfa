"""What a traccc program prints of itself: options, device, program, version. Both styles of log. Pure.

To v0.19 lines are bare; from v0.20 each begins `HH:MM:SS    Logger    LEVEL    `, and options are drawn as a tree.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.facts import named_pile_up

PREFIX = re.compile(r"^\d\d:\d\d:\d\d\s+(\w+)\s+[A-Z]{4,}\s+")
TREE = re.compile(r"^[\s├└│─|+`-]*")
NUMBER = r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
"""As C++ streams print them: `1.4357`, `50`, `1.95312e+06`, and with a locale's separators `1,444,438`."""

PROGRAM = re.compile(r"traccc_(?:throughput|seq)\w*")
BACK_ENDS = ("cuda", "sycl", "alpaka", "kokkos", "futhark", "hip")
DEVICE_NAME = re.compile(r"Using (CUDA|SYCL|Alpaka|HIP) device: (.+?)(?: \[|\s*$)")
VERSION = re.compile(r"traccc[-_/ ]*v?(\d+\.\d+(?:\.\d+)?)(?![\d.])", re.IGNORECASE)
DUPLICATES = re.compile(rf"WARNING\s+{NUMBER} duplicate cells found")
WORD = re.compile(r"[A-Za-z]+")

KEYS = {
    "threads": r"(?:Number of )?CPU threads?(?:\(s\))?",
    "events": r"(?:Number of input events|Loaded event\(s\)|Input events)",
    "warm": r"Cold run event(?:s|\(s\))",
    "processed": r"Processed event(?:s|\(s\))",
    "directory": r"Input directory",
    "deterministic": r"Deterministic ordering",
}
OPTIONS = {name: re.compile(rf"^{key}\s*:\s*(.+?)\s*$") for name, key in KEYS.items()}

ARGUMENTS = {
    "threads": r"(?:cpu[-_])?threads",
    "events": r"(?:input|loaded)[-_]events",
    "warm": r"cold[-_]run[-_]events",
    "processed": r"processed[-_]events",
    "directory": r"input[-_]directory",
}
COMMAND = {name: re.compile(rf"--{key}[= ](\S+)") for name, key in ARGUMENTS.items()}
"""The same on a command line, which a captured terminal shows; what the program prints itself counts more."""

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
OLD_STYLE, NEW_STYLE = "to 0.19", "0.20 or later"


@dataclass(frozen=True, slots=True)
class Printed:
    """Facts of one log; None where it does not say."""

    style: str
    device: str | None = None
    device_name: str | None = None
    threads: int | None = None
    version: str | None = None
    events: int | None = None
    warm: int | None = None
    processed: int | None = None
    directory: str | None = None
    deterministic: bool | None = None
    duplicates: int | None = None

    @property
    def mu(self) -> float | None:
        """The pile-up that the input directory is named after."""
        return named_pile_up(self.directory or "")


def lines(text: str) -> list[str]:
    """Return a log's lines without their prefixes; progress bars end in carriage returns."""
    return [PREFIX.sub("", line) for line in re.split(r"[\r\n]+", text)]


def number(text: str) -> float:
    """Read a number as `NUMBER` finds it."""
    return float(text.replace(",", ""))


def facts(text: str) -> Printed:
    """Read what a log says of how it was made."""
    bare = [TREE.sub("", line) for line in lines(text)]
    options = {name: found for name, form in OPTIONS.items() if (found := _option(form, bare)) is not None}
    asked = {name: said[1] for name, form in COMMAND.items() if (said := form.search(text))}
    options = asked | options
    named = DEVICE_NAME.search(text)
    version = VERSION.search(text)
    return Printed(
        style=NEW_STYLE if any(PREFIX.match(line) for line in re.split(r"[\r\n]+", text)) else OLD_STYLE,
        device=named[1].lower() if named else program_device(text),
        device_name=named[2] if named else None,
        version=version[1] if version else None,
        directory=options.get("directory"),
        deterministic=BOOLEANS.get(options.get("deterministic", "").lower()),
        duplicates=sum(int(number(each)) for each in DUPLICATES.findall(text)) or None,
        **{name: _whole(options.get(name)) for name in ("threads", "events", "warm", "processed")},
    )


def program_device(text: str) -> str | None:
    """Return where the program that a log names ran: by its suffix, the CPU without one; None if it names none."""
    found = PROGRAM.search(text)
    if found is None:
        return None
    return next((name for name in BACK_ENDS if found[0].endswith(f"_{name}")), "cpu")


def name_device(name: str) -> str | None:
    """Return the device that a file's name tells, as `out_gpu_mu200.log`; None if it tells none, or several."""
    words = {word.lower() for word in WORD.findall(name)}
    told = {"cuda" if word == "gpu" else word for word in words & {"cpu", "gpu", *BACK_ENDS}}
    return told.pop() if len(told) == 1 else None


def _option(form: re.Pattern[str], bare: Sequence[str]) -> str | None:
    return next((found[1] for line in bare if (found := form.match(line))), None)


def _whole(text: str | None) -> int | None:
    found = re.fullmatch(r"\d[\d,]*", text or "")
    return int(found[0].replace(",", "")) if found else None
