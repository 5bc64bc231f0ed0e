"""One object under several keys is one value."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed.metrics import context_meter

from overspill import SpillBuffer


@pytest.fixture
def roomy(tmp_path):
    """A buffer of a million bytes."""
    with SpillBuffer(str(tmp_path), target=1_000_000) as made:
        yield made


def test_it_is_weighed_spilled_and_read_once(roomy):
    """4568 of Dask's list: the same array as the result of three tasks."""
    array = np.random.default_rng(1).random(10_000)
    for key in ("a", "b", ("c", 0)):
        roomy[key] = array
    assert len(roomy) == 3 and set(roomy) == {"a", "b", ("c", 0)}
    assert roomy.fast.total_weight == sizeof(array)
    assert roomy.fast.weights == {key: sizeof(array) for key in roomy}
    weight = sizeof(array)
    del array
    assert roomy.evict() == weight
    assert not roomy.fast and set(roomy.slow) == {"a", "b", ("c", 0)}
    assert roomy.spilled_total.memory == weight
    first = roomy["a"]
    assert roomy["b"] is first and roomy["c", 0] is first
    metrics = roomy.cumulative_metrics
    assert metrics["disk-write", "count"] == metrics["disk-read", "count"] == 1


def test_it_stays_until_the_last_key_goes(roomy):
    array = np.arange(1000.0)
    roomy["a"] = roomy["b"] = array
    del roomy["a"]
    assert "a" not in roomy and roomy["b"] is array
    assert roomy.fast.total_weight == sizeof(array)
    roomy.evict()
    del array
    assert (roomy["b"] == np.arange(1000.0)).all()
    del roomy["b"]
    assert not roomy and roomy.fast.total_weight == 0 and roomy.spilled_total == (0, 0)


def test_a_key_that_gets_another_value_leaves_the_others_alone(roomy):
    array, other = np.arange(1000.0), np.zeros(10)
    roomy["a"] = roomy["b"] = array
    roomy["a"] = other
    assert roomy["a"] is other and roomy["b"] is array
    assert roomy.fast.total_weight == sizeof(array) + sizeof(other)
    roomy["b"] = other
    assert roomy["b"] is other and roomy.fast.total_weight == sizeof(other)


def test_it_is_found_again_after_it_was_read_back(roomy):
    roomy["a"] = np.arange(1000.0)
    roomy.evict()
    roomy["b"] = roomy["a"]
    assert roomy.fast.total_weight == sizeof(roomy["a"])
    roomy["b"][0] = 7
    roomy.evict()
    assert roomy["a"][0] == roomy["b"][0] == 7


def test_it_is_known_while_somebody_else_lets_go_of_it(roomy):
    """A reader that is slow to return holds a value that was evicted and read again meanwhile, under either of its keys.
    When it lets go, the object is still known to be in memory."""
    array = np.random.default_rng(1).random(1000)
    weight = sizeof(array)
    roomy["a"] = roomy["b"] = array
    assert roomy.evict() == weight
    del array
    read, go = threading.Event(), threading.Event()

    def slow_reader():
        def pause(label, *_):
            # which is told once the value is in memory
            if label == "disk-read":
                read.set()
                assert go.wait(60)

        with context_meter.add_callback(pause):
            roomy["a"]

    reader = threading.Thread(target=slow_reader)
    reader.start()
    assert read.wait(60)
    try:
        assert set(roomy.fast) == {"a", "b"}
        # the reader has it still
        assert roomy.evict() == weight and set(roomy.slow) == {"a", "b"}
        again = roomy["b"]
        assert set(roomy.fast) == {"a", "b"}
    finally:
        go.set()
        reader.join()
    assert set(roomy.fast) == {"a", "b"} and not roomy.slow
    roomy["c"] = again
    assert len(roomy) == 3 and roomy.fast.total_weight == weight
    for key in "abc":
        assert roomy[key] is again
    assert roomy.evict() == weight and not roomy.fast and set(roomy.slow) == {"a", "b", "c"}


def test_equal_objects_are_not_the_same(roomy):
    roomy["a"], roomy["b"] = [1, 2, 3], [1, 2, 3]
    roomy["a"].append(4)
    assert roomy["b"] == [1, 2, 3]
    assert roomy.fast.total_weight == sum(roomy.fast.weights.values())


def test_an_object_set_again_under_its_key_is_weighed_anew(roomy):
    grown = bytearray(100)
    roomy["a"] = grown
    grown.extend(bytes(10_000))
    roomy["a"] = grown
    assert roomy.fast.weights == {"a": sizeof(grown)}


def test_an_address_used_again_is_not_taken_for_the_old_object(roomy):
    """Objects that died leave their place to others, which are values of their own."""
    for n in range(2000):
        roomy[n] = np.full(4, float(n))
        if n % 3 == 0:
            roomy.evict()
        if n % 5 == 0:
            del roomy[n]
    assert {n: roomy[n][0] for n in roomy} == {n: n for n in range(2000) if n % 5}


def test_threads_that_share_and_replace(tmp_path):
    """A reader of a key that is always there never misses it, and sees a whole value of it."""
    with SpillBuffer(str(tmp_path), target=5_000, writers=1) as buffer:
        pool = [np.full(100, float(n)) for n in range(8)]
        keys = [f"k{n}" for n in range(6)]
        for key in keys:
            buffer[key] = pool[0]
        stop, errors = threading.Event(), []

        def write(seed):
            source = np.random.default_rng(seed)
            try:
                for _ in range(1500):
                    key, value = keys[source.integers(6)], pool[source.integers(8)]
                    buffer[key] = value.copy() if source.integers(2) else value
            except BaseException as error:
                errors.append(error)

        def read():
            try:
                while not stop.is_set():
                    for key in keys:
                        value = buffer[key]
                        assert (value == value[0]).all() and value[0] in range(8)
                    buffer.evict()
            except BaseException as error:
                errors.append(error)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in writers + readers:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in readers:
            thread.join()
        assert not errors, errors
        assert len(buffer) == 6
        for key in keys:
            del buffer[key]
        assert buffer.fast.total_weight == 0 and buffer.spilled_total == (0, 0)
