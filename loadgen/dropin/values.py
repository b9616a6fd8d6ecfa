"""Values of perf_analyzer's options: what each takes, and what is said of what it does not take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadgen.dropin.options import Asked, Change, Misused, Range


def at_least(least: float, convert: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """Return what reads a number, not below `least`."""

    def read(text: str) -> Any:  # noqa: ANN401 - int or float
        number = convert(text)
        if not number >= least:
            raise Misused(f"The value must be >= {least:g}.")
        return number

    return read


def one_of(*known: str, lower: bool = False) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(text: str) -> str:
        word = text.lower() if lower else text
        if word not in known:
            raise Misused(f"Unsupported type provided: '{text}'. The available options are {', '.join(known)}.")
        return word

    return read


def only(known: str, why: str) -> Callable[[Asked, str], Asked]:
    """Return what accepts the one value that changes nothing, and refuses others by name."""

    def change(asked: Asked, value: str) -> Asked:
        if value != known:
            raise Misused(f"'{value}' is not supported here: {why}")
        return asked

    return change


def refused(why: str) -> Change:
    """Return what refuses an option."""

    def change(_asked: Asked, _value: str) -> Asked:
        raise Misused(f"Not supported here: {why}")

    return change


def ignored(asked: Asked, _value: str) -> Asked:
    """Accept a value that means nothing here."""
    return asked


def file(text: str) -> str:
    """Read the name of a file that exists."""
    if not Path(text).is_file():
        raise Misused("The value must be a valid file path.")
    return text


def new_file(text: str) -> str:
    """Read the name of a file that does not exist yet."""
    if Path(text).exists():
        raise Misused("Path must not already exist.")
    return text


def levels(text: str, convert: Callable[[str], float]) -> Range:
    """Read `start[:end[:step]]`."""
    parts = [convert(part) for part in text.split(":")]
    if len(parts) > len(("start", "end", "step")):
        raise Misused("The value does not match <start:end:step>.")
    found = Range(*parts)
    if not found.start > 0:
        raise Misused("The start of the search range must be > 0.")
    if found.step <= 0 or found.end < 0:
        raise Misused("The step must be > 0, and the end not below 0.")
    return found


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `name:d1,d2`; the name may hold colons."""
    name, colon, dimensions = text.rpartition(":")
    if not colon:
        raise Misused("There must be a colon after input name.")
    sizes = tuple(int(part) for part in dimensions.split(","))
    if min(sizes) <= 0:
        raise Misused("The dimensions of input tensor must be > 0.")
    return name, sizes


def parameter(text: str) -> tuple[str, bool | int | str]:
    """Read `name:value:type`."""
    parts = text.split(":")
    if len(parts) != len(("name", "value", "type")):
        raise Misused("The value does not match <name:value:type>.")
    name, value, kind = parts
    match kind.lower():
        case "bool":
            return name, value.lower() in {"true", "1"}
        case "int":
            return name, int(value)
        case "string":
            return name, value
    raise Misused("The type must be bool, int or string.")


def header(text: str) -> tuple[str, str]:
    """Read `Header:Value`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Misused("The header must be specified as 'Header:Value'.")
    return name.strip().lower(), value.strip()


def ids(text: str) -> tuple[int, int]:
    """Read `start[:end]`; an end left out is none."""
    parts = [int(part) for part in text.split(":")]
    if len(parts) > 2 or min(parts) < 0:  # noqa: PLR2004 - start and end
        raise Misused("The value does not match <start:end>, both from 0.")
    start, end = parts[0] or 1, parts[1] if len(parts) > 1 else 0
    if end and start > end:
        raise Misused("The 'end' value must be greater than 'start' value.")
    return start, end


def composing(text: str) -> tuple[str, ...]:
    """Read `a:1,b`; the version that answers is the server's to choose."""
    names = (part.partition(":")[0] for part in "".join(text.split()).split(","))
    return tuple(filter(None, names))


def source(asked: Asked, value: str) -> tuple[str, ...]:
    """Read `zero`, `random` or a path, beside those given before."""
    if value not in {"zero", "random"} and not Path(value).exists():
        raise Misused(
            f"Unsupported type provided: '{value}'. The available options are 'zero', 'random', path to a directory, "
            "or a json file."
        )
    return (*asked.input_data, value)
