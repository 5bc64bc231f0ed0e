"""``SpillBuffer`` against the rows of the parity list."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections.abc import MutableMapping

import numpy as np
import pytest
from dask import config
from dask.sizeof import sizeof
from distributed import profile
from distributed.utils import RateLimiterFilter

from overspill import SpillBuffer


class Unpicklable:
    """Weighs what it is told and cannot be serialised."""

    def __init__(self, size):
        self.size = size

    def __sizeof__(self):
        return self.size

    def __getstate__(self):
        raise ZeroDivisionError("not to be serialised")


class Tracked:
    """Weighs 600 bytes and gets another number each time it is read back."""

    __slots__ = ("number", "__weakref__")

    def __init__(self):
        self.number = uuid.uuid4()

    def __sizeof__(self):
        return 600

    def __reduce__(self):
        return Tracked, ()


def test_placement_is_exact_after_each_call(buffer):
    a, b, c = "a" * 400, "b" * 400, "c" * 400
    buffer["a"], buffer["b"] = a, b
    assert set(buffer.fast) == {"a", "b"} and not buffer.slow
    buffer["c"] = c
    assert dict(buffer.fast) == {"b": b, "c": c} and dict(buffer.slow) == {"a": a}
    assert buffer["a"] == a
    assert set(buffer.fast) == {"a", "c"} and set(buffer.slow) == {"b"}
    assert buffer.fast.weights == {"a": sizeof(a), "c": sizeof(c)}
    assert buffer.fast.total_weight == sizeof(a) + sizeof(c)
    del buffer["b"]
    with pytest.raises(KeyError):
        buffer["b"]
    buffer["heavy"] = "h" * 2000
    assert set(buffer.slow) == {"heavy"}


class Watching:
    """Weighs a mebibyte, and notes what is in fast memory while it is read back."""

    buffer = None
    seen: list[int] = []

    def __sizeof__(self):
        return 1 << 20

    def __setstate__(self, _):
        Watching.seen.append(Watching.buffer.fast.total_weight)

    def __getstate__(self):
        return 1


def test_where_the_caller_spills_a_large_value_has_its_room_before_it_is_read(tmp_path):
    with SpillBuffer(str(tmp_path), target=4 << 20) as buffer:
        Watching.buffer, Watching.seen = buffer, []
        for n in range(6):
            buffer[n] = Watching()
        for n in (0, 1, 2, 0, 1):
            buffer[n]
            assert n in buffer.fast
        held = len(buffer.fast)
        assert buffer.fast.total_weight <= 4 << 20
        # the first is not known to be large
        assert len(Watching.seen) >= 3
        assert all(weight <= (held - 1) * sizeof(Watching()) for weight in Watching.seen[1:]), Watching.seen
        Watching.buffer = None


def test_a_live_value_is_not_read_twice_and_keeps_its_identity(buffer):
    """B01: the value itself comes back while somebody keeps it alive; once nobody does, another one."""
    value = Tracked()
    buffer["x"] = value
    buffer.evict()
    assert "x" in buffer.slow and buffer["x"] is value
    number = value.number
    buffer.evict()
    del value
    with profile.lock:
        pass
    assert buffer["x"].number != number


def test_a_live_value_without_weak_references_is_read_again(buffer):
    """Z19: such values are not cached, and come back equal."""
    value = [1, 2, 3]
    buffer["x"] = value
    buffer.evict()
    assert buffer["x"] == value and buffer["x"] is not value
    other = np.arange(50.0)
    buffer["y"] = other
    buffer.evict(), buffer.evict()
    assert buffer["y"] is other


@pytest.mark.parametrize("compressor", ["adaptive", "zstd:1+shuffle8", "lz4+shuffle8"])
def test_compression_adapts_to_the_data(tmp_path, compressor):
    """B13: random bytes cost nothing beyond their own, and numbers that rise evenly shrink to a tenth; by default only
    where compressing takes less time than writing does, which a test cannot know."""
    with SpillBuffer(str(tmp_path), target=0, compressor=compressor) as buffer:
        for n in range(16):
            buffer["even", n] = np.arange(n, n + 50_000.0)
            buffer["random", n] = random.randbytes(400_000)
        sizes = {key: size.disk for key, size in buffer.slow.weight_by_key.items()}
        most = 401_000 if compressor == "adaptive" else 40_000
        assert all(disk < most for (kind, _), disk in sizes.items() if kind == "even")
        assert all(400_000 <= disk < 401_000 for (kind, _), disk in sizes.items() if kind == "random")
        assert (buffer["even", 3] == np.arange(3, 50_003.0)).all()


@pytest.mark.parametrize("word, bytes_on_disk", [("none", 400_000), ("lz4", 0)])
def test_the_compressor_of_the_environment_is_taken_by_its_name(tmp_path, word, bytes_on_disk):
    with config.set(config.collect_env({"DASK_OVERSPILL__COMPRESSOR": word})):
        with SpillBuffer(str(tmp_path), target=0) as buffer:
            buffer["zeros"] = np.zeros(50_000)
            assert bytes_on_disk <= buffer.spilled_total.disk <= bytes_on_disk + 10_000


def test_weights_are_those_of_dask(buffer, caplog):
    """B02: ``sizeof`` weighs, and one that fails counts a million bytes and is warned of."""

    class Fails:
        def __sizeof__(self):
            raise ZeroDivisionError

    for value in ([1, 2, 3], b"", b"x" * 500, "text", 7):
        buffer["a"] = value
        assert buffer.fast.weights == {"a": sizeof(value)}
    with caplog.at_level(logging.WARNING):
        with SpillBuffer(target=10**7) as roomy:
            roomy["b"] = Fails()
            assert roomy.fast.weights == {"b": 10**6}
    assert "Sizeof calculation" in caplog.text


def test_spilled_sizes_are_sums(buffer):
    """B03: the total is the sum of what each key takes, and empty again in the end."""
    for n in range(10):
        buffer[n] = random.randbytes(400)
    sizes = buffer.slow.weight_by_key
    assert len(sizes) == 8
    assert buffer.spilled_total.memory == sum(size.memory for size in sizes.values())
    assert buffer.spilled_total.disk == sum(size.disk for size in sizes.values())
    assert buffer.spilled_total - buffer.spilled_total == (0, 0)
    buffer.clear()
    assert buffer.spilled_total == (0, 0)


def test_max_spill_refuses_what_would_pass_it(tmp_path, caplog):
    """B04: nothing is lost, and the reason is logged; 0 spills nothing."""
    RateLimiterFilter.reset_timer("distributed.spill")  # which other tests may have started
    with SpillBuffer(str(tmp_path), target=1000, max_spill=1500) as buffer:
        for n in range(10):
            buffer[n] = random.randbytes(600)
        assert len(buffer) == 10 and buffer.spilled_total.disk <= 1500
        assert "reached capacity" in caplog.text
    with SpillBuffer(str(tmp_path), target=0, max_spill=0) as buffer:
        buffer["a"] = "value"
        assert buffer.evict() == -1 and dict(buffer.fast) == {"a": "value"}


@pytest.mark.parametrize("where", ["argument", "configuration"])
@pytest.mark.parametrize("size", ["3 kiB", "3.072 kB", "3072", 3072])
def test_max_spill_is_a_number_or_a_text(tmp_path, where, size):
    """S03, B04: units are decimal or binary, as everywhere in Dask."""
    setting = {"max_spill": size} if where == "argument" else {}
    with config.set({"distributed.worker.memory.max-spill": size if not setting else False}):
        buffer = SpillBuffer(tmp_path, target="1 kB", **setting)
    with buffer:
        assert buffer.target == 1000
        for n in range(10):
            buffer[n] = random.randbytes(900)
        # three records and no fourth
        assert len(buffer.slow) == 3 and buffer.spilled_total.disk <= 3072


@pytest.mark.parametrize("where", ["max_spill", "target", "distributed.worker.memory.max-spill"])
def test_a_size_that_is_none_is_refused(tmp_path, where):
    """The error names the setting and what was given, and nothing is left behind."""
    configured = "." in where
    setting = {"target": 1000} | ({} if configured else {where: "much"})
    with config.set({where: "much"} if configured else {}):
        with pytest.raises(ValueError, match=f"{where} is 'much'; expected bytes"):
            SpillBuffer(tmp_path, **setting)
    assert not os.listdir(tmp_path)


def test_a_heavy_unpicklable_value_is_kept_and_raised(buffer):
    """B05: kept in memory with the error raised; an argument chooses that it is forgotten, as by Dask."""
    with pytest.raises(TypeError):
        buffer["a"] = Unpicklable(2000)
    assert "a" in buffer.fast
    with SpillBuffer(target=1000, as_dask=True) as dask:
        with pytest.raises(TypeError):
            dask["a"] = Unpicklable(2000)
        assert "a" not in dask and len(dask) == 0


def test_another_keys_failure_is_logged_and_raised_to_nobody(buffer, caplog):
    """B06, B07, B12, S35: it is logged once, the value stays, readers and writers of other keys go on."""
    buffer["bad"] = Unpicklable(600)
    buffer["a"] = "a" * 500
    buffer["b"] = "b" * 500
    assert buffer["a"] == "a" * 500 and buffer["b"] == "b" * 500
    assert "bad" in buffer.fast
    assert caplog.text.count("Failed to pickle 'bad'") == 1
    while set(buffer.fast) != {"bad"}:
        assert buffer.evict() > 0
    assert buffer.evict() == -1 and "bad" in buffer.fast
    del buffer["bad"]
    assert buffer.evict() == -1 and not buffer.fast


def test_keys_of_all_types_are_kept_apart(buffer):
    """B09: `1` and `"1"` are two keys, and each comes back as what it was."""
    keys = [1, "1", b"1", ("1",), ("x", 0, 1), 1.5, 2**70, -(2**70), None, "\udcff", ("a", ("b", 2))]
    for n, key in enumerate(keys):
        buffer[key] = n
    assert set(buffer) == set(keys) and len(buffer) == len(keys)
    while buffer.fast:
        buffer.evict()
    assert {key: buffer[key] for key in keys} == dict(zip(keys, range(len(keys))))
    assert buffer[1.0] == 0 and True in buffer
    assert object() not in buffer
    with pytest.raises(KeyError):
        buffer[object()]
    with pytest.raises(TypeError):
        buffer[[1]] = 1


def test_metrics_are_a_snapshot_under_dasks_names(buffer):
    """B10: counts, bytes and seconds of every step."""
    buffer["a"] = "a" * 500
    _ = buffer["a"]
    buffer.evict()
    _ = buffer["a"]
    metrics = buffer.cumulative_metrics
    assert metrics["memory-read", "count"] == 1
    assert metrics["memory-read", "bytes"] == sizeof("a" * 500)
    assert metrics["disk-write", "count"] == metrics["disk-read", "count"] == 1
    assert metrics["serialize", "seconds"] > 0 and metrics["deserialize", "seconds"] > 0
    assert buffer.cumulative_metrics is not metrics


def test_nothing_is_raised_where_a_thread_spills(tmp_path):
    """B05: whoever sets a value does not wait for its serialisation, and is not told of it by chance."""
    with SpillBuffer(str(tmp_path), target=1000, writers=1) as buffer:
        for n in range(50):
            buffer[n] = Unpicklable(2000)
        end = time.monotonic() + 60
        while buffer.logged_pickle_errors != set(range(50)):
            assert time.monotonic() < end, "not all were tried"
            time.sleep(0.001)
        assert set(buffer.fast) == set(range(50))


def test_pop_works(buffer):
    """B11: the value comes back, spilled or not; by Dask's rules it is refused."""
    buffer["a"] = "a"
    buffer.evict()
    assert buffer.pop("a") == "a" and buffer.pop("a", None) is None
    with SpillBuffer(target=1000, as_dask=True) as dask, pytest.raises(NotImplementedError):
        dask.pop("a", None)


def test_fast_is_tested_for_emptiness(buffer):
    """S36: and is a mapping besides."""
    assert not buffer.fast
    buffer["a"] = 1
    assert buffer.fast and len(buffer.fast) == 1


def test_closing_leaves_nothing_behind(tmp_path):
    """Z24, B08: as a context manager, after a failed write too."""
    with SpillBuffer(str(tmp_path), target=0, max_spill=2000) as buffer:
        for n in range(10):
            buffer[n] = random.randbytes(500)
        buffer.flush()
        assert os.listdir(tmp_path)
    assert not os.listdir(tmp_path)
    with pytest.raises(ValueError):
        buffer["a"] = 1


def test_it_is_a_mapping_and_can_be_subclassed(tmp_path):
    class Doubling(SpillBuffer):
        def __init__(self, directory):
            super().__init__(directory, target=1000)

        def __getitem__(self, key):
            return 2 * super().__getitem__(key)

    with Doubling(str(tmp_path)) as buffer, SpillBuffer(str(tmp_path)) as second:
        assert isinstance(buffer, MutableMapping)
        buffer.update(a=1, b=2)
        assert dict(buffer.items()) == {"a": 2, "b": 4}
        second["a"] = 5
        assert buffer["a"] == 2


def test_threads_see_their_own_writes(tmp_path):
    """Values carry their key, and are read while others spill them, here and on a thread of the buffer."""
    with SpillBuffer(str(tmp_path), target=20_000, writers=1) as buffer:
        errors = []

        def work(me):
            try:
                for n in range(300):
                    buffer[me, n] = bytes([me]) * 500
                    assert buffer[me, n // 2] == bytes([me]) * 500
                    if n % 10 == 0:
                        del buffer[me, n]
                        buffer[me, n] = bytes([me]) * 500
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(buffer) == 1200


def test_a_forked_child_gets_a_clear_error_and_leaves_the_parents_files(tmp_path):
    program = """
import os, sys, overspill
buffer = overspill.SpillBuffer(sys.argv[1], target=0)
buffer["a"] = b"x" * 100_000
if (child := os.fork()) == 0:
    try:
        buffer["a"]
    except RuntimeError as error:
        del buffer
        os._exit(3 if "forked" in str(error) else 4)
    os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert buffer["a"] == b"x" * 100_000
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)


def test_views_are_one_and_do_not_keep_the_buffer(tmp_path):
    """`memory is fast` and `disk is slow`, as Dask has it; a buffer goes with its last name."""
    buffer = SpillBuffer(str(tmp_path), target=1000)
    assert buffer.memory is buffer.fast and buffer.disk is buffer.slow
    alive = weakref.ref(buffer)
    del buffer
    assert alive() is None and not os.listdir(tmp_path)


def test_memory_is_listed_in_the_order_in_which_values_came_there(buffer):
    buffer["a"], buffer["b"] = b"a" * 300, b"b" * 300
    while buffer.fast:
        buffer.evict()
    assert buffer["b"] and buffer["a"]
    assert list(buffer.fast) == ["b", "a"] and not buffer.slow


def test_an_interpreter_without_its_lock_is_refused():
    """What the lock guards is guarded by nothing else."""
    program = "import sys; sys._is_gil_enabled = lambda: False; import overspill"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "ImportError: overspill needs the global interpreter lock" in run.stderr
