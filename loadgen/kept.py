"""Names of the answers that a run keeps whole: a file each, a serialised ModelInferResponse."""

from pathlib import Path

SUFFIX = ".response"


def file_name(body: int, number: int) -> str:
    """Return the name under which an answer is kept."""
    return f"body-{body:06}-{number:016x}{SUFFIX}"


def parsed(path: Path) -> tuple[int, int]:
    """Return body and digest of a kept answer, from its name."""
    _, body, number = path.stem.split("-")
    return int(body), int(number, 16)


def files(folder: Path) -> list[Path]:
    """Return the answers kept in a folder, by body; none if it is not there."""
    return sorted(folder.glob(f"body-*{SUFFIX}"))
