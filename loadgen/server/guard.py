"""A bare supervisor: `python guard.py [--shm-prefix P] [--grace-s S] -- COMMAND...`, run by path, stdlib only.

It starts COMMAND in a process group of its own and stops the whole group when its stdin ends, which happens
however its parent goes, `kill -9` included; or when it is sent SIGTERM, SIGINT or SIGHUP. Stopping is SIGTERM,
then SIGKILL after the grace. Should the guard itself be killed, Linux kills COMMAND's first process at once.
Start it in a session of its own: Ctrl-C in the terminal is then the parent's to decide on, and the server lives on
while the parent drains. It exits with COMMAND's status, shell style: 128 + N where signal N ended it.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
STDIN = 0
SHM = Path("/dev/shm")  # noqa: S108 - not a temporary file: where Linux keeps POSIX shared memory
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
USAGE_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Run the command under guard and return the exit status to pass on."""
    options = _options(arguments)
    wake = _signals_to_pipe()
    try:
        server = _start(options.command)
    except OSError as error:
        sys.stderr.write(f"error: cannot start {options.command[0]}: {error.strerror}\n")
        return USAGE_ERROR
    _wait_for_reason_to_stop(server, wake)
    _stop(server, options.grace_s, wake)
    if options.shm_prefix:
        _remove_shared_memory(options.shm_prefix)
    return 128 - server.returncode if server.returncode < 0 else server.returncode


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="guard")
    parser.add_argument("--shm-prefix", default="")
    parser.add_argument("--grace-s", type=float, default=10.0)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _signals_to_pipe() -> int:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    guard = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_guard() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:
                os._exit(1)

    return subprocess.Popen(  # noqa: S603 - the command is what this program is for
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_guard,  # noqa: PLW1509 - this process has one thread
    )


def _wait_for_reason_to_stop(server: subprocess.Popen[bytes], wake: int) -> None:
    while server.poll() is None:
        ready, _, _ = select.select([STDIN, wake], [], [])
        if STDIN in ready and not os.read(STDIN, 1024):
            return
        if wake in ready and set(os.read(wake, 1024)) & set(STOP_SIGNALS):
            return


def _stop(server: subprocess.Popen[bytes], grace_s: float, wake: int) -> None:
    deadline_s = time.monotonic() + grace_s
    _signal_group(server.pid, signal.SIGTERM)
    while server.poll() is None and (left_s := deadline_s - time.monotonic()) > 0:
        select.select([wake], [], [], left_s)
        with suppress(BlockingIOError):
            os.read(wake, 1024)
    _signal_group(server.pid, signal.SIGKILL)
    server.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _remove_shared_memory(prefix: str) -> None:
    for region in SHM.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
