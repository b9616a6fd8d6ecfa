"""One figure as perf_analyzer writes it -> a number, or None with a remark: it lets unsigned differences wrap."""

import re

from analysis.perf_analyzer.tables import NS_PER_US

FIGURE = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
WRAPPED_US = 2**63 // 1000
"""From here a time can only be an unsigned difference below zero, or the largest integer standing for infinity."""

COUNT_MAX = 2**63
LONGEST = 40


def figure(text: str) -> float | None:
    """Return a finite number; None for anything else, `inf` and `nan` too."""
    if len(text) > LONGEST or not FIGURE.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) < float("inf") else None


def count(text: str) -> int | None:
    """Return a whole number that a table can hold; None for anything else."""
    whole = int(text) if text.isascii() and text.isdigit() and len(text) < LONGEST else COUNT_MAX
    return whole if whole < COUNT_MAX else None


def number(name: str, text: str, notes: list[str]) -> float | None:
    """Return a figure that cannot be negative; None where the text is empty, and with a remark where it is none."""
    text = text.strip()
    value = figure(text)
    if (value is None and text) or (value is not None and value < 0):
        notes.append(f"{name} reads {text[:LONGEST]!r}, which is no such figure: taken as missing")
        return None
    return value


def duration_ns(name: str, text: str, notes: list[str]) -> float | None:
    """Return whole microseconds in nanoseconds; None as `number`, and where an unsigned value has wrapped."""
    value = number(name, text, notes)
    if value is not None and value >= WRAPPED_US:
        notes.append(f"{name} reads {text.strip()}: an unsigned difference below zero, or one request alone; missing")
        return None
    return None if value is None else value * NS_PER_US
