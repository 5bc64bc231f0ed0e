"""RAM over local disk over an object store: S3, by a server of its own, and a directory."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed import Client, LocalCluster, Scheduler, Worker, wait

from overspill import Objects, SpillBuffer, attached
from overspill.dask import Spill

KIB, MIB = 1 << 10, 1 << 20
MEMORY = "distributed.worker.memory."


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    """A URL for each test, and what is stored there: names and lengths."""
    if request.param == "s3":
        s3, prefix = request.getfixturevalue("s3"), tmp_path.name
        return s3.url(prefix), lambda: s3.objects(prefix)
    folder = tmp_path / "objects"
    return f"file://{folder}", lambda: files(folder)


def files(folder):
    return {str(path): path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}


def values(count, size):
    return {f"key-{n}": np.random.default_rng(n).bytes(size) for n in range(count)}


def test_what_the_disk_has_no_room_for_goes_to_the_object_store_and_comes_back(tmp_path, place):
    """S05: three levels, each within its bound; the sizes and the metrics count all of them."""
    url, stored = place
    disk, given = tmp_path / "disk", values(200, 40 * KIB)
    with SpillBuffer(disk, target=400 * KIB, max_spill=2 * MIB, object_store=url) as buffer:
        buffer.update(given)
        # what is being uploaded takes a share of the target
        assert buffer.target == 400 * KIB and buffer.fast.total_weight <= 400 * KIB * 13 // 16
        buffer.flush()
        assert 0 < sum(files(disk).values()) <= 2 * MIB
        slow = list(buffer.slow)
        assert len(slow) + len(buffer.fast) == len(given)
        spilled = buffer.spilled_total
        assert spilled.memory == sum(sizeof(given[key]) for key in slow)
        assert spilled == buffer.slow.total_weight
        assert spilled.disk == sum(size.disk for size in buffer.slow.weight_by_key.values())
        remote = buffer.object_store_total
        assert remote.memory >= spilled.memory - 2 * MIB and remote.disk < spilled.disk
        metrics = buffer.cumulative_metrics
        assert metrics["disk-write", "count"] == len(slow)
        assert metrics["disk-write", "bytes"] == spilled.disk
        assert sum(stored().values()) >= remote.disk
        assert dict(buffer) == given
        assert buffer.cumulative_metrics["disk-read", "count"] >= len(slow)
        assert sum(files(disk).values()) <= 2 * MIB
        for key in list(given)[::2]:
            del buffer[key]
        assert {key: buffer[key] for key in list(given)[1::2]} == dict(list(given.items())[1::2])
        buffer.clear()
        assert not buffer and buffer.spilled_total == (0, 0) == buffer.object_store_total
    assert not stored() and not files(disk)


def test_no_disk_at_all(tmp_path, place):
    """`max_spill=0`: values go from memory to the object store."""
    url, _ = place
    arrays = [np.random.default_rng(n).random(10_000) for n in range(20)]
    with SpillBuffer(tmp_path / "disk", target=100_000, max_spill=0, object_store=url) as buffer:
        buffer.update(enumerate(arrays))
        assert buffer.object_store_total == buffer.spilled_total != (0, 0)
        assert not sum(files(tmp_path / "disk").values())
        for n, array in enumerate(arrays):
            np.testing.assert_array_equal(buffer[n], array)


def test_a_disk_without_a_bound_is_filled_first(tmp_path, place):
    url, stored = place
    with SpillBuffer(tmp_path / "disk", target=100 * KIB, object_store=url) as buffer:
        buffer.update(values(50, 20 * KIB))
        buffer.flush()
        assert buffer.spilled_total.memory >= 900 * KIB and buffer.object_store_total == (0, 0) and not stored()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("ftp://host/directory", "ftp://host/directory"),
        ("nonsense", "nonsense"),
        ("s3:///prefix-without-a-bucket", "s3:///prefix-without-a-bucket"),
    ],
)
def test_a_url_that_is_not_understood_is_refused(tmp_path, url, named):
    with pytest.raises(ValueError, match="s3://bucket/prefix|usable store") as raised:
        SpillBuffer(tmp_path, target=1000, object_store=url)
    assert named in str(raised.value)
    assert not os.listdir(tmp_path)


def test_a_bucket_that_is_missing_loses_nothing(tmp_path, s3, caplog):
    """B06: values stay in memory, the log names the bucket and no secret; once it is there they go.

    Some MiB that are under way are held in memory below the buffer, hence so many.
    """
    given = values(40, MIB)
    settings = {"target": 4 * MIB, "max_spill": 0, "object_store": "s3://not-there/some"}
    with SpillBuffer(tmp_path, **settings) as buffer:
        buffer.update(given)
        while buffer.evict() >= 0:
            pass
        assert "Spill to disk failed" in caplog.text and "s3://not-there" in caplog.text and "404" in caplog.text
        assert "very-secret" not in caplog.text
        assert len(buffer.fast) > 4 and dict(buffer) == given
        # what waits to be uploaded is not in fast memory, and weighs nothing yet
        assert len(set(buffer.fast)) == len(buffer.fast) and len(set(buffer.slow)) == len(buffer.slow)
        assert set(buffer.fast) ^ set(buffer.slow) == set(given)
        assert buffer.spilled_total == buffer.slow.total_weight
        assert sum(size.memory for size in buffer.slow.weight_by_key.values()) == buffer.spilled_total.memory
        s3.make("not-there")
        end = time.monotonic() + 120
        while buffer.fast:  # it is asked again once in a while
            assert buffer.evict() >= 0 or time.monotonic() < end
        assert dict(buffer) == given


def test_copies_on_disk_make_room_while_the_object_store_is_down(tmp_path, s3):
    """B06: a full disk takes a value in the place of copies of others that are in memory too, at once; none is lost."""
    given, url, copies = values(220, 128 * KIB), "s3://down/some", 30
    with SpillBuffer(tmp_path, target=8 * MIB, max_spill=8 * MIB, object_store=url, compressor="none") as buffer:
        buffer.update(given)
        while buffer.evict() >= 0:
            pass
        # what was tried already would be passed by
        for key in list(buffer.fast)[:-1]:
            del buffer[key], given[key]
        for key in [key for key, size in buffer.slow.weight_by_key.items() if size.disk][-copies:]:
            assert buffer[key] == given[key]
        assert len(buffer.fast) == copies + 1
        assert buffer.evict() == sizeof(given["key-0"]) and len(buffer.fast) == copies
        s3.make("down")
        assert len(buffer) == len(given) and dict(buffer) == given


def test_it_is_a_setting(tmp_path, place):
    url, stored = place
    with dask.config.set({"overspill.object-store": url, MEMORY + "max-spill": "0 B"}):
        with SpillBuffer(tmp_path / "disk", target=10 * KIB) as buffer:
            buffer["key"] = bytes(20 * KIB)
            buffer.flush()
            assert buffer.object_store_total.memory >= 20 * KIB and stored()
        with SpillBuffer(tmp_path / "disk", target=10 * KIB, object_store=False) as buffer:
            buffer["key"] = bytes(20 * KIB)
            assert buffer.object_store_total == (0, 0) and "key" in buffer.fast  # for a limit of no bytes


LEAVES = """
import os, sys
from overspill import Objects, SpillBuffer
url, folder, how = sys.argv[1:]
buffer = SpillBuffer(folder, target=1000, max_spill=0, object_store=url)
store = Objects(url)
buffer["key"] = store["key"] = os.urandom(20_000)
buffer.flush(), store.flush()
if how == "dropped":
    del buffer, store
    os._exit(0)
"""


@pytest.mark.parametrize("how", ["dropped", "left"])
def test_objects_go_with_their_mapping_and_with_the_process(tmp_path, place, how):
    url, stored = place
    program = [sys.executable, "-c", LEAVES, url, str(tmp_path / "disk"), how]
    subprocess.run(program, check=True, timeout=300)
    assert not stored() and not files(tmp_path / "disk")


FORKS = """
import logging, os, sys
from overspill import Objects
logging.basicConfig(level=logging.DEBUG)
store = Objects(sys.argv[1])
store["key"] = b"value"
store.flush()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0 and store["key"] == b"value"
"""


def test_a_forked_child_that_ends_leaves_them_and_says_nothing(tmp_path, place):
    url, stored = place
    ended = subprocess.run([sys.executable, "-c", FORKS, url], check=True, timeout=300, capture_output=True, text=True)
    assert "left behind" not in ended.stderr and "Traceback" not in ended.stderr and not stored()


FAILS = """
import sys
from overspill import Objects
class Fails(Objects):
    def close(self):
        raise OSError("no answer")
store = Fails(sys.argv[1])
"""


def test_what_cannot_be_closed_at_the_end_is_told(tmp_path):
    url = f"file://{tmp_path}"
    ended = subprocess.run([sys.executable, "-c", FAILS, url], check=True, timeout=300, capture_output=True, text=True)
    assert f"`overspill purge {url}`" in ended.stderr and "OSError: no answer" in ended.stderr


RUNS = """
import sys
from distributed import Client, LocalCluster, Worker
from overspill import SpillBuffer

class Watched(SpillBuffer):
    def close(self):
        print("closed", *[worker.status.name for worker in Worker._instances])
        super().close()

settings = {"target": 1000, "max_spill": 0, "object_store": sys.argv[1]}
cluster = LocalCluster(1, processes=False, dashboard_address=":0", memory_limit="1 GB", data=(Watched, settings))
client = Client(cluster)
print(client.submit(bytes, 20_000).result() == bytes(20_000))
"""


def test_workers_of_the_process_end_before_their_buffers(tmp_path):
    """Left to the end of the interpreter, a worker has its buffer for as long as it runs."""
    url = f"file://{tmp_path / 'objects'}"
    ended = subprocess.run(
        [sys.executable, "-c", RUNS, url], check=True, timeout=300, capture_output=True, text=True, cwd=tmp_path
    )
    said = ended.stdout.splitlines()
    assert said[0] == "True" and len(said) > 1, ended.stderr
    assert all(line.startswith("closed") and "running" not in line for line in said[1:]), said
    assert not files(tmp_path / "objects")


class Refuses(SpillBuffer):
    """A buffer that cannot be closed, or not in time."""

    how = threading.Event()

    def close(self):
        self.how.wait()
        super().close()
        raise OSError("no answer")


@pytest.mark.parametrize("late", [False, True])
def test_a_worker_that_may_leave_objects_says_so(tmp_path, monkeypatch, caplog, late):
    monkeypatch.setattr(attached, "CLOSING", 0.01 if late else 60)
    monkeypatch.setattr(Refuses, "how", threading.Event())
    url = f"file://{tmp_path / 'objects'}"

    async def run():
        async with Scheduler(port=0, dashboard_address=":0") as scheduler:
            async with Worker(
                scheduler.address,
                nthreads=1,
                memory_limit="1 GB",
                local_directory=str(tmp_path),
                data=(Refuses, {"object_store": url}),
            ) as worker:
                assert worker.data._attached is not None
                if not late:
                    Refuses.how.set()
            Refuses.how.set()

    asyncio.run(run())
    assert f"`overspill purge {url}`" in caplog.text
    assert ("not done within 0.01 seconds" if late else "no answer") in caplog.text


def test_a_plugin_moves_a_worker_to_it(tmp_path, s3):
    """S34, W10: a running worker; nothing is left in the store when it closes."""
    prefix = tmp_path.name
    plugin = Spill(target=MIB, max_spill=2 * MIB, object_store=s3.url(prefix))

    async def run():
        async with Scheduler(port=0, dashboard_address=":0") as scheduler, Worker(
            scheduler.address, nthreads=1, memory_limit="1 GB", local_directory=str(tmp_path)
        ) as worker, Client(scheduler.address, asynchronous=True) as client:
            futures = client.map(chunk, range(20), pure=False)
            await wait(futures)
            await client.register_plugin(plugin)
            futures += client.map(chunk, range(20, 60), pure=False)
            await wait(futures)
            for n, back in enumerate(await client.gather(futures)):
                np.testing.assert_array_equal(back, chunk(n))
            total = sum(await client.gather(client.map(np.sum, futures)))
            assert total == pytest.approx(sum(chunk(n).sum() for n in range(60)))
            end = time.monotonic() + 120
            while worker.data.object_store_total.memory < 4 * MIB:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            await asyncio.to_thread(worker.data.flush)
            assert s3.objects(prefix)

    with dask.config.set({MEMORY + "spill": False, MEMORY + "pause": False}):
        asyncio.run(run())
    gc.collect()
    assert not s3.objects(prefix)


def test_a_cluster_by_configuration_alone(tmp_path, s3):
    """S05, S07: worker processes with the preload; values larger than memory and disk together are in S3."""
    prefix = tmp_path.name
    config = {
        "distributed.scheduler.active-memory-manager.start": False,
        "distributed.worker.preload": ["overspill.dask"],
        MEMORY + "target": 0.005,  # 5 MB
        MEMORY + "spill": False,
        MEMORY + "max-spill": "8 MiB",
        "overspill.object-store": s3.url(prefix),
    }
    with dask.config.set(config), LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit="1 GB", dashboard_address=":0"
    ) as cluster, Client(cluster) as client:
        futures = client.map(chunk, range(160), [MIB] * 160, pure=False)
        wait(futures)
        sums = client.gather(client.map(np.sum, futures, pure=False))
        assert sums == [chunk(n, MIB).sum() for n in range(160)]
        end = time.monotonic() + 120
        while sum(client.run(in_the_store).values()) < 80 * MIB:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert s3.objects(prefix)
        for n in range(0, 160, 40):
            np.testing.assert_array_equal(futures[n].result(), chunk(n, MIB))


def in_the_store(dask_worker):
    dask_worker.data.flush()
    return dask_worker.data.object_store_total.memory


def chunk(n, size=128 * KIB):
    return np.random.default_rng(n).random(size // 8)
