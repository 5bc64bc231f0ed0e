"""Single buffers: hits, inserts, values in and out."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import overspill
import pandas as pd
from distributed.spill import SpillBuffer as DaskBuffer
from report import line

KIB, MIB = 1 << 10, 1 << 20


def _with(kind: Callable[..., Any], target: int, run: Callable[[Any], Any]) -> Any:
    folder = tempfile.mkdtemp(prefix="bench-")
    try:
        buffer = kind(os.path.join(folder, "storage"), target=target)
        result = run(buffer)
        del buffer
        gc.collect()
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alternating(rounds: int, target: int, run: Callable[[Any], Any]) -> tuple[list[Any], list[Any]]:
    """Results of ours and of Dask's, by turns; the first round warms up."""
    ours, theirs = [], []
    for n in range(rounds + 1):
        for kind, results in ((overspill.SpillBuffer, ours), (DaskBuffer, theirs)):
            result = _with(kind, target, run)
            if n:
                results.append(result)
    return ours, theirs


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def small(rounds: int, scale: float) -> None:
    """A hit, an overwrite and an insert of small values that stay in memory."""
    count = int(20_000 * scale)
    values = [bytes([n % 251]) * 100 for n in range(count)]
    others = [bytes([n % 241]) * 101 for n in range(count)]
    keys = [f"('task-{n % 7}', {n})" for n in range(count)]

    def run(buffer: Any) -> tuple[float, float, float]:
        def insert() -> None:
            for key, value in zip(keys, values):
                buffer[key] = value

        def hit() -> None:
            for key in keys:
                buffer[key]

        def overwrite() -> None:
            for key, value in zip(keys, others):
                buffer[key] = value

        return tuple(_timed(step) / count * 1e6 for step in (insert, hit, overwrite))  # type: ignore[return-value]

    ours, theirs = _alternating(rounds, 1 << 40, run)
    for n, name in enumerate(("insert", "hit", "overwrite")):
        line(name, [r[n] for r in ours], [r[n] for r in theirs], "us", 20, less=True)


def _in_and_out(
    name: str, rounds: int, values: Callable[[], list[Any]], size: int, target: int, goals: tuple[float, float]
) -> None:
    made = values()

    def run(buffer: Any) -> tuple[float, float]:
        # each buffer gets its own objects, that nobody else holds
        fresh = [_copy(value) for value in made]

        def put() -> None:
            for n in range(len(fresh)):
                value, fresh[n] = fresh[n], None
                buffer[n] = value

        def get() -> None:
            for n in range(len(fresh)):
                buffer[n]

        total = size / MIB
        return total / _timed(put), total / _timed(get)

    ours, theirs = _alternating(rounds, target, run)
    line(f"{name} in", [r[0] for r in ours], [r[0] for r in theirs], "MiB/s", goals[0])
    line(f"{name} out", [r[1] for r in ours], [r[1] for r in theirs], "MiB/s", goals[1])


def _copy(value: Any) -> Any:
    return value if isinstance(value, bytes) else value.copy()


def tiny(rounds: int, scale: float) -> None:
    """64 MiB of bytes of 4 KiB, through 8 MiB of memory."""
    count = int(16 * KIB * scale)

    def values() -> list[bytes]:
        return [os.urandom(4 * KIB) for _ in range(count)]

    _in_and_out("4 KiB", rounds, values, count * 4 * KIB, int(8 * MIB * scale), (30, 40))


def random(rounds: int, scale: float) -> None:
    """1 GiB of random arrays of 1 MiB, through 128 MiB of memory."""
    count = int(1024 * scale)
    source = np.random.default_rng(1)

    def values() -> list[Any]:
        return [source.random(MIB // 8) for _ in range(count)]

    _in_and_out("1 MiB random", rounds, values, count * MIB, int(128 * MIB * scale), (1.5, 3))
    _plain_write(rounds, values()[: count // 4])


def _plain_write(rounds: int, values: list[Any]) -> None:
    """Our spilling beside a plain `f.write` of the same arrays to a file each."""
    ours, plain = [], []
    size = sum(value.nbytes for value in values) / MIB
    for n in range(rounds + 1):

        def spill(buffer: Any) -> float:
            fresh = [value.copy() for value in values]

            def put() -> None:
                for k in range(len(fresh)):
                    value, fresh[k] = fresh[k], None
                    buffer[k] = value

            return size / _timed(put)

        spilled = _with(overspill.SpillBuffer, 0, spill)
        folder = tempfile.mkdtemp(prefix="bench-")
        fresh = [value.copy() for value in values]

        def write() -> None:
            for k, value in enumerate(fresh):
                with open(os.path.join(folder, str(k)), "wb") as file:
                    file.write(value)

        written = size / _timed(write)
        shutil.rmtree(folder)
        if n:
            ours.append(spilled)
            plain.append(written)
    line("1 MiB beside f.write", ours, plain, "MiB/s", 0.75)


def compressible(rounds: int, scale: float) -> None:
    """1 GiB of arrays of 1 MiB that rise evenly, through 128 MiB of memory."""
    count = int(1024 * scale)

    def values() -> list[Any]:
        return [np.arange(n, n + MIB // 8, dtype="f8") for n in range(count)]

    _in_and_out("1 MiB ramp", rounds, values, count * MIB, int(128 * MIB * scale), (2.5, 3))


def strings(rounds: int, scale: float) -> None:
    """1 GiB of frames of strings, of 4 MiB each, through 128 MiB of memory."""
    count = int(256 * scale)
    rows = 4 * MIB // 32
    texts = pd.array([f"row {n} of a frame" for n in range(rows)], dtype="string[pyarrow]")

    def values() -> list[Any]:
        return [pd.DataFrame({"s": texts, "n": np.arange(rows) + n}) for n in range(count)]

    _in_and_out("frames of strings", rounds, values, count * 4 * MIB, int(128 * MIB * scale), (0, 0))


CASES: dict[str, Callable[[int, float], None]] = {
    "small": small,
    "tiny": tiny,
    "random": random,
    "compressible": compressible,
    "strings": strings,
}
