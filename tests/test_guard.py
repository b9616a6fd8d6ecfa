"""The supervisor: whatever ends it or its parent, nothing of the command's group is left."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from loadgen.server.launch import GUARD

WAIT_S = 20
TWO_PROCESSES = "sleep 1000 & echo $!; echo $$; wait"
STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.1; done"

Guard = subprocess.Popen[str]
StartGuard = Callable[..., Guard]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="a Linux feature")


@pytest.fixture
def start() -> Iterator[StartGuard]:
    """Start a guard over a shell script; what is left of it is killed after the test."""
    guards: list[Guard] = []

    def start_guard(script: str, *options: str, command: tuple[str, ...] = ("sh", "-c")) -> Guard:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD, *options, "--", *command, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        guards.append(guard)
        return guard

    yield start_guard
    for guard in guards:
        with guard:
            guard.kill()


def processes(guard: Guard, count: int) -> list[psutil.Process]:
    assert guard.stdout is not None
    return [psutil.Process(int(guard.stdout.readline())) for _ in range(count)]


def assert_gone(expected: list[psutil.Process]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while left := [each for each in expected if is_running(each)]:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.02)


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_end_of_stdin_stops_the_whole_group(start: StartGuard) -> None:
    """When the parent lets go, the command and its child end by SIGTERM, and the guard says so: 128 + 15."""
    guard = start(TWO_PROCESSES)
    group = processes(guard, 2)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(WAIT_S) == 128 + signal.SIGTERM
    assert_gone(group)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_the_guard_stops_the_group(start: StartGuard, number: signal.Signals) -> None:
    """Each of the stopping signals ends the command and its child."""
    guard = start(TWO_PROCESSES)
    group = processes(guard, 2)
    guard.send_signal(number)
    assert guard.wait(WAIT_S) == 128 + signal.SIGTERM
    assert_gone(group)


def test_command_deaf_to_sigterm_is_killed(start: StartGuard) -> None:
    """A command that ignores SIGTERM is killed when the grace is over, and not before."""
    guard = start(STUBBORN, "--grace-s=0.3")
    group = processes(guard, 1)
    began_s = time.monotonic()
    guard.terminate()
    assert guard.wait(WAIT_S) == 128 + signal.SIGKILL
    assert time.monotonic() - began_s >= 0.3
    assert_gone(group)


def test_status_is_passed_on_and_children_left_behind_are_killed(start: StartGuard) -> None:
    """The guard ends when the command does, with its status, and takes the command's child along."""
    guard = start("sleep 1000 & echo $!; exit 7")
    group = processes(guard, 1)
    assert guard.wait(WAIT_S) == 7
    assert_gone(group)


@needs_linux
def test_killed_guard_takes_the_command_along(start: StartGuard) -> None:
    """Even kill -9 of the guard leaves no command running."""
    guard = start("echo $$; exec sleep 1000")
    group = processes(guard, 1)
    guard.kill()
    assert_gone(group)


def test_paused_command_is_left_alone(start: StartGuard) -> None:
    """A command that is stopped and goes on (SIGSTOP, SIGCONT) is not taken for one that ended."""
    guard = start(TWO_PROCESSES)
    _, command = processes(guard, 2)
    command.suspend()
    with pytest.raises(subprocess.TimeoutExpired):
        guard.wait(0.3)
    command.resume()
    assert is_running(command)


@needs_linux
def test_shared_memory_of_the_prefix_is_removed(start: StartGuard, request: pytest.FixtureRequest) -> None:
    """Regions named with the prefix go when the command ends; others stay."""
    ours, other = Path("/dev/shm/loadgen-test-guard-a"), Path("/dev/shm/loadgen-test-other-a")
    request.addfinalizer(other.unlink)
    other.touch()
    guard = start(f"touch {ours}; exit 0", "--shm-prefix=loadgen-test-guard-")
    assert guard.wait(WAIT_S) == 0
    assert (ours.exists(), other.exists()) == (False, True)


def test_command_that_cannot_start_is_one_line(start: StartGuard) -> None:
    """A program that is not there is named, with exit status 2."""
    guard = start("x", command=("/nowhere/tritonserver",))
    _, complaint = guard.communicate(timeout=WAIT_S)
    assert complaint == "error: cannot start /nowhere/tritonserver: No such file or directory\n"
    assert guard.returncode == 2
