"""Workers of Dask with our buffer, larger-than-memory jobs and all."""

from __future__ import annotations

import asyncio
import os
import time

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster, Nanny, Scheduler, Worker

import overspill

QUIET = {"distributed.scheduler.active-memory-manager.start": False}


def spilled(dask_worker):
    return tuple(dask_worker.data.spilled_total)


def wait_until_spilled(client, more_than):
    """Waits until a worker has more bytes on disk: a buffer spills on its own thread."""
    end = time.monotonic() + 60
    while not any(disk > more_than for _, disk in client.run(spilled).values()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def test_data_is_an_instance_a_callable_or_a_tuple(tmp_path):
    """W01, S32, S34: all three forms; the callable gets the worker's directory."""

    async def run():
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            instance = overspill.SpillBuffer(str(tmp_path), target=10_000)
            forms = [
                instance,
                overspill.SpillBuffer,
                (overspill.SpillBuffer, {"target": 10_000}),
            ]
            for data in forms:
                async with Worker(scheduler.address, data=data) as worker:
                    assert isinstance(worker.data, overspill.SpillBuffer)
                    async with Client(scheduler.address, asynchronous=True) as client:
                        assert await client.submit(sum, [1, 2, 3]) == 6
            instance["a"] = 1
            with pytest.raises(ValueError):
                await Worker(scheduler.address, data=instance)

    asyncio.run(run())


def test_a_job_larger_than_memory_gives_the_right_answer():
    """S05, S07: a product of matrices over two worker processes, most of it spilled meanwhile."""
    data = (overspill.SpillBuffer, {"target": 8 << 20})
    with dask.config.set(QUIET), LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit="1 GiB", data=data, dashboard_address=":0"
    ) as cluster, Client(cluster) as client:
        x = da.random.default_rng(1).random((3000, 3000), chunks=500).persist()
        product = (x.T @ x).persist()
        expected = x.compute()
        wait_until_spilled(client, more_than=8 << 20)
        np.testing.assert_allclose(product.compute(), expected.T @ expected)


def test_a_shuffle_by_tasks_gives_the_right_answer():
    frame = pd.DataFrame({"k": np.arange(60_000) % 997, "s": [f"row {n}" for n in range(60_000)]})
    data = (overspill.SpillBuffer, {"target": 256 << 10})
    import dask.dataframe as dd

    with dask.config.set({**QUIET, "dataframe.shuffle.method": "tasks"}), LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit="1 GiB", data=data, dashboard_address=":0"
    ) as cluster, Client(cluster) as client:
        shuffled = dd.from_pandas(frame, npartitions=12).shuffle("k").persist()
        counted = shuffled.groupby("k").s.count().compute().sort_index()
        wait_until_spilled(client, more_than=0)
        expected = frame.groupby("k").s.count()
        pd.testing.assert_series_equal(counted, expected, check_dtype=False, check_names=False)


def test_a_restarted_worker_is_empty_and_leaves_nothing(tmp_path):
    """`client.restart()` gives new processes with nothing in them, and no directory stays."""
    data = (overspill.SpillBuffer, {"target": 1000})

    async def run():
        async with Scheduler(port=0, dashboard_address=":0") as scheduler, Nanny(
            scheduler.address, nthreads=1, data=data, local_directory=str(tmp_path), memory_limit="1 GiB"
        ) as nanny, Client(scheduler.address, asynchronous=True) as client:
            futures = client.map(lambda n: bytes(10_000), range(10), pure=False)
            await client.gather(futures)

            async def spilling():
                while not any(disk > 0 for _, disk in (await client.run(spilled)).values()):
                    await asyncio.sleep(0.05)

            await asyncio.wait_for(spilling(), 60)
            await client.restart()
            sizes = await client.run(lambda dask_worker: len(dask_worker.data))
            assert list(sizes.values()) == [0]
            # by default a worker that takes some seconds to end is killed
            await nanny.close(timeout=60)

    asyncio.run(run())
    left = [name for _, folders, _ in os.walk(tmp_path) for name in folders if "overspill" in name]
    assert not left


def test_the_monitor_of_a_worker_spills_by_process_memory():
    """S34: the container's own target aside, the spill threshold evicts."""

    async def run():
        config = {
            "distributed.worker.memory.spill": 0.7,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.monitor-interval": "10ms",
        }
        with dask.config.set(config):
            async with Scheduler(port=0, dashboard_address=":0") as scheduler, Worker(
                scheduler.address, data=overspill.SpillBuffer, memory_limit="1000 MB"
            ) as worker, Client(scheduler.address, asynchronous=True) as client:
                worker.monitor.get_process_memory = lambda: 800_000_000 if worker.data.fast else 0
                future = client.submit(lambda: "x" * 1000)
                await future

                async def spilling():
                    while not worker.data.slow:
                        await asyncio.sleep(0.01)

                await asyncio.wait_for(spilling(), 30)
                assert await future == "x" * 1000

    asyncio.run(run())


def test_a_buffer_is_the_cache_of_the_threaded_scheduler(tmp_path):
    """Outside a cluster: intermediate results are spilled, the answer is right and they are gone in the end."""
    x = da.random.default_rng(1).random((600, 600), chunks=200)
    expected = x.compute(scheduler="sync")
    with overspill.SpillBuffer(str(tmp_path), target=1_000_000) as buffer:
        product = (x.T @ x).compute(scheduler="threads", cache=buffer)
        np.testing.assert_allclose(product, expected.T @ expected)
        assert buffer.cumulative_metrics["disk-read", "count"] > 0
        assert len(buffer) <= 1


def test_the_preload_turns_it_on_for_a_whole_cluster():
    """`--preload overspill.dask` in worker processes; our settings come with the configuration that they inherit."""
    config = {**QUIET, "distributed.worker.preload": ["overspill.dask"], "overspill.compressor": "none"}
    with dask.config.set(config), LocalCluster(
        n_workers=1, threads_per_worker=2, memory_limit="1 GB", dashboard_address=":0"
    ) as cluster, Client(cluster) as client:
        kind = client.run(lambda dask_worker: (type(dask_worker.data).__module__, dask_worker.data.target))
        assert list(kind.values()) == [("overspill.spill", 600_000_000)]
        futures = client.map(lambda n: bytes([n]) * 100_000, range(20))
        client.gather(futures)

        def spill(dask_worker):
            while dask_worker.data.fast:
                dask_worker.data.evict()
            return tuple(dask_worker.data.spilled_total)

        ((_, disk),) = client.run(spill).values()
        assert disk >= 2_000_000  # not compressed
        assert client.gather(futures) == [bytes([n]) * 100_000 for n in range(20)]
