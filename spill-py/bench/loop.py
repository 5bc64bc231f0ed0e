"""The longest time for which a worker's event loop stands still while the worker spills."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import overspill
from distributed import Client, LocalCluster, wait
from report import line

MIB = 1 << 20
MEMORY = "distributed.worker.memory."


def measure(kind: str, gib: float) -> tuple[float, float, float]:
    """Milliseconds of the longest hold, the same without collections of garbage, and GiB made and spilled a second.

    Of kind "neither" nothing is spilled: values are made and dropped. What the loop is held then is the machine's.
    """
    config = {
        MEMORY + "target": 256 * MIB / 8e9,
        MEMORY + "spill": False,
        MEMORY + "pause": False,
        "distributed.scheduler.active-memory-manager.start": False,
        "logging.distributed": "error",
    }
    count = int(gib * 1024)

    async def watch(dask_worker: Any) -> None:
        """Begins to look at the worker's loop."""
        import asyncio
        import gc
        import math
        import time

        turns: list[tuple[float, float]] = []  # since when the loop stood still, and until when
        collections: list[list[float]] = []  # when each began and ended

        def collected(phase: str, about: dict[str, int]) -> None:
            if about["generation"] < 2:
                return
            now = time.perf_counter()
            if phase == "start":
                collections.append([now, math.inf])
            elif collections:
                collections[-1][1] = now

        async def look() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                turns.append((last, now))
                last = now

        gc.callbacks.append(collected)
        dask_worker.seen = turns, collections
        dask_worker.looking = asyncio.create_task(look())

    async def longest(dask_worker: Any) -> tuple[float, float, int]:
        """The longest holds, and how many bytes were spilled."""
        dask_worker.looking.cancel()
        total = getattr(dask_worker.data, "spilled_total", None)
        turns, collections = dask_worker.seen
        # One on another thread tells its end when that thread goes on, which may be after the loop did.
        longest = max(until - since for since, until in turns)
        without = max(
            until - since - sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in collections)
            for since, until in turns
        )
        return longest, without, total.disk if total else 0

    def make(n: int) -> Any:
        return np.random.default_rng(n).random(MIB // 8)

    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="8 GB",
            data={"ours": overspill.SpillBuffer, "dask": None, "neither": dict}[kind],
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        wait(client.map(make, range(64), pure=False))  # which imports what is needed
        client.run(watch)
        start = time.perf_counter()
        futures = []
        for begun in range(0, count, 64):
            part = client.map(make, range(begun, min(begun + 64, count)), pure=False)
            if kind != "neither":
                futures += part
            wait(part)
        taken = time.perf_counter() - start
        ((hold, without, spilled),) = client.run(longest).values()
        assert spilled > 0 or kind == "neither"
        # removing thousands of files takes longer than a worker may that closes
        del futures, part
        while any(client.run(lambda dask_worker: len(dask_worker.data)).values()):
            time.sleep(0.1)
        return hold * 1000, without * 1000, gib / taken


def loop(rounds: int, scale: float) -> None:
    """The longest hold of a worker's event loop while it spills 4 GiB in values of 1 MiB; the goal is 20 ms.

    Collections of garbage, by the interpreter, are left out but in the last of these lines. The second line has ours
    beside a worker that spills nothing: what the machine and Dask itself do.
    """
    kinds = ("ours", "dask", "neither")
    runs: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    for _ in range(max(1, rounds // 2)):
        for kind in kinds:
            runs[kind].append(measure(kind, 4 * scale))
    hold, without, rate = ({kind: [run[n] for run in runs[kind]] for kind in kinds} for n in range(3))
    line("longest hold", without["ours"], without["dask"], "ms", 0, less=True)
    line("beside no spilling", without["ours"], without["neither"], "ms", 0, less=True)
    line("with collections", hold["ours"], hold["dask"], "ms", 0, less=True)
    line("made and spilled", rate["ours"], rate["dask"], "GiB/s", 0)


CASES: dict[str, Callable[[int, float], None]] = {"loop": loop}
