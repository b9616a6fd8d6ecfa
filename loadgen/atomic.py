"""A file that is there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from loadgen.errors import FleetError, LoadgenError, PlanError

MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOMEM}


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write; it takes the name `path`, flushed to the disk, when the context ends well.

    Raises:
        PlanError: that place cannot be written (no such folder, no permission).
        FleetError: the disk is full or broken.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)
        raise refusal(path, error) from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> Path:
    """Write a whole file and return its path; errors as `written_atomically`."""
    with written_atomically(path) as file:
        file.write(content)
    return path


def make_folder(path: Path) -> Path:
    """Make a folder and what lies above it, unless it is there; errors as `written_atomically`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(path, error) from error
    return path


def refusal(path: Path, error: OSError) -> LoadgenError:
    """Return the error to raise when a path cannot be written: whose fault it is, in one line."""
    if error.errno in MACHINE_FAULTS:
        return FleetError(f"{path}: cannot write: {error.strerror}; free some space")
    return PlanError(f"{path}: cannot write: {error.strerror}; name another place")
