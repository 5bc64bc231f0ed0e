"""A whole computation on a cluster of processes, larger than memory and bound by spilling."""

from __future__ import annotations

import time
from collections.abc import Callable

import dask
import dask.array as da
import overspill
from distributed import Client, LocalCluster, wait
from report import line

MIB = 1 << 20


def run(ours: bool, scale: float) -> float:
    """Seconds for arrays that are made, kept, and read three times from disk."""
    mib = int(1024 * scale)
    config = {
        "distributed.worker.memory.target": 0.2 * scale,
        "distributed.worker.memory.spill": 0.8,
        "distributed.worker.memory.pause": 0.9,
        "distributed.scheduler.active-memory-manager.start": False,
        "logging.distributed": "error",
    }
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1 GiB",
            data=overspill.SpillBuffer if ours else None,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        wait(client.map(lambda n: __import__("numpy").ones(n), range(4), pure=False))
        start = time.perf_counter()
        x = da.random.default_rng(1).integers(0, 1 << 20, (mib * MIB // 8,), chunks=2 * MIB // 8).persist()
        wait(x)
        y = (x + 1).persist()
        wait(y)
        z = (x[::-1] + y).persist()
        wait(z)
        (x.max() + y.sum() + z.min()).compute()
        taken = time.perf_counter() - start
        spilled = client.run(lambda dask_worker: dask_worker.data.spilled_total.memory)
        assert sum(spilled.values()) > mib * MIB
        return taken


def computation(rounds: int, scale: float) -> None:
    """Three arrays of 1 GiB together, on two workers that keep 205 MiB each in memory."""
    ours, theirs = [], []
    for _ in range(max(1, rounds // 2)):
        ours.append(run(True, scale))
        theirs.append(run(False, scale))
    line("whole computation", ours, theirs, "s", 1.5, less=True)


CASES: dict[str, Callable[[int, float], None]] = {"computation": computation}
