"""The leaf stores, alone and inside zict's own mappings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zict

import overspill

HERE = Path(__file__).parent


@pytest.fixture(params=["Segments", "Files", "Objects", "S3"])
def store(request, tmp_path):
    """Each store in a place of its own."""
    if request.param == "S3":
        made = overspill.Objects(request.getfixturevalue("s3").url(tmp_path.name))
    elif request.param == "Objects":
        made = overspill.Objects(f"file://{tmp_path}")
    else:
        made = getattr(overspill, request.param)(tmp_path)
    with made:
        yield made


def test_many_pairs_at_once(store):
    """As `dict.update` takes them; large ones in several batches."""
    large = {f"large {n}": os.urandom(3 << 20) for n in range(7)}
    store.update(large, small=b"1")
    store.update((name, name.encode()) for name in ("a", "b", "a"))
    store.update()
    assert dict(store) == {**large, "small": b"1", "a": b"a", "b": b"b"}
    with pytest.raises(TypeError):
        store.update([("c", b"c"), ("d", 1)])
    assert store["c"] == b"c" and "d" not in store
    with pytest.raises(TypeError, match="a key of a store is text"):
        store.update([["e", b"e"], [1, b"f"]])
    with pytest.raises(ValueError, match="not two things"):
        store.update([("f", b"f"), ("g", b"g", b"")])
    with pytest.raises(KeyError):
        store.update(raises_after({"h": b"h"}))
    with pytest.raises(KeyboardInterrupt):
        store.update(raises_after({"i": b"i"}, KeyboardInterrupt()))
    assert [store[key] for key in "efhi"] == [b"e", b"f", b"h", b"i"] and "g" not in store
    store.clear()
    assert not store and store.stored == (0, 0)
    store["a"] = b"again"
    assert dict(store) == {"a": b"again"}


def raises_after(pairs, error=KeyError("raised")):
    yield from pairs.items()
    raise error


def test_values_come_back_as_bytes_that_may_be_changed(store):
    store["x"] = b"123"
    store["list"] = [b"123", memoryview(b"4567"), bytearray()]
    store["array"] = np.ones(5).data
    store["empty"] = b""
    assert store["x"] == b"123" and store["list"] == b"1234567" and store["empty"] == b""
    assert np.frombuffer(store["array"]).tolist() == [1.0] * 5
    back = store["x"]
    back[0] = 0
    assert store["x"] == b"123"
    assert set(store) == {"x", "list", "array", "empty"} and len(store) == 4
    assert store.stored[0] == 3 + 7 + 40
    with pytest.raises(TypeError):
        store["x"] = 123
    with pytest.raises(TypeError):
        store[1] = b""
    assert store["x"] == b"123"
    del store["x"]
    assert "x" not in store and store.pop("x", None) is None
    store.discard("x")


def test_a_limit_refuses_and_keeps_what_is_there(tmp_path):
    with overspill.Segments(tmp_path, max_bytes=3000) as store:
        store["a"] = os.urandom(2000)
        with pytest.raises(OSError, match="max_bytes"):
            store["b"] = os.urandom(2000)
        assert list(store) == ["a"] and len(store["a"]) == 2000
        # of a batch that does not fit, what fits is kept; what is replaced makes room
        with pytest.raises(OSError, match="max_bytes"):
            store.update({"c": os.urandom(500), "b": os.urandom(2000), "d": b"1"})
        assert set(store) == {"a", "c", "d"}
        store.update({"a": b"1", "b": os.urandom(2000)})
        assert set(store) == {"a", "b", "c", "d"} and store.stored[1] <= 3000


@pytest.mark.parametrize("compressor", ["adaptive", "lz4", "zstd:3", "none"])
def test_compressed_values_come_back(tmp_path, compressor):
    value = bytes(100_000)
    with overspill.Files(tmp_path, compressor=compressor) as store:
        store["a"] = value
        assert store["a"] == value
        _, disk = store.stored
        # an adaptive one may find that writing is faster
        least, most = {"none": (100_000, 101_000), "adaptive": (0, 101_000)}.get(compressor, (0, 10_000))
        assert least <= disk < most


def test_files_are_there_again_and_segments_are_not(tmp_path):
    with overspill.Files(tmp_path / "files") as store:
        store["a/b"] = b"value"
    with overspill.Files(tmp_path / "files") as store:
        assert dict(store) == {"a/b": b"value"}
    with overspill.Segments(tmp_path / "segments") as store:
        store["a"] = b"value"
    with overspill.Segments(tmp_path / "segments") as store:
        assert not store
    assert not os.listdir(tmp_path / "segments")


def test_inside_zicts_own_mappings(store):
    """Func, Buffer, Cache and Sieve over a store, as over `zict.File`; what is spilled comes back."""
    numbers = zict.Func(lambda n: str(n).encode(), lambda raw: int(bytes(raw)), store)
    buffer = zict.Buffer({}, zict.Cache(numbers, zict.WeakValueMapping()), n=3)
    for n in range(20):
        buffer[f"k{n}"] = n
    assert len(buffer.fast) == 3 and len(store) == 17
    assert {key: buffer[key] for key in list(buffer)} == {f"k{n}": n for n in range(20)}
    del buffer["k0"]
    assert "k0" not in buffer and "k0" not in store
    sieve = zict.Sieve({True: {}, False: store}, lambda key, value: len(value) < 3)
    sieve["short"], sieve["long"] = b"1", b"12345"
    assert sieve["long"] == b"12345" and "long" in store and "short" not in store


def test_a_forked_child_gets_a_clear_error(store):
    program = """
import os, sys, overspill
store = overspill.Segments(sys.argv[1])
store["a"] = b"value"
if (child := os.fork()) == 0:
    try:
        store["a"]
    except RuntimeError as error:
        os._exit(3 if "forked" in str(error) else 4)
    os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert store["a"] == b"value"
"""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    subprocess.run([sys.executable, "-c", program, "/tmp"], check=True, timeout=60, cwd=folder)


#: Tests of zict that cannot hold for a store, with the reason.
LEFT_OUT = {
    "Files": {
        "test_implementation": "looks at names and bytes of files on disk",
        "test_memmap_implementation": "looks at names of files on disk; expects writes to a mapped value to last",
        "test_contextmanager": "looks at names and bytes of files on disk",
        "test_delitem": "looks at names of files on disk",
        "test_arbitrary_chars": "opens a directory twice at a time, which a lock refuses here",
    },
}
LEFT_OUT["Segments"] = LEFT_OUT["Objects"] = {
    **LEFT_OUT["Files"],
    "test_arbitrary_chars": "expects the values in a second store; they go with the one that made them",
}


@pytest.mark.parametrize(("kind", "base"), [("Segments", ""), ("Files", ""), ("Objects", "file://"), ("Objects", "s3")])
def test_zicts_own_tests_of_file_hold(request, kind, base):
    """zict's wheel ships its tests: they run with our class in the place of `zict.File`."""
    if base == "s3":
        base = request.getfixturevalue("s3").url("zict")
    left_out = " and ".join(f"not {name}" for name in LEFT_OUT[kind])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "swap_file", "--pyargs"]
        + ["-c", os.devnull, "-W", "ignore", "zict.tests.test_file", "-k", left_out],
        env={**os.environ, "PYTHONPATH": str(HERE / "plugins"), "OVERSPILL_STORE": kind, "OVERSPILL_BASE": base},
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "8 passed" in run.stdout, run.stdout
