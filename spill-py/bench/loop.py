"""The longest time for which a worker's event loop stands still while the worker spills."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import overspill
from distributed import Client, Scheduler, Worker, wait
from report import line

MIB = 1 << 20
MEMORY = "distributed.worker.memory."


async def measure(kind: str, gib: float) -> tuple[float, float]:
    """Milliseconds of the longest hold, and GiB per second of values made and spilled.

    Of kind "neither" nothing is spilled: values are made and dropped. What the loop is held then is the machine's.
    """
    config = {MEMORY + "target": 256 * MIB / 8e9, MEMORY + "spill": False, MEMORY + "pause": False}
    count = int(gib * 1024)
    with dask.config.set(config):
        async with (
            Scheduler(port=0, dashboard_address=":0") as scheduler,
            Worker(
                scheduler.address,
                nthreads=1,
                memory_limit="8 GB",
                data={"ours": overspill.SpillBuffer, "dask": None, "neither": dict}[kind],
            ) as worker,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            longest = 0.0
            done = False

            async def watch() -> None:
                nonlocal longest
                last = time.perf_counter()
                while not done:
                    await asyncio.sleep(0.001)
                    now = time.perf_counter()
                    longest = max(longest, now - last)
                    last = now

            def make(n: int) -> Any:
                return np.random.default_rng(n).random(MIB // 8)

            start = time.perf_counter()
            watching = None
            futures = []
            for begun in range(0, count, 64):
                part = client.map(make, range(begun, min(begun + 64, count)), pure=False)
                if watching is None:
                    await wait(part)  # the first ones import what they need
                    watching = asyncio.create_task(watch())
                if kind != "neither":
                    futures += part
                await wait(part)
            taken = time.perf_counter() - start
            done = True
            if watching is not None:
                await watching
            if kind != "neither":
                assert worker.data.spilled_total.disk > 0  # type: ignore[attr-defined]
            return longest * 1000, gib / taken


def loop(rounds: int, scale: float) -> None:
    """The longest hold of a worker's event loop while it spills 4 GiB in values of 1 MiB; the goal is 20 ms.

    The second line has ours beside a worker that spills nothing.
    """
    kinds = ("ours", "dask", "neither")
    runs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(max(1, rounds // 2)):
        for kind in kinds:
            runs[kind].append(asyncio.run(measure(kind, 4 * scale)))
    holds = {kind: [hold for hold, _ in runs[kind]] for kind in kinds}
    rates = {kind: [rate for _, rate in runs[kind]] for kind in kinds}
    line("longest hold", holds["ours"], holds["dask"], "ms", 0, less=True)
    line("beside no spilling", holds["ours"], holds["neither"], "ms", 0, less=True)
    line("made and spilled", rates["ours"], rates["dask"], "GiB/s", 0)


CASES: dict[str, Callable[[int, float], None]] = {"loop": loop}
