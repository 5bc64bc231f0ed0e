"""How much memory a process needs that spills, beside what it is told to keep."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from report import line

MIB = 1 << 20


def _peak(kind: str, data: str, count: int, target: int) -> float:
    """MiB by which a process of its own grew at most."""
    folder = tempfile.mkdtemp(prefix="bench-")
    try:
        storage = os.path.join(folder, "storage")
        given = json.dumps({"kind": kind, "data": data, "count": count, "target": target, "folder": storage})
        # as Dask's nanny starts its workers: freed memory of 128 KiB and more goes back at once
        environ = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
        command = [sys.executable, __file__, given]
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
        return float(run.stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) for row in file if row.startswith(name)) / 1024


def _spill(kind: str, data: str, count: int, target: int, folder: str) -> float:
    import numpy as np

    module = importlib.import_module("overspill" if kind == "ours" else "distributed.spill")
    source = np.random.default_rng(1)

    def value(n: int) -> object:
        return source.random(MIB // 8) if data == "random" else np.arange(MIB // 8, dtype="f8") + n

    buffer = module.SpillBuffer(folder, target=target)
    buffer["first"] = value(-1)  # what is imported only then counts for neither
    before = _status("VmRSS")
    for n in range(count):
        buffer[n] = value(n)
    for n in range(count):
        buffer[n]
    return _status("VmHWM") - before


def peak(rounds: int, scale: float) -> None:
    """The growth of a process that puts 1 GiB of arrays of 1 MiB through 128 MiB of memory, and reads them."""
    count, target = int(1024 * scale), int(128 * MIB * scale)
    for data in ("random", "ramp"):
        both = [(_peak("ours", data, count, target), _peak("dask", data, count, target)) for _ in range(rounds)]
        ours, theirs = [ours for ours, _ in both], [theirs for _, theirs in both]
        line(f"peak memory, {data}", ours, theirs, "MiB", 1, less=True)


CASES: dict[str, Callable[[int, float], None]] = {"peak": peak}

if __name__ == "__main__":
    print(_spill(**json.loads(sys.argv[1])))
