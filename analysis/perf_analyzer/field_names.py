"""What the names of files and folders say of a configuration, by the patterns that studies of `traccc-gpu` use.

`out4gpu_take7.txt`, `out1gpu_4inst_take4_more_mem.txt`, `2insts_4gpus/gpu_2instance_sync.csv`,
`..._mu200_10event/...`: the nearest name that says a thing is believed.
"""

import re
from pathlib import Path

from analysis.perf_analyzer.tables import U32_MAX, Row

FOLDERS = 3
"""How many folders above a file are asked."""

START, END = r"(?:^|(?<=[^A-Za-z0-9]))", r"(?![A-Za-z0-9])"
FACTS = {
    "gpus": re.compile(rf"{START}(?:out)?(\d+)gpus?{END}"),
    "instances_per_gpu": re.compile(rf"{START}(\d+)inst(?:s|ances?)?{END}"),
    "take": re.compile(rf"{START}take_?(\d+){END}"),
    "mu": re.compile(rf"{START}mu_?(\d+){END}"),
    "events": re.compile(rf"{START}(\d+)events?{END}"),
}
DEVICE = re.compile(r"^(gpu|cpu)_\d+inst")
TAKE = re.compile(rf"_?{START}take_?\d+{END}")


def configuration(path: Path) -> Row:
    """Return the columns that the names say: device, gpus, instances, mu, events, take, and the group of takes.

    `group` is the path without its take and suffix: files that share it are takes of one configuration. `instances`
    is all of them, over the GPUs; None unless both are said, or the device is the CPU.
    """
    names = [path.stem, *(folder.name for folder in list(path.parents)[:FOLDERS])]
    found: Row = {name: _nearest(pattern, names) for name, pattern in FACTS.items()}
    found["take"] = _nearest(FACTS["take"], names[:1])
    device = next((match[1] for name in names if (match := DEVICE.match(name))), None)
    found["device"] = device or ("gpu" if found["gpus"] else None)
    found["instances"] = _instances(found)
    found["group"] = str(path.parent / TAKE.sub("", path.stem))
    return found


def _nearest(pattern: re.Pattern[str], names: list[str]) -> int | None:
    said = (int(match[1][:11]) for name in names if (match := pattern.search(name)))
    return next((value for value in said if value <= U32_MAX), None)


def _instances(found: Row) -> int | None:
    each, gpus = found["instances_per_gpu"], found["gpus"]
    if each is None or found["device"] == "cpu":
        return each if each is None else int(each)
    return int(each * gpus) if gpus and each * gpus <= U32_MAX else None
