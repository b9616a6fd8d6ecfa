"""Tracks in answers: every signature read, and nothing that a server may send makes the reader fail."""

import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from loadgen import tracks

DATATYPES = {"<f4": "FP32", "<f8": "FP64", "<i4": "INT32", "<i8": "INT64", "|u1": "UINT8"}


def answer(**outputs: npt.NDArray[np.generic]) -> bytes:
    """Return a serialised response with these outputs."""
    message = service_pb2.ModelInferResponse(model_name="traccc-gpu", model_version="1")
    for name, data in outputs.items():
        message.outputs.add(name=name, datatype=DATATYPES[data.dtype.str], shape=data.shape)
        message.raw_output_contents.append(data.tobytes())
    return bytes(message.SerializeToString())


def floats(*values: float) -> npt.NDArray[np.float32]:
    """Return an array as answers have them."""
    return np.array(values, dtype="<f4")


def odd(lengths: tuple[int, ...] = (3, 0, 2)) -> dict[str, npt.NDArray[np.generic]]:
    """Return the outputs of the ODD version of `traccc-gpu`: three tracks of five states."""
    return {
        "chi2": floats(10.0, 2.5, 7.0),
        "ndf": floats(5.0, 5.0, 2.0),
        "local_positions": np.zeros((5, 2), "<f4"),
        "local_positions_lengths": np.array(lengths, "<i4"),
        "variances": np.zeros((5, 2), "<f4"),
    }


def test_odd_has_an_entry_a_track() -> None:
    """Tracks, chi2 and ndf of the ODD answer come out as they went in."""
    found = tracks.decode(answer(**odd()))
    assert (found.form, found.tracks, found.reason) == ("ODD", 3, "")
    assert found.chi2.tolist() == [10.0, 2.5, 7.0]
    assert found.ndf.tolist() == [5.0, 5.0, 2.0]


def test_odd_v2_is_an_entry_an_event() -> None:
    """The earlier ODD answer has one chi2, which does not say how many tracks there are: unknown, not one."""
    found = tracks.decode(answer(chi2=floats(9.0), ndf=floats(4.0), covariances=np.zeros((3, 2, 2), "<f4")))
    assert (found.form, found.tracks, found.chi2.tolist(), found.ndf.tolist()) == ("ODD v2", None, [9.0], [4.0])
    assert "does not say how many tracks" in found.reason


def test_itk_has_chi2_and_ndf_in_front() -> None:
    """Of the eight columns of TRK_PARAMS the first two are chi2 and ndf; a row is a track."""
    table = np.arange(16, dtype="<f4").reshape(2, 8)
    found = tracks.decode(answer(TRK_PARAMS=table, MEASUREMENTS=np.zeros((0, 6), "<f4")))
    assert (found.form, found.tracks, found.reason) == ("ITk", 2, "")
    assert found.chi2.tolist() == [0.0, 8.0]
    assert found.ndf.tolist() == [1.0, 9.0]


def test_itk_of_five_columns_has_no_chi2() -> None:
    """TRK_PARAMS with five columns counts tracks and does not pass l0 and l1 off as chi2 and ndf."""
    found = tracks.decode(answer(TRK_PARAMS=np.ones((4, 5), "<f4")))
    assert (found.tracks, found.chi2.size, found.ndf.size) == (4, 0, 0)
    assert "5 columns" in found.reason


@pytest.mark.parametrize("columns", [5, 8])
def test_no_track_is_none_found(columns: int) -> None:
    """An event without a track has 0 of them, which is known."""
    assert tracks.decode(answer(TRK_PARAMS=np.ones((0, columns), "<f4"))).tracks == 0


def test_the_raw_form_counts_its_tracks() -> None:
    """TRACKS begins with four counts, of which the second is tracks."""
    content = struct.pack("<4Q", 7, 2, 9, 1) + bytes(19)
    found = tracks.decode(answer(TRACKS=np.frombuffer(content, "u1")))
    assert (found.form, found.tracks, found.chi2.size) == ("raw", 2, 0)


def test_labels_say_nothing() -> None:
    """The oldest answers have LABELS alone: no figure, and a reason."""
    found = tracks.decode(answer(LABELS=np.array([1], "<i8")))
    assert (found.form, found.tracks) == ("labels", None)
    assert found.reason


def test_other_models_are_named_unknown() -> None:
    """Outputs that are not traccc's are listed in the reason."""
    assert tracks.decode(answer(OUTPUT0=floats(1.0))).reason == "no known form of tracks: OUTPUT0"


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (b"\xff\xff", "is no ModelInferResponse"),
        (answer(**odd() | {"ndf": floats(1.0)}), "chi2 has 3 entries, ndf 1"),
        (answer(**odd((3, 2))), "local_positions_lengths: 2 entries for 3 tracks"),
        (answer(**odd() | {"chi2": np.zeros(3, "<i4")}), "chi2: is of int32"),
        (answer(TRK_PARAMS=np.zeros(8, "<f4")), "TRK_PARAMS: [8] is no table"),
        (answer(TRACKS=np.zeros(31, "u1")), "TRACKS: 31 bytes"),
        (answer(TRACKS=np.frombuffer(struct.pack("<4Q", 0, 1 << 60, 0, 0), "u1")), "too few for 0 measurements"),
    ],
)
def test_what_does_not_fit_is_said(response: bytes, words: str) -> None:
    """A malformed answer has no figure, and a reason that names what does not fit."""
    found = tracks.decode(response)
    assert (found.form, found.tracks, found.chi2.size) == ("malformed", None, 0)
    assert words in found.reason


def test_positions_that_do_not_fit_leave_the_tracks() -> None:
    """States that are not as many as the positions cast no doubt on how many tracks there are, but are said."""
    found = tracks.decode(answer(**odd((1, 1, 1))))
    assert found.tracks == 3
    assert found.reason == "local_positions: 5 rows for 3 states"


def test_a_shape_that_does_not_fit_its_bytes_is_said() -> None:
    """Bytes that are too few for the shape are refused, also if the shape is huge or negative."""
    for shape in ((3, 8), (1 << 62, 8), (-1, 8), (8, 0)):
        message = service_pb2.ModelInferResponse()
        message.outputs.add(name="TRK_PARAMS", datatype="FP32", shape=shape)
        message.raw_output_contents.append(bytes(32))
        assert "do not fit" in tracks.decode(message.SerializeToString()).reason


def test_too_many_dimensions_are_said() -> None:
    """A shape of more dimensions than arrays can have is a reason, not an exception."""
    message = service_pb2.ModelInferResponse()
    message.outputs.add(name="TRK_PARAMS", datatype="UINT8", shape=(1,) * 70)
    message.raw_output_contents.append(b"1")
    assert tracks.decode(message.SerializeToString()).reason == "TRK_PARAMS: has 70 dimensions"


names = st.sampled_from(
    ["chi2", "ndf", "local_positions", "local_positions_lengths", "TRK_PARAMS", "TRACKS", "LABELS"]
)
outputs = st.tuples(
    names,
    st.sampled_from(["FP32", "FP64", "INT32", "INT64", "UINT64", "UINT8", "BYTES", "FP16", "BF16", "BOOL", "?"]),
    st.lists(st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)), max_size=3),
    st.binary(max_size=64),
)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(response: bytes) -> None:
    """Whatever bytes come, something is found or a reason is given."""
    found = tracks.decode(response)
    assert found.tracks is not None or found.reason


@given(st.lists(outputs, max_size=4), st.integers(-1, 1))
def test_any_outputs_are_read(given_outputs: list[tuple[str, str, list[int], bytes]], missing: int) -> None:
    """Whatever outputs of known names hold, the reader neither fails nor finds fewer chi2 than it says tracks."""
    message = service_pb2.ModelInferResponse()
    for name, datatype, shape, content in given_outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(content)
    if missing == 1:
        message.raw_output_contents.append(b"")
    found = tracks.decode(message.SerializeToString())
    assert found.tracks is not None or found.reason
    assert found.chi2.size == found.ndf.size
    assert found.tracks is None or found.chi2.size in {0, found.tracks}


@given(
    st.integers(0, 5), st.integers(0, 5), st.sampled_from([0, 4, 16, 20, 40, 160]), st.sampled_from(["FP32", "INT32"])
)
def test_small_tables_are_read(rows: int, columns: int, size: int, datatype: str) -> None:
    """Tables of any small shape and size are read or refused, for their size or type, with a reason, never half."""
    message = service_pb2.ModelInferResponse()
    message.outputs.add(name="TRK_PARAMS", datatype=datatype, shape=(rows, columns))
    message.raw_output_contents.append(bytes(size))
    found = tracks.decode(message.SerializeToString())
    wrong = rows * columns * 4 != size or (rows > 0 and columns == 0) or datatype != "FP32"
    assert (found.form == "malformed") == wrong
    assert found.tracks == (None if wrong else rows)
