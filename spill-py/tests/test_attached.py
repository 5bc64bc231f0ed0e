"""A buffer that knows its worker: settings, the event loop, and what the dashboard is told."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref

import dask
import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed import Client, Scheduler, Worker, wait

import overspill
from overspill.dask import Spill

MEMORY = "distributed.worker.memory."

#: The process that runs the tests has more memory than the limits of these workers.
QUIET = {MEMORY + "spill": False, MEMORY + "pause": False}


async def until(true, seconds=30):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


def running(config=None, **worker):
    """A decorator: the test gets a client, and a worker of one thread whose buffer knows it."""

    def decorate(test):
        def run():
            async def with_cluster():
                async with (
                    Scheduler(port=0, dashboard_address=":0") as scheduler,
                    Worker(scheduler.address, nthreads=1, **{"data": overspill.SpillBuffer, **worker}) as one,
                    Client(scheduler.address, asynchronous=True) as client,
                ):
                    await test(client, scheduler, one)

            with dask.config.set({**QUIET, **(config or {})}):
                asyncio.run(with_cluster())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def chunk(n, size=1 << 17):
    return np.full(size, float(n))


@running({MEMORY + "target": 0.5}, memory_limit="100 MB")
async def test_the_target_is_that_of_the_worker(client, scheduler, worker):
    """S05: though Dask does not tell a container the memory limit."""
    assert worker.data.target == 50_000_000
    futures = client.map(chunk, range(80), pure=False)
    await wait(futures)
    await until(lambda: worker.data.fast.total_weight <= 50_000_000)
    assert worker.data.slow
    for n, back in enumerate(await client.gather(futures)):
        assert back[0] == back[-1] == n


@running({MEMORY + "target": False}, memory_limit="100 MB")
async def test_target_off(client, scheduler, worker):
    assert worker.data.target == sys.maxsize


async def _grow(client, worker, share):
    """Fifty values, and process memory that pretends to be a share of the limit while any is in memory."""
    futures = client.map(lambda n: bytes(1000 + n), range(50), pure=False)
    await wait(futures)
    worker.monitor.get_process_memory = lambda: (
        int(share * worker.memory_manager.memory_limit) if worker.data.fast else 0
    )
    return futures


QUICK = {MEMORY + "monitor-interval": "10ms"}


@running({**QUICK, MEMORY + "spill": False, MEMORY + "pause": 0.99}, memory_limit="10 GB")
async def test_the_spill_threshold_off(client, scheduler, worker):
    """S18: nothing is spilled however high process memory is; pausing acts by itself."""
    futures = await _grow(client, worker, 0.98)
    await asyncio.sleep(0.2)
    assert not worker.data.slow and worker.status.name == "running"
    worker.monitor.get_process_memory = lambda: 9_950_000_000
    await until(lambda: worker.status.name == "paused")
    assert not worker.data.slow and len(futures) == 50


@running({**QUICK, MEMORY + "pause": False, MEMORY + "spill": 0.7}, memory_limit="10 GB")
async def test_the_pause_threshold_off(client, scheduler, worker):
    """S18, S34: the worker spills and does not pause, however high process memory is."""
    futures = await _grow(client, worker, 0.99)
    await until(lambda: len(worker.data.slow) == 50)
    assert worker.status.name == "running"
    assert [len(value) for value in await client.gather(futures)] == [1000 + n for n in range(50)]


@running({**QUICK, **{MEMORY + name: False for name in ("target", "spill", "pause", "terminate")}})
async def test_all_thresholds_off(client, scheduler, worker):
    """S18: nothing is spilled and nothing is watched."""
    futures = await _grow(client, worker, 0.99)
    assert "memory_monitor" not in worker.periodic_callbacks
    await asyncio.sleep(0.1)
    assert not worker.data.slow and len(futures) == 50


@pytest.mark.parametrize("way", ["file", "environment", "flag"])
def test_thresholds_come_from_file_environment_and_flag(way, tmp_path):
    """S18, W01: a worker with the preload, told by each in turn."""
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path)}
    config = "distributed:\n  worker:\n    memory:\n      target: 0.25\n      spill: false\n"
    flags = {}
    if way == "file":
        (tmp_path / "distributed.yaml").write_text(config)
    elif way == "environment":
        environment["DASK_DISTRIBUTED__WORKER__MEMORY__TARGET"] = "0.25"
        environment["DASK_DISTRIBUTED__WORKER__MEMORY__SPILL"] = "False"
    else:
        flags = {MEMORY + "target": 0.25, MEMORY + "spill": False}
    program = """
import asyncio, json, sys, dask
from distributed import Scheduler, Worker
async def main():
    async with Scheduler(port=0, dashboard_address=":0") as scheduler, Worker(
        scheduler.address, memory_limit="1 GB", preload=["overspill.dask"]
    ) as worker:
        manager = worker.memory_manager
        kind = type(worker.data).__module__
        print(json.dumps([kind, worker.data.target, manager.memory_spill_fraction, worker.state.data is worker.data]))
dask.config.set(json.loads(sys.argv[1]))
asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(flags)],
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert json.loads(run.stdout) == ["overspill.spill", 250_000_000, False, True]


def test_a_plain_container_is_never_evicted_from():
    """S33: with a dictionary as `data`, target and spill are off."""

    @running({**QUICK, MEMORY + "spill": 0.7}, data=dict, memory_limit="10 GB")
    async def check(client, scheduler, worker):
        futures = client.map(chunk, range(200), pure=False)
        await wait(futures)
        worker.monitor.get_process_memory = lambda: 9_500_000_000
        await asyncio.sleep(0.1)
        assert type(worker.data) is dict and len(worker.data) == 200

    check()


def test_weights_of_common_types_are_what_they_hold(tmp_path):
    """S04: within a tenth of the memory that is really theirs; their sum is managed memory after any calls."""
    import pandas as pd
    import pyarrow as pa

    numbers = np.arange(100_000, dtype="f8")
    table = pa.table({"n": numbers, "s": [f"text {n}" for n in range(100_000)]})
    texts = [f"a longer text with number {n}" for n in range(10_000)]
    held = {
        "bytes": (bytes(500_000), 500_000),
        "bytearray": (bytearray(500_000), 500_000),
        "array": (numbers, numbers.nbytes),
        "frame": (pd.DataFrame({"a": numbers, "b": numbers + 1}), 2 * numbers.nbytes),
        "table": (table, table.nbytes),
        "texts": (texts, sum(map(sys.getsizeof, texts)) + 8 * len(texts)),
    }
    with overspill.SpillBuffer(str(tmp_path), target=10**9) as buffer:
        for name, (value, really) in held.items():
            buffer[name] = value
            # of long lists Dask weighs a sample, so this is not exact
            assert sizeof(value) == pytest.approx(really, rel=0.1), name
            assert buffer.fast.weights[name] == pytest.approx(really, rel=0.1), name
        weights = buffer.fast.weights
        total = sum(weights.values())
        assert buffer.fast.total_weight == total
        buffer["array"] = numbers[:10].copy()
        buffer.evict()
        del buffer["texts"]
        assert buffer["bytes"] == bytes(500_000)
        managed = buffer.fast.total_weight + buffer.spilled_total.memory
        assert managed == total - weights["array"] + sizeof(numbers[:10].copy()) - weights["texts"]


def test_the_plugin_moves_what_a_running_worker_holds():
    """In memory and spilled; tasks go on meanwhile."""
    config = {MEMORY + "target": 0.1, MEMORY + "spill": False, MEMORY + "pause": False}

    @running(config, data=None, memory_limit="100 MB")
    async def check(client, scheduler, worker):
        futures = client.map(chunk, range(30), pure=False)
        await wait(futures)
        old = worker.data
        assert not isinstance(old, overspill.SpillBuffer) and old.slow and old.fast
        more = client.map(lambda array, n: array[0] + n, futures, range(30))
        await client.register_plugin(Spill(compressor="lz4"))
        data = worker.data
        assert isinstance(data, overspill.SpillBuffer) and worker.state.data is data
        assert data.target == 10_000_000 and not len(old)
        assert await client.gather(more) == [2 * n for n in range(30)]
        for n, back in enumerate(await client.gather(futures)):
            assert back[0] == back[-1] == n
        await until(lambda: data.fast.total_weight <= 10_000_000)
        assert data.slow
        await client.register_plugin(Spill())  # once more changes nothing
        assert worker.data is data

    check()


@running({MEMORY + "target": 0.1, MEMORY + "spill": False}, memory_limit="100 MB")
async def test_inputs_are_read_off_the_loop(client, scheduler, worker):
    """Before a task runs and before another worker gets them: the loop's own thread reads nothing back."""
    loop_thread = threading.get_ident()
    readers = []

    futures = client.map(chunk, range(30), pure=False)
    await wait(futures)
    await until(lambda: worker.data.fast.total_weight <= 10_000_000)
    slow = len(worker.data.slow)
    assert slow >= 20

    original = worker.data._attached._read
    hook = lambda keys: (readers.append(threading.get_ident()), original(keys))[1]
    worker.data._attached._read = hook
    before = worker.data.cumulative_metrics.get(("disk-read", "count"), 0)

    class Spy:
        def __enter__(self):
            self.counted = 0
            from distributed.metrics import context_meter

            # what the loop's own context reads
            self.manager = context_meter.add_callback(self.note)
            self.manager.__enter__()
            return self

        def note(self, label, value, unit):
            if label == "disk-read" and threading.get_ident() == loop_thread:
                self.counted += 1

        def __exit__(self, *error):
            self.manager.__exit__(*error)

    with Spy() as spy:
        sums = client.map(lambda array: array.sum(), futures)
        assert await client.gather(sums) == [n * float(1 << 17) for n in range(30)]
        for n, back in enumerate(await client.gather(futures)):
            assert back[0] == n
    assert worker.data.cumulative_metrics["disk-read", "count"] > before
    assert readers and loop_thread not in readers and spy.counted == 0


@running({MEMORY + "target": 0.1, MEMORY + "spill": False}, memory_limit="100 MB")
async def test_background_work_is_told_to_dask(client, scheduler, worker):
    """B10: what is read is booked to the task that needed it, what is written to the worker, with no call of ours."""
    futures = client.map(chunk, range(30), pure=False)
    await wait(futures)
    await until(lambda: worker.data.fast.total_weight <= 10_000_000)
    sums = client.map(lambda array: array.sum(), futures)
    await wait(sums)

    def totals(context, label, unit):
        names = [name for name in worker.digests_total if name[0] == context and name[-2:] == (label, unit)]
        return sum(worker.digests_total[name] for name in names)

    def told():
        return totals("memory-monitor", "disk-write", "count") >= 20 and totals("execute", "disk-read", "count")

    await until(told)
    assert totals("execute", "disk-read", "bytes") > 0
    assert totals("memory-monitor", "disk-write", "bytes") > 0


def test_a_call_books_to_the_context_that_made_it(tmp_path):
    """B10: hits, reads and writes of a call, by Dask's names."""
    from distributed.metrics import context_meter

    figures = []
    with overspill.SpillBuffer(str(tmp_path), target=1000) as buffer:
        with context_meter.add_callback(lambda *figure: figures.append(figure)):
            buffer["a"] = b"a" * 600
            buffer["b"] = b"b" * 600
        assert ("disk-write", 1, "count") in figures
        figures.clear()
        with context_meter.add_callback(lambda *figure: figures.append(figure)):
            _ = buffer["b"]
        assert figures == [("memory-read", 1, "count"), ("memory-read", sizeof(b"b" * 600), "bytes")]
        figures.clear()
        with context_meter.add_callback(lambda *figure: figures.append(figure)):
            _ = buffer["a"]
        assert ("disk-read", 1, "count") in figures
        assert {label for label, _, unit in figures if unit == "bytes"} == {"disk-read", "disk-write"}
        buffer.evict()
        assert buffer["a"] == b"a" * 600  # nobody listens


@running({**QUICK, MEMORY + "spill": 0.7, MEMORY + "target": 0.6}, memory_limit="10 GB")
async def test_evicting_on_the_loop_goes_on_beside_it(client, scheduler, worker):
    """S10: the monitor's round ends, and the rest is spilled on a thread down to the same threshold."""
    data = worker.data
    futures = client.map(lambda n: np.random.default_rng(n).random(1 << 16), range(60), pure=False)
    await wait(futures)
    threads = set()
    evict = data._evict
    data._evict = lambda: (threads.add(threading.current_thread().name), evict())[1]
    worker.monitor.get_process_memory = lambda: data.fast.total_weight * 300
    await until(lambda: data.fast.total_weight * 300 <= 6_000_000_000)
    assert threads and all(name.startswith("overspill-evict") for name in threads)
    for n, back in enumerate(await client.gather(futures)):
        np.testing.assert_array_equal(back, np.random.default_rng(n).random(1 << 16))


@running({**QUICK, MEMORY + "pause": 0.8}, memory_limit="10 GB")
async def test_garbage_is_collected_while_a_worker_pauses(client, scheduler, worker):
    """W07: objects that only hold each other go, though the interpreter's own collector is off."""

    class Node:
        pass

    gc.collect()
    gc.disable()
    try:
        one, other = Node(), Node()
        one.other, other.other = other, one
        alive = weakref.ref(one)
        del one, other
        worker.monitor.get_process_memory = lambda: 9_000_000_000
        await until(lambda: alive() is None)
        assert worker.status.name == "paused"
        worker.monitor.get_process_memory = lambda: 1_000_000_000
        await until(lambda: worker.status.name == "running")
    finally:
        gc.enable()


def test_a_full_disk_keeps_values_in_memory_and_recovers(tmp_path, caplog):
    """B06, S35: on a real device without room each value stays readable, and is spilled once there is room."""
    device = tmp_path / "device"
    device.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(device)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        # without the right to mount: a limit on the size of files makes the same error of the system
        pytest.skip("needs the right to mount a small file system")
    try:
        with overspill.SpillBuffer(str(device), target=2_000_000, compressor="none") as buffer:
            values = {n: os.urandom(1_000_000) for n in range(20)}
            for key, value in values.items():
                buffer[key] = value
            assert buffer.evict() == -1
            assert "Spill to disk failed" in caplog.text
            assert len(buffer.fast) >= 12 and len(buffer.fast) + len(buffer.slow) == 20
            assert {key: buffer[key] for key in values} == values
            for n in range(16):
                del buffer[n]
            while buffer.fast:
                assert buffer.evict() > 0
            assert {key: buffer[key] for key in range(16, 20)} == {key: values[key] for key in range(16, 20)}
    finally:
        subprocess.run(["umount", str(device)], check=True)
