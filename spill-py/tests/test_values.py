"""Every value comes back as it was."""

from __future__ import annotations

import pickle

import numpy as np
import overspill
import pandas as pd
import pyarrow as pa
import pytest
from distributed.protocol import deserialize_bytes, serialize_bytes

ARRAYS = {
    "floats": np.arange(2000.0),
    "fortran": np.asfortranarray(np.arange(600.0).reshape(20, 30)),
    "strided": np.arange(4000)[::2],
    "broadcast": np.broadcast_to(np.float64(1), (50, 50)),
    "dates": np.arange("2000-01-01", "2004-01-01", dtype="datetime64[D]"),
    "text": np.array(["a", "bcd"] * 300),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(3.0),
    "structured": np.zeros(100, dtype=[("a", "i4"), ("b", "f8")]),
    "objects": np.array([None, "x", 1] * 50, dtype=object),
    "big": np.random.default_rng(0).random(1 << 17),
}


def spilled(buffer, value):
    """The value after it went to disk and was forgotten in memory."""
    buffer["key"] = value
    if "key" in buffer.fast:
        assert buffer.evict() >= 0
    assert "key" in buffer.slow
    return buffer


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_with_their_layout_and_writable_as_they_were(buffer, name):
    original = ARRAYS[name]
    stored = spilled(buffer, original.copy(order="K") if original.flags.writeable else original)
    judged = deserialize_bytes(serialize_bytes(original))
    back = stored["key"]
    assert back.dtype == judged.dtype and back.shape == judged.shape
    assert back.flags.writeable == judged.flags.writeable
    np.testing.assert_array_equal(back, original)


@pytest.mark.parametrize(
    "value",
    [b"", b"bytes" * 2000, "text \udcff", 7, None, {"a": [1, 2.5]}, bytearray(b"x" * 9000)],
    ids=["empty", "bytes", "text", "number", "none", "dict", "bytearray"],
)
def test_plain_values_come_back_equal_and_of_their_type(buffer, value):
    back = spilled(buffer, value)["key"]
    assert type(back) is type(value) and back == value


def test_frames_and_tables_come_back_equal(buffer):
    frame = pd.DataFrame({"n": np.arange(500), "s": [f"text {n}" for n in range(500)]})
    pd.testing.assert_frame_equal(spilled(buffer, frame.copy())["key"], frame)
    table = pa.table({"n": np.arange(500), "s": [f"text {n}" for n in range(500)]})
    del buffer["key"]
    assert spilled(buffer, table)["key"].equals(table)


def test_an_array_read_back_belongs_to_its_reader(buffer):
    """Writing to a value that storage may still hold in memory does not change what is stored."""
    buffer["a"] = np.zeros(100)
    buffer.evict()
    first = buffer.peek("a")
    first[:] = 1
    del first
    assert (buffer.peek("a") == 0).all()


def test_a_value_changed_in_place_after_it_was_read_back_is_written_again(buffer):
    for n in range(3):
        buffer[n] = np.full(100, float(n))
    assert 0 in buffer.slow
    buffer[0][:] = 42
    while 0 in buffer.fast:
        buffer.evict()
    assert (buffer[0] == 42).all()


# short, in several pieces of its digest, and of several frames
@pytest.mark.parametrize("value", [np.zeros(100), np.arange(100_001.0), [np.arange(9_000.0), "text", np.ones(300_000)]])
def test_an_unchanged_value_is_not_written_again(tmp_path, value):
    buffer = overspill.SpillBuffer(tmp_path / "b", target=1 << 30)
    expected = pickle.dumps(value)
    buffer["a"] = pickle.loads(expected)  # nobody else keeps it alive
    buffer.evict()
    written = buffer.cumulative_metrics["disk-write", "count"]
    assert pickle.dumps(buffer["a"]) == expected and "a" in buffer.fast
    buffer.evict()
    assert "a" in buffer.slow
    assert buffer.cumulative_metrics["disk-write", "count"] == written


@pytest.mark.parametrize("at", [0, 16_384, 99_999, 100_000])
def test_one_changed_byte_of_a_long_value_is_written(tmp_path, at):
    buffer = overspill.SpillBuffer(tmp_path / "b", target=1 << 30)
    buffer["a"] = np.zeros(100_001, dtype="u1")
    buffer.evict()
    buffer["a"][at] = 1
    buffer.evict()
    assert "a" in buffer.slow
    back = buffer["a"]
    assert back[at] == 1 and back.sum() == 1
