"""Our buffer in the place of `distributed.spill.SpillBuffer`, where Dask makes it itself.

What Dask's own tests of spilling and worker memory look at, in words of ours; docs/dask.md lists what cannot hold.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math

import distributed.spill
import distributed.worker_memory
import pytest
from distributed import wait
from distributed.utils_test import captured_logger, gen_cluster, inc

from overspill import SpillBuffer

DaskBuffer = distributed.spill.SpillBuffer
MEMORY = "distributed.worker.memory."


@pytest.fixture(autouse=True)
def swapped(monkeypatch):
    """Dask makes our buffer."""
    monkeypatch.setattr(distributed.spill, "SpillBuffer", SpillBuffer)
    monkeypatch.setattr(distributed.worker_memory, "SpillBuffer", SpillBuffer)


class Unpicklable:
    def __init__(self, size=0):
        self.size = int(size)

    def __getstate__(self):
        raise ZeroDivisionError

    def __sizeof__(self):
        return self.size


def test_in_the_place_of_dasks_it_keeps_dasks_rules(tmp_path, monkeypatch):
    """B05, B11: unless told otherwise, where Dask would make it, in either of the two modules."""
    with SpillBuffer(str(tmp_path), target=1000) as buffer:
        with pytest.raises(TypeError):
            buffer["bad"] = Unpicklable(2000)
        assert "bad" not in buffer
        with pytest.raises(NotImplementedError):
            buffer.pop("bad", None)
    with SpillBuffer(str(tmp_path), target=1000, as_dask=False) as buffer:
        assert buffer.pop("bad", None) is None
    monkeypatch.setattr(distributed.spill, "SpillBuffer", DaskBuffer)
    with SpillBuffer(str(tmp_path), target=1000) as buffer, pytest.raises(NotImplementedError):
        buffer.pop("bad", None)
    monkeypatch.setattr(distributed.worker_memory, "SpillBuffer", DaskBuffer)
    monkeypatch.setattr(distributed.spill, "SpillBuffer", functools.partial(SpillBuffer, compressor="none"))
    with distributed.spill.SpillBuffer(str(tmp_path), target=1000) as buffer:
        assert buffer.pop("bad", None) is None


@gen_cluster(client=True)
async def test_a_result_heavier_than_the_target_that_cannot_be_pickled_fails_its_task(c, s, a, b):
    """B05: by Dask's rules the worker forgets it and stays of use."""
    assert isinstance(a.data, SpillBuffer)
    bad = c.submit(Unpicklable, 100e9, key="bad")
    await wait(bad)
    assert bad.status == "error"
    with pytest.raises(TypeError, match="Failed to pickle 'bad'") as raised:
        await bad
    assert isinstance(raised.value.__cause__.__cause__, ZeroDivisionError)
    assert "bad" not in a.data and "bad" not in b.data
    assert await c.gather(c.map(inc, range(10))) == list(range(1, 11))


@gen_cluster(
    client=True,
    nthreads=[("", 1)],
    worker_kwargs={"memory_limit": "1 kiB"},
    config={MEMORY + "target": 0.5, MEMORY + "spill": False, MEMORY + "pause": False},
)
async def test_a_lighter_one_is_retained(c, s, a):
    bad = c.submit(Unpicklable, 256, key="bad")
    await wait(bad)
    text = c.submit(lambda: "y" * 256, key="text")
    await wait(text)
    assert bad.status == "finished" and set(a.data.memory) == {"bad", "text"} and not a.data.disk
    assert a.data.logged_pickle_errors == {"bad"}
    assert await c.gather(c.map(inc, range(10))) == list(range(1, 11))


@gen_cluster(
    client=True,
    nthreads=[("", 1)],
    worker_kwargs={"memory_limit": "1 kB"},
    config={MEMORY + "target": False, MEMORY + "spill": 0.7, MEMORY + "monitor-interval": "20ms"},
)
async def test_the_monitor_fails_to_evict(c, s, a):
    """B12: it is logged with its traceback, and the value stays."""
    a.monitor.get_process_memory = lambda: 701 if a.data.fast else 0
    with captured_logger("distributed.spill") as logs:
        bad = c.submit(Unpicklable, key="bad")
        await wait(bad)
        while not logs.getvalue():
            await asyncio.sleep(0.01)
    assert "Failed to pickle" in logs.getvalue() and "Traceback" in logs.getvalue()
    assert bad.status == "finished" and "bad" in a.data.fast
    assert await c.submit(inc, 1) == 2


@gen_cluster(
    client=True,
    nthreads=[("", 1)],
    worker_kwargs={"memory_limit": 1200 / 0.6},
    config={MEMORY + "target": 0.6, MEMORY + "spill": False, MEMORY + "pause": False},
)
async def test_the_target_alone(c, s, a):
    """S05: exact order on a worker."""
    futures = []
    for key in "xyz":
        futures.append(c.submit(lambda text: text * 500, key, key=key))
        await wait(futures)
    assert set(a.data) == {"x", "y", "z"}
    assert set(a.data.memory) == {"y", "z"} and set(a.data.disk) == {"x"}
    assert await futures[0] == "x" * 500
    assert set(a.data.memory) == {"x", "z"} and set(a.data.disk) == {"y"}


@pytest.mark.parametrize(("target", "managed", "spilled"), [(False, int(10e9), 1), (0.7, 0, 1), (0.4, 0, 7)])
def test_spilling_goes_from_one_threshold_to_the_other(target, managed, spilled):
    """W06: without a target, or with one at the spill threshold, there is no way between the two."""

    class Weighs:
        def __sizeof__(self):
            return managed

    config = {
        MEMORY + "target": target,
        MEMORY + "spill": 0.7,
        MEMORY + "pause": False,
        MEMORY + "monitor-interval": "10ms",
    }

    @gen_cluster(client=True, nthreads=[("", 1)], worker_kwargs={"memory_limit": "1000 MB"}, config=config)
    async def check(c, s, a):
        a.monitor.get_process_memory = lambda: 50_000_000 * len(a.data.fast)
        futures = c.map(lambda n: Weighs(), range(10), pure=False)
        await wait(futures)
        await asyncio.sleep(0.1)
        assert not a.data.disk
        futures += c.map(lambda n: Weighs(), range(5), pure=False)
        await wait(futures)
        while len(a.data.disk) < spilled:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(a.data.disk) == spilled

    check()


def test_capacity_is_logged_once_in_a_while(tmp_path):
    """B04, B06: by the rules of Dask's own logger."""
    import random

    for known in logging.getLogger("distributed.spill").filters:
        known._last_seen = -math.inf  # what other tests logged
    buffer = SpillBuffer(str(tmp_path), target=200, max_spill=600)
    with captured_logger(logging.getLogger("distributed.spill")) as logs:
        for n in range(10):
            buffer[n] = random.randbytes(190)
    assert logs.getvalue().count("disk reached capacity") == 1
    assert len(buffer) == 10 and buffer.spilled_total.disk <= 600
