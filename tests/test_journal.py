"""The journal: what is in it after a kill, and that rows come back as they went in."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import journal, seal
from loadgen.errors import FleetError
from loadgen.journal import Journal
from loadgen.records import ROW, ROW_FORMAT, Outcome, Reply

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from loadgen.journal import Journal
from loadgen.records import Outcome, Reply
journal = Journal(Path(sys.argv[1]), worker=3, segment_rows=100)
for k in range(1, 251):
    row, _ = journal.born(7, k % 5, k * 10, 99, lambda: k * 10 + 1)
    if k != 200:
        journal.ended(row, Reply(Outcome.OK, k * 10 + 5, response=b"x" * k))
os.kill(os.getpid(), signal.SIGKILL)
"""

times = st.integers(1, 2**62)


def test_struct_and_numpy_agree_on_the_row() -> None:
    """The packed row and the table's row have the same fields in the same places."""
    import struct  # noqa: PLC0415

    assert struct.calcsize(ROW_FORMAT) == ROW.itemsize == 80
    fields = ROW.fields
    assert fields is not None
    assert fields["outcome"][1] == 20
    assert fields["flushed_ns"][1] == 40
    assert fields["response_bytes"][1] == 72


def test_kill_9_loses_no_row(tmp_path: Path) -> None:
    """Every row written before SIGKILL is there, whole; what was in flight reads as open_at_end."""
    writer = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], check=False)
    assert writer.returncode == -9
    rows = journal.read_point(tmp_path, 7)
    assert list(rows["seq"]) == list(range(250))
    assert set(rows["worker"]) == {3}
    open_rows = rows[rows["outcome"] == Outcome.OPEN_AT_END]
    assert list(open_rows["due_ns"]) == [2000]
    done = rows[rows["outcome"] == Outcome.OK]
    assert (done["done_ns"] - done["due_ns"] == 5).all()
    assert (done["response_bytes"] == done["seq"] + 1).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), times, times, st.sampled_from(list(Outcome)[1:]), st.integers(0, 500)),
        max_size=40,
    )
)
def test_rows_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, facts: list[tuple[int, int, int, Outcome, int]]
) -> None:
    """Any rows, over several segments, read back equal, in order, and typed."""
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder, worker=1, segment_rows=7) as written:
        for body, due_ns, done_ns, outcome, size in facts:
            row, sent_ns = written.born(2, body, due_ns, 5, lambda due_ns=due_ns: due_ns)  # type: ignore[misc]
            assert sent_ns == due_ns
            written.ended(row, Reply(outcome, done_ns, response=bytes(size)))
    rows = np.concatenate([journal.read_segment(path) for path in journal.segments(folder)])
    table = seal.frame(rows)
    assert table["body"].to_list() == [fact[0] for fact in facts]
    assert table["due_ns"].to_list() == table["sent_ns"].to_list() == [fact[1] for fact in facts]
    assert table["done_ns"].to_list() == [fact[2] for fact in facts]
    assert table["outcome"].to_list() == [fact[3].label for fact in facts]
    assert table["response_bytes"].to_list() == [fact[4] for fact in facts]
    assert table["flushed_ns"].null_count() == table["first_byte_ns"].null_count() == len(facts)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no block can be allocated the journal says which file and why, and leaves no empty segment behind."""

    def full(_descriptor: int, _size_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_allocate", full)
    with pytest.raises(FleetError, match=r"worker-00000-000000.rows: cannot keep another row: No space left"):
        Journal(tmp_path, worker=0)
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_taken_before_rows_are_written(tmp_path: Path) -> None:
    """A segment's blocks are on the disk before its first row: a full disk can never strike inside a row."""
    with Journal(tmp_path, worker=0):
        (segment,) = tmp_path.iterdir()
        assert segment.stat().st_blocks * 512 >= segment.stat().st_size == journal.SEGMENT_ROWS * 80
