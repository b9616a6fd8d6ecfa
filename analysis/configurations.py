"""How sources are named once all are read: takes of one thing share a label, others have their own. Pure.

Charts and comparisons take points of one label, pile-up, GPUs and instances at one load for takes of each other.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.parts import Part, told

COUNTS = ("instances", "gpus")


def of_study(labels: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a study says of a run's configuration where the run itself does not: instances, GPUs, pile-up.

    A study counts instances on each GPU, a run all of them.
    """
    gpus = _number(labels.get("gpus"))
    each = _number(labels.get("instances"))
    said = {
        "gpus": int(gpus) if gpus else None,
        "instances": int(each * (gpus or 1)) if each else None,
        "mu": _number(labels.get("mu")),
    }
    return {name: value for name, value in said.items() if facts.get(name) is None}


def settled(parts: Sequence[Part]) -> list[Part]:
    """Give every part its final label."""
    found = list(parts)
    for study in dict.fromkeys(_study(part) for part in found if _study(part)):
        found = _studied(found, study)
    return _apart(_by_format(found))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _study(part: Part) -> str:
    return part.settings.get("study", "")


def _studied(parts: Sequence[Part], study: str) -> list[Part]:
    """Label the runs of a study by its folder, and by its words for what the numbers do not tell apart."""
    own = [part for part in parts if _study(part) == study]
    numbers = {"server": COUNTS, "inputs": ("mu",)}
    needed = [name for name, facts in numbers.items() if _ambiguous(own, name, facts)]

    def named(part: Part) -> Part:
        if _study(part) != study or part.facts is None:
            return part
        base = part.facts["label"] if part.labelled else Path(study).name
        return told(
            part, label=", ".join([base, *(part.settings[name] for name in needed if part.settings.get(name))])
        )

    return [named(part) for part in parts]


def _ambiguous(parts: Sequence[Part], name: str, facts: Sequence[str]) -> bool:
    """Say whether two settings have the same numbers, as two servers of the same kind have."""
    of = defaultdict(set)
    for part in parts:
        of[tuple((part.facts or {}).get(fact) for fact in facts)].add(part.settings.get(name))
    return any(len(settings) > 1 for settings in of.values())


def _by_format(parts: Sequence[Part]) -> list[Part]:
    """Tell apart what the CSV, the output and the profile export of one take say: they are no takes of each other."""
    return _suffixed(parts, lambda part: (part.group, part.take), lambda part: part.settings.get("format", ""))


def _apart(parts: Sequence[Part]) -> list[Part]:
    """Tell apart files of one name and configuration in several folders."""

    def key(part: Part) -> object:
        facts = part.facts or {}
        return tuple(facts.get(name) for name in ("label", *COUNTS, "mu")), part.settings.get("format")

    def group(part: Part) -> str:
        return Path(part.group).parent.name if part.group else ""

    return _suffixed(parts, key, group)


def _suffixed(parts: Sequence[Part], key: Callable[[Part], object], word: Callable[[Part], str]) -> list[Part]:
    words = defaultdict(set)
    for part in parts:
        if part.group and not part.labelled:
            words[key(part)].add(word(part))
    return [
        told(part, label=f"{(part.facts or {})['label']}, {word(part)}")
        if part.group and not part.labelled and len(words[key(part)]) > 1 and word(part)
        else part
        for part in parts
    ]


def numbered(part: Part, labels: Mapping[str, str], study: str) -> Part:
    """Say of which take of which study a run is."""
    take = _number(labels.get("take"))
    settings = {"study": study, **{name: labels[name] for name in ("server", "inputs") if name in labels}}
    known = of_study(labels, part.facts or {})
    return replace(told(part, **known), take=int(take) if take else None, settings=settings)
